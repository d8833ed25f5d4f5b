"""Compare two sets of clips by nearest neighbours: precision, recall, density, coverage, and memorisation.

Every function takes features [clip, dim] from whatever space the caller injects (a judge's embedding, log-mels);
distances are Euclidean, computed in float64 by differences, so that a copy is at distance zero and not at the
rounding error of |a|^2 + |b|^2 - 2ab. Nothing here is random.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import scipy  # its parts load when they are first used
from numpy.typing import ArrayLike

from audiodiff.metrics.intervals import Figure, mean_figure, normal_quantile, proportion_figure

BATCH = 256
NEGLIGIBLE = 1e-12
"""Weight of the far neighbours that an expectation over subsets leaves out."""
COPY_DISTANCE = 1e-3
"""Share of the median neighbour distance under which two clips count as one: keeps the logarithm of a copy finite."""


class Neighbourhood(NamedTuple):
    """Hold the four k-NN figures: fidelity (precision, density) and diversity (recall, coverage)."""

    precision: Figure
    recall: Figure
    density: Figure
    coverage: Figure


@dataclass(frozen=True)
class Memorisation:
    """Hold whether samples sit closer to the training clips than unseen real clips would.

    ``ratio`` is 1 for honest samples and falls with copying; ``held_out_ratio`` is the same figure for the held-out
    clips, each against the others: what real clips give. Where its interval misses 1 the split is not a random one
    (clips of one sitting are near one another), and the fair mark is the ratio of real training clips that are taken
    out of train and passed as samples. ``copies`` is the share of samples below the ratio that ``copies_expected``
    percent of the held-out clips stay below. Per sample, [sample]: ``sample_ratio`` = d(g, train) / d(g, held-out)
    with all of both sets, and ``nearest_train``, the index of the closest training clip.
    """

    ratio: Figure
    held_out_ratio: Figure
    copies: Figure
    copies_expected: float
    threshold: float
    sample_ratio: np.ndarray = field(repr=False)
    nearest_train: np.ndarray = field(repr=False)

    @property
    def suspects(self) -> np.ndarray:
        """Indices of the samples counted in ``copies``, the most suspect first."""
        order = np.argsort(self.sample_ratio, kind="stable")
        return order[self.sample_ratio[order] < self.threshold]


def nearest(
    queries: ArrayLike, references: ArrayLike, count: int = 1, *, leave_one_out: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances and indices [query, count] of each query's nearest references, nearest first.

    With ``leave_one_out`` the two sets are the same and clip i is no neighbour of its own; a duplicate of it is.
    """
    queries, references = as_features(queries, "queries"), as_features(references, "references")
    check_same_dim(queries, references)
    available = len(references) - leave_one_out
    if not 1 <= count <= available:
        raise ValueError(f"{count} neighbours asked of {available} references: ask for fewer, at least 1, or give more")
    if leave_one_out and len(queries) != len(references):
        raise ValueError(f"leaving one out needs one set, not {len(queries)} queries and {len(references)} references")
    found = []
    for start, distances in distances_in_parts(queries, references):
        if leave_one_out:
            np.fill_diagonal(distances[:, start:], np.inf)
        some = np.argpartition(distances, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(distances, some, axis=1), axis=1, kind="stable")
        index = np.take_along_axis(some, order, axis=1)
        found.append((np.take_along_axis(distances, index, axis=1), index))
    return np.concatenate([d for d, _ in found]), np.concatenate([i for _, i in found])


def neighbourhood(real: ArrayLike, generated: ArrayLike, k: int = 5, confidence: float = 0.95) -> Neighbourhood:
    """Return precision, recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    With B(x) the closed ball around x up to the k-th nearest other clip of its own set::

        precision = share of generated g inside some B(real)       recall   = share of real r inside some B(generated)
        density   = mean over g of #{r : g in B(r)} / k            coverage = share of real r with some g in B(r)

    Equal distributions give density 1 and coverage :func:`expected_coverage`. Each interval is over one set with the
    other held fixed: over generated clips for precision and density, over real clips for recall and coverage. It says
    what more of that set would change; with both sets drawn anew, 95 % intervals held the mean in 70 to 98 % of trials.
    """
    real, generated = as_features(real, "real"), as_features(generated, "generated")
    check_same_dim(real, generated)
    real_radius = nearest(real, real, k, leave_one_out=True)[0][:, -1]
    generated_radius = nearest(generated, generated, k, leave_one_out=True)[0][:, -1]
    balls_around = np.zeros(len(generated))
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for start, distances in distances_in_parts(generated, real):
        here = slice(start, start + len(distances))
        inside = distances <= real_radius
        balls_around[here] = inside.sum(axis=1)
        covered |= inside.any(axis=0)
        recalled |= (distances <= generated_radius[here, None]).any(axis=0)
    note = f"k={k}, {len(real)} real and {len(generated)} generated clips"
    return Neighbourhood(
        precision=proportion_figure("precision", int(np.sum(balls_around > 0)), len(generated), confidence, note),
        recall=proportion_figure("recall", int(recalled.sum()), len(real), confidence, note),
        density=mean_figure("density", balls_around / k, confidence, note=note),
        coverage=proportion_figure("coverage", int(covered.sum()), len(real), confidence, note),
    )


def expected_coverage(real_count: int, generated_count: int, k: int = 5) -> float:
    """Return the expected coverage of two sets from one distribution, in % (Naeem et al. 2020, Lemma 2).

    1 - prod_{j=1..k} (N - j) / (N + M - j): of the N + M - 1 others, not all of the k nearest are real. Raises
    ValueError for counts of which :func:`neighbourhood` has no coverage.
    """
    if not (1 <= k < real_count and generated_count >= 1):
        raise ValueError(
            f"k={k} with {real_count} real and {generated_count} generated clips: give k from 1 and more real clips"
        )
    j = np.arange(1, k + 1)
    return float(100 * (1 - np.prod((real_count - j) / (real_count + generated_count - j))))


def nearest_neighbour_ratio(
    samples: ArrayLike, train: ArrayLike, held_out: ArrayLike, confidence: float = 0.95, copies_expected: float = 1.0
) -> Memorisation:
    """Return the distance of samples to train over their distance to held-out clips, and who looks copied.

    With m the smaller of the two sets' sizes and d(g, S) the distance from g to its nearest clip of S::

        log ratio = mean over samples g of  E log d(g, T_m) - E log d(g, H_m)

    the expectations over all m-clip subsets of train and of held-out, taken exactly, not by drawing: the i-th
    nearest of N clips is the nearest of a random subset with probability C(N - i, m - 1) / C(N, m). A larger set is
    nearer to everything; at equal sizes a sample that owes nothing to either set has E log ratio = 0.

    The interval is exp(log ratio +- z s), s^2 the sum of the jackknife variances over samples, training and held-out
    clips, which in expectation is never too small (Efron & Stein 1981). A bootstrap over samples alone leaves out
    that many share a neighbour (a 95 % interval of it held 1 in 63 to 93 % of honest trials), and a bootstrap over
    the sets themselves repeats points, which moves nearest neighbours.

    Where train is larger than held-out, only m/N of the subsets hold a copy's original, so ``ratio`` falls slowly
    with few copies; ``copies`` looks at the whole train set and finds them one by one.
    """
    samples, train, held_out = (
        as_features(samples, "samples"),
        as_features(train, "train"),
        as_features(held_out, "held_out"),
    )
    check_same_dim(samples, train)
    check_same_dim(samples, held_out)
    if min(len(samples), len(train)) < 2 or len(held_out) < 4:
        raise ValueError(
            f"{len(samples)} samples, {len(train)} training and {len(held_out)} held-out clips are too few for a "
            "nearest-neighbour ratio: give at least 2, 2 and 4"
        )
    floor = COPY_DISTANCE * float(np.median(nearest(held_out, held_out, leave_one_out=True)[0]))
    if floor == 0:
        raise ValueError(
            f"half or more of the {len(held_out)} held-out clips have a copy among them, so that no distance is the "
            "usual one: leave out copies, and clips of silence"
        )
    if not 0 < copies_expected < 100:
        raise ValueError(f"copies_expected is {copies_expected}; it must be between 0 and 100 percent, such as 1")

    ours = _log_ratio(samples, train, held_out, floor)
    theirs = _log_ratio(held_out, train, held_out, floor, leave_one_out=True)
    note = f"{min(len(train), len(held_out))} clips of train against as many held out; 1 for honest samples"
    rank = max(1, int(copies_expected / 100 * (len(held_out) + 1)))
    expected = 100 * rank / (len(held_out) + 1)
    threshold = float(np.sort(theirs.whole)[rank - 1])
    found = int(np.sum(ours.whole < threshold))
    return Memorisation(
        ratio=ours.figure("nearest-neighbour ratio", confidence, note),
        held_out_ratio=theirs.figure("nearest-neighbour ratio of held-out clips", confidence, note),
        copies=proportion_figure(
            "samples like copies", found, len(samples), confidence, f"{expected:.2g} % expected of honest samples"
        ),
        copies_expected=expected,
        threshold=threshold,
        sample_ratio=ours.whole,
        nearest_train=ours.nearest_train,
    )


class _LogRatio(NamedTuple):
    """Hold the log ratio [query], its jackknife influences per independent set, and the ratio with whole sets."""

    per_query: np.ndarray
    influences: tuple[np.ndarray, ...]
    whole: np.ndarray
    nearest_train: np.ndarray

    def figure(self, name: str, confidence: float, note: str) -> Figure:
        """Return exp(mean +- z s) with s^2 = sum over sets of (n - 1)/n sum (influence - mean)^2."""
        error = math.sqrt(sum((1 - 1 / len(i)) * np.sum((i - i.mean()) ** 2) for i in self.influences))
        centre, half = float(self.per_query.mean()), normal_quantile(confidence) * error
        value, low, high = np.exp([centre, centre - half, centre + half]).tolist()
        return Figure(name, value, low, high, len(self.per_query), note=note)


def _log_ratio(
    queries: np.ndarray, train: np.ndarray, held_out: np.ndarray, floor: float, leave_one_out: bool = False
) -> _LogRatio:
    """Compare queries to train and to held-out; leave_one_out: the queries are the held-out clips themselves."""
    size = min(len(train), len(held_out) - leave_one_out)
    to_train = _log_nearest(queries, train, size, floor)
    to_held_out = _log_nearest(queries, held_out, size, floor, leave_one_out)
    per_query = to_train.expected - to_held_out.expected
    of_query = (per_query - per_query.mean()) / (len(queries) - 1)
    if leave_one_out:  # leaving out a held-out clip takes away a query and a reference at once
        influences: tuple[np.ndarray, ...] = (of_query + to_held_out.influence, to_train.influence)
    else:
        influences = (of_query, to_held_out.influence, to_train.influence)
    return _LogRatio(per_query, influences, np.exp(to_train.first - to_held_out.first), to_train.who)


class _LogNearest(NamedTuple):
    """Hold log distances [query] to the nearest reference, over subsets and in the whole set, and its index."""

    expected: np.ndarray
    first: np.ndarray
    who: np.ndarray
    influence: np.ndarray  # [reference]: how far leaving it out moves the mean of ``expected``


def _log_nearest(
    queries: np.ndarray, references: np.ndarray, size: int, floor: float, leave_one_out: bool = False
) -> _LogNearest:
    """Return E log d(query, random subset of the references of ``size``), exactly, and the jackknife over references.

    Without the reference of rank i every later one moves up: E log d grows by sum_{l >= i} p'_l (x_{l+1} - x_l),
    x the sorted log distances and p' the subset weights of one reference fewer.
    """
    available = len(references) - leave_one_out
    weights, fewer = _subset_weights(available, size), _subset_weights(available - 1, min(size, available - 1))
    distances, index = nearest(
        queries, references, min(available, max(len(weights), len(fewer) + 1)), leave_one_out=leave_one_out
    )
    logs = np.log(np.maximum(distances, floor))
    gains = np.diff(logs, axis=1)[:, : len(fewer)] * fewer[: logs.shape[1] - 1]
    from_rank = np.cumsum(gains[:, ::-1], axis=1)[:, ::-1]
    influence = np.bincount(index[:, : from_rank.shape[1]].ravel(), from_rank.ravel(), len(references)) / len(queries)
    return _LogNearest(logs[:, : len(weights)] @ weights, logs[:, 0], index[:, 0], influence)


def _subset_weights(count: int, size: int) -> np.ndarray:
    """Return p_i = C(N - i, m - 1) / C(N, m), i = 1..: the i-th nearest of N is nearest in a random m-subset.

    By p_1 = m/N and p_{i+1}/p_i = (N - i - m + 1)/(N - i), up to a negligible rest.
    """
    i = np.arange(1, count - size + 1)
    weights = size / count * np.cumprod(np.concatenate([[1.0], (count - i - size + 1) / (count - i)]))
    return weights[: 1 + np.searchsorted(np.cumsum(weights), 1 - NEGLIGIBLE)]


def distances_in_parts(queries: np.ndarray, references: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first query, distances [batch, reference]) batch by batch, so that memory stays small."""
    for start in range(0, len(queries), BATCH):
        yield start, scipy.spatial.distance.cdist(queries[start : start + BATCH], references)


def as_features(values: ArrayLike, name: str) -> np.ndarray:
    """Return features as float64 [clip, dim], refusing what has no distances."""
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} features have the shape {array.shape}: give a filled array [clip, dim]")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad.size:
        raise ValueError(
            f"{bad.size} of {len(array)} {name} features are not finite, the first at {bad[0]}: leave them out, counted"
        )
    return array


def check_same_dim(one: np.ndarray, other: np.ndarray) -> None:
    """Raise ValueError where two sets of features have different dimensions."""
    if one.shape[1] != other.shape[1]:
        raise ValueError(f"features of {one.shape[1]} and {other.shape[1]} dimensions: take both from one encoder")
