"""Build models: what a config and a few measured facts of its data make of representation, process and network."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from audiodiff import data, dsp
from audiodiff.build.choices import ConfigError, Table, call, choose, construct, options
from audiodiff.build.network import make_classifier, make_conditions, make_network
from audiodiff.build.process import make_levels, make_parameterisation, make_process, make_weighting
from audiodiff.diffusion.processes import Curve
from audiodiff.objectives.classification import REJECT, ClassificationObjective, JudgeFeatures
from audiodiff.objectives.diffusion import DiffusionObjective
from audiodiff.representations import ComplexStft, GriffinLim, LogMel, Mdct, Waveform
from audiodiff.training.workdir import write_json
from audiodiff.types import Representation

FACTS_FILE = "model.json"


def _waveform(rate_hz: int, **options: Any) -> Waveform:
    del rate_hz  # a filter is of samples
    return Waveform(**options)


def _complex_stft(rate_hz: int, channels: int, exponent: float = 0.5, **stft: Any) -> ComplexStft:
    del rate_hz  # sizes are in samples
    return ComplexStft(dsp.StftSpec(**stft), exponent, channels)


def _mdct(rate_hz: int, channels: int, exponent: float = 1.0, **mdct: Any) -> Mdct:
    del rate_hz
    return Mdct(dsp.MdctSpec(**mdct), exponent, channels)


def _log_mel(rate_hz: int, channels: int, mel: Mapping[str, Any], **griffin_lim: Any) -> LogMel:
    spec = make_mel(mel, rate_hz)
    return LogMel(spec, GriffinLim(spec, **griffin_lim), channels=channels)


REPRESENTATIONS: Table[Representation] = {
    "waveform": (_waveform, ("preemphasis", "equaliser_db")),
    "complex_stft": (_complex_stft, ("fft_samples", "hop_samples", "window_samples", "window", "exponent")),
    "mdct": (_mdct, ("frame_samples", "window", "exponent")),
    "log_mel": (_log_mel, ("mel", "iterations", "momentum", "mel_iterations")),
}
"""Audio to the array that diffuses, ``(channels, rate_hz, **options) -> representation``."""

MEL_SIZES = ("fft_samples", "hop_samples", "window_samples")
MEL_OPTIONS = (*MEL_SIZES, "bands", "fmin_hz", "fmax_hz", "floor")
DIFFUSION_OPTIONS = ("drop_probability", "drop_together", "learned_uncertainty", "mask_padding", "bands")
JUDGE_OPTIONS = ("reject_probability", "noise_probability", "max_shift_samples")


@dataclass(frozen=True)
class Facts:
    """Hold what a model must know of the data it was trained on, measured once and saved with the run.

    ``sigma_data`` and ``mean`` are of the array that the model sees: what diffuses, or the judge's log-mel. A log-mel's
    mean is taken off it, which leaves sigma_data as it is. ``mel`` is the convention that a judge listens in, or a
    log-mel model speaks, :meth:`dsp.MelSpec.to_dict`: a config names a preset, and presets change.
    """

    rate_hz: int
    channels: int
    length_samples: int
    sigma_data: float
    mean: float
    conditions: Mapping[str, data.ConditionInfo]
    manifest_hash: str
    mel: Mapping[str, Any] | None = None

    def save(self, workdir: pathlib.Path) -> None:
        """Write the facts as JSON, whole or not at all."""
        write_json(workdir / FACTS_FILE, dataclasses.asdict(self))

    @classmethod
    def load(cls, workdir: pathlib.Path) -> Facts:
        """Read the facts of a run; raise FileNotFoundError where there are none, ConfigError where they are damaged."""
        path = workdir / FACTS_FILE
        if not path.exists():
            raise FileNotFoundError(f"{workdir} holds no {FACTS_FILE}: no run was started there; train first")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values["conditions"] = {
                name: data.ConditionInfo(info["kind"], tuple(info["vocabulary"]), tuple(info.get("shape", ())))
                for name, info in values["conditions"].items()
            }
            if (mel := values.get("mel")) is not None:  # judges of before have none, and models need none
                values["mel"] = dsp.MelSpec.from_dict(mel).to_dict()  # JSON made its tuples lists
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path} is damaged ({error}): restore it, or choose another --workdir") from error

    def check_data(self, manifest_hash: str, workdir: pathlib.Path) -> None:
        """Raise ConfigError where a data set is not the one that the run in ``workdir`` was trained on."""
        if manifest_hash != self.manifest_hash:
            raise ConfigError(
                f"the data set's manifest is {manifest_hash} and {workdir} was trained on {self.manifest_hash}: "
                "point data.root at the set it was trained on, or choose another --workdir"
            )


def measure_facts(
    source: data.Source,
    preparation: data.Preparation,
    encode: Callable[..., Any],
    manifest_hash: str,
    *,
    strict: bool = False,
    mel: dsp.MelSpec | None = None,
) -> tuple[Facts, data.DataStatistics]:
    """Measure the facts of a training split: sigma_data and mean of ``encode``, in ``mel``, of its prepared clips."""
    statistics = data.measure(source, preparation, encode, manifest_hash=manifest_hash, strict=strict)
    facts = Facts(
        rate_hz=source.rate_hz,
        channels=source.channels,
        length_samples=preparation.length_samples,
        sigma_data=statistics.sigma_data,
        mean=statistics.mean,
        conditions=dict(source.conditions),
        manifest_hash=manifest_hash,
        mel=None if mel is None else mel.to_dict(),
    )
    return facts, statistics


def make_representation(
    config: Mapping[str, Any], channels: int, rate_hz: int, facts: Facts | None = None
) -> Representation:
    """Build the map from audio to the array that diffuses: as it is measured, or with its ``facts`` as it is trained.

    Raises ConfigError where a log-mel is not the one that the facts were measured in.
    """
    representation = construct("representation", REPRESENTATIONS, config, channels=channels, rate_hz=rate_hz)
    if facts is None or not isinstance(representation, LogMel):
        return representation
    check_mel(config["mel"], representation.mel, facts, "model")
    return dataclasses.replace(representation, mean=facts.mean)


@dataclass(frozen=True)
class Model:
    """Hold a diffusion model without its weights: objective, process and facts."""

    objective: DiffusionObjective
    process: Curve
    facts: Facts


def make_model(config: Mapping[str, Any], facts: Facts) -> Model:
    """Build the diffusion model of a config."""
    infos = {name: choose("condition", name, facts.conditions) for name in config["conditions"]}
    process = make_process(config["process"])
    parameterisation = make_parameterisation(config["parameterisation"])
    representation = make_representation(config["representation"], facts.channels, facts.rate_hz, facts)
    *bins, channels = representation.shape(1, facts.length_samples)[2:]
    training = dict(config["objective"])
    levels, weighting = training.pop("levels"), training.pop("weighting")
    objective = call(
        "objective",
        DiffusionObjective,
        training,
        DIFFUSION_OPTIONS,
        network=make_network(
            config["network"],
            make_conditions(infos),
            audio_channels=channels,
            bins=bins[0] if bins else None,
            dtype=config["dtype"],
        ),
        levels=make_levels(levels, process, facts.sigma_data),
        sigma_data=float(np.float32(facts.sigma_data)),  # as the compiled step sees it, so that levels compare exactly
        strata=config["training"]["batch_size"],
        representation=representation,
        conditions=tuple(infos),
        parameterisation=parameterisation,
        weighting=make_weighting(weighting, parameterisation),
    )
    return Model(objective, process, facts)


def make_judge(config: Mapping[str, Any], facts: Facts) -> ClassificationObjective:
    """Build the classifier objective of a judge's config; every head has one class more, REJECT, as its last.

    Raises ConfigError where the judge cannot be, or was trained in another mel than the config now stands for.
    """
    check_label_conditions(config, facts, "judge")
    heads = tuple((name, len(judge_classes(facts, name))) for name in config["conditions"])
    return call(
        "objective",
        ClassificationObjective,
        config["objective"],
        JUDGE_OPTIONS,
        network=make_classifier(config["network"], heads, config["dtype"]),
        features=make_features(config, facts, "judge"),
        heads=heads,
    )


def check_label_conditions(config: Mapping[str, Any], facts: Facts, listener: str) -> None:
    """Raise ConfigError where the data have several channels, or a condition that is no label."""
    if facts.channels != 1:
        raise ConfigError(
            f"the data have {facts.channels} channels and a {listener} listens to one: set data.channels=1"
        )
    for name in config["conditions"]:
        info = choose("condition", name, facts.conditions)
        if info.kind != "label":
            raise ConfigError(
                f"condition {name!r} is a {info.kind}, and a {listener} tells labels apart: choose a label"
            )


def make_features(config: Mapping[str, Any], facts: Facts, listener: str) -> JudgeFeatures:
    """Build what a listener hears; raise ConfigError where its mel is not the one that the facts were measured in."""
    spec = make_mel(config["mel"], facts.rate_hz)
    check_mel(config["mel"], spec, facts, listener)
    return JudgeFeatures(spec, facts.mean, facts.sigma_data)


def check_mel(config: Mapping[str, Any], spec: dsp.MelSpec, facts: Facts, trained: str) -> None:
    """Raise ConfigError where a mel is not the one that the facts were measured in, with each field that differs."""
    differing = {} if facts.mel is None else dsp.differing_fields(spec, dsp.MelSpec.from_dict(facts.mel))
    if differing:
        listed = ", ".join(f"{name} is {now!r} and was {then!r}" for name, (now, then) in differing.items())
        raise ConfigError(
            f"mel {config['name']!r} has changed since the {trained} was trained: {listed}; "
            f"change the preset back, or train the {trained} anew"
        )


def judge_classes(facts: Facts, head: str) -> tuple[str, ...]:
    """Return the names of a head's classes, REJECT last."""
    return (*facts.conditions[head].vocabulary, REJECT)


def make_mel(config: Mapping[str, Any], rate_hz: int) -> dsp.MelSpec:
    """Build a mel convention: a preset by name at the model's rate, with its sizes changed where given."""
    preset = choose("mel preset", config.get("name", ""), dsp.MEL_PRESETS)
    given = options("mel", config, MEL_OPTIONS)
    sizes = {key: given.pop(key) for key in MEL_SIZES if key in given}
    given.setdefault("fmax_hz", min(preset.fmax_hz, rate_hz / 2))  # the preset's may lie above half of another rate
    try:
        stft = dataclasses.replace(preset.stft, **sizes)
        return dataclasses.replace(preset, rate_hz=rate_hz, stft=stft, **given)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"mel {config['name']!r}: {error}") from error
