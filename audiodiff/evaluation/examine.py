"""Examine a judge before it judges: is it right on real clips, is it as sure as it is right, what does it refuse?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff import prng
from audiodiff.evaluation.judge import Verdicts
from audiodiff.evaluation.score import Clips
from audiodiff.metrics.classification import accuracy, confusion_matrix, expected_calibration_error
from audiodiff.metrics.intervals import Figure, proportion_figure
from audiodiff.objectives.classification import random_phase
from audiodiff.types import Array

SILENCE_DBFS = -150.0


@dataclass(frozen=True)
class Examination:
    """Hold the figures of a judge, and by head how many clips of each class it took for which [class, taken for]."""

    figures: tuple[Figure, ...]
    confusion: Mapping[str, np.ndarray]


def examine(judge: Callable[[np.ndarray, int], Verdicts], clips: Clips, key: Array) -> Examination:
    """Measure how often a judge is right on clips as they are, whether it knows, and what it rejects.

    The figures, in this order: "accuracy <head>" and "calibration error <head>", head by head; "rejects clips"; then
    "rejects <what>" for noise as loud as each clip, silence (the same at SILENCE_DBFS), and the clips with random
    phases. A clip is rejected where any head rejects it.

    REJECT is a class like the others: its probability is part of every head's, and a real clip that is rejected counts
    as a mistake, made with that confidence.
    """
    verdicts = judge(clips.audio, clips.rate_hz)
    figures, confusion = [], {}
    for head, classes in verdicts.classes.items():
        labels, taken = clips.labels[head], verdicts.labels(head)
        calibration = expected_calibration_error(
            verdicts.probabilities[head], labels, prng.stream(key, f"calibration {head}")
        )
        figures += [
            accuracy(labels, taken, f"accuracy {head}"),
            dataclasses.replace(calibration, name=f"calibration error {head}"),
        ]
        confusion[head] = confusion_matrix(labels, taken, len(classes))
    noise = np.asarray(jax.random.normal(prng.stream(key, "noise"), clips.audio.shape), np.float32)
    rms = np.sqrt(np.mean(np.square(clips.audio), axis=1, keepdims=True))
    keys = jax.random.split(prng.stream(key, "phase"), len(clips.audio))
    refused = {"clips": verdicts.rejected()} | {
        name: judge(audio, clips.rate_hz).rejected()
        for name, audio in {
            "noise": noise * rms,
            "silence": noise * 10 ** (SILENCE_DBFS / 20),
            "random phases": np.asarray(jax.vmap(random_phase)(keys, jnp.asarray(clips.audio))),
        }.items()
    }
    figures += [proportion_figure(f"rejects {name}", int(some.sum()), len(some)) for name, some in refused.items()]
    return Examination(tuple(figures), confusion)
