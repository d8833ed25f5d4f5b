"""Estimate the fundamental frequency of audio, frame by frame."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax.typing import ArrayLike

from audiodiff.dsp.framing import frame
from audiodiff.dsp.precision import as_audio, at_least_float32, floored, limited
from audiodiff.types import Array

# Differences below this fraction of a frame's energy are the rounding of its float32 sums and say nothing of
# periodicity; energies below the second number (an amplitude of -180 dB) are silence. Its square must not underflow.
_ROUNDING = 1e-5
_SILENCE = 1e-15


def yin(
    audio: ArrayLike,
    rate_hz: float,
    fmin_hz: float,
    fmax_hz: float,
    frame_samples: int,
    hop_samples: int,
    threshold: float = 0.1,
) -> tuple[Array, Array]:
    """Estimate F0 by YIN (de Cheveigne and Kawahara, 2002): returns f0_hz [..., frame], aperiodicity [..., frame].

    1. difference            d(tau) = sum_{j < W} (x[j] - x[j + tau])^2                      (eq. 6)
    2. cumulative mean       d'(tau) = d(tau) / ((1 / tau) sum_{i = 1}^{tau} d(i))           (eq. 8)
    3. absolute threshold    the first trough of d' below ``threshold``, else unvoiced
    4. parabolic             the trough's place from d and its depth from d', each through three points

    f0_hz is NaN where a frame is unvoiced. The aperiodicity is the depth of the chosen trough, or the least d'
    of an unvoiced frame, in [0, 1]: the part of the power that does not repeat. Frame m is centred on sample
    m hop_samples (zeros beyond the ends), so there are 1 + time // hop_samples, as many as a centred STFT has.
    W = frame_samples less the longest lag. Silence is unvoiced, and gradients through f0_hz are finite. A frame with a
    sample that is not finite has NaN for both: the aperiodicity tells it from an unvoiced one.

    Raises ValueError where 0 < fmin_hz < fmax_hz <= rate_hz / 4 fails, a frame is shorter than two periods, or a clip
    has no samples.
    """
    shortest, lags = two_periods(rate_hz, fmin_hz, fmax_hz, frame_samples)
    d, energy = _difference(centred_frames(as_audio(audio), frame_samples, hop_samples), lags)
    normalised = _normalise(d, energy)

    search = slice(shortest - 1, lags)  # with a neighbour at either end
    place, _ = vertex(d[..., search])
    _, below = vertex(normalised[..., search])
    left, middle, right = neighbours(normalised[..., search])
    depth = middle - below
    # A step in level makes a kink, not a trough, and its parabola turns anywhere: the middle must be low by itself.
    trough = (middle < left) & (middle <= right) & (middle < 0.5) & (depth < threshold)
    voiced = trough.any(axis=-1)
    chosen = jnp.where(voiced, jnp.argmax(trough, axis=-1), jnp.argmin(middle, axis=-1))[..., None]

    def at_chosen(values: Array) -> Array:
        return jnp.take_along_axis(values, chosen, axis=-1)[..., 0]

    f0_hz = rate_hz / (shortest + chosen[..., 0] + at_chosen(place))
    aperiodicity = jnp.where(voiced, at_chosen(depth), at_chosen(middle))
    return jnp.where(voiced, f0_hz, jnp.nan), limited(aperiodicity, 0, 1)


def lag_range(rate_hz: float, fmin_hz: float, fmax_hz: float) -> tuple[int, int]:
    """Return the shortest and the longest period in whole samples, floor(rate / fmax) and ceil(rate / fmin).

    Raises ValueError where 0 < fmin_hz < fmax_hz <= rate_hz / 4 fails: a period of four samples is the shortest
    that a parabola can place.
    """
    if not rate_hz > 0:
        raise ValueError(f"rate_hz is {rate_hz}; it must be above 0, such as 16000")
    if not 0 < fmin_hz < fmax_hz <= rate_hz / 4:
        raise ValueError(
            f"fmin_hz is {fmin_hz} and fmax_hz is {fmax_hz}; 0 < fmin_hz < fmax_hz <= {rate_hz / 4:g} "
            "(a quarter of rate_hz, a period of four samples) must hold"
        )
    return math.floor(rate_hz / fmax_hz), math.ceil(rate_hz / fmin_hz)


def two_periods(rate_hz: float, fmin_hz: float, fmax_hz: float, frame_samples: int) -> tuple[int, int]:
    """Return the shortest period and how many lags YIN needs: to the longest, and one beyond it for the parabola.

    Raises the errors of :func:`lag_range`, and ValueError where a frame holds fewer than twice the lags.
    """
    shortest, longest = lag_range(rate_hz, fmin_hz, fmax_hz)
    lags = longest + 2
    if frame_samples < 2 * lags:
        raise ValueError(
            f"frame_samples is {frame_samples}, shorter than two periods of fmin_hz {fmin_hz}; "
            f"take at least {2 * lags}, or raise fmin_hz"
        )
    return shortest, lags


def centred_frames(x: Array, frame_samples: int, hop_samples: int) -> Array:
    """Cut frames [..., frame, sample] of which number m is centred on sample m hop_samples, zeros beyond the ends."""
    half = frame_samples // 2
    return frame(jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(half, frame_samples - half)]), frame_samples, hop_samples)


def cumulative_mean_normalised_difference(frames: ArrayLike, lags: int) -> Array:
    """Return d'(tau) of frames [..., samples] for tau = 0 .. lags - 1, [..., lags] (de Cheveigne and Kawahara, 2002).

    d(tau) = sum_{j < W} (x[j] - x[j + tau])^2 by FFT (eq. 6), W = samples - lags + 1, and
    d'(0) = 1, d'(tau) = d(tau) / ((1 / tau) sum_{i = 1}^{tau} d(i)) (eq. 8): 0 at the period of a periodic frame,
    about 1 everywhere for noise, 1 for silence and constants, and NaN from tau = 1 on where a sample is not finite.

    Raises ValueError unless 2 <= lags <= samples / 2.
    """
    x = at_least_float32(frames)
    if not 2 <= lags <= x.shape[-1] // 2:
        raise ValueError(
            f"lags is {lags}; it must be in 2 .. {x.shape[-1] // 2}, half of a frame of {x.shape[-1]} samples"
        )
    return _normalise(*_difference(x, lags))


def _normalise(d: Array, energy: Array) -> Array:
    """Return d'(tau) of d(tau) and the energy it is a difference of."""
    # Noise of the size of rounding is added above and below, so that a constant or silent frame gives d' = 1.
    noise = _ROUNDING * energy[..., 1:] + _SILENCE
    mean = jnp.cumsum(d[..., 1:], axis=-1) / jnp.arange(1, d.shape[-1], dtype=d.dtype)
    return jnp.concatenate([jnp.ones_like(d[..., :1]), (d[..., 1:] + noise) / (mean + noise)], axis=-1)


def _difference(frames: Array, lags: int) -> tuple[Array, Array]:
    """Return d(tau) for tau = 0 .. lags - 1 and the energy it is a difference of, [..., frame, lag] each.

    d(tau) = e(0) + e(tau) - 2 r(tau), with the correlation r by FFT. The mean is taken out first: d does not
    depend on it, and the subtraction loses fewer digits without it.
    """
    frames = frames - frames.mean(axis=-1, keepdims=True)
    samples = frames.shape[-1]
    window = samples - lags + 1
    n = 1 << (samples - 1).bit_length()
    correlation = jnp.fft.irfft(jnp.conj(jnp.fft.rfft(frames[..., :window], n)) * jnp.fft.rfft(frames, n), n)
    total = jnp.cumsum(jnp.square(frames), axis=-1)
    total = jnp.concatenate([jnp.zeros_like(total[..., :1]), total], axis=-1)
    energy = total[..., window : window + lags] - total[..., :lags] + total[..., window, None]
    return floored(energy - 2 * correlation[..., :lags], 0), energy


def neighbours(y: Array) -> tuple[Array, Array, Array]:
    """Return the points to the left of each inner point, the inner points, and those to their right."""
    return y[..., :-2], y[..., 1:-1], y[..., 2:]


def vertex(y: Array) -> tuple[Array, Array]:
    """Return how far to the side of and how far below each inner point the parabola through three points turns."""
    left, middle, right = neighbours(y)
    curvature = left + right - 2 * middle
    convex = curvature > 0
    safe = jnp.where(convex, curvature, 1)
    side = jnp.where(convex, jnp.clip((left - right) / (2 * safe), -1, 1), 0)
    below = jnp.where(convex, jnp.square(left - right) / (8 * safe), 0)
    return side, below
