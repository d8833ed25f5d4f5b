"""Share a trained run: its averaged weights, and what says how they came about, without what only training needs."""

from __future__ import annotations

import os
import pathlib
import shutil

import jax.numpy as jnp

from audiodiff.training.checkpoint import CheckpointError, Checkpoints, latest_step, restore_params
from audiodiff.training.state import TrainState


def export_weights(
    workdir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    ema: str | None,
    step: int | None = None,
) -> pathlib.Path:
    """Copy a run without its optimiser's state: the weights of one checkpoint, and the small files beside it.

    What is written loads and samples as the run does (by the average ``ema``, or the weights themselves for None), and
    another run can begin from it; it cannot be trained on, for the momenta are gone. With Adam and one average it is a
    quarter of the size. Returns ``out``. Raises FileNotFoundError where there is no run or no such step, and
    CheckpointError for an ``out`` that holds a run already.
    """
    source, target = pathlib.Path(workdir).expanduser().resolve(), pathlib.Path(out).expanduser().resolve()
    if latest_step(target) is not None:
        raise CheckpointError(f"{target} holds a run already: choose another folder to export to")
    params = restore_params(source, ema=ema, step=step)
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.is_file() and not path.name.startswith((".", "events.")):
            shutil.copy2(path, target / path.name)
    number = latest_step(source) if step is None else step
    assert number is not None  # or restore_params had raised
    zero = jnp.zeros((), jnp.int32)
    weights = (params, {}) if ema is None else ({}, {ema: params})
    with Checkpoints(target) as checkpoints:
        checkpoints.save(number, TrainState(jnp.int32(number), *weights, {}, zero, zero), {"exported": True})
    return target
