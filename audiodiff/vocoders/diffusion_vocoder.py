"""Sample a waveform from a log-mel: a diffusion model, its prior and a short grid, as an inverter of mels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from audiodiff import dsp
from audiodiff.diffusion.denoiser import ModelDenoiser
from audiodiff.diffusion.noise import initial_noise
from audiodiff.diffusion.priors import Prior
from audiodiff.types import Array, Level, Representation
from audiodiff.vocoders.mel_frames import MEL, MatchMel, MelFrames


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["denoise", "representation", "prior", "grid"],
    meta_fields=["frames", "sampler", "finish"],
)
@dataclass(frozen=True)
class DiffusionVocoder:
    """Invert log-mels [..., frame, band] by sampling audio that has them (DiffWave, WaveGrad, PriorGrad, SpecGrad).

    ``denoise`` holds the network with its weights; ``grid`` the n + 1 levels, ``sampler`` what walks them, ``finish``
    what brings the sound nearer to its mel afterwards. It is a pytree and a differentiable function of the log-mel:
    gradients of a loss of the audio pass through every step. Without a key the first noise is drawn from a fixed one,
    so that the same mel gives the same sound.
    """

    denoise: ModelDenoiser
    representation: Representation
    prior: Prior
    grid: Level
    frames: MelFrames
    sampler: Callable[..., Any]
    finish: MatchMel

    def __call__(self, log_mel: Array, key: Array | None, length_samples: int) -> Array:
        """Return audio [..., length_samples] of a log-mel [..., frame, band] in the vocoder's own convention.

        NaN stays NaN. Raises ValueError for other bands, no frames, or fewer than length_samples need.
        """
        batch = log_mel.shape[:-2]
        frames = self.frames.fit(log_mel.reshape(-1, *log_mel.shape[-2:]), length_samples)
        keys = jax.random.split(jax.random.key(0) if key is None else key, len(frames))
        # Whole hops, that frames stand where they stood in training; what is more is cut off.
        audio = self.sample(keys, frames, frames.shape[1] * self.frames.hop_samples)
        return audio[:, :length_samples].reshape(*batch, length_samples)

    def sample(self, keys: Array, frames: Array, length_samples: int) -> Array:
        """Return audio [batch, length_samples] for keys [batch] and frames [batch, frame, band]."""
        network: Any = self.denoise.apply
        raw = {MEL: frames}
        encoded = network.encode(self.denoise.params, raw)
        start, path = jax.vmap(jax.random.split, out_axes=1)(keys)
        first = Level(self.grid.alpha[0], self.grid.sigma[0])
        shape = self.representation.shape(len(frames), length_samples)
        x = initial_noise(start, shape, first, sigma_data=self.denoise.sigma_data)
        z = self.sampler(self.denoise, x, self.grid, encoded, path)
        return self.finish(self.representation.decode(self.prior.colour(z, raw), None, length_samples), raw)


def check_same_mel(ours: dsp.MelSpec, vocoder: dsp.MelSpec) -> None:
    """Raise ValueError where a mel is of another convention than a vocoder's, with each field that differs."""
    if differing := dsp.differing_fields(ours, vocoder):
        listed = ", ".join(f"{name} is {mine!r} and not {theirs!r}" for name, (mine, theirs) in differing.items())
        raise ValueError(f"the mel is not the one that the vocoder was trained in: {listed}; make it in the vocoder's")


def check_mel(log_mel: np.ndarray, vocoder: dsp.MelSpec) -> None:
    """Raise ValueError where a log-mel cannot be a vocoder's input: of other bands, empty, or not finite."""
    shape = np.shape(log_mel)
    if len(shape) < 2 or 0 in shape or shape[-1] != vocoder.bands:
        raise ValueError(f"the log-mel has the shape {shape}: give [..., frame, {vocoder.bands}], one frame or more")
    finite = np.isfinite(np.asarray(log_mel)).all(axis=-1)
    if not finite.all():
        raise ValueError(f"{(~finite).sum()} frames of the log-mel hold NaN or infinite values: mend what made them")
