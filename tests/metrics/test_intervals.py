from __future__ import annotations

import json
import math

import jax
import numpy as np
import pytest
from scipy import stats

from audiodiff.metrics import intervals
from audiodiff.metrics.intervals import Figure


@pytest.mark.parametrize("successes, count", [(0, 10), (1, 1), (63, 100), (524, 600), (600, 600)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_equals_scipy(successes, count, confidence):
    expected = stats.binomtest(successes, count).proportion_ci(confidence, method="wilson")
    np.testing.assert_allclose(intervals.wilson_interval(successes, count, confidence), expected, atol=1e-12)


def test_wilson_keeps_its_promise():
    """The exact probability, by summing the binomial, that the interval holds the true proportion."""
    for p in (0.5, 0.8, 0.97):
        holds = [low <= p <= high for low, high in (intervals.wilson_interval(k, 600) for k in range(601))]
        assert 0.935 < stats.binom.pmf(np.arange(601), 600, p) @ holds < 0.965


def test_mean_interval_equals_the_t_test():
    values = np.random.default_rng(0).exponential(size=30)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
    np.testing.assert_allclose(intervals.mean_interval(values, 0.9), expected, rtol=1e-12)


def correlation(a, b):
    return float(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize("statistic, samples", [(np.mean, 1), (np.std, 1), (np.median, 1), (correlation, 2)])
def test_bootstrap_equals_scipy_on_the_same_resamples(statistic, samples):
    data = np.random.default_rng(1).exponential(size=(2, 41)).cumsum(axis=0)[:samples]
    key = jax.random.key(3)
    same = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    expected = stats.bootstrap(
        data, statistic, paired=True, vectorized=False, method="BCa", n_resamples=500, rng=same
    ).confidence_interval
    np.testing.assert_allclose(intervals.bootstrap_interval(key, statistic, *data, resamples=500), expected, rtol=1e-9)


def test_grouped_jackknife_gives_the_acceleration_of_single_items(monkeypatch):
    values = np.random.default_rng(2).lognormal(size=800)
    grouped = intervals.bootstrap_interval(jax.random.key(0), np.mean, values, resamples=800)
    monkeypatch.setattr(intervals, "JACKKNIFE_GROUPS", len(values))
    single = intervals.bootstrap_interval(jax.random.key(0), np.mean, values, resamples=800)
    np.testing.assert_allclose(grouped, single, atol=0.1 * (single.high - single.low))


def test_bootstrap_of_a_constant_is_the_constant_and_repeats_with_its_key():
    assert intervals.bootstrap_interval(jax.random.key(0), np.median, np.full(9, 2.5)) == (2.5, 2.5)
    values = np.random.default_rng(4).normal(size=20)
    first, again, other = (intervals.bootstrap_interval(jax.random.key(k), np.mean, values) for k in (1, 1, 2))
    assert first == again != other


def test_the_bootstrap_of_means_is_the_bootstrap_of_their_function():
    """Against our own of any statistic, and against scipy's BCa, up to what the resamples leave open."""
    values = np.random.default_rng(5).gamma(1.0, size=(60, 2))

    def ratio(means):
        return means[..., 0] / means[..., 1]

    fast = intervals.bootstrap_interval_of_means(jax.random.key(0), ratio, values, resamples=20_000)
    slow = intervals.bootstrap_interval(jax.random.key(1), lambda v: ratio(v.mean(axis=0)), values, resamples=20_000)
    theirs = stats.bootstrap(
        values.T, lambda a, b, axis: a.mean(axis) / b.mean(axis), paired=True, n_resamples=20_000, rng=6
    ).confidence_interval
    for other in (slow, theirs):
        np.testing.assert_allclose(fast, other, atol=0.04 * (fast.high - fast.low))
    assert intervals.bootstrap_interval_of_means(jax.random.key(0), ratio, values[:1]) == (-math.inf, math.inf)


def test_nothing_known_is_the_whole_range():
    assert intervals.wilson_interval(0, 0) == (0, 1)
    assert intervals.mean_interval([3.0]) == (-math.inf, math.inf)
    assert intervals.bootstrap_interval(jax.random.key(0), np.mean, [3.0]) == (-math.inf, math.inf)
    figure = intervals.mean_figure("level", [math.nan, math.inf], unit="dB")
    assert math.isnan(figure.value) and figure.count == 0 and figure.note == "2 of 2 undefined"
    assert str(figure) == "undefined dB [\u2212\u221e, \u221e] (n=0)"


def test_undefined_values_are_counted_not_averaged():
    figure = intervals.median_figure("error", [1.0, math.nan, 3.0, 2.0], jax.random.key(0), unit="Hz", note="why")
    assert (figure.value, figure.count, figure.note) == (2.0, 3, "why; 1 of 4 undefined")


@pytest.mark.parametrize(
    "figure, text",
    [
        (intervals.proportion_figure("digits", 524, 600), "87.3 % [84.4, 89.8] (n=600)"),
        (Figure("ratio", 0.9712, 0.9412, 1.0031, 600), "0.971 [0.941, 1.003] (n=600)"),
        (Figure("F0", 812.3, 633.0, 1204.0, 12, "cents"), "812 cents [633, 1204] (n=12)"),
        (Figure("exact", 2.5, 2.5, 2.5, 9), "2.50 [2.50, 2.50] (n=9)"),
        (Figure("none", 0.0, 0.0, 0.0, 9), "0.0 [0.0, 0.0] (n=9)"),
    ],
)
def test_a_figure_reads_as_it_should(figure, text):
    assert str(figure) == text


@pytest.mark.parametrize(
    "figure", [Figure("a", 1.5, 1.0, 2.0, 3, "dB", "x"), intervals.mean_figure("b", [2.0]), Figure("c", 1, 0, 2, 3)]
)
def test_figures_survive_strict_json(figure):
    text = json.dumps(figure.to_dict(), allow_nan=False)
    assert Figure.from_dict(json.loads(text)) == figure


def test_an_undefined_figure_survives_strict_json():
    text = json.dumps(intervals.mean_figure("b", []).to_dict(), allow_nan=False)
    back = Figure.from_dict(json.loads(text))
    assert math.isnan(back.value) and (back.low, back.high, back.count) == (-math.inf, math.inf, 0)


@pytest.mark.parametrize(
    "attempt, named",
    [
        (lambda: intervals.wilson_interval(7, 5), "7 successes in 5 trials"),
        (lambda: intervals.wilson_interval(1, 5, confidence=95), "confidence 95"),
        (lambda: Figure("x", 1.0, 2.0, 1.0, 3), "low must not pass high"),
        (lambda: Figure("x", 1.0, math.nan, 1.0, 3), "low must not pass high"),
        (lambda: Figure("x", 1.0, 0.0, 2.0, 0), "without items"),
        (lambda: Figure("x", math.inf, 0.0, math.inf, 4), "finite value"),
        (lambda: intervals.bootstrap_interval(jax.random.key(0), correlation, [1.0, 2.0], [1.0]), "equal counts"),
    ],
)
def test_refusals_name_value_and_mend(attempt, named):
    with pytest.raises(ValueError, match=named):
        attempt()
