"""Build networks, and describe the conditions that they take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from audiodiff.build.choices import ConfigError, Table, call, choose, construct
from audiodiff.data.sources import ConditionInfo
from audiodiff.networks.autoencoder import Autoencode, Autoencoder
from audiodiff.networks.classifier import LogMelClassifier
from audiodiff.networks.conditions import ConditionSpec, Route
from audiodiff.networks.dilated_stack import DilatedStack
from audiodiff.networks.embeddings import level_features
from audiodiff.networks.functional import Classify, Functional
from audiodiff.networks.over_bins import OverBins
from audiodiff.networks.unet1d import UNet1d
from audiodiff.networks.unet2d import UNet2d
from audiodiff.networks.wavegrad import WaveGrad, signal_features
from audiodiff.types import Array

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

ENCODE_NOISE: dict[str, Callable[[Array, int], Array]] = {"level": level_features, "signal": signal_features}
"""How a network hears of the noise: the level itself, or WaveGrad's alpha."""

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


def _unet2d(audio_channels: int, **options: Any) -> Any:
    del audio_channels  # it puts out as many as it is given
    return UNet2d(**options)


def _dilated_stack(audio_channels: int, **options: Any) -> Any:
    return DilatedStack(out_channels=audio_channels, **options)


def _wavegrad(audio_channels: int, encode_noise: str = "level", **options: Any) -> Any:
    encode = choose("encode_noise", encode_noise, ENCODE_NOISE)
    return WaveGrad(out_channels=audio_channels, encode_noise=encode, **options)


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
    "unet2d": (
        _unet2d,
        (
            "frame_factors",
            "bin_factors",
            "channels",
            "blocks",
            "attention_heads",
            "attention_axis",
            "attention",
            "window",
            "overlap",
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
            "upsample",
            "embedding_features",
            "remat",
        ),
    ),
    "wavegrad": (
        _wavegrad,
        (
            "factors",
            "channels",
            "down_channels",
            "frame_channels",
            "wave_channels",
            "deep_blocks",
            "deep_dilations",
            "dilations",
            "down_dilations",
            "embedding_features",
            "encode_noise",
            "remat",
        ),
    ),
}
"""Denoising networks, ``(audio_channels, conditions, dtype, **options) -> module``."""

TAKE_BINS = ("unet2d",)
"""Those of x [batch, frame, bin, channel]; any other is of [batch, time, channel], and takes bins as channels."""

TAKE_SIGNALS: Mapping[str, tuple[Route, ...]] = {"unet1d": ("concat", "attention"), "dilated_stack": ("concat",)}
"""Those that are told a signal, and by which routes; any other would not hear it."""

CLASSIFIERS: Table[Any] = {"classifier": (LogMelClassifier, ("widths", "features"))}
"""Judges' networks, ``(heads, dtype, **options) -> module``."""

AUTOENCODERS: Table[Any] = {
    "autoencoder": (
        Autoencoder,
        ("factors", "channels", "encoder_blocks", "decoder_blocks", "latent_channels", "dilations", "overlap"),
    )
}
"""Waveform to latent and back, ``(audio_channels, scale, dtype, **options) -> module``."""


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
    bins: int | None = None,
    dtype: str = "float32",
) -> Functional:
    """Build a denoising network for x [batch, time, channel], or with ``bins`` for x [batch, frame, bin, channel].

    ``audio_channels`` are the channels of x, such as two for a complex spectrum. A network of one axis is put over the
    bins of a spectrum by :class:`OverBins`.
    """
    takes_bins = config.get("name") in TAKE_BINS
    if takes_bins and bins is None:
        raise ConfigError(
            f"network {config['name']!r} takes frames and bins, and x has time alone: "
            "choose a spectral representation or another network"
        )
    folded = 1 if takes_bins or bins is None else bins
    fixed = {"audio_channels": audio_channels * folded, "conditions": conditions}
    network = construct("network", NETWORKS, config, **fixed, dtype=choose("dtype", dtype, DTYPES))
    _check_signals(config["name"], conditions)
    if bins is None or takes_bins:
        return Functional(network)
    return Functional(call("network", OverBins, {"name": config["name"]}, (), network=network))


def _check_signals(name: str, conditions: tuple[ConditionSpec, ...]) -> None:
    """Raise ConfigError where a network would not hear a signal by a route that it is told by."""
    for spec in conditions:
        heard = spec.routes if spec.kind != "signal" else TAKE_SIGNALS.get(name, ())
        if deaf := [route for route in spec.routes if route not in heard]:
            able = [network for network, routes in TAKE_SIGNALS.items() if deaf[0] in routes]
            raise ConfigError(
                f"network {name!r} does not hear {spec.name!r} by {deaf[0]}: use {' or '.join(able)}, or tell it by "
                "frames or global"
            )


def make_classifier(config: Mapping[str, Any], heads: tuple[tuple[str, int], ...], dtype: str = "float32") -> Classify:
    """Build a judge's network with ``heads`` of (name, classes)."""
    return Classify(construct("network", CLASSIFIERS, config, heads=heads, dtype=choose("dtype", dtype, DTYPES)))


def make_autoencoder(
    config: Mapping[str, Any], *, audio_channels: int = 1, scale: float = 1.0, dtype: str = "float32"
) -> Autoencode:
    """Build an autoencoder of audio whose standard deviation is ``scale``."""
    fixed = {"audio_channels": audio_channels, "scale": scale, "dtype": choose("dtype", dtype, DTYPES)}
    return Autoencode(construct("network", AUTOENCODERS, config, **fixed))
