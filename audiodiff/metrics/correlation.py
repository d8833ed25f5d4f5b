"""Say whether two measures put the same things in the same order: Spearman's and Kendall's rank correlation."""

from __future__ import annotations

import functools
import math
from typing import Literal, get_args

import jax
import numpy as np
import scipy  # its parts load when they are first used
from numpy.typing import ArrayLike

from audiodiff.dsp.choices import check_choice
from audiodiff.metrics.intervals import Figure, bootstrap_interval

Method = Literal["spearman", "kendall"]


def rank_correlation(
    x: ArrayLike,
    y: ArrayLike,
    key: jax.Array,
    method: Method = "spearman",
    name: str = "",
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Figure:
    """Return the rank correlation of x and y, [item] or [group, item], with a bootstrap interval over the first axis.

    ``spearman``  Pearson's correlation of the ranks, ties at their mean rank (Spearman, 1904).
    ``kendall``   tau-b, (concordant - discordant) / sqrt((pairs - ties in x)(pairs - ties in y)) (Kendall, 1945).

    Items of a group, such as versions of one clip, are not independent: they are ranked together with all others, and
    drawn with their group. Infinite values have a rank, the first or the last; a pair with a NaN is left out, and the
    note counts it. Undefined, NaN within [-1, 1], for fewer than two pairs or a constant; a resample that is so counts
    as 0, no order seen. A perfect order has the interval [1, 1] however few its items are: read the count with it.

    Raises ValueError for shapes that differ or have other than one or two axes, and for an unknown method.
    """
    check_choice("method", method, get_args(Method))
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape or x.ndim not in (1, 2):
        raise ValueError(f"x {x.shape} and y {y.shape} have no pairs to rank: give both as [item], or as [group, item]")
    paired = ~(np.isnan(x) | np.isnan(y))
    count, lost = int(paired.sum()), int(np.sum(~paired))
    note = f"{lost} of {x.size} pairs undefined" if lost else ""
    name = name or method
    value = _correlation(x, y, method)
    if math.isnan(value):
        return Figure(name, value, -1.0, 1.0, count, note=note)
    filled = paired if x.ndim == 1 else paired.any(axis=1)
    low, high = bootstrap_interval(
        key,
        functools.partial(_order_seen, method=method),
        x[filled],
        y[filled],
        confidence=confidence,
        resamples=resamples,
    )
    # One group says nothing of the next, and the bootstrap gives it an unbounded interval.
    return Figure(name, value, max(low, -1.0), min(high, 1.0), count, note=note)


def _order_seen(x: np.ndarray, y: np.ndarray, method: Method) -> float:
    value = _correlation(x, y, method)
    return 0.0 if math.isnan(value) else value


def _correlation(x: np.ndarray, y: np.ndarray, method: Method) -> float:
    """Return the correlation over all pairs without a NaN, NaN where it is not defined."""
    paired = ~(np.isnan(x) | np.isnan(y))
    x, y = x[paired], y[paired]
    if x.size < 2 or np.all(x == x[0]) or np.all(y == y[0]):
        return math.nan
    if method == "kendall":
        return float(scipy.stats.kendalltau(x, y).statistic)
    # Not stats.spearmanr, the same value: it goes on to a p-value, most of the time of a bootstrap.
    return float(np.corrcoef(scipy.stats.rankdata(x), scipy.stats.rankdata(y))[0, 1])
