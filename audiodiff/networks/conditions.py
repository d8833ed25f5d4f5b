"""Encode raw conditions (labels, numbers, vectors, frames, signals, tokens) as the few arrays a network takes.

Each condition is described by a ConditionSpec and has a learned null, which stands for it wherever it is absent.
Encoding runs once per sample; the network is called with the result once per step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import normal

from audiodiff.networks.embeddings import level_features, position_features
from audiodiff.networks.layers import Dense
from audiodiff.types import Array, Conditions

Kind = Literal["label", "number", "vector", "frames", "signal", "tokens"]
Route = Literal["concat", "attention"]

AXES: Mapping[str, tuple[str, ...]] = {
    "label": ("batch",),
    "number": ("batch",),
    "vector": ("batch", "size"),
    "frames": ("batch", "frame", "size"),
    "signal": ("batch", "position", "size"),
    "tokens": ("batch", "token"),
}
"""The axes of a raw condition, by kind."""


@dataclass(frozen=True)
class ConditionSpec:
    """Describe one raw condition.

    ``kind`` says what the array is and where it goes::

        label   int [batch] in 0 .. size-1             -> "global"
        number  float [batch]                          -> "global"
        vector  float [batch, size]                    -> "global"
        frames  float [batch, frame, size]             -> "frames"
        signal  float [batch, position, size]          -> "signal" by the route "concat", "tokens" by "attention"
        tokens  int [batch, token] in 0 .. size-1,
                negative where the sequence has ended  -> "tokens"

    ``size`` is the vocabulary or the number of channels. All but labels and tokens are standardised by ``mean`` and
    ``std`` first. ``features`` is the width that frames are projected to; None passes them on as they are.
    A signal is what a coarser model has made: ``raised`` brings it to the positions of x, [batch, position, size] ->
    [batch, time, size] (None: it has them already), where it is concatenated to x; ``patch`` of its own positions make
    a token that is attended to. It takes one of the ``routes`` or both.
    """

    name: str
    kind: Kind
    size: int = 1
    features: int | None = None
    mean: float = 0.0
    std: float = 1.0
    routes: tuple[Route, ...] = ("concat",)
    patch: int = 1
    raised: Callable[[Array], Array] | None = None

    def __post_init__(self) -> None:
        if self.kind not in AXES:
            raise ValueError(f"Condition {self.name!r} has kind {self.kind!r}: use one of {', '.join(AXES)}.")
        if self.size < 1 or self.std <= 0:
            raise ValueError(f"Condition {self.name!r} has size {self.size} and std {self.std}: both must be positive.")
        if self.features is not None and self.kind != "frames":
            raise ValueError(f"Condition {self.name!r} is a {self.kind}: only frames choose their own features.")
        if not self.routes or set(self.routes) - {"concat", "attention"} or len(set(self.routes)) < len(self.routes):
            raise ValueError(f"Condition {self.name!r} takes the routes {self.routes}: give concat, attention or both.")
        if self.patch < 1:
            raise ValueError(f"Condition {self.name!r} has tokens of {self.patch} positions: give at least 1.")


def check_conditions(
    specs: tuple[ConditionSpec, ...], raw: Mapping[str, Any], present: Mapping[str, Any] | None = None
) -> None:
    """Raise ValueError in one sentence if the raw conditions are not the ones described, in name or in shape.

    Whether labels lie inside the vocabulary cannot be asked of traced values; whoever makes the batch checks that.
    """
    names = [spec.name for spec in specs]
    listed = ", ".join(names) or "none"
    unknown = [name for name in (*raw, *(present or {})) if name not in names]
    if unknown:
        raise ValueError(f"Unknown condition {unknown[0]!r}: this network takes {listed}.")
    missing = [name for name in names if name not in raw]
    if missing:
        raise ValueError(
            f"Condition {missing[0]!r} is missing: this network takes {listed}; "
            "to leave one out, give any value and mark it False in `present`."
        )
    for spec in specs:
        shape, axes = jnp.shape(raw[spec.name]), AXES[spec.kind]
        if len(shape) != len(axes) or (axes[-1] == "size" and shape[-1] != spec.size):
            wanted = ", ".join(str(spec.size) if axis == "size" else axis for axis in axes)
            raise ValueError(f"Condition {spec.name!r} has shape {shape}: a {spec.kind} condition is [{wanted}].")
    batches = {name: jnp.shape(raw[name])[0] for name in names}
    if len(set(batches.values())) > 1:
        raise ValueError(f"Conditions disagree on the batch size: {batches}; give every one the same.")


def resample_frames(frames: Array, length: int) -> Array:
    """Interpolate frames [batch, frame, channel] linearly to [batch, length, channel].

    Frame f covers positions f r .. (f + 1) r, r = length / frames, and speaks for the middle of them; beyond the
    outer middles the outer frames are held. A whole r interpolates by broadcasting alone: gathering rows costs the
    CPU a scatter in the backward pass.
    """
    count = frames.shape[1]
    if count == length:
        return frames
    before, after = (
        jnp.concatenate(parts, axis=1) for parts in ((frames[:, :1], frames[:, :-1]), (frames[:, 1:], frames[:, -1:]))
    )
    if length % count == 0:
        ratio = length // count
        offset = (jnp.arange(ratio, dtype=frames.dtype) + 0.5) / ratio - 0.5
        offset = offset[:, None]
        here = frames[:, :, None] * (1 - jnp.abs(offset))
        there = before[:, :, None] * jnp.maximum(-offset, 0) + after[:, :, None] * jnp.maximum(offset, 0)
        return (here + there).reshape(frames.shape[0], length, frames.shape[2])
    centre = jnp.clip((jnp.arange(length) + 0.5) * (count / length) - 0.5, 0, count - 1)
    left = jnp.floor(centre).astype(jnp.int32)
    weight = (centre - left).astype(frames.dtype)[:, None]
    return frames[:, left] * (1 - weight) + after[:, left] * weight


class ConditionEncoder(nn.Module):
    """Encode raw conditions as four arrays, each absent where no condition of its kind is described::

        global  [batch, features]         embedded and summed
        frames  [batch, frame, C]         brought to the longest one's length, concatenated in their channels
        signal  [batch, time, C]          at the positions of x, concatenated in their channels
        tokens  [batch, token, features]  embedded with their positions, concatenated in time

    Where ``present[name]`` (bool [batch], all True when not given) is False the condition's learned null takes the
    place of the whole embedding, so nothing of the raw value is left.
    """

    specs: tuple[ConditionSpec, ...]
    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, raw: Conditions, present: Conditions | None = None) -> dict[str, Array]:
        check_conditions(self.specs, raw, present)
        encoded: dict[str, list[Array]] = {}
        for spec in self.specs:
            for key, name, y in self.embed(spec, raw[spec.name]):
                null = self.param(f"{name}_null", normal(0.5), (y.shape[-1],), jnp.float32)
                if present is not None and spec.name in present:
                    keep = jnp.asarray(present[spec.name], bool).reshape(-1, *(1,) * (y.ndim - 1))
                    y = jnp.where(keep, y, null.astype(y.dtype))
                encoded.setdefault(key, []).append(y)
        if "frames" in encoded:
            longest = max(y.shape[1] for y in encoded["frames"])
            encoded["frames"] = [resample_frames(y, longest) for y in encoded["frames"]]
        join = {
            "global": lambda parts: sum(parts[1:], parts[0]),
            "frames": lambda parts: jnp.concatenate(parts, axis=-1),
            "signal": lambda parts: jnp.concatenate(parts, axis=-1),
            "tokens": lambda parts: jnp.concatenate(parts, axis=1),
        }
        return {key: join[key](parts) for key, parts in encoded.items()}

    def embed(self, spec: ConditionSpec, value: Array) -> list[tuple[str, str, Array]]:
        """Embed one condition as (where it goes, what its parameters are called, array), once for each route."""
        if spec.kind == "label":
            return [("global", spec.name, self.table(spec, spec.size)[jnp.asarray(value, jnp.int32)])]
        if spec.kind == "tokens":
            # One row more than the vocabulary: where the sequence has ended.
            index = jnp.asarray(value, jnp.int32)
            rows = self.table(spec, spec.size + 1)[jnp.where(index < 0, spec.size, index)]
            return [("tokens", spec.name, rows + position_features(rows.shape[1], self.features).astype(rows.dtype))]
        standard = (jnp.asarray(value, jnp.float32) - spec.mean) / spec.std
        if spec.kind == "signal":
            ways = {"concat": self.beside, "attention": self.attended}
            return [ways[route](spec, standard) for route in spec.routes]
        if spec.kind == "frames":
            if spec.features is None:
                return [("frames", spec.name, standard.astype(self.dtype))]
            projected = Dense(spec.features, dtype=self.dtype, name=f"{spec.name}_frames")(standard)
            return [("frames", spec.name, projected)]
        vector = level_features(standard) if spec.kind == "number" else standard
        hidden = jax.nn.silu(Dense(self.features, dtype=self.dtype, name=f"{spec.name}_hidden")(vector))
        return [("global", spec.name, Dense(self.features, dtype=self.dtype, name=f"{spec.name}_output")(hidden))]

    def beside(self, spec: ConditionSpec, signal: Array) -> tuple[str, str, Array]:
        """Bring a signal [batch, position, size] to where it stands beside x."""
        raised = signal if spec.raised is None else spec.raised(signal)
        return "signal", spec.name, raised.astype(self.dtype)

    def attended(self, spec: ConditionSpec, signal: Array) -> tuple[str, str, Array]:
        """Make a token of every patch of a signal [batch, position, size], with its place."""
        padded = jnp.pad(signal, ((0, 0), (0, -signal.shape[1] % spec.patch), (0, 0)))
        patches = padded.reshape(len(signal), -1, spec.patch * spec.size)
        name = f"{spec.name}_tokens"
        tokens = Dense(self.features, dtype=self.dtype, name=name)(patches)
        return "tokens", name, tokens + position_features(tokens.shape[1], self.features).astype(tokens.dtype)

    def table(self, spec: ConditionSpec, rows: int) -> Array:
        """Return the condition's learned table [rows, features]."""
        # As large as the noise embedding it is added to: a label that whispers is learnt late.
        init = normal(0.5)
        return jnp.asarray(self.param(f"{spec.name}_table", init, (rows, self.features), jnp.float32), self.dtype)
