"""Every config is plain values that build: for each of its sizes a model or judge, a grid and a sampler."""

from __future__ import annotations

import importlib
import json
import pathlib
import re

import pytest
from command import plain

from audiodiff.build.experiment import make_averages, make_training_optimiser
from audiodiff.build.model import Facts, make_judge, make_model
from audiodiff.build.objective import make_objective, make_speaker_objective
from audiodiff.build.process import make_grid
from audiodiff.build.sampler import make_sampler
from audiodiff.build.stages import check_order, stage_config
from audiodiff.build.told import told_names
from audiodiff.data import ConditionInfo

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem not in ("__init__", "common"))
LABELS = ConditionInfo("label", ("one", "two"))


def module(name: str):
    return importlib.import_module(f"configs.{name}")


def sizes(name: str) -> list[str]:
    """Return the arguments that a config says it takes."""
    with pytest.raises(ValueError) as caught:
        module(name).get_config("nonsense")
    (listed,) = re.findall(r"choose ([\w, ]+?)(?:, or give none)?$", str(caught.value))
    none = [""] if "or give none" in str(caught.value) else []
    return [*none, *re.split(r", | or ", listed)]


CASES = [(name, size) for name in CONFIGS for size in sizes(name)]


def leaves(config):
    for value in config.values():
        yield from leaves(value) if isinstance(value, dict) else [value]


def trained(config):
    """Return the training configs in a config: itself, or those that others give the data of all."""
    if config["task"] == "cascade":
        check_order(config)
        return [stage_config(config, stage) for stage in config["order"]]
    if config["task"] == "hierarchy":
        arms = [one for arm in config["arms"].values() for one in trained(arm)]
        return [*arms, {**config["judge"], "data": config["data"]}]
    if config["task"] != "comparison":
        return [config]
    named = [*(config["arms"][name] for name in config["order"]), *(config.get(name) for name in ("judge", "vocoder"))]
    return [{**one, "data": config["data"]} for one in named if one]


@pytest.mark.parametrize(("name", "size"), CASES)
def test_every_size_is_plain_values_that_build(name, size):
    config = plain(module(name).get_config(size))
    assert all(isinstance(value, (str, int, float, bool, tuple)) for value in leaves(config))
    json.dumps(config)
    for one in trained(config):
        check_that_it_builds(one)


def check_that_it_builds(config):
    data = config["data"]
    if config.get("representation", {}).get("inverter", {}).get("name") == "vocoder":
        config["representation"]["inverter"] = {"name": "griffin_lim"}  # for want of a trained one
    if config.get("representation", {}).get("name") == "latent":
        config["representation"] = {"name": "waveform"}  # likewise
    known = dict.fromkeys((*data["conditions"], *config["conditions"]), LABELS)
    facts = Facts(data["rate_hz"], data["channels"], data["length_samples"], 0.1, 0.0, known, "")
    make_training_optimiser(config)
    assert config["training"]["ema_choice"] in make_averages(config["training"]["ema"])
    if config["task"] == "judge":
        assert [name for name, _ in make_judge(config, facts).heads] == list(config["conditions"])
        return
    if config["task"] == "speaker":
        assert (make_speaker_objective(config, facts).condition,) == config["conditions"]
        return
    if config["task"] == "autoencoder":
        assert make_objective(config, facts).network.ratio > 1
        return
    model, sampler = make_model(config, facts), config["sampler"]
    assert model.objective.conditions == (*config["conditions"], *told_names(config))
    grid = make_grid(sampler["grid"], model.process, facts.sigma_data, sampler["steps"])
    assert grid.sigma.shape == (sampler["steps"] + 1,)
    make_sampler({"name": sampler["name"], **sampler["options"]})


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_says_what_it_asks_and_how_it_is_run(name):
    text = module(name).__doc__
    assert "Question: " in text and re.search(r"experiments/(train|compare|cascade).py --config|make demo", text)
    assert re.search(r"Cost|at most \d+ minutes", text)
