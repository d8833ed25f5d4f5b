"""Diffuse the waveform itself, as it is or with its spectrum levelled by an exactly invertible filter."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from audiodiff import dsp
from audiodiff.dsp.precision import at_least_float32
from audiodiff.types import Array


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=[], meta_fields=["preemphasis", "equaliser_db", "channels"]
)
@dataclass(frozen=True)
class Waveform:
    """Represent audio [batch, time] (or [batch, time, channel]) by samples [batch, time, channel].

    White noise hides the weakest bands first, and in speech those are the high ones that tell consonants apart.
    ``preemphasis`` a filters by 1 - a z^-1 before diffusion and by the inverse after, which also takes the hiss off
    what is left of the noise; 0 leaves the samples alone. ``equaliser_db`` does the same with measured gains, evenly
    spaced from 0 to half the rate (see :func:`audiodiff.dsp.equalise`); where both are given it comes first.
    """

    preemphasis: float = 0.0
    equaliser_db: tuple[float, ...] = ()
    channels: int = 1

    def shape(self, batch: int, length_samples: int) -> tuple[int, ...]:
        """Return the shape of the array that diffuses, for clips of that length."""
        return batch, length_samples, self.channels

    def encode(self, audio: Array, key: Array | None = None) -> Array:
        """Return x [batch, time, channel], float32 or wider; raise ValueError for other axes or channels."""
        x = at_least_float32(audio)
        if x.ndim not in (2, 3):
            raise ValueError(f"the audio has the shape {x.shape}: give [batch, time] or [batch, time, channel]")
        x = x[..., None] if x.ndim == 2 else x
        if x.shape[-1] != self.channels:
            raise ValueError(f"the audio has {x.shape[-1]} channels, the model {self.channels}: mix or configure it so")
        x = jnp.swapaxes(x, 1, 2)
        if self.equaliser_db:
            x = dsp.equalise(x, self.equaliser_db)
        if self.preemphasis:
            x = dsp.preemphasis(x, self.preemphasis)
        return jnp.swapaxes(x, 1, 2)

    def decode(self, x: Array, key: Array | None, length_samples: int) -> Array:
        """Return audio [batch, length_samples], with a channel axis where there are several channels.

        Raises ValueError where x is shorter than that.
        """
        if x.shape[1] < length_samples:
            raise ValueError(f"x has {x.shape[1]} samples and {length_samples} were asked: make a longer x")
        audio = jnp.swapaxes(x, 1, 2)
        if self.preemphasis:
            audio = dsp.deemphasis(audio, self.preemphasis)
        if self.equaliser_db:
            audio = dsp.equalise(audio, tuple(-gain for gain in self.equaliser_db))
        audio = jnp.swapaxes(audio, 1, 2)[:, :length_samples]
        return audio[..., 0] if self.channels == 1 else audio
