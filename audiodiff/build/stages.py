"""Read of a cascade's config its stages: what each is trained by, in which order, and whose sound another is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audiodiff.build.choices import ConfigError, choose


def stage_config(config: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """Return the training config of a stage, whose data are those of all."""
    return {**choose("stage", stage, config["stages"]), "data": config["data"]}


def sources_of(config: Mapping[str, Any], level: str) -> tuple[str, ...]:
    """Return the stages whose sound is a level that others are told: that of its name, unless ``sources`` says others.

    Raises ConfigError for a stage that there is not.
    """
    stages = tuple(config.get("sources", {}).get(level, (level,)))
    for stage in stages:
        choose(f"stage, told as {level!r}", stage, config["stages"])
    return stages


def check_order(config: Mapping[str, Any]) -> None:
    """Raise ConfigError where a stage is missing from ``order``, or told of one that does not come before it."""
    order = tuple(config["order"])
    if sorted(order) != sorted(config["stages"]):
        raise ConfigError(f"order is {order} and the stages are {tuple(config['stages'])}: name each once in order")
    for position, stage in enumerate(order):
        for level in config["stages"][stage].get("told", {}):
            late = [source for source in sources_of(config, level) if source not in order[:position]]
            if late:
                raise ConfigError(f"stage {stage!r} is told of {late[0]!r}, which comes not before it in order {order}")
    for stage in config.get("output", ()):
        choose("stage in output", stage, config["stages"])
