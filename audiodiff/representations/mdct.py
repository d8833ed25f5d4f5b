"""Diffuse the modified discrete cosine transform: a real spectrum of as many numbers as there are samples."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from audiodiff import dsp
from audiodiff.representations.spectral import Spectral, check_exponent, power_law
from audiodiff.types import Array


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["mdct", "exponent", "channels"])
@dataclass(frozen=True)
class Mdct(Spectral):
    """Represent audio by sign(X) |X|^exponent, [batch, frame, bin, channel], X its MDCT.

    Nothing is redundant: any x is the MDCT of some audio, and a clip has one frame more than it has hops. The
    transform is orthonormal, so with exponent 1 (none) white noise on x is white noise on the audio.

    Raises ValueError for an exponent outside (0, 1].
    """

    mdct: dsp.MdctSpec
    exponent: float = 1.0
    channels: int = 1

    def __post_init__(self) -> None:
        check_exponent(self.exponent)

    def shape(self, batch: int, length_samples: int) -> tuple[int, ...]:
        """Return the shape of the array that diffuses, for clips of that length."""
        return batch, dsp.mdct_frame_count(length_samples, self.mdct), self.mdct.bins, self.channels

    def encode(self, audio: Array, key: Array | None = None) -> Array:
        """Return x, float32 or wider; raise ValueError for other axes or channels."""
        return jnp.moveaxis(power_law(dsp.mdct(self._channels_first(audio), self.mdct), self.exponent), 1, -1)

    def decode(self, x: Array, key: Array | None, length_samples: int) -> Array:
        """Return audio [batch, length_samples], with a channel axis where there are several channels.

        Raises ValueError where x is not of this representation, or of fewer frames than that needs.
        """
        coefficients = power_law(self._planes(x, length_samples), 1 / self.exponent)
        return self._channels_last(dsp.imdct(coefficients, self.mdct, length_samples))
