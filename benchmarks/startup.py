"""How long the digits' training takes to its first step, imports included, with an empty compile cache and a warm one.

A training script is started as a user starts it and stopped when it has told of its first step.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from measure import ROOT, Reading, counted, median_ratio

IMPORTS = "import jax, flax, optax, orbax.checkpoint, grain, soundfile, ml_collections; jax.devices()"


def fsdd() -> pathlib.Path | None:
    """Return the folder of FSDD, or say that there is none."""
    data = os.environ.get("AUDIODIFF_DATA")
    if not data or not (root := pathlib.Path(data).resolve() / "fsdd").is_dir():
        print("AUDIODIFF_DATA names no folder with fsdd/: what needs it is not measured", file=sys.stderr)
        return None
    return root


def first_step(cache: pathlib.Path, workdir: pathlib.Path, root: pathlib.Path) -> float:
    """Return the seconds from the start of a training script to its first step."""
    command = [sys.executable, "experiments/train.py", "--config=configs/digits_wave.py:cpu", f"--workdir={workdir}"]
    command += [f"--config.data.root={root}", "--config.training.log_every=1"]
    begin = time.perf_counter()
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        told = []
        for line in process.stdout:
            told.append(line)
            if line.startswith("step 1/"):
                taken = time.perf_counter() - begin
                process.kill()
                return taken
    raise RuntimeError(f"the training script ended before its first step: {''.join(told)}")


def imports() -> float:
    """Return the seconds that the libraries alone take to import."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, cwd=ROOT)
    return time.perf_counter() - begin


def measure(rounds: int) -> list[Reading]:
    """Compare a cold start, warm starts and bare imports. Needs FSDD."""
    if (root := fsdd()) is None:
        return []
    rounds = min(rounds, 3)
    with tempfile.TemporaryDirectory() as folder:
        base = pathlib.Path(folder)
        cold = np.array([first_step(base / f"cache{i}", base / f"cold{i}", root) for i in range(rounds)])
        warm = np.array([first_step(base / "cache0", base / f"warm{i}", root) for i in range(rounds)])
        bare = np.array([imports() for _ in range(rounds)])
    note = f"cold {np.median(cold):.1f} s, warm {np.median(warm):.1f} s, imports {np.median(bare):.1f} s"
    of_cold = median_ratio("first step: warm to cold", warm, cold, note)
    of_imports = median_ratio("first step: warm to bare imports", warm, bare, note)
    return [
        Reading(of_cold, at_most=0.25, more_is_better=False),
        Reading(of_imports, at_most=3.0, more_is_better=False),
        Reading(counted("first step: cold", float(np.median(cold)), "s"), "speed"),
    ]
