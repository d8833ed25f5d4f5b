"""Measure how far an estimate's spectrum is from a target's: one number per clip, differentiable by the estimate.

Audio [..., time] in, [...] out, so that a loss takes its (weighted) mean and a metric keeps every clip. Gradients are
finite, at silence and between equal clips too, and a NaN in a frame makes its clip's distance NaN. Floors are for
audio in [-1, 1] and a spectrum without scaling. Every function raises ValueError where shapes differ, where a clip
is empty, and where :func:`stft` or :func:`log_mel` refuse one too short for their padding or first frame; one shorter
than a window that they take is measured with the zeros around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from audiodiff.dsp.choices import check_choice
from audiodiff.dsp.mel import MelSpec, log_mel
from audiodiff.dsp.precision import at_least_float32, floored
from audiodiff.dsp.stft import StftSpec, power, stft
from audiodiff.types import Array

Convergence = Literal["clip", "frame"]


def log_spectral_distance(estimate: ArrayLike, target: ArrayLike, spec: StftSpec, floor: float = 1e-10) -> Array:
    """Return the log-spectral distance in dB: mean_m sqrt(mean_k (10 log10 (S[m, k] / S'[m, k]))^2).

    S = max(|X|^2, floor) (Gray and Markel, 1976, the root-mean-square distance of log spectra). Symmetric; a clip
    and the same clip times g are 20 |log10 g| apart where both lie above the floor. Against silence it measures the
    distance to the floor, which is a choice and no property of the clip.
    """
    return _safe_sqrt(_squared_db(estimate, target, spec, floor).mean(axis=-1)).mean(axis=-1)


def band_log_spectral_distance(
    estimate: ArrayLike,
    target: ArrayLike,
    spec: StftSpec,
    rate_hz: float,
    edges_hz: tuple[float, ...],
    floor: float = 1e-10,
) -> Array:
    """Return :func:`log_spectral_distance` within bands of frequency, [..., band] in dB.

    Band b holds the bins with edges_hz[b] <= f < edges_hz[b + 1], the last one its upper edge as well. Raises
    ValueError for edges that do not rise, leave [0, rate_hz / 2], or hold no bin between them.
    """
    if len(edges_hz) < 2 or np.any(np.diff(edges_hz) <= 0) or edges_hz[0] < 0 or edges_hz[-1] > rate_hz / 2:
        raise ValueError(
            f"edges_hz is {edges_hz}; give two or more rising frequencies from 0 to {rate_hz / 2:g} Hz, half of rate_hz"
        )
    bins_hz = np.arange(spec.bins) * (rate_hz / spec.fft_samples)
    starts = np.searchsorted(bins_hz, edges_hz)
    starts[-1] = np.searchsorted(bins_hz, edges_hz[-1], side="right")
    if np.any(np.diff(starts) < 1):
        raise ValueError(
            f"edges_hz is {edges_hz}, and one of its bands holds no bin: with {spec.fft_samples} samples at {rate_hz} "
            f"Hz a bin comes every {rate_hz / spec.fft_samples:g} Hz; take wider bands or a longer FFT"
        )
    squared_db = _squared_db(estimate, target, spec, floor)
    frames_db = [_safe_sqrt(squared_db[..., i:j].mean(axis=-1)) for i, j in pairwise(starts)]
    return jnp.stack(frames_db, axis=-1).mean(axis=-2)


@dataclass(frozen=True)
class MultiResolutionSpec:
    """Hold one published convention of the multi-resolution STFT distance; frozen, hashable, plain values only.

    stfts        The resolutions, averaged.
    power_floor  Magnitudes are sqrt(max(|X|^2, power_floor)).
    convergence  Over what the ratio of norms runs: a whole ``clip``, or each ``frame`` and then the mean. By frames
                 a quiet one weighs as much as a loud one, and one that is silent in the target alone outweighs all.

    Raises ValueError for no resolution, a floor that is not above 0, or an unknown convergence.
    """

    stfts: tuple[StftSpec, ...]
    power_floor: float
    convergence: Convergence = "clip"

    def __post_init__(self) -> None:
        if not self.stfts:
            raise ValueError("stfts is empty; give at least one StftSpec")
        if not self.power_floor > 0:
            raise ValueError(f"power_floor is {self.power_floor}; silence has no logarithm, take one such as 1e-8")
        check_choice("convergence", self.convergence, get_args(Convergence))


_YAMAMOTO = tuple(
    StftSpec(fft, hop, samples, pad_mode="reflect", pad_end=False)
    for fft, hop, samples in ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
)

MULTI_RESOLUTION_PRESETS: Mapping[str, MultiResolutionSpec] = {
    # csteinmetz1/auraloss 0.4.0, freq.py, on one clip. Of a batch that release takes one norm over all clips.
    "auraloss": MultiResolutionSpec(_YAMAMOTO, power_floor=1e-8),
    # kan-bayashi/ParallelWaveGAN, losses/stft_loss.py: SpectralConvergenceLoss as it is, again on one clip ...
    "parallel_wavegan": MultiResolutionSpec(_YAMAMOTO, power_floor=1e-7),
    # ... and its first form, SpectralConvergengeLoss (so spelt), with a norm for each frame.
    "parallel_wavegan_frames": MultiResolutionSpec(_YAMAMOTO, power_floor=1e-7, convergence="frame"),
}
"""Published multi-resolution STFT distances by name: the same resolutions, other floors and other norms."""


class StftTerms(NamedTuple):
    """Hold the two terms of an STFT distance, [...] each."""

    spectral_convergence: Array
    log_magnitude: Array


def multi_resolution_stft_terms(estimate: ArrayLike, target: ArrayLike, spec: MultiResolutionSpec) -> StftTerms:
    """Return both terms of the multi-resolution STFT distance, each averaged over the resolutions.

    spectral_convergence = ||Y - X||_F / ||Y||_F, log_magnitude = mean_{m, k} |ln Y - ln X| (Yamamoto et al., 2020),
    X and Y the floored magnitudes of estimate and target. The target is the measure: the first term is not
    symmetric, 1 for a silent estimate (but for the floor), and a ratio to the floor for a silent target.
    """
    estimate, target = _pair(estimate, target)
    terms = [_stft_terms(estimate, target, each, spec) for each in spec.stfts]
    return StftTerms(*(sum(term[1:], start=term[0]) / len(term) for term in zip(*terms, strict=True)))


def multi_resolution_stft_distance(estimate: ArrayLike, target: ArrayLike, spec: MultiResolutionSpec) -> Array:
    """Return the sum of both :func:`multi_resolution_stft_terms`, the loss of Parallel WaveGAN and its descendants."""
    terms = multi_resolution_stft_terms(estimate, target, spec)
    return terms.spectral_convergence + terms.log_magnitude


def mel_distance(estimate: ArrayLike, target: ArrayLike, spec: MelSpec) -> Array:
    """Return mean_{m, b} |log_mel(estimate) - log_mel(target)|, in the unit of ``spec.log`` (HiFi-GAN's mel loss)."""
    estimate, target = _pair(estimate, target)
    return jnp.abs(log_mel(estimate, spec) - log_mel(target, spec)).mean(axis=(-2, -1))


def complex_stft_distance(estimate: ArrayLike, target: ArrayLike, spec: StftSpec) -> Array:
    """Return mean_{m, k} |Re(X - Y)| + |Im(X - Y)|, APNet's L_R + L_I (Ai and Ling, 2023): phase counts in full.

    A clip with its sign turned is twice as far from itself as silence is.
    """
    estimate, target = _pair(estimate, target)
    difference = stft(estimate - target, spec)
    return (jnp.abs(difference.real) + jnp.abs(difference.imag)).mean(axis=(-2, -1))


def phase(spectrum: Array) -> Array:
    """Return the angle of a complex spectrum in radians, with value and gradient 0 where there is none."""
    # "Not below", so that a NaN goes through; the bound keeps the 1 / |X|^2 of the gradient finite.
    defined = ~(power(spectrum) <= jnp.finfo(spectrum.real.dtype).tiny)
    return jnp.arctan2(jnp.where(defined, spectrum.imag, 0.0), jnp.where(defined, spectrum.real, 1.0))


def anti_wrap(angle: ArrayLike) -> Array:
    """Return |x - 2 pi round(x / (2 pi))|, how far an angle is from a whole turn, in [0, pi] (Ai and Ling, 2023)."""
    x = at_least_float32(angle)
    return jnp.abs(x - 2 * jnp.pi * jnp.round(x / (2 * jnp.pi)))


class PhaseErrors(NamedTuple):
    """Hold the mean anti-wrapped errors of a phase, [...] each, in radians from 0 to pi; random phase has pi / 2.

    ``group_delay`` is per bin (a delay by d samples has 2 pi d / N), ``instantaneous_frequency`` per hop.
    """

    instantaneous_phase: Array
    group_delay: Array
    instantaneous_frequency: Array


def phase_errors(estimate: ArrayLike, target: ArrayLike, counted: ArrayLike | None = None) -> PhaseErrors:
    """Return the errors of phases [..., frame, bin] in radians: of themselves, and of their steps along bin and frame.

    With f = :func:`anti_wrap` and d = estimate - target: mean f(d), mean f(d[m, k + 1] - d[m, k]) and
    mean f(d[m + 1, k] - d[m, k]), the three terms of APNet and its descendants. Their code adds a step from zero to
    the first bin or frame, a phase again, which is left out here. What frequency a bin expects cancels in d.

    ``counted``, boolean of the same shape, tells where phases mean something; a step counts where both its ends do.
    An error over nothing is NaN with gradient 0, so are the steps of a single bin or frame.
    """
    estimate, target = at_least_float32(estimate), at_least_float32(target)
    counted = jnp.ones(target.shape, bool) if counted is None else jnp.asarray(counted, bool)
    if not estimate.shape == target.shape == counted.shape or target.ndim < 2:
        shapes = f"{estimate.shape}, {target.shape} and {counted.shape}"
        raise ValueError(f"phases and counted of {shapes} cannot be compared; give one shape [..., frame, bin]")
    d = estimate - target
    return PhaseErrors(
        _mean_where(anti_wrap(d), counted),
        _mean_where(anti_wrap(d[..., 1:] - d[..., :-1]), counted[..., 1:] & counted[..., :-1]),
        _mean_where(anti_wrap(d[..., 1:, :] - d[..., :-1, :]), counted[..., 1:, :] & counted[..., :-1, :]),
    )


def stft_phase_errors(estimate: ArrayLike, target: ArrayLike, spec: StftSpec, power_floor: float = 1e-6) -> PhaseErrors:
    """Return :func:`phase_errors` of two clips, over the bins where both powers |X|^2 exceed ``power_floor``.

    Below it a phase is that of rounding or of nothing. NaN for a clip in which no bin counts, such as silence.
    """
    estimate, target = _pair(estimate, target)
    x, y = stft(estimate, spec), stft(target, spec)
    quiet = (power(x) <= power_floor) | (power(y) <= power_floor)  # false for a NaN, which must count
    return phase_errors(phase(x), phase(y), ~quiet)


def _pair(estimate: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    estimate, target = at_least_float32(estimate), at_least_float32(target)
    if estimate.shape != target.shape or target.shape[-1:] in ((), (0,)):
        raise ValueError(
            f"an estimate of shape {estimate.shape} cannot be compared with a target of shape {target.shape}; give "
            "both [..., time] of one length, at least 1, cropped or padded and aligned before"
        )
    return estimate, target


def _squared_db(estimate: ArrayLike, target: ArrayLike, spec: StftSpec, floor: float) -> Array:
    """Return (10 log10 (S / S'))^2 of the floored powers, [..., frame, bin]."""
    if not floor > 0:
        raise ValueError(f"floor is {floor}; silence has no logarithm, take a floor above 0, such as 1e-10")
    x, y = (_floored_power(audio, spec, floor) for audio in _pair(estimate, target))
    return jnp.square(10 * jnp.log10(x / y))


def _stft_terms(estimate: Array, target: Array, stft_spec: StftSpec, spec: MultiResolutionSpec) -> StftTerms:
    x, y = (jnp.sqrt(_floored_power(audio, stft_spec, spec.power_floor)) for audio in (estimate, target))
    over = (-2, -1) if spec.convergence == "clip" else -1
    convergence = _safe_sqrt(jnp.square(y - x).sum(over)) / jnp.sqrt(jnp.square(y).sum(over))
    convergence = convergence if spec.convergence == "clip" else convergence.mean(axis=-1)
    return StftTerms(convergence, jnp.abs(jnp.log(y / x)).mean(axis=(-2, -1)))


def _floored_power(audio: Array, spec: StftSpec, floor: float) -> Array:
    return floored(power(stft(audio, spec)), floor)


def _safe_sqrt(x: Array) -> Array:
    """Return the square root of x >= 0, with gradient 0 instead of infinity at 0; NaN goes through."""
    return jnp.where(x == 0, 0.0, jnp.sqrt(jnp.where(x == 0, 1.0, x)))


def _mean_where(values: Array, counted: Array) -> Array:
    count = counted.sum(axis=(-2, -1))
    return jnp.where(count > 0, jnp.where(counted, values, 0).sum(axis=(-2, -1)) / jnp.maximum(count, 1), jnp.nan)
