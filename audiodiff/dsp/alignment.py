"""Align two sequences that say the same at another pace: dynamic time warping, on the host in float64."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Alignment(NamedTuple):
    """Hold a warping path [step, 2] of pairs (i, j), from (0, 0) to the last of both, and the sum of its costs."""

    path: np.ndarray
    cost: float


def euclidean_costs(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Return |first[i] - second[j]|, the costs [n, m] of sequences [n, feature] and [m, feature]; float64.

    Raises ValueError for arrays that are not of two axes with equally many features, at least one.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 2 or b.ndim != 2 or not a.shape[1] == b.shape[1] > 0:
        raise ValueError(
            f"sequences of shapes {a.shape} and {b.shape} have no distances; give [n, feature] and [m, feature], with "
            "at least one feature"
        )
    # Row by row: no [n, m, feature] is ever held, and differences keep the digits that |a|^2 + |b|^2 - 2ab loses.
    return np.stack([np.linalg.norm(b - row, axis=1) for row in a]) if len(a) else np.zeros((0, len(b)))


def dtw(costs: ArrayLike) -> Alignment:
    """Find the cheapest path through costs [n, m] by dynamic time warping (Sakoe and Chiba, 1978, unit weights).

    D[i, j] = costs[i, j] + min(D[i - 1, j - 1], D[i - 1, j], D[i, j - 1]), read back from D[n - 1, m - 1]. Steps are
    (1, 1), (1, 0) and (0, 1); of equal ones the diagonal is taken, then (1, 0). Every row and column is visited, and
    repeating an item of a sequence that matches the other exactly costs nothing.

    Raises ValueError for costs that are not two-dimensional, empty, or not finite.
    """
    costs = np.asarray(costs, np.float64)
    if costs.ndim != 2 or costs.size == 0:
        raise ValueError(f"costs of shape {costs.shape} hold no path; give [n, m] with n and m at least 1")
    if not np.isfinite(costs).all():
        raise ValueError(f"{np.sum(~np.isfinite(costs))} of {costs.size} costs are not finite; drop or repair the clip")
    total = _accumulate(costs)
    n, m = costs.shape
    return Alignment(_trace_back(total), float(total[n, m]))


def _accumulate(costs: np.ndarray) -> np.ndarray:
    """Return D [n + 1, m + 1] with a border of infinity above and left, around a zero that starts the path.

    Anti-diagonals depend on the two before them alone, so each is one vector operation.
    """
    n, m = costs.shape
    total = np.full((n + 1, m + 1), np.inf)
    total[0, 0] = 0
    for diagonal in range(2, n + m + 1):
        i = np.arange(max(1, diagonal - m), min(n, diagonal - 1) + 1)
        j = diagonal - i
        before = np.minimum(np.minimum(total[i - 1, j - 1], total[i - 1, j]), total[i, j - 1])
        total[i, j] = costs[i - 1, j - 1] + before
    return total


def _trace_back(total: np.ndarray) -> np.ndarray:
    i, j = total.shape[0] - 1, total.shape[1] - 1
    path = [(i - 1, j - 1)]
    while (i, j) != (1, 1):
        candidates = ((i - 1, j - 1), (i - 1, j), (i, j - 1))
        i, j = min(candidates, key=lambda cell: total[cell])  # min keeps the first of equals: the diagonal
        path.append((i - 1, j - 1))
    return np.array(path[::-1])
