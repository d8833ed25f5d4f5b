"""Build cascades: stages of one sound, each an ordinary model in a workdir of its own, told what coarser ones make.

    WORKDIR/config.json       what the cascade is made of
    WORKDIR/<stage>/          a run of experiments/train.py's kind

With a section ``joint`` all stages are one run, in WORKDIR itself (:mod:`audiodiff.build.joint`).

A stage's section ``told`` (:mod:`audiodiff.build.told`) says what it is told in training, where the clip itself makes
it. Here the stages of the same names make it. ``sources`` may say otherwise: that a level is the sum of the bands of
several stages, and ``output`` that the sound is.
"""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff import prng
from audiodiff.build.choices import ConfigError, choose
from audiodiff.build.experiment import claimed, run_experiment
from audiodiff.build.joint import TASK as JOINT
from audiodiff.build.joint import joint_config, load_facts, make_models, member_config
from audiodiff.build.model import without_remat
from audiodiff.build.run import Loaded, Run, load_run
from audiodiff.build.run import load as load_one
from audiodiff.build.stages import check_order, sources_of, stage_config
from audiodiff.hierarchy.levels import PyramidLevel
from audiodiff.hierarchy.told import Told, is_own, taken_off
from audiodiff.training import latest_step, read_config, restore_params
from audiodiff.types import Array

TASK = "cascade"


def train_cascade(
    config: Mapping[str, Any],
    workdir: pathlib.Path,
    stages: tuple[str, ...] = (),
    *,
    max_minutes: float | None = None,
) -> None:
    """Train the stages of those names, or all in their order, each as far as it is not; none needs to wait.

    ``max_minutes`` is of each. With a section ``joint`` all are trained in one run. Raises what :func:`run_experiment`
    raises, and ConfigError for stages that cannot be one sound.
    """
    if config["task"] != TASK:
        raise ConfigError(f"the config is of a {config['task']} and no cascade: train it by experiments/train.py")
    check_order(config)
    for stage in stages:
        choose("stage", stage, config["stages"])
    if config.get("joint"):
        if stages:
            raise ConfigError(f"stages is {stages} and joint trains all in one run: name none, or take joint away")
        run_experiment(joint_config(config), workdir, max_minutes=max_minutes)
        return
    with claimed(workdir, config) as folder:
        for stage in stages or config["order"]:
            run_experiment(stage_config(config, stage), folder / stage, max_minutes=max_minutes)


@dataclass(frozen=True)
class Cascade:
    """Hold the trained stages of a cascade in their order, ready to sample."""

    config: Mapping[str, Any]
    runs: Mapping[str, Run]

    @property
    def output(self) -> tuple[str, ...]:
        """The stages whose audio adds up to the sound."""
        return tuple(self.config.get("output", ())) or (self.config["order"][-1],)

    @property
    def last(self) -> Run:
        """The run of the finest stage, whose facts are those of all."""
        return self.runs[self.config["order"][-1]]

    def sample(self, key: Array, conditions: Mapping[str, Any] | None = None, **options: Any) -> np.ndarray:
        """Generate one clip for each value of the conditions: float32 [batch, time]; options are those of `make`."""
        made = self.make(key, conditions, **options)
        return np.asarray(sum(made[stage] for stage in self.output))

    def make(
        self,
        key: Array,
        conditions: Mapping[str, Any] | None = None,
        *,
        given: Mapping[str, np.ndarray] | None = None,
        steps: Mapping[str, int] | int | None = None,
        guidance: Mapping[str, float] | float | None = None,
        length_samples: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Return what each stage makes, by its name, from the coarsest: audio, or what another stage is told as it is.

        ``key`` and ``conditions`` are those of :meth:`Run.sample`; a stage takes those that it knows, and draws from a
        stream of its own. ``given`` has audio [batch, time] in place of what stages make, as recordings: these are not
        run, and all that are told of them hear it instead. ``steps`` and ``guidance`` are one number for all, or one a
        stage; default is what each config says. Raises ConfigError as :meth:`Run.sample` does.
        """
        conditions, made = dict(conditions or {}), dict[str, np.ndarray](given or {})
        for stage in made:
            choose("stage in given", stage, self.runs)
        keys = key if key.ndim else prng.per_example(key, jnp.arange(_count(conditions, made)))
        for stage, run in self.runs.items():
            if stage in made:
                continue
            strengths = {noise.strength for noise in run.model.objective.noise}
            own = {name: value for name, value in conditions.items() if name in run.conditions or name in strengths}
            handed_on = stage in self._handed_on
            x = run.sample(
                jax.vmap(functools.partial(prng.stream, name=stage))(keys),
                own | {level: sum(made[source] for source in self.sources(level)) for level in run.levels},
                steps=_of_stage(steps, stage),
                guidance=_of_stage(guidance, stage),
                length_samples=length_samples,
                decoded=not handed_on,
            )
            made[stage] = x + taken_off(run.model.objective.representation) if handed_on else x
        return made

    def sources(self, level: str) -> tuple[str, ...]:
        """Return the stages whose sound is a level that others are told."""
        return sources_of(self.config, level)

    @functools.cached_property
    def _handed_on(self) -> frozenset[str]:
        """The stages whose array goes to others as it is, and whose audio nobody needs."""
        told = [(level, one) for run in self.runs.values() for level, one in run.levels.items()]
        wanted = set(self.output)
        wanted |= {source for level, one in told if not self._is_own(level, one) for source in self.sources(level)}
        return frozenset(set(self.runs) - wanted)

    def _is_own(self, level: str, told: Told) -> bool:
        """Return whether what others are told is the very array that one stage makes."""
        return is_own(told, [self.runs[source].model.objective.representation for source in self.sources(level)])


def _count(conditions: Mapping[str, Any], given: Mapping[str, np.ndarray]) -> int:
    """Return how many clips conditions and given audio are for."""
    many = [len(value) for value in conditions.values() if not isinstance(value, str) and np.ndim(value)]
    return max([*many, *(len(audio) for audio in given.values())], default=1)


def _of_stage(values: Any, stage: str) -> Any:
    """Return a stage's own of several values, or the one of all."""
    return values.get(stage) if isinstance(values, Mapping) else values


def load(workdir: str | os.PathLike[str], **options: Any) -> Loaded | Cascade:
    """Load what was trained in a workdir, a :class:`Cascade` or what :func:`audiodiff.build.run.load` loads.

    ``options`` are those of :func:`load_cascade`, or of that.
    """
    is_cascade = read_config(pathlib.Path(workdir).expanduser().resolve())["task"] in (TASK, JOINT)
    return load_cascade(workdir, **options) if is_cascade else load_one(workdir, **options)


def load_cascade(
    workdir: str | os.PathLike[str],
    *,
    runs: Mapping[str, str | os.PathLike[str]] | None = None,
    steps: Mapping[str, int] | None = None,
) -> Cascade:
    """Load a trained cascade; ``runs`` names other folders for some of its stages, ``steps`` checkpoints.

    Raises FileNotFoundError where there is none or a stage has no checkpoint, and ConfigError for stages that are not
    of one sound: of other rates or lengths, of another pyramid, or told what no stage makes.
    """
    folder = pathlib.Path(workdir).expanduser().resolve()
    config = read_config(folder)
    if config["task"] not in (TASK, JOINT):
        raise ConfigError(f"{folder} holds a {config['task']} and no cascade: name the folder that its stages lie in")
    runs, steps = dict(runs or {}), dict(steps or {})
    loaded = _load_joint(folder, config, steps) if config["task"] == JOINT else {}
    for stage in config["order"]:
        if stage in runs or stage not in loaded:
            loaded[stage] = _load_stage(stage, pathlib.Path(runs.get(stage, folder / stage)), steps.get(stage))
    return assemble(config, loaded)


def _load_joint(folder: pathlib.Path, config: Mapping[str, Any], steps: Mapping[str, int]) -> dict[str, Run]:
    """Load the stages of one run, each of the newest checkpoint or of that in ``steps``."""
    facts = load_facts(config, folder)
    assert isinstance(facts, dict)
    found = {stage: steps.get(stage, latest_step(folder)) for stage in config["order"]}
    ema = config["training"]["ema_choice"] or None
    params = {step: restore_params(folder, ema=ema, step=step) for step in set(found.values())}
    configs = {stage: member_config(config, stage) for stage in found}
    bare = {**config, "stages": {stage: without_remat(one) for stage, one in configs.items()}}
    models = make_models(bare, facts)
    return {
        stage: Run(folder, configs[stage], models[stage], params[step][stage], step or 0)
        for stage, step in found.items()
    }


def _load_stage(stage: str, folder: pathlib.Path, step: int | None) -> Run:
    try:
        return load_run(folder, step=step)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"stage {stage!r} has no checkpoint ({error}): train it by experiments/cascade.py --stages={stage}"
        ) from error


def assemble(config: Mapping[str, Any], runs: Mapping[str, Run]) -> Cascade:
    """Make a cascade of loaded runs; raise ConfigError where they cannot be stages of one sound, naming both."""
    check_order(config)
    cascade = Cascade(config, {stage: runs[stage] for stage in config["order"]})
    first, *others = cascade.runs.items()
    for stage, run in others:
        for what in ("rate_hz", "length_samples", "channels"):
            here, there = getattr(first[1].facts, what), getattr(run.facts, what)
            if here != there:
                raise ConfigError(
                    f"stage {first[0]!r} was trained with {what} {here} and stage {stage!r} with {there}: "
                    "train both on the same data section"
                )
    for stage, run in cascade.runs.items():
        for level, told in run.levels.items():
            _check_source(cascade, stage, level, told)
    return cascade


def _check_source(cascade: Cascade, stage: str, level: str, told: Told) -> None:
    """Raise ConfigError unless what a stage is told lies in what its sources make."""
    made = {source: cascade.runs[source].model.objective.representation for source in cascade.sources(level)}
    if is_own(told, list(made.values())):
        return
    wanted, told_bands = told.level, set[int]()
    for source, representation in made.items():
        if not isinstance(representation, PyramidLevel) or not isinstance(wanted, PyramidLevel):
            raise ConfigError(
                f"stage {stage!r} was trained to be told {wanted} as {level!r}, and stage {source!r} makes "
                f"{representation}: train one of them anew"
            )
        below = representation.level == wanted.level - 1
        for what in ("pyramid", "waveform", "level"):
            ours, theirs = getattr(wanted, what), getattr(representation, what)
            if ours != theirs and not (what == "level" and below):
                raise ConfigError(
                    f"stage {stage!r} was trained to be told {level!r} of the {what} {ours}, and stage {source!r} was "
                    f"trained on {theirs}: train one of them anew"
                )
        whole = not representation.bands or cascade.runs[source].model.objective.finish is not None
        if below:
            told_bands |= {0} if whole else set()  # the level below is the lowest band
        else:
            told_bands |= set(wanted.all_bands if whole else representation.bands)
    assert isinstance(wanted, PyramidLevel)  # or a source had been refused; sources_of gives one or more
    if lacking := sorted(set(wanted.bands or wanted.all_bands) - told_bands):
        raise ConfigError(
            f"stage {stage!r} was trained to be told {level!r} with its bands {wanted.bands or 'all'}, and "
            f"{', '.join(made)} make no band {lacking[0]}: name all that make it in sources"
        )
