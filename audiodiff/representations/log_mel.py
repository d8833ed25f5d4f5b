"""Diffuse the log-mel spectrogram, and go back to audio by an inverter: Griffin-Lim, or a vocoder."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from audiodiff import dsp
from audiodiff.representations.spectral import Spectral
from audiodiff.types import Array

Inverter = Callable[[Array, Array | None, int], Array]
"""(log_mel [..., frame, band], key, length_samples) -> audio [..., length_samples]. A pytree: a vocoder has weights."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=[],
    meta_fields=["mel", "iterations", "momentum", "mel_iterations"],
)
@dataclass(frozen=True)
class GriffinLim:
    """Invert log-mels without training: magnitudes by non-negative least squares, phases by (fast) Griffin-Lim.

    ``mel_iterations`` are those of :func:`~audiodiff.dsp.mel_inversion.magnitude_from_mel`, the others those of
    :func:`~audiodiff.dsp.phase_recovery.griffin_lim`. The first phase is 0, or drawn where a key is given.
    """

    mel: dsp.MelSpec
    iterations: int = 32
    momentum: float = 0.99
    mel_iterations: int = 16

    def __call__(self, log_mel: Array, key: Array | None, length_samples: int) -> Array:
        """Return audio [..., length_samples]; the gradient by log_mel [..., frame, band] is finite, NaN stays NaN."""
        magnitude = dsp.magnitude_from_mel(dsp.expand(log_mel, self.mel), self.mel, self.mel_iterations)
        return dsp.griffin_lim(
            magnitude,
            self.mel.stft,
            self.iterations,
            length_samples=length_samples,
            momentum=self.momentum,
            key=key,
        ).audio


@functools.partial(jax.tree_util.register_dataclass, data_fields=["inverter", "mean"], meta_fields=["mel", "channels"])
@dataclass(frozen=True)
class LogMel(Spectral):
    """Represent audio by its log-mel less ``mean``, [batch, frame, band, channel]; ``inverter`` goes back.

    ``mean`` is one number, measured on the training data; without it silence lies at ln 1e-5, and the mean of all
    clips would be most of what sigma_data calls signal. The standard deviation is left as it is: it *is* the
    sigma_data by which denoisers and levels are scaled.

    Both phase and what lies between the bands are lost: what decode(encode(audio)) gives is the ceiling of every
    model here, and :func:`audiodiff.evaluation.resynthesis.resynthesis` measures it.
    """

    mel: dsp.MelSpec
    inverter: Inverter
    mean: float | Array = 0.0
    channels: int = 1

    def shape(self, batch: int, length_samples: int) -> tuple[int, ...]:
        """Return the shape of the array that diffuses, for clips of that length."""
        return batch, dsp.frame_count(length_samples, self.mel.stft), self.mel.bands, self.channels

    def encode(self, audio: Array, key: Array | None = None) -> Array:
        """Return x, float32 or wider; raise ValueError for other axes or channels."""
        return jnp.moveaxis(dsp.log_mel(self._channels_first(audio), self.mel), 1, -1) - self.mean

    def decode(self, x: Array, key: Array | None, length_samples: int) -> Array:
        """Return audio [batch, length_samples], with a channel axis where there are several channels.

        Raises ValueError where x is not of this representation, or of fewer frames than that needs.
        """
        log_mel = self._planes(x, length_samples) + self.mean
        return self._channels_last(self.inverter(log_mel, key, length_samples))
