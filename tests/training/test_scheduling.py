from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.training.scheduling import after, once


@pytest.mark.parametrize("value", [0.25, np.nan, np.inf, -np.inf, True, False, 3])
def test_it_is_the_same_number(value):
    x = jnp.asarray(value)
    kept = jax.jit(once)(x)
    assert kept.dtype == x.dtype and kept.shape == ()
    np.testing.assert_array_equal(kept, x)


def test_what_many_arrays_read_is_computed_once():
    """Without it each of the sixteen fusions computes the cosine by itself."""
    xs = [jnp.arange(float(n)) for n in range(100, 116)]

    def cosines(keep):
        def update(t, xs):
            rate = keep(jnp.cos(t))
            return [x * rate + 1 for x in xs]

        return len(re.findall(r" cosine\(", jax.jit(update).lower(1.0, xs).compile().as_text()))

    assert cosines(lambda x: x) == 16
    assert cosines(once) <= 2  # by itself and in what asks whether it is infinite


def test_what_comes_after_is_computed_in_the_memory_of_what_comes_before():
    """Eight sums of a large product each, one after another: at once they need eight times the memory."""
    x = jnp.ones((256, 256))

    def total(wait):
        def summed(x):
            sums = jnp.zeros(())
            for index in range(8):
                part = after(sums, x + index) if wait else x + index
                sums = sums + jnp.sum(jnp.sin(jnp.sin(part @ x) @ x), where=part > index)
            return sums

        return jax.jit(summed).lower(x).compile()

    together, in_turn = total(False), total(True)
    np.testing.assert_allclose(in_turn(x), together(x), rtol=1e-6)
    assert in_turn.memory_analysis().temp_size_in_bytes < 0.6 * together.memory_analysis().temp_size_in_bytes


def test_what_comes_after_is_unchanged():
    arrays = {"a": jnp.arange(3), "b": jnp.array([True]), "c": jnp.array([jnp.nan, 1.0])}
    for known in (jnp.ones(2), [jnp.array([jnp.nan]), jnp.array([jnp.inf])], jnp.arange(3)):
        kept = jax.jit(after)(known, arrays)
        jax.tree.map(np.testing.assert_array_equal, kept, arrays)
