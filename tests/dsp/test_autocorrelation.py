"""Hold autocorrelation pitch against signals of known pitch, numpy's correlation, and Praat."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.dsp import autocorrelation

RATE, FRAME, HOP = 8000, 512, 256
TIMES = np.arange(3000) / RATE
INSIDE = slice(2, -2)  # frames that the clip fills

track = jax.jit(functools.partial(
    autocorrelation.autocorrelation_pitch,
    rate_hz=RATE, fmin_hz=60.0, fmax_hz=500.0, frame_samples=FRAME, hop_samples=HOP,
))  # fmt: skip


def _harmonics(f0_hz, amplitudes):
    return sum(a * np.sin(2 * np.pi * (k + 1) * f0_hz * TIMES + k) for k, a in enumerate(amplitudes)).astype(np.float32)


@pytest.mark.parametrize("f0_hz", [80.0, 127.3, 313.0, 399.9])
@pytest.mark.parametrize("harmonics", ["sine", "up to half the rate"])
@pytest.mark.parametrize("gain", [1.0, 1e-4])
def test_tones_are_found_to_a_fifth_of_a_cent(f0_hz, harmonics, gain):
    """A tenth of the half a percent that is asked for; narrow peaks between samples are where others lose octaves."""
    count = 1 if harmonics == "sine" else int(3900 // f0_hz)
    f0, periodicity = track(gain * _harmonics(f0_hz, [1.0] * count) + 0.3 * gain)
    np.testing.assert_allclose(f0[INSIDE], f0_hz, rtol=1.2e-4)
    assert periodicity[INSIDE].min() > 0.99 and periodicity.max() <= 1


@pytest.mark.parametrize(
    "amplitudes",
    [[0, 0, 1, 1, 1, 0.5], [0.3, 1], [0, 1, 1, 0, 1]],
    ids=["missing fundamental", "strong octave above", "missing fundamental, second harmonic first"],
)
def test_no_octave_trap(amplitudes):
    f0, _ = track(_harmonics(110.0, amplitudes))
    np.testing.assert_allclose(f0[INSIDE], 110.0, rtol=5e-3)


def test_noise_silence_and_constants_are_unvoiced():
    noise = np.random.default_rng(0).normal(size=(20, len(TIMES))).astype(np.float32)
    f0, periodicity = track(noise)
    assert np.isnan(f0).all() and periodicity.max() < 0.45
    for level in (0.0, 0.3):
        f0, periodicity = track(np.full(len(TIMES), level, np.float32))
        assert np.isnan(f0).all() and not periodicity.any()


def test_a_tone_under_the_silence_threshold_is_unvoiced_and_its_periodicity_told():
    gain = np.where(np.arange(len(TIMES)) < 1500, 1, 0.01).astype(np.float32)
    f0, periodicity = track(gain * _harmonics(150.0, [1.0]))
    np.testing.assert_allclose(f0[2:5], 150.0, rtol=5e-3)
    assert np.isnan(f0[8:-1]).all() and periodicity[8:-2].min() > 0.99


@pytest.mark.parametrize("noise_share", [0.1, 0.3])
def test_periodicity_is_the_share_of_the_power_that_repeats(noise_share):
    noise = np.random.default_rng(1).normal(size=(20, len(TIMES))).astype(np.float32)
    x = np.sqrt(2 * (1 - noise_share)) * _harmonics(125.0, [1.0]) + np.sqrt(noise_share) * noise
    _, periodicity = track(x)
    # A little above, since the higher of two periods in the range is taken.
    assert np.median(periodicity[:, INSIDE]) == pytest.approx(1 - noise_share, abs=0.15 * noise_share)


def test_the_window_is_divided_out():
    """At whole lags it is the ratio of two correlations by numpy; of a sine, a cosine that does not decay."""
    from scipy.signal.windows import hann

    x, w = _harmonics(200.0, [1.0])[:FRAME].astype(np.float64), hann(FRAME, sym=False)
    r = jax.jit(autocorrelation.normalised_autocorrelation, static_argnums=1)(x, 150)
    correlation = [np.correlate(y, y, "full")[FRAME - 1 :][:150] for y in (w * (x - x.mean()), w)]
    expected = correlation[0] / correlation[0][0] * correlation[1][0] / correlation[1]
    np.testing.assert_allclose(r[::4], expected, atol=1e-6)
    np.testing.assert_allclose(r, np.cos(2 * np.pi * 200 / RATE * np.arange(597) / 4), atol=0.01)


def test_agrees_with_praat():
    """Constants: Praat 6.1.38 (parselmouth 0.4.7), "To Pitch (ac)", 0.04 s, 75 to 500 Hz, both costs of change 0.

    A vowel that glides over an octave in an inharmonic chirp and falls silent at 0.4 s.
    """
    praat_hz = [114.5578, 121.1335, 128.1326, 135.5615, 143.1899, 151.2801, 159.9312, 169.1010, 178.6308, 188.8229]
    praat_strength = [0.99166, 0.99010, 0.99120, 0.98641, 0.98917, 0.98966, 0.98850, 0.98691, 0.98797, 0.92908]
    t = np.arange(4000) / RATE
    phase = 2 * np.pi * np.cumsum(110 * 2 ** (t / t[-1])) / RATE
    x = sum(np.sin(k * phase + k) / k for k in range(1, 9)) * np.where(t < 0.4, 1, 0.003) + 0.1 * np.sin(7e5 * t * t)
    praat_like = functools.partial(
        autocorrelation.autocorrelation_pitch,
        rate_hz=RATE,
        fmin_hz=75.0,
        fmax_hz=500.0,
        frame_samples=322,
        hop_samples=80,
    )
    f0, periodicity = jax.jit(praat_like)(x.astype(np.float32))
    f0, periodicity = f0[3:48:4], periodicity[3:48:4]  # 0.03 s, 0.07 s, ..
    np.testing.assert_allclose(f0[:10], praat_hz, rtol=5e-4)
    np.testing.assert_allclose(periodicity[:10], praat_strength, atol=5e-3)
    assert np.isnan(f0[10:]).all() and len(f0) == 12


def test_gradients_are_finite_where_nothing_is_voiced_and_right_where_it_is():
    def total(x):
        f0, periodicity = track(x)
        return jnp.nansum(f0) + periodicity.sum()

    gradient = jax.jit(jax.grad(total))
    for level in (0.0, 0.3):
        assert np.isfinite(gradient(jnp.full(len(TIMES), level))).all()

    def middle_f0(speed):
        return track(jnp.sin(speed * 2 * jnp.pi * 150.0 * TIMES.astype(np.float32)))[0][5]

    assert jax.jit(jax.grad(middle_f0))(1.0) == pytest.approx(150.0, rel=0.02)


def test_leading_axes_and_disabled_jit():
    x = np.stack([_harmonics(90.0, [1.0]), _harmonics(250.0, [1.0])])[:, None]
    f0, _ = track(x)
    assert f0.shape == (2, 1, 1 + len(TIMES) // HOP)
    np.testing.assert_allclose(f0[:, 0, 5], [90, 250], rtol=5e-3)
    with jax.disable_jit():
        plain, _ = autocorrelation.autocorrelation_pitch(x[0, 0, :1200], RATE, 60.0, 500.0, FRAME, HOP)
    np.testing.assert_allclose(plain[1:3], 90, rtol=5e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 60, 500, 512, 256), "rate_hz is 0; it must be above 0"),
        ((8000, 500, 60, 512, 256), "fmin_hz is 500 and fmax_hz is 60; 0 < fmin_hz < fmax_hz <= 2000"),
        ((8000, 60, 2001, 512, 256), "fmax_hz is 2001"),
        (
            (8000, 60, 500, 400, 256),
            "frame_samples is 400, shorter than three periods of fmin_hz 60; take at least 402",
        ),
        ((8000, 60, 500, 512, 0), "hop_samples is 0; it must be at least 1"),
        ((8000, 60, 500, 512, 256, 0.45, 0.0), "silence_threshold is 0.0; it must be above 0"),
    ],
)
def test_errors_name_value_and_limit(arguments, message):
    with pytest.raises(ValueError, match=message):
        autocorrelation.autocorrelation_pitch(jnp.zeros(1000), *arguments)


def test_lags_beyond_half_a_frame_are_refused():
    with pytest.raises(ValueError, match=r"lags is 51; it must be in 1 .. 50, half of a frame of 100 samples"):
        autocorrelation.normalised_autocorrelation(jnp.zeros(100), 51)
