"""Build the 1-D U-Net: an overlapping patch stem, dilated residual blocks, attention where asked, skips, and the way back.

Shapes, for hop h = factors[0] and M = prod(factors)::

    x [batch, time, channel]   time is padded to a multiple of M and cropped again, so any length goes in
    -> stem     [batch, time / h, channels[0]]
    -> level l  [batch, time / prod(factors[:l+1]), channels[l]]
    -> head     [batch, time, channel]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.nn.initializers import Initializer, lecun_normal

from audiodiff.networks.attention import Attention, Kind
from audiodiff.networks.conditions import ConditionEncoder, ConditionSpec, resample_frames
from audiodiff.networks.embeddings import NoiseEmbedding
from audiodiff.networks.layers import Conv1d, Dense, FiLM, RMSNorm, zero_init
from audiodiff.types import Array, Conditions


def to_blocks(x: Array, factor: int) -> Array:
    """Fold time into channels: [batch, time, channel] -> [batch, time / factor, factor * channel].

    A strided convolution of K * factor taps is an ordinary one of K taps on these blocks, and the transposed one likewise
    on the way back (the polyphase form). XLA compiles the ordinary one well on every backend, its gradients included.
    """
    batch, time, channels = x.shape
    return x.reshape(batch, time // factor, factor * channels)


def from_blocks(x: Array, factor: int) -> Array:
    """Unfold channels into time, the inverse of :func:`to_blocks`."""
    batch, time, channels = x.shape
    return x.reshape(batch, time * factor, channels // factor)


def gabor_frame(hop: int, blocks: int, features: int) -> np.ndarray:
    """Return sine-squared-windowed cosines and sines [features, blocks * hop], each of unit energy.

    Their frequencies (k + 1/2) / features, k = 0 .. features/2 - 1, in cycles per sample, lie evenly up to half the rate.
    As a stem's first weights they make the first level a short-time spectrum: a network need not discover that
    sound is made of frequencies before it can learn anything else.
    """
    time = np.arange(blocks * hop) + 0.5
    window = np.sin(np.pi * time / (blocks * hop)) ** 2
    frequency = (np.arange(features // 2) + 0.5) / features
    phase = 2 * np.pi * frequency[:, None] * (time - blocks * hop / 2)
    atoms = np.concatenate([np.cos(phase), np.sin(phase)]) * window
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


def _gabor_per_channel(hop: int, blocks: int, features: int, channels: int) -> np.ndarray:
    """Return [blocks, hop * channels, features]: each audio channel has its own share of the features."""
    share = features // channels // 2 * 2
    atoms = gabor_frame(hop, blocks, share).reshape(share, blocks, hop)
    kernel = np.zeros((blocks, hop, channels, features))
    for channel in range(channels):
        kernel[:, :, channel, channel * share : (channel + 1) * share] = atoms.transpose(1, 2, 0)
    return kernel.reshape(blocks, hop * channels, features)


def gabor_analysis(hop: int, channels: int) -> Initializer:
    """Initialise a stem, a convolution on blocks [tap, hop * channel, features], with a Gabor frame."""

    def init(key: Array, shape: tuple[int, int, int], dtype: Any = jnp.float32) -> Array:
        return jnp.asarray(_gabor_per_channel(hop, shape[0], shape[2], channels), dtype)

    return init


def gabor_synthesis(hop: int, channels: int) -> Initializer:
    """Initialise a head [tap, features, hop * channel] with the adjoint of :func:`gabor_analysis`: overlap and add."""

    def init(key: Array, shape: tuple[int, int, int], dtype: Any = jnp.float32) -> Array:
        analysis = _gabor_per_channel(hop, shape[0], shape[1], channels)
        return jnp.asarray(analysis[::-1].transpose(0, 2, 1), dtype)

    return init


class ResidualBlock(nn.Module):
    """Add to x two convolutions, the second dilated: norm, SiLU, conv, norm, FiLM(vector), SiLU, conv.

    The last convolution begins at zero, so the block begins as the identity (or as its 1x1 projection).
    """

    features: int
    dilation: int = 1
    kernel_size: int = 3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, vector: Array) -> Array:
        h = jax.nn.silu(RMSNorm(dtype=self.dtype, name="norm_in")(x))
        h = Conv1d(self.features, self.kernel_size, dtype=self.dtype, name="conv_in")(h)
        h = FiLM(dtype=self.dtype, name="film")(RMSNorm(dtype=self.dtype, name="norm_out")(h), vector)
        h = Conv1d(
            self.features,
            self.kernel_size,
            dilation=self.dilation,
            dtype=self.dtype,
            kernel_init=zero_init,
            name="conv_out",
        )(jax.nn.silu(h))
        if x.shape[-1] != self.features:
            x = Dense(self.features, use_bias=False, dtype=self.dtype, name="project")(x)
        return x + h


class UNet1d(nn.Module):
    """Denoise [batch, time, channel] at several rates, from coarse context to fine detail.

    ``factors[l]`` divides time on the way to level l, ``factors[0]`` in the stem; ``channels``, ``blocks`` and
    ``attention_heads`` (0: none) have one entry a level too. The blocks of a level take their dilations in turn from
    ``dilations``. ``overlap`` is how many blocks of a factor each resampling kernel spans: patches side by side
    (overlap 1) are heard as a buzz at their rate. ``stem`` is "gabor" (see :func:`gabor_frame`) or "random".

    Conditions: "global" is added to the noise embedding and modulates every block (FiLM), "frames" is brought to the
    stem's rate and concatenated, "tokens" is cross-attended wherever a level attends.
    """

    factors: tuple[int, ...] = (32, 2, 2)
    channels: tuple[int, ...] = (128, 192, 256)
    blocks: tuple[int, ...] = (1, 1, 1)
    attention_heads: tuple[int, ...] = (0, 0, 4)
    attention: Kind = "full"
    window: int = 0
    dilations: tuple[int, ...] = (1, 2, 4)
    overlap: int = 3
    stem: str = "gabor"
    embedding: int = 256
    conditions: tuple[ConditionSpec, ...] = ()
    remat: bool = False
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        lengths = {name: len(getattr(self, name)) for name in ("factors", "channels", "blocks", "attention_heads")}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"the levels of a UNet1d disagree: {lengths}; give each tuple one entry a level")
        if self.stem not in ("gabor", "random"):
            raise ValueError(f"unknown stem {self.stem!r}: choose gabor or random")
        if self.overlap < 1 or self.overlap % 2 == 0:
            raise ValueError(f"overlap is {self.overlap}: a centred kernel spans an odd number of blocks, 1, 3, 5 ...")

    @property
    def multiple(self) -> int:
        """The number of samples that lengths are padded to a multiple of."""
        return math.prod(self.factors)

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
        time, audio_channels = x.shape[1:]
        x = jnp.pad(x, ((0, 0), (0, -time % self.multiple), (0, 0))).astype(self.dtype)
        vector = NoiseEmbedding(self.embedding, dtype=self.dtype, name="noise_embedding")(noise_condition)
        if "global" in conditions:
            vector = vector + conditions["global"].astype(vector.dtype)
            vector = vector + Dense(self.embedding, dtype=self.dtype, name="mix")(jax.nn.silu(vector))
        vector = jax.nn.silu(vector)
        tokens = conditions.get("tokens")

        hop, width = self.factors[0], self.channels[0]
        gabor = self.stem == "gabor"
        analysis = gabor_analysis(hop, audio_channels) if gabor else lecun_normal()
        h = self._conv(width, "stem", kernel_init=analysis)(to_blocks(x, hop))
        if "frames" in conditions:
            frames = resample_frames(conditions["frames"], h.shape[1]).astype(h.dtype)
            h = h + Dense(width, dtype=self.dtype, name="frames")(frames)

        skips = [h]
        for level, features in enumerate(self.channels):
            if level:
                h = self._conv(features, f"down{level}")(to_blocks(h, self.factors[level]))
                skips.append(h)
            for index in range(self.blocks[level]):
                h = self._block(h, vector, tokens, level, index, "encoder")
                skips.append(h)
        h = self._block(h, vector, tokens, len(self.channels) - 1, 0, "middle")
        for level in reversed(range(len(self.channels))):
            for index in reversed(range(self.blocks[level] + 1)):
                h = self._block(jnp.concatenate([h, skips.pop()], -1), vector, tokens, level, index, "decoder")
            if level:
                factor, features = self.factors[level], self.channels[level - 1]
                h = from_blocks(self._conv(factor * features, f"up{level}")(h), factor)

        h = jax.nn.silu(RMSNorm(dtype=self.dtype, name="norm")(h))
        if gabor:
            # Silence comes out of this dense layer at first, and the synthesis frame behind it is ready for use.
            h = Dense(width, dtype=self.dtype, kernel_init=zero_init, name="coefficients")(h)
            h = self._conv(hop * audio_channels, "head", gabor_synthesis(hop, audio_channels), use_bias=False)(h)
        else:
            h = self._conv(hop * audio_channels, "head", zero_init)(h)
        return from_blocks(h, hop)[:, :time].astype(jnp.promote_types(self.dtype, jnp.float32))

    def _conv(
        self, features: int, name: str, kernel_init: Initializer = lecun_normal(), use_bias: bool = True
    ) -> Conv1d:
        """Make a convolution over blocks, the polyphase form of a strided or transposed one."""
        return Conv1d(
            features,
            self.overlap,
            use_bias=use_bias,
            dtype=self.dtype,
            kernel_init=kernel_init,
            name=name,
        )

    def _block(self, x: Array, vector: Array, tokens: Array | None, level: int, index: int, part: str) -> Array:
        """Apply one residual block, then self-attention and cross-attention where the level attends."""
        features, heads = self.channels[level], self.attention_heads[level]
        name = f"{part}{level}_{index}"
        block: Callable[..., Any] = nn.remat(ResidualBlock) if self.remat else ResidualBlock
        dilation = self.dilations[index % len(self.dilations)]
        x = block(features, dilation, dtype=self.dtype, name=name)(x, vector)
        if heads:
            options: dict[str, Any] = {"dtype": self.dtype, "output_init": zero_init}
            normed = RMSNorm(dtype=self.dtype, name=f"{name}_attention_norm")(x)
            x = x + Attention(
                heads,
                features // heads,
                kind=self.attention,
                window=self.window,
                rotary=True,
                name=f"{name}_attention",
                **options,
            )(normed)
            if tokens is not None:
                normed = RMSNorm(dtype=self.dtype, name=f"{name}_cross_norm")(x)
                x = x + Attention(heads, features // heads, name=f"{name}_cross", **options)(normed, tokens)
        return x

    def receptive_field(self) -> int:
        """Return how many samples the convolutions let one output sample hear, at most, on the deepest path.

        Attention, where there is any, hears all positions (or its window) beyond this.
        """
        widths = []
        for sample in range(self.multiple):
            low = high = sample
            for factor, reach in reversed(self._path()):
                if factor > 0:  # a position of the folded signal is a whole block before it was folded
                    low, high = low * factor, high * factor + factor - 1
                elif factor < 0:
                    low, high = low // -factor, high // -factor
                low, high = low - reach, high + reach
            widths.append(high - low + 1)
        return max(widths)

    def _path(self) -> list[tuple[int, int]]:
        """List the deepest path as (factor, reach): fold by a factor (or unfold, if negative), or reach to both sides."""

        def level_blocks(level: int, indices: range | reversed[int]) -> list[tuple[int, int]]:
            return [(0, 1 + self.dilations[index % len(self.dilations)]) for index in indices]

        resample, last = (0, self.overlap // 2), len(self.factors) - 1
        path: list[tuple[int, int]] = []
        for level, factor in enumerate(self.factors):
            path += [(factor, 0), resample, *level_blocks(level, range(self.blocks[level]))]
        path += level_blocks(last, range(1))
        for level in reversed(range(last + 1)):
            path += level_blocks(level, reversed(range(self.blocks[level] + 1)))
            path += [resample, (-self.factors[level], 0)]
        return path
