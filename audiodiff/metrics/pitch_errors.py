"""Compare F0 contours in cents, over the frames where both are voiced, with a count of the frames that are not.

A contour is F0 in Hz, [..., frame]; NaN or a value not above zero marks an unvoiced frame, infinity is an error. Where
audio holds NaN an estimator's F0 is NaN as in silence: its second output, NaN there alone, tells the two apart.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from audiodiff.metrics.intervals import Figure, median_figure


class Voicing(NamedTuple):
    """Count the frames by who calls them voiced."""

    both: int
    only_estimate: int
    only_reference: int
    neither: int


def cents(estimate_hz: ArrayLike, reference_hz: ArrayLike) -> np.ndarray:
    """Return 1200 log2(estimate / reference) per frame, NaN where either contour is unvoiced. 100 cents: a semitone."""
    estimate, reference = paired_contours(estimate_hz, reference_hz)
    return 1200 * np.log2(estimate / reference)


def voicing(estimate_hz: ArrayLike, reference_hz: ArrayLike) -> Voicing:
    """Count the frames voiced in both contours, in one of them, in neither."""
    estimate, reference = (np.isfinite(contour) for contour in paired_contours(estimate_hz, reference_hz))
    pairs = ((estimate, reference), (estimate, ~reference), (~estimate, reference), (~estimate, ~reference))
    return Voicing(*(int(np.sum(one & other)) for one, other in pairs))


def clip_cents_error(estimate_hz: ArrayLike, reference_hz: ArrayLike) -> np.ndarray:
    """Return the median over frames voiced in both of |cents|, [...]; NaN for a clip that has no such frame."""
    error = np.ma.masked_invalid(np.abs(cents(estimate_hz, reference_hz)))
    return np.ma.filled(np.ma.median(error, axis=-1).astype(np.float64), np.nan)


def f0_error(
    estimate_hz: ArrayLike, reference_hz: ArrayLike, key: jax.Array, name: str = "F0 error", confidence: float = 0.95
) -> Figure:
    """Return the median over clips of each clip's median |cents| for contours [clip, frame], bootstrapped over clips.

    Clips, not frames, are the independent items. A clip with no frame voiced in both is left out; the note says how
    many were, and how many frames each side alone called voiced.
    """
    errors = np.atleast_1d(clip_cents_error(estimate_hz, reference_hz))
    frames = voicing(estimate_hz, reference_hz)
    note = (
        f"{frames.both} frames voiced in both, {frames.only_estimate} only in the estimate, "
        f"{frames.only_reference} only in the reference"
    )
    return median_figure(name, errors, key, confidence, "cents", note)


def paired_contours(estimate_hz: ArrayLike, reference_hz: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return both contours in float64 with NaN wherever they are unvoiced.

    Raises ValueError for shapes that differ or have no axis, and for infinite values.
    """
    estimate, reference = np.asarray(estimate_hz, np.float64), np.asarray(reference_hz, np.float64)
    if estimate.shape != reference.shape or estimate.ndim == 0:
        raise ValueError(
            f"F0 contours of shapes {estimate.shape} and {reference.shape} cannot be compared frame by frame: "
            "use the same hop and length for both"
        )
    for name, f0 in (("estimate", estimate), ("reference", reference)):
        if infinite := int(np.isinf(f0).sum()):
            raise ValueError(
                f"{infinite} of {f0.size} frames of the {name} have an infinite F0: NaN marks an unvoiced frame, and a "
                "clip without an F0 is left out, counted"
            )
    return tuple(np.where(f0 > 0, f0, np.nan) for f0 in (estimate, reference))  # type: ignore[return-value]
