"""DiffWave's network: one resolution, gated convolutions of cyclically growing dilation, summed skips.

Kong et al. 2021, arXiv 2009.09761. ``BASE`` and ``LARGE`` hold the sizes of its two vocoders.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import he_normal, normal, zeros

from audiodiff.networks.conditions import ConditionEncoder, ConditionSpec, resample_frames
from audiodiff.networks.embeddings import NoiseEmbedding, level_features
from audiodiff.networks.layers import (
    Conv1d,
    Dense,
    conv_transpose1d,
    materialise,
    materialise_gradient,
    rematerialise,
    zero_init,
)
from audiodiff.networks.receptive_field import ConvShape, cyclic_dilations, receptive_field
from audiodiff.types import Array, Conditions

BASE = {"residual_layers": 30, "residual_channels": 64, "dilation_cycle": 10}
LARGE = {"residual_layers": 30, "residual_channels": 128, "dilation_cycle": 10}


class FrameUpsampler(nn.Module):
    """Bring frames [batch, frame, bin] to [batch, frame * prod(strides), bin], as DiffWave does with its mel.

    Each stride s is a transposed 2-D convolution with one channel, 3 taps across bins and 2 s in time, and leaky ReLU
    of slope 0.4. It runs with bins beside the batch and the 3 bin taps as channels of :func:`conv_transpose1d`.
    """

    strides: tuple[int, ...] = (16, 16)
    causal: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, frames: Array) -> Array:
        batch, _, bins = frames.shape
        x = frames.astype(self.dtype).swapaxes(1, 2)  # [batch, bin, frame]
        for index, stride in enumerate(self.strides):
            kernel = self.param(f"kernel_{index}", normal(1 / math.sqrt(2 * 3)), (2 * stride, 3, 1), jnp.float32)
            bias = self.param(f"bias_{index}", zeros, (1,), jnp.float32)
            padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
            taps = jnp.stack([padded[:, 2 - tap : bins + 2 - tap] for tap in range(3)], axis=-1)
            y = conv_transpose1d(
                taps.reshape(batch * bins, -1, 3), kernel.astype(self.dtype), stride=stride, causal=self.causal
            )
            x = jax.nn.leaky_relu(y.reshape(batch, bins, -1) + bias.astype(y.dtype), 0.4)
        return x.swapaxes(1, 2)


class DilatedLayer(nn.Module):
    """Apply one gated residual layer: (x, skips, vector, frames) -> (x', skips').

    h = x + W_v vector;  z = sigmoid(W_g * h + V_g frames) tanh(W_f * h + V_f frames);
    x' = (x + W_r z) / sqrt(2);  skips' = skips + W_s z, with * a dilated convolution.

    Gate and filter are halves of one array, and so are residual and skip: twice the outputs make better products of
    every gradient.
    """

    channels: int
    kernel_size: int
    dilation: int
    causal: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, skips: Array, vector: Array, frames: Array | None) -> tuple[Array, Array]:
        options: dict[str, Any] = {"dtype": self.dtype, "kernel_init": he_normal()}
        h = x + Dense(self.channels, dtype=self.dtype, name="noise")(vector)[:, None]
        y = Conv1d(
            2 * self.channels, self.kernel_size, self.dilation, causal=self.causal, name="gate_filter", **options
        )(h)
        if frames is not None:
            y = y + Dense(2 * self.channels, name="frames", **options)(frames)
        gate, filtered = jnp.split(y, 2, axis=-1)
        z = jax.nn.sigmoid(gate) * jnp.tanh(filtered)
        residual, skip = jnp.split(Dense(2 * self.channels, name="residual_skip", **options)(z), 2, axis=-1)
        return (x + residual) / math.sqrt(2.0), skips + skip


class DilatedStack(nn.Module):
    """Denoise x [batch, time, channel] with DiffWave's stack: y has the shape of x, in float32.

    Layer l has dilation 2^(l mod cycle); the skips are summed and divided by sqrt(layers). Global conditions are
    added to the noise embedding. Frames reach every layer through 1x1 projections: with ``upsample``, whose product is
    the hop, through DiffWave's learned upsampling, else by linear interpolation. A signal [batch, time, channel], a
    coarser model's, is concatenated to x in its channels. Set
    ``encode_noise=step_features`` to pass DiffWave's step number as the noise condition.

    The layers are unrolled and not scanned: each has its own dilation, and a scan over cycles compiles no sooner.
    ``remat`` computes layers again in the backward pass instead of keeping their activations
    (:func:`rematerialise`). Any length is legal.

    Raises:
      ValueError: for sizes that cannot be, a signal of another length than x, or a condition of tokens or a signal by
        the route "attention", as this network has none.
    """

    residual_layers: int = 30
    residual_channels: int = 64
    dilation_cycle: int = 10
    kernel_size: int = 3
    out_channels: int = 1
    causal: bool = False
    conditions: tuple[ConditionSpec, ...] = ()
    upsample: tuple[int, ...] = ()
    embedding_features: int = 512
    encode_noise: Callable[[Array], Array] = level_features
    remat: bool = False
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("residual_layers", "residual_channels", "dilation_cycle", "kernel_size")
        for name in (*sizes, "out_channels", "embedding_features"):
            if (size := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {size}: give at least 1")
        if self.upsample and min(self.upsample) < 1:
            raise ValueError(f"upsample is {self.upsample}: give strides of at least 1, or none to interpolate frames")

    def setup(self) -> None:
        for spec in self.conditions:
            if spec.kind == "tokens":
                raise ValueError(
                    f"Condition {spec.name!r} is tokens, which a DilatedStack cannot attend to: use a UNet1d."
                )
            if spec.kind == "signal" and "attention" in spec.routes:
                raise ValueError(
                    f"Condition {spec.name!r} is a signal to attend to, which a DilatedStack cannot: concatenate "
                    "it, or use a UNet1d."
                )
        channels = self.residual_channels
        self.condition_encoder = ConditionEncoder(self.conditions, self.embedding_features, self.dtype)
        self.noise_embedding = NoiseEmbedding(self.embedding_features, self.encode_noise, self.dtype)
        if self.upsample:
            self.upsampler = FrameUpsampler(self.upsample, self.causal, self.dtype)
        self.input = Dense(channels, dtype=self.dtype, kernel_init=he_normal())
        self.layer = [
            DilatedLayer(channels, self.kernel_size, dilation, self.causal, self.dtype)
            for dilation in cyclic_dilations(self.residual_layers, self.dilation_cycle)
        ]
        self.skip = Dense(channels, dtype=self.dtype, kernel_init=he_normal())
        self.output = Dense(self.out_channels, dtype=self.dtype, kernel_init=zero_init)

    def encode(self, conditions: Conditions, present: Conditions | None = None) -> dict[str, Array]:
        """Encode raw conditions once per sample; frames come out upsampled, where the network upsamples."""
        encoded = self.condition_encoder(conditions, present)
        if self.upsample and "frames" in encoded:
            encoded["frames"] = self.upsampler(encoded["frames"])
        return encoded

    def __call__(self, x: Array, noise_condition: Array, conditions: Conditions) -> Array:
        frames = conditions.get("frames")
        if frames is not None:
            frames = self.match(frames, x.shape[1])
        vector = self.noise_embedding(noise_condition)
        if "global" in conditions:
            vector = vector + conditions["global"].astype(vector.dtype)
        if (signal := conditions.get("signal")) is not None:
            if signal.shape[1] != x.shape[1]:
                raise ValueError(
                    f"the signal has {signal.shape[1]} positions and x {x.shape[1]}: bring it to those of x"
                )
            x = jnp.concatenate([x, signal.astype(x.dtype)], axis=-1)
        h = jax.nn.relu(self.input(x))
        skips = jnp.zeros_like(h)
        for layer in self.layer:
            if frames is not None:
                frames = materialise_gradient(frames)
            given = (h, skips, vector, frames)
            h, skips = rematerialise(layer, *given) if self.remat else layer(*given)
            h = materialise(h)
        return self.output(jax.nn.relu(self.skip(skips / math.sqrt(self.residual_layers)))).astype(jnp.float32)

    def init_all(self, x: Array, noise_condition: Array, conditions: Conditions) -> Array:
        """Run encode and the call, so that one init makes all parameters."""
        return self(x, noise_condition, self.encode(conditions))

    def match(self, frames: Array, length: int) -> Array:
        """Bring encoded frames to the length of x: upsampled ones may be longer (a last, padded frame), not shorter."""
        if not self.upsample:
            return resample_frames(frames, length)
        if frames.shape[1] < length:
            hop = math.prod(self.upsample)
            raise ValueError(
                f"{frames.shape[1] // hop} frames of {hop} samples do not cover {length} samples: "
                f"give at least {-(-length // hop)} frames."
            )
        return frames[:, :length]

    def receptive_field(self) -> int:
        """Return the number of input samples that an output sample depends on."""
        dilations = cyclic_dilations(self.residual_layers, self.dilation_cycle)
        return receptive_field(ConvShape(self.kernel_size, dilation=dilation) for dilation in dilations)
