"""Hold estimates of mutual information against Gaussian pairs of known information, and against their invariances."""

import math

import jax
import numpy as np
import optax
import pytest
from scipy import special, stats

from audiodiff.metrics.mutual_information import ksg, neural_lower_bound

KEY = jax.random.key(0)
ADAM = optax.adam(3e-3)


def normal_pairs(rho, count, dims=1, seed=0):
    """Two standard normal variables [count, dims] whose columns correlate pairwise by rho."""
    x, z = np.random.default_rng(seed).normal(size=(2, count, dims))
    return x, rho * x + math.sqrt(1 - rho**2) * z


def information(rho, dims=1):
    """Return I of such pairs in nats, -1/2 log(1 - rho^2) a dimension."""
    return -dims / 2 * math.log(1 - rho**2)


@pytest.mark.parametrize(
    ("rho", "dims", "within"),
    [(0.0, 1, 0.02), (0.6, 1, 0.02), (-0.9, 1, 0.02), (0.7, 2, 0.02), (0.0, 3, 0.02), (0.4, 3, 0.05)],
)
def test_neighbours_find_the_information_of_normal_pairs(rho, dims, within):
    """Ledger row 109: the mean of eight sets of 2,000 pairs within 0.05 nat of the closed form, mostly 0.02."""
    found = [ksg(*normal_pairs(rho, 2000, dims, seed), KEY).value for seed in range(8)]
    assert np.mean(found) == pytest.approx(information(rho, dims), abs=within)


@pytest.mark.slow
@pytest.mark.parametrize(("rho", "dims", "seeds"), [(0.0, 1, 1), (0.9, 1, 2), (0.7, 2, 2)])
def test_a_network_finds_nearly_the_information_and_no_more(rho, dims, seeds):
    """Ledger row 109: within 0.05 nat, and no further above the truth than its interval reaches."""
    found = [neural_lower_bound(*normal_pairs(rho, 2000, dims, seed), KEY, ADAM) for seed in range(seeds)]
    assert np.mean([figure.value for figure in found]) == pytest.approx(information(rho, dims), abs=0.05)
    assert all(figure.low <= information(rho, dims) for figure in found)


def test_what_is_not_learnt_is_missing_and_not_made_up():
    """Ledger row 109: a bound of one step of training is at most the truth, here of independent variables too."""
    for rho in (0.0, 0.9):
        figure = neural_lower_bound(*normal_pairs(rho, 600), KEY, ADAM, rounds=1, steps=1)
        assert figure.low <= information(rho) and figure.unit == "nat"


def test_both_find_a_dependence_without_correlation():
    """Ledger row 109: y = x^2 + noise against h(y) - h(noise), its density summed over a grid of x."""
    rng, deviation = np.random.default_rng(3), 0.5
    x = rng.normal(size=2000)
    y = x**2 + deviation * rng.normal(size=2000)
    grid, values = np.linspace(-6, 6, 1201), np.linspace(-3, 40, 5001)
    density = stats.norm.pdf(values[:, None], grid**2, deviation) @ stats.norm.pdf(grid) * (grid[1] - grid[0])
    truth = special.entr(density).sum() * (values[1] - values[0]) - stats.norm(scale=deviation).entropy()
    assert ksg(x, y, KEY).value == pytest.approx(truth, abs=0.05)
    figure = neural_lower_bound(x, y, KEY, ADAM)
    assert figure.low <= truth and figure.value > truth - 0.1


@pytest.mark.oracle
def test_neighbours_agree_with_scikit_learn():
    """It is the same estimator of two columns, but of values and not of their ranks."""
    selection = pytest.importorskip("sklearn.feature_selection")
    x, y = normal_pairs(0.7, 1500)
    theirs = selection.mutual_info_regression(x, y[:, 0], n_neighbors=3, random_state=0)[0]
    assert ksg(x, y, KEY).value == pytest.approx(theirs, abs=0.02)


def test_only_the_order_within_columns_counts():
    """A rising map of any column leaves I as it is, and value and interval with it; so does exchanging the two."""
    x, y = normal_pairs(0.6, 400, 2)
    figure = ksg(x, y, KEY)
    mapped = ksg(np.column_stack([np.exp(x[:, 0]), x[:, 1] ** 3]), 5 + np.arctan(y), KEY)
    assert (mapped.value, mapped.low, mapped.high) == (figure.value, figure.low, figure.high)
    assert ksg(y, x, KEY).value == pytest.approx(figure.value, abs=1e-12)
    assert ksg(-x, y, KEY).value == pytest.approx(figure.value, abs=1e-3)  # ranks make equal distances


def test_information_of_independent_parts_adds_up():
    """I((a, c); (b, d)) = I(a; b) + I(c; d) where the pairs know nothing of each other."""
    (a, b), (c, d) = normal_pairs(0.8, 2000, seed=1), normal_pairs(0.5, 2000, seed=2)
    together = ksg(np.hstack([a, c]), np.hstack([b, d]), KEY).value
    assert together == pytest.approx(ksg(a, b, KEY).value + ksg(c, d, KEY).value, abs=0.06)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """A 90 % interval of 400 pairs, 60 times; three standard errors of such a count are 12 %."""
    figures = [ksg(*normal_pairs(0.6, 400, seed=seed), KEY, confidence=0.9) for seed in range(60)]
    held = np.mean([figure.low <= information(0.6) <= figure.high for figure in figures])
    assert held == pytest.approx(0.9, abs=0.12)


def test_items_of_a_group_are_not_taken_for_independent():
    """Copies of an item, a little apart, are no new evidence: as groups they leave the interval about as wide."""
    x, y = normal_pairs(0.6, 300)
    rng = np.random.default_rng(4)
    many = [np.repeat(a, 8, axis=0) + 0.1 * rng.normal(size=(2400, 1)) for a in (x, y)]
    grouped, alone = ksg(*many, KEY, groups=np.repeat(np.arange(300), 8)), ksg(*many, KEY)
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)
    assert (grouped.value, grouped.count) == (alone.value, 2400)


@pytest.mark.parametrize("metric", [ksg, lambda x, y, key, **more: neural_lower_bound(x, y, key, ADAM, **more)])
def test_errors_name_value_and_limit(metric):
    x, y = normal_pairs(0.5, 60, 2)
    with pytest.raises(ValueError, match=r"x \(59, 2\) and y \(60, 2\) in groups \(59,\) hold no pairs"):
        metric(x[:-1], y, KEY)
    with pytest.raises(ValueError, match=r"in groups \(3,\) hold no pairs"):
        metric(x, y, KEY, groups=[1, 2, 3])
    x[7, 1] = math.nan
    with pytest.raises(ValueError, match="1 of 60 items of x are not finite: leave them out"):
        metric(x, y, KEY)
    x[:, 1] = 2.0
    with pytest.raises(ValueError, match="column 1 of x is constant and says nothing: drop it"):
        metric(x, y, KEY)
    with pytest.raises(ValueError, match=r"3[01] of 60 items of y equal another one, above 1%.* add noise"):
        metric(y, np.maximum(y[:, 0], np.median(y[:, 0])), KEY)
    with pytest.raises(ValueError, match="20 items in 20 groups are too few: give at least"):
        metric(y[:20], y[:20] ** 3, KEY)
    with pytest.raises(ValueError, match="60 items in 2 groups are too few"):
        metric(y, y**3, KEY, groups=np.arange(60) % 2)


def test_impossible_sizes_are_errors():
    x, y = normal_pairs(0.5, 60)
    with pytest.raises(ValueError, match="neighbours is 0; it must be at least 1"):
        ksg(x, y, KEY, neighbours=0)
    with pytest.raises(ValueError, match="hidden is 0; it must be at least 1"):
        neural_lower_bound(x, y, KEY, ADAM, hidden=0)
    uneven = np.minimum(np.arange(60), 9)
    with pytest.raises(ValueError, match="a part of the items holds 1 of 60, too few for 3 neighbours"):
        ksg(x, y, KEY, groups=uneven)
