"""The test double of the training tests: linear regression as an Objective, its data, and a run in a folder."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff import prng, training
from audiodiff.types import Array, Context, PyTree

DIM = 3


@dataclasses.dataclass(frozen=True)
class LinearRegression:
    """Fit y = w . x + b under noise on y that comes from (step key, draw), as a diffusion objective's would."""

    noise: float = 0.1

    def init(self, key: Array, batch: Mapping[str, Array]) -> PyTree:
        dim = batch["audio"].shape[-1]
        return {
            "w": 0.1 * jax.random.normal(key, (dim, 1), batch["audio"].dtype),
            "b": jnp.zeros((1,), batch["audio"].dtype),
        }

    def __call__(self, params: PyTree, context: Context, batch: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        guess = (batch["audio"] @ params["w"] + params["b"])[:, 0]
        noise = prng.normal_like(prng.per_example(context.key, batch["draw"]), guess)
        error = guess - batch["target"] - self.noise * noise
        even = jnp.where(batch["draw"] % 2 == 0, error**2, jnp.nan)
        return error**2, {"absolute_error": jnp.abs(error), "even_loss": even}


class LinearData:
    """Batches of x ~ N(0, I) and y = x . (1, 2, 3, ...): batch k is a pure function of (seed, k)."""

    def __init__(
        self,
        batch_size: int = 8,
        seed: int = 0,
        dtype: Any = np.float32,
        delay_s: float = 0.0,
        dim: int = DIM,
        part: tuple[int, int] = (0, 1),
    ):
        self.global_batch_size = batch_size
        self.seed = seed
        self.dtype = dtype
        self.delay_s = delay_s
        self.dim = dim
        self.part = part  # which of how many slices of each batch is this process's
        self.drawn: list[int] = []

    def __getitem__(self, k: int) -> dict[str, np.ndarray]:
        time.sleep(self.delay_s)
        n = self.global_batch_size
        rng = np.random.default_rng((self.seed, k))
        x = rng.normal(size=(n, self.dim)).astype(self.dtype)
        batch = {
            "audio": x,
            "target": (x @ np.arange(1.0, self.dim + 1)).astype(self.dtype),
            "weight": np.ones(n, np.float32),
            "draw": np.arange(k * n, (k + 1) * n, dtype=np.int32),
        }
        index, count = self.part
        share = n // count
        return {name: values[index * share : (index + 1) * share] for name, values in batch.items()}

    def iterate(self, start: int) -> Iterator[dict[str, np.ndarray]]:
        k = start
        while True:
            self.drawn.append(k)
            yield self[k]
            k += 1


def run(workdir: os.PathLike[str] | str, total_steps: int = 10, **options: Any) -> training.Result:
    """Train the double with small cadences; any argument of `train` can be given."""
    defaults: dict[str, Any] = {
        "workdir": workdir,
        "seed": 7,
        "total_steps": total_steps,
        "devices": 1,
        "ema": {"short": training.constant_decay(0.9), "power": training.PowerDecay(0.1)},
        "save_every": 5,
        "log_every": 3,
        "objective": LinearRegression(),
        "optimiser": training.make_optimiser("adamw", learning_rate=0.05, clip_norm=1.0, weight_decay=0.01),
        "batches": LinearData(),
    }
    return training.train(**(defaults | options))


def assert_same(one: PyTree, other: PyTree) -> None:
    """Require equal trees, bit for bit."""
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), one, other)


if __name__ == "__main__":  # python linear_regression.py WORKDIR TOTAL_STEPS DELAY_S [COORDINATOR INDEX COUNT]
    cache = pathlib.Path(__file__).resolve().parents[2] / ".cache" / "jax-tests"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    options: dict[str, Any] = {}
    index, count = 0, 1
    if len(sys.argv) > 4:
        index, count = int(sys.argv[5]), int(sys.argv[6])
        jax.config.update("jax_num_cpu_devices", 2)
        training.connect(sys.argv[4], process_index=index, process_count=count, timeout_s=60)
        options["devices"] = None
    dtype = np.float64 if jax.config.values["jax_enable_x64"] else np.float32
    data = LinearData(delay_s=float(sys.argv[3]), part=(index, count), dtype=dtype)
    run(pathlib.Path(sys.argv[1]), int(sys.argv[2]), batches=data, **options)
