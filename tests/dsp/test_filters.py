"""Hold the filters against scipy's, and de-emphasis against undoing pre-emphasis whatever the audio."""

import jax
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from audiodiff import dsp

LENGTH = 67
audio = arrays(np.float32, LENGTH, elements=st.floats(-1, 1, width=32))
coefficients = st.floats(-0.99, 0.99)


@pytest.mark.parametrize("coefficient", [0.97, -0.5, 0.0])
@pytest.mark.parametrize("length", [1, 2, 1000])
def test_both_equal_scipy_lfilter(coefficient, length):
    x = np.random.default_rng(0).normal(size=(2, length))
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            dsp.preemphasis(x, coefficient), scipy.signal.lfilter([1, -coefficient], [1], x), atol=1e-12
        )
        np.testing.assert_allclose(
            dsp.deemphasis(x, coefficient), scipy.signal.lfilter([1], [1, -coefficient], x), atol=1e-12
        )


@settings(max_examples=40, deadline=None)
@given(audio, coefficients)
def test_deemphasis_undoes_preemphasis(x, coefficient):
    np.testing.assert_allclose(dsp.deemphasis(dsp.preemphasis(x, coefficient), coefficient), x, atol=1e-4)
    np.testing.assert_allclose(dsp.preemphasis(dsp.deemphasis(x, coefficient), coefficient), x, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(audio, st.integers(0, LENGTH - 1))
def test_both_are_causal(x, place):
    later = x.copy()
    later[place:] += 1
    for f in (dsp.preemphasis, dsp.deemphasis):
        np.testing.assert_array_equal(f(x)[:place], f(later)[:place])


def test_gradient_is_the_transposed_filter():
    """<D x, y> = <x, D^T y>, with D^T the same filter run backwards."""
    y = np.random.default_rng(1).normal(size=50).astype(np.float32)
    for f in (dsp.preemphasis, dsp.deemphasis):
        transposed = jax.jit(jax.grad(lambda x, f=f: f(x) @ y))(np.zeros(50, np.float32))
        np.testing.assert_allclose(transposed, f(y[::-1])[::-1], atol=1e-5)


def test_jit_and_disabled_jit_agree():
    x = np.random.default_rng(2).normal(size=100).astype(np.float32)
    jitted = jax.jit(dsp.deemphasis, static_argnums=1)(x, 0.9)
    with jax.disable_jit():
        np.testing.assert_allclose(dsp.deemphasis(x, 0.9), jitted, atol=1e-5)


@pytest.mark.parametrize("f", [dsp.preemphasis, dsp.deemphasis])
@pytest.mark.parametrize("coefficient", [1.0, -1.5, float("nan")])
def test_an_unstable_coefficient_is_refused(f, coefficient):
    with pytest.raises(ValueError, match=f"coefficient is {coefficient}; it must lie between -1 and 1"):
        f(np.zeros(4), coefficient)


# --- equalise

GAINS_DB = (-6.0, 0.0, 12.0, 20.0)


@pytest.mark.parametrize("length", [96, 99])
def test_equalise_scales_a_tone_by_the_gain_at_its_frequency_and_keeps_its_phase(length):
    """Tones at whole bins; the gains stand at 0, 1/3, 2/3 and 1 of half the rate, and in dB lie on lines between."""
    n = np.arange(length)
    for bin_index in (0, 7, length // 6, length // 2):
        tone = np.cos(2 * np.pi * bin_index * n / length + 0.3)
        place = 3 * bin_index / (length / 2)
        left = min(int(place), 2)
        gain_db = GAINS_DB[left] + (place - left) * (GAINS_DB[left + 1] - GAINS_DB[left])
        with jax.enable_x64(True):
            np.testing.assert_allclose(dsp.equalise(tone, GAINS_DB), 10 ** (gain_db / 20) * tone, atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(arrays(np.float64, 51, elements=st.floats(-1, 1)), st.lists(st.floats(-30, 30), min_size=2, max_size=6))
def test_negated_gains_undo_equalise(x, gains_db):
    with jax.enable_x64(True):
        back = dsp.equalise(dsp.equalise(x, tuple(gains_db)), tuple(-gain for gain in gains_db))
    np.testing.assert_allclose(back, x, atol=1e-12)


def test_equal_gains_equalise_nothing_but_the_level():
    x = np.random.default_rng(3).normal(size=(2, 3, 50)).astype(np.float32)
    np.testing.assert_allclose(dsp.equalise(x, (20.0, 20.0)), 10 * x, rtol=1e-4, atol=1e-5)


def test_one_gain_is_refused():
    with pytest.raises(ValueError, match="gains_db has 1 entries; give at least two"):
        dsp.equalise(np.zeros(4), (3.0,))
