"""WaveGrad's network: frames are upsampled to a waveform, modulated at every rate by the noisy waveform downsampled.

Chen et al. 2021, arXiv 2009.00713. With factors f_0 .. f_n, whose product is the hop of the frames::

    frames -> conv -> UBlock, f_0 -> UBlock, f_1 -> ... -> UBlock, f_n -> conv -> y [batch, time, channel]
                        ^ FiLM         ^ FiLM                ^ FiLM
                      DBlock, f_1 <- DBlock, f_2 <- ... <- conv <- x [batch, time, channel]

The defaults are those of its Base vocoder, for frames of 300 samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.nn.initializers import normal

from audiodiff.networks.conditions import ConditionEncoder, ConditionSpec
from audiodiff.networks.embeddings import level_features, sinusoids
from audiodiff.networks.layers import Conv1d, Dense, rematerialise, zero_init
from audiodiff.types import Array, Conditions


def signal_features(c_noise: Array, size: int) -> Array:
    """Return WaveGrad's encoding [batch, size] of a level c_noise [batch], which is ln(sigma / alpha) / 4.

    [sin(10^(-4 i / n) 5000 alpha), ..., cos(...)], i = 0 .. n-1, n = size / 2, where alpha = sqrt(abar) is that of
    alpha^2 + sigma^2 = 1. Its fastest angle is within 1/4 radian of that of no noise wherever sigma < 0.01;
    :func:`level_features` tells such levels apart.
    """
    alpha = jnp.sqrt(jax.nn.sigmoid(-8 * c_noise.astype(jnp.float32)))
    return sinusoids(5000 * alpha, 10.0 ** (-4.0 * np.arange(size // 2) / (size // 2)))


def average(x: Array, factor: int) -> Array:
    """Return the means of runs of ``factor`` positions: [batch, time, channel] -> [batch, time / factor, channel].

    Means let no noise alias, as samples picked out would. They are a reshape and a sum, their gradient a broadcast:
    no gather and no scatter.
    """
    batch, time, channels = x.shape
    return x.reshape(batch, time // factor, factor, channels).mean(axis=2)


def leaky(x: Array) -> Array:
    """Apply the leaky ReLU of slope 0.2."""
    return jax.nn.leaky_relu(x, 0.2)


class DBlock(nn.Module):
    """Downsample x [batch, time, channel] to [batch, time / factor, channels].

    y = W mean(x) + convolutions of 3 taps, one a dilation, each after a leaky ReLU, of mean(x). The 1x1 projection W
    commutes with the mean, and so runs at the lower rate.
    """

    channels: int
    factor: int
    dilations: tuple[int, ...] = (1, 2, 4)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = h = average(x, self.factor)
        for index, dilation in enumerate(self.dilations):
            h = Conv1d(self.channels, 3, dilation, dtype=self.dtype, name=f"conv_{index}")(leaky(h))
        return h + Dense(self.channels, dtype=self.dtype, name="residual")(x)


class WaveFiLM(nn.Module):
    """Make scale and shift, each [batch, time, channels], of x [batch, time, channel], level and global conditions.

    h = leaky(conv x) + encode_noise(level);  scale, shift = conv h, with 3 taps each. A vector of global conditions
    [batch, dim], where there is one, is projected and added beside the level.
    """

    channels: int
    encode_noise: Callable[[Array, int], Array] = level_features
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, noise_condition: Array, vector: Array | None) -> tuple[Array, Array]:
        size = x.shape[-1]
        h = leaky(Conv1d(size, 3, dtype=self.dtype, name="signal")(x))
        told = self.encode_noise(noise_condition, size).astype(h.dtype)
        if vector is not None:
            told = told + Dense(size, dtype=self.dtype, name="global")(vector)
        # Halves of one product, which makes better use of every gradient than two would.
        both = Conv1d(2 * self.channels, 3, dtype=self.dtype, name="scale_shift")(h + told[:, None])
        scale, shift = jnp.split(both, 2, axis=-1)
        return scale, shift


class UBlock(nn.Module):
    """Upsample x [batch, time, channel] to [batch, time * factor, channels], modulated by scale and shift of that size.

    With m(h) = leaky(scale h + shift) and up(x) repeating each position ``factor`` times:
    y = up(W x) + conv_1 m(conv_0 up(leaky x)), and then y + conv_3 m(conv_2 m(y)); conv_k has 3 taps and dilation k
    of ``dilations``. Repetition is a broadcast, its gradient a sum; W commutes with it, and so runs at the lower rate.
    """

    channels: int
    factor: int
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, scale: Array, shift: Array) -> Array:
        def conv(index: int, h: Array) -> Array:
            return Conv1d(self.channels, 3, self.dilations[index], dtype=self.dtype, name=f"conv_{index}")(h)

        def modulated(h: Array) -> Array:
            return leaky(scale * h + shift)

        h = conv(1, modulated(conv(0, jnp.repeat(leaky(x), self.factor, axis=1))))
        residual = Dense(self.channels, dtype=self.dtype, name="residual")(x)
        y = h + jnp.repeat(residual, self.factor, axis=1)
        return y + conv(3, modulated(conv(2, modulated(y))))


class WaveGrad(nn.Module):
    """Denoise x [batch, time, channel] with WaveGrad's network: y has the shape of x, in float32.

    Frames are upsampled by ``factors``, whose product must be their hop, in blocks of ``channels``, both listed from
    frames to samples; the first ``deep_blocks`` have ``deep_dilations``, the rest ``dilations``. The waveform is
    downsampled by the same factors in reverse, but for the first, to ``down_channels``, listed from samples to frames.
    Without frames a learned constant is upsampled, and the waveform speaks through its modulations alone.

    ``encode_noise``, (noise_condition, size) -> [batch, size], says how each modulation hears of the level: set
    :func:`signal_features` for the paper's. Global conditions are added to it through a projection each.
    ``remat`` computes blocks again in the backward pass instead of keeping their activations (:func:`rematerialise`).
    Any length is legal: it is padded with zeros to whole frames, and cropped.

    Raises:
      ValueError: for sizes that cannot be, a condition of tokens, or frames that do not cover x.
    """

    factors: tuple[int, ...] = (5, 5, 3, 2, 2)
    channels: tuple[int, ...] = (512, 512, 256, 128, 128)
    down_channels: tuple[int, ...] = (128, 128, 256, 512)
    frame_channels: int = 768
    wave_channels: int = 32
    deep_blocks: int = 2
    deep_dilations: tuple[int, ...] = (1, 2, 1, 2)
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    down_dilations: tuple[int, ...] = (1, 2, 4)
    out_channels: int = 1
    conditions: tuple[ConditionSpec, ...] = ()
    embedding_features: int = 512
    encode_noise: Callable[[Array, int], Array] = level_features
    remat: bool = False
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("frame_channels", "wave_channels", "out_channels", "embedding_features"):
            if (size := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {size}: give at least 1")
        lengths = {"factors": max(len(self.factors), 1), "channels": len(self.factors)}
        lengths |= {"down_channels": len(self.factors) - 1, "deep_dilations": 4, "dilations": 4}
        for name in (*lengths, "down_dilations"):
            values = getattr(self, name)
            if len(values) != lengths.get(name, len(values)) or any(value < 1 for value in values):
                wanted = f"{lengths[name]} " if name in lengths else ""
                raise ValueError(f"{name} is {values} with factors {self.factors}: give {wanted}numbers of at least 1")
        for name, sizes in (("wave_channels", (self.wave_channels,)), ("down_channels", self.down_channels)):
            if any(size % 2 for size in sizes):
                raise ValueError(f"{name} is {getattr(self, name)}: sines and cosines of the level take an even number")
        if not 0 <= self.deep_blocks <= len(self.factors):
            raise ValueError(f"deep_blocks is {self.deep_blocks}: give 0 to {len(self.factors)}, the number of blocks")

    @property
    def hop_samples(self) -> int:
        """The number of samples in a frame."""
        return math.prod(self.factors)

    def setup(self) -> None:
        kinds = {spec.kind: spec.name for spec in self.conditions}
        if "tokens" in kinds:
            raise ValueError(
                f"Condition {kinds['tokens']!r} is tokens, which a WaveGrad cannot attend to: use a UNet1d."
            )
        options: dict[str, Any] = {"dtype": self.dtype}
        self.condition_encoder = ConditionEncoder(self.conditions, self.embedding_features, self.dtype)
        if "frames" in kinds:
            self.frames = Conv1d(self.frame_channels, 3, **options)
        else:
            self.start = self.param("start", normal(0.5), (self.frame_channels,), jnp.float32)
        self.wave = Conv1d(self.wave_channels, 5, **options)
        self.down = [
            DBlock(channels, factor, self.down_dilations, **options)
            for channels, factor in zip(self.down_channels, self.factors[:0:-1], strict=True)
        ]
        self.film = [WaveFiLM(channels, self.encode_noise, **options) for channels in reversed(self.channels)]
        self.up = [
            UBlock(channels, factor, self._dilations(index), **options)
            for index, (channels, factor) in enumerate(zip(self.channels, self.factors, strict=True))
        ]
        self.output = Conv1d(self.out_channels, 3, kernel_init=zero_init, **options)

    def encode(self, conditions: Conditions, present: Conditions | None = None) -> dict[str, Array]:
        """Encode raw conditions, once per sample."""
        encoded: dict[str, Array] = self.condition_encoder(conditions, present)
        return encoded

    def init_all(self, x: Array, noise_condition: Array, conditions: Conditions) -> Array:
        """Run encode and the call, so that one init makes all parameters."""
        return self(x, noise_condition, self.encode(conditions))

    def __call__(self, x: Array, noise_condition: Array, conditions: Conditions) -> Array:
        time = x.shape[1]
        h = self._start(conditions, x)
        padding = h.shape[1] * self.hop_samples - time
        signal = self.wave(jnp.pad(x, ((0, 0), (0, padding), (0, 0))))
        modulations = []
        for level, film in enumerate(self.film):
            if level:
                signal = self._apply(self.down[level - 1], signal)
            modulations.append(self._apply(film, signal, noise_condition, conditions.get("global")))
        for up in self.up:
            h = self._apply(up, h, *modulations.pop())
        y: Array = self.output(h)
        return y[:, :time].astype(jnp.float32)

    def match(self, frames: Array, length: int) -> Array:
        """Crop encoded frames [batch, frame, channel] to those that cover ``length`` samples; fewer are refused."""
        hop = self.hop_samples
        needed = -(-length // hop)
        if frames.shape[1] < needed:
            raise ValueError(
                f"{frames.shape[1]} frames of {hop} samples do not cover {length} samples: "
                f"give at least {needed} frames, or factors whose product is the hop of the frames."
            )
        return frames[:, :needed]

    def receptive_field(self) -> int:
        """Return how many samples of x one output sample hears, at most.

        Ends of intervals are followed from an output sample to the deepest modulation and up again; samples differ by
        where in a frame they lie. That path holds every other one: below a modulation are a repetition and a mean by
        the same factor, and more taps than its own.
        """
        ends = [self._heard(sample) for sample in range(self.hop_samples)]
        return max(high - low + 1 for low, high in ends)

    def _heard(self, sample: int) -> tuple[int, int]:
        """Return the first and last sample of x that an output sample hears."""
        reach = 1  # of the output convolution
        low = high = sample
        for index in reversed(range(len(self.factors))):
            first, *rest = self._dilations(index)
            reach += sum(rest)
            if index:
                reach += first
                low, high = (low - reach) // self.factors[index], (high + reach) // self.factors[index]
                reach = 0
        reach += 2  # of the modulation's two convolutions
        for factor in self.factors[1:]:
            reach += sum(self.down_dilations)
            low, high = (low - reach) * factor, (high + reach) * factor + factor - 1
            reach = 0
        reach += 2  # of the first convolution, of 5 taps
        return low - reach, high + reach

    def _dilations(self, index: int) -> tuple[int, ...]:
        """Return the dilations of the UBlock of that index."""
        return self.deep_dilations if index < self.deep_blocks else self.dilations

    def _start(self, conditions: Conditions, x: Array) -> Array:
        """Return what is upsampled, [batch, frame, frame_channels]: the frames, or a constant, that cover x."""
        if "frames" in conditions:
            started: Array = self.frames(self.match(conditions["frames"], x.shape[1]))
            return started
        count = -(-x.shape[1] // self.hop_samples)
        return jnp.broadcast_to(self.start.astype(self.dtype), (x.shape[0], count, self.frame_channels))

    def _apply(self, module: nn.Module, *arguments: Any) -> Any:
        """Call a module, so that its activations are kept, or under ``remat`` computed again."""
        return rematerialise(module, *arguments) if self.remat else module(*arguments)
