"""Diffuse the waveform itself, as it is or with its spectrum levelled by an exactly invertible filter."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from audiodiff import dsp
from audiodiff.types import Array


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=[], meta_fields=["preemphasis", "equaliser_db", "channels"]
)
@dataclass(frozen=True)
class Waveform:
    """Represent audio [batch, time] (or [batch, time, channel]) by samples [batch, time, channel].

    White noise hides the weakest bands first, and in speech those are the high ones that tell consonants apart.
    ``preemphasis`` a filters by 1 - a z^-1 before diffusion and by the inverse after, which also takes the hiss off
    what is left of the noise; 0 leaves the samples alone. ``equaliser_db`` does the same with measured gains,
    evenly spaced from 0 to half the rate (see :func:`audiodiff.dsp.equalise`).
    """

    preemphasis: float = 0.0
    equaliser_db: tuple[float, ...] = ()
    channels: int = 1

    def encode(self, audio: Array, key: Array | None = None) -> Array:
        """Return x [batch, time, channel], float32 or wider. Raises ValueError for another number of channels."""
        x = jnp.asarray(audio)
        x = x[..., None] if x.ndim == 2 else x
        if x.shape[-1] != self.channels:
            raise ValueError(f"the audio has {x.shape[-1]} channels, the model {self.channels}: mix or configure it so")
        return jnp.swapaxes(self._filter(jnp.swapaxes(x, 1, 2), 1), 1, 2)

    def decode(self, x: Array, key: Array | None, length_samples: int) -> Array:
        """Return audio [batch, length_samples], with a channel axis where there are several channels."""
        audio = jnp.swapaxes(self._filter(jnp.swapaxes(x, 1, 2), -1), 1, 2)[:, :length_samples]
        return audio[..., 0] if self.channels == 1 else audio

    def _filter(self, x: Array, direction: int) -> Array:
        """Filter [batch, channel, time], there (1) or back (-1)."""
        if self.equaliser_db and direction > 0:
            x = dsp.equalise(x, self.equaliser_db)
        if self.preemphasis:
            x = (dsp.preemphasis if direction > 0 else dsp.deemphasis)(x, self.preemphasis)
        if self.equaliser_db and direction < 0:
            x = dsp.equalise(x, tuple(-gain for gain in self.equaliser_db))
        return x
