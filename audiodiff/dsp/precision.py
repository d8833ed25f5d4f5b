"""Keep the arithmetic of signal processing at float32 or above, and a NaN a NaN."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from audiodiff.types import Array

# Matrix products of this package ask for full precision: on a GPU the default rounds float32 factors to
# TF32 (10 bits), which is 60 dB of dynamic range and would drown a quiet mel band.
FULL = jax.lax.Precision.HIGHEST


def at_least_float32(x: ArrayLike) -> Array:
    """Return x as a real array of float32, or of float64 where it is float64 already.

    Narrower floats (bfloat16 from a network) and integers are cast up and not rescaled: int16 samples keep
    their range of +-32768. FFTs refuse bfloat16, and a squared magnitude overflows float16.
    """
    x = jnp.asarray(x)
    if jnp.iscomplexobj(x):
        raise ValueError(f"audio must be real, and this array is {x.dtype}; pass its real part or its magnitude")
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def as_audio(audio: ArrayLike) -> Array:
    """Return audio [..., time] by :func:`at_least_float32`; raise ValueError where it has no time axis or no sample.

    Frames that are centred on their time pad an empty clip to whole ones, and its silence would be measured.
    """
    x = at_least_float32(audio)
    if x.shape[-1:] in ((), (0,)):
        raise ValueError(f"audio of shape {x.shape} holds no samples; give [..., time] of at least 1")
    return x


def floored(x: Array, floor: ArrayLike) -> Array:
    """Return max(x, floor) where NaN stays NaN, with gradient 0 for x wherever the floor holds.

    jnp.maximum does not promise the first: compiled into a sum on the CPU (jaxlib 0.10.2), its maximum of NaN and the
    floor is the floor, and a bad sample passes for silence. So does jnp.max over an axis leave out a NaN there.
    """
    return jnp.where(x <= floor, floor, x)


def limited(x: Array, low: float, high: float) -> Array:
    """Return x clipped to [low, high] where NaN stays NaN, with gradient 0 at and beyond both."""
    return jnp.where(x >= high, high, floored(x, low))
