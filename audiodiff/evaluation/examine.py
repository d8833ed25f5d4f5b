"""Examine a judge before it judges: is it right on real clips, and does it reject what is no such sound?"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff import prng
from audiodiff.evaluation.judge import Verdicts
from audiodiff.evaluation.score import Clips
from audiodiff.metrics.classification import accuracy
from audiodiff.metrics.intervals import Figure, proportion_figure
from audiodiff.objectives.classification import random_phase
from audiodiff.types import Array

SILENCE_DBFS = -150.0


def examine(judge: Callable[[np.ndarray, int], Verdicts], clips: Clips, key: Array) -> list[Figure]:
    """Return how often a judge is right on clips as they are, and how often it rejects them and what is no such sound.

    In this order: accuracy by head; "rejects clips"; then "rejects <what>" for noise as loud as each clip, silence (the
    same at SILENCE_DBFS), and the clips with random phases. A head counts as rejecting where any does.
    """
    verdicts = judge(clips.audio, clips.rate_hz)
    figures = [accuracy(clips.labels[head], verdicts.labels(head), f"accuracy {head}") for head in verdicts.classes]
    noise = np.asarray(jax.random.normal(prng.stream(key, "noise"), clips.audio.shape), np.float32)
    rms = np.sqrt(np.mean(np.square(clips.audio), axis=1, keepdims=True))
    keys = jax.random.split(prng.stream(key, "phase"), len(clips.audio))
    heard = {
        "clips": clips.audio,
        "noise": noise * rms,
        "silence": noise * 10 ** (SILENCE_DBFS / 20),
        "random phases": np.asarray(jax.vmap(random_phase)(keys, jnp.asarray(clips.audio))),
    }
    for name, audio in heard.items():
        rejected = judge(audio, clips.rate_hz).rejected()
        figures.append(proportion_figure(f"rejects {name}", int(rejected.sum()), len(rejected)))
    return figures
