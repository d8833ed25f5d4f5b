from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.training.programs import Programs

SIZE = 64


def step(state, batch, constants):
    """One product of 8 x SIZE by SIZE x SIZE, and an addition."""
    return state + batch["audio"] @ constants, {"sum": jnp.sum(batch["weight"])}


def batch(length):
    return {"audio": jnp.ones((8, length)), "weight": jnp.ones(8)}


def test_a_program_is_made_once_a_shape_with_a_warning_from_the_second_on(caplog):
    programs = Programs(jax.jit(step), samples_per_second=4.0)
    state, constants = jnp.zeros((8, SIZE)), jnp.ones((SIZE, SIZE))
    assert programs.find(batch(SIZE)) is None
    program = programs.compile(state, batch(SIZE), constants)
    assert programs.find(batch(SIZE)) is program and not caplog.records
    np.testing.assert_array_equal(program.run(state, batch(SIZE), constants)[0], SIZE)
    assert program.work.examples == 8 and program.work.audio_s == 8 * SIZE / 4
    assert programs.find(batch(32)) is None
    programs.compile(state, batch(32), jnp.ones((32, SIZE)))
    assert "new shapes: audio [8, 32]" in caplog.text


def test_the_cost_is_that_of_the_products():
    state, constants = jnp.zeros((8, SIZE)), jnp.ones((SIZE, SIZE))
    cost = Programs(jax.jit(step)).compile(state, batch(SIZE), constants).cost
    assert cost.flops == pytest.approx(2 * 8 * SIZE * SIZE, rel=0.02)
    assert cost.state_bytes == pytest.approx(4 * (SIZE * SIZE + 2 * 8 * SIZE + 8), rel=0.01)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_a_loop_over_microbatches_counts_whole(parts):
    """As the trainer accumulates: flops of all of them."""

    def accumulated(state, batch, constants):
        split = batch["audio"].reshape(parts, -1, SIZE)
        if parts == 1:
            return split[0] @ constants, {}
        zero = jnp.zeros((40 // parts, SIZE))
        return jax.lax.scan(lambda total, part: (total + part @ constants, None), zero, split)[0], {}

    big = {"audio": jnp.ones((40, SIZE)), "weight": jnp.ones(40)}
    programs = Programs(jax.jit(accumulated), microbatches=parts)
    cost = programs.compile(jnp.zeros(()), big, jnp.ones((SIZE, SIZE))).cost
    assert cost.flops == pytest.approx(2 * 40 * SIZE * SIZE, rel=0.02)
