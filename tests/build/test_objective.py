"""A speaker encoder is trained by the one trainer, loaded by the one loader, and told apart from a judge."""

from __future__ import annotations

import copy
import pathlib
from typing import Any

import numpy as np
import pytest
from command import plain

import audiodiff
from audiodiff.build.choices import ConfigError
from audiodiff.build.experiment import run_experiment
from audiodiff.build.model import Facts
from audiodiff.build.objective import make_objective
from audiodiff.build.run import load_judge, load_run, load_speaker_encoder
from audiodiff.data import ConditionInfo
from audiodiff.evaluation.speaker import SpeakerEncoder
from audiodiff.training import read_metrics
from configs import speaker_encoder

FACTS = Facts(8000, 1, 2048, 0.1, 0.0, {"speaker": ConditionInfo("label", ("ann", "bob"))}, "")
AUDIO = np.random.default_rng(0).normal(size=(3, 2048)).astype(np.float32)


def changed(section: str, **changes: Any) -> dict[str, Any]:
    """Return a small speaker encoder's config with one section changed."""
    config = plain(speaker_encoder.get_config("smoke"))
    config["network"] = {"name": "classifier", "widths": (4,), "features": 4}
    config[section] = config[section] | changes if isinstance(config[section], dict) else changes[section]
    return config


@pytest.fixture(scope="module")
def speaker_workdir(tmp_path_factory, _configs) -> pathlib.Path:
    """Return the workdir of an encoder of generated sounds that was trained for two steps."""
    config = {**copy.deepcopy(_configs["judge_smoke"]), "task": "speaker"}
    config["objective"] = {"loss": {"name": "nt_xent", "temperature": 0.2}, "dim": 5, "noise_probability": 0.5}
    config["training"]["batch_size"] = 4
    folder = tmp_path_factory.mktemp("runs") / "speaker"
    run_experiment(config, folder)
    return folder


def test_a_trained_encoder_is_loaded_with_its_weights(speaker_workdir):
    encoder = audiodiff.load(speaker_workdir)
    assert isinstance(encoder, SpeakerEncoder) and encoder.rate_hz == 8000
    assert encoder.weights_hash == load_speaker_encoder(speaker_workdir).weights_hash
    embeddings = encoder(AUDIO, 8000)
    assert embeddings.shape == (3, 5)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(encoder(AUDIO / 30, 8000), embeddings, atol=1e-3)  # level is no evidence


def test_the_strength_of_the_loss_is_the_configs(speaker_workdir):
    loss = audiodiff.load(speaker_workdir).objective.loss
    assert loss.keywords == {"temperature": 0.2}


def test_held_out_clips_are_measured(speaker_workdir):
    lines = read_metrics(speaker_workdir)
    held_out = {name: value for line in lines for name, value in line.items() if name.startswith("held_out")}
    assert {name.split("/", 1)[1] for name in held_out} >= {"loss", "cosine/other"}


def test_kinds_are_told_apart(speaker_workdir, judge_workdir, workdir):
    with pytest.raises(ConfigError, match="holds a speaker encoder, which generates nothing: .* workdir of a model"):
        load_run(speaker_workdir)
    with pytest.raises(ConfigError, match="holds a speaker encoder, which judges nothing: .* workdir of a judge"):
        load_judge(speaker_workdir)
    with pytest.raises(ConfigError, match="holds a judge, which embeds nothing: .* workdir of a speaker encoder"):
        load_speaker_encoder(judge_workdir)


@pytest.mark.parametrize("name", ["nt_xent", "ge2e", "prototypical", "triplet"])
def test_every_loss_builds(name):
    objective = make_objective(changed("objective", loss={"name": name}), FACTS)
    assert objective.loss.func.__name__ == name and objective.condition == "speaker"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (changed("conditions", conditions=()), "takes one condition, the speaker, and conditions has none: give one"),
        (changed("conditions", conditions=("speeker",)), "unknown condition 'speeker'; choose one of speaker"),
        (changed("objective", loss={"name": "ge2"}), "unknown speaker loss 'ge2'; choose one of ge2e, "),
        (changed("objective", loss={"name": "ge2e", "margin": 1.0}), "'ge2e' takes no 'margin'; it takes scale"),
        (changed("objective", noise=0.5), "objective takes no 'noise'; it takes noise_probability, "),
        (changed("task", task="speeker"), "unknown task 'speeker'; choose one of speaker, "),
    ],
)
def test_what_cannot_be_built_is_told(config, said):
    with pytest.raises(ConfigError, match=said):
        make_objective(config, FACTS)
