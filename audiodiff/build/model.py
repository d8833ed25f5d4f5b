"""Build models: what a config and a few measured facts of its data make of representation, process and network."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from audiodiff import data, dsp
from audiodiff.build.choices import ConfigError, Table, call, choose, construct, options
from audiodiff.build.latent import check_latent, load_latent
from audiodiff.build.network import make_classifier, make_conditions, make_network
from audiodiff.build.process import make_grid, make_levels, make_parameterisation, make_process, make_weighting
from audiodiff.build.sampler import make_sampler
from audiodiff.build.told import add_level, check_told, make_told, told_names, told_noise, told_specs
from audiodiff.diffusion.priors import Prior, Standard
from audiodiff.diffusion.processes import Curve
from audiodiff.hierarchy.levels import PooledMel, PyramidLevel
from audiodiff.hierarchy.pyramid import Pyramid
from audiodiff.networks.conditions import ConditionSpec
from audiodiff.objectives.classification import REJECT, ClassificationObjective, JudgeFeatures
from audiodiff.objectives.diffusion import AudioLoss, DiffusionObjective
from audiodiff.representations import ComplexStft, GriffinLim, Inverter, Latent, LogMel, Mdct, Waveform
from audiodiff.training import read_config, restore_params
from audiodiff.training.workdir import write_json
from audiodiff.types import Array, PyTree, Representation
from audiodiff.vocoders import (
    MEL,
    DiffusionVocoder,
    FrameEnergy,
    MatchMel,
    MelFrames,
    SpectralEnvelope,
    check_same_mel,
)

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


def _log_mel(
    rate_hz: int, channels: int, mel: Mapping[str, Any], inverter: Mapping[str, Any] = {"name": "griffin_lim"}
) -> LogMel:
    spec = make_mel(mel, rate_hz)
    return LogMel(spec, make_inverter(inverter, spec), channels=channels)


def _vocoder(mel: dsp.MelSpec, workdir: str, **settings: Any) -> DiffusionVocoder:
    """Load a trained vocoder from the folder of its run, and see that it speaks this mel."""
    folder = pathlib.Path(workdir).expanduser()
    config, facts = read_config(folder), Facts.load(folder)
    if facts.mel is None or not is_told_mel(config):
        raise ConfigError(f"{folder} holds no vocoder, a model told a mel: train one with configs/vocoder_digits.py")
    check_same_mel(mel, dsp.MelSpec.from_dict(facts.mel))
    params = restore_params(folder, ema=config["training"]["ema_choice"] or None)
    return make_vocoder(config, facts, params, settings)


INVERTERS: Table[Inverter] = {
    "griffin_lim": (GriffinLim, ("iterations", "momentum", "mel_iterations")),
    "vocoder": (_vocoder, ("workdir", "sampler", "steps", "match_mel")),
}
"""Log-mel to audio, ``(mel, **options) -> inverter``."""


def make_inverter(config: Mapping[str, Any], mel: dsp.MelSpec) -> Inverter:
    """Build what turns log-mels of that convention into audio: Griffin-Lim's algorithm, or a vocoder from its workdir.

    Raises ConfigError for a vocoder of another mel, naming each field that differs with both values.
    """
    return construct("inverter", INVERTERS, config, mel=mel)


def _latent(rate_hz: int, channels: int, workdir: str, hash: str = "") -> Latent:
    folder = pathlib.Path(workdir).expanduser()
    config, facts = read_config(folder), Facts.load(folder)
    trained_on = {"rate_hz": facts.rate_hz, "channels": facts.channels}
    asked = {"rate_hz": rate_hz, "channels": channels}
    return load_latent(folder, config, trained_on, asked, sigma_data=facts.sigma_data, wanted=hash)


def _pyramid(
    rate_hz: int,
    channels: int,
    factors: tuple[int, ...],
    level: int,
    bands: tuple[int, ...] = (),
    frame_samples: int = Pyramid.frame_samples,
    window: str = Pyramid.window,
    **filters: Any,
) -> PyramidLevel:
    del rate_hz  # a level's is a fraction of it
    pyramid = Pyramid(tuple(factors), frame_samples, window)
    return PyramidLevel(pyramid, level, tuple(bands), Waveform(channels=channels, **filters))


def _pooled_mel(rate_hz: int, channels: int, mel: Mapping[str, Any], pool_frames: int = 1) -> PooledMel:
    if channels != 1:
        raise ConfigError(f"the data have {channels} channels and a pooled log-mel is of one: set data.channels=1")
    return PooledMel(make_mel(mel, rate_hz), pool_frames)


REPRESENTATIONS: Table[Representation] = {
    "waveform": (_waveform, ("preemphasis", "equaliser_db")),
    "complex_stft": (_complex_stft, ("fft_samples", "hop_samples", "window_samples", "window", "exponent")),
    "mdct": (_mdct, ("frame_samples", "window", "exponent")),
    "log_mel": (_log_mel, ("mel", "inverter")),
    "latent": (_latent, ("workdir", "hash")),
    "pyramid": (
        _pyramid,
        ("factors", "level", "bands", "frame_samples", "window", "preemphasis", "equaliser_db"),
    ),
    "pooled_mel": (_pooled_mel, ("mel", "pool_frames")),
}
"""Audio to the array that diffuses, ``(channels, rate_hz, **options) -> representation``."""

MEL_SIZES = ("fft_samples", "hop_samples", "window_samples")
MEL_OPTIONS = (*MEL_SIZES, "bands", "fmin_hz", "fmax_hz", "floor")

PRIORS: Table[Prior] = {
    "standard": (lambda mel: Standard(), ()),
    "frame_energy": (lambda mel, **options: FrameEnergy(_needed(mel), **options), ("floor",)),
    "spectral_envelope": (lambda mel, **options: SpectralEnvelope(_needed(mel), **options), ("floor",)),
}
"""What the noise knows of the mel, ``(mel, **options) -> prior``; "frame_energy" is PriorGrad's."""

AUDIO_LOSS_OPTIONS = ("weight", "largest_ratio", "fft_samples")
DIFFUSION_OPTIONS = ("drop_probability", "drop_together", "learned_uncertainty", "mask_padding", "bands")
JUDGE_OPTIONS = ("reject_probability", "noise_probability", "max_shift_samples")


@dataclass(frozen=True)
class Facts:
    """Hold what a model must know of the data it was trained on, measured once and saved with the run.

    ``sigma_data`` and ``mean`` are of the array that the model sees: what diffuses, or the judge's log-mel. A log-mel's
    mean is taken off it, which leaves sigma_data as it is. ``mel`` is the convention that a judge listens in, a
    log-mel model speaks or a vocoder is told, :meth:`dsp.MelSpec.to_dict`: a config names a preset, and presets change.
    A vocoder standardises what it is told by ``mel_mean`` and ``mel_std``. ``latent_hash`` is that of the autoencoder's
    weights in whose latent a model diffuses. ``told`` has "mean" and "std" of each level that a stage is told.
    """

    rate_hz: int
    channels: int
    length_samples: int
    sigma_data: float
    mean: float
    conditions: Mapping[str, data.ConditionInfo]
    manifest_hash: str
    mel: Mapping[str, Any] | None = None
    mel_mean: float = 0.0
    mel_std: float = 1.0
    latent_hash: str = ""
    told: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

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
    frames: Callable[..., Any] | None = None,
    latent_hash: str = "",
    levels: Mapping[str, Callable[..., Any]] | None = None,
) -> tuple[Facts, data.DataStatistics]:
    """Measure the facts of a training split: sigma_data and mean of ``encode``, in ``mel``, of its prepared clips.

    ``frames`` makes of audio what a vocoder is told, and each of ``levels`` what a stage is told of a coarser one:
    their means and standard deviations are measured too.
    """
    of_levels = {
        name: data.measure(source, preparation, level, strict=strict) for name, level in (levels or {}).items()
    }
    statistics = data.measure(source, preparation, encode, manifest_hash=manifest_hash, strict=strict)
    told = data.measure(source, preparation, frames, strict=strict) if frames else None
    facts = Facts(
        rate_hz=source.rate_hz,
        channels=source.channels,
        length_samples=preparation.length_samples,
        sigma_data=statistics.sigma_data,
        mean=statistics.mean,
        conditions=dict(source.conditions),
        manifest_hash=manifest_hash,
        mel=None if mel is None else mel.to_dict(),
        latent_hash=latent_hash,
        told={name: {"mean": measured.mean, "std": measured.sigma_data} for name, measured in of_levels.items()},
        **({"mel_mean": told.mean, "mel_std": told.sigma_data} if told else {}),
    )
    return facts, statistics


def make_representation(
    config: Mapping[str, Any], channels: int, rate_hz: int, facts: Facts | None = None
) -> Representation:
    """Build the map from audio to the array that diffuses: as it is measured, or with its ``facts`` as it is trained.

    Raises ConfigError where a log-mel or a latent is not the one that the facts were measured in.
    """
    representation = construct("representation", REPRESENTATIONS, config, channels=channels, rate_hz=rate_hz)
    if facts is not None and isinstance(representation, Latent):
        check_latent(representation, facts.latent_hash, config["workdir"], "the model was trained in the latent of")
    if facts is None or not isinstance(representation, (LogMel, PooledMel)):
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
    process = make_process(config["process"])
    parameterisation = make_parameterisation(config["parameterisation"])
    representation = make_representation(config["representation"], facts.channels, facts.rate_hz, facts)
    *bins, channels = representation.shape(1, facts.length_samples)[2:]
    told = make_told(config, facts.channels, facts.rate_hz, make_representation)
    check_told(told, config, representation, tuple(facts.conditions))
    training = dict(config["objective"])
    levels, weighting, audio_loss = training.pop("levels"), training.pop("weighting"), training.pop("audio_loss", {})
    objective = call(
        "objective",
        DiffusionObjective,
        training,
        DIFFUSION_OPTIONS,
        network=make_network(
            config["network"],
            (*_condition_specs(config, facts), *told_specs(told, config, representation, facts.told)),
            audio_channels=channels,
            bins=bins[0] if bins else None,
            dtype=config["dtype"],
        ),
        levels=make_levels(levels, process, facts.sigma_data),
        sigma_data=float(np.float32(facts.sigma_data)),  # as the compiled step sees it, so that levels compare exactly
        strata=config["training"]["batch_size"],
        representation=representation,
        conditions=(*config["conditions"], *told_names(config)),
        derived=(*make_derived(config, facts.rate_hz), *told.items()),
        noise=told_noise(config, facts.told),
        kept=told_names(config),
        prior=make_prior(config, facts.rate_hz),
        finish=_finish(config, facts.rate_hz) or add_level(told, representation),
        audio_loss=_make_audio_loss(audio_loss, representation) if audio_loss else None,
        parameterisation=parameterisation,
        weighting=make_weighting(weighting, parameterisation),
    )
    return Model(objective, process, facts)


def _condition_specs(config: Mapping[str, Any], facts: Facts) -> tuple[ConditionSpec, ...]:
    """Describe the conditions of a model: those of its data in their order, and the mel of a vocoder."""
    told = is_told_mel(config)
    names = [name for name in config["conditions"] if not (told and name == MEL)]
    infos = {name: choose("condition", name, facts.conditions) for name in names}
    specs = make_conditions(infos)
    if not told:
        return specs
    spec = make_mel(config["mel"], facts.rate_hz)
    check_mel(config["mel"], spec, facts, "vocoder")
    return (*specs, ConditionSpec(MEL, "frames", size=spec.bands, mean=facts.mel_mean, std=facts.mel_std))


def is_told_mel(config: Mapping[str, Any]) -> bool:
    """Return whether a model is a vocoder: its condition "mel" is one the config describes, and none of its data's."""
    return MEL in config["conditions"] and MEL in config


def make_derived(config: Mapping[str, Any], rate_hz: int) -> tuple[tuple[str, Callable[[Array], Array]], ...]:
    """Return the conditions that are made of the clip itself, (name, function of the audio)."""
    return ((MEL, MelFrames(make_mel(config["mel"], rate_hz))),) if is_told_mel(config) else ()


def _finish(config: Mapping[str, Any], rate_hz: int) -> MatchMel | None:
    """Return what brings a vocoder's sound nearer to its mel, ``sampler.match_mel`` times; None of another model."""
    if not is_told_mel(config):
        return None
    return MatchMel(make_mel(config["mel"], rate_hz), config["sampler"].get("match_mel", MatchMel.iterations))


def make_prior(config: Mapping[str, Any], rate_hz: int) -> Prior:
    """Build the prior of a config, the standard one where it names none; raise ConfigError for one without its mel."""
    mel = make_mel(config["mel"], rate_hz) if is_told_mel(config) else None
    return construct("prior", PRIORS, config.get("prior", {"name": "standard"}), mel=mel)


def _needed(mel: dsp.MelSpec | None) -> dsp.MelSpec:
    if mel is None:
        raise ConfigError("it is made of the condition 'mel', which this model has not: use the standard prior")
    return mel


def _make_audio_loss(config: Mapping[str, Any], representation: Representation) -> AudioLoss:
    """Build the loss of decoded estimates; raise ConfigError where they are a part of the clip alone."""
    if isinstance(representation, PyramidLevel) and (
        representation.bands or representation.level < representation.pyramid.top
    ):
        raise ConfigError(
            f"audio_loss compares with the whole clip, and this stage makes level {representation.level} of "
            f"{representation.pyramid.top}, bands {representation.bands or 'all'}: take it to a model of all of it"
        )
    return call("audio_loss", _audio_loss, config, AUDIO_LOSS_OPTIONS)


def _audio_loss(weight: float, fft_samples: tuple[int, ...], largest_ratio: float = 0.5) -> AudioLoss:
    stfts = tuple(dsp.StftSpec(size, size // 4) for size in fft_samples)
    return AudioLoss(weight, largest_ratio, dsp.MultiResolutionSpec(stfts, power_floor=1e-7))


def without_remat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config for after training: remat serves training alone, and forbids forward-mode derivatives."""
    return {**config, "network": {key: value for key, value in config["network"].items() if key != "remat"}}


def make_vocoder(
    config: Mapping[str, Any], facts: Facts, params: PyTree, settings: Mapping[str, Any] | None = None
) -> DiffusionVocoder:
    """Build the vocoder of a config and its weights; ``settings``: sampler, steps, match_mel, if not the config's.

    Raises ConfigError where a condition beside the mel is wanted, which an inverter of mels is not told.
    """
    settings = dict(settings or {})
    own = {**config["sampler"], **{key: value for key, value in settings.items() if key == "match_mel"}}
    model = make_model({**without_remat(config), "sampler": own}, facts)
    objective = model.objective
    if objective.conditions != (MEL,):
        raise ConfigError(f"the model is told {', '.join(objective.conditions)}: an inverter is told a mel alone")
    name = settings.get("sampler", own["name"])
    sampler = make_sampler({"name": name, **(own["options"] if name == own["name"] else {})})
    grid = make_grid(own["grid"], model.process, facts.sigma_data, settings.get("steps", own["steps"]))
    frames, finish = dict(objective.derived)[MEL], objective.finish
    assert isinstance(frames, MelFrames) and isinstance(finish, MatchMel)
    return DiffusionVocoder(
        objective.denoiser(params), objective.representation, objective.prior, grid, frames, sampler, finish
    )


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
