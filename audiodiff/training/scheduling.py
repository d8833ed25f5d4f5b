"""Say when something is computed, where XLA's CPU backend chooses badly and drops ``optimization_barrier``."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from audiodiff.types import Array, PyTree


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


def after(known: PyTree, arrays: PyTree) -> PyTree:
    """Return the arrays, from which nothing is then computed before all of ``known`` is.

    On the CPU by a choice that depends on it, elsewhere by ``optimization_barrier``.
    """

    def choose(known: PyTree, arrays: PyTree) -> PyTree:
        witness = sum(jnp.asarray(x.ravel()[0], jnp.float32) for x in jax.tree.leaves(known))
        never = once(jnp.asarray(witness) > jnp.inf)  # which the compiler cannot know
        return jax.tree.map(lambda x: jnp.where(never, jnp.zeros_like(x), x), arrays)

    return lax.platform_dependent(known, arrays, cpu=choose, default=lambda *both: lax.optimization_barrier(both)[1])
