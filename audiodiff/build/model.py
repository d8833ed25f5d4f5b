"""Build models: what a config and a few measured facts of its data make of representation, process and network."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from audiodiff import data, dsp
from audiodiff.build.choices import ConfigError, call, choose
from audiodiff.build.network import DTYPES, make_conditions, make_network
from audiodiff.build.process import make_levels, make_parameterisation, make_process, make_weighting
from audiodiff.data.sources import ConditionInfo
from audiodiff.diffusion.processes import Curve
from audiodiff.networks.classifier import LogMelClassifier
from audiodiff.networks.functional import Classify
from audiodiff.objectives.classification import REJECT, ClassificationObjective, JudgeFeatures
from audiodiff.objectives.diffusion import DiffusionObjective
from audiodiff.representations import Waveform
from audiodiff.types import Representation

FACTS_FILE = "model.json"


@dataclass(frozen=True)
class Facts:
    """Hold what a model must know of the data it was trained on, measured once and saved with the run."""

    rate_hz: int
    channels: int
    length_samples: int
    sigma_data: float
    mean: float
    conditions: Mapping[str, ConditionInfo]
    manifest_hash: str

    def save(self, workdir: pathlib.Path) -> None:
        """Write the facts as JSON."""
        (workdir / FACTS_FILE).write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, workdir: pathlib.Path) -> Facts:
        """Read the facts of a run."""
        try:
            values = json.loads((workdir / FACTS_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(f"{workdir} holds no {FACTS_FILE}: no run was started there; train first") from None
        infos = {
            name: ConditionInfo(info["kind"], tuple(info["vocabulary"])) for name, info in values["conditions"].items()
        }
        return cls(**{**values, "conditions": infos})


REPRESENTATIONS = {"waveform": (Waveform, ("preemphasis", "equaliser_db"))}


def make_representation(config: Mapping[str, Any], channels: int) -> Representation:
    """Build the map from audio to the array that diffuses."""
    kind, allowed = choose("representation", config["name"], REPRESENTATIONS)
    return call("representation", kind, config, allowed, channels=channels)


@dataclass(frozen=True)
class Model:
    """Hold a diffusion model without its weights: objective, process and facts."""

    objective: DiffusionObjective
    process: Curve
    facts: Facts


def make_model(config: Mapping[str, Any], facts: Facts) -> Model:
    """Build the diffusion model of a config."""
    names = tuple(config["conditions"])
    process = make_process(config["process"])
    parameterisation = make_parameterisation(config["parameterisation"])
    training = config["objective"]
    infos = {name: choose("condition", name, facts.conditions) for name in names}
    objective = DiffusionObjective(
        network=make_network(config["network"], make_conditions(names, infos), config["dtype"]),
        levels=make_levels(training["levels"], process, facts.sigma_data),
        sigma_data=float(np.float32(facts.sigma_data)),
        strata=config["training"]["batch_size"],
        representation=make_representation(config["representation"], facts.channels),
        conditions=names,
        parameterisation=parameterisation,
        weighting=make_weighting(training["weighting"], parameterisation),
        drop_probability=training["drop_probability"],
        drop_together=training["drop_together"],
        learned_uncertainty=training["learned_uncertainty"],
        mask_padding=training["mask_padding"],
        bands=training["bands"],
    )
    return Model(objective, process, facts)


def make_judge(config: Mapping[str, Any], facts: Facts) -> ClassificationObjective:
    """Build the classifier objective of a judge's config; every head has one class more, REJECT, as its last."""
    heads = []
    for name in config["conditions"]:
        info = choose("condition", name, facts.conditions)
        if info.kind != "label":
            raise ConfigError(f"condition {name!r} is a {info.kind}, and a judge tells labels apart: choose a label")
        heads.append((name, len(info.vocabulary) + 1))
    network = config["network"]
    module = LogMelClassifier(
        heads=tuple(heads), widths=tuple(network["widths"]), dtype=choose("dtype", config["dtype"], DTYPES)
    )
    augment = config["objective"]
    return ClassificationObjective(
        network=Classify(module),
        features=JudgeFeatures(make_mel(config["mel"], facts.rate_hz), facts.mean, facts.sigma_data),
        heads=tuple(heads),
        reject_probability=augment["reject_probability"],
        noise_probability=augment["noise_probability"],
        max_shift_samples=augment["max_shift_samples"],
    )


def make_mel(config: Mapping[str, Any], rate_hz: int) -> dsp.MelSpec:
    """Build a mel convention: a preset by name at the model's rate, with its sizes changed where given."""
    preset = choose("mel preset", config["name"], dsp.MEL_PRESETS)
    sizes = {key: config[key] for key in ("fft_samples", "hop_samples", "window_samples") if key in config}
    changes = {key: config[key] for key in ("bands", "fmin_hz", "fmax_hz", "floor") if key in config}
    if preset.fmax_hz is not None:  # a preset's own bound may lie above half of another rate
        changes.setdefault("fmax_hz", min(preset.fmax_hz, rate_hz / 2))
    try:
        return dataclasses.replace(preset, rate_hz=rate_hz, stft=dsp.with_sizes(preset.stft, **sizes), **changes)
    except ValueError as error:
        raise ConfigError(f"mel {config['name']!r}: {error}") from error


def judge_classes(facts: Facts, head: str) -> tuple[str, ...]:
    """Return the names of a head's classes, REJECT last."""
    return (*facts.conditions[head].vocabulary, REJECT)


def measure_facts(
    sets_split: data.Source, preparation: data.Preparation, encode: Any, manifest_hash: str
) -> tuple[Facts, data.DataStatistics]:
    """Measure the facts of a training split: sigma_data and mean of ``encode`` of its prepared clips."""
    statistics = data.measure(sets_split, preparation, encode, manifest_hash=manifest_hash)
    facts = Facts(
        rate_hz=sets_split.rate_hz,
        channels=sets_split.channels,
        length_samples=preparation.length_samples,
        sigma_data=statistics.sigma_data,
        mean=statistics.mean,
        conditions=dict(sets_split.conditions),
        manifest_hash=manifest_hash,
    )
    return facts, statistics
