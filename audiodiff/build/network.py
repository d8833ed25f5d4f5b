"""Build networks, and describe the conditions that they take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from audiodiff.build.choices import ConfigError, Table, choose, construct
from audiodiff.data.sources import ConditionInfo
from audiodiff.networks.classifier import LogMelClassifier
from audiodiff.networks.conditions import ConditionSpec
from audiodiff.networks.dilated_stack import DilatedStack
from audiodiff.networks.functional import Classify, Functional
from audiodiff.networks.unet1d import UNet1d

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

CONDITIONS: dict[str, Callable[[str, ConditionInfo], ConditionSpec]] = {
    "label": lambda name, info: ConditionSpec(name, "label", size=len(info.vocabulary)),
    "number": lambda name, info: ConditionSpec(name, "number"),
    "text": lambda name, info: ConditionSpec(name, "tokens", size=256),
    "array": lambda name, info: ConditionSpec(name, "frames" if len(info.shape) > 1 else "vector", size=info.shape[-1]),
}
"""Kind of a condition in the data -> what a network is told of it."""


def _unet1d(audio_channels: int, **options: Any) -> Any:
    del audio_channels  # it puts out as many as it is given
    return UNet1d(**options)


def _dilated_stack(audio_channels: int, **options: Any) -> Any:
    return DilatedStack(out_channels=audio_channels, **options)


NETWORKS: Table[Any] = {
    "unet1d": (
        _unet1d,
        (
            "factors",
            "channels",
            "blocks",
            "attention_heads",
            "attention",
            "window",
            "dilations",
            "overlap",
            "stem",
            "atoms",
            "atom_blocks",
            "long_level",
            "long_atoms",
            "long_blocks",
            "embedding",
            "remat",
            "strict",
        ),
    ),
    "dilated_stack": (
        _dilated_stack,
        (
            "residual_layers",
            "residual_channels",
            "dilation_cycle",
            "kernel_size",
            "causal",
            "embedding_features",
            "remat",
        ),
    ),
}
"""Denoising networks, ``(audio_channels, conditions, dtype, **options) -> module``."""

CLASSIFIERS: Table[Any] = {"classifier": (LogMelClassifier, ("widths", "features"))}
"""Judges' networks, ``(heads, dtype, **options) -> module``."""


def make_conditions(infos: Mapping[str, ConditionInfo]) -> tuple[ConditionSpec, ...]:
    """Describe the conditions a network takes, from what the data set says of them."""
    for name, info in infos.items():
        if info.kind not in CONDITIONS:
            kinds = " or ".join(CONDITIONS)
            raise ConfigError(f"condition {name!r} is of kind {info.kind}, which no network takes: choose a {kinds}")
    return tuple(CONDITIONS[info.kind](name, info) for name, info in infos.items())


def make_network(
    config: Mapping[str, Any],
    conditions: tuple[ConditionSpec, ...] = (),
    *,
    audio_channels: int = 1,
    dtype: str = "float32",
) -> Functional:
    """Build a denoising network."""
    fixed = {"audio_channels": audio_channels, "conditions": conditions, "dtype": choose("dtype", dtype, DTYPES)}
    return Functional(construct("network", NETWORKS, config, **fixed))


def make_classifier(config: Mapping[str, Any], heads: tuple[tuple[str, int], ...], dtype: str = "float32") -> Classify:
    """Build a judge's network with ``heads`` of (name, classes)."""
    return Classify(construct("network", CLASSIFIERS, config, heads=heads, dtype=choose("dtype", dtype, DTYPES)))
