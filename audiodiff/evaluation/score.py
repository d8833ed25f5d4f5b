"""Score clips by a judge: accuracy, coverage and copies, beside the score of real and of noisy clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from audiodiff import prng
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
    """Return audio [clip, time] with white noise at an SNR over the whole clip, float32."""
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
    """Return one row a figure, with test clips under noise as floor and real clips as ceiling.

    In this order, named by ``row.figure.name``; the embedding is the judge's, standardised over the train clips::

        accuracy <head>          how often the judge takes a clip for what was asked; ceiling: test clips
        rejected                 how often some head takes a clip for no such sound; ceiling: test clips
        coverage                 share of test clips with a generated one inside their 5-NN ball among test clips
        precision                share of generated clips inside some such ball (see :func:`neighbourhood`)
        nearest-neighbour ratio  distance to train over distance to test clips: 1 for clips that know both alike, less
                                 where train clips are copied (see :func:`nearest_neighbour_ratio`)
        samples like copies      share of generated clips as near to train as 1 % of test clips are

    Coverage grows with the number of clips, so its ceiling is that of as many train clips, drawn without replacement;
    where the train set is the smaller, the generated clips are cut to its size. ``at_least`` gives expectations by
    figure name ("rejected": at most); without one coverage is expected to reach half of its ceiling, for below that it
    does not count. The key draws noise and train clips. Raises ValueError for an expectation of no figure, and what
    judge and neighbours raise.
    """
    expected, heads = dict(at_least or {}), [head for head in judge.classes if head in generated.labels]
    names = [*(f"accuracy {head}" for head in heads), "rejected", "coverage"]
    if unknown := [name for name in expected if name not in names]:
        raise ValueError(f"no figure {unknown[0]!r} can have an expectation: choose {', '.join(names)}")
    noisy = Clips(with_noise(prng.stream(key, "noise"), test.audio, NOISE_SNR_DB), test.labels, test.rate_hz)
    verdicts = {
        name: judge(clips.audio, clips.rate_hz)
        for name, clips in {"generated": generated, "train": train, "test": test, "noisy": noisy}.items()
    }
    rows = []
    for head in heads:
        name = f"accuracy {head}"
        ours, floor, real = (
            accuracy(clips.labels[head], verdicts[which].labels(head), name)
            for which, clips in (("generated", generated), ("noisy", noisy), ("test", test))
        )
        rows.append(FigureRow(ours, floor, real, at_least=expected.get(name)))
    ours, floor, real = (_rejected(verdicts[which]) for which in ("generated", "noisy", "test"))
    rows.append(FigureRow(ours, floor, real, at_most=expected.get("rejected")))

    embed = {name: _standardise(verdict.embedding, verdicts["train"].embedding) for name, verdict in verdicts.items()}
    count = min(len(generated.audio), len(train.audio))
    chosen = jax.random.choice(prng.stream(key, "train clips"), len(train.audio), (count,), replace=False)
    near, near_floor, near_real = (
        neighbourhood(embed["test"], clips)
        for clips in (embed["generated"][:count], embed["noisy"], embed["train"][np.asarray(chosen)])
    )
    enough = expected.get("coverage", near_real.coverage.value / 2)
    rows.append(FigureRow(near.coverage, near_floor.coverage, near_real.coverage, at_least=enough))
    rows.append(FigureRow(near.precision, near_floor.precision, near_real.precision))
    memory = nearest_neighbour_ratio(embed["generated"], embed["train"], embed["test"])
    rows.append(FigureRow(memory.ratio, None, memory.held_out_ratio))
    rows.append(FigureRow(memory.copies))
    return rows


def _rejected(verdicts: Verdicts) -> Figure:
    """Return the share of clips that some head rejects."""
    rejected = verdicts.rejected()
    return proportion_figure("rejected", float(rejected.sum()), len(rejected))


def _standardise(embedding: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Give every dimension of the embedding unit variance over the reference: none rules the distance by its scale."""
    return (embedding - reference.mean(0)) / np.maximum(reference.std(0), 1e-6)
