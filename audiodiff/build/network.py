"""Build networks and the descriptions of their conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from audiodiff.build.choices import ConfigError, call, choose
from audiodiff.data.sources import ConditionInfo
from audiodiff.networks.conditions import ConditionSpec
from audiodiff.networks.dilated_stack import DilatedStack
from audiodiff.networks.functional import Functional
from audiodiff.networks.unet1d import UNet1d

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

NETWORKS: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "unet1d": (
        UNet1d,
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
            "embedding",
            "remat",
        ),
    ),
    "dilated_stack": (
        DilatedStack,
        (
            "residual_layers",
            "residual_channels",
            "dilation_cycle",
            "kernel_size",
            "out_channels",
            "causal",
            "embedding_features",
        ),
    ),
}


def make_conditions(names: tuple[str, ...], infos: Mapping[str, ConditionInfo]) -> tuple[ConditionSpec, ...]:
    """Describe the conditions a network takes, from what the data set says of them."""
    return tuple(_spec(name, choose("condition", name, infos)) for name in names)


def _spec(name: str, info: ConditionInfo) -> ConditionSpec:
    if info.kind == "label":
        return ConditionSpec(name, "label", size=len(info.vocabulary))
    if info.kind == "number":
        return ConditionSpec(name, "number")
    raise ConfigError(f"condition {name!r} is a {info.kind}, which no network takes as it is; use labels or numbers")


def make_network(
    config: Mapping[str, Any], conditions: tuple[ConditionSpec, ...], dtype: str = "float32"
) -> Functional:
    """Build a denoising network."""
    kind, allowed = choose("network", config["name"], NETWORKS)
    module = call("network", kind, config, allowed, conditions=conditions, dtype=choose("dtype", dtype, DTYPES))
    return Functional(module)
