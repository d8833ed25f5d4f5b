"""Score clips by a judge: what it hears, how far they are from real ones as a set, and what was copied.

Every figure stands beside that of real clips, of noisy ones, and of real clips that went through a representation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from audiodiff import prng
from audiodiff.evaluation.judge import Judge, Verdicts
from audiodiff.evaluation.report import FigureRow
from audiodiff.metrics.classification import accuracy
from audiodiff.metrics.distributions import frechet_figure, kernel_distance
from audiodiff.metrics.inception import am_score, different_bins, inception_score
from audiodiff.metrics.intervals import Figure, proportion_figure
from audiodiff.metrics.neighbours import nearest_neighbour_ratio, neighbourhood

NOISE_SNR_DB = 0.0
"""The noise on the test clips that make the floor of every figure."""

MOST_BINS, CLIPS_A_BIN = 50, 5
"""How many bins the number of different bins is out of, as long as that many clips are expected in each."""


@dataclass(frozen=True)
class Clips:
    """Hold clips [n, time] at one rate, with the label index of every clip by condition."""

    audio: np.ndarray
    labels: Mapping[str, np.ndarray]
    rate_hz: int


def with_noise(key: jax.Array, audio: np.ndarray, snr_db: float) -> np.ndarray:
    """Return audio [clip, time] with white noise at an SNR over the whole clip, float32; silence stays silence."""
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
    resynthesise: Callable[[np.ndarray], np.ndarray] | None = None,
) -> list[FigureRow]:
    """Return one row a figure, with test clips under noise as floor and real clips as ceiling.

    In this order, named by ``row.figure.name``; the embedding is the judge's, standardised over the train clips::

        accuracy <head>          how often the judge takes a clip for what was asked
        rejected                 how often some head takes a clip for no such sound
        coverage                 share of test clips with a generated one inside their 5-NN ball among test clips
        precision                share of generated clips inside some such ball (see :func:`neighbourhood`)
        Frechet distance         of the embeddings to those of the test clips (see :func:`frechet_figure`)
        kernel distance          the same by a kernel, unbiased (see :func:`kernel_distance`)
        different bins           share of k-means bins of the test clips that are filled unlike (:func:`different_bins`)
        inception score <head>   how sure and how various the judge's verdicts are (:func:`inception_score`)
        AM score <head>          how unsure, and how far from the train clips' shares of labels (:func:`am_score`)
        nearest-neighbour ratio  distance to train over distance to test clips: 1 for clips that know both alike, less
                                 where train clips are copied (see :func:`nearest_neighbour_ratio`)
        samples like copies      share of generated clips as near to train as 1 % of test clips are

    The ceiling of what the judge hears is that of the test clips. What compares with the test clips depends on the
    number of clips, so its ceiling is that of as many train clips, drawn without replacement; where the train set is
    the smaller, the generated clips are cut to its size. ``resynthesise`` maps audio [clip, time] through a
    representation and back: with it the figures of both ceilings are also given of resynthesised clips.

    ``at_least`` gives expectations by figure name ("rejected": at most); without one coverage is expected to reach half
    of its ceiling, for below that it does not count. The key draws noise, train clips and resamples. Raises ValueError
    for an expectation of no figure, for generated or train clips of another length than the test clips, and what judge
    and metrics raise.
    """
    expected, heads = dict(at_least or {}), [head for head in judge.classes if head in generated.labels]
    names = [*(f"accuracy {head}" for head in heads), "rejected", "coverage"]
    if unknown := [name for name in expected if name not in names]:
        raise ValueError(f"no figure {unknown[0]!r} can have an expectation: choose {', '.join(names)}")

    for name, clips in (("generated", generated), ("train", train)):
        if clips.audio.shape[1:] != test.audio.shape[1:]:
            raise ValueError(
                f"the {name} clips have shape {clips.audio.shape} and the test clips {test.audio.shape}: "
                "crop or pad all to one length before"
            )
    hear = _Hearing(judge, train, test, heads, prng.stream(key, "resamples"))
    noise = with_noise(prng.stream(key, "noise"), test.audio, NOISE_SNR_DB)
    count = min(len(generated.audio), len(train.audio))
    draw = jax.random.choice(prng.stream(key, "train clips"), len(train.audio), (count,), replace=False)
    ours, noisy = hear(generated.audio, generated.rate_hz), hear(noise, test.rate_hz)
    real = hear.train.take(np.asarray(draw))
    figures = {
        "figure": hear.figures(ours, generated.labels, ours.take(np.arange(count))),
        "floor": hear.figures(noisy, test.labels, noisy),
        "ceiling": hear.figures(hear.test, test.labels, real),
    }
    if resynthesise is not None:
        both = np.concatenate([test.audio, train.audio[np.asarray(draw)]])
        through = hear(np.asarray(resynthesise(both), np.float32), test.rate_hz)
        here, there = np.split(np.arange(len(both)), [len(test.audio)])
        figures["resynthesis"] = hear.figures(through.take(here), test.labels, through.take(there))
    least = {"coverage": figures["ceiling"]["coverage"].value / 2, **expected}
    most = {"rejected": least.pop("rejected", None)}
    rows = [
        FigureRow(
            **{role: found[name] for role, found in figures.items()}, at_least=least.get(name), at_most=most.get(name)
        )
        for name in figures["figure"]
    ]
    memory = nearest_neighbour_ratio(ours.embedding, hear.train.embedding, hear.test.embedding)
    return [*rows, FigureRow(memory.ratio, None, memory.held_out_ratio), FigureRow(memory.copies)]


class _Heard(NamedTuple):
    """Hold what the judge says of clips, and their embedding, every dimension of unit variance over the train clips."""

    verdicts: Verdicts
    embedding: np.ndarray

    def take(self, index: np.ndarray) -> _Heard:
        """Return the same of some of the clips."""
        probabilities = {head: values[index] for head, values in self.verdicts.probabilities.items()}
        verdicts = Verdicts(self.verdicts.classes, probabilities, self.verdicts.embedding[index])
        return _Heard(verdicts, self.embedding[index])


class _Hearing:
    """Hear clips by a judge and give the figures of them, in comparison with what it hears of train and test clips."""

    def __init__(self, judge: Judge, train: Clips, test: Clips, heads: Sequence[str], key: jax.Array) -> None:
        self._judge, self._heads, self._key = judge, heads, key
        verdicts = judge(train.audio, train.rate_hz)
        self._centre = verdicts.embedding.mean(0)
        # None rules the distance by its scale, and one that never moves has none.
        self._scale = np.maximum(verdicts.embedding.std(0), 1e-6)
        self.train = self._standardised(verdicts)
        self.test = self(test.audio, test.rate_hz)

    def __call__(self, audio: np.ndarray, rate_hz: int) -> _Heard:
        return self._standardised(self._judge(audio, rate_hz))

    def _standardised(self, verdicts: Verdicts) -> _Heard:
        return _Heard(verdicts, (verdicts.embedding - self._centre) / self._scale)

    def figures(self, clips: _Heard, labels: Mapping[str, np.ndarray], as_set: _Heard) -> dict[str, Figure]:
        """Return all figures by name: what is heard of ``clips``, and how ``as_set`` compares with the test clips."""
        rejected = clips.verdicts.rejected()
        near = neighbourhood(self.test.embedding, as_set.embedding)
        figures = [
            *(accuracy(labels[head], clips.verdicts.labels(head), f"accuracy {head}") for head in self._heads),
            proportion_figure("rejected", float(rejected.sum()), len(rejected)),
            near.coverage,
            near.precision,
            self._frechet(as_set),
            kernel_distance(self.test.embedding, as_set.embedding),
            self._different_bins(as_set),
        ]
        by_name = {figure.name: figure for figure in figures}
        for head in self._heads:
            said, shares = clips.verdicts.probabilities[head], self.train.verdicts.probabilities[head].mean(axis=0)
            by_name[f"inception score {head}"] = inception_score(said, self._key)
            by_name[f"AM score {head}"] = am_score(said, shares, self._key)
        return {name: dataclasses.replace(figure, name=name) for name, figure in by_name.items()}

    def _frechet(self, clips: _Heard) -> Figure:
        fewest, dim = min(len(clips.embedding), len(self.test.embedding)), clips.embedding.shape[1]
        if fewest > dim:
            return frechet_figure(self.test.embedding, clips.embedding)
        note = f"not measured: {fewest} clips for {dim} dimensions"
        return Figure("Frechet distance", math.nan, 0.0, math.inf, fewest, note=note)

    def _different_bins(self, clips: _Heard) -> Figure:
        fewest = min(len(clips.embedding), len(self.test.embedding))
        bins = max(1, min(MOST_BINS, fewest // CLIPS_A_BIN))
        return different_bins(self._key, self.test.embedding, clips.embedding, bins).figure()
