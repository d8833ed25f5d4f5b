"""Sample, alias and weigh signals: the facts of Fourier analysis that the rest leans on."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from audiodiff.dsp.precision import FULL, at_least_float32
from audiodiff.types import Array


def half_spectrum_energy(power: ArrayLike, fft_samples: int) -> Array:
    """Return sum_n x[n]^2 [...] from the power |X|^2 [..., bin] of a real signal's half spectrum (Parseval).

    (1/N) sum_k c_k |X[k]|^2: every bin stands for itself and its mirror image, c = 2, but for DC and, where N is
    even, Nyquist, which are their own images, c = 1.
    """
    bins = fft_samples // 2 + 1
    power = at_least_float32(power)
    if power.shape[-1] != bins:
        raise ValueError(f"the half spectrum has {power.shape[-1]} bins, and fft_samples {fft_samples} makes {bins}")
    count = np.full(bins, 2.0)
    count[0] = 1
    if fft_samples % 2 == 0:
        count[-1] = 1
    return jnp.sum(power * count.astype(power.dtype), axis=-1) / fft_samples


def sinc_interpolate(samples: ArrayLike, positions_samples: ArrayLike) -> Array:
    """Evaluate samples [..., time] at fractional positions [position]: x(t) = sum_n x[n] sinc(t - n) (Shannon).

    Exact for a signal with nothing at or above half the sampling rate and nothing outside the clip; the cost is
    time x position. To change a rate use :func:`audiodiff.dsp.resampling.resample`.
    """
    samples = at_least_float32(samples)
    positions = jnp.asarray(positions_samples, samples.dtype)
    kernel = jnp.sinc(positions[None, :] - jnp.arange(samples.shape[-1], dtype=samples.dtype)[:, None])
    return jnp.matmul(samples, kernel, precision=FULL)


def alias_frequency_hz(frequency_hz: ArrayLike, rate_hz: float) -> np.ndarray:
    """Return where a sampled tone is heard: |f - fs round(f / fs)|, which is f itself below fs / 2."""
    if rate_hz <= 0:
        raise ValueError(f"rate_hz is {rate_hz}; it must be above 0")
    frequency = np.asarray(frequency_hz, np.float64)
    return np.abs(frequency - rate_hz * np.round(frequency / rate_hz))


def time_frequency_spread(signal: ArrayLike, rate_hz: float) -> tuple[Array, Array]:
    """Return the standard deviations (dt in s, df in Hz) [...] of |x(t)|^2 and |X(f)|^2 of a real signal [..., time].

    Their product is at least 1 / (4 pi) (Gabor, 1946), with equality for a Gaussian alone. X is taken on a grid
    eight times finer than the DFT's, and f from -fs / 2 to fs / 2, so that the mean of f is 0.
    """
    x = at_least_float32(signal)
    n = 8 * x.shape[-1]
    spectrum = jnp.abs(jnp.fft.fft(x, n)) ** 2
    times = np.arange(x.shape[-1]) / rate_hz
    frequencies = np.fft.fftfreq(n, 1 / rate_hz)
    return _deviation(times, x**2), _deviation(frequencies, spectrum)


def _deviation(values: np.ndarray, weights: Array) -> Array:
    p = weights / weights.sum(axis=-1, keepdims=True)
    values = values.astype(p.dtype)
    mean = jnp.sum(p * values, axis=-1, keepdims=True)
    return jnp.sqrt(jnp.sum(p * jnp.square(values - mean), axis=-1))
