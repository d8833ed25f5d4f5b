"""What is exported are one checkpoint's weights to the bit, beside the small files, and nothing to train on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_regression import assert_same

from audiodiff.training.checkpoint import CheckpointError, Checkpoints, latest_step, restore_params
from audiodiff.training.export import export_weights
from audiodiff.training.optimisers import make_optimiser
from audiodiff.training.state import constant_decay, init_state


@pytest.fixture
def workdir(tmp_path):
    """Return a run with two checkpoints of weights that are larger than their description."""
    transform = make_optimiser("adamw", learning_rate=0.1).transform
    with Checkpoints(tmp_path / "run") as checkpoints:
        for step in (3, 5):
            params = {"layer": {"kernel": jax.random.normal(jax.random.key(step), (200, 300))}}
            state = init_state(params, transform, {"short": constant_decay(0.9)})
            state.ema["short"] = jax.tree.map(lambda leaf: leaf + 1, params)
            checkpoints.save(step, state)
    (tmp_path / "run" / "config.json").write_text("{}")
    (tmp_path / "run" / "events.out.tfevents.1").write_text("large")
    return tmp_path / "run"


def size(folder) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("ema", ["short", None])
def test_the_weights_come_back_to_the_bit_in_a_fraction_of_the_size(workdir, tmp_path, ema):
    out = export_weights(workdir, tmp_path / "out", ema=ema)
    assert_same(restore_params(out, ema=ema), restore_params(workdir, ema=ema))
    assert size(out) < 0.3 * size(workdir)  # two checkpoints with the average and Adam's momenta, zeros here
    assert latest_step(out) == 5 and (out / "config.json").read_text() == "{}"
    assert not list(out.glob("events*"))


def test_an_older_step_may_be_chosen(workdir, tmp_path):
    out = export_weights(workdir, tmp_path / "out", ema="short", step=3)
    assert latest_step(out) == 3
    kernel = restore_params(out, ema="short")["layer"]["kernel"]
    np.testing.assert_array_equal(kernel, jax.random.normal(jax.random.key(3), (200, 300)) + jnp.float32(1))


def test_what_cannot_be_exported_is_told(workdir, tmp_path):
    with pytest.raises(CheckpointError, match="holds a run already: choose another folder to export to"):
        export_weights(workdir, workdir, ema="short")
    with pytest.raises(CheckpointError, match="holds no moving average 'long': it holds short"):
        export_weights(workdir, tmp_path / "out", ema="long")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        export_weights(tmp_path / "none", tmp_path / "out", ema=None)
