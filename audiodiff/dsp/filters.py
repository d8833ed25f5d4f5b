"""Filter audio along time: pre-emphasis and its exact inverse."""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import ArrayLike

from audiodiff.dsp.precision import at_least_float32
from audiodiff.types import Array


def preemphasis(audio: ArrayLike, coefficient: float = 0.97) -> Array:
    """Raise the high frequencies of [..., time]: y[n] = x[n] - a x[n - 1], with x[-1] = 0."""
    _check_coefficient(coefficient)
    x = at_least_float32(audio)
    return x - coefficient * _delay(x, 1)


def deemphasis(audio: ArrayLike, coefficient: float = 0.97) -> Array:
    """Undo :func:`preemphasis`: x[n] = y[n] + a x[n - 1].

    The recursion unrolls in log2(time) parallel steps, since
    1 / (1 - a z^-1) = (1 + a z^-1) (1 + a^2 z^-2) (1 + a^4 z^-4) ...
    """
    _check_coefficient(coefficient)
    x = at_least_float32(audio)
    shift, gain = 1, coefficient
    while shift < x.shape[-1]:
        x = x + gain * _delay(x, shift)
        shift, gain = 2 * shift, gain * gain
    return x


def _delay(x: Array, samples: int) -> Array:
    """Shift [..., time] to the right by samples, zeros in front, at the same length."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(samples, 0)])[..., : x.shape[-1]]


def _check_coefficient(coefficient: float) -> None:
    if not -1 < coefficient < 1:
        raise ValueError(f"coefficient is {coefficient}; it must lie between -1 and 1, where the inverse is stable")
