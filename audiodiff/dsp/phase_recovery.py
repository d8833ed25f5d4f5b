"""Recover the phase that a magnitude spectrogram lacks, by projections onto what it says and what a signal can be.

Two sets of spectrograms: those with the given magnitudes S, and those that are the STFT of some audio. The nearest
member of the first to X is S X / |X|; the nearest of the second is the STFT of the least-squares inverse.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from audiodiff.dsp.fourier import half_spectrum_energy
from audiodiff.dsp.precision import at_least_float32
from audiodiff.dsp.stft import StftSpec, frame_count, istft, power, stft
from audiodiff.dsp.stft import magnitude as magnitude_of
from audiodiff.types import Array


class PhaseRecovery(NamedTuple):
    """Hold recovered audio [..., time] and the spectral convergence after 0, 1, ... iterations, [..., iteration]."""

    audio: Array
    convergence: Array


def griffin_lim(
    magnitude: ArrayLike,
    spec: StftSpec,
    iterations: int,
    *,
    length_samples: int,
    momentum: float = 0.0,
    key: Array | None = None,
    phase: ArrayLike | None = None,
) -> PhaseRecovery:
    """Find audio [..., length_samples] whose STFT has the magnitudes S [..., frame, bin].

    With p(X) = S X / |X|, X_i = stft(x_i, spec) and X_{-1} = X_0::

        x_0 = istft(S exp(i phase)),    x_{i+1} = istft(p(X_i + momentum (X_i - X_{i-1})))

    ``momentum`` 0 is Griffin and Lim's algorithm (1984), whose spectral convergence never rises where istft is the
    least-squares inverse of stft: with ``constant`` padding, every sample covered. Near 0.99 it is the fast one of
    Perraudin, Balazs and Sondergaard (2013, algorithm 2), which ends lower and may rise on its way. The first phase is
    ``phase`` in radians, uniform where a ``key`` is given instead, else 0.

    The spectral convergence of a clip is || |X_i| - S ||_F / ||S||_F over frames and the bins of the whole spectrum,
    mirrored ones included, for that is the norm which the projections lower; 0 for silence. The gradient by S is
    finite, at empty bins too: a phase at the level of rounding counts as constant. A magnitude that is negative or
    NaN makes the audio of its frames and the convergence of its clip NaN.

    Raises ValueError for iterations below 0, a momentum outside [0, 1), a key and a phase at once, a phase of another
    shape, and another number of frames or bins than ``spec`` makes of length_samples.
    """
    target = at_least_float32(magnitude)
    _check(target, spec, iterations, length_samples, momentum)
    target = jnp.where(target < 0, jnp.nan, target)
    spectrum = _spectrum(target, _first_phase(target, key, phase))
    negligible = jnp.square(jnp.finfo(target.dtype).eps * target.max(axis=(-2, -1), keepdims=True))

    def project(spectrum: Array) -> tuple[Array, Array]:
        audio = istft(spectrum, spec, length_samples)
        return audio, stft(audio, spec)

    def iterate(state: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], Array]:
        current, previous = state[1:]
        ahead = current + momentum * (current - previous)
        audio, following = project(target * _unit(ahead, negligible))
        return (audio, following, current), _convergence(following, target, spec)

    audio, consistent = project(spectrum)
    start = _convergence(consistent, target, spec)
    (audio, _, _), rest = jax.lax.scan(iterate, (audio, consistent, consistent), length=iterations)
    return PhaseRecovery(audio, jnp.moveaxis(jnp.concatenate([start[None], rest]), 0, -1))


def _first_phase(target: Array, key: Array | None, phase: ArrayLike | None) -> Array:
    if key is not None and phase is not None:
        raise ValueError("both a key and a phase are given; give the key for a random phase, or the phase itself")
    if key is not None:
        return jax.random.uniform(key, target.shape, target.dtype, -np.pi, np.pi)
    phase = jnp.zeros((), target.dtype) if phase is None else at_least_float32(phase)
    if phase.shape not in ((), target.shape):
        raise ValueError(f"the phase has shape {phase.shape} and the magnitude {target.shape}; they must be equal")
    return phase


def _spectrum(magnitude: Array, phase: Array) -> Array:
    return jax.lax.complex(magnitude * jnp.cos(phase), magnitude * jnp.sin(phase))


def _unit(spectrum: Array, negligible: Array) -> Array:
    """Return X / |X|, and 1 with gradient 0 where |X|^2 <= negligible; NaN goes through."""
    squared = power(spectrum)
    none = squared <= negligible
    return jnp.where(none, 1.0, spectrum * jax.lax.rsqrt(jnp.where(none, 1.0, squared)))


def _convergence(spectrum: Array, target: Array, spec: StftSpec) -> Array:
    error, whole = (
        half_spectrum_energy(jnp.square(x), spec.fft_samples).sum(axis=-1)
        for x in (magnitude_of(spectrum) - target, target)
    )
    # Both roots and the ratio are guarded: silence and a perfect fit have gradient 0, not NaN.
    empty = (whole == 0) | (error == 0)
    return jnp.where(empty, 0.0, jnp.sqrt(jnp.where(empty, 1.0, error) / jnp.where(empty, 1.0, whole)))


def _check(target: Array, spec: StftSpec, iterations: int, length_samples: int, momentum: float) -> None:
    if iterations < 0:
        raise ValueError(f"iterations is {iterations}; it must be at least 0, such as 32")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is {momentum}; it must be at least 0 and below 1, such as 0 or 0.99")
    expected = (frame_count(length_samples, spec), spec.bins)
    if target.shape[-2:] != expected:
        raise ValueError(
            f"the magnitude has the shape {target.shape}, and length_samples {length_samples} makes "
            f"[..., {expected[0]}, {expected[1]}] with fft_samples {spec.fft_samples} and hop_samples "
            f"{spec.hop_samples}; give the spec and the length that it was made with"
        )
