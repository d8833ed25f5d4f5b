"""Keep the arithmetic of signal processing at float32 or above."""

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
