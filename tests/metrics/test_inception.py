from __future__ import annotations

import itertools
import math

import jax
import numpy as np
import pytest
from scipy import special, stats

from audiodiff.metrics import inception

KEY = jax.random.key(0)


def predictions(seed, clips=40, classes=5, sharpness=2.0):
    return np.random.default_rng(seed).dirichlet(np.full(classes, 1 / sharpness), clips)


def blobs(seed, weights, clips, dim=2):
    """Draw clips from far apart blobs on a line, blob i with the given weight."""
    generator = np.random.default_rng(seed)
    which = generator.choice(len(weights), clips, p=np.asarray(weights) / np.sum(weights))
    return 20.0 * which[:, None] + generator.normal(size=(clips, dim))


def test_inception_score_runs_from_one_to_the_number_of_classes():
    assert inception.inception_score(np.full((30, 10), 0.1), KEY).value == pytest.approx(1)
    assert inception.inception_score(np.tile(np.eye(10)[3], (30, 1)), KEY).value == pytest.approx(1)  # collapsed
    assert inception.inception_score(np.tile(np.eye(10), (3, 1)), KEY).value == pytest.approx(10)
    assert inception.inception_score(np.eye(10)[[0, 0, 1, 1, 2, 2]], KEY).value == pytest.approx(3)


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_are_the_divergences_of_scipy(seed):
    p, train = predictions(seed), predictions(9).mean(axis=0)
    marginal = p.mean(axis=0)
    expected = math.exp(np.mean([stats.entropy(row, marginal) for row in p]))
    assert inception.inception_score(p, KEY).value == pytest.approx(expected)
    p = np.maximum(p, 1e-6) / np.maximum(p, 1e-6).sum(axis=1, keepdims=True)  # scipy knows no floor
    pairs = [stats.entropy(one, other) for one, other in itertools.product(p, p)]
    assert inception.modified_inception_score(p, KEY).value == pytest.approx(math.exp(np.mean(pairs)))
    expected = stats.entropy(train, p.mean(axis=0)) + np.mean([stats.entropy(row) for row in p])
    assert inception.am_score(p, train, KEY).value == pytest.approx(expected)


def test_modified_score_has_no_roof_but_the_floor():
    assert inception.modified_inception_score(np.full((30, 10), 0.1), KEY).value == pytest.approx(1)
    certain = inception.modified_inception_score(np.tile(np.eye(10), (3, 1)), KEY).value
    assert certain == pytest.approx(inception.PROBABILITY_FLOOR**-0.9)


def test_am_score_is_best_where_clips_are_sure_and_classes_as_in_training():
    train = np.array([0.5, 0.25, 0.25])
    assert inception.am_score(np.eye(3)[[0, 0, 1, 2]], train, KEY).value == pytest.approx(0, abs=1e-12)
    unsure = inception.am_score(np.tile(train, (4, 1)), train, KEY).value
    assert unsure == pytest.approx(1.5 * math.log(2))
    missing = inception.am_score(np.eye(3)[[0, 0, 1, 1]], train, KEY).value
    assert missing == pytest.approx(0.25 * (math.log(0.25 / inception.PROBABILITY_FLOOR) + math.log(0.5)))


def test_inception_interval_holds_the_closed_form_of_dirichlet_predictions():
    """E H(p) = psi(A + 1) - sum_i (a_i / A) psi(a_i + 1) for p ~ Dirichlet(a), A = sum a."""
    truth = math.exp(math.log(5) - special.digamma(5 * 0.5 + 1) + special.digamma(0.5 + 1))
    figures = [inception.inception_score(predictions(s, 150), KEY) for s in range(20)]
    assert np.mean([f.value for f in figures]) == pytest.approx(truth, rel=0.03)
    assert np.mean([f.low <= truth <= f.high for f in figures]) >= 0.8


def test_scores_ignore_the_order_of_clips_and_repeat_with_their_key():
    p = predictions(3)
    first, again, turned = (inception.inception_score(x, KEY) for x in (p, p, p[::-1]))
    assert first == again and turned.value == pytest.approx(first.value)
    assert inception.inception_score(p, jax.random.key(1)).low != first.low
    assert first.low < first.value < first.high


def test_equal_sets_have_no_different_bin_and_a_lost_mode_is_seen():
    weights = np.ones(10)
    reference = blobs(0, weights, 1000)
    assert inception.different_bins(KEY, reference, reference, 10).different == 0
    lost = inception.different_bins(KEY, reference, blobs(1, weights * (np.arange(10) > 0), 1000), 10)
    assert 0 < lost.different <= 5 and np.max(np.abs(lost.z)) > 8
    collapsed = inception.different_bins(KEY, reference, reference[:1] + np.zeros((500, 1)), 10)
    assert collapsed.share == 1


def test_bins_are_tested_as_two_proportions():
    """The square of the pooled z is the chi-square of the 2 x 2 table, without correction."""
    reference, generated = blobs(0, [1, 2, 3], 300), blobs(1, [2, 2, 2], 200)
    got = inception.different_bins(KEY, reference, generated, 3)
    np.testing.assert_allclose([got.reference.sum(), got.generated.sum()], 1)
    assert list(got.reference) == sorted(got.reference, reverse=True)
    for p, q, z in zip(got.reference, got.generated, got.z, strict=True):
        table = np.round([[300 * p, 300 * (1 - p)], [200 * q, 200 * (1 - q)]])
        chi_square = stats.chi2_contingency(table, correction=False)
        assert z**2 == pytest.approx(chi_square.statistic)
    p_values = 2 * stats.norm.sf(np.abs(got.z))
    assert got.different == np.sum(p_values < 0.05)


def test_bins_of_one_distribution_differ_as_often_as_the_significance_says():
    weights = np.ones(20)
    figures = [
        inception.different_bins(
            jax.random.key(s), blobs([s, 0], weights, 2000), blobs([s, 1], weights, 1000), 20
        ).figure()
        for s in range(25)
    ]
    assert 3 < np.mean([figure.value for figure in figures]) < 7
    assert sum(figure.low <= 5 <= figure.high for figure in figures) >= 22


def test_a_cell_without_clips_is_dropped_and_one_without_reference_is_kept(monkeypatch):
    centres = np.array([[99.0], [50.0], [0.0]])
    monkeypatch.setattr(inception.scipy.cluster.vq, "kmeans2", lambda *_, **__: (centres, None))
    generated = np.array([[0.0]] * 5 + [[51.0]] * 5)
    got = inception.different_bins(KEY, np.arange(20.0)[:, None], generated, 3)
    np.testing.assert_allclose([got.reference, got.generated], [[1, 0], [0.5, 0.5]])
    assert got.different == 2


@pytest.mark.parametrize(
    "attempt, named",
    [
        (lambda: inception.inception_score(np.ones((1, 3)) / 3, KEY), "of 1 clip: a score of a set"),
        (lambda: inception.inception_score(np.ones((4, 3)), KEY), "4 of 4 rows .* first at 0 with the sum 3"),
        (lambda: inception.modified_inception_score([[0.5, 0.5], [np.nan, 1]], KEY), "1 of 2 rows .* first at 1"),
        (lambda: inception.am_score(predictions(0), [0.5, 0.5], KEY), r"\(2,\) does not belong to .* \(40, 5\)"),
        (lambda: inception.am_score(predictions(0), np.full((2, 5), 0.2), KEY), r"\(2, 5\) does not belong"),
        (lambda: inception.different_bins(KEY, np.eye(4)[[0, 1, 1]], np.eye(4), 3), "3 bins of 2 different"),
        (lambda: inception.different_bins(KEY, np.eye(4), np.eye(4)[:1], 3), "1 generated clips cannot fill 3 bins"),
        (lambda: inception.different_bins(KEY, np.zeros((4, 2)), np.zeros((9, 3)), 2), "2 and 3 dimensions"),
        (lambda: inception.different_bins(KEY, np.zeros((4, 2)), np.full((9, 2), np.nan), 2), "9 of 9 generated"),
    ],
)
def test_refusals_name_value_and_mend(attempt, named):
    with pytest.raises(ValueError, match=named):
        attempt()
