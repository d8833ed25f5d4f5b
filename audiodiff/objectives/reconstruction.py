"""Train an autoencoder: audio through a small latent under noise, and back, as near to itself as it will come."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from audiodiff import dsp, prng
from audiodiff.networks.autoencoder import Autoencode
from audiodiff.representations.waveform import Waveform
from audiodiff.types import Array, Context, PyTree

QUIET = 1e-8
"""Added to a clip's mean square, -80 dB: what is left of silence is not divided by nothing."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["waveform_weight", "latent_weight", "latent_noise"],
    meta_fields=["network", "distance", "preemphasis"],
)
@dataclass(frozen=True)
class ReconstructionObjective:
    """Minimise d(y, x) + w ||y - x|| / ||x|| + v max(mean z^2 - 1, 0), for clips x, z = E(x), y = D(z + noise).

    d is :func:`dsp.multi_resolution_stft_distance`, which hears level and spectrum; the second term, relative as the
    first of d is, holds the waveform, phases and all; of a ``preemphasis`` a, both are filtered by 1 - a z^-1 first,
    or the lows of speech would be all that it holds. The third keeps latents near unit scale: only what exceeds it
    costs, and nothing pulls towards zero. The noise is white, of ``latent_noise`` times the channel's own standard
    deviation: the decoder learns to bear what a diffusion model gets wrong, and no channel can hide in decimals.

    Means and standard deviations of the channels are parameters beside the network's, {"network": ..., "latent":
    {"mean", "log_std"}}. They are fitted by their likelihood, ln s + (z - m)^2 / (2 s^2) with z held fixed, whose
    optimum is the mean and standard deviation over all that was trained on. So they are averaged, saved and hashed with
    the weights, and whoever loads these needs no data to measure.

    Measurements: "distance" (d), "waveform" (the second term), "l1" (mean |y - x|), "si_sdr_db" (as
    :func:`audiodiff.metrics.signal.si_sdr`; NaN of a silent clip), "latent_std" (root mean square of (z - m) / s,
    which is 1 once the fit is), "latent_excess".
    """

    network: Autoencode
    distance: dsp.MultiResolutionSpec
    waveform_weight: float | Array = 1.0
    latent_weight: float | Array = 0.1
    latent_noise: float | Array = 0.1
    preemphasis: float = 0.0

    def init(self, key: Array, batch: Mapping[str, Array]) -> PyTree:
        """Draw the autoencoder's parameters; the latent is standard normal until it is measured."""
        channels = self.network.network.latent_channels
        return {
            "network": self.network.init(prng.stream(key, "network"), self._audio(jnp.asarray(batch["audio"]))),
            "latent": {"mean": jnp.zeros(channels), "log_std": jnp.zeros(channels)},
        }

    def __call__(self, params: PyTree, context: Context, batch: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Return the loss [batch] and its measurements, each [batch]."""
        audio = self._audio(batch["audio"])
        mean, log_std = params["latent"]["mean"], params["latent"]["log_std"]
        latent = self.network.encode(params["network"], audio)
        standard = (jax.lax.stop_gradient(latent) - mean) / jnp.exp(log_std)
        fit = jnp.mean(log_std + jnp.square(standard) / 2, axis=(1, 2))

        keys = prng.per_example(prng.stream(context.key, "latent"), batch["draw"])
        spread = self.latent_noise * jax.lax.stop_gradient(jnp.exp(log_std))
        heard = latent + spread * prng.normal_like(keys, latent)
        estimate = self.network.decode(params["network"], heard, audio.shape[1])

        ours, theirs = (jnp.moveaxis(x, 2, 1) for x in (estimate, audio))
        distance = jnp.mean(dsp.multi_resolution_stft_distance(ours, theirs, self.distance), axis=1)
        error, signal = (self._power(x) for x in (ours - theirs, theirs))
        waveform = jnp.sqrt((error + QUIET) / (signal + QUIET))
        excess = jnp.maximum(jnp.mean(jnp.square(latent), axis=(1, 2)) - 1.0, 0.0)
        loss = distance + self.waveform_weight * waveform + self.latent_weight * excess + fit
        return loss, {
            "distance": distance,
            "waveform": waveform,
            "l1": jnp.mean(jnp.abs(ours - theirs), axis=(1, 2)),
            "si_sdr_db": jnp.mean(si_sdr_db(ours, theirs), axis=1),
            "latent_std": jnp.sqrt(jnp.mean(jnp.square(standard), axis=(1, 2))),
            "latent_excess": excess,
        }

    def _power(self, audio: Array) -> Array:
        """Return the mean square [batch] of pre-emphasised audio [batch, channel, time]."""
        levelled = dsp.preemphasis(audio, self.preemphasis) if self.preemphasis else audio
        return jnp.mean(jnp.square(levelled), axis=(1, 2))

    def _audio(self, audio: Array) -> Array:
        """Return audio [batch, time] or [batch, time, channel] with its channel axis; refuse another number of them."""
        return Waveform(channels=self.network.network.audio_channels).encode(audio)


def si_sdr_db(estimate: Array, target: Array) -> Array:
    """Return the SI-SDR in dB of audio [..., time], without means, NaN of a silent target: measured, not minimised.

    It is :func:`audiodiff.metrics.signal.si_sdr` in float32 and under jit.
    """
    x, s = (jax.lax.stop_gradient(a - jnp.mean(a, axis=-1, keepdims=True)) for a in (estimate, target))
    energy = jnp.sum(jnp.square(s), axis=-1, keepdims=True)
    scaled = jnp.sum(x * s, axis=-1, keepdims=True) / jnp.where(energy > 0, energy, jnp.nan) * s
    return 10 * jnp.log10(jnp.sum(jnp.square(scaled), axis=-1) / jnp.sum(jnp.square(scaled - x), axis=-1))
