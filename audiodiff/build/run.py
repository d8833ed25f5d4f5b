"""Load a run and use it from Python: ``run = audiodiff.load(workdir); run.sample(key, {"digit": "7"})``."""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff import prng
from audiodiff.build.choices import ConfigError
from audiodiff.build.conditions import encode_conditions
from audiodiff.build.model import Facts, Model, judge_classes, make_judge, make_model
from audiodiff.build.process import make_grid
from audiodiff.build.sampler import check_guidance, make_sampler
from audiodiff.data.normalisation import SILENCE_DBFS, level_dbfs, restore_level
from audiodiff.evaluation.generate import generate
from audiodiff.evaluation.judge import Judge
from audiodiff.training import latest_step, read_config, reconstruct, restore_params
from audiodiff.types import Array, PyTree


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

    @functools.cached_property
    def weights_hash(self) -> str:
        """The first 16 hex digits of the SHA-256 of the weights."""
        return hash_weights(self.params)

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
    ) -> np.ndarray:
        """Generate one clip for each value of the conditions: float32 [batch, time] at ``facts.rate_hz``.

        With several channels [batch, time, channel]. ``key`` is one key, from which each clip's own is derived, or one
        key a clip. A condition is a label as the data set writes it ("7"), its index (7), a number, a text or an array
        (or the path of its .npy file) where it is one, or a sequence of these; single values are repeated to the
        longest. Sampler, steps, guidance and length default to the config's.

        ``known`` is (audio, keep): recordings [batch or 1, time] (with several channels [..., channel]) and which of
        their samples to keep, bool [time]. The rest is made to go with them, at their level. Raises ConfigError for
        unknown conditions, labels or samplers, and for known audio that cannot be.
        """
        settings = self.settings(sampler=sampler, steps=steps, guidance=guidance)
        values = self.encode_conditions(conditions or {}, len(key) if key.ndim else None)
        strength = float(settings["guidance"])
        guided = bool(values) and strength != 1.0
        if guided:
            check_guidance(strength, self.model.objective.drop_probability)
        batch = len(next(iter(values.values()))) if values else len(key) if key.ndim else 1
        low, high = (bound * self.facts.sigma_data for bound in settings["guidance_interval"])
        length = self.facts.length_samples if length_samples is None else length_samples
        if length < 1:
            raise ConfigError(f"length_samples is {length}: give at least 1")
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
        gains = []
        for clip in audio:
            level = level_dbfs(clip[keep])
            audible = target is not None and level >= SILENCE_DBFS  # a gain would only bring up noise
            gains.append(target - level if audible else 0.0)
        gains_db = np.broadcast_to(gains, batch)
        scaled = audio * 10 ** (np.asarray(gains).reshape(-1, *[1] * (audio.ndim - 1)) / 20)
        whole = np.broadcast_to(scaled.astype(np.float32), (batch, *wanted))
        return gains_db, (jnp.asarray(whole), jnp.broadcast_to(keep, (batch, length)))

    def encode_conditions(self, conditions: Mapping[str, Any], batch: int | None = None) -> dict[str, Array]:
        """Turn conditions as people write them into arrays [batch, ...], as many as the longest has by default."""
        return encode_conditions({name: self.facts.conditions[name] for name in self.conditions}, conditions, batch)


def load(
    workdir: str | os.PathLike[str], *, ema: str | float | None = "default", step: int | None = None
) -> Run | Judge:
    """Load what was trained in a workdir: a :class:`Run` of a diffusion model, or a :class:`Judge`.

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
    if config["task"] == "judge":
        objective = make_judge(config, facts)
        classes = {name: judge_classes(facts, name) for name, _ in objective.heads}
        return Judge(objective, params, classes, facts.rate_hz, hash_weights(params))
    # Remat serves training alone, and would forbid the forward-mode derivatives of a likelihood.
    network = {key: value for key, value in config["network"].items() if key != "remat"}
    return Run(folder, config, make_model({**config, "network": network}, facts), params, step)


def load_run(workdir: str | os.PathLike[str], **options: Any) -> Run:
    """Load a diffusion model by the options of :func:`load`; raise ConfigError where the workdir holds a judge."""
    run = load(workdir, **options)
    if not isinstance(run, Run):
        raise ConfigError(f"{workdir} holds a judge, which generates nothing: name the workdir of a model")
    return run


def load_judge(workdir: str | os.PathLike[str]) -> Judge:
    """Load a judge; raise ConfigError where the workdir holds a model."""
    judge = load(workdir)
    if not isinstance(judge, Judge):
        raise ConfigError(f"{workdir} holds a model, which judges nothing: name the workdir of a judge")
    return judge


def hash_weights(params: PyTree) -> str:
    """Return the first 16 hex digits of the SHA-256 of all arrays with their paths."""
    digest = hashlib.sha256()
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    for path in sorted(leaves):
        digest.update(path.encode())
        digest.update(np.ascontiguousarray(leaves[path]).tobytes())
    return digest.hexdigest()[:16]
