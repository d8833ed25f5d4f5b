"""docs/extending.md is run as it stands: its files planted, its lines added, its config trained and sampled."""

from __future__ import annotations

import importlib
import importlib.util
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import plain

from audiodiff.build.experiment import run_experiment
from audiodiff.build.run import load_run
from audiodiff.build.sampler import make_sampler
from audiodiff.build.samples import write_samples
from audiodiff.data import write_audio
from audiodiff.types import Level
from tests.test_architecture import violations

PAGE = pathlib.Path(__file__).resolve().parent.parent / "docs" / "extending.md"


def blocks() -> dict[str, str]:
    """Return the page's Python by what its first line says it is: a file, or a file and a dictionary in it."""
    found = re.findall(r"^```python\n# ([^\n]*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    return dict(found)


FILES = {name: source for name, source in blocks().items() if ": " not in name}
LINES = {name: source for name, source in blocks().items() if ": " in name}


@pytest.fixture
def extended(tmp_path, monkeypatch) -> dict:
    """Load the page's files as modules, and add its lines to the dictionaries of build/."""
    names: dict = {}
    for name, source in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        module_name = name.removesuffix(".py").replace("/", ".")
        spec = importlib.util.spec_from_file_location(module_name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, module_name, module)
        spec.loader.exec_module(module)
        names |= vars(module)
    for name, source in LINES.items():
        path, table = name.split(": ")
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        # As it would be with an import of the new name at the top of the file.
        for key, value in eval(f"{{{source}}}", {**names, **vars(module)}).items():
            assert key not in getattr(module, table)
            monkeypatch.setitem(getattr(module, table), key, value)
    return names


@pytest.fixture
def root(tmp_path) -> pathlib.Path:
    """Write four takes of two pitches."""
    rng = np.random.default_rng(0)
    for pitch, hz in (("a4", 440.0), ("a6", 1760.0)):
        for take in range(4):
            audio = 0.3 * np.sin(2 * np.pi * hz * np.arange(1600) / 8000) + 0.001 * rng.standard_normal(1600)
            write_audio(tmp_path / "beeps" / f"{pitch}_{take}.wav", audio, 8000)
    return tmp_path / "beeps"


def test_one_file_and_one_line_each():
    rooms = [name.split("/")[1] for name in FILES if name.startswith("audiodiff/")]
    assert rooms == ["data", "data", "networks", "diffusion"]
    assert [name.split(": ")[1] for name in LINES] == ["LAYOUTS", "DERIVED", "NETWORKS", "SAMPLERS"]
    assert all(source.count("\n") == 1 for source in LINES.values())


def test_the_files_import_what_they_may(tmp_path):
    for name, source in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    assert violations(tmp_path) == []


def test_the_config_trains_and_samples(extended, root, tmp_path):
    config = plain(extended["get_config"]())
    config["data"]["root"] = str(root)
    config["training"] |= {"total_steps": 2, "save_every": 2, "evaluate_every": 2, "batch_size": 2, "devices": 1}
    config["training"] |= {"held_out_clips": 2, "log_every": 1}
    config["optimiser"]["warmup_steps"] = 0
    run_experiment(config, tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert run.vocabularies == {"pitch": ("a4", "a6")} and run.conditions == ("pitch", "brightness_octaves")
    write_samples(run, tmp_path / "samples", count=2, fixed={"brightness_octaves": "1.5"}, say=lambda line: None)
    assert (tmp_path / "samples" / "a4_1.5_0.wav").exists() and (tmp_path / "samples" / "a6_1.5_0.wav").exists()


def test_the_condition_is_what_it_says(extended):
    tone = np.sin(2 * np.pi * 2000 * np.arange(4000) / 8000)[:, None]
    assert extended["brightness_octaves"](tone, 8000) == pytest.approx(1.0, abs=1e-6)


def test_the_sampler_is_of_second_order(extended):
    """On one-dimensional Gaussian data the ODE has a solution: at the data x_1 = x_T / sqrt(1 + sigma_T^2)."""
    x = jnp.array([[1.0]])

    def denoise(x, level, conditions):
        return x / (1 + level.sigma[:, None] ** 2)

    def error(name: str, steps: int) -> float:
        sigma = jnp.linspace(2.0, 0.0, steps + 1)
        end = make_sampler({"name": name})(denoise, x, Level(jnp.ones_like(sigma), sigma), {}, None)
        return abs(float(end[0, 0]) - 1 / np.sqrt(5))

    with jax.enable_x64(True):
        x = jnp.array([[1.0]], jnp.float64)
        assert error("midpoint", 20) / error("midpoint", 40) > 3.5  # 4 for second order; 8 here, where a term vanishes
        assert error("euler", 20) / error("euler", 40) == pytest.approx(2, rel=0.15)
