from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import optimize, stats

from audiodiff.metrics import listening


def rate(generator, raters, items, spreads, share=1.0):
    """Draw ratings 3 + rater + item + error, of which each item gets a share of the raters."""
    of_rater, of_item, error = spreads
    y = 3 + of_rater * generator.normal(size=(raters, 1)) + of_item * generator.normal(size=(1, items))
    y = y + error * generator.normal(size=(raters, items))
    chosen = np.argsort(generator.random(y.shape), axis=0) < round(share * raters)
    return np.where(chosen, y, np.nan)


def opinion(ratings, confidence=0.95):
    return listening.mean_opinion_score(ratings, confidence, scale=(-99, 99))


# --- opinion scores


@pytest.mark.parametrize(
    "raters, items, spreads, share",
    [
        (20, 30, (0.4, 0.4, 0.7), 1.0),
        (8, 40, (0.5, 0.3, 0.7), 1.0),
        (30, 40, (0.4, 0.4, 0.7), 0.2),
        (100, 20, (0.5, 0.3, 0.8), 0.15),
    ],
)
def test_opinion_interval_holds_the_truth_in_95_percent(raters, items, spreads, share):
    generator = np.random.default_rng(raters)
    held = 0
    for _ in range(1000):
        figure = opinion(rate(generator, raters, items, spreads, share))
        held += figure.low <= 3 <= figure.high
    assert 0.93 < held / 1000 < 0.97


def test_opinion_interval_of_a_full_table_is_the_analysis_of_variance():
    y = rate(np.random.default_rng(0), 6, 9, (1.0, 0.8, 0.3))
    rows, columns = y.mean(axis=1), y.mean(axis=0)
    rest = y - rows[:, None] - columns + y.mean()
    mean_squares = 9 * rows.var(ddof=1), 6 * columns.var(ddof=1), np.sum(rest**2) / (5 * 8)
    variance = (mean_squares[0] + mean_squares[1] - mean_squares[2]) / 54
    freedom = variance**2 / ((mean_squares[0] / 54) ** 2 / 5 + (mean_squares[1] / 54) ** 2 / 8)
    expected = stats.t.ppf(0.95, max(freedom, 5)) * math.sqrt(variance)
    figure = opinion(y, 0.9)
    assert figure.value == pytest.approx(y.mean()) and figure.count == 54
    assert (figure.high - figure.low) / 2 == pytest.approx(expected)


def test_opinion_interval_is_wider_than_that_of_independent_ratings():
    y = rate(np.random.default_rng(1), 10, 50, (0.6, 0.1, 0.5))
    naive = stats.ttest_1samp(y.ravel(), 0).confidence_interval()
    figure = opinion(y)
    assert figure.high - figure.low > 3 * (naive.high - naive.low)


def test_opinion_of_raters_who_rate_once_is_known_and_of_one_rater_is_not():
    once = np.where(
        np.arange(40)[:, None] % 8 == np.arange(8), rate(np.random.default_rng(2), 40, 8, (1, 1, 1)), np.nan
    )
    assert 0 < opinion(once).high - opinion(once).low < 4
    alone = opinion([[3.0, 4.0, 2.0]])
    assert (alone.value, alone.low, alone.high, alone.note) == (3.0, -math.inf, math.inf, "1 raters, 3 items")
    nothing = opinion(np.full((3, 4), np.nan))
    assert math.isnan(nothing.value) and nothing.count == 0 and nothing.high == math.inf


def test_opinion_ignores_order_and_who_never_rated():
    y = rate(np.random.default_rng(3), 7, 9, (0.5, 0.5, 0.5), 0.5)
    more = np.pad(y[::-1, ::-1], ((0, 1), (2, 0)), constant_values=np.nan)
    np.testing.assert_allclose(opinion(more).low, opinion(y).low)


# --- preferences


@pytest.mark.parametrize("wins, expected", [(60, 0.056888), (61, 0.035200), (50, 1.0), (40, 0.056888)])
def test_preference_is_the_exact_binomial(wins, expected):
    preference = listening.ab_test(wins, 100 - wins, 0, ties="drop")
    assert preference.p_value == pytest.approx(expected, abs=5e-7)
    low, high = stats.binomtest(wins, 100).proportion_ci(method="wilson")
    assert (preference.share.low, preference.share.high) == pytest.approx((100 * low, 100 * high))


def test_preference_test_never_exceeds_its_level():
    """The exact chance to reject a true "no preference", by summing the binomial."""
    sizes = {}
    for n in (*range(1, 41), 100, 200):
        p_values = [listening.ab_test(k, n - k, 0, ties="drop").p_value for k in range(n + 1)]
        sizes[n] = stats.binom.pmf(np.arange(n + 1), n, 0.5) @ (np.array(p_values) <= 0.05)
    assert max(sizes.values()) <= 0.05
    assert sizes[5] == 0 and sizes[6] == pytest.approx(2 / 64)  # six wins of six are the first to say something
    assert sizes[100] == pytest.approx(0.035200, abs=5e-7) and sizes[200] > 0.03


def test_ties_are_treated_as_declared():
    dropped = listening.ab_test(30, 15, 21, ties="drop")
    split = listening.ab_test(30, 15, 21, ties="split")
    assert dropped.p_value == stats.binomtest(30, 45).pvalue < split.p_value == stats.binomtest(40, 65).pvalue
    assert (dropped.share.count, split.share.count) == (45, 65)
    assert "21 ties, dropped" in dropped.share.note and "21 ties, half to each side" in split.share.note
    undecided = listening.ab_test(0, 0, 9, ties="drop")
    assert undecided.p_value == 1 and math.isnan(undecided.share.value)


def test_splitting_ties_keeps_the_level():
    """Exactly, over the trinomial of 20 trials, of which 30 % are ties."""
    size = sum(
        stats.multinomial.pmf([wins, losses, 20 - wins - losses], 20, [0.35, 0.35, 0.3])
        for wins, losses in itertools.product(range(21), repeat=2)
        if wins + losses <= 20 and listening.ab_test(wins, losses, 20 - wins - losses, ties="split").p_value <= 0.05
    )
    assert 0 < size <= 0.05


def test_sign_test_counts_signs():
    got = listening.sign_test([1.5, 0.1, -3.0, 0.0, 9.0], ties="drop")
    assert got == listening.ab_test(3, 1, 1, ties="drop")


# --- rankings


def test_bradley_terry_is_the_maximum_of_the_likelihood_and_its_curvature():
    wins = np.array([[0, 7, 2.5], [3, 0, 6], [4.5, 1, 0]])

    def loss(free):
        s = np.append(free, -np.sum(free))
        return np.sum(wins * np.logaddexp(0, s - s[:, None]))

    found = optimize.minimize(loss, np.zeros(2), tol=1e-12)
    got = listening.bradley_terry(wins)
    np.testing.assert_allclose(got.log_strength[:2], found.x, atol=1e-5)
    step = 1e-3 * np.eye(2)
    hessian = np.array(
        [
            [sum(x * y * loss(found.x + x * a + y * b) for x in (1, -1) for y in (1, -1)) / 4e-6 for a in step]
            for b in step
        ]
    )
    np.testing.assert_allclose(got.covariance[:2, :2], np.linalg.inv(hessian), rtol=1e-3)


def test_bradley_terry_of_two_is_the_log_odds():
    got = listening.bradley_terry([[0, 30], [10, 0]])
    assert got.log_strength[0] - got.log_strength[1] == pytest.approx(math.log(3))
    contrast = np.array([1, -1])
    assert contrast @ got.covariance @ contrast == pytest.approx(1 / 30 + 1 / 10)


def test_planted_ranking_is_recovered_within_its_errors():
    generator = np.random.default_rng(0)
    planted = np.array([0.9, -1.4, 0.1, 1.6, -0.6, -0.6])
    planted -= planted.mean()
    beaten, ordered = [], 0
    for _ in range(100):
        wins = np.zeros((6, 6))
        for i, j in itertools.combinations(range(6), 2):
            wins[i, j] = generator.binomial(80, 1 / (1 + math.exp(planted[j] - planted[i])))
            wins[j, i] = 80 - wins[i, j]
        got = listening.bradley_terry(wins)
        ordered += list(got.order[:3]) == [3, 0, 2] and got.order[-1] == 1
        beaten.append(np.abs(got.log_strength - planted) < 1.96 * np.sqrt(got.covariance.diagonal()))
    assert ordered >= 97
    assert 0.93 < np.mean(beaten) < 0.97


def test_unconnected_comparisons_are_refused_by_name():
    apart = np.kron(np.eye(2), [[0, 3], [2, 0]])
    with pytest.raises(ValueError, match=r"2 groups of systems, \[\[\d, \d\], \[\d, \d\]\]"):
        listening.bradley_terry(apart)
    never_lost = np.array([[0, 3, 4], [0, 0, 2], [0, 1, 0]])
    with pytest.raises(ValueError, match="add comparisons between the groups"):
        listening.bradley_terry(never_lost)
    ring = np.roll(np.eye(5), 1, axis=1)  # each beat only the next: connected, and all equal
    np.testing.assert_allclose(listening.bradley_terry(ring).log_strength, 0, atol=1e-9)


def test_strengths_that_crept_and_did_not_arrive_are_refused():
    wins = np.kron(np.eye(2), [[0.0, 1e6], [1e6, 0.0]])
    wins[1, 2], wins[2, 1] = 3, 1  # two pairs that met a million times, and each other four times
    with pytest.raises(ValueError, match="from their maximum, not 1e-06 after 10000 iterations"):
        listening.bradley_terry(wins)


# --- MUSHRA


def test_planted_bad_assessors_are_screened_and_no_other():
    generator = np.random.default_rng(0)
    reference, anchor = generator.uniform(92, 100, (12, 20)), generator.uniform(40, 80, (12, 20))
    reference[3, :4] = 70  # 20 % of the items
    anchor[7, 5:9] = 95
    reference[5, :3], anchor[5, :3] = 89, 91  # 15 %: not more than allowed
    reference[9, 0] = np.nan
    got = listening.mushra_screening(reference, anchor)
    assert list(np.flatnonzero(~got.kept)) == [3, 7]
    assert got.reference_failed[3] == pytest.approx(0.2) and got.anchor_failed[7] == pytest.approx(0.2)


def test_random_scores_are_screened():
    scores = np.random.default_rng(1).uniform(0, 100, (2, 50, 15))
    assert not listening.mushra_screening(*scores).kept.any()


def test_an_anchor_that_degraded_nothing_screens_no_one():
    reference, anchor = np.full((8, 10), 100.0), np.full((8, 10), 60.0)
    anchor[:3, :4] = 95  # three of eight assessors, on the same four items
    got = listening.mushra_screening(reference, anchor)
    assert got.kept.all() and list(np.flatnonzero(~got.anchor_degraded)) == [0, 1, 2, 3]
    assert not listening.mushra_screening(reference, np.where(np.arange(8)[:, None] < 2, anchor, 60)).kept[:2].any()


# --- several systems


def test_holm_is_the_closed_test_of_bonferroni():
    """p_i adjusted is the largest Bonferroni p of any group of hypotheses that i belongs to."""
    p = np.random.default_rng(0).uniform(0, 0.3, 6)
    groups = [g for size in range(1, 7) for g in itertools.combinations(range(6), size)]
    expected = [max(min(1, len(g) * p[list(g)].min()) for g in groups if i in g) for i in range(6)]
    np.testing.assert_allclose(listening.holm(p), expected)
    assert listening.holm([]).shape == (0,)


def test_tests_over_systems_keep_their_level_and_find_a_planted_system():
    generator = np.random.default_rng(0)
    friedman, family = [], []
    for _ in range(300):
        got = listening.compare_systems(generator.normal(size=(20, 3)) + generator.normal(size=(20, 1)))
        friedman.append(got.friedman_p <= 0.05)
        family.append(got.adjusted.min() <= 0.05)
    assert 0.03 < np.mean(friedman) < 0.07
    assert np.mean(family) < 0.07
    got = listening.compare_systems(generator.normal(size=(20, 3)) + [0, 0, 2])
    assert got.friedman_p < 1e-3 and got.pairs == [(0, 1), (0, 2), (1, 2)]
    assert list(got.adjusted < 0.05) == [False, True, True]
    assert got.quartiles.shape == (3, 3) and got.quartiles[1, 2] > 1


def test_signed_rank_test_of_few_tied_differences_is_exact_and_keeps_its_level():
    sizes = np.array([1.0, 1, 1, 2, 2, 3])
    p_values = []
    for signs in itertools.product((-1, 1), repeat=6):
        got = listening.compare_systems(np.stack([sizes * signs, np.zeros(6)], axis=1))
        p_values.append(got.p_values[0])
    assert 0.01 < np.mean(np.array(p_values) <= 0.05) <= 0.05
    assert min(p_values) == pytest.approx(2 / 64)
    five = listening.compare_systems([[1.0, 0.0]] * 5 + [[3.0, 3.0]])  # the normal approximation says .025
    assert five.p_values[0] == pytest.approx(2 / 32)


def test_signed_rank_test_equals_scipy():
    generator = np.random.default_rng(4)
    for n in (9, 20):
        tied = np.round(generator.normal(0.7, 2, n)) + 0.5
        expected = stats.wilcoxon(tied).pvalue
        assert listening.compare_systems(np.stack([tied, 0 * tied], axis=1)).p_values[0] == pytest.approx(expected)
    for n in (8, 13, 14, 30):
        scores = generator.normal([0, 0.4], 1, (n, 2))
        expected = stats.wilcoxon(*scores.T).pvalue
        assert listening.compare_systems(scores).p_values[0] == pytest.approx(expected)


def test_equal_systems_have_p_one_and_two_systems_no_friedman():
    got = listening.compare_systems(np.repeat(np.arange(5.0)[:, None], 3, axis=1))
    assert got.friedman_p == 1 and list(got.p_values) == [1, 1, 1]
    assert math.isnan(listening.compare_systems([[1, 2], [2, 4], [0, 5]]).friedman_p)


@pytest.mark.parametrize(
    "attempt, named",
    [
        (
            lambda: listening.mean_opinion_score([[3, 6], [2, 1]]),
            r"1 scores are off the scale \(1.0, 5.0\), the first 6",
        ),
        (lambda: listening.mean_opinion_score([3, 4]), r"shape \(2,\): give a filled array \[rater, item\]"),
        (lambda: listening.mean_opinion_score([[3, np.inf]]), "the first inf"),
        (lambda: listening.ab_test(3, 4, 1, ties="half"), "ties is 'half'; choose one of"),
        (lambda: listening.ab_test(-3, 4, 1, ties="drop"), r"preferences \(-3, 4, 1\) are no counts"),
        (lambda: listening.ab_test(0, 0, 0, ties="drop"), "not all of them 0"),
        (lambda: listening.sign_test([1, np.nan], ties="drop"), "must be .pair. and finite"),
        (lambda: listening.bradley_terry([[0, 1]]), r"wins \(1, 2\)"),
        (lambda: listening.bradley_terry([[1, 1], [1, 0]]), "0 on the diagonal"),
        (lambda: listening.mushra_screening([[101.0]], [[50.0]]), r"off the scale \(0, 100\)"),
        (lambda: listening.mushra_screening([[99.0, 98.0]], [[50.0]]), r"\(1, 2\) and anchor \(1, 1\)"),
        (lambda: listening.mushra_screening([[99.0], [np.nan]], [[50.0], [9.0]]), "no assessor all NaN"),
        (lambda: listening.compare_systems([[1.0, 2.0]]), r"scores \(1, 2\)"),
        (lambda: listening.compare_systems([[1.0, np.nan], [2, 3]]), "give finite"),
        (lambda: listening.holm([0.5, np.nan]), "are no probabilities"),
    ],
)
def test_refusals_name_value_and_mend(attempt, named):
    with pytest.raises(ValueError, match=named):
        attempt()
