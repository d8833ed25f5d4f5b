"""Load a run and use it from Python: ``run = audiodiff.load(workdir); run.sample(key, {"digit": "7"})``."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import jax.numpy as jnp
import numpy as np

from audiodiff import prng
from audiodiff.build.choices import ConfigError, choose
from audiodiff.build.conditions import encode_conditions
from audiodiff.build.latent import hash_weights, make_latent
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
from audiodiff.build.told import told_sections
from audiodiff.data import ConditionInfo
from audiodiff.data.normalisation import audible_gain_db, restore_level
from audiodiff.data.pipeline import START_SECONDS
from audiodiff.evaluation.codec import Codec
from audiodiff.evaluation.generate import Guide, generate
from audiodiff.evaluation.judge import Judge
from audiodiff.evaluation.long import begin, generate_chunk, generate_windowed
from audiodiff.evaluation.speaker import SpeakerEncoder
from audiodiff.hierarchy.told import Told
from audiodiff.representations import LogMel
from audiodiff.training import latest_step, read_config, reconstruct, restore_params
from audiodiff.types import Array, PyTree
from audiodiff.vocoders import DiffusionVocoder, MelFrames, check_mel

T = TypeVar("T", "Run", Judge, SpeakerEncoder, Codec)
Loaded: TypeAlias = "Run | Judge | SpeakerEncoder | Codec"


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

    @property
    def levels(self) -> dict[str, Told]:
        """What a stage is told of coarser levels: what makes each of audio, by the name of its condition."""
        return {name: made for name, made in self.model.objective.derived if isinstance(made, Told)}

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
        decoded: bool = True,
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

        Without ``decoded`` it is the array x of the representation that comes back, [batch, ...].

        Raises ConfigError for unknown conditions, labels or samplers, for known audio that cannot be, and for a guide
        of other labels or another rate than the model's, or told of none.
        """
        settings = self.settings(sampler=sampler, steps=steps, guidance=guidance)
        length = self.facts.length_samples if length_samples is None else length_samples
        if length < 1:
            raise ConfigError(f"length_samples is {length}: give at least 1")
        asked = self.encode_conditions(conditions or {}, len(key) if key.ndim else None, guide=guide, length=length)
        arguments, choices = self.program(key, asked, settings)
        gains_db, given = self._known(known, len(arguments[2]), length) if known else (None, None)
        audio = generate(
            *arguments,
            **choices,
            length_samples=length,
            decoded=decoded,
            known=given,
            guide=self._guide(guide, guide_scale, asked) if guide else None,
        )
        if known is None or gains_db is None or not decoded:
            return np.asarray(audio)
        clips = np.stack([restore_level(clip, gain) for clip, gain in zip(np.asarray(audio), gains_db, strict=True)])
        # A filter of the representation rings from a hole into what follows it: what is kept comes back untouched.
        keep = np.asarray(known[1], bool).reshape(1, -1, *[1] * (clips.ndim - 2))
        return np.where(keep, np.asarray(known[0], np.float32), clips)

    def sample_long(
        self,
        key: Array,
        conditions: Mapping[str, Any] | None = None,
        *,
        seconds: float,
        overlap_samples: int | None = None,
        mode: str = "chunks",
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> np.ndarray:
        """Generate clips longer than the model was trained at: float32 [batch, time], ``seconds`` long.

        The length of training is the window, and ``overlap_samples``, by default half of it, are shared by two
        neighbours. By the ``mode`` "chunks" each follows the one before, in the memory of one, and what is made does
        not depend on how long it goes on; by "windowed" all are made at once and hear each other, one window at a
        time, and "together" takes all windows as one batch. Keys, conditions and the rest are as in :meth:`sample`; a
        condition "start_seconds" is where the clip begins.

        Raises ConfigError for a mode, an overlap or a length that cannot be, and for what a chunk cannot be told.
        """
        choose("mode", mode, LONG)
        window = self.facts.length_samples
        length = round(seconds * self.facts.rate_hz)
        overlap = window // 2 if overlap_samples is None else overlap_samples
        if length < window:
            raise ConfigError(
                f"{seconds:g} s are {length} samples, and a window has {window}: ask for at least "
                f"{window / self.facts.rate_hz:g} s, or take sample(length_samples={length})"
            )
        if not 0 <= overlap < window:
            raise ConfigError(
                f"overlap_samples is {overlap} and the model was trained at {window}: give 0 to {window - 1}"
            )
        settings = self.settings(sampler=sampler, steps=steps, guidance=guidance)
        self._check_long(mode, overlap, settings["name"])
        asked = self.encode_conditions(conditions or {}, len(key) if key.ndim else None, length=length)
        arguments, choices = self.program(key, asked, settings)
        return LONG[mode](arguments, choices, self.facts.rate_hz, length, window, overlap)

    def _check_long(self, mode: str, overlap: int, sampler: str) -> None:
        """Raise ConfigError where the model, its conditions or the sampler cannot be cut as the mode does."""
        representation, window = self.model.objective.representation, self.facts.length_samples
        timed = START_SECONDS in self.conditions
        if mode != "chunks" and timed:
            raise ConfigError(f"mode {mode!r} tells all windows the same, and this model hears {START_SECONDS}: chunks")
        if mode == "chunks" and representation.shape(1, window)[1] != window:
            raise ConfigError(
                f"chunks are cut sample by sample, and a window of {window} samples has "
                f"{representation.shape(1, window)[1]} positions in this model: take the mode windowed"
            )
        along = [name for name in self.conditions if len(self.facts.conditions[name].shape) > 1]
        along += [name for name, told in self.levels.items() if not told.whole]
        along += [MEL] if self.frames else []
        if mode == "chunks" and along:
            raise ConfigError(f"condition {along[0]!r} lies along the clip, which no chunk hears: take windowed")
        if mode == "chunks" and sampler == "adaptive":
            raise ConfigError("chunks share the grid of their levels, and the adaptive sampler has none: take windowed")
        sections = told_sections(self.config)
        if attended := [name for name in self.levels if "attention" in sections[name]["by"]]:
            raise ConfigError(
                f"level {attended[0]!r} is attended to as a whole, and a window would not find its place on it: sample "
                f"{window} samples at a time"
            )
        if overlap and representation.shape(1, window - overlap)[1] == representation.shape(1, window)[1]:
            raise ConfigError(
                f"overlap_samples is {overlap}, less than a position of this model: give 0 or at least "
                f"{-(-window // representation.shape(1, window)[1])}"
            )

    def program(
        self, key: Array, asked: Mapping[str, Array], settings: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what every program that samples is given: arrays, and the choices that it is compiled for."""
        values = {name: asked[name] for name in self.model.objective.conditions}
        strength = float(settings["guidance"])
        guided = bool(set(values) - set(self.model.objective.kept)) and strength != 1.0
        if guided:
            check_guidance(strength, self.model.objective.drop_probability)
        batch = len(next(iter(asked.values()))) if asked else len(key) if key.ndim else 1
        low, high = (bound * self.facts.sigma_data for bound in settings["guidance_interval"])
        arrays = (
            self.model.objective,
            self.params,
            key if key.ndim else prng.per_example(key, jnp.arange(batch)),
            values,
            make_grid(settings["grid"], self.model.process, self.facts.sigma_data, settings["steps"]),
            {"scale": strength, "sigma_low": low, "sigma_high": high, "rescale": float(settings["guidance_rescale"])},
        )
        return arrays, {"sampler": make_sampler({"name": settings["name"], **settings["options"]}), "guided": guided}

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
        shape = self.model.objective.representation.shape(1, length)
        if len(shape) != 3 or shape[1] != length:
            kind = "spectra" if len(shape) != 3 else "positions that are no samples"
            raise ConfigError(
                f"known audio is kept sample by sample, and this model is of {kind}: take one of waveforms"
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
        stand over ``length`` samples, those of the config by default. A coarser level is given as audio of so many
        samples, [time] or [batch, time], or as its array [batch, position, size]; how noisy it is to be told is what
        the config says, unless it is given too.
        """
        heads = guide.classes if guide else {}
        told = {head: ConditionInfo("label", classes[:-1]) for head, classes in heads.items() if head in conditions}
        length = self.facts.length_samples if length is None else length
        made: dict[str, Array] = {MEL: self._mel(conditions, length)} if self.frames else {}
        made |= {name: self._level(name, level, conditions, length) for name, level in self.levels.items()}
        own = {name: self.facts.conditions[name] for name in self.conditions if name not in made}
        others = {name: value for name, value in conditions.items() if name not in made}
        longest = max(map(len, made.values()), default=1)
        if batch is None and longest > 1:  # one of them is for as many as the others ask
            batch = longest
        default = {noise.strength: self._noise_told(noise.name) for noise in self.model.objective.noise}
        numbers = {name: ConditionInfo("number") for name in default}
        encoded = encode_conditions(told | own | numbers, default | others, batch)
        batch = len(next(iter(encoded.values()))) if encoded else batch or longest
        for name, value in made.items():
            if len(value) not in (1, batch):
                raise ConfigError(f"condition {name!r} has {len(value)} values for {batch} clips: give 1 or {batch}")
        return encoded | {name: jnp.broadcast_to(value, (batch, *value.shape[1:])) for name, value in made.items()}

    def _mel(self, conditions: Mapping[str, Any], length: int) -> Array:
        """Return the mel that a vocoder is told, [batch, frame, band]."""
        assert self.frames is not None
        if MEL not in conditions:
            raise ConfigError("condition 'mel' is missing: a vocoder is told a log-mel [frame, band], or [batch, ...]")
        mel = jnp.asarray(conditions[MEL])
        mel = mel[None] if mel.ndim == 2 else mel
        check_mel(np.asarray(mel), self.frames.mel)
        return self.frames.fit(mel, length)

    def _level(self, name: str, level: Told, conditions: Mapping[str, Any], length: int) -> Array:
        """Return what a stage is told of a coarser level, [batch, position, size] or [batch, size]."""
        shape = level.shape(1, length)[1:]
        if name not in conditions:
            raise ConfigError(
                f"condition {name!r} is missing: this stage is told a level of the sound, as audio of {length} samples "
                f"[time] or [batch, time], or as its array [batch, {', '.join(map(str, shape))}]"
            )
        try:
            given = jnp.asarray(conditions[name], jnp.float32)
        except (TypeError, ValueError):
            raise ConfigError(
                f"condition {name!r} is {conditions[name]!r}: give audio of {length} samples [time] or [batch, time]"
            ) from None
        audio = given[None] if given.ndim == 1 else given
        if audio.shape[1:] == ((length,) if self.facts.channels == 1 else (length, self.facts.channels)):
            return level(audio)
        if given.shape[1:] == level.level.shape(1, length)[1:]:
            given = level.of(given)
        if given.shape[1:] != shape:
            raise ConfigError(
                f"condition {name!r} has the shape {given.shape}: give audio of {length} samples, or the array "
                f"[batch, {', '.join(map(str, shape))}] of such a clip"
            )
        return given

    def _noise_told(self, name: str) -> float:
        """Return how noisy a level is when it is told at sampling, by the config."""
        return float(told_sections(self.config)[name]["noise_at_sampling"])


def load(workdir: str | os.PathLike[str], *, ema: str | float | None = "default", step: int | None = None) -> Loaded:
    """Load what was trained: a :class:`Run`, :class:`Judge`, :class:`SpeakerEncoder` or :class:`Codec`.

    ``ema`` names the moving average of the weights ("default": the config's choice; None: the weights themselves), or
    is the relative length of one that is put together from the snapshots of a run with ``training.snapshot_every``
    (EDM2's post-hoc average). ``step`` is that of a checkpoint or snapshot (None: the newest). Raises FileNotFoundError
    where there is no run, or no such step, and ValueError for a length that cannot be.
    """
    folder = pathlib.Path(workdir).expanduser().resolve()
    config = read_config(folder)
    if "stages" in config:
        raise ConfigError(
            f"{folder} holds a cascade: load it by audiodiff.load, and sample it by experiments/cascade.py"
        )
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


def _codec(folder: pathlib.Path, config: Mapping[str, Any], facts: Facts, params: PyTree, step: int) -> Codec:
    latent = make_latent(config, params, channels=facts.channels, sigma_data=facts.sigma_data)
    return Codec(latent, facts.rate_hz, hash_weights(params))


LOADERS: dict[str, Callable[..., Loaded]] = {
    "diffusion": _run,
    "judge": _judge,
    "speaker": _speaker_encoder,
    "autoencoder": _codec,
}
"""What was trained -> what is loaded, ``(workdir, config, facts, params, step) -> ...``."""

KINDS = {Run: "model", Judge: "judge", SpeakerEncoder: "speaker encoder", Codec: "waveform autoencoder"}
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


def load_autoencoder(workdir: str | os.PathLike[str]) -> Codec:
    """Load an autoencoder; raise ConfigError where the workdir holds another kind."""
    return _expect(Codec, "encodes", workdir, load(workdir))


def _expect(kind: type[T], does: str, workdir: str | os.PathLike[str], loaded: Loaded) -> T:
    """Return what was loaded; raise ConfigError where it is not of the kind that does what is wanted."""
    if not isinstance(loaded, kind):
        raise ConfigError(
            f"{workdir} holds a {KINDS[type(loaded)]}, which {does} nothing: name the workdir of a {KINDS[kind]}"
        )
    return loaded


def _by_chunks(
    arguments: tuple[Any, ...], choices: Mapping[str, Any], rate_hz: int, length: int, window: int, overlap: int
) -> np.ndarray:
    """Draw chunk after chunk by one program."""
    objective, _, keys, _, grid, _ = arguments
    hop = window - overlap
    progress = begin(objective, keys, grid, window_samples=window, overlap_samples=overlap)
    made = []
    for _ in range(-(-length // hop)):
        audio, progress = generate_chunk(*arguments, progress, hop / rate_hz, **choices)
        made.append(np.asarray(audio))
    return np.concatenate(made, axis=1)[:, :length]


def _by_windows(
    arguments: tuple[Any, ...],
    choices: Mapping[str, Any],
    rate_hz: int,
    length: int,
    window: int,
    overlap: int,
    together: bool = False,
) -> np.ndarray:
    """Draw the whole at once, whatever its rate."""
    lengths = {"length_samples": length, "window_samples": window, "overlap_samples": overlap}
    return np.asarray(generate_windowed(*arguments, **choices, **lengths, together=together))


LONG: dict[str, Callable[..., np.ndarray]] = {
    "chunks": _by_chunks,
    "windowed": _by_windows,
    "together": functools.partial(_by_windows, together=True),
}
"""How audio of any length is made, ``(arguments, choices, rate_hz, length, window, overlap) -> audio``."""


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
