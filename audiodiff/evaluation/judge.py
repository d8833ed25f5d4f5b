"""Judge audio by a trained classifier: which label each clip would be taken for, and an embedding to measure distances in."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff.networks.functional import Classify
from audiodiff.objectives.classification import REJECT, ClassificationObjective, JudgeFeatures
from audiodiff.types import Array, PyTree


@functools.partial(jax.jit, static_argnames="network")
def _classify(
    network: Classify, features: JudgeFeatures, params: PyTree, audio: Array
) -> tuple[dict[str, Array], Array]:
    logits, embedding = network(params["network"], features(audio))
    return {name: jax.nn.softmax(values) for name, values in logits.items()}, embedding


@dataclass(frozen=True)
class Verdicts:
    """Hold what a judge says of n clips: probabilities [n, class] by head, and embeddings [n, dim]."""

    classes: Mapping[str, tuple[str, ...]]
    probabilities: Mapping[str, np.ndarray]
    embedding: np.ndarray

    def labels(self, head: str) -> np.ndarray:
        """Return the most probable class index of each clip, the last one meaning "rejected"."""
        return np.argmax(self.probabilities[head], axis=1)

    def rejected(self) -> np.ndarray:
        """Return which clips some head rejects, bool [n]."""
        return np.any([self.labels(name) == classes.index(REJECT) for name, classes in self.classes.items()], axis=0)


@dataclass(frozen=True)
class Judge:
    """Hold a trained classifier; ``weights_hash`` goes with every figure it gives."""

    objective: ClassificationObjective
    params: PyTree
    classes: Mapping[str, tuple[str, ...]]
    rate_hz: int
    weights_hash: str
    batch_size: int = 50

    def __call__(self, audio: np.ndarray, rate_hz: int) -> Verdicts:
        """Judge clips [n, time] at the judge's own rate; raise ValueError for another rate, or for no clips at all."""
        if rate_hz != self.rate_hz:
            raise ValueError(
                f"the clips have {rate_hz} Hz and the judge listens at {self.rate_hz} Hz: resample them first"
            )
        if audio.ndim != 2 or not len(audio):
            raise ValueError(f"the clips have shape {audio.shape}: give at least one, as [clip, time]")
        if not np.all(np.isfinite(audio)):
            raise ValueError("the clips hold NaN or infinite samples: no verdict on them would mean anything")
        parts = []
        for begin in range(0, len(audio), self.batch_size):
            part = audio[begin : begin + self.batch_size]
            # A last part of another size would compile the classifier once more.
            padded = np.concatenate([part, np.zeros((self.batch_size - len(part), audio.shape[1]), audio.dtype)])
            objective = self.objective
            probabilities, embedding = _classify(
                objective.network, objective.features, self.params, jnp.asarray(padded, jnp.float32)
            )
            parts.append(
                (
                    {name: np.asarray(p)[: len(part)] for name, p in probabilities.items()},
                    np.asarray(embedding)[: len(part)],
                )
            )
        return Verdicts(
            self.classes,
            {name: np.concatenate([p[name] for p, _ in parts]) for name in self.classes},
            np.concatenate([e for _, e in parts]),
        )
