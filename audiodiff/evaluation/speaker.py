"""Tell speakers apart by a trained encoder: one embedding a clip, whose cosines say how alike two voices are."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import numpy as np

from audiodiff.evaluation.judge import check_clips, in_batches
from audiodiff.objectives.verification import SpeakerObjective
from audiodiff.types import Array, PyTree


@jax.jit
def _embed(objective: SpeakerObjective, params: PyTree, audio: Array) -> Array:
    return objective.embed(params, audio)


@dataclass(frozen=True)
class SpeakerEncoder:
    """Hold a trained speaker encoder; ``weights_hash`` goes with every figure it gives."""

    objective: SpeakerObjective
    params: PyTree
    rate_hz: int
    weights_hash: str
    batch_size: int = 50

    def __call__(self, audio: np.ndarray, rate_hz: int) -> np.ndarray:
        """Return embeddings [n, dim] of length one for clips [n, time] at the encoder's own rate.

        Raises ValueError for another rate, for no clips, and for samples that are not finite.
        """
        check_clips(audio, rate_hz, "speaker encoder", self.rate_hz)
        return in_batches(functools.partial(_embed, self.objective, self.params), audio, self.batch_size)
