"""Compare two sets of clips as distributions of features: Frechet distance and kernel distance.

Every function takes features [clip, dim] from whatever space the caller injects and computes in float64. A Frechet
distance is named for its encoder (``fd_judge``); it is a FAD only over VGGish. Pooled features such as a clip's
mean log-mel do not see the order of time: neither distance over them tells clips from the same clips reversed.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import jax
import numpy as np
import scipy  # its parts load when they are first used
from numpy.typing import ArrayLike

from audiodiff.metrics.intervals import Figure, normal_quantile
from audiodiff.metrics.neighbours import as_features, check_same_dim, distances_in_parts

KAD_SCALE = 100


class Extrapolation(NamedTuple):
    """Hold the line  distance = value + slope k  through the distances of k-ths of the sets: value is its end, n = inf.

    ``sizes`` (clips in the generated parts) and ``distances`` are [k], k = 1, 2, ..: what was fitted, for a plot of
    whether it is a line at all. ``value`` is unbiased up to 1/n^2, so equal distributions give it either sign.
    """

    value: float
    slope: float
    sizes: np.ndarray
    distances: np.ndarray


def frechet_distance(reference: ArrayLike, generated: ArrayLike) -> float:
    """Return the squared Frechet distance of the Gaussians fitted to two sets (Dowson & Landau 1982; Heusel 2017).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), with S the covariance over n - 1. No square root of a matrix is
    taken: with S = A^T A, A the R factor of the centred features over sqrt(n - 1), tr (S1 S2)^(1/2) is the sum of
    the singular values of A1 A2^T, which is real and keeps full precision where the covariances are singular.

    The distance of finite sets is biased upwards by about a constant over n: compare equal counts only, or take
    :func:`extrapolate_frechet_distance`. With no more clips than dimensions the covariance is singular, the bias is
    of the size of the total variance, and a warning says so. A single clip has no covariance and is an error.
    """
    reference, generated = _pair(reference, generated, 2)
    _warn_of_few_clips(reference, generated)
    return _frechet_distance(reference, generated)


def frechet_figure(reference: ArrayLike, generated: ArrayLike, confidence: float = 0.95) -> Figure:
    """Return :func:`frechet_distance` with the interval of its EXPECTATION AT THESE COUNTS, bias included.

    The interval is value +- z s, cut off at 0. With T the symmetric matrix that carries the Gaussian of the reference
    to that of the generated set (T S1 T = S2), one reference clip x moves the distance by, to first order::

        psi(x) = 2 (m1 - m2) . (x - m1) + |x - m1|^2 - (x - m1)^T T (x - m1)     (Rippl, Munk & Sturm 2016)

    and s^2 = var psi / m + the like of the n generated clips: the infinitesimal jackknife, for features of any
    distribution. It is too wide near the null, as that of kernel_distance is; how often it holds its target is measured
    in docs/results/fsdd_ladder.md.

    The bias is not in the interval: equal distributions do not give 0, and more clips give less. Compare equal counts,
    or take :func:`extrapolated_frechet_figure`. Warns of no more clips than dimensions, as the distance does.
    """
    reference, generated = _pair(reference, generated, 2)
    _warn_of_few_clips(reference, generated)
    value, half = _frechet_distance(reference, generated), normal_quantile(confidence) * _error(reference, generated)
    m, n = len(reference), len(generated)
    note = f"of {m} reference and {n} generated clips, biased upwards at these counts"
    return Figure("Frechet distance", value, max(value - half, 0.0), value + half, n, note=note)


def extrapolated_frechet_figure(
    key: jax.Array,
    reference: ArrayLike,
    generated: ArrayLike,
    confidence: float = 0.95,
    most_parts: int = 3,
    deals: int = 4,
) -> Figure:
    """Return the mean of ``deals`` extrapolated distances, with an interval of the TRUE distance.

    The interval is value +- z s, s^2 the jackknife variance of :func:`frechet_figure` plus the variance of the mean
    over deals: extrapolation takes the bias away and leaves the first-order effect of a clip as it is. One deal alone
    scatters by a third more near the null. A bias of order 1/n^2 stays, and shows below 3 clips a dimension.
    """
    if deals < 2:
        raise ValueError(f"{deals} deal tells nothing of how far deals differ: ask for 2 or more")
    reference, generated = _pair(reference, generated, 2)
    values = [
        extrapolate_frechet_distance(one, reference, generated, most_parts).value
        for one in jax.random.split(key, deals)
    ]
    variance = _error(reference, generated) ** 2 + np.var(values, ddof=1) / deals
    value, half = float(np.mean(values)), normal_quantile(confidence) * math.sqrt(variance)
    m, n = len(reference), len(generated)
    note = f"of {m} reference and {n} generated clips, {deals} deals into up to {most_parts} parts"
    return Figure("extrapolated Frechet distance", value, value - half, value + half, n, note=note)


def extrapolate_frechet_distance(
    key: jax.Array, reference: ArrayLike, generated: ArrayLike, most_parts: int = 3, whole_reference: bool = False
) -> Extrapolation:
    """Return the Frechet distance at infinitely many clips, by regression on 1/n (Chong & Forsyth 2020).

    Least squares against k = N/n, k = 1 to ``most_parts``: the sets are dealt at random into k disjoint parts each,
    and the k distances averaged. Every clip so counts once at every k, and its first-order effect falls out of the
    slope: the value is about as sure as the plain distance, where subsets drawn anew nearly double its variance.

    Both sets are parted, so that the bias of both is removed and equal distributions give 0 in expectation.
    ``whole_reference`` parts the generated set only, as the published FAD_inf does (Gui et al. 2024): the reference
    is then taken for the population, and its own bias stays.
    """
    reference, generated = _pair(reference, generated, 2)
    fewest = (len(generated) if whole_reference else min(len(reference), len(generated))) // max(most_parts, 1)
    if most_parts < 2 or fewest <= reference.shape[1]:
        raise ValueError(
            f"{most_parts} parts of {fewest} clips or more give no line in 1/n over {reference.shape[1]} dimensions: "
            f"ask for 2 parts or more, and give over {reference.shape[1]} clips a part"
        )
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))

    def parted(parts: int) -> float:
        dealt = np.array_split(generator.permutation(generated), parts)
        others = [reference] * parts if whole_reference else np.array_split(generator.permutation(reference), parts)
        return float(np.mean([_frechet_distance(one, other) for one, other in zip(others, dealt, strict=True)]))

    distances = np.array([parted(k) for k in range(1, most_parts + 1)])
    parts = np.arange(1, most_parts + 1)
    slope, value = np.polyfit(parts, distances, 1)
    return Extrapolation(float(value), float(slope), len(generated) / parts, distances)


def kernel_distance(
    reference: ArrayLike, generated: ArrayLike, bandwidth: float | None = None, confidence: float = 0.95
) -> Figure:
    """Return the KAD, 100 times the unbiased squared MMD with a Gaussian kernel (Gretton 2012, eq. 3; Chung 2025).

    With k(x, y) = exp(-|x - y|^2 / (2 bandwidth^2)) over m reference clips x and n generated clips y::

        100 (mean over i != j of k(x_i, x_j) + mean over i != j of k(y_i, y_j) - 2 mean over i, j of k(x_i, y_j))

    The bandwidth is the median distance between two different clips of the REFERENCE, so that all systems compared
    with one reference share a kernel; swapping the sets changes the figure unless ``bandwidth`` is given. kadtk
    takes it from its second argument. Unbiased: 0 in expectation for equal distributions, below 0 half the time.

    The interval is value +- z s, s^2 the sum of the jackknife variances over both sets at a fixed bandwidth, which
    in expectation is never too small (Efron & Stein 1981) and near the null, where the statistic is degenerate,
    about twice too large. Needs 3 clips in each set.
    """
    reference, generated = _pair(reference, generated, 3)
    if bandwidth is None:
        bandwidth = float(np.median(scipy.spatial.distance.pdist(reference)))
    if not 0 < bandwidth < math.inf:
        raise ValueError(
            f"bandwidth {bandwidth} makes no kernel: give a positive one (the default is the reference's median "
            "distance, which is 0 where half of its pairs are equal)"
        )
    m, n = len(reference), len(generated)
    among_x = _kernel_sums(reference, reference, bandwidth)[0] - 1
    among_y = _kernel_sums(generated, generated, bandwidth)[0] - 1
    of_x, of_y = _kernel_sums(reference, generated, bandwidth)

    def squared_mmd(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray, m: int, n: int) -> np.ndarray:
        return KAD_SCALE * (xx / (m * (m - 1)) + yy / (n * (n - 1)) - 2 * xy / (m * n))

    xx, yy, xy = among_x.sum(), among_y.sum(), of_x.sum()
    value = float(squared_mmd(xx, yy, xy, m, n))
    without_x = squared_mmd(xx - 2 * among_x, yy, xy - of_x, m - 1, n)
    without_y = squared_mmd(xx, yy - 2 * among_y, xy - of_y, m, n - 1)
    half = normal_quantile(confidence) * math.sqrt((m - 1) * np.var(without_x) + (n - 1) * np.var(without_y))
    note = f"bandwidth {bandwidth:.4g}, {m} reference and {n} generated clips"
    return Figure("kernel distance", value, value - half, value + half, n, note=note)


def _frechet_distance(reference: np.ndarray, generated: np.ndarray) -> float:
    centre, other = reference.mean(axis=0), generated.mean(axis=0)
    one, two = _covariance_factor(reference - centre), _covariance_factor(generated - other)
    cross = np.linalg.svd(one @ two.T, compute_uv=False).sum()
    distance = np.sum((centre - other) ** 2) + np.sum(one**2) + np.sum(two**2) - 2 * cross
    return max(float(distance), 0.0)  # a square: what lies below 0 is rounding


def _error(reference: np.ndarray, generated: np.ndarray) -> float:
    """Return the standard error of the Frechet distance, by the first-order influence of every clip."""
    m, n = len(reference), len(generated)
    shift = reference.mean(axis=0) - generated.mean(axis=0)
    x, y = reference - reference.mean(axis=0), generated - generated.mean(axis=0)
    # With x = Q1 R1 and U D V^T = R1 R2^T over sqrt((m - 1)(n - 1)), x^T T x is (m - 1) |D^(1/2) U^T q|^2: no inverse
    # is taken, so singular covariances do no harm.
    (q1, r1), (q2, r2) = np.linalg.qr(x), np.linalg.qr(y)
    u, d, vt = np.linalg.svd(r1 @ r2.T / math.sqrt((m - 1) * (n - 1)), full_matrices=False)
    of_x = 2 * x @ shift + np.sum(x**2, axis=1) - (m - 1) * (q1 @ u) ** 2 @ d
    of_y = -2 * y @ shift + np.sum(y**2, axis=1) - (n - 1) * (q2 @ vt.T) ** 2 @ d
    return math.sqrt(np.var(of_x) / (m - 1) + np.var(of_y) / (n - 1))


def _covariance_factor(centred: np.ndarray) -> np.ndarray:
    """Return A [min(n, dim), dim] with A^T A the covariance."""
    return np.asarray(np.linalg.qr(centred, mode="r")) / math.sqrt(len(centred) - 1)


def _kernel_sums(x: np.ndarray, y: np.ndarray, bandwidth: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums of k(x_i, y_j) over j, [x], and over i, [y], batch by batch."""
    over_y, over_x = np.zeros(len(x)), np.zeros(len(y))
    for start, distances in distances_in_parts(x, y):
        kernel = np.exp(-0.5 * (distances / bandwidth) ** 2)
        over_y[start : start + len(kernel)] = kernel.sum(axis=1)
        over_x += kernel.sum(axis=0)
    return over_y, over_x


def _warn_of_few_clips(reference: np.ndarray, generated: np.ndarray) -> None:
    fewest, dim = min(len(reference), len(generated)), reference.shape[1]
    if fewest <= dim:
        warnings.warn(
            f"{fewest} clips for {dim} dimensions: the covariance is singular and the Frechet distance says more of "
            f"the count than of the sets; give more than {dim} clips, fewer dimensions, or use kernel_distance",
            stacklevel=3,
        )


def _pair(reference: ArrayLike, generated: ArrayLike, fewest: int) -> tuple[np.ndarray, np.ndarray]:
    reference, generated = as_features(reference, "reference"), as_features(generated, "generated")
    check_same_dim(reference, generated)
    if min(len(reference), len(generated)) < fewest:
        raise ValueError(
            f"{len(reference)} reference and {len(generated)} generated clips are too few for a distance between "
            f"distributions: give at least {fewest} of each"
        )
    return reference, generated
