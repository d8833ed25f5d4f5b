"""Draw a vocoder's noise as loud as its mel says the sound will be: PriorGrad's prior, and SpecGrad's."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff import dsp
from audiodiff.dsp.precision import FULL
from audiodiff.networks.conditions import resample_frames
from audiodiff.types import Array, Conditions
from audiodiff.vocoders.mel_frames import MEL


def power_density(log_mel: Array, spec: dsp.MelSpec) -> Array:
    """Return the power of each sample that the mel tells, [batch, frame, bin]: white noise of variance v gives v.

    The periodogram |X_k|^2 / sum w^2 of the mel's envelope (:func:`audiodiff.dsp.mel_envelope`).
    """
    w = np.square(dsp.window(spec.stft.window, spec.stft.window_samples)).sum()
    scale = {
        "none": w,
        "window_norm": 1.0,
        "window_sum": w / dsp.window(spec.stft.window, spec.stft.window_samples).sum() ** 2,
        "sqrt_fft": w / spec.stft.fft_samples,
    }[spec.stft.scaling]
    return jnp.square(dsp.mel_envelope(log_mel, spec)) / scale


@functools.partial(jax.tree_util.register_dataclass, data_fields=["floor"], meta_fields=["mel"])
@dataclass(frozen=True)
class FrameEnergy:
    """Let the noise follow the loudness: Sigma = diag(std^2), std the RMS at each sample (PriorGrad, section 4.1).

    std is the root of the mean over frequency of :func:`power_density`, linear between frames, and at least ``floor``
    (full scale is 1): where the mel is silent there is noise to take away all the same. The paper's std is the same
    energy over its largest in the data, floored at 0.1; what multiplies it everywhere is measured into sigma_data.
    """

    mel: dsp.MelSpec
    floor: float | Array = 0.01

    def std(self, log_mel: Array, length_samples: int) -> Array:
        """Return the standard deviation [batch, time] of the noise, of a log-mel [batch, frame, band]."""
        rms = jnp.sqrt(jnp.maximum(power_density(log_mel, self.mel).mean(axis=-1, keepdims=True), 1e-16))
        hop = self.mel.stft.hop_samples
        spread = resample_frames(jnp.maximum(rms, self.floor), rms.shape[1] * hop)
        return spread[:, :length_samples, 0]

    def whiten(self, x: Array, conditions: Conditions) -> Array:
        """Return z = x / std for x [batch, time, channel]."""
        return x / self._std(x, conditions)

    def colour(self, z: Array, conditions: Conditions) -> Array:
        """Return x = std z."""
        return z * self._std(z, conditions)

    def _std(self, x: Array, conditions: Conditions) -> Array:
        return self.std(conditions[MEL], x.shape[1])[..., None].astype(x.dtype)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["floor"], meta_fields=["mel"])
@dataclass(frozen=True)
class SpectralEnvelope:
    """Let the noise follow the spectrum: Sigma = C^T diag(g^2) C, C an orthonormal MDCT on a circle, g from the mel.

    SpecGrad filters its noise in an STFT by M, L = G^+ M G. That L has no exact inverse of its form, and whitening by
    G^+ M^-1 G changes what is learnt; with a square orthonormal transform L = C^T g C is inverted by 1/g, and Sigma is
    what it says it is. One MDCT frame a hop, of two hops; the gain of a coefficient is the root of the mean of
    :func:`power_density` of the two mel frames under it, at least ``floor``. On a circle, because a transform of an
    open clip has a hop more coefficients than samples and none of its filters is exactly undone.

    Raises ValueError in use for a time that is no multiple of the hop.
    """

    mel: dsp.MelSpec
    floor: float | Array = 0.003

    @property
    def mdct(self) -> dsp.MdctSpec:
        """The transform in which the noise is coloured."""
        return dsp.MdctSpec(2 * self.mel.stft.hop_samples, "sine")

    def gains(self, log_mel: Array) -> Array:
        """Return the standard deviation [batch, frame, bin] of the MDCT coefficients of the noise."""
        density = power_density(log_mel, self.mel)
        both = (density + jnp.roll(density, -1, axis=1)) / 2
        bins = np.arange(self.mel.stft.bins) / (self.mel.stft.bins - 1)
        wanted = (np.arange(self.mdct.bins) + 0.5) / self.mdct.bins
        nearest = np.maximum(0, 1 - np.abs(wanted - bins[:, None]) * (self.mel.stft.bins - 1))
        at_bins = jnp.matmul(both, nearest.astype(both.dtype), precision=FULL)
        return jnp.maximum(jnp.sqrt(jnp.maximum(at_bins, 1e-16)), self.floor)

    def whiten(self, x: Array, conditions: Conditions) -> Array:
        """Return z = C^T (C x / g) for x [batch, time, channel]."""
        return self._filter(x, 1 / self.gains(conditions[MEL]))

    def colour(self, z: Array, conditions: Conditions) -> Array:
        """Return x = C^T (g C z)."""
        return self._filter(z, self.gains(conditions[MEL]))

    def _filter(self, x: Array, gains: Array) -> Array:
        coefficients = dsp.circular_mdct(jnp.swapaxes(x, 1, 2), self.mdct)
        if coefficients.shape[-2] != gains.shape[1]:
            raise ValueError(
                f"{gains.shape[1]} mel frames stand over {gains.shape[1] * self.mdct.bins} samples and x has "
                f"{x.shape[1]}: give a frame for each hop"
            )
        return jnp.swapaxes(dsp.circular_imdct(coefficients * gains[:, None].astype(x.dtype), self.mdct), 1, 2)
