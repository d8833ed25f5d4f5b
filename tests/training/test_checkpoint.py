from __future__ import annotations

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from linear_regression import assert_same

from audiodiff.training.checkpoint import SUMS_FILE, CheckpointError, Checkpoints, latest_step, restore_params
from audiodiff.training.optimisers import make_optimiser
from audiodiff.training.state import TrainState, constant_decay, init_state

# TensorStore reads that fail on a damaged file leave coroutines behind, which complain when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

EMA = {"long": constant_decay(0.99), "short": constant_decay(0.9)}


def make_state(value=1.0, transform=None, width=3) -> TrainState:
    params = {"layer": {"kernel": jnp.full((2, width), value), "bias": jnp.full((width,), value)}}
    transform = make_optimiser("adamw", learning_rate=0.1).transform if transform is None else transform
    return init_state(params, transform, EMA)


def save_all(workdir, *steps):
    with Checkpoints(workdir, keep=5) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_state(float(step)), {"step": step, "exact": 0.1 + 0.2})


def restore(workdir, template):
    with Checkpoints(workdir, keep=5) as checkpoints:
        return checkpoints.restore(template)


@pytest.mark.parametrize(
    "transform",
    [
        make_optimiser("muon", learning_rate=0.1, clip_norm=1.0).transform,
        optax.partition(
            {"a": optax.adam(0.1), "b": optax.lion(0.1)}, lambda p: {"layer": {"kernel": "a", "bias": "b"}}
        ),
    ],
    ids=["muon", "partition"],
)
def test_every_leaf_comes_back_bit_for_bit(tmp_path, transform, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a relative workdir must do
    key = jax.random.key(0)
    state = jax.tree.map(lambda x: jax.random.normal(key, x.shape).astype(x.dtype), make_state(transform=transform))
    state = dataclasses.replace(state, params=jax.tree.map(lambda x: x.astype(jnp.bfloat16), state.params))
    with Checkpoints("run") as checkpoints:
        checkpoints.save(3, state, {"exact": 0.1 + 0.2})
    restored = restore("run", state)
    assert (restored.step, restored.meta["exact"]) == (3, 0.1 + 0.2)
    assert jax.tree.structure(restored.state) == jax.tree.structure(state)
    assert_same(restored.state, state)


def test_a_donated_state_is_saved_as_it_was(tmp_path):
    state = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (200_000,) if x.ndim == 0 else (50_000, *x.shape)) + 0, make_state(5.0)
    )
    expected = jax.device_get(jax.tree.map(jnp.copy, state))
    destroy = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0 - 1, tree), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        for _ in range(3):
            state = destroy(state)
    assert_same(restore(tmp_path, state).state, expected)


def test_a_checkpoint_restores_onto_another_layout(tmp_path):
    save_all(tmp_path, 1)
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))

    def place(x):
        axes = PartitionSpec("data") if x.ndim == 2 else PartitionSpec()
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, axes))

    state = restore(tmp_path, jax.tree.map(place, make_state())).state
    assert_same(state, make_state(1.0))
    assert state.params["layer"]["kernel"].sharding.spec == PartitionSpec("data")


def truncate(folder):
    largest = max(
        (p for p in (folder / "state").rglob("*") if p.is_file() and "d" in p.parent.name),
        key=lambda p: p.stat().st_size,
    )
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


DAMAGES = {
    "truncated data": truncate,
    "no metadata": lambda folder: (folder / "state" / "_METADATA").unlink(),
    "metadata of zeros": lambda folder: (folder / "state" / "_METADATA").write_bytes(bytes(100)),
    "no state": lambda folder: shutil.rmtree(folder / "state"),
    "no values": lambda folder: shutil.rmtree(folder / "meta"),
    "nothing": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_falls_back_loudly_and_is_kept(tmp_path, damage, caplog):
    save_all(tmp_path, 1, 2)
    DAMAGES[damage](tmp_path / "checkpoints" / "2")
    with Checkpoints(tmp_path, keep=5) as checkpoints:
        restored = checkpoints.restore(make_state())
        assert restored.step == 1
        assert_same(restored.state, make_state(1.0))
        (record,) = [r for r in caplog.records if r.name == "audiodiff.training.checkpoint"]
        assert record.levelname == "ERROR"
        assert "of step 2 is damaged" in record.message and "falling back to the checkpoint of step 1" in record.message
        assert (tmp_path / "damaged" / "2").is_dir()
        checkpoints.save(2, make_state(2.5))  # the step can be reached and saved again
    assert_same(restore(tmp_path, make_state()).state, make_state(2.5))


def test_a_bit_that_has_turned_is_noticed(tmp_path, caplog):
    def state(step):  # random, so that it is not compressed to a few bytes in a checked file
        key = jax.random.key(step)
        return jax.tree.map(lambda x: jax.random.normal(key, x.shape).astype(x.dtype), make_state(width=500))

    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(step))
    files = [path for path in (tmp_path / "checkpoints" / "2" / "state").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.raises(CheckpointError, match="checkpoints/2 is damaged .* is not as it was written"):
        restore_params(tmp_path)
    assert_same(restore(tmp_path, make_state(width=500)).state, state(1))
    assert "of step 2 is damaged" in caplog.text


def test_a_run_whose_checkpoints_are_all_damaged_stops(tmp_path):
    save_all(tmp_path, 1, 2)
    for step in (1, 2):
        truncate(tmp_path / "checkpoints" / str(step))
    with pytest.raises(CheckpointError, match=r"all checkpoints of .* are damaged \(steps 1, 2\)"):
        restore(tmp_path, make_state())
    assert sorted(p.name for p in (tmp_path / "damaged").iterdir()) == ["1", "2"]


def test_a_checkpoint_of_another_network_is_refused_and_stays(tmp_path):
    save_all(tmp_path, 1, 2)
    with pytest.raises(CheckpointError, match=r"params/layer/bias is float32\[3\] there and float32\[4\] here"):
        restore(tmp_path, make_state(width=4))
    with pytest.raises(CheckpointError, match=r"opt_state.* is absent there and float32"):
        restore(tmp_path, make_state(transform=optax.sgd(0.1, momentum=0.9)))
    assert latest_step(tmp_path) == 2


def test_an_existing_step_is_never_overwritten_in_silence(tmp_path):
    save_all(tmp_path, 2)
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match="step 1 was not saved .* step 2 is there"),
    ):
        checkpoints.save(1, make_state())


def test_a_newer_format_is_refused(tmp_path):
    save_all(tmp_path, 1)
    (meta,) = [p for p in (tmp_path / "checkpoints" / "1" / "meta").iterdir() if p.read_bytes().startswith(b'{"')]
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"format": 99}))
    (tmp_path / "checkpoints" / "1" / SUMS_FILE).unlink()
    with pytest.raises(CheckpointError, match="format 99, newer than 1: update audiodiff"):
        restore(tmp_path, make_state())
    with pytest.raises(CheckpointError, match="format 99"):
        restore_params(tmp_path)


def test_parameters_alone_are_loaded(tmp_path):
    state = dataclasses.replace(make_state(1.0), ema={"long": make_state(2.0).params, "short": make_state(3.0).params})
    with Checkpoints(tmp_path, keep=5) as checkpoints:
        checkpoints.save(1, state)
        checkpoints.save(2, make_state(7.0))
    assert_same(restore_params(tmp_path), make_state(7.0).params)
    assert_same(restore_params(tmp_path, step=1), state.params)
    shapes = jax.eval_shape(lambda: state.params)
    assert_same(restore_params(tmp_path, shapes, ema="short", step=1), state.ema["short"])
    with pytest.raises(CheckpointError, match="no moving average 'medium': it holds long, short"):
        restore_params(tmp_path, ema="medium")
    with pytest.raises(CheckpointError, match=r"layer/bias is float32\[3\] there and float32\[4\] here"):
        restore_params(tmp_path, make_state(width=4).params)
    with pytest.raises(FileNotFoundError, match="no checkpoint of step 9: the newest is of step 2"):
        restore_params(tmp_path, step=9)
    truncate(tmp_path / "checkpoints" / "2")
    with pytest.raises(CheckpointError, match="checkpoints/2 is damaged"):
        restore_params(tmp_path)


def test_a_folder_without_a_checkpoint_says_so(tmp_path):
    assert latest_step(tmp_path / "nowhere") is None
    with pytest.raises(FileNotFoundError, match="holds no checkpoint: train there first"):
        restore_params(tmp_path / "nowhere")
    assert restore(tmp_path, make_state()) is None


def test_old_checkpoints_go_and_the_kept_ones_stay(tmp_path):
    with Checkpoints(tmp_path, keep=2, keep_every=2) as checkpoints:
        for step in range(1, 7):
            checkpoints.save(step, make_state())
        checkpoints.wait()
        assert checkpoints.steps() == [2, 4, 5, 6]
