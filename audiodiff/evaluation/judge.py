"""Judge audio by a trained classifier: what each clip would be taken for, and an embedding to measure distances in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
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
        """Judge clips [n, time] at the judge's own rate, ``batch_size`` at once.

        Raises ValueError for another rate, for no clips or samples, and for what is not finite, heard or said.
        """
        check_clips(audio, rate_hz, "judge", self.rate_hz)
        classify = functools.partial(_classify, self.objective.network, self.objective.features, self.params)
        probabilities, embedding = in_batches(classify, audio, self.batch_size)
        return Verdicts(self.classes, probabilities, embedding)


def check_clips(audio: np.ndarray, rate_hz: int, listener: str, own_rate_hz: int) -> None:
    """Raise ValueError where clips [n, time] are at another rate than the listener's, are empty, or are not finite."""
    if rate_hz != own_rate_hz:
        raise ValueError(
            f"the clips have {rate_hz} Hz and the {listener} listens at {own_rate_hz} Hz: resample them first"
        )
    if audio.ndim != 2 or 0 in audio.shape:
        raise ValueError(f"the clips have shape {audio.shape}: give at least one, as [clip, time]")
    if len(bad := np.flatnonzero(~np.isfinite(audio).all(axis=1))):
        raise ValueError(
            f"{len(bad)} of {len(audio)} clips hold NaN or infinite samples, the first is clip {bad[0]}: "
            "leave them out, counted"
        )


def in_batches(hear: Callable[[Array], PyTree], audio: np.ndarray, batch_size: int) -> PyTree:
    """Return what ``hear`` makes of clips [n, time], arrays [n, ...], from ``batch_size`` clips at once.

    Raises ValueError where that is not finite: the most probable class of NaN is the first.
    """
    # The last part is filled up with silence: another size would compile the network once more.
    filled = np.pad(audio.astype(np.float32), ((0, -len(audio) % batch_size), (0, 0)))
    parts = [hear(jnp.asarray(part)) for part in np.split(filled, len(filled) // batch_size)]
    heard = jax.tree.map(lambda *found: np.concatenate(found)[: len(audio)], *parts)
    for values in jax.tree.leaves(heard):
        if len(bad := np.flatnonzero(~np.isfinite(values).reshape(len(audio), -1).all(axis=1))):
            raise ValueError(
                f"the network makes NaN or infinity of {len(bad)} of {len(audio)} clips, the first is clip {bad[0]}: "
                "look for damaged weights, and for samples far beyond 1"
            )
    return heard
