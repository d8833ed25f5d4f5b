"""Train one tiny model and one tiny judge on generated sounds, for all tests of build/ to look at."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import pathlib
from typing import Any

import jax
import numpy as np
import pytest
from command import plain
from ml_collections import ConfigDict

from audiodiff.build.experiment import run_experiment
from audiodiff.build.listening import Settings, write_test
from audiodiff.build.listening_results import read_plan
from audiodiff.build.run import Run, load_run
from audiodiff.data import write_audio
from configs import demo


def tiny(arg: str) -> dict[str, Any]:
    """Return the demo's config, or its judge's, at a size that trains in a moment."""
    config = demo.get_config(arg)
    config.data.size = 24
    config.data.length_samples = 2048
    config.training.update({"batch_size": 2, "total_steps": 2, "held_out_clips": 3, "devices": 1})
    config.training.update({"save_every": 2, "evaluate_every": 2, "log_every": 1})
    config.optimiser.warmup_steps = 0
    if arg == "smoke":
        config.training.ema = ConfigDict({"short": ("constant", 0.999), "power": ("power", 0.1)})
        config.training.snapshot_every = 1
        config.sampler.update({"name": "dpmpp_2m", "guidance": 1.5})
        # The network that is traced and compiled soonest; any does here.
        sizes = {"residual_layers": 2, "residual_channels": 8, "dilation_cycle": 2, "embedding_features": 16}
        # With remat, which a loaded run must be without: else it had no likelihood.
        config.network = ConfigDict({"name": "dilated_stack", "remat": True, **sizes})
    else:
        config.network.widths = (8,)
    return plain(config)


@pytest.fixture(scope="session")
def _configs() -> dict[str, dict[str, Any]]:
    return {arg: tiny(arg) for arg in ("smoke", "judge_smoke")}


@pytest.fixture
def config(_configs) -> dict[str, Any]:
    """Return a tiny model's config, free to be changed."""
    return copy.deepcopy(_configs["smoke"])


@pytest.fixture
def judge_config(_configs) -> dict[str, Any]:
    """Return a tiny judge's config, free to be changed."""
    return copy.deepcopy(_configs["judge_smoke"])


@pytest.fixture(scope="session")
def workdir(tmp_path_factory, _configs) -> pathlib.Path:
    """Return the workdir of a model that was trained for two steps."""
    folder = tmp_path_factory.mktemp("runs") / "model"
    run_experiment(_configs["smoke"], folder)
    return folder


@pytest.fixture(scope="session")
def judge_workdir(tmp_path_factory, _configs) -> pathlib.Path:
    """Return the workdir of a judge that was trained for two steps."""
    folder = tmp_path_factory.mktemp("runs") / "judge"
    run_experiment(_configs["judge_smoke"], folder)
    return folder


@pytest.fixture(scope="session")
def run(workdir) -> Run:
    """Return the trained model."""
    return load_run(workdir)


@pytest.fixture(scope="session")
def lively(run) -> Run:
    """Return the model with weights moved about, so that all it is told makes a difference: two steps hardly do."""
    leaves, tree = jax.tree.flatten(run.params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    moved = [leaf + 0.2 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return dataclasses.replace(run, params=jax.tree.unflatten(tree, moved))


@pytest.fixture(scope="session")
def listening_folders(tmp_path_factory):
    """Write eight clips of a reference and three systems; return their root."""
    root, generator = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for system, digit in itertools.product(("real", "good", "fair", "poor"), range(8)):
        clip = generator.uniform(-0.3, 0.3, 1600)
        clip[[0, -1]] = 0.3  # loud from its first sample to its last
        write_audio(root / system / f"{digit}_ann_0.wav", clip, 8000)
    return root


@pytest.fixture(scope="session")
def listening_test(listening_folders, tmp_path_factory):
    """Return what makes a test of a kind over some systems and gives its plan and its page."""
    out = tmp_path_factory.mktemp("made")

    @functools.cache
    def write_once(kind, systems, trials, seed):
        reference = listening_folders / "real" if kind in ("mos", "mushra") else None
        paths = {name: listening_folders / name for name in systems}
        name = f"{kind}_{'_'.join(systems)}_{trials}_{seed}.html"
        return write_test(out / name, Settings(kind, paths, reference, trials, seed, anchors_hz=(1000, 2000)))

    def make(kind, systems=("good", "fair"), trials=8, seed=0):
        page, plan = write_once(kind, systems, trials, seed)
        return read_plan(plan), page

    return make
