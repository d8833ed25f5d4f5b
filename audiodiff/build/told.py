"""Build what a stage is told of coarser levels: the conditions, where they go in the network, and their noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

from audiodiff.build.choices import ConfigError, choose, options
from audiodiff.hierarchy.levels import PooledMel, PyramidLevel
from audiodiff.hierarchy.told import NOISE, AddLevel, ConditionNoise, Raise, Told
from audiodiff.networks.conditions import ConditionSpec
from audiodiff.types import Representation

OPTIONS = ("representation", "by", "patch", "noise", "noise_at_sampling")
WAYS = dict.fromkeys(("concat", "attention", "frames", "global"))
"""How a level reaches the network: beside x, by cross-attention, interpolated into the stem, or as a vector."""

MakeRepresentation = Callable[..., Representation]


def told_sections(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the section of each level that a model is told, by the name of its condition, complete.

    Raises ConfigError for unknown keys and ways, and for ways that exclude each other.
    """
    return {name: _section(name, dict(given)) for name, given in config.get("told", {}).items()}


def _section(name: str, given: dict[str, Any]) -> dict[str, Any]:
    section = {"by": ("concat",), "patch": 16, "noise": 0.0, "noise_at_sampling": 0.0, **given}
    options(f"told.{name}", section, OPTIONS)
    by = section["by"] = tuple(section["by"])
    for way in by:
        choose(f"way in told.{name}.by", way, WAYS)
    if not by or (len(by) > 1 and sorted(by) != ["attention", "concat"]):
        raise ConfigError(f"told.{name}.by is {by}: give one of {', '.join(WAYS)}, or both of concat and attention")
    if "representation" not in section:
        raise ConfigError(f"told.{name} says not what is told: give its representation")
    if not 0 <= section["noise_at_sampling"] <= section["noise"]:
        raise ConfigError(
            f"told.{name}.noise_at_sampling is {section['noise_at_sampling']:g}, and the model knows noise from 0 to "
            f"told.{name}.noise = {section['noise']:g}: stay within, or train with more"
        )
    return section


def make_told(
    config: Mapping[str, Any], channels: int, rate_hz: int, make_representation: MakeRepresentation
) -> dict[str, Told]:
    """Build what makes of audio each level that a model is told, by the name of its condition."""
    return {
        name: Told(make_representation(section["representation"], channels, rate_hz), section["by"] == ("global",))
        for name, section in told_sections(config).items()
    }


def check_told(
    told: Mapping[str, Told], config: Mapping[str, Any], x: Representation, others: Collection[str] = ()
) -> None:
    """Raise ConfigError where a level cannot stand beside x: of another pyramid, finer than x, or of no pyramid.

    Likewise where it is a vector and has several positions, or goes by the name of one of the ``others``, the
    conditions of the data.
    """
    names = told_names(config)
    for name in (*names, *others):
        if (*names, *others).count(name) > 1:
            raise ConfigError(f"told would make a condition {name!r}, and there is one already: rename the level")
    for name, section in told_sections(config).items():
        level = told[name].level
        if not isinstance(level, (PyramidLevel, PooledMel)):
            raise ConfigError(f"told.{name} is a {type(level).__name__}: tell a stage of a pyramid or a pooled_mel")
        if told[name].whole and not (isinstance(level, PooledMel) and level.pool_frames == 0):
            raise ConfigError(
                f"told.{name}.by is global, one vector of the whole, and {level} has many positions: tell it "
                "by another way, or tell a pooled_mel with pool_frames=0"
            )
        if "concat" not in section["by"]:
            continue
        if not isinstance(level, PyramidLevel) or not isinstance(x, PyramidLevel):
            kinds = f"{type(level).__name__} beside {type(x).__name__}"
            raise ConfigError(f"told.{name} would stand {kinds}: only levels of one pyramid do, choose another way")
        for what in ("pyramid", "waveform"):
            ours, theirs = getattr(level, what), getattr(x, what)
            if ours != theirs:
                raise ConfigError(f"told.{name} is of {ours} and the model of {theirs}: give both the same {what}")
        if level.rate_level > x.rate_level:
            raise ConfigError(
                f"told.{name} has the rate of level {level.rate_level} and the model that of level {x.rate_level}, "
                "which is coarser: tell it of a level below its own"
            )


def told_specs(
    told: Mapping[str, Told],
    config: Mapping[str, Any],
    x: Representation,
    statistics: Mapping[str, Mapping[str, float]],
) -> tuple[ConditionSpec, ...]:
    """Describe to the network the levels that it is told, and how noisy each is where it may be."""
    specs = []
    for name, section in told_sections(config).items():
        level, by, measured = told[name].level, section["by"], statistics.get(name, {"mean": 0.0, "std": 1.0})
        size = told[name].shape(1, 1)[-1]
        shared: dict[str, Any] = {"size": size, "mean": measured["mean"], "std": measured["std"]}
        if by in (("frames",), ("global",)):
            specs.append(ConditionSpec(name, "frames" if by == ("frames",) else "vector", **shared))
        else:
            raised = None
            if isinstance(level, PyramidLevel) and isinstance(x, PyramidLevel):
                raised = Raise(x.pyramid, level.rate_level, x.rate_level)
            specs.append(ConditionSpec(name, "signal", routes=by, patch=section["patch"], raised=raised, **shared))
        if section["noise"]:
            specs.append(ConditionSpec(name + NOISE, "number"))
    return tuple(specs)


def told_noise(config: Mapping[str, Any], statistics: Mapping[str, Mapping[str, float]]) -> tuple[ConditionNoise, ...]:
    """Build the noise under which levels are told in training."""
    noisy = {name: section["noise"] for name, section in told_sections(config).items() if section["noise"]}
    return tuple(
        ConditionNoise(name, largest=float(largest), **dict(statistics.get(name, {"mean": 0.0, "std": 1.0})))
        for name, largest in noisy.items()
    )


def told_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the conditions that levels make: each, and its noise where it may be noisy."""
    named = [(name, name + NOISE) if section["noise"] else (name,) for name, section in told_sections(config).items()]
    return tuple(name for pair in named for name in pair)


def add_level(told: Mapping[str, Told], x: Representation) -> AddLevel | None:
    """Return what adds to the details of a level the level below, where a model makes details and is told of it."""
    if not (isinstance(x, PyramidLevel) and x.is_detail):
        return None
    below = dataclasses.replace(x, level=x.level - 1, bands=())
    return next((AddLevel(name, one) for name, one in told.items() if one.level == below), None)
