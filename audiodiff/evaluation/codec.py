"""Send audio through a trained autoencoder, and measure what is lost on the way."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import numpy as np

from audiodiff.evaluation.apart import decode, in_batches
from audiodiff.evaluation.judge import check_clips
from audiodiff.representations.latent import Latent
from audiodiff.types import Array


@jax.jit
def _encode(latent: Latent, audio: Array) -> Array:
    return latent.encode(audio)


@dataclass(frozen=True)
class Codec:
    """Hold a trained autoencoder; ``weights_hash`` names it wherever something was made in its latent."""

    latent: Latent
    rate_hz: int
    weights_hash: str
    batch_size: int = 50

    @property
    def ratio(self) -> int:
        """How many samples one position of the latent stands for."""
        return self.latent.ratio

    @property
    def numbers_a_second(self) -> float:
        """How many numbers the latent has for each second of audio, which has ``rate_hz`` a channel."""
        return self.rate_hz / self.ratio * self.latent.network.network.latent_channels

    def encode(self, audio: np.ndarray, rate_hz: int) -> np.ndarray:
        """Return standardised latents [n, position, channel] of clips [n, time] at the autoencoder's own rate.

        Raises ValueError for another rate, for no clips, and for samples that are not finite.
        """
        check_clips(audio, rate_hz, "autoencoder", self.rate_hz)
        return in_batches(functools.partial(_encode, self.latent), audio, min(self.batch_size, len(audio)))

    def decode(self, latents: np.ndarray, length_samples: int) -> np.ndarray:
        """Return clips [n, length_samples] of latents [n, position, channel]."""
        return decode(self.latent, latents, length_samples, min(self.batch_size, len(latents)))
