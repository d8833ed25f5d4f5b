"""Share what the spectral representations do alike: axes and channels, and the power law of their coefficients."""

from __future__ import annotations

import math

import jax.numpy as jnp

from audiodiff import dsp
from audiodiff.dsp.precision import as_audio, at_least_float32
from audiodiff.types import Array


def power_law(x: Array, exponent: float) -> Array:
    """Return x |x|^(exponent - 1), real or complex: the magnitude to a power, sign or phase kept.

    Exponents p and 1 / p undo each other. 0 gives 0, with gradient 0, where |x|^2 underflows too (below 1e-19 in
    float32); NaN stays NaN.
    """
    if exponent == 1:
        return x
    squared = dsp.power(x)
    zero = squared == 0
    return jnp.where(zero, 0.0, x * jnp.where(zero, 1.0, squared) ** ((exponent - 1) / 2))


def check_exponent(exponent: float) -> None:
    """Raise ValueError unless 0 < exponent <= 1: nothing else both compresses and can be undone."""
    if not 0 < exponent <= 1:
        raise ValueError(f"exponent is {exponent}; it must be above 0 and at most 1, such as 0.5, or 1 for none")


class Spectral:
    """Share the axes: ``dsp`` has [batch, plane, frame, bin], models [batch, frame, bin, plane].

    A plane is an audio channel, or the real or imaginary part of one.
    """

    channels: int

    def shape(self, batch: int, length_samples: int) -> tuple[int, ...]:
        """Return the shape [batch, frame, bin, plane] of the array that diffuses, for clips of that length."""
        raise NotImplementedError

    def dimension_ratio(self, length_samples: int) -> float:
        """Return how many numbers diffuse for each sample of each channel of a clip; the waveform's own ratio is 1."""
        return math.prod(self.shape(1, length_samples)) / (length_samples * self.channels)

    def _channels_first(self, audio: Array) -> Array:
        """Return audio [batch, time] or [batch, time, channel] as [batch, channel, time], float32 or wider."""
        x = jnp.asarray(audio)
        if x.ndim not in (2, 3):
            raise ValueError(f"the audio has the shape {x.shape}: give [batch, time] or [batch, time, channel]")
        x = x[..., None] if x.ndim == 2 else x
        if x.shape[-1] != self.channels:
            raise ValueError(f"the audio has {x.shape[-1]} channels, the model {self.channels}: mix or configure it so")
        return as_audio(jnp.swapaxes(x, 1, 2))

    def _channels_last(self, audio: Array) -> Array:
        """Return audio [batch, channel, time] as [batch, time], or [batch, time, channel] of several channels."""
        return audio[:, 0] if self.channels == 1 else jnp.swapaxes(audio, 1, 2)

    def _planes(self, x: Array, length_samples: int) -> Array:
        """Return x [batch, frame, bin, plane] as [batch, plane, frame, bin], its frames those of length_samples."""
        x, expected = at_least_float32(x), self.shape(1, length_samples)[1:]
        if x.ndim != 4 or x.shape[2:] != expected[1:] or x.shape[1] < expected[0]:
            raise ValueError(
                f"x has the shape {x.shape}, and length_samples {length_samples} needs [batch, {expected[0]} or more, "
                f"{expected[1]}, {expected[2]}]: give x of this representation, or ask for fewer samples"
            )
        return jnp.moveaxis(x[:, : expected[0]], -1, 1)
