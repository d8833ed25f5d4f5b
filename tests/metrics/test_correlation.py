"""Hold rank correlations against hand-counted pairs, the Gaussian's closed forms, and their invariances."""

import math

import jax
import numpy as np
import pytest
from scipy import stats

from audiodiff.metrics.correlation import rank_correlation

KEY = jax.random.key(0)
METHODS = ("spearman", "kendall")
every_method = pytest.mark.parametrize("method", METHODS)


def normal_pairs(rho, *shape, seed=0):
    """Two standard normals with the correlation rho."""
    x, z = np.random.default_rng(seed).normal(size=(2, *shape))
    return x, rho * x + math.sqrt(1 - rho**2) * z


def test_values_counted_by_hand_with_and_without_ties():
    """Ledger row 96: of 1, 3, 2, 4 one pair in six is turned; sum of squared rank differences 2."""
    figures = [rank_correlation([1, 2, 3, 4], [1, 3, 2, 4], KEY, method, resamples=9) for method in METHODS]
    assert [figure.value for figure in figures] == pytest.approx([1 - 6 * 2 / (4 * 15), (5 - 1) / 6])
    # Of 1, 1, 2 two pairs are in order and one is tied: mean ranks 1.5, 1.5, 3.
    figures = [rank_correlation([1, 2, 3], [1, 1, 2], KEY, method, resamples=9) for method in METHODS]
    assert [figure.value for figure in figures] == pytest.approx([math.sqrt(3) / 2, 2 / math.sqrt(3 * 2)])


@pytest.mark.parametrize("ties", [False, True], ids=["values", "ties"])
@every_method
def test_equals_scipy(method, ties):
    """Ledger row 96: with ties too, here of values rounded to steps of a half."""
    x, y = normal_pairs(-0.4, 60)
    x, y = (np.round(2 * a) for a in (x, y)) if ties else (x, y)
    expected = {"spearman": stats.spearmanr, "kendall": stats.kendalltau}[method](x, y).statistic
    assert rank_correlation(x, y, KEY, method, resamples=2).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rho", [-0.9, 0.0, 0.5])
def test_normal_pairs_have_the_closed_forms(rho):
    """Ledger row 96: (6 / pi) asin(rho / 2) for Spearman, (2 / pi) asin rho for Kendall (Kruskal, 1958)."""
    x, y = normal_pairs(rho, 2000)
    expected = (6 / math.pi * math.asin(rho / 2), 2 / math.pi * math.asin(rho))
    got = [rank_correlation(x, y, KEY, method, resamples=2).value for method in METHODS]
    np.testing.assert_allclose(got, expected, atol=0.05)


@every_method
def test_only_the_order_counts(method):
    """Ledger row 96: a rising map of either side changes neither value nor interval; a falling one turns both."""
    x, y = normal_pairs(0.6, 25)
    figure = rank_correlation(x, y, KEY, method, resamples=100)
    assert rank_correlation(np.exp(x), y**3, KEY, method, resamples=100) == figure
    turned = rank_correlation(-x, y, KEY, method, resamples=100)
    assert turned.value == pytest.approx(-figure.value)
    assert rank_correlation(y, x, KEY, method, resamples=100).value == pytest.approx(figure.value)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Ledger row 96: a 90 % interval of 30 pairs, 60 times; three standard errors of such a count are 12 %."""
    truth = 6 / math.pi * math.asin(0.3)
    figures = [
        rank_correlation(*normal_pairs(0.6, 30, seed=seed), KEY, confidence=0.9, resamples=100) for seed in range(60)
    ]
    held = np.mean([figure.low <= truth <= figure.high for figure in figures])
    assert held == pytest.approx(0.9, abs=0.12)


@every_method
def test_a_group_counts_once_however_often_it_is_repeated(method):
    """Ledger row 96: four copies of each item are a narrower interval if drawn alone, and the same as a group."""
    x, y = normal_pairs(0.5, 30)
    single = rank_correlation(x, y, KEY, method, resamples=100)
    copies = [np.repeat(a[:, None], 4, axis=1) for a in (x, y)]
    grouped = rank_correlation(*copies, KEY, method, resamples=100)
    alone = rank_correlation(*(a.ravel() for a in copies), KEY, method, resamples=100)
    widths = [figure.high - figure.low for figure in (single, grouped, alone)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
    assert widths[2] < 0.7 * widths[0]
    assert grouped.value == alone.value


@every_method
def test_infinity_has_a_rank_and_nan_is_left_out_and_counted(method):
    """Ledger row 96: a perfect copy has an SNR of infinity, which is the best and no failure."""
    x, y = normal_pairs(0.7, 20)
    best = np.argmax(x)
    far = x.copy()
    far[best] = np.inf
    assert rank_correlation(far, y, KEY, method, resamples=50) == rank_correlation(x, y, KEY, method, resamples=50)
    broken = x.copy()
    broken[[3, 5]] = np.nan
    figure = rank_correlation(broken, y, KEY, method, resamples=50)
    kept = rank_correlation(np.delete(x, [3, 5]), np.delete(y, [3, 5]), KEY, method, resamples=50)
    assert (figure.value, figure.low, figure.high, figure.count) == (kept.value, kept.low, kept.high, 18)
    assert figure.note == "2 of 20 pairs undefined"


@every_method
@pytest.mark.parametrize("x", [[], [1.0], [2.0, 2.0, 2.0], [np.nan, np.nan, 1.0]])
def test_without_an_order_there_is_no_figure(method, x):
    figure = rank_correlation(x, np.arange(len(x)), KEY, method)
    assert math.isnan(figure.value) and (figure.low, figure.high) == (-1, 1)


def test_few_items_are_not_taken_for_certainty():
    """A resample without an order widens the interval, and one group says nothing of others."""
    figure = rank_correlation([1, 2, 3], [1, 3, 2], KEY, resamples=300)
    assert figure.low < 0 < figure.high and figure.name == "spearman"
    figure = rank_correlation([[1, 2, 3]], [[1, 2, 3]], KEY, name="one clip", resamples=2)
    assert (figure.value, figure.low, figure.high, figure.name) == (pytest.approx(1), -1, 1, "one clip")


def test_errors_name_value_and_limit():
    with pytest.raises(ValueError, match=r"x \(3,\) and y \(4,\) have no pairs to rank: give both as \[item\]"):
        rank_correlation(np.ones(3), np.ones(4), KEY)
    with pytest.raises(ValueError, match=r"x \(1, 2, 3\) and y"):
        rank_correlation(np.ones((1, 2, 3)), np.ones((1, 2, 3)), KEY)
    with pytest.raises(ValueError, match="method is 'pearson'; choose one of"):
        rank_correlation([1, 2], [1, 2], KEY, "pearson")
