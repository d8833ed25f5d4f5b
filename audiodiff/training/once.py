"""Compute a scalar once, wherever it is read."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from audiodiff.types import Array


def once(x: Array) -> Array:
    """Return the scalar x, computed once, where XLA's CPU backend would compute it in every fusion that reads it.

    A learning rate is read by the update of each parameter: a schedule's cosine then stands in the program hundreds of
    times. What that backend cannot see through is a branch; on a scalar it would make a choice of it, so the branch is
    on a vector. On other backends, which were not measured, this is x itself.
    """

    def behind_a_branch(x: Array) -> Array:
        never = jnp.asarray(x, jnp.float32) > jnp.inf
        return lax.cond(never, jnp.zeros_like, lambda pair: pair, jnp.stack([x, x]))[0]

    return lax.platform_dependent(x, cpu=behind_a_branch, default=lambda x: x)
