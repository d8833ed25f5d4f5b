"""Score a classifier: accuracy with its interval, who is taken for whom, and whether its confidence is deserved."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from audiodiff.metrics.intervals import Figure, bootstrap_interval, proportion_figure


class Reliability(NamedTuple):
    """Hold mean confidence, accuracy and number of clips of each confidence bin [bin]; empty bins are NaN, NaN, 0."""

    confidence: np.ndarray
    accuracy: np.ndarray
    clips: np.ndarray


def accuracy(labels: ArrayLike, predictions: ArrayLike, name: str = "accuracy", confidence: float = 0.95) -> Figure:
    """Return the share of predictions that equal their label, in % with Wilson's interval; NaN of no clips.

    Raises ValueError for unequal shapes, for NaN, and for types such as text and number that are never equal.
    """
    labels, predictions = _paired(labels, predictions)
    return proportion_figure(name, int(np.sum(labels == predictions)), len(labels), confidence)


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: int) -> np.ndarray:
    """Return counts [true class, predicted class] of integer labels in [0, classes)."""
    labels, predictions = _paired(labels, predictions)
    _check_classes(np.concatenate([labels, predictions]), classes)
    flat = (labels * classes + predictions).astype(int)
    return np.bincount(flat, minlength=classes**2).reshape(classes, classes)


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> Reliability:
    """Return the reliability diagram over equal confidence bins (i/bins, (i+1)/bins] (Guo et al. 2017, eq. 1).

    ``probabilities`` is [clip, class]; a clip's confidence is its largest probability, its prediction that class.
    """
    return _reliability(*_confidence(probabilities, labels), bins)


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, key: jax.Array, bins: int = 15, confidence: float = 0.95
) -> Figure:
    """Return sum over bins of count/n |accuracy - confidence|, in % (Guo et al. 2017, eq. 3), interval by bootstrap.

    A plain estimate on few clips lies above the truth: compare figures of equal count and bins only. NaN of no clips.
    """
    top, correct = _confidence(probabilities, labels)

    def error(top: np.ndarray, correct: np.ndarray) -> float:
        diagram = _reliability(top, correct, bins)
        return float(100 * np.nansum(diagram.clips * np.abs(diagram.accuracy - diagram.confidence)) / len(top))

    value = error(top, correct) if len(top) else math.nan
    low, high = bootstrap_interval(key, error, top, correct, confidence=confidence)
    return Figure("expected calibration error", value, low, high, len(top), "%", f"{bins} bins")


def _reliability(top: np.ndarray, correct: np.ndarray, bins: int) -> Reliability:
    if bins < 1:
        raise ValueError(f"bins is {bins}; it must be at least 1, such as 15")
    # Confidence 0 belongs to the first bin, which is otherwise open at its lower end.
    index = np.clip(np.ceil(top * bins).astype(int) - 1, 0, bins - 1)
    clips = np.bincount(index, minlength=bins)
    filled = np.where(clips, clips, np.nan)
    return Reliability(np.bincount(index, top, bins) / filled, np.bincount(index, correct, bins) / filled, clips)


def _confidence(probabilities: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest probability [clip] and whether its class is the label [clip]."""
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    if probabilities.ndim != 2 or not probabilities.shape[1] or labels.shape != probabilities.shape[:1]:
        raise ValueError(
            f"probabilities {probabilities.shape} and labels {labels.shape} do not belong together: "
            "give [clip, class] and [clip]"
        )
    _check_classes(labels, probabilities.shape[1])
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3) or (probabilities < 0).any():
        raise ValueError("rows of probabilities must be non-negative and sum to 1, without NaN: apply a softmax")
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def _paired(labels: ArrayLike, predictions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 1 or labels.shape != predictions.shape:
        raise ValueError(f"labels {labels.shape} and predictions {predictions.shape} must both be [clip]")
    # Text never equals a number, nor NaN itself: both would count as mistakes.
    if labels.size and (labels.dtype.kind in "OSU" or predictions.dtype.kind in "OSU"):
        if labels.dtype.kind != predictions.dtype.kind:
            raise ValueError(f"labels of {labels.dtype} never equal predictions of {predictions.dtype}: give one kind")
    elif bad := int(np.sum(np.isnan(labels) | np.isnan(predictions))):
        raise ValueError(f"{bad} of {len(labels)} pairs of label and prediction hold NaN: leave them out, counted")
    return labels, predictions


def _check_classes(labels: np.ndarray, classes: int) -> None:
    if labels.size and (labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}: give integers from 0 to {classes - 1}")
