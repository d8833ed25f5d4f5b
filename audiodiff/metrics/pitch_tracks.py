"""Score one F0 track against another: errors of pitch, of voicing, and of both, per clip and over clips.

A track is F0 in Hz, [..., frame]; NaN or a value not above zero marks an unvoiced frame and infinity is an error, as in
:mod:`audiodiff.metrics.pitch_errors`, whose median of cents says how close the good frames are. These figures say
how often frames are bad. For an estimator that gives voicing apart from F0, :func:`track` joins the two.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from audiodiff.metrics.intervals import Figure, mean_figure
from audiodiff.metrics.pitch_errors import cents, paired_contours


class TrackErrors(NamedTuple):
    """Hold the errors of each clip, [...] each; rates are shares in [0, 1]. NaN where no frame tells, never 0.

    over the frames voiced in both (``both`` of them; NaN where that is 0):
        rmse_hz               sqrt(mean (f - f0)^2), f the estimate and f0 the reference
        rmse_cents            sqrt(mean (1200 log2(f / f0))^2) (CARGAN: Morrison et al., 2022)
        gross_pitch_error     share with |f - f0| / f0 > gross_share (GPE; Rabiner et al., 1976, took 1 ms of period)
    over all frames (``frames``):
        voicing_error         share with the wrong voicing (VDE; Nakatani et al., 2008)
        f0_frame_error        share with the wrong voicing or a gross pitch error (FFE; Chu and Alwan, 2009)
    of the estimate's voiced frames, of the reference's, and their harmonic mean:
        voicing_precision     both / voiced in the estimate
        voicing_recall        both / voiced in the reference
        voicing_f1            2 both / (voiced in the estimate + voiced in the reference)
    """

    rmse_hz: np.ndarray
    rmse_cents: np.ndarray
    gross_pitch_error: np.ndarray
    voicing_error: np.ndarray
    f0_frame_error: np.ndarray
    voicing_precision: np.ndarray
    voicing_recall: np.ndarray
    voicing_f1: np.ndarray
    both: np.ndarray
    frames: np.ndarray


def track(f0_hz: ArrayLike, voiced: ArrayLike) -> np.ndarray:
    """Return f0_hz with NaN where ``voiced`` is false: one array for an F0 and a flag, both [..., frame]."""
    f0, flags = np.asarray(f0_hz, np.float64), np.asarray(voiced)
    if f0.shape != flags.shape or flags.dtype != bool:
        raise ValueError(
            f"F0 of shape {f0.shape} and voicing of shape {flags.shape} and type {flags.dtype} make no track: "
            "give one bool per frame, such as probability > 0.5"
        )
    return np.where(flags, f0, np.nan)


def track_errors(
    estimate_hz: ArrayLike, reference_hz: ArrayLike, present: ArrayLike | None = None, gross_share: float = 0.2
) -> TrackErrors:
    """Compare tracks [..., frame] clip by clip; see :class:`TrackErrors` for what is returned, [...] each.

    ``present`` [..., frame] is true for the frames to count (None: all), for clips padded to one length. An octave
    error is a gross one: f = 2 f0 is 100 % off and f = f0 / 2 is 50 %. Tracks laid end to end give the figures over
    all frames that papers quote.

    Raises ValueError for unequal shapes, for a ``present`` that is not bool, and for gross_share not above 0.
    """
    if not gross_share > 0:
        raise ValueError(f"gross_share is {gross_share}; it must be above 0, such as 0.2 for 20 %")
    estimate, reference = paired_contours(estimate_hz, reference_hz)
    counted = _present(present, estimate.shape)
    in_estimate, in_reference = np.isfinite(estimate) & counted, np.isfinite(reference) & counted
    both, wrong = in_estimate & in_reference, in_estimate ^ in_reference
    apart = np.where(both, estimate - reference, 0)
    apart_cents = np.where(both, cents(estimate, reference), 0)
    gross = both & (np.abs(apart) > gross_share * np.where(both, reference, 1))

    frames, voiced_in_both = counted.sum(axis=-1), both.sum(axis=-1)
    of_estimate, of_reference = in_estimate.sum(axis=-1), in_reference.sum(axis=-1)
    return TrackErrors(
        rmse_hz=np.sqrt(_share(np.square(apart).sum(axis=-1), voiced_in_both)),
        rmse_cents=np.sqrt(_share(np.square(apart_cents).sum(axis=-1), voiced_in_both)),
        gross_pitch_error=_share(gross.sum(axis=-1), voiced_in_both),
        voicing_error=_share(wrong.sum(axis=-1), frames),
        f0_frame_error=_share((wrong | gross).sum(axis=-1), frames),
        voicing_precision=_share(voiced_in_both, of_estimate),
        voicing_recall=_share(voiced_in_both, of_reference),
        voicing_f1=_share(2 * voiced_in_both, of_estimate + of_reference),
        both=voiced_in_both,
        frames=frames,
    )


def periodicity_rmse(estimate: ArrayLike, reference: ArrayLike, present: ArrayLike | None = None) -> np.ndarray:
    """Return sqrt(mean (p - p0)^2) of periodicities [..., frame] over all frames, voiced or not, [...] (CARGAN).

    NaN where a clip has no frame, and where a periodicity that counts is NaN. Raises ValueError for unequal shapes,
    and for values outside [0, 1]: a periodicity is a share, such as 1 less the aperiodicity of YIN.
    """
    p, p0 = np.asarray(estimate, np.float64), np.asarray(reference, np.float64)
    if p.shape != p0.shape or p.ndim == 0:
        raise ValueError(
            f"periodicities of shapes {p.shape} and {p0.shape} cannot be compared frame by frame: "
            "use the same hop and length for both"
        )
    counted = _present(present, p.shape)
    for name, values in (("estimate", p), ("reference", p0)):
        outside = counted & ((values < 0) | (values > 1))
        if outside.any():
            raise ValueError(f"a periodicity of the {name} is {values[outside][0]:g}; it must be in [0, 1]")
    return np.sqrt(_share(np.where(counted, np.square(p - p0), 0).sum(axis=-1), counted.sum(axis=-1)))


def track_figures(
    estimate_hz: ArrayLike,
    reference_hz: ArrayLike,
    present: ArrayLike | None = None,
    gross_share: float = 0.2,
    confidence: float = 0.95,
) -> dict[str, Figure]:
    """Return the mean over clips of each error of tracks [clip, frame], by the names in :class:`TrackErrors`.

    Clips, not frames, are the independent items. Rates are in %. A clip without a value is left out and the note
    counts it, with the frames behind the figure; where no clip has one the figure is NaN.
    """
    errors = track_errors(np.atleast_2d(estimate_hz), np.atleast_2d(reference_hz), _rows(present), gross_share)
    note = f"{errors.both.sum()} of {errors.frames.sum()} frames voiced in both"
    figures = {}
    for name, values in errors._asdict().items():
        if name in ("both", "frames"):
            continue
        unit = {"rmse_hz": "Hz", "rmse_cents": "cents"}.get(name, "%")
        figures[name] = mean_figure(name, 100 * values if unit == "%" else values, confidence, unit, note)
    return figures


def _rows(present: ArrayLike | None) -> np.ndarray | None:
    return None if present is None else np.atleast_2d(present)


def _present(present: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray:
    if present is None:
        return np.ones(shape, bool)
    counted = np.asarray(present)
    if counted.dtype != bool or counted.shape != shape:
        raise ValueError(
            f"present has type {counted.dtype} and shape {counted.shape}; give one bool per frame, {shape}"
        )
    return counted


def _share(amount: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return amount / count, NaN where there is nothing to count."""
    counted = count > 0
    return np.where(counted, amount / np.where(counted, count, 1), np.nan)
