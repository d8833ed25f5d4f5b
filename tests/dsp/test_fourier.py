"""Show the theorems on sampling, energy and uncertainty by computing both of their sides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff import dsp

sinc_interpolate = jax.jit(dsp.sinc_interpolate)
time_frequency_spread = jax.jit(dsp.time_frequency_spread)


def _band_limited(times):
    """A tone of 0.17 cycles per sample under a Gaussian of 12 samples: nothing of size 1e-12 from 0.25 cycles on."""
    return np.exp(-0.5 * ((times - 128) / 12) ** 2) * np.cos(2 * np.pi * 0.17 * times + 0.3)


def test_sinc_interpolation_reconstructs_a_band_limited_signal():
    """Ledger row 1: at half the rate that would alias it, the error between samples is below 1e-6."""
    positions = np.random.default_rng(0).uniform(30, 226, 200)
    with jax.enable_x64(True):
        reconstructed = np.asarray(sinc_interpolate(_band_limited(np.arange(256)), positions))
        undersampled = np.asarray(sinc_interpolate(_band_limited(np.arange(0, 256, 4)), positions / 4))
    np.testing.assert_allclose(reconstructed, _band_limited(positions), atol=1e-6)
    assert np.abs(undersampled - _band_limited(positions)).max() > 0.1  # 0.17 cycles are above 1 / 8


@pytest.mark.parametrize("frequency_hz", [900, 3999, 4001, 5000, 7900, 8000, 12500, 21000])
def test_a_tone_above_half_the_rate_appears_at_its_alias(frequency_hz):
    """Ledger row 1: the peak of the spectrum lies within one bin of the predicted place."""
    rate, n = 8000, 800
    x = np.cos(2 * np.pi * frequency_hz * np.arange(n) / rate)
    peak = np.argmax(np.abs(np.fft.rfft(x))) * rate / n
    assert abs(peak - dsp.alias_frequency_hz(frequency_hz, rate)) <= rate / n


def test_a_tone_at_exactly_half_the_rate_is_lost():
    """Ledger row 1: fs = 2 f does not do; amplitude and phase leave the same samples, a sine leaves none."""
    n = np.arange(64)
    np.testing.assert_allclose(np.sin(2 * np.pi * 0.5 * n), 0, atol=1e-12)
    half, shifted = 0.5 * np.cos(np.pi * n), np.cos(np.pi * n + np.pi / 3)
    np.testing.assert_allclose(half, shifted, atol=1e-12)
    between = n[20:40] + 0.25
    with jax.enable_x64(True):
        reconstructed = np.asarray(sinc_interpolate(shifted, between))
    assert np.abs(reconstructed - np.cos(np.pi * between + np.pi / 3)).max() > 0.3


@pytest.mark.parametrize("n", [1, 2, 7, 8, 255, 256])
def test_parseval_on_the_half_spectrum(n):
    """Ledger row 3: doubling all bins but DC and an even length's Nyquist gives the energy of the samples."""
    x = np.random.default_rng(n).normal(size=(3, n))
    with jax.enable_x64(True):
        spectrum = dsp.stft(x, dsp.StftSpec(n, n, window="rectangular", padding="none"))
        energy = jax.jit(lambda z: dsp.half_spectrum_energy(dsp.power(z), n))(spectrum)
    full = np.sum(np.abs(np.fft.fft(x)) ** 2, axis=-1) / n
    np.testing.assert_allclose(np.asarray(energy)[:, 0] / np.sum(x**2, axis=-1), 1, atol=1e-10)
    np.testing.assert_allclose(full / np.sum(x**2, axis=-1), 1, atol=1e-10)


def test_uncertainty_is_least_for_a_gaussian():
    """Ledger row 6: dt df = 1 / (4 pi) for a Gaussian, more for everything else."""
    bound = 1 / (4 * np.pi)
    with jax.enable_x64(True):
        dt, df = time_frequency_spread(dsp.gaussian(512, sigma_samples=32), 8000)
        assert dt * df == pytest.approx(bound, abs=1e-4 * bound)
        assert dt == pytest.approx(32 / np.sqrt(2) / 8000, rel=1e-6)
        for name in ("hann", "hamming", "blackman", "rectangular"):
            dt, df = time_frequency_spread(dsp.window(name, 512), 8000)
            assert dt * df > 1.001 * bound, name


def test_a_narrower_window_is_wider_in_frequency():
    """Ledger row 6: half as long in time, twice as wide in frequency."""
    with jax.enable_x64(True):
        dt, df = np.transpose([time_frequency_spread(dsp.hann(n), 1.0) for n in (128, 256, 512)])
    np.testing.assert_allclose(dt[1:] / dt[:-1], 2, rtol=0.02)
    np.testing.assert_allclose(df[:-1] / df[1:], 2, rtol=0.02)


def test_errors_name_value_and_limit():
    with pytest.raises(ValueError, match="has 5 bins, and fft_samples 16 makes 9"):
        dsp.half_spectrum_energy(jnp.ones(5), 16)
    with pytest.raises(ValueError, match="rate_hz is 0; it must be above 0"):
        dsp.alias_frequency_hz(100, 0)
