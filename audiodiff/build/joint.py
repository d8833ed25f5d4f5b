"""Build what trains all stages of a cascade in one run: `config.joint`, with the optimiser and the loop of the cascade.

    WORKDIR/config.json, checkpoints/, ...   one run, {stage: parameters}
    WORKDIR/<stage>/model.json               the facts of each stage

    config.joint = {
        "spans": {"fine": (3000, None)},  # steps in which a stage is trained, by name; all of them by default
        "weights": {},                    # of the losses, by name; 1 by default
        "own_share": 0.0,                 # of the examples, told what coarser stages make in place of the clip
        "through": False,                 # whether the finer loss reaches the coarser stage by that way
    }

``optimiser``, ``training`` and ``seed`` of the cascade are the run's; those of the stages are not read. All of it
counts the steps and updates of the run: a stage that begins late has no warm-up of its own, and takes its first steps
with fresh moments at the learning rate that the schedule has come to; averages "power" look back over a share of the
whole run. After its span a stage's weights stay as they are, and its averages go on until they are these weights: for
the average at its end load a checkpoint from there, ``load_cascade(folder, steps={"low": 5000})``, or let it end with
the run. Gradients are clipped by their norm over all stages.

A stage with a span of its own stands behind a branch of the compiled step. A branch not taken costs next to nothing,
and one taken what the stage costs without: the two stages of ``configs/cascade_digits.py:joint`` 73 ms a step instead
of 71 (two cores).
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from audiodiff.build.choices import ConfigError, choose, options
from audiodiff.build.model import Facts, Model, make_model
from audiodiff.build.stages import check_order, sources_of, stage_config
from audiodiff.build.told import told_sections
from audiodiff.objectives.joint import JointObjective, Stage

TASK = "joint"
"""What the config of such a run is of; that of the cascade but for this, see :func:`joint_config`."""

OPTIONS = ("spans", "weights", "own_share", "through")
RUN_SECTIONS = ("optimiser", "training", "seed")


def joint_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training config of a cascade with ``joint``.

    Raises ConfigError for options that there are not, spans that leave steps without a stage or a stage without
    steps, and stages told of what is made by one that begins later.
    """
    if missing := [name for name in RUN_SECTIONS if name not in config]:
        raise ConfigError(f"joint is one run of all stages, and the cascade has no {missing[0]!r} for it: give one")
    check_order(config)
    _check_spans(config)
    return {**config, "task": TASK}


def member_config(config: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """Return the config of one stage of a joint run, trained as all are."""
    return {**stage_config(config, stage), "training": config["training"]}


def load_facts(config: Mapping[str, Any], workdir: pathlib.Path) -> Facts | dict[str, Facts]:
    """Load the facts of a run, or of each stage of a joint run."""
    if config["task"] != TASK:
        return Facts.load(workdir)
    return {stage: Facts.load(workdir / stage) for stage in config["order"]}


def make_models(config: Mapping[str, Any], facts: Mapping[str, Facts]) -> dict[str, Model]:
    """Build the model of each stage."""
    return {stage: make_model(member_config(config, stage), facts[stage]) for stage in config["order"]}


def make_joint_objective(config: Mapping[str, Any], facts: Mapping[str, Facts]) -> JointObjective:
    """Build the objective of all stages, from the facts of each."""
    joint = _section(config)
    try:
        stages = [
            Stage(
                name,
                model.objective,
                span=_span(joint, name),
                weight=float(joint["weights"].get(name, 1.0)),
                sources=tuple((level, sources_of(config, level)) for level in told_sections(config["stages"][name])),
            )
            for name, model in make_models(config, facts).items()
        ]
        return JointObjective(tuple(stages), own_share=float(joint["own_share"]), through=bool(joint["through"]))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"joint: {error}") from error


def _section(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section complete; raise ConfigError for what it does not take, and for stages that there are not."""
    given = {
        "spans": {},
        "weights": {},
        "own_share": 0.0,
        "through": False,
        **options("joint", config["joint"], OPTIONS),
    }
    for what in ("spans", "weights"):
        for stage in given[what]:
            choose(f"stage in joint.{what}", stage, config["stages"])
    return given


def _span(joint: Mapping[str, Any], stage: str) -> tuple[int, int | None]:
    begin, end = joint["spans"].get(stage, (0, None))
    return int(begin), None if end is None else int(end)


def _check_spans(config: Mapping[str, Any]) -> None:
    joint, steps = _section(config), config["training"]["total_steps"]
    spans = {stage: _span(joint, stage) for stage in config["order"]}
    for stage, (begin, _) in spans.items():
        if begin >= steps:
            raise ConfigError(
                f"joint.spans: stage {stage!r} begins at step {begin} and the run has {steps}: it would stay untrained"
            )
        for level in told_sections(config["stages"][stage]) if joint["own_share"] else ():
            for source in sources_of(config, level):
                if spans[source][0] > begin:
                    raise ConfigError(
                        f"joint.spans: stage {stage!r} begins at step {begin} and is told what {source!r} makes, which "
                        f"begins at {spans[source][0]}: let it begin no earlier, or set joint.own_share to 0"
                    )
    ends = [0, *(end for _, end in spans.values() if end is not None and end < steps)]
    for step in ends:
        if not any(begin <= step and (end is None or step < end) for begin, end in spans.values()):
            raise ConfigError(f"joint.spans: no stage is trained at step {step}: let one begin there, or end later")
