"""Let a judge hear log-mels themselves: what a generator of log-mels gets wrong, before anything inverts them."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff import dsp
from audiodiff.evaluation.judge import Judge
from audiodiff.objectives.classification import JudgeFeatures
from audiodiff.types import Array
from audiodiff.vocoders.priors import power_density

AT_FLOOR = 1.05
"""A mel value up to so many times the floor is silence, which no gain raises."""


@functools.partial(jax.tree_util.register_dataclass, data_fields=["features"], meta_fields=[])
@dataclass(frozen=True)
class MelFeatures:
    """Turn log-mels [batch, frame * band] into what the judge's ``features`` make of the sound, [batch, frame, band].

    Those bring a clip to one level first; its power is read off the mel (:func:`power_density`), and a gain moves what
    lies above the floor.
    """

    features: JudgeFeatures

    def __call__(self, flat: Array) -> Array:
        spec = self.features.mel
        log_mel = flat.reshape(len(flat), -1, spec.bands)
        power = jnp.mean(power_density(log_mel, spec), axis=(1, 2))
        gain = 10 ** (self.features.level_dbfs / 20) * jax.lax.rsqrt(jnp.maximum(power, 1e-10))
        mel = dsp.expand(log_mel, spec)
        mel = jnp.where(mel <= AT_FLOOR * spec.floor, 0.0, mel) * gain[:, None, None] ** 2
        return (dsp.compress(mel, spec) - self.features.mean) / self.features.std


def hear_mels(judge: Judge, mel: dsp.MelSpec) -> Judge:
    """Return the judge to be given log-mels [clip, frame * band] in ``mel`` in audio's place.

    Raises ValueError where the judge listens in another mel, and for one of magnitudes: level is read off powers, whose
    means add up to it, and those of magnitudes do not.
    """
    if mel.power != 2:
        raise ValueError(f"the mel has power {mel.power}, and no level can be read off it: take one of power 2")
    features = judge.objective.features
    if differing := dsp.differing_fields(mel, features.mel):
        listed = ", ".join(f"{name} is {ours!r} and not {theirs!r}" for name, (ours, theirs) in differing.items())
        raise ValueError(f"the judge does not hear in this mel: {listed}; train a judge in it")
    ears: Any = MelFeatures(features)  # which take the place of the judge's own
    return dataclasses.replace(judge, objective=dataclasses.replace(judge.objective, features=ears))


def flat_mels(audio: np.ndarray, mel: dsp.MelSpec) -> np.ndarray:
    """Return the log-mels [clip, frame * band] of clips [clip, time]."""
    return np.asarray(dsp.log_mel(audio, mel)).reshape(len(audio), -1)
