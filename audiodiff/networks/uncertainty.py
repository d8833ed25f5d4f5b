"""Learn how uncertain a loss is at each noise level, so that every level weighs alike (EDM2)."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn

from audiodiff.networks.embeddings import level_features
from audiodiff.networks.layers import Dense, zero_init
from audiodiff.types import Array


class LogVariance(nn.Module):
    """Return u(c_noise) [batch], a dense layer on Fourier features that begins at zero (Karras et al. 2024, appendix B.1)."""

    @nn.compact
    def __call__(self, noise_condition: Array) -> Array:
        return Dense(1, kernel_init=zero_init, name="output")(level_features(noise_condition))[:, 0].astype(jnp.float32)
