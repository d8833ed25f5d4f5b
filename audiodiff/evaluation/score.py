"""Score clips by a judge: accuracy, coverage and copies, beside the score of real and of noisy clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from audiodiff.evaluation.judge import Judge, Verdicts
from audiodiff.evaluation.report import FigureRow
from audiodiff.metrics.classification import accuracy
from audiodiff.metrics.intervals import Figure, proportion_figure
from audiodiff.metrics.neighbours import nearest_neighbour_ratio, neighbourhood

NOISE_SNR_DB = 0.0
"""The noise on the test clips that make the floor of every figure."""


@dataclass(frozen=True)
class Clips:
    """Hold clips [n, time] at one rate, with the label index of every clip by condition."""

    audio: np.ndarray
    labels: Mapping[str, np.ndarray]
    rate_hz: int


def with_noise(key: jax.Array, audio: np.ndarray, snr_db: float) -> np.ndarray:
    """Return audio [clip, time] with white noise at an SNR over the whole clip."""
    noise = np.asarray(jax.random.normal(key, audio.shape))
    rms = np.sqrt(np.mean(np.square(audio), axis=1, keepdims=True))
    return (audio + noise * rms * 10 ** (-snr_db / 20)).astype(np.float32)


def score(
    judge: Judge,
    generated: Clips,
    train: Clips,
    test: Clips,
    key: jax.Array,
    at_least: Mapping[str, float] | None = None,
) -> list[FigureRow]:
    """Return one row a figure, with noisy test clips as floor and clean ones as ceiling.

    "accuracy <head>": how often the judge takes a clip for what was asked. "rejected": how often for no such sound.
    "coverage": the share of test clips with a generated one inside their 5-NN ball among the test clips, in the judge's
    embedding (Naeem et al. 2020), for as many clips as there are generated ones; the ceiling is as many train clips'.
    "neighbour ratio": distance to train over distance to test clips (see :func:`nearest_neighbour_ratio`): 1 for clips that
    know both alike, below where train clips are copied. ``at_least`` gives the expectation by figure name.
    """
    noisy = Clips(with_noise(key, test.audio, NOISE_SNR_DB), test.labels, test.rate_hz)
    verdicts = {
        name: judge(clips.audio, clips.rate_hz)
        for name, clips in {"generated": generated, "train": train, "test": test, "noisy": noisy}.items()
    }
    expected = dict(at_least or {})
    rows = []
    for head in judge.classes:
        if head in generated.labels:
            name = f"accuracy {head}"
            figures = (
                accuracy(clips.labels[head], verdicts[which].labels(head), name)
                for which, clips in (("generated", generated), ("noisy", noisy), ("test", test))
            )
            rows.append(FigureRow(*figures, at_least=expected.get(name)))
    rejected = (_rejected(verdicts[which]) for which in ("generated", "noisy", "test"))
    rows.append(FigureRow(*rejected, at_most=expected.get("rejected")))

    count = min(len(generated.audio), len(train.audio))
    embed = {name: _standardise(verdict.embedding, verdicts["train"].embedding) for name, verdict in verdicts.items()}
    chosen = np.asarray(jax.random.choice(key, len(train.audio), (count,), replace=False))
    real = neighbourhood(embed["test"], embed["train"][chosen])
    ours, floor = (neighbourhood(embed["test"], embed[name]) for name in ("generated", "noisy"))
    rows.append(FigureRow(ours.coverage, floor.coverage, real.coverage, at_least=expected.get("coverage")))
    rows.append(FigureRow(ours.precision, floor.precision, real.precision))
    memory = nearest_neighbour_ratio(embed["generated"], embed["train"], embed["test"])
    rows.append(FigureRow(memory.ratio, None, memory.held_out_ratio))
    rows.append(FigureRow(memory.copies))
    return rows


def _rejected(verdicts: Verdicts) -> Figure:
    rejected = verdicts.rejected()
    return proportion_figure("rejected", float(rejected.sum()), len(rejected))


def _standardise(embedding: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Give every dimension of the embedding unit variance over the reference: none rules the distance by its scale."""
    return (embedding - reference.mean(0)) / np.maximum(reference.std(0), 1e-6)
