"""Load a run and use it from Python: ``run = audiodiff.load(workdir); run.sample(key, {"digit": "7"})``."""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff import prng
from audiodiff.build.choices import ConfigError, choose
from audiodiff.build.model import Facts, Model, judge_classes, make_judge, make_model
from audiodiff.build.process import make_grid
from audiodiff.build.sampler import make_sampler
from audiodiff.evaluation.generate import generate
from audiodiff.evaluation.judge import Judge
from audiodiff.training import latest_step, read_config, restore_params
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
    def vocabularies(self) -> dict[str, tuple[str, ...]]:
        """The labels of each label condition that the model takes, in the order of the data set."""
        return {name: self.facts.conditions[name].vocabulary for name in self.model.objective.conditions}

    @functools.cached_property
    def weights_hash(self) -> str:
        """The first 16 hex digits of the SHA-256 of the weights."""
        return hash_weights(self.params)

    def sample(
        self,
        key: Array,
        conditions: Mapping[str, Any],
        *,
        steps: int | None = None,
        sampler: str | None = None,
        guidance: float | None = None,
        length_samples: int | None = None,
    ) -> np.ndarray:
        """Generate one clip for each value of the conditions: float32 [batch, time] at ``facts.rate_hz``.

        ``key`` is one key, from which each clip's own is derived, or one key a clip. A condition is a label as the data
        set writes it ("7"), an index, or a sequence of either; single values are repeated to the longest.
        Sampler, steps and guidance default to the run's config.
        Raises ConfigError for unknown conditions, labels or samplers.
        """
        settings = self.config["sampler"]
        values = self.encode_conditions(conditions)
        batch = len(next(iter(values.values()))) if values else (len(key) if key.ndim else 1)
        keys = key if key.ndim else prng.per_example(key, jnp.arange(batch))
        name = settings["name"] if sampler is None else sampler
        strength = float(settings["guidance"] if guidance is None else guidance)
        low, high = (bound * self.facts.sigma_data for bound in settings["guidance_interval"])
        rule = make_sampler(name, settings["options"] if name == settings["name"] else {})
        grid = make_grid(settings["grid"], self.model.process, self.facts.sigma_data, steps or settings["steps"])
        audio = generate(
            self.model.objective,
            self.params,
            keys,
            values,
            grid,
            {"scale": strength, "sigma_low": low, "sigma_high": high, "rescale": float(settings["guidance_rescale"])},
            sampler=rule,
            length_samples=length_samples or self.facts.length_samples,
            guided=bool(values) and strength != 1.0,
        )
        return np.asarray(audio)

    def encode_conditions(self, conditions: Mapping[str, Any]) -> dict[str, Array]:
        """Turn conditions as people write them into arrays [batch]."""
        names = self.model.objective.conditions
        for name in conditions:
            choose("condition", name, dict.fromkeys(names))
        if missing := [name for name in names if name not in conditions]:
            raise ConfigError(f"condition {missing[0]!r} is missing; this model takes {', '.join(names)}")
        many = {name: _as_list(value) for name, value in conditions.items()}
        batch = max((len(values) for values in many.values()), default=1)
        for name, values in many.items():
            if len(values) not in (1, batch):
                raise ConfigError(
                    f"condition {name!r} has {len(values)} values and another {batch}: give one or equally many"
                )
        return {
            name: jnp.asarray([self._label(name, value) for value in values] * (batch // len(values)))
            for name, values in many.items()
        }

    def _label(self, name: str, value: Any) -> int | float:
        info = self.facts.conditions[name]
        if info.kind != "label":
            return float(value)
        if isinstance(value, str):
            choose(f"value of condition {name!r}", value, dict.fromkeys(info.vocabulary))
            return info.vocabulary.index(value)
        if not 0 <= int(value) < len(info.vocabulary):
            raise ConfigError(f"condition {name!r} is {value}, and it has labels 0 to {len(info.vocabulary) - 1}")
        return int(value)


def load(workdir: str | os.PathLike[str], *, ema: str | None = "default", step: int | None = None) -> Run | Judge:
    """Load what was trained in a workdir: a :class:`Run` of a diffusion model, or a :class:`Judge`.

    ``ema`` chooses the moving average of the weights ("default": the config's own choice; None: the raw weights), ``step`` a
    checkpoint (None: the newest). Raises FileNotFoundError where there is no run or no checkpoint.
    """
    folder = pathlib.Path(workdir).expanduser().resolve()
    config = read_config(folder)
    facts = Facts.load(folder)
    chosen = config["training"]["ema_choice"] if ema == "default" else ema
    params = restore_params(folder, ema=chosen or None, step=step)
    found = latest_step(folder) if step is None else step
    assert found is not None
    if config["task"] == "judge":
        objective = make_judge(config, facts)
        heads = {name: judge_classes(facts, name) for name, _ in objective.heads}
        return Judge(objective, params, heads, facts.rate_hz, hash_weights(params))
    return Run(folder, config, make_model(config, facts), params, found)


def hash_weights(params: PyTree) -> str:
    """Return the first 16 hex digits of the SHA-256 of all arrays with their paths."""
    digest = hashlib.sha256()
    for path, leaf in sorted(
        jax.tree_util.tree_leaves_with_path(params), key=lambda item: jax.tree_util.keystr(item[0])
    ):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def _as_list(value: Any) -> Sequence[Any]:
    if isinstance(value, str) or np.ndim(value) == 0:
        return [value]
    return list(value)
