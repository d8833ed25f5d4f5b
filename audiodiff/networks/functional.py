"""Bind a Flax network as pure functions of its parameters: what the rest of the project sees of Flax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from audiodiff.types import Array, Conditions, PyTree


@dataclass(frozen=True)
class Functional:
    """Hold a denoising network, hyper-parameters only (so hashable, static under jit), and call it with parameters."""

    network: nn.Module

    def init(self, key: Array, x: Array, conditions: Conditions) -> PyTree:
        """Draw parameters for inputs shaped like x [batch, ...] and raw conditions."""
        level = jnp.zeros(x.shape[:1], jnp.float32)
        return self.network.init({"params": key}, x, level, conditions, method="init_all")["params"]

    def encode(self, params: PyTree, conditions: Conditions, present: Conditions | None = None) -> dict[str, Array]:
        """Encode raw conditions; where ``present[name]`` [batch] is False the learned null stands in."""
        encoded: Any = self.network.apply({"params": params}, conditions, present, method="encode")
        return encoded

    def __call__(self, params: PyTree, x: Array, noise_condition: Array, conditions: Conditions) -> Array:
        """Return the network's raw output for x [batch, ...], noise_condition [batch] and encoded conditions."""
        output: Any = self.network.apply({"params": params}, x, noise_condition, conditions)
        return output


@dataclass(frozen=True)
class Classify:
    """Hold a classifier, hyper-parameters only, and call it with parameters: features -> (logits, embedding)."""

    network: nn.Module

    def init(self, key: Array, features: Array) -> PyTree:
        """Draw parameters for features shaped like [batch, frame, bin]."""
        return self.network.init({"params": key}, features)["params"]

    def __call__(self, params: PyTree, features: Array) -> tuple[dict[str, Array], Array]:
        """Return logits {head: [batch, class]} and the embedding [batch, dim] that they were made of."""
        verdict: Any = self.network.apply({"params": params}, features)
        return verdict
