"""Keep what a run could not get past, a step whose loss or gradient is not finite, and look at it again.

Layout: ``WORKDIR/replay/<step>/{state,batch-<process>.npz,meta.json}``.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from audiodiff import prng
from audiodiff.training.checkpoint import load_tree, save_tree
from audiodiff.training.distributed import is_leader
from audiodiff.training.parallel import examine
from audiodiff.training.state import TrainState
from audiodiff.training.step import Batch, Constants, as_pytree
from audiodiff.training.workdir import write_json
from audiodiff.types import Objective, PyTree

REPLAY_FOLDER = "replay"
SHOWN = 10
"""How many examples and arrays a report names."""


class Replay(NamedTuple):
    """Hold a step as it was: parameters and averages before it, its batch, its number and the run's seed."""

    params: PyTree
    ema: dict[str, PyTree]
    batch: dict[str, np.ndarray]
    step: int
    seed: int


def save_replay(workdir: pathlib.Path, state: TrainState, batch: Batch, *, step: int, seed: int) -> pathlib.Path:
    """Write a step down, in place of what was kept of it before; every process calls it and writes its own slice."""
    folder = workdir / REPLAY_FOLDER / str(step)
    save_tree(folder / "state", {"params": state.params, "ema": state.ema, "opt_state": state.opt_state})
    parts: dict[str, Any] = {name: _slice(x) for name, x in batch.items()}
    np.savez(folder / f"batch-{jax.process_index()}.npz", **parts)
    if is_leader():  # two processes would move one temporary file
        write_json(folder / "meta.json", {"step": step, "seed": seed})
    return folder


def _slice(x: Any) -> np.ndarray:
    """Return this process's part of a placed array, examples in order."""
    shards = sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    first = {shard.index[0].start or 0: np.asarray(shard.data) for shard in shards}
    return np.concatenate(list(first.values()))


def load_replay(workdir: pathlib.Path, step: int | None = None) -> Replay:
    """Read a step that was kept (default: the last); raise FileNotFoundError where there is none."""
    kept = sorted(int(path.parent.name) for path in (workdir / REPLAY_FOLDER).glob("*/meta.json"))
    if not kept or (step is not None and step not in kept):
        held = f"it holds steps {', '.join(map(str, kept))}" if kept else "no run stopped there on what is not finite"
        raise FileNotFoundError(f"{workdir} holds no step {'' if step is None else f'{step} '}to replay: {held}")
    folder = workdir / REPLAY_FOLDER / str(kept[-1] if step is None else step)
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    paths = sorted(folder.glob("batch-*.npz"), key=lambda path: int(path.stem.partition("-")[2]))
    parts = [np.load(path) for path in paths]
    batch = {name: np.concatenate([part[name] for part in parts]) for name in parts[0].files}
    if batch["weight"].ndim == 2:  # pmap's batches have an axis of devices
        batch = {name: x.reshape(-1, *x.shape[2:]) for name, x in batch.items()}
    tree = load_tree(folder / "state")
    return Replay(tree["params"], tree.get("ema") or {}, batch, meta["step"], meta["seed"])


def report(objective: Objective, replay: Replay, frozen: PyTree = None) -> list[str]:
    """Take the step's losses and gradients again and say, line by line, what of it is not finite."""
    constants = Constants(as_pytree(objective), prng.stream(replay.seed, "train"), frozen)
    losses, gradients = jax.device_get(examine(constants, replay.params, replay.ema, replay.batch, replay.step))
    counts = replay.batch["weight"] > 0
    bad = np.flatnonzero(counts & ~np.isfinite(losses))
    lines = [f"step {replay.step} of seed {replay.seed}: {len(losses)} examples, {int(counts.sum())} that count"]
    for what, tree in (("parameters", replay.params), ("averages", replay.ema), ("batch", replay.batch)):
        names = _not_finite(tree)
        lines.append(f"{what}: {'all finite' if not names else 'not finite in ' + _some(names)}")
    lines.append(f"losses: {len(bad)} not finite" + (f", mean {losses[counts].mean():.6g}" if not len(bad) else ""))
    for i in bad[:SHOWN]:
        about = ", ".join(f"{name} {x[i]}" for name, x in replay.batch.items() if x.ndim == 1 and name != "weight")
        peak = {name: np.abs(x[i]).max() for name, x in replay.batch.items() if x.ndim > 1 and x.dtype.kind == "f"}
        lines.append(
            f"  example {i}: loss {losses[i]}, {about}" + "".join(f", peak of {n} {p:.4g}" for n, p in peak.items())
        )
    names = _not_finite(gradients)
    lines.append(f"gradients: {'all finite' if not names else 'not finite for ' + _some(names)}")
    return lines


def _not_finite(tree: PyTree | Mapping[str, np.ndarray]) -> list[str]:
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if np.asarray(leaf).dtype.kind in "fV" and not np.isfinite(np.asarray(leaf, np.float32)).all():
            found.append(jax.tree_util.keystr(path, simple=True, separator="/"))
    return found


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
