"""Build the 2-D U-Net over frames and bins: patches, residual blocks, attention along either axis or both, and skips.

Shapes, where F_l and B_l are the products of the first l + 1 frame and bin factors, and L is the last level::

    x [batch, frame, bin, channel]   both axes are padded with zeros to multiples of F_L and B_L, and cropped at the end
    -> level l  [batch, frame / F_l, bin / B_l, channels[l]]
    -> head     [batch, frame, bin, channel]
"""

from __future__ import annotations

import difflib
import math
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from audiodiff.networks.attention import Attention, Kind
from audiodiff.networks.conditions import ConditionEncoder, ConditionSpec, resample_frames
from audiodiff.networks.embeddings import NoiseEmbedding, sinusoids
from audiodiff.networks.layers import Conv2d, Dense, FiLM, RMSNorm, rematerialise, zero_init
from audiodiff.types import Array, Conditions

Axis = Literal["frame", "bin", "both"]

PLACE_FREQUENCIES = np.pi * 2.0 ** np.arange(6)
"""Radians over all of the bins, half a turn to 16 turns: no two of up to 32 bins are alike even to the highest."""


def to_patches(x: Array, frames: int, bins: int) -> Array:
    """Fold patches into channels: [batch, frame, bin, channel] -> [batch, frame / F, bin / B, F * B * channel].

    As :func:`audiodiff.networks.unet1d.to_blocks`, which says why, on two axes; F = ``frames`` and B = ``bins`` must
    divide them.
    """
    batch, frame, bin, channels = x.shape
    x = x.reshape(batch, frame // frames, frames, bin // bins, bins, channels).swapaxes(2, 3)
    return x.reshape(batch, frame // frames, bin // bins, frames * bins * channels)


def from_patches(x: Array, frames: int, bins: int) -> Array:
    """Unfold channels into patches, the inverse of :func:`to_patches`."""
    batch, frame, bin, channels = x.shape
    x = x.reshape(batch, frame, bin, frames, bins, channels // (frames * bins)).swapaxes(2, 3)
    return x.reshape(batch, frame * frames, bin * bins, channels // (frames * bins))


def to_sequences(x: Array, axis: Axis) -> Array:
    """Cut [batch, frame, bin, channel] into sequences [sequence, position, channel] along an axis, or along both."""
    x = x.swapaxes(1, 2) if axis == "frame" else x
    count = x.shape[0] if axis == "both" else x.shape[0] * x.shape[1]
    return x.reshape(count, -1, x.shape[-1])


def from_sequences(x: Array, shape: tuple[int, ...], axis: Axis) -> Array:
    """Put sequences together as ``shape`` [batch, frame, bin, channel], the inverse of :func:`to_sequences`."""
    batch, frame, bin, channels = shape
    return x.reshape(batch, bin, frame, channels).swapaxes(1, 2) if axis == "frame" else x.reshape(shape)


class ResidualBlock2d(nn.Module):
    """Add to x [batch, frame, bin, channel] norm, SiLU, conv, norm, FiLM by vector [batch, dim], SiLU, conv.

    Returns [batch, frame, bin, features]. The last convolution begins at zero, so the block begins as the identity, or
    as a 1x1 projection where ``features`` differs from the channels of x.
    """

    features: int
    kernel_size: int = 3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, vector: Array) -> Array:
        options: dict[str, Any] = {"kernel_size": self.kernel_size, "dtype": self.dtype}
        h = jax.nn.silu(RMSNorm(dtype=self.dtype, name="norm_in")(x))
        h = Conv2d(self.features, name="conv_in", **options)(h)
        h = FiLM(dtype=self.dtype, name="film")(RMSNorm(dtype=self.dtype, name="norm_out")(h), vector)
        h = Conv2d(self.features, kernel_init=zero_init, name="conv_out", **options)(jax.nn.silu(h))
        if x.shape[-1] != self.features:
            x = Dense(self.features, use_bias=False, dtype=self.dtype, name="project")(x)
        return x + h


class UNet2d(nn.Module):
    """Denoise [batch, frame, bin, channel] at several resolutions, from coarse context to fine detail.

    ``frame_factors[l]`` and ``bin_factors[l]`` divide the axes on the way to level l, the first in the stem;
    ``channels``, ``blocks``, ``attention_heads`` (0: none) and ``attention_axis`` have one entry a level too.
    ``overlap`` is how many patches a side each resampling kernel spans.

    A level attends along "frame" (every bin for itself), along "bin" (every frame for itself), or over "both", where a
    position is frame * bins + bin: of F frames and B bins full attention then costs (F B)^2 and not F^2 B or F B^2, and
    ``window``, as in :class:`Attention`, counts such positions. ``remat`` computes blocks and attention again in the
    backward pass instead of keeping their activations (:func:`rematerialise`). Any size goes in, unless ``strict``
    asks for multiples of ``multiple``.

    Conditions: "global" is added to the noise embedding, which modulates every block (FiLM); "frames" are brought to
    the stem's rate and added to its output at every bin by a dense layer; "tokens" are cross-attended by every position
    wherever a level attends.

    Raises:
      ValueError: for levels that disagree or cannot be, tokens that no level attends to, or a size that ``strict``
        refuses.
    """

    frame_factors: tuple[int, ...] = (1, 2, 2)
    bin_factors: tuple[int, ...] = (1, 2, 2)
    channels: tuple[int, ...] = (64, 96, 128)
    blocks: tuple[int, ...] = (1, 1, 1)
    attention_heads: tuple[int, ...] = (0, 0, 4)
    attention_axis: tuple[Axis, ...] = ("frame", "frame", "both")
    attention: Kind = "full"
    window: int = 0
    overlap: int = 3
    embedding: int = 256
    conditions: tuple[ConditionSpec, ...] = ()
    remat: bool = False
    strict: bool = False
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = {"frame_factors": 1, "bin_factors": 1, "channels": 1, "blocks": 0, "attention_heads": 0}
        levels = {name: len(getattr(self, name)) for name in (*counts, "attention_axis")}
        if len(set(levels.values())) != 1:
            raise ValueError(f"the levels of a UNet2d disagree: {levels}; give each tuple one entry a level")
        for name, least in counts.items():
            if not (values := getattr(self, name)) or min(values) < least:
                raise ValueError(f"{name} is {values}: give at least one number, each at least {least}")
        for axis in self.attention_axis:
            if axis not in (axes := get_args(Axis)):
                nearest = difflib.get_close_matches(str(axis), axes, n=len(axes), cutoff=0.0)
                raise ValueError(f"unknown attention_axis {axis!r}: choose one of {', '.join(nearest)}")
        if self.overlap < 1 or self.overlap % 2 == 0:
            raise ValueError(f"overlap is {self.overlap}: a centred kernel spans an odd number of patches, 1, 3, 5 ...")
        for features, heads in zip(self.channels, self.attention_heads, strict=True):
            if heads and features % (2 * heads):  # rotary positions turn the channels of a head in pairs
                raise ValueError(
                    f"{heads} attention heads cannot share {features} channels: use a multiple of {2 * heads}"
                )
        tokens = [spec.name for spec in self.conditions if spec.kind == "tokens"]
        if tokens and not any(self.attention_heads):
            raise ValueError(f"no level attends to the tokens of condition {tokens[0]!r}: give a level attention_heads")

    @property
    def multiple(self) -> tuple[int, int]:
        """The numbers that frames and bins are padded to multiples of."""
        return math.prod(self.frame_factors), math.prod(self.bin_factors)

    def setup(self) -> None:
        self.condition_encoder = ConditionEncoder(self.conditions, self.embedding, dtype=self.dtype)

    def encode(self, conditions: Conditions, present: Conditions | None = None) -> dict[str, Array]:
        """Encode raw conditions, once per sample."""
        return self.condition_encoder(conditions, present)

    def init_all(self, x: Array, noise_condition: Array, conditions: Conditions) -> Array:
        """Touch every parameter: encode raw conditions and call the network."""
        return self(x, noise_condition, self.encode(conditions))

    @nn.compact
    def __call__(self, x: Array, noise_condition: Array, conditions: Conditions) -> Array:
        """Return an array like x [batch, frame, bin, channel], for noise_condition [batch], in float32 or wider."""
        frames, bins, channels = x.shape[1:]
        factors = list(zip(self.frame_factors, self.bin_factors, strict=True))
        vector, tokens = self._vector(noise_condition, conditions), conditions.get("tokens")
        h = self._stem(x, conditions)
        skips = [h]
        for level, features in enumerate(self.channels):
            if level:
                h = self._conv(features, f"down{level}")(to_patches(h, *factors[level]))
                skips.append(h)
            for index in range(self.blocks[level]):
                h = self._block(h, vector, tokens, level, index, "encoder")
                skips.append(h)
        h = self._block(h, vector, tokens, len(self.channels) - 1, 0, "middle")
        for level in reversed(range(len(self.channels))):
            for index in reversed(range(self.blocks[level] + 1)):
                h = self._block(jnp.concatenate([h, skips.pop()], -1), vector, tokens, level, index, "decoder")
            if level:
                features = math.prod(factors[level]) * self.channels[level - 1]
                h = from_patches(self._conv(features, f"up{level}")(h), *factors[level])
        h = jax.nn.silu(RMSNorm(dtype=self.dtype, name="norm")(h))
        h = self._conv(math.prod(factors[0]) * channels, "head", kernel_init=zero_init)(h)
        y = from_patches(h, *factors[0])[:, :frames, :bins]
        return y.astype(jnp.promote_types(self.dtype, jnp.float32))

    def _vector(self, noise_condition: Array, conditions: Conditions) -> Array:
        """Embed noise level and global conditions as the vector [batch, embedding] that modulates every block."""
        vector = NoiseEmbedding(self.embedding, dtype=self.dtype, name="noise_embedding")(noise_condition)
        if "global" in conditions:
            vector = vector + conditions["global"].astype(vector.dtype)
            vector = vector + Dense(self.embedding, dtype=self.dtype, name="mix")(jax.nn.silu(vector))
        return jax.nn.silu(vector)

    def _stem(self, x: Array, conditions: Conditions) -> Array:
        """Pad x [batch, frame, bin, channel] and cut it into patches that know their bins and the frames' condition."""
        frames, bins = sizes = x.shape[1:3]
        for name, size, multiple in zip(("frames", "bins"), sizes, self.multiple, strict=True):
            lower = size - size % multiple
            if self.strict and size > lower:
                legal = f"{lower} or {lower + multiple}" if lower else f"{multiple}"
                raise ValueError(f"{size} {name} are not a multiple of {multiple}: use {legal}")
        missing = [(0, -size % multiple) for size, multiple in zip(sizes, self.multiple, strict=True)]
        x = jnp.pad(x, ((0, 0), *missing, (0, 0))).astype(self.dtype)
        h = self._conv(self.channels[0], "stem")(to_patches(x, self.frame_factors[0], self.bin_factors[0]))
        # A sound moved in time is the same sound; moved in frequency it is another, and convolutions cannot tell the
        # two apart. So they are told where a bin lies, as a share of all bins: it means the same for any number.
        place = (jnp.arange(h.shape[2]) + 0.5) * (self.bin_factors[0] / bins)
        features = sinusoids(place, PLACE_FREQUENCIES)
        h = h + Dense(self.channels[0], use_bias=False, dtype=self.dtype, name="place")(features)
        if "frames" in conditions:
            # Frames cover the sound, not its padding.
            told = resample_frames(conditions["frames"], -(-frames // self.frame_factors[0])).astype(h.dtype)
            told = jnp.pad(told, ((0, 0), (0, h.shape[1] - told.shape[1]), (0, 0)), mode="edge")
            h = h + Dense(self.channels[0], use_bias=False, dtype=self.dtype, name="frames")(told)[:, :, None]
        return h

    def _conv(self, features: int, name: str, **options: Any) -> Conv2d:
        """Make a convolution over patches, the polyphase form of a strided or transposed one."""
        return Conv2d(features, self.overlap, dtype=self.dtype, name=name, **options)

    def _block(self, x: Array, vector: Array, tokens: Array | None, level: int, index: int, part: str) -> Array:
        """Apply one residual block, then self-attention and cross-attention where the level attends."""
        features, heads, name = self.channels[level], self.attention_heads[level], f"{part}{level}_{index}"
        x = self._apply(ResidualBlock2d(features, dtype=self.dtype, name=name), x, vector)

        def attend(role: str, axis: Axis, context: Array | None, **options: Any) -> Array:
            normed = RMSNorm(dtype=self.dtype, name=f"{name}_{role}_norm")(x)
            options |= {"dtype": self.dtype, "output_init": zero_init, "name": f"{name}_{role}"}
            attention = Attention(heads, features // heads, **options)
            return from_sequences(self._apply(attention, to_sequences(normed, axis), context), x.shape, axis)

        if heads:
            options: dict[str, Any] = {"kind": self.attention, "window": self.window, "rotary": True}
            x = x + attend("attention", self.attention_axis[level], None, **options)
            if tokens is not None:
                x = x + attend("cross", "both", tokens)
        return x

    def _apply(self, module: nn.Module, *arguments: Any) -> Any:
        """Call a module, so that its activations are kept, or under ``remat`` computed again."""
        return rematerialise(module, *arguments) if self.remat else module(*arguments)

    def receptive_field(self) -> tuple[int, int]:
        """Return how many frames and how many bins the convolutions let one output hear, at most.

        Attention, where there is any, hears all positions of its axis (or those in its window) beyond this.
        """
        return self._field(self.frame_factors), self._field(self.bin_factors)

    def _field(self, factors: tuple[int, ...]) -> int:
        """Follow an interval from an output back along one axis, by the deepest path, which holds every other one.

        Outputs differ by where in a patch they lie.
        """
        block, kernel = 2 * (ResidualBlock2d.kernel_size // 2), self.overlap // 2
        levels = list(zip(factors, self.blocks, strict=True))
        widths = []
        for output in range(math.prod(factors)):
            low = high = output
            for factor, blocks in levels:
                reach = kernel + block * (blocks + 1)
                low, high = low // factor - reach, high // factor + reach
            low, high = low - block, high + block
            for factor, blocks in reversed(levels):
                reach = kernel + block * blocks
                low, high = (low - reach) * factor, (high + reach) * factor + factor - 1
            widths.append(high - low + 1)
        return max(widths)
