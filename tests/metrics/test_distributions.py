from __future__ import annotations

import itertools
import math

import jax
import numpy as np
import pytest
from scipy import linalg

from audiodiff.metrics import distributions


def gaussian(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def whitened(seed, count, dim):
    """Draw a set whose mean is exactly 0 and whose covariance is exactly the identity."""
    points = gaussian(seed, count, dim)
    points -= points.mean(axis=0)
    return points @ np.linalg.inv(linalg.cholesky(np.cov(points.T).reshape(dim, dim)))


def test_frechet_distance_of_gaussians_is_the_closed_form():
    one = whitened(0, 50, 1)
    assert distributions.frechet_distance(one, 1 + 2 * whitened(1, 70, 1)) == pytest.approx(2.0, rel=1e-12)
    scales, shift = np.array([0.5, 1.0, 3.0]), np.array([1.0, -2.0, 0.0])
    # diagonal covariances commute: |shift|^2 + sum (1 - scale)^2
    got = distributions.frechet_distance(whitened(2, 40, 3), scales * whitened(3, 60, 3) + shift)
    assert got == pytest.approx(5 + 0.25 + 4, rel=1e-12)


@pytest.mark.parametrize("dim", [1, 5, 32])
def test_frechet_distance_equals_scipy_sqrtm(dim):
    one, two = gaussian(0, 200, dim) @ gaussian(1, dim, dim), 0.3 + gaussian(2, 150, dim) @ gaussian(3, dim, dim)
    cov_one, cov_two = (np.cov(x.T).reshape(dim, dim) for x in (one, two))
    root = linalg.sqrtm(cov_one @ cov_two).real
    expected = np.sum((one.mean(0) - two.mean(0)) ** 2) + np.trace(cov_one + cov_two - 2 * root)
    assert distributions.frechet_distance(one, two) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_is_sound_where_covariances_are_singular():
    """Scales from 1 to 1e-7 and a repeated feature: S1 S2 then spans more than float64 holds."""
    base = whitened(0, 64, 8) * np.logspace(0, -7, 8)
    points = np.concatenate([base, base[:, :1]], axis=1)
    assert 0 <= distributions.frechet_distance(points, points) < 1e-13
    # scaling by 1 + e moves the distance by e^2 of the total variance
    got = distributions.frechet_distance(points, 1.001 * points)
    assert got == pytest.approx(1e-6 * np.cov(points.T).trace(), rel=1e-6)


def test_frechet_distance_is_symmetric_and_invariant_to_motion():
    one, two = gaussian(0, 60, 6), 1 + 2 * gaussian(1, 80, 6)
    value = distributions.frechet_distance(one, two)
    rotation, shift = linalg.qr(gaussian(2, 6, 6))[0], 5 * gaussian(3, 6)
    assert distributions.frechet_distance(two, one) == pytest.approx(value, rel=1e-10)
    assert distributions.frechet_distance(one @ rotation + shift, two @ rotation + shift) == pytest.approx(value)
    assert distributions.frechet_distance(3 * one, 3 * two) == pytest.approx(9 * value)
    assert distributions.frechet_distance(one[::-1], two) == pytest.approx(value)


def test_extrapolation_removes_the_bias_that_the_plain_distance_has():
    plain, extrapolated, published = [], [], []
    for seed in range(40):
        one, two = gaussian([seed, 0], 120, 8), gaussian([seed, 1], 120, 8)
        plain.append(distributions.frechet_distance(one, two))
        extrapolated.append(distributions.extrapolate_frechet_distance(jax.random.key(seed), one, two).value)
        published.append(
            distributions.extrapolate_frechet_distance(jax.random.key(seed), one, two, whole_reference=True).value
        )
    assert np.mean(plain) > 0.4  # equal distributions
    assert abs(np.mean(extrapolated)) < 0.05 * np.mean(plain) + 2 * np.std(extrapolated) / math.sqrt(40)
    assert 0.3 < np.mean(published) / np.mean(plain) < 0.7  # the bias of the reference stays
    assert np.std(extrapolated) < 1.5 * np.std(plain)


def test_extrapolation_finds_a_planted_distance_and_repeats_with_its_key():
    one, two = whitened(0, 400, 4), 1 + 2 * whitened(1, 300, 4)  # 4 + 4, and no chance in the whole sets
    got = distributions.extrapolate_frechet_distance(jax.random.key(0), one, two)
    assert got.value == pytest.approx(8.0, abs=0.3) and got.slope > 0
    np.testing.assert_array_equal(got.sizes, [300, 150, 100])
    assert got.distances[0] == pytest.approx(8.0)
    again, other = (distributions.extrapolate_frechet_distance(jax.random.key(k), one, two) for k in (0, 1))
    assert again.value == got.value != other.value


def half_width(figure):
    return (figure.high - figure.low) / 2


def test_frechet_interval_is_the_delta_method_of_mean_and_deviation():
    """In one dimension the distance is (m1 - m2)^2 + (s1 - s2)^2, with Var m = s^2/n and Var s = s^2/2n."""
    one, two = gaussian(0, 40_000, 1), 3 + 2 * gaussian(1, 20_000, 1)
    variance = 4 * 3**2 * (1 / 40_000 + 4 / 20_000) + 4 * 1**2 * (1 / 80_000 + 4 / 40_000)
    got = distributions.frechet_figure(one, two, confidence=0.9)
    assert got.value == pytest.approx(distributions.frechet_distance(one, two))
    assert half_width(got) == pytest.approx(1.644854 * math.sqrt(variance), rel=0.02)


def test_frechet_interval_is_the_jackknife_over_both_sets():
    x, y = gaussian(0, 450, 3), 0.3 + 1.3 * np.random.default_rng(1).laplace(size=(400, 3))
    variance = 0.0
    for sets in ([(np.delete(x, i, 0), y) for i in range(450)], [(x, np.delete(y, i, 0)) for i in range(400)]):
        variance += (len(sets) - 1) * np.var([distributions.frechet_distance(*both) for both in sets])
    assert half_width(distributions.frechet_figure(x, y)) == pytest.approx(1.959964 * math.sqrt(variance), rel=0.015)


def test_frechet_interval_does_not_mind_repeated_features():
    x, y = gaussian(0, 60, 3), 1 + gaussian(1, 50, 3)
    once, twice = (distributions.frechet_figure(np.tile(x, (1, k)), np.tile(y, (1, k))) for k in (1, 2))
    assert (twice.value, half_width(twice)) == pytest.approx((2 * once.value, 2 * half_width(once)))
    same = distributions.frechet_figure(x, x[::-1])
    assert same.low == 0 and same.high < 1e-12


def test_frechet_intervals_hold_expectation_and_truth():
    """Shifts and scales commute: the true distance is 4 x 0.5^2 + 4 x 0.3^2 = 1.36."""
    plain, true = [], []
    for seed in range(70):
        x, y = gaussian([seed, 0], 60, 4), 0.5 + 1.3 * gaussian([seed, 1], 60, 4)
        plain.append(distributions.frechet_figure(x, y))
        true.append(distributions.extrapolated_frechet_figure(jax.random.key(seed), x, y))
    expectation = np.mean([figure.value for figure in plain])
    assert expectation > 1.5
    assert np.mean([figure.value for figure in true]) == pytest.approx(1.36, abs=0.1)
    assert np.mean([figure.low <= expectation <= figure.high for figure in plain]) > 0.89
    assert np.mean([figure.low <= 1.36 <= figure.high for figure in true]) > 0.89
    with pytest.raises(ValueError, match="1 deal tells nothing"):
        distributions.extrapolated_frechet_figure(jax.random.key(0), x, y, deals=1)


def test_kernel_distance_equals_sums_over_pairs():
    x, y = gaussian(0, 9, 3), 0.5 + gaussian(1, 7, 3)
    bandwidth = float(np.median([math.dist(a, b) for a, b in itertools.combinations(x, 2)]))

    def kernel(a, b):
        return math.exp(-(math.dist(a, b) ** 2) / (2 * bandwidth**2))

    within = [np.mean([kernel(a, b) for a, b in itertools.permutations(s, 2)]) for s in (x, y)]
    across = np.mean([kernel(a, b) for a, b in itertools.product(x, y)])
    got = distributions.kernel_distance(x, y)
    assert got.value == pytest.approx(100 * (sum(within) - 2 * across), rel=1e-10)
    assert f"bandwidth {bandwidth:.4g}" in got.note


def test_kernel_interval_is_the_jackknife_over_both_sets(monkeypatch):
    monkeypatch.setattr("audiodiff.metrics.neighbours.BATCH", 5)  # several batches, the last one not full
    x, y = gaussian(0, 9, 3), 0.5 + gaussian(1, 7, 3)
    variance = 0.0
    for sets in ([(np.delete(x, i, 0), y) for i in range(9)], [(x, np.delete(y, i, 0)) for i in range(7)]):
        left_out = [distributions.kernel_distance(*both, bandwidth=2.0).value for both in sets]
        variance += (len(sets) - 1) * np.var(left_out)
    got = distributions.kernel_distance(x, y, bandwidth=2.0)
    assert (got.high - got.low) / 2 == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-6)


def test_kernel_distance_is_zero_in_the_mean_under_the_null_and_its_interval_holds_zero():
    figures = [distributions.kernel_distance(gaussian([s, 0], 50, 6), gaussian([s, 1], 40, 6)) for s in range(2000)]
    values = np.array([figure.value for figure in figures])
    assert abs(values.mean()) < 2 * values.std(ddof=1) / math.sqrt(2000)
    assert (values < 0).mean() > 0.3  # unbiased, so not clipped at 0
    assert np.mean([figure.low <= 0 <= figure.high for figure in figures]) >= 0.95


def test_kernel_interval_holds_the_closed_form_of_two_gaussians():
    """E k(a, b) of a - b ~ N(d, v I) is (1 + v/h^2)^(-dim/2) exp(-|d|^2 / (2 (h^2 + v)))."""
    dim, shift, h = 4, 0.7, 2.0
    same = (1 + 2 / h**2) ** (-dim / 2)
    truth = 100 * 2 * same * (1 - math.exp(-dim * shift**2 / (2 * (h**2 + 2))))
    figures = [
        distributions.kernel_distance(gaussian([s, 0], 60, dim), shift + gaussian([s, 1], 60, dim), bandwidth=h)
        for s in range(300)
    ]
    values = np.array([figure.value for figure in figures])
    assert values.mean() == pytest.approx(truth, abs=2 * values.std() / math.sqrt(300))
    assert 0.92 < np.mean([figure.low <= truth <= figure.high for figure in figures]) < 0.99


def test_kernel_distance_takes_its_bandwidth_from_the_reference():
    narrow, wide = gaussian(0, 40, 3), 5 * gaussian(1, 40, 3)
    one, other = distributions.kernel_distance(narrow, wide), distributions.kernel_distance(wide, narrow)
    assert abs(one.value - other.value) > 1
    fixed = [distributions.kernel_distance(*both, bandwidth=3.0).value for both in ((narrow, wide), (wide, narrow))]
    assert fixed[0] == pytest.approx(fixed[1])
    moved = distributions.kernel_distance(7 * narrow + 1, 7 * wide + 1)  # the median bandwidth moves with the scale
    assert moved.value == pytest.approx(one.value)


def test_fewer_clips_than_dimensions_is_warned_of():
    with pytest.warns(UserWarning, match="6 clips for 8 dimensions"):
        value = distributions.frechet_distance(gaussian(0, 6, 8), gaussian(1, 30, 8))
    assert value > 2  # equal distributions: nothing but bias
    with pytest.warns(UserWarning, match="6 clips for 8 dimensions"):
        assert distributions.frechet_figure(gaussian(0, 6, 8), gaussian(1, 30, 8)).value == value
    with pytest.raises(ValueError, match="3 parts of 8 clips or more"):
        distributions.extrapolate_frechet_distance(jax.random.key(0), gaussian(0, 26, 8), gaussian(1, 90, 8))


@pytest.mark.parametrize("distance", [distributions.frechet_distance, distributions.kernel_distance])
def test_refusals_name_value_and_mend(distance):
    good = gaussian(0, 9, 2)
    with pytest.raises(ValueError, match="9 reference and 1 generated clips are too few"):
        distance(good, good[:1])
    with pytest.raises(ValueError, match="2 and 3 dimensions"):
        distance(good, gaussian(1, 9, 3))
    with pytest.raises(ValueError, match="1 of 9 generated features are not finite, the first at 4"):
        distance(good, np.where(np.arange(9)[:, None] == 4, np.nan, good))


def test_a_reference_of_copies_has_no_bandwidth():
    with pytest.raises(ValueError, match="bandwidth 0.0 makes no kernel"):
        distributions.kernel_distance(np.ones((5, 2)), gaussian(0, 5, 2))
