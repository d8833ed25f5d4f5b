"""Diffuse the latent of a trained autoencoder, which is frozen: fewer positions than samples, a learned way back."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from audiodiff.dsp.precision import at_least_float32
from audiodiff.networks.autoencoder import Autoencode
from audiodiff.representations.waveform import Waveform
from audiodiff.types import Array, PyTree


@functools.partial(jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=["network"])
@dataclass(frozen=True)
class Latent:
    """Represent audio by standardised latents (E(audio) - mean) / std, [batch, position, channel].

    ``params`` are those of :class:`~audiodiff.objectives.reconstruction.ReconstructionObjective`: the autoencoder's
    weights under "network", and under "latent" the mean and log standard deviation of each channel over the clips that
    it was trained on, so that no channel diffuses unheard behind a louder one. They are leaves, as a vocoder's are: in
    no optimiser's tree, and other weights compile nothing.

    There are latent_channels / ratio numbers a sample. What decode(encode(audio)) gives is the ceiling of every model
    here (:func:`audiodiff.evaluation.resynthesis.resynthesis`).
    """

    network: Autoencode
    params: PyTree

    @property
    def ratio(self) -> int:
        """How many samples one position stands for."""
        return self.network.ratio

    @property
    def channels(self) -> int:
        """The channels of the audio."""
        return self.network.network.audio_channels

    def shape(self, batch: int, length_samples: int) -> tuple[int, ...]:
        """Return the shape of the array that diffuses, for clips of that length."""
        return batch, -(-length_samples // self.ratio), self.network.network.latent_channels

    def dimension_ratio(self, length_samples: int) -> float:
        """Return how many numbers diffuse for each sample of each channel of a clip; the waveform's own ratio is 1."""
        return math.prod(self.shape(1, length_samples)) / (length_samples * self.channels)

    def encode(self, audio: Array, key: Array | None = None) -> Array:
        """Return x [batch, position, channel], float32; raise ValueError for other axes or channels."""
        latent = self.network.encode(self.params["network"], Waveform(channels=self.channels).encode(audio))
        return (latent - self.params["latent"]["mean"]) / jnp.exp(self.params["latent"]["log_std"])

    def decode(self, x: Array, key: Array | None, length_samples: int) -> Array:
        """Return audio [batch, length_samples], with a channel axis where there are several channels.

        Raises ValueError where x is not of this representation, or of fewer positions than that needs.
        """
        x, (_, positions, channels) = at_least_float32(x), self.shape(1, length_samples)
        if x.ndim != 3 or x.shape[2] != channels or x.shape[1] < positions:
            raise ValueError(
                f"x has the shape {x.shape}, and length_samples {length_samples} needs [batch, {positions} or more, "
                f"{channels}]: give x of this representation, or ask for fewer samples"
            )
        # A longer x is not cropped before it is decoded: its last positions would be heard as padding.
        latent = x * jnp.exp(self.params["latent"]["log_std"]) + self.params["latent"]["mean"]
        audio = self.network.decode(self.params["network"], latent, length_samples)
        return audio[..., 0] if self.channels == 1 else audio
