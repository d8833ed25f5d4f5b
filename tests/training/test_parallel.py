from __future__ import annotations

import jax
import numpy as np
import pytest
from linear_regression import LinearData, LinearRegression

from audiodiff import prng
from audiodiff.training.optimisers import make_optimiser
from audiodiff.training.parallel import make_strategy
from audiodiff.training.state import constant_decay, init_state
from audiodiff.training.step import Constants, as_pytree, make_step

EMA = {"short": constant_decay(0.9)}
ADAMW = make_optimiser("adamw", learning_rate=0.05, clip_norm=1.0, weight_decay=0.01)


def prepare(name, devices, *, dtype=np.float32, microbatches=1):
    data, objective = LinearData(dtype=dtype), LinearRegression()
    plan = make_strategy(name, devices=devices, batch_size=8, microbatches=microbatches)

    def make(key, batch):
        return init_state(objective.init(key, batch), ADAMW.transform, EMA)

    state = plan.init(make, prng.stream(0, "init"), data[0])
    constants = plan.place_constants(Constants(as_pytree(objective), prng.stream(0, "train")))
    compiled = plan.compile(make_step(ADAMW, ema=EMA, microbatches=microbatches), state)
    return plan, data, plan.place(state), lambda placed, batch: compiled(placed, batch, constants), compiled


LAYOUTS = [("jit", 4, 1), ("pmap", 4, 1), ("jit", 2, 2), ("pmap", 2, 2)]


def test_all_layouts_take_the_same_twenty_steps():
    """float64, AdamW with clipping: 1e-9 is far above rounding and far below the effect of one misplaced noise."""

    def run(name, devices, microbatches):
        plan, data, placed, step, _ = prepare(name, devices, dtype=np.float64, microbatches=microbatches)
        measured = []
        for k in range(20):
            weight = np.where(np.arange(8) == k % 8, 0.0, 1.0 + np.arange(8) % 3)  # unequal over devices
            placed, now = step(placed, plan.place_batch(data[k] | {"weight": weight}))
            measured.append(now)
        return jax.device_get((plan.unplace(placed), measured))

    with jax.enable_x64(True):
        reference = run("jit", 1, 1)
        assert reference[0].params["w"].dtype == np.float64
        for layout in LAYOUTS:
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), reference, run(*layout))


@pytest.mark.parametrize("name", ["jit", "pmap"])
def test_the_state_is_donated_and_nothing_compiles_twice(name, caplog):
    plan, data, placed, step, _ = prepare(name, 4)
    first = jax.tree.leaves(placed)

    def compilations(placed, batch):
        caplog.clear()
        with jax.log_compiles():
            placed, _ = step(placed, batch)
        return placed, sum(record.message.startswith("Compiling") for record in caplog.records)

    placed, count = compilations(placed, plan.place_batch(data[0]))
    assert count == 1
    assert all(leaf.is_deleted() for leaf in first)
    placed, count = compilations(placed, plan.place_batch(data[1]))
    assert count == 0
    placed, count = compilations(plan.place(plan.unplace(placed)), plan.place_batch(data[2]))  # as after a restart
    assert count == 0


@pytest.mark.parametrize("name", ["jit", "pmap"])
def test_each_device_gets_its_share_of_the_batch(name):
    plan, data, *_ = prepare(name, 4)
    shards = plan.place_batch(data[0])["draw"].addressable_shards
    assert len({shard.device for shard in shards}) == 4
    assert sorted(tuple(np.ravel(shard.data)) for shard in shards) == [(0, 1), (2, 3), (4, 5), (6, 7)]


def test_the_gradients_are_the_only_large_thing_the_devices_exchange():
    plan, data, placed, _, compiled = prepare("jit", 4)
    constants = plan.place_constants(Constants(as_pytree(LinearRegression()), prng.stream(0, "train")))
    program = compiled.lower(placed, plan.place_batch(data[0]), constants).compile().as_text()
    assert "all-reduce" in program
    assert "all-gather" not in program and "all-to-all" not in program and "collective-permute" not in program


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "fsdp"}, "pmap, jit"),
        ({"devices": 4}, "4 devices do not divide the batch of 12 in 2 microbatches: take 1, 2, 3, 6 devices"),
        ({"devices": 5, "microbatches": 1}, "take 1, 2, 3, 4, 6 devices"),
        ({"devices": 0}, "devices=0"),
        ({"devices": 99}, "1 to 8"),
        ({"microbatches": 5}, "microbatches=5 must divide the batch size 12"),
        ({"microbatches": 0}, "microbatches=0"),
    ],
)
def test_bad_layouts_name_the_legal_ones(arguments, words):
    with pytest.raises(ValueError, match=words):
        make_strategy(**({"name": "jit", "devices": 2, "batch_size": 12, "microbatches": 2} | arguments))
