"""Cut a length into overlapping windows, and weigh them so that they sum to one everywhere."""

from __future__ import annotations

import numpy as np


def fade_out(positions: int) -> np.ndarray:
    """Return cos^2(pi/2 (n + 1/2) / positions), n = 0 .. positions - 1: from 1 to 0, float64 [positions].

    With its mirror image, which fades in, it sums to one.
    """
    return np.cos(np.pi / 2 * (np.arange(positions) + 0.5) / max(positions, 1)) ** 2


def window_starts(positions: int, window_positions: int, overlap_positions: int) -> np.ndarray:
    """Return where windows begin that cover ``positions``, int [window]: a hop apart, but for the last, at the end.

    The hop is ``window_positions - overlap_positions``, and the last window overlaps by as much or more. Raises
    ValueError for a window longer than the whole, and for an overlap that is not shorter than a window.
    """
    check_windows(positions, window_positions, overlap_positions)
    hop, last = window_positions - overlap_positions, positions - window_positions
    return np.append(np.arange(0, last, hop), last)


def crossfade_weights(positions: int, window_positions: int, overlap_positions: int) -> np.ndarray:
    """Return the share that each of :func:`window_starts` has in what it covers, [window, window_positions], float64.

    A window fades in over its first ``overlap_positions`` and out over its last, by :func:`fade_out`; the first and
    last windows do neither at the ends of the whole. What is there is then divided by its sum over the windows, so that
    the shares sum to one at every position, also where three windows meet or the last overlaps by more.
    Raises ValueError as :func:`window_starts` does.
    """
    starts = window_starts(positions, window_positions, overlap_positions)
    out = np.append(np.ones(window_positions - overlap_positions), fade_out(overlap_positions))
    weights = np.tile(out * out[::-1], (len(starts), 1))
    weights[0] /= out[::-1]
    weights[-1] /= out
    total = np.zeros(positions)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + window_positions] += weight
    covered = starts[:, None] + np.arange(window_positions)
    return weights / total[covered]


def check_windows(positions: int, window_positions: int, overlap_positions: int) -> None:
    """Raise ValueError for a window longer than the whole, and for an overlap that is not shorter than a window."""
    if not 1 <= window_positions <= positions:
        raise ValueError(f"a window of {window_positions} positions does not fit in {positions}: give 1 to {positions}")
    if not 0 <= overlap_positions < window_positions:
        raise ValueError(
            f"an overlap of {overlap_positions} positions leaves nothing new of a window of {window_positions}: "
            f"give 0 to {window_positions - 1}"
        )
