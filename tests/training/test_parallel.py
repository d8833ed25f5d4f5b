from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_regression import LinearData, LinearRegression

from audiodiff import prng
from audiodiff.networks.unet1d import UNet1d
from audiodiff.training.optimisers import make_optimiser
from audiodiff.training.parallel import initialise, make_strategy, whole
from audiodiff.training.state import constant_decay, init_state
from audiodiff.training.step import Constants, as_pytree, make_step

EMA = {"short": constant_decay(0.9)}
ADAMW = make_optimiser("adamw", learning_rate=0.05, clip_norm=1.0, weight_decay=0.01)


def prepare(name, devices, *, dtype=np.float32, microbatches=1, dim=16, fsdp=None):
    data, objective = LinearData(dtype=dtype, dim=dim), LinearRegression()
    plan = make_strategy(name, devices=devices, batch_size=8, microbatches=microbatches, fsdp=fsdp)
    if name == "fsdp":
        plan = dataclasses.replace(plan, smallest=8)  # so that the double's weights are split

    def make(key, batch):
        return init_state(objective.init(key, batch), ADAMW.transform, EMA)

    state = initialise(plan, make, prng.stream(0, "init"), data[0])
    constants = plan.place_constants(Constants(as_pytree(objective), prng.stream(0, "train")))
    compiled = plan.compile(make_step(ADAMW, ema=EMA, microbatches=microbatches, gather=plan.gather), state)
    return plan, data, plan.place(state), lambda placed, batch: compiled(placed, batch, constants), compiled


LAYOUTS = [
    ("jit", 4, 1, None),
    ("jit", 8, 1, None),
    ("pmap", 4, 1, None),
    ("jit", 2, 2, None),
    ("pmap", 2, 2, None),
    ("fsdp", 8, 1, None),
    ("fsdp", 4, 2, 2),
]
"""Strategy, devices, microbatches, and over how many of the devices a state is split."""


def test_all_layouts_take_the_same_twenty_steps():
    """float64, AdamW with clipping: 1e-9 is far above rounding and far below the effect of one misplaced noise."""

    def run(name, devices, microbatches, fsdp):
        plan, data, placed, step, _ = prepare(name, devices, dtype=np.float64, microbatches=microbatches, fsdp=fsdp)
        measured = []
        for k in range(20):
            weight = np.where(np.arange(8) == k % 8, 0.0, 1.0 + np.arange(8) % 3)  # unequal over devices
            placed, now = step(placed, plan.place_batch(data[k] | {"weight": weight}))
            measured.append(now)
        return jax.device_get((plan.unplace(placed), measured))

    with jax.enable_x64(True):
        reference = run("jit", 1, 1, None)
        assert reference[0].params["w"].dtype == np.float64
        for layout in LAYOUTS:
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), reference, run(*layout))


@pytest.mark.parametrize("name", ["jit", "fsdp", "pmap"])
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


@pytest.mark.parametrize("name", ["jit", "fsdp", "pmap"])
def test_each_device_gets_its_share_of_the_batch(name):
    plan, data, *_ = prepare(name, 4)
    shards = plan.place_batch(data[0])["draw"].addressable_shards
    assert len({shard.device for shard in shards}) == 4
    assert sorted(tuple(np.ravel(shard.data)) for shard in shards) == [(0, 1), (2, 3), (4, 5), (6, 7)]


def exchanged(name):
    """Return the bytes that one step of 4,096 weights on 4 devices exchanges, by collective."""
    plan, data, placed, _, compiled = prepare(name, 4, dim=4096)
    constants = plan.place_constants(Constants(as_pytree(LinearRegression()), prng.stream(0, "train")))
    program = compiled.lower(placed, plan.place_batch(data[0]), constants).compile().as_text()
    found = {}
    for shapes, kind in re.findall(
        r"= (.*?) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)\(", program
    ):
        sizes = [np.prod([int(n) for n in dims.split(",") if n]) for dims in re.findall(r"f32\[([\d,]*)\]", shapes)]
        found[kind] = found.get(kind, 0) + 4 * int(sum(sizes))
    return found


def test_the_gradients_are_the_only_large_thing_the_devices_exchange():
    weights = 4 * 4097
    found = exchanged("jit")
    assert set(found) == {"all-reduce"}
    assert weights <= found["all-reduce"] <= weights + 100  # and a few scalars: losses, weights, measurements


def test_split_weights_are_fetched_and_their_gradients_returned():
    found = exchanged("fsdp")
    assert found["all-gather"] >= 4 * 4096 and "all-to-all" not in found


def test_a_split_state_takes_an_eighth_of_each_device():
    """Parameters, an average and AdamW's two moments of a U-Net of more than 10M parameters, on 8 devices."""
    network = UNet1d(channels=(128, 256, 512), factors=(16, 4, 4), blocks=(1, 2, 2), attention_heads=(0, 0, 8))
    plan = make_strategy("fsdp", batch_size=8)

    def make(key):
        params = jax.eval_shape(network.init, key, jnp.zeros((1, 1024, 1)), jnp.zeros(1), {})
        return init_state(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), params), ADAMW.transform, EMA)

    state = initialise(plan, make, jax.random.key(0))
    leaves = jax.tree.leaves(state)
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) > 10e6
    whole = sum(leaf.nbytes for leaf in leaves)
    for device in jax.devices():
        held = sum(shard.data.nbytes for leaf in leaves for shard in leaf.addressable_shards if shard.device == device)
        assert held <= whole * (1 / 8 + 0.05)


def test_split_weights_are_made_whole_and_compile_once(caplog):
    plan, _, placed, _, _ = prepare("fsdp", 4)
    split = plan.unplace(placed).params
    assert not split["w"].is_fully_replicated
    gathered = whole(split)
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(gathered))
    jax.tree.map(np.testing.assert_array_equal, gathered, split)
    caplog.clear()
    with jax.log_compiles():
        whole(split)
    assert not any(record.message.startswith("Compiling") for record in caplog.records)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "fdsp"}, "fsdp, pmap, jit"),
        (
            {"name": "fsdp", "devices": 6, "fsdp": 4, "microbatches": 1},
            "fsdp=4 must divide the 6 devices: take 1, 2, 3, 6",
        ),
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
