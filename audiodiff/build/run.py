"""Load a run and use it from Python: ``run = audiodiff.load(workdir); run.sample(key, {"digit": "7"})``."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff import prng
from audiodiff.build.choices import ConfigError, choose
from audiodiff.build.conditions import encode_conditions
from audiodiff.build.model import (
    MEL,
    Facts,
    Model,
    judge_classes,
    make_inverter,
    make_judge,
    make_model,
    make_vocoder,
    without_remat,
)
from audiodiff.build.objective import make_speaker_objective
from audiodiff.build.process import make_grid
from audiodiff.build.sampler import check_guidance, make_sampler
from audiodiff.data import ConditionInfo
from audiodiff.data.normalisation import audible_gain_db, restore_level
from audiodiff.evaluation.generate import Guide, generate
from audiodiff.evaluation.judge import Judge
from audiodiff.evaluation.speaker import SpeakerEncoder
from audiodiff.representations import LogMel
from audiodiff.training import latest_step, read_config, reconstruct, restore_params
from audiodiff.types import Array, PyTree
from audiodiff.vocoders import DiffusionVocoder, MelFrames, check_mel

T = TypeVar("T", "Run", Judge, SpeakerEncoder)


@dataclass(frozen=True)
class Run:
    """Hold a trained diffusion model with its weights, ready to sample."""

    workdir: pathlib.Path
    config: Mapping[str, Any]
    model: Model
    params: PyTree
    step: int

    @property
    def facts(self) -> Facts:
        return self.model.facts

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions that the model takes, in the order of the data set."""
        return tuple(name for name in self.facts.conditions if name in self.model.objective.conditions)

    @property
    def vocabularies(self) -> dict[str, tuple[str, ...]]:
        """The labels of each condition that has labels, in the order of the data set."""
        infos = {name: self.facts.conditions[name] for name in self.conditions}
        return {name: info.vocabulary for name, info in infos.items() if info.kind == "label"}

    @property
    def frames(self) -> MelFrames | None:
        """What a vocoder makes of audio, to be told it; None of any other model."""
        frames = dict(self.model.objective.derived).get(MEL)
        return frames if isinstance(frames, MelFrames) else None

    @functools.cached_property
    def weights_hash(self) -> str:
        """The first 16 hex digits of the SHA-256 of the weights."""
        return hash_weights(self.params)

    def with_inverter(self, config: Mapping[str, Any]) -> Run:
        """Return the same run of log-mels with another way back to audio, as {"name": "vocoder", "workdir": ...}.

        Raises ConfigError for a run of another representation, and for a vocoder of another mel.
        """
        objective = self.model.objective
        if not isinstance(objective.representation, LogMel):
            kind = type(objective.representation).__name__
            raise ConfigError(f"{self.workdir} is of {kind}, which has no inverter: name a run of log-mels")
        inverter = make_inverter(config, objective.representation.mel)
        representation = dataclasses.replace(objective.representation, inverter=inverter)
        model = dataclasses.replace(self.model, objective=dataclasses.replace(objective, representation=representation))
        return dataclasses.replace(self, model=model)

    def vocoder(
        self, *, sampler: str | None = None, steps: int | None = None, match_mel: int | None = None
    ) -> DiffusionVocoder:
        """Return this run as an inverter of mels, (log_mel, key, length_samples) -> audio, differentiable and a pytree.

        Raises ConfigError for a run that is no vocoder.
        """
        given = {"sampler": sampler, "steps": steps, "match_mel": match_mel}
        given = {name: value for name, value in given.items() if value is not None}
        return make_vocoder(self.config, self.facts, self.params, given)

    def settings(
        self, *, sampler: str | None = None, steps: int | None = None, guidance: float | None = None
    ) -> dict[str, Any]:
        """Return the sampler section of the config with what is given instead; another sampler has its own options."""
        settings = dict(self.config["sampler"])
        if sampler is not None and sampler != settings["name"]:
            settings |= {"name": sampler, "options": {}}
        given = {"steps": steps, "guidance": guidance}
        return settings | {name: value for name, value in given.items() if value is not None}

    def sample(
        self,
        key: Array,
        conditions: Mapping[str, Any] | None = None,
        *,
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        length_samples: int | None = None,
        known: tuple[np.ndarray, np.ndarray] | None = None,
        guide: Judge | None = None,
        guide_scale: float = 1.0,
    ) -> np.ndarray:
        """Generate one clip for each value of the conditions: float32 [batch, time] at ``facts.rate_hz``.

        With several channels [batch, time, channel]. ``key`` is one key, from which each clip's own is derived, or one
        key a clip. A condition is a label as the data set writes it ("7"), its index (7), a number, a text or an array
        (or the path of its .npy file) where it is one, or a sequence of these; single values are repeated to the
        longest. Sampler, steps, guidance and length default to the config's.

        ``known`` is (audio, keep): recordings [batch or 1, time] (with several channels [..., channel]) and which of
        their samples to keep, bool [time]. The rest is made to go with them, at their level.

        ``guide`` is a judge that leads every step towards sound in which it hears the labels of its heads, the more so
        the larger ``guide_scale``; 0 leaves it unheard (see :class:`~audiodiff.evaluation.generate.Guide`). Very few
        steps are too long to follow it. ``conditions`` may name heads of the guide that the model has no condition for.
        What it led is for another judge to score.

        Raises ConfigError for unknown conditions, labels or samplers, for known audio that cannot be, and for a guide
        of other labels or another rate than the model's, or told of none.
        """
        settings = self.settings(sampler=sampler, steps=steps, guidance=guidance)
        length = self.facts.length_samples if length_samples is None else length_samples
        if length < 1:
            raise ConfigError(f"length_samples is {length}: give at least 1")
        asked = self.encode_conditions(conditions or {}, len(key) if key.ndim else None, guide=guide, length=length)
        values = {name: asked[name] for name in self.model.objective.conditions}
        strength = float(settings["guidance"])
        guided = bool(values) and strength != 1.0
        if guided:
            check_guidance(strength, self.model.objective.drop_probability)
        batch = len(next(iter(asked.values()))) if asked else len(key) if key.ndim else 1
        low, high = (bound * self.facts.sigma_data for bound in settings["guidance_interval"])
        gains_db, given = self._known(known, batch, length) if known else (None, None)
        audio = generate(
            self.model.objective,
            self.params,
            key if key.ndim else prng.per_example(key, jnp.arange(batch)),
            values,
            make_grid(settings["grid"], self.model.process, self.facts.sigma_data, settings["steps"]),
            {"scale": strength, "sigma_low": low, "sigma_high": high, "rescale": float(settings["guidance_rescale"])},
            sampler=make_sampler({"name": settings["name"], **settings["options"]}),
            length_samples=length,
            guided=guided,
            known=given,
            guide=self._guide(guide, guide_scale, asked) if guide else None,
        )
        if known is None or gains_db is None:
            return np.asarray(audio)
        clips = np.stack([restore_level(clip, gain) for clip, gain in zip(np.asarray(audio), gains_db, strict=True)])
        # A filter of the representation rings from a hole into what follows it: what is kept comes back untouched.
        keep = np.asarray(known[1], bool).reshape(1, -1, *[1] * (clips.ndim - 2))
        return np.where(keep, np.asarray(known[0], np.float32), clips)

    def continue_audio(
        self, key: Array, prompt: np.ndarray, conditions: Mapping[str, Any] | None = None, **options: Any
    ) -> np.ndarray:
        """Go on where a prompt ends: float32 [batch, time], which begins with the prompt [batch or 1, given].

        With several channels [..., channel]. ``options`` are those of :meth:`sample`; ``length_samples`` counts the
        prompt too. Raises ConfigError where nothing is left to be made.
        """
        length = options.get("length_samples") or self.facts.length_samples
        given = np.shape(prompt)[1]
        if given >= length:
            raise ConfigError(f"the prompt has {given} samples and the result {length}: shorten it or ask for more")
        padded = np.pad(prompt, [(0, 0), (0, length - given), *[(0, 0)] * (np.ndim(prompt) - 2)])
        return self.sample(key, conditions, known=(padded, np.arange(length) < given), **options)

    def _known(
        self, known: tuple[np.ndarray, np.ndarray], batch: int, length: int
    ) -> tuple[np.ndarray, tuple[Array, Array]]:
        """Check known audio and bring what is kept to the level of training: gains in dB, and (audio, keep)."""
        if len(self.model.objective.representation.shape(1, length)) != 3:
            raise ConfigError(
                "known audio is kept sample by sample, and this model is of spectra: take one of waveforms"
            )
        audio, keep = np.asarray(known[0], np.float32), np.asarray(known[1], bool)
        wanted = (length,) if self.facts.channels == 1 else (length, self.facts.channels)
        if audio.shape[1:] != wanted or len(audio) not in (1, batch) or keep.shape != (length,):
            raise ConfigError(
                f"the known audio has shape {audio.shape} and its mask {keep.shape}: give "
                f"{(batch, *wanted)} and {(length,)}"
            )
        if not np.isfinite(audio).all():
            raise ConfigError("the known audio holds NaN or infinite samples: mend it first")
        target = self.config["data"]["target_dbfs"]
        gains = [audible_gain_db(clip[keep], target) for clip in audio]
        gains_db = np.broadcast_to(gains, batch)
        scaled = audio * 10 ** (np.asarray(gains).reshape(-1, *[1] * (audio.ndim - 1)) / 20)
        whole = np.broadcast_to(scaled.astype(np.float32), (batch, *wanted))
        return gains_db, (jnp.asarray(whole), jnp.broadcast_to(keep, (batch, length)))

    def _guide(self, judge: Judge, scale: float, asked: Mapping[str, Array]) -> Guide:
        """Make a judge the guide to the labels of its heads among what is asked."""
        check_labels(self, judge)
        labels = {head: asked[head] for head in judge.classes if head in asked}
        if not labels:
            raise ConfigError(f"the guide hears {', '.join(judge.classes)}, and the conditions name none of these")
        return Guide(judge.objective.network, judge.objective.features, judge.params, labels, float(scale))

    def encode_conditions(
        self,
        conditions: Mapping[str, Any],
        batch: int | None = None,
        *,
        guide: Judge | None = None,
        length: int | None = None,
    ) -> dict[str, Array]:
        """Turn conditions as people write them into arrays [batch, ...], as many as the longest has by default.

        With a ``guide`` those of its heads that the model lacks may be given too. A vocoder's mel has the frames that
        stand over ``length`` samples, those of the config by default.
        """
        own = {name: self.facts.conditions[name] for name in self.conditions}
        heads = guide.classes if guide else {}
        told = {head: ConditionInfo("label", classes[:-1]) for head, classes in heads.items() if head in conditions}
        if self.frames is None:
            return encode_conditions(told | own, conditions, batch)
        if MEL not in conditions:
            raise ConfigError("condition 'mel' is missing: a vocoder is told a log-mel [frame, band], or [batch, ...]")
        mel = jnp.asarray(conditions[MEL])
        mel = mel[None] if mel.ndim == 2 else mel
        check_mel(np.asarray(mel), self.frames.mel)
        mel = self.frames.fit(mel, self.facts.length_samples if length is None else length)
        others = {name: value for name, value in conditions.items() if name != MEL}
        batch = len(mel) if batch is None else batch
        encoded = encode_conditions(told | own, others, batch) if others else {}
        return encoded | {MEL: jnp.broadcast_to(mel, (batch, *mel.shape[1:]))}


def load(
    workdir: str | os.PathLike[str], *, ema: str | float | None = "default", step: int | None = None
) -> Run | Judge | SpeakerEncoder:
    """Load what was trained in a workdir: a :class:`Run`, a :class:`Judge` or a :class:`SpeakerEncoder`.

    ``ema`` names the moving average of the weights ("default": the config's choice; None: the weights themselves), or
    is the relative length of one that is put together from the snapshots of a run with ``training.snapshot_every``
    (EDM2's post-hoc average). ``step`` is that of a checkpoint or snapshot (None: the newest). Raises FileNotFoundError
    where there is no run, or no such step, and ValueError for a length that cannot be.
    """
    folder = pathlib.Path(workdir).expanduser().resolve()
    config = read_config(folder)
    facts = Facts.load(folder)
    if isinstance(ema, float):
        params, step, _ = reconstruct(folder, ema, step=step)
    else:
        chosen = config["training"]["ema_choice"] if ema == "default" else ema
        step = latest_step(folder) if step is None else step
        params = restore_params(folder, ema=chosen or None, step=step)
    assert step is not None  # or restore_params had raised
    return choose("task", config["task"], LOADERS)(folder, config, facts, params, step)


def _run(folder: pathlib.Path, config: Mapping[str, Any], facts: Facts, params: PyTree, step: int) -> Run:
    return Run(folder, config, make_model(without_remat(config), facts), params, step)


def _judge(folder: pathlib.Path, config: Mapping[str, Any], facts: Facts, params: PyTree, step: int) -> Judge:
    objective = make_judge(config, facts)
    classes = {name: judge_classes(facts, name) for name, _ in objective.heads}
    return Judge(objective, params, classes, facts.rate_hz, hash_weights(params))


def _speaker_encoder(
    folder: pathlib.Path, config: Mapping[str, Any], facts: Facts, params: PyTree, step: int
) -> SpeakerEncoder:
    return SpeakerEncoder(make_speaker_objective(config, facts), params, facts.rate_hz, hash_weights(params))


LOADERS: dict[str, Callable[..., Run | Judge | SpeakerEncoder]] = {
    "diffusion": _run,
    "judge": _judge,
    "speaker": _speaker_encoder,
}
"""What was trained -> what is loaded, ``(workdir, config, facts, params, step) -> ...``."""

KINDS = {Run: "model", Judge: "judge", SpeakerEncoder: "speaker encoder"}
"""What a workdir is said to hold."""


def load_run(workdir: str | os.PathLike[str], **options: Any) -> Run:
    """Load a diffusion model by the options of :func:`load`; raise ConfigError where the workdir holds another kind."""
    return _expect(Run, "generates", workdir, load(workdir, **options))


def load_judge(workdir: str | os.PathLike[str]) -> Judge:
    """Load a judge; raise ConfigError where the workdir holds another kind."""
    return _expect(Judge, "judges", workdir, load(workdir))


def load_speaker_encoder(workdir: str | os.PathLike[str]) -> SpeakerEncoder:
    """Load a speaker encoder; raise ConfigError where the workdir holds another kind."""
    return _expect(SpeakerEncoder, "embeds", workdir, load(workdir))


def _expect(kind: type[T], does: str, workdir: str | os.PathLike[str], loaded: Run | Judge | SpeakerEncoder) -> T:
    """Return what was loaded; raise ConfigError where it is not of the kind that does what is wanted."""
    if not isinstance(loaded, kind):
        raise ConfigError(
            f"{workdir} holds a {KINDS[type(loaded)]}, which {does} nothing: name the workdir of a {KINDS[kind]}"
        )
    return loaded


def check_labels(run: Run, judge: Judge) -> None:
    """Raise ConfigError where a judge means other sounds by its labels, or listens at another rate."""
    if run.facts.rate_hz != judge.rate_hz:
        raise ConfigError(
            f"the run is at {run.facts.rate_hz} Hz and the judge at {judge.rate_hz} Hz: take another judge"
        )
    for name, labels in run.vocabularies.items():
        if name in judge.classes and judge.classes[name][:-1] != labels:
            ours, theirs = ", ".join(labels), ", ".join(judge.classes[name][:-1])
            raise ConfigError(
                f"the labels of {name!r} are {ours} in the run and {theirs} in the judge: take a judge of the same"
            )


def hash_weights(params: PyTree) -> str:
    """Return the first 16 hex digits of the SHA-256 of all arrays with their paths."""
    digest = hashlib.sha256()
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    for path in sorted(leaves):
        digest.update(path.encode())
        digest.update(np.ascontiguousarray(leaves[path]).tobytes())
    return digest.hexdigest()[:16]
