from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import interpolate, optimize, stats

from audiodiff.metrics.intervals import wilson_interval
from audiodiff.metrics.verification import (
    Trials,
    all_trials,
    crossing,
    detection_errors,
    enrolment_trials,
    equal_error_rate,
)

KEY = jax.random.key(0)
CLIPS = np.array([[0, 1], [0, 2], [1, 2], [3, 4], [0, 3], [1, 3], [2, 4], [0, 4]])


def voices(speakers=3, clips=8, spread=0.8, seed=0):
    """Return embeddings [clip, dim] about random means, and their speakers."""
    generator = np.random.default_rng(seed)
    means = generator.normal(size=(speakers, 4))
    labels = np.tile(np.arange(speakers), clips)
    return means[labels] + spread * generator.normal(size=(speakers * clips, 4)), labels


def independent(scores, same):
    """Return trials no two of which share a clip."""
    return Trials(scores, same, np.arange(2 * len(scores)).reshape(-1, 2))


def quick(trials, **options):
    return equal_error_rate(trials, KEY, resamples=50, **options)


# --- error rates


@pytest.mark.parametrize("decimals", [9, 1], ids=["all scores differ", "many ties"])
def test_the_curve_and_where_it_meets_are_those_of_scikit_learn(decimals):
    metrics = pytest.importorskip("sklearn.metrics")
    embeddings, labels = voices()
    trials = all_trials(embeddings, labels)
    trials = trials._replace(scores=np.round(trials.scores, decimals))
    accept, detect, threshold = metrics.roc_curve(trials.same, trials.scores, drop_intermediate=False)
    ours = detection_errors(trials)
    np.testing.assert_allclose(ours.threshold, threshold)
    np.testing.assert_allclose(ours.false_accept, accept, atol=1e-12)
    np.testing.assert_allclose(1 - ours.false_reject, detect, atol=1e-12)
    curve = interpolate.interp1d(accept, detect)
    met = optimize.brentq(lambda x: 1 - x - curve(x), 0, 1)
    assert 0.05 < crossing(ours) == pytest.approx(met, abs=1e-9)
    assert quick(trials).value == pytest.approx(100 * met, abs=1e-7)


@pytest.mark.parametrize("apart", [0.0, 1.0, 3.0])
def test_two_gaussians_meet_where_their_distance_says(apart):
    """EER = Phi(-d' / 2), whatever the share of pairs of one speaker; the scores are the quantiles themselves."""
    few, many = (stats.norm.ppf((np.arange(n) + 0.5) / n) for n in (1000, 4000))
    trials = independent(np.concatenate([apart + few, many]), np.arange(5000) < 1000)
    assert crossing(detection_errors(trials)) == pytest.approx(stats.norm.cdf(-apart / 2), abs=1e-3)


def test_rates_by_hand_with_a_tie_across_kinds():
    """Scores 4 (same), 3 (both kinds), 2 (other), 1 (same): no threshold parts the tie."""
    trials = independent(np.array([1.0, 3, 4, 3, 2]), np.array([True, True, True, False, False]))
    errors = detection_errors(trials)
    np.testing.assert_array_equal(errors.threshold, [np.inf, 4, 3, 2, 1])
    np.testing.assert_allclose(errors.false_accept, [0, 0, 1 / 2, 1, 1])
    np.testing.assert_allclose(errors.false_reject, [1, 2 / 3, 1 / 3, 1 / 3, 0])
    assert crossing(errors) == pytest.approx(0.4)  # (0, 2/3) to (1/2, 1/3) meets the diagonal at 2/5


def test_only_the_order_of_scores_counts_and_the_kinds_can_be_exchanged():
    embeddings, labels = voices()
    trials = all_trials(embeddings, labels)
    value = crossing(detection_errors(trials))
    assert crossing(detection_errors(trials._replace(scores=np.exp(5 * trials.scores)))) == pytest.approx(value)
    turned = trials._replace(scores=-trials.scores, same=~trials.same)
    assert crossing(detection_errors(turned)) == pytest.approx(value)
    assert crossing(detection_errors(trials._replace(same=~trials.same))) == pytest.approx(1 - value)


# --- the interval


def test_the_interval_holds_the_truth_and_that_of_independent_trials_does_not():
    """40 sets of 6 speakers x 8 clips, truth of 60 more clips of each of the same speakers. Trials share clips."""
    generator, held, naive, count = np.random.default_rng(0), 0, 0, 40
    labels, many = np.tile(np.arange(6), 8), np.tile(np.arange(6), 60)
    for number in range(count):
        means = generator.normal(size=(6, 6))
        truth = 100 * crossing(detection_errors(all_trials(means[many] + generator.normal(size=(360, 6)), many)))
        trials = all_trials(means[labels] + generator.normal(size=(48, 6)), labels)
        figure = equal_error_rate(trials, jax.random.key(number), resamples=100)
        held += figure.low <= truth <= figure.high
        low, high = wilson_interval(figure.value / 100 * len(trials.scores), len(trials.scores))
        naive += 100 * low <= truth <= 100 * high
    assert stats.binomtest(held, count, 0.95).pvalue > 1e-3
    assert naive < 0.75 * count


def test_without_an_error_the_upper_end_is_that_of_as_many_clips():
    embeddings, labels = voices(spread=1e-3)
    figure = quick(all_trials(embeddings, labels))
    assert (figure.value, figure.low, figure.count) == (0, 0, 24)
    assert figure.high == pytest.approx(100 * wilson_interval(0, 24).high)


def test_a_figure_tells_its_trials_and_its_key_makes_it():
    trials = all_trials(*voices())
    figure = quick(trials, name="EER", note="test clips")
    assert (figure.name, figure.unit, figure.count) == ("EER", "%", 24)
    assert figure.note == "test clips; 84 trials of one speaker and 192 of two"
    assert 0 < figure.low < figure.value < figure.high < 100
    assert figure == quick(trials, name="EER", note="test clips")


def test_the_order_of_trials_and_the_numbers_of_clips_change_nothing():
    """One clip of the fourth and one of the fifth can be drawn not at all: then the only trial of theirs is gone."""
    scores = np.array([0.9, 0.4, 0.8, 0.7, 0.5, 0.1, 0.2, 0.3])
    trials = Trials(scores, np.arange(8) < 4, CLIPS)
    order = np.random.default_rng(0).permutation(8)
    moved = Trials(scores[order], trials.same[order], 10 * CLIPS[order] + 3)
    assert quick(moved) == quick(trials)


# --- trials


def test_all_pairs_are_compared_once_by_their_cosine():
    spatial = pytest.importorskip("scipy.spatial.distance")
    embeddings, labels = voices()
    trials = all_trials(embeddings, labels)
    np.testing.assert_allclose(trials.scores, 1 - spatial.pdist(embeddings, "cosine"), atol=1e-12)
    assert len(set(map(tuple, trials.clips))) == 24 * 23 / 2 == len(trials.scores)
    np.testing.assert_array_equal(trials.same, labels[trials.clips[:, 0]] == labels[trials.clips[:, 1]])


def test_enrolment_and_test_are_the_pairs_across():
    """Of all pairs of both together, those of one clip of each."""
    embeddings, labels = voices()
    across = enrolment_trials(embeddings[:5], labels[:5], embeddings[5:], labels[5:])
    together = all_trials(embeddings, labels)
    kept = (together.clips[:, 0] < 5) & (together.clips[:, 1] >= 5)
    np.testing.assert_array_equal(across.clips, together.clips[kept])
    np.testing.assert_array_equal(across.same, together.same[kept])
    np.testing.assert_allclose(across.scores, together.scores[kept], atol=1e-12)


# --- what cannot be


@pytest.mark.parametrize("same", [True, False])
def test_one_kind_of_trial_alone_has_no_rate(same):
    trials = Trials(np.arange(8.0), np.full(8, same), CLIPS)
    figure = quick(trials)
    assert np.isnan(figure.value) and (figure.low, figure.high, figure.count) == (0, 100, 5)
    assert ("8 trials of one speaker and 0" if same else "0 trials of one speaker and 8") in figure.note
    assert np.isnan(crossing(detection_errors(trials)))


def test_trials_that_cannot_be_are_told():
    scores, same = np.arange(8.0), np.arange(8) < 4
    with pytest.raises(ValueError, match=r"scores \(8,\), same \(7,\) and clips \(8, 2\) do not belong together"):
        quick(Trials(scores, same[:7], CLIPS))
    with pytest.raises(ValueError, match=r"clips \(0, 2\) do not belong together: give .* at least one"):
        detection_errors(Trials(scores[:0], same[:0], CLIPS[:0]))
    with pytest.raises(ValueError, match="2 of 8 scores are NaN, the first is trial 3: leave them out"):
        quick(Trials(np.where([*[0] * 3, 1, 0, 1, 0, 0], np.nan, scores), same, CLIPS))
    with pytest.raises(ValueError, match="trial 5 compares clip 1 with itself"):
        quick(Trials(scores, same, np.where(np.arange(8)[:, None] == 5, 1, CLIPS)))


def test_embeddings_that_cannot_be_are_told():
    embeddings, labels = voices()
    with pytest.raises(ValueError, match=r"embeddings \(24, 4\) and speakers \(23,\) do not belong together"):
        all_trials(embeddings, labels[1:])
    embeddings[3], embeddings[5, 1] = 0, np.nan
    with pytest.raises(ValueError, match="2 of 24 embeddings are zero or not finite, the first is clip 3"):
        all_trials(embeddings, labels)
