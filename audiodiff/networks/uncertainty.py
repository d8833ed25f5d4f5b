"""Learn how uncertain a loss is at each noise level, so that every level weighs alike (EDM2)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from audiodiff.networks.embeddings import level_features
from audiodiff.networks.layers import Dense, zero_init
from audiodiff.types import Array, PyTree


class LogVariance(nn.Module):
    """Return u [batch] of c_noise [batch]: a dense layer on Fourier features, zero at first (Karras et al. 2024)."""

    @nn.compact
    def __call__(self, noise_condition: Array) -> Array:
        return Dense(1, kernel_init=zero_init, name="output")(level_features(noise_condition))[:, 0]


def init_log_variance(key: Array) -> PyTree:
    """Draw the parameters of :func:`log_variance`."""
    return LogVariance().init({"params": key}, jnp.zeros(1))["params"]


def log_variance(params: PyTree, noise_condition: Array) -> Array:
    """Return u(c_noise) [batch], float32: the log of the loss that the level is expected to have."""
    u: Any = LogVariance().apply({"params": params}, noise_condition)
    return u
