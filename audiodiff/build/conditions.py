"""Build conditions: how large they are in a batch, and what people write of them as the arrays a batch carries."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from audiodiff import data
from audiodiff.build.choices import ConfigError, choose
from audiodiff.types import Array


def shaped(
    name: str, info: data.ConditionInfo, manifest: data.Manifest, config: Mapping[str, Any]
) -> data.ConditionInfo:
    """Say how large a batch's values of a text or an array are: as long as the config says, as wide as the first is.

    ``config`` is the data section. Raises ConfigError where a length is missing, an array cannot be read, or frames
    would not lie beside their audio.
    """
    if info.kind not in ("text", "array"):
        return info
    shape = (1,) if info.kind == "text" else _shape_of_first(name, info, manifest)
    if info.kind == "array" and len(shape) == 1:
        return dataclasses.replace(info, shape=shape)
    length = config["condition_lengths"].get(name)
    if not isinstance(length, int) or length < 1:
        raise ConfigError(
            f"condition {name!r} is a sequence: say with data.condition_lengths.{name}=N to how many entries a batch "
            "cuts or pads it"
        )
    if info.kind == "array" and (config["crop"] != "start" or config["max_shift_samples"] or config["bucket_samples"]):
        raise ConfigError(
            f"the frames of condition {name!r} are not cropped, shifted or cut with the audio: use data.crop='start', "
            "data.max_shift_samples=0 and no data.bucket_samples, with as many frames as cover data.length_samples"
        )
    return dataclasses.replace(info, shape=(length, *shape[1:]))


def _shape_of_first(name: str, info: data.ConditionInfo, manifest: data.Manifest) -> tuple[int, ...]:
    path = manifest.root / str(manifest.clips[0].conditions[name])
    try:
        shape = np.shape(info.encode(str(path)))
    except (OSError, ValueError) as error:
        raise ConfigError(f"condition {name!r}: {path} cannot be read as an .npy file ({error})") from None
    if len(shape) not in (1, 2):
        raise ConfigError(f"condition {name!r}: {path} has shape {shape}; give vectors [size] or frames [frame, size]")
    return shape


def encode_conditions(
    infos: Mapping[str, data.ConditionInfo], conditions: Mapping[str, Any], batch: int | None = None
) -> dict[str, Array]:
    """Turn conditions as people write them into arrays [batch, ...], as many as the longest has by default.

    A value is a label by name or index, a number, a text, an array or the path of its .npy file; several stand in a
    sequence. Raises ConfigError for conditions, labels and shapes that are not those of ``infos``.
    """
    for name in conditions:
        choose("condition", name, dict.fromkeys(infos))
    if missing := [name for name in infos if name not in conditions]:
        raise ConfigError(f"condition {missing[0]!r} is missing; this model takes {', '.join(infos)}")
    many = {name: _as_list(value, len(infos[name].shape)) for name, value in conditions.items()}
    batch = max(map(len, many.values()), default=1) if batch is None else batch
    arrays = {}
    for name, values in many.items():
        if len(values) not in (1, batch):
            raise ConfigError(f"condition {name!r} has {len(values)} values for {batch} clips: give 1 or {batch}")
        info, made = infos[name], [_value(name, infos[name], value) for value in values]
        arrays[name] = jnp.asarray(data.stack_condition(name, info, made * (batch // len(made)), info.longest)[name])
    return arrays


def _value(name: str, info: data.ConditionInfo, value: Any) -> Any:
    """Turn one value of a condition into what a batch carries."""
    if info.kind in ("text", "array"):
        try:
            made = np.asarray(info.encode(value) if isinstance(value, str) else value)
        except (OSError, ValueError) as error:
            raise ConfigError(f"condition {name!r}: {error}") from None
        own = 1 if info.longest else 0  # a sequence may be shorter than the longest
        if made.ndim != len(info.shape) or made.shape[own:] != info.shape[own:] or len(made) > info.shape[0]:
            raise ConfigError(
                f"condition {name!r} has shape {made.shape}: the model takes {'at most ' * own}{info.shape}"
            )
        return made
    if info.kind == "number":
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ConfigError(f"condition {name!r} is {value!r}: give a number") from None
    if isinstance(value, str):
        choose(f"value of condition {name!r}", value, dict.fromkeys(info.vocabulary))
        return info.vocabulary.index(value)
    if not 0 <= int(value) < len(info.vocabulary):
        raise ConfigError(f"condition {name!r} is {value}: its labels have the indices 0 to {len(info.vocabulary) - 1}")
    return int(value)


def _as_list(value: Any, axes: int) -> Sequence[Any]:
    """Return a sequence of values, one of which is a string or has so many axes."""

    def count(value: Any) -> int:
        if isinstance(value, str):
            return axes
        # Arrays in a list may be of different lengths: only the first is looked into.
        return 1 + count(value[0]) if isinstance(value, (list, tuple)) and value else np.ndim(value)

    return [value] if count(value) == axes else list(value)
