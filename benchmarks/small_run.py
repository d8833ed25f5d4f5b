"""Train a small network in a folder, through the real trainer and the real way out: what benchmarks/faults.py breaks.

Each example's number in the stream is part of a measurement, so that metrics.jsonl tells which were trained on, and
in which order. What the run is doing is told on stderr, for whoever wants to stop it just then.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "experiments"))  # the launch scripts' command

import command
from absl import flags

SAVE_EVERY, LOG_EVERY, EVALUATE_EVERY = 7, 3, 20
BATCH, WIDTH = 8, 48


def train(workdir: pathlib.Path, result: pathlib.Path, steps: int, step_seconds: float) -> None:
    """Train in ``workdir``, a batch taking so many seconds to draw; leave the final state in ``result``, by leaf."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from audiodiff import prng, training
    from audiodiff.types import Array, Context, PyTree

    @dataclasses.dataclass(frozen=True)
    class Regression:
        """Fit a network of two layers to y = sum x under noise that comes from (step key, draw)."""

        def init(self, key: Array, batch: Mapping[str, Array]) -> PyTree:
            sizes = {"in": (batch["x"].shape[-1], WIDTH), "middle": (WIDTH, WIDTH), "out": (WIDTH, 1)}
            keys = dict(zip(sizes, jax.random.split(key, len(sizes)), strict=True))
            return {
                name: {"kernel": jax.random.normal(keys[name], size) / size[0] ** 0.5, "bias": jnp.zeros(size[1])}
                for name, size in sizes.items()
            }

        def __call__(
            self, params: PyTree, context: Context, batch: Mapping[str, Array]
        ) -> tuple[Array, dict[str, Array]]:
            y = batch["x"]
            for name in ("in", "middle", "out"):
                y = y @ params[name]["kernel"] + params[name]["bias"]
                y = y if name == "out" else jnp.tanh(y)
            guess = y[:, 0]
            noise = prng.normal_like(prng.per_example(context.key, batch["draw"]), guess)
            # A line is a mean over steps and examples: the factors make it differ when two of them change places.
            place = 1.0 + jnp.arange(len(guess)) + 10.0 * (context.step % LOG_EVERY)
            return (guess - batch["y"] - 0.1 * noise) ** 2, {"draws": batch["draw"] * place}

    class Data:
        """Batch k as a pure function of k, drawn slowly."""

        global_batch_size = BATCH

        def __getitem__(self, k: int) -> dict[str, np.ndarray]:
            time.sleep(step_seconds)
            x = np.random.default_rng(k).normal(size=(BATCH, WIDTH)).astype(np.float32)
            draw = np.arange(k * BATCH, (k + 1) * BATCH, dtype=np.int32)
            return {"x": x, "y": x.sum(axis=1), "weight": np.ones(BATCH, np.float32), "draw": draw}

        def iterate(self, start: int) -> Iterator[dict[str, np.ndarray]]:
            while True:
                yield self[start]
                start += 1

    def evaluate(state: training.TrainState, step: int, writer: training.Writer) -> None:
        tell("evaluating")
        for name, params in {"params": state.params, **state.ema}.items():
            time.sleep(2 * step_seconds)
            writer.scalars(step, {f"eval/{name}": float(jnp.linalg.norm(params["middle"]["kernel"]))})
        tell("evaluated")

    def tell(what: str) -> None:
        print(what, file=sys.stderr, flush=True)

    tell("imported")
    options: dict[str, Any] = {"save_every": SAVE_EVERY, "log_every": LOG_EVERY, "evaluate_every": EVALUATE_EVERY}
    ended = training.train(
        Regression(),
        training.make_optimiser("adamw", learning_rate=0.01, clip_norm=1.0, weight_decay=0.01),
        Data(),
        workdir=workdir,
        seed=7,
        total_steps=steps,
        devices=1,
        ema={"short": training.constant_decay(0.9), "long": training.constant_decay(0.99)},
        evaluate=evaluate,
        config={"steps": steps, "training": options},
        **options,
    )
    leaves = jax.tree_util.tree_flatten_with_path(ended.state)[0]
    arrays: dict[str, Any] = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    new = result.with_suffix(".new.npz")
    np.savez(new, **arrays)
    os.replace(new, result)
    tell("kept")


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
    RESULT = flags.DEFINE_string("result", None, "Where the final state goes, an .npz.", required=True)
    STEPS = flags.DEFINE_integer("steps", 400, "How many steps to train.")
    STEP_SECONDS = flags.DEFINE_float("step_seconds", 0.03, "How long a batch takes to draw.")
    command.run(lambda: train(pathlib.Path(WORKDIR.value), pathlib.Path(RESULT.value), STEPS.value, STEP_SECONDS.value))
