"""Hold YIN against signals of known pitch, and against librosa's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff import dsp

RATE, FRAME, HOP = 8000, 512, 256
TIMES = np.arange(3000) / RATE
INSIDE = slice(2, -2)  # frames that the clip fills

yin = jax.jit(functools.partial(
    dsp.yin, rate_hz=RATE, fmin_hz=60.0, fmax_hz=500.0, frame_samples=FRAME, hop_samples=HOP
))  # fmt: skip


def _harmonics(f0_hz, amplitudes):
    return sum(a * np.sin(2 * np.pi * (k + 1) * f0_hz * TIMES + k) for k, a in enumerate(amplitudes)).astype(np.float32)


@pytest.mark.parametrize("f0_hz", [80.0, 100.0, 127.3, 201.7, 313.0, 399.9])
@pytest.mark.parametrize("gain", [1.0, 1e-4])
def test_sines_are_found_to_half_a_percent(f0_hz, gain):
    """Without interpolation 399.9 Hz would read 400 or 421."""
    f0, aperiodicity = yin(gain * _harmonics(f0_hz, [1.0]))
    np.testing.assert_allclose(f0[INSIDE], f0_hz, rtol=5e-3)
    assert aperiodicity[INSIDE].max() < 0.01


@pytest.mark.parametrize(
    "amplitudes",
    [[0, 0, 1, 1, 1, 0.5], [0.3, 1], [1, 1, 1, 1, 1], [1]],
    ids=["missing fundamental", "strong octave above", "flat", "sine: twice the period fits as well"],
)
def test_no_octave_trap(amplitudes):
    f0, _ = yin(_harmonics(110.0, amplitudes))
    np.testing.assert_allclose(f0[INSIDE], 110.0, rtol=5e-3)


def test_a_glide_is_followed():
    f0_hz = 100 * 2 ** (TIMES / TIMES[-1])
    x = np.sin(2 * np.pi * np.cumsum(f0_hz) / RATE).astype(np.float32)
    f0, _ = yin(x)
    centres = np.arange(len(f0)) * HOP
    np.testing.assert_allclose(f0[INSIDE], f0_hz[centres[INSIDE]], rtol=0.03)


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_noise_silence_and_constants_are_unvoiced(offset):
    noise = np.random.default_rng(0).normal(size=len(TIMES)).astype(np.float32)
    f0, aperiodicity = yin(noise + offset)
    assert np.isnan(f0).all() and aperiodicity.min() > 0.3
    f0, aperiodicity = yin(np.full(len(TIMES), offset, np.float32))
    assert np.isnan(f0).all()
    np.testing.assert_allclose(aperiodicity[INSIDE], 1, atol=0.1)


def test_aperiodicity_is_the_noise_share_of_the_power():
    """Noise of a tenth of the power: d' at the period is near 0.1."""
    rng = np.random.default_rng(1)
    x = _harmonics(125.0, [1.0]) + np.sqrt(0.5 / 9) * rng.normal(size=len(TIMES)).astype(np.float32)
    _, aperiodicity = yin(x)
    assert 0.05 < np.median(aperiodicity[INSIDE]) < 0.15


@pytest.mark.oracle
def test_agrees_with_librosa_on_a_harmonic_tone_in_noise():
    librosa = pytest.importorskip("librosa")
    x = _harmonics(163.0, [1, 0.5, 0.3]) + 0.01 * np.random.default_rng(2).normal(size=len(TIMES)).astype(np.float32)
    theirs = librosa.yin(x, fmin=60, fmax=500, sr=RATE, frame_length=FRAME, hop_length=HOP)
    ours, _ = yin(x)
    assert ours.shape == theirs.shape == (1 + len(TIMES) // HOP,)
    np.testing.assert_allclose(ours[INSIDE], theirs[INSIDE], rtol=5e-3)


def test_gradients_are_finite_where_nothing_is_voiced_and_right_where_it_is():
    """A faster tone has a higher f0: d f0 / d speed = f0 for sin(speed w t), through the audio."""

    def total(x):
        f0, aperiodicity = yin(x)
        return jnp.nansum(f0) + aperiodicity.sum()

    gradient = jax.jit(jax.grad(total))
    for level in (0.0, 0.3):
        assert np.isfinite(gradient(jnp.full(len(TIMES), level))).all()

    def middle_f0(speed):
        return yin(jnp.sin(speed * 2 * jnp.pi * 150.0 * TIMES.astype(np.float32)))[0][5]

    assert jax.jit(jax.grad(middle_f0))(1.0) == pytest.approx(150.0, rel=0.05)


def test_leading_axes_and_disabled_jit():
    x = np.stack([_harmonics(90.0, [1.0]), _harmonics(250.0, [1.0])])
    f0, _ = yin(x)
    np.testing.assert_allclose(f0[:, 5], [90, 250], rtol=5e-3)
    with jax.disable_jit():
        plain, _ = dsp.yin(x[0, :1000], RATE, 60.0, 500.0, FRAME, HOP)
    np.testing.assert_allclose(plain[1:3], 90, rtol=5e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 60, 500, 512, 256), "rate_hz is 0; it must be above 0"),
        ((8000, 500, 60, 512, 256), "fmin_hz is 500 and fmax_hz is 60; 0 < fmin_hz < fmax_hz <= 2000"),
        ((8000, 60, 2001, 512, 256), "fmax_hz is 2001"),
        ((8000, 60, 500, 200, 256), "frame_samples is 200, shorter than two periods of fmin_hz 60; take at least 272"),
        ((8000, 60, 500, 512, 0), "hop_samples is 0; it must be at least 1"),
    ],
)
def test_errors_name_value_and_limit(arguments, message):
    with pytest.raises(ValueError, match=message):
        dsp.yin(jnp.zeros(1000), *arguments)
