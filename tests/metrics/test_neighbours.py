from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from audiodiff.metrics import neighbours
from audiodiff.metrics.intervals import normal_quantile


def gaussian(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def distance(a, b):
    return math.dist(a, b)


def brute_force(real, generated, k):
    """Transcribe the definitions sentence by sentence, with no arrays."""

    def radius(point, own):
        return sorted(distance(point, other) for other in own)[k]  # [0] is the point itself

    real_balls = [(r, radius(r, real)) for r in real]
    generated_balls = [(g, radius(g, generated)) for g in generated]
    return {
        "precision": 100 * np.mean([any(distance(g, r) <= d for r, d in real_balls) for g in generated]),
        "recall": 100 * np.mean([any(distance(r, g) <= d for g, d in generated_balls) for r in real]),
        "density": np.mean([sum(distance(g, r) <= d for r, d in real_balls) / k for g in generated]),
        "coverage": 100 * np.mean([any(distance(g, r) <= d for g in generated) for r, d in real_balls]),
    }


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("spread", [0.4, 1.5])
def test_neighbourhood_equals_brute_force(k, spread, monkeypatch):
    monkeypatch.setattr(neighbours, "BATCH", 7)  # several batches, the last one not full
    real, generated = gaussian(0, 23, 2), spread * gaussian(1, 31, 2)
    got = neighbours.neighbourhood(real, generated, k)
    for name, value in brute_force(real, generated, k).items():
        assert getattr(got, name).value == pytest.approx(value), name
    assert (got.precision.count, got.density.count, got.recall.count, got.coverage.count) == (31, 31, 23, 23)
    assert 0 < got.coverage.value < 100


def test_neighbourhood_of_ties_and_duplicates_equals_brute_force():
    grid = np.random.default_rng(2).integers(0, 4, size=(40, 2)).astype(float)
    got = neighbours.neighbourhood(grid[:18], grid[18:], 2)
    for name, value in brute_force(grid[:18], grid[18:], 2).items():
        assert getattr(got, name).value == pytest.approx(value), name


def test_neighbourhood_of_one_distribution_is_as_the_lemmas_say():
    density, coverage = [], []
    for seed in range(40):
        got = neighbours.neighbourhood(gaussian([seed, 0], 40, 5), gaussian([seed, 1], 20, 5), 3)
        density.append(got.density.value)
        coverage.append(got.coverage.value)
    expected = neighbours.expected_coverage(40, 20, 3)
    assert np.mean(density) == pytest.approx(1.0, abs=3 * np.std(density) / math.sqrt(40))
    assert np.mean(coverage) == pytest.approx(expected, abs=3 * np.std(coverage) / math.sqrt(40))
    assert 60 < expected < 80


def test_neighbourhood_sees_collapse_and_noise():
    real = gaussian(0, 60, 8)
    collapsed = neighbours.neighbourhood(real, real[:1] + 1e-3 * gaussian(1, 60, 8))
    assert collapsed.precision.value == 100 and collapsed.coverage.high < 50 and collapsed.recall.high < 20
    noise = neighbours.neighbourhood(real, 9 * gaussian(2, 60, 8))
    assert noise.precision.high < 20 and noise.coverage.high < 20 and noise.density.high < 0.3


def test_nearest_equals_sorting_and_leaves_only_itself_out():
    points = gaussian(3, 12, 3)
    points[5] = points[9]  # a duplicate is a neighbour at distance zero, oneself is not
    distances, index = neighbours.nearest(points, points, 11, leave_one_out=True)
    for i in range(12):
        others = sorted((distance(points[i], points[j]), j) for j in range(12) if j != i)
        np.testing.assert_allclose(distances[i], [d for d, _ in others])
        assert set(index[i]) == set(range(12)) - {i}
    assert distances[5, 0] == 0 and index[5, 0] == 9


def test_ratio_takes_the_mean_over_every_subset_of_train():
    samples, train, held_out = gaussian(4, 5, 2), gaussian(5, 9, 2), gaussian(6, 4, 2)

    def log_nearest(point, group):
        return math.log(min(distance(point, other) for other in group))

    expected = np.mean(
        [
            np.mean([log_nearest(g, subset) for subset in itertools.combinations(train, 4)]) - log_nearest(g, held_out)
            for g in samples
        ]
    )
    got = neighbours.nearest_neighbour_ratio(samples, train, held_out)
    assert math.log(got.ratio.value) == pytest.approx(expected)
    turned = neighbours.nearest_neighbour_ratio(samples, held_out, train)
    assert math.log(turned.ratio.value) == pytest.approx(-expected)


def log_error(figure):
    return (math.log(figure.high) - math.log(figure.low)) / (2 * normal_quantile(0.95))


@pytest.mark.parametrize("sizes", [(7, 11, 6), (7, 6, 6), (7, 5, 9)])
def test_ratio_interval_is_the_jackknife_over_all_three_sets(sizes):
    sets = [gaussian([7, i], n, 3) for i, n in enumerate(sizes)]
    variance = 0.0
    for which, points in enumerate(sets):
        left_out = []
        for i in range(len(points)):
            rest = [np.delete(s, i, axis=0) if which == j else s for j, s in enumerate(sets)]
            left_out.append(math.log(neighbours.nearest_neighbour_ratio(*rest).ratio.value))
        variance += (len(points) - 1) * np.var(left_out)
    assert log_error(neighbours.nearest_neighbour_ratio(*sets).ratio) == pytest.approx(math.sqrt(variance))


@pytest.mark.parametrize("dim, n_train", [(3, 90), (20, 30)])
def test_honest_samples_give_one_within_the_interval(dim, n_train):
    ours, theirs, copies, values = 0, 0, 0.0, []
    for seed in range(50):
        sets = (gaussian([seed, i], n, dim) for i, n in enumerate((60, n_train, 30)))
        got = neighbours.nearest_neighbour_ratio(*sets, copies_expected=10.0)
        ours += got.ratio.low <= 1 <= got.ratio.high
        theirs += got.held_out_ratio.low <= 1 <= got.held_out_ratio.high
        copies += got.copies.value / 50
        values.append(math.log(got.ratio.value))
    assert ours >= 46 and theirs >= 46  # the jackknife may be too wide, never too narrow
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(50)
    assert copies == pytest.approx(got.copies_expected, abs=4.0)
    assert got.copies_expected == pytest.approx(100 * 3 / 31)


def test_copies_are_found():
    train, held_out = gaussian(0, 80, 6), gaussian(1, 40, 6)
    planted = np.concatenate([gaussian(2, 50, 6), train[[3]], train[[70]] + 0.03])
    got = neighbours.nearest_neighbour_ratio(planted, train, held_out)
    assert list(got.suspects[:2]) == [50, 51]
    assert list(got.nearest_train[got.suspects[:2]]) == [3, 70]
    assert got.copies.value >= 100 * 2 / 52

    memorised = neighbours.nearest_neighbour_ratio(train[:40] + 0.05 * gaussian(3, 40, 6), train[:40], held_out)
    assert memorised.ratio.high < 0.3
    assert memorised.copies.low > 80 > 5 > memorised.copies_expected
    exact = neighbours.nearest_neighbour_ratio(train, train, held_out)
    assert 0 < exact.ratio.value < memorised.ratio.value


def test_a_leak_between_train_and_held_out_shows():
    train = gaussian(0, 60, 6)
    leaked = neighbours.nearest_neighbour_ratio(gaussian(1, 50, 6), train, train[:30] + 0.01)
    assert leaked.held_out_ratio.high < 0.7


@pytest.mark.parametrize(
    "attempt, named",
    [
        (lambda: neighbours.neighbourhood(np.zeros((5, 2)), np.zeros((9, 2)), k=5), "5 neighbours asked of 4"),
        (lambda: neighbours.neighbourhood(np.zeros((9, 2)), np.zeros((9, 3))), "2 and 3 dimensions"),
        (lambda: neighbours.neighbourhood(np.zeros(9), np.zeros((9, 3))), r"\(9,\)"),
        (lambda: neighbours.neighbourhood(np.full((9, 2), np.nan), np.zeros((9, 2))), "9 of 9 real features"),
        (lambda: neighbours.nearest_neighbour_ratio(*[np.zeros((3, 2))] * 3), "3 held-out clips are too few"),
    ],
)
def test_refusals_name_value_and_mend(attempt, named):
    with pytest.raises(ValueError, match=named):
        attempt()
