"""Build the waveform autoencoder: blocks of samples to a few numbers and back, with no word of phase thrown away.

Shapes, where the factors of the levels are f_0, f_1, ... and their product is the ratio r::

    audio [batch, time, channel]   time is padded with zeros to a multiple of r
    -> stem    [batch, time / f_0, channels[0]]      gabor_frame's atoms, at first
    -> level l [batch, time / (f_0 ... f_l), channels[l]]
    -> latent  [batch, time / r, latent_channels]
    -> the same way back -> audio [batch, time, channel], cropped

A latent has latent_channels / r numbers for each sample. What it keeps of a waveform it keeps with its phase: there
is no spectrum whose phase is recovered afterwards.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from audiodiff.networks.layers import Conv1d, Dense, zero_init
from audiodiff.networks.unet1d import from_blocks, gabor_analysis, gabor_synthesis, to_blocks
from audiodiff.types import Array, PyTree


class LinearAtFirst(nn.Module):
    """Add to x [batch, time, channel] SiLU, conv, SiLU, dilated conv; the last begins at zero, the block as identity.

    Without the normalisation of a denoiser's blocks: what is normalised has lost its level, and a codec must give
    that back. SiLU leaves what is quiet nearly as it is, so that quiet sound is not drowned either.
    """

    dilation: int = 1
    kernel_size: int = 3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        features, options = x.shape[-1], {"dtype": self.dtype}
        h = Conv1d(features, self.kernel_size, name="conv_in", **options)(jax.nn.silu(x))
        options |= {"dilation": self.dilation, "kernel_init": zero_init}
        return x + Conv1d(features, self.kernel_size, name="conv_out", **options)(jax.nn.silu(h))


class Autoencoder(nn.Module):
    """Encode audio [batch, time, channel] as [batch, ceil(time / ratio), latent_channels], and decode that.

    ``factors[l]`` divides time on the way to level l, ``factors[0]`` in the stem; ``channels`` and the numbers of
    blocks have one entry a level too, and blocks take their dilations in turn. ``overlap`` is how many blocks of a
    factor each resampling kernel spans. ``scale`` is the standard deviation of the audio: the network sees about one,
    and gives it back. The encoder is called in every training step of a model in its latent, the decoder once a
    sample: it may be the larger.

    Stem and head begin as the analysis and synthesis of :func:`gabor_frame`, residual branches at zero: the codec
    begins as a linear one over short-time spectra, and the path without branches stays linear.

    Raises:
      ValueError: for levels that disagree or cannot be, and an even overlap.
    """

    factors: tuple[int, ...] = (32, 2)
    channels: tuple[int, ...] = (128, 128)
    encoder_blocks: tuple[int, ...] = (0, 1)
    decoder_blocks: tuple[int, ...] = (1, 2)
    latent_channels: int = 32
    audio_channels: int = 1
    dilations: tuple[int, ...] = (1, 2, 4)
    overlap: int = 3
    scale: float = 1.0
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = ("encoder_blocks", "decoder_blocks")
        levels = {name: len(getattr(self, name)) for name in ("factors", "channels", *parts)}
        if len(set(levels.values())) != 1:
            raise ValueError(f"the levels of an Autoencoder disagree: {levels}; give each tuple one entry a level")
        for name, least in (("factors", 1), ("channels", 1), ("dilations", 1), *((part, 0) for part in parts)):
            if not (values := getattr(self, name)) or min(values) < least:
                raise ValueError(f"{name} is {values}: give at least one number, each at least {least}")
        if self.overlap < 1 or self.overlap % 2 == 0:
            raise ValueError(f"overlap is {self.overlap}: a centred kernel spans an odd number of blocks, 1, 3, 5 ...")
        for name in ("latent_channels", "audio_channels", "scale"):
            if not (value := getattr(self, name)) > 0:
                raise ValueError(f"{name} is {value}: it must be above 0")

    @property
    def ratio(self) -> int:
        """How many samples one position of the latent stands for."""
        return math.prod(self.factors)

    def setup(self) -> None:
        hop = self.factors[0]
        analysis, synthesis = (make(hop, self.audio_channels) for make in (gabor_analysis, gabor_synthesis))

        def conv(features: int, **options: Any) -> Conv1d:
            return Conv1d(features, self.overlap, dtype=self.dtype, **options)

        def blocks(count: int) -> list[LinearAtFirst]:
            dilations = itertools.islice(itertools.cycle(self.dilations), count)
            return [LinearAtFirst(dilation, dtype=self.dtype) for dilation in dilations]

        def shrunk(key: Array, shape: tuple[int, int, int], dtype: Any = jnp.float32) -> Array:
            # Over its redundancy the adjoint of the frame is nearly its inverse.
            return synthesis(key, shape, dtype) * (hop * self.audio_channels / self.channels[0])

        # Names of parameters are those of these attributes: "stem", "down_0", "encoder_1_0" of level 1 ...
        self.stem = conv(self.channels[0], kernel_init=analysis)
        self.down = [conv(features) for features in self.channels[1:]]
        self.encoder = [blocks(count) for count in self.encoder_blocks]
        self.to_latent = Dense(self.latent_channels, dtype=self.dtype)
        self.from_latent = Dense(self.channels[-1], dtype=self.dtype)
        self.decoder = [blocks(count) for count in self.decoder_blocks]
        self.up = [conv(factor * features) for factor, features in zip(self.factors[1:], self.channels, strict=False)]
        self.head = conv(hop * self.audio_channels, kernel_init=shrunk, use_bias=False)

    def encode(self, audio: Array) -> Array:
        """Return the latent [batch, ceil(time / ratio), latent_channels] of audio [batch, time, channel]."""
        x = jnp.pad(audio / self.scale, ((0, 0), (0, -audio.shape[1] % self.ratio), (0, 0))).astype(self.dtype)
        h = self.stem(to_blocks(x, self.factors[0]))
        for level, blocks in enumerate(self.encoder):
            if level:
                h = self.down[level - 1](to_blocks(h, self.factors[level]))
            for block in blocks:
                h = block(h)
        return self.to_latent(h).astype(jnp.promote_types(self.dtype, jnp.float32))

    def decode(self, latent: Array) -> Array:
        """Return audio [batch, positions * ratio, channel] of a latent [batch, positions, latent_channels]."""
        h = self.from_latent(latent.astype(self.dtype))
        for level in reversed(range(len(self.factors))):
            for block in self.decoder[level]:
                h = block(h)
            if level:
                h = from_blocks(self.up[level - 1](h), self.factors[level])
        audio = from_blocks(self.head(h), self.factors[0])
        return audio.astype(jnp.promote_types(self.dtype, jnp.float32)) * self.scale

    def __call__(self, audio: Array) -> Array:
        """Return audio that went through the latent, of the same shape."""
        return self.decode(self.encode(audio))[:, : audio.shape[1]]


@dataclass(frozen=True)
class Autoencode:
    """Hold an autoencoder, hyper-parameters only (so hashable, static under jit), and call it with parameters."""

    network: Autoencoder

    @property
    def ratio(self) -> int:
        """How many samples one position of the latent stands for."""
        return self.network.ratio

    def init(self, key: Array, audio: Array) -> PyTree:
        """Draw parameters for audio shaped like [batch, time, channel]."""
        return self.network.init({"params": key}, audio)["params"]

    def encode(self, params: PyTree, audio: Array) -> Array:
        """Return the latent [batch, ceil(time / ratio), latent_channels] of audio [batch, time, channel]."""
        latent: Any = self.network.apply({"params": params}, audio, method="encode")
        return latent

    def decode(self, params: PyTree, latent: Array, length_samples: int) -> Array:
        """Return audio [batch, length_samples, channel] of a latent with as many positions as that needs, or more."""
        audio: Any = self.network.apply({"params": params}, latent, method="decode")
        return audio[:, :length_samples]
