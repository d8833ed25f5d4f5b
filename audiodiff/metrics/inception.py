"""Score generated clips by what a classifier says of them, and by which bins of the training set they fall into.

``probabilities`` are [clip, class], the softmax of a classifier over the generated clips. Logarithms are taken of
max(p, PROBABILITY_FLOOR). Means over few clips are biased (the inception score of n clips is too low): compare equal
counts only. DiffWave's tables (Kong et al. 2021) hold all four figures, over a classifier of theirs that is not ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import scipy  # its parts load when they are first used
from numpy.typing import ArrayLike

from audiodiff.metrics.intervals import Figure, bootstrap_interval_of_means, normal_quantile, proportion_figure
from audiodiff.metrics.neighbours import as_features, check_same_dim, nearest

PROBABILITY_FLOOR = 1e-10
"""Bounds the modified score, which grows like floor^-1 for a classifier that is never in doubt."""


class BinTest(NamedTuple):
    """Hold the number of statistically different bins, and what was tested [bin], the largest bin first.

    ``share`` = ``different`` / bins, NDB/K in the tables. Equal distributions are expected to give about the
    significance, not 0, and more where the bins are small for their dimensions: k-means fits the reference.
    """

    different: int
    share: float
    reference: np.ndarray
    generated: np.ndarray
    z: np.ndarray

    def figure(self, confidence: float = 0.95) -> Figure:
        """Return ``share`` in % with Wilson's interval over the bins, these held fixed.

        Given the bins, each differs with a chance of its own, and a sum of unequal chances scatters less than the
        binomial that Wilson's interval stands for (Hoeffding 1956). It covers the expected share at these counts,
        which grows with the counts where the sets differ at all. A bootstrap over clips would not: it scatters every
        bin by chance once more, and finds two to three times too many in equal sets.
        """
        return proportion_figure("different bins", self.different, len(self.z), confidence)


def inception_score(probabilities: ArrayLike, key: jax.Array, confidence: float = 0.95) -> Figure:
    """Return exp E_x KL(p(y|x) || p(y)), p(y) the mean over all clips (Salimans et al. 2016), interval by bootstrap.

    From 1 (every clip says the same) to the number of classes (every clip sure, all classes equally often). Not
    split into tenths as there: each tenth has a p(y) of its own, which biases the score further down.
    """

    p = _probabilities(probabilities)

    def score(means: np.ndarray) -> np.ndarray:
        return np.exp(_entropy(means[..., :-1]) - means[..., -1])

    return _figure("inception score", score, np.column_stack([p, _entropy(p)]), p.shape[1], key, confidence)


def modified_inception_score(probabilities: ArrayLike, key: jax.Array, confidence: float = 0.95) -> Figure:
    """Return exp E_{x, x'} KL(p(y|x) || p(y|x')) over all ordered pairs of clips, interval by bootstrap.

    After Gurumurthy et al. (2017), over all pairs and not within a class, as DiffWave's tables have it.

    At least 1, and not bounded by the number of classes: it grows with the certainty of the classifier as well as
    with diversity, so it compares systems under one classifier and nothing else. For K classes, equally often and
    each told with certainty, it is floor^-(1 - 1/K).
    """

    p = _probabilities(probabilities)

    def score(means: np.ndarray) -> np.ndarray:
        shares, logs, entropy = np.split(means, [p.shape[1], 2 * p.shape[1]], axis=-1)
        return np.exp(-np.sum(shares * logs, axis=-1) - entropy[..., 0])

    return _figure(
        "modified inception score", score, np.column_stack([p, _log(p), _entropy(p)]), p.shape[1], key, confidence
    )


def am_score(
    probabilities: ArrayLike, train_distribution: ArrayLike, key: jax.Array, confidence: float = 0.95
) -> Figure:
    """Return KL(p_train(y) || p(y)) + E_x H(p(y|x)), in nats (Zhou et al. 2018); lower is better, 0 is best.

    ``train_distribution`` [class] is the mean of the same classifier's probabilities over the training clips; the
    interval takes it as known. A class of the training set that is never generated costs up to -log(floor).
    """
    probabilities = _probabilities(probabilities)
    train = _probabilities(np.atleast_2d(np.asarray(train_distribution, np.float64)))
    if len(train) != 1 or train.shape[1] != probabilities.shape[1]:
        raise ValueError(
            f"the training distribution {np.shape(train_distribution)} does not belong to probabilities "
            f"{probabilities.shape}: give [class], the mean over the training clips"
        )

    def score(means: np.ndarray) -> np.ndarray:
        return -_log(means[..., :-1]) @ train[0] - _entropy(train[0]) + means[..., -1]

    terms = np.column_stack([probabilities, _entropy(probabilities)])
    return _figure("AM score", score, terms, probabilities.shape[1], key, confidence, unit="nats")


def different_bins(
    key: jax.Array, reference: ArrayLike, generated: ArrayLike, bins: int = 50, significance: float = 0.05
) -> BinTest:
    """Return NDB, the number of bins that hold significantly more or less of one set (Richardson & Weiss 2018).

    Bins are the k-means cells of the reference features [clip, dim], seeded by k-means++ from ``key``. With p and q
    the shares of m reference and n generated clips in a bin, and P their pooled share, a bin is different where::

        |z| = |p - q| / sqrt(P (1 - P) (1/m + 1/n))  >  the normal quantile of 1 - significance/2

    The normal approximation wants about 5 clips expected of each set in each bin: keep ``bins`` below n/5. An empty
    cell is dropped, so ``z`` may be shorter than ``bins``; in one only bin nothing can differ.
    """
    reference, generated = as_features(reference, "reference"), as_features(generated, "generated")
    check_same_dim(reference, generated)
    distinct = len(np.unique(reference, axis=0))
    if not 1 <= bins <= distinct:
        raise ValueError(f"{bins} bins of {distinct} different reference clips: ask for 1 to {distinct} bins")
    if len(generated) < bins:
        raise ValueError(f"{len(generated)} generated clips cannot fill {bins} bins: give 5 a bin or more")
    threshold = normal_quantile(1 - significance)
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty")  # it is dropped below
        centres = scipy.cluster.vq.kmeans2(reference, bins, iter=100, minit="++", rng=generator)[0]
    counts = np.stack([np.bincount(nearest(x, centres)[1][:, 0], minlength=bins) for x in (reference, generated)])
    counts = counts[:, counts.any(axis=0)]
    in_reference, in_generated = counts[:, np.argsort(-counts[0], kind="stable")]
    m, n = len(reference), len(generated)
    pooled = (in_reference + in_generated) / (m + n)
    spread = np.sqrt(pooled * (1 - pooled) * (1 / m + 1 / n))
    z = np.divide(in_reference / m - in_generated / n, spread, out=np.zeros(len(pooled)), where=spread > 0)
    different = int(np.sum(np.abs(z) > threshold))
    return BinTest(different, different / len(pooled), in_reference / m, in_generated / n, z)


def _figure(
    name: str,
    score: Callable[[np.ndarray], np.ndarray],
    terms: np.ndarray,
    classes: int,
    key: jax.Array,
    confidence: float,
    unit: str = "",
) -> Figure:
    """Return a score that is a function of the means of ``terms`` [clip, term], with its bootstrap interval."""
    if len(terms) < 2:
        raise ValueError(
            f"{name} of {len(terms)} clip: a score of a set needs at least 2 clips, and means little below 100"
        )
    low, high = bootstrap_interval_of_means(key, score, terms, confidence)
    return Figure(name, float(score(terms.mean(axis=0))), low, high, len(terms), unit, f"{classes} classes")


def _entropy(p: np.ndarray) -> np.ndarray:
    """Return the entropy over the last axis in nats, 0 log 0 = 0."""
    return scipy.special.entr(p).sum(axis=-1)


def _log(p: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(p, PROBABILITY_FLOOR))


def _probabilities(values: ArrayLike) -> np.ndarray:
    """Return probabilities as float64 [clip, class], each row scaled to sum to 1 exactly, or refuse them."""
    p = np.asarray(values, np.float64)
    if p.ndim != 2 or 0 in p.shape:
        raise ValueError(f"probabilities have the shape {p.shape}: give a filled array [clip, class]")
    bad = np.flatnonzero(~(np.isfinite(p).all(axis=1) & (p >= 0).all(axis=1) & (np.abs(p.sum(axis=1) - 1) < 1e-3)))
    if bad.size:
        raise ValueError(
            f"{bad.size} of {len(p)} rows of probabilities are not non-negative with the sum 1, the first at {bad[0]} "
            f"with the sum {p[bad[0]].sum():.4g}: apply a softmax to logits first, and leave undefined clips out"
        )
    return p / p.sum(axis=1, keepdims=True)
