"""Embed the noise level, and positions, as vectors of sines and cosines.

A network hears of the noise level as one number per example, ``noise_condition`` [batch]. What that number is
belongs to whoever calls: c_noise = ln(sigma / alpha) / 4 of EDM (about -2.3 to 2.3), or DiffWave's step 0 .. T-1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from audiodiff.networks.layers import Dense
from audiodiff.types import Array


def sinusoids(value: Array, frequencies: np.ndarray) -> Array:
    """Return [sin(f v), cos(f v)] on a new last axis of 2 len(frequencies), in float32; f in radians per unit of v."""
    angle = value[..., None].astype(jnp.float32) * jnp.asarray(frequencies, jnp.float32)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def level_features(c_noise: Array, size: int = 128) -> Array:
    """Return Fourier features [batch, size] of a continuous level c_noise [batch], EDM's ln(sigma) / 4.

    The frequencies run geometrically from 1/4 to 64 radians. Over c_noise in [-2.3, 2.3] the lowest is monotone and the
    highest turns once in a factor of 1.5 in sigma, so neighbouring levels are told apart without aliasing.
    """
    return sinusoids(c_noise, np.geomspace(0.25, 64.0, size // 2))


def step_features(step: Array) -> Array:
    """Return DiffWave's encoding [batch, 128] of a diffusion step [batch], which may be fractional.

    [sin(10^(4 i / 63) t), ..., cos(10^(4 i / 63) t), ...], i = 0 .. 63 (Kong et al. 2021, arXiv 2009.09761).
    """
    return sinusoids(step, 10.0 ** (4.0 * np.arange(64) / 63.0))


def position_features(length: int, size: int, step: float = 1.0) -> Array:
    """Return the sinusoidal positions [length, size] of Vaswani et al. 2017: frequencies 10000^(-2 i / size).

    Positions lie ``step`` apart; other steps than 1 tell where they lie on another sequence's scale.
    """
    features = sinusoids(jnp.arange(length) * step, 10_000.0 ** (-np.arange(0, size, 2) / size))
    return features[:, :size]


class NoiseEmbedding(nn.Module):
    """Embed ``noise_condition`` [batch] as a vector [batch, features]: sinusoids, then two dense layers with SiLU.

    With ``encode=step_features`` and 512 features this is DiffWave's step embedding, sizes and all.
    """

    features: int = 512
    encode: Callable[[Array], Array] = level_features
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, noise_condition: Array) -> Array:
        y = self.encode(noise_condition)
        y = jax.nn.silu(Dense(self.features, dtype=self.dtype, name="hidden")(y))
        return jax.nn.silu(Dense(self.features, dtype=self.dtype, name="output")(y))
