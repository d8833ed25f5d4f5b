"""Compare two spectrograms as pictures: NSIM, the similarity at the heart of ViSQOL, on log-mel."""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import ArrayLike

from audiodiff.dsp.precision import at_least_float32, floored
from audiodiff.types import Array

# ViSQOL's window of 3 x 3, nearly a Gaussian with a standard deviation of half a pixel. The weights add up to 1.
_MIDDLE, _SIDE, _CORNER = 0.619485845753726, 0.0838251475442633, 0.0113033910173052

# SSIM's constants (0.01 L)^2 and (0.03 L)^2 / 2 for a range L of 1.
_C1, _C3 = 0.01**2, 0.03**2 / 2


def nsim(log_mel: ArrayLike, reference: ArrayLike, *, low: float, high: float) -> Array:
    """Return the neurogram similarity [...] of two log-mels [..., frame, band]; 1 for equal ones (Hines et al., 2012).

    The mean over frames and bands of intensity times structure,

    (2 mu_r mu_d + C1) / (mu_r^2 + mu_d^2 + C1)  times  (sigma_rd + C3) / (sigma_r sigma_d + C3),

    SSIM without its contrast, with means and covariances under ViSQOL's window of 3 x 3 (edges repeated),
    C1 = 0.01^2 and C3 = 0.03^2 / 2. Both log-mels are first mapped from [low, high] to [0, 1] and cut off at 0, so
    that a level has one meaning whatever the logarithm: for HiFi-GAN's mel low = ln 1e-5, high = ln 10, say. The
    figure depends on that range, and is a similarity in [-1, 1], not a MOS: ViSQOL takes gammatone spectrograms,
    aligns patches and maps to MOS.

    Differentiable, with gradient 0 below ``low``. Raises ValueError for shapes that differ or hold nothing, and unless
    low < high.
    """
    degraded, reference = at_least_float32(log_mel), at_least_float32(reference)
    if degraded.shape != reference.shape or degraded.ndim < 2 or 0 in degraded.shape[-2:]:
        raise ValueError(
            f"log-mels of shapes {degraded.shape} and {reference.shape} cannot be compared; both must be "
            "[..., frame, band], of one spec and one length, at least 1"
        )
    if not low < high:
        raise ValueError(f"low is {low} and high is {high}; low < high must hold, such as -100 and 0 dB")
    d, r = (floored((x - float(low)) / float(high - low), 0) for x in (degraded, reference))
    mean_d, mean_r = _smooth(d), _smooth(r)
    intensity = (2 * mean_r * mean_d + _C1) / (jnp.square(mean_r) + jnp.square(mean_d) + _C1)
    variances = (_smooth(r * r) - jnp.square(mean_r)) * (_smooth(d * d) - jnp.square(mean_d))
    varied = variances > 0  # the rest is constant, or rounding
    deviations = jnp.where(varied, jnp.sqrt(jnp.where(varied, variances, 1)), 0)
    structure = (_smooth(r * d) - mean_r * mean_d + _C3) / (deviations + _C3)
    return (intensity * structure).mean(axis=(-2, -1))


def _smooth(x: Array) -> Array:
    """Average [..., frame, band] under the window, with the values at the edges repeated outwards."""
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    same_frame, next_frames = x[..., 1:-1, :], x[..., :-2, :] + x[..., 2:, :]
    sides = same_frame[..., :-2] + same_frame[..., 2:] + next_frames[..., 1:-1]
    return _MIDDLE * same_frame[..., 1:-1] + _SIDE * sides + _CORNER * (next_frames[..., :-2] + next_frames[..., 2:])
