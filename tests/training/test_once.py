from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.training.once import once


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
