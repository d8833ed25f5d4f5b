"""Score speaker verification: do two clips come from one speaker? Error rates over all thresholds, and where they meet.

A trial is a pair of clips with a score, high where they sound alike. It is wrong in one of two ways: a pair of two
speakers is accepted, or a pair of one speaker is rejected.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from audiodiff.metrics.intervals import Figure, bootstrap_interval, wilson_interval


class Trials(NamedTuple):
    """Hold the score [trial], whether it is one speaker, bool [trial], and the numbers of both clips [trial, 2]."""

    scores: np.ndarray
    same: np.ndarray
    clips: np.ndarray


class DetectionErrors(NamedTuple):
    """Hold the error rates [threshold] of accepting scores >= threshold; the first accepts nothing, the last all."""

    threshold: np.ndarray
    false_accept: np.ndarray
    false_reject: np.ndarray


def all_trials(embeddings: ArrayLike, speakers: ArrayLike) -> Trials:
    """Compare every clip with every other once, by the cosine of their embeddings [clip, dim].

    Raises ValueError for shapes that do not belong together and for embeddings without a direction.
    """
    directions, speakers = _directions(embeddings, speakers)
    first, second = np.triu_indices(len(directions), 1)
    scores = (directions @ directions.T)[first, second]
    return Trials(scores, speakers[first] == speakers[second], np.stack([first, second], axis=1))


def enrolment_trials(
    enrolment: ArrayLike, enrolment_speakers: ArrayLike, test: ArrayLike, test_speakers: ArrayLike
) -> Trials:
    """Compare every test clip with every enrolled one; test clips are numbered after those of the enrolment.

    Raises ValueError as :func:`all_trials` does.
    """
    enrolled, enrolled_speakers = _directions(enrolment, enrolment_speakers)
    tested, tested_speakers = _directions(test, test_speakers)
    first, second = (index.ravel() for index in np.indices((len(enrolled), len(tested))))
    clips = np.stack([first, len(enrolled) + second], axis=1)
    return Trials((enrolled @ tested.T).ravel(), enrolled_speakers[first] == tested_speakers[second], clips)


def detection_errors(trials: Trials) -> DetectionErrors:
    """Return both error rates at every distinct score, the points of a DET curve (Martin et al. 1997).

    A rate without a trial to be wrong on is NaN. Raises ValueError for trials that cannot be.
    """
    falling, last = _falling(_checked(trials))
    return _errors(falling, np.ones(len(falling.scores)), last)


def crossing(errors: DetectionErrors) -> float:
    """Return the rate at which the two errors are equal, linear between neighbouring thresholds; NaN where one is."""
    accept, reject = errors.false_accept, errors.false_reject
    gap = accept - reject
    if np.isnan(gap[-1]):
        return math.nan
    after = int(np.argmax(gap >= 0))  # never 0: at first nothing is accepted
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(accept[after - 1] + share * (accept[after] - accept[after - 1]))


def equal_error_rate(
    trials: Trials,
    key: jax.Array,
    name: str = "equal error rate",
    confidence: float = 0.95,
    resamples: int = 2000,
    note: str = "",
) -> Figure:
    """Return the rate, in %, at the threshold where as many are falsely accepted as rejected; count is that of clips.

    Error rates are interpolated linearly between neighbouring thresholds. Trials share clips and are not independent:
    the interval is the BCa bootstrap over clips, and a trial counts as often as its clips were drawn, n_i n_j times
    (:func:`bootstrap_interval`). It speaks of further clips of these speakers, not of further speakers, nor of another
    training. Rare errors are those of a few clips, of which few draws tell: the upper end is never below Wilson's for
    no error in as many clips. Without trials of both kinds the figure is NaN with [0, 100]. Raises ValueError for
    trials that cannot be.
    """
    falling, last = _falling(_checked(trials))
    kinds = f"{np.sum(falling.same)} trials of one speaker and {np.sum(~falling.same)} of two"
    note = "; ".join(filter(None, (note, kinds)))
    clips, members = np.unique(falling.clips, return_inverse=True)
    if falling.same.all() or not falling.same.any():
        return Figure(name, math.nan, 0.0, 100.0, len(clips), "%", note)
    first, second = members.reshape(-1, 2).T

    def rate(drawn: np.ndarray) -> float:
        times = np.bincount(drawn, minlength=len(clips)).astype(np.float64)
        met = crossing(_errors(falling, times[first] * times[second], last))
        return 50.0 if math.isnan(met) else 100 * met  # a draw without one kind of trial knows nothing: chance

    everything = np.arange(len(clips))
    value = rate(everything)
    low, high = bootstrap_interval(key, rate, everything, confidence=confidence, resamples=resamples)
    high = max(high, 100 * wilson_interval(0, len(clips), confidence).high)
    return Figure(name, value, low, high, len(clips), "%", note)


def _falling(trials: Trials) -> tuple[Trials, np.ndarray]:
    """Return the trials by falling score, and the index of the last of each run of equal scores.

    No threshold parts equal scores.
    """
    order = np.argsort(-trials.scores, kind="stable")
    scores, same, clips = (values[order] for values in trials)
    return Trials(scores, same, clips), np.flatnonzero(np.append(np.diff(scores) != 0, True))


def _errors(trials: Trials, times: np.ndarray, last: np.ndarray) -> DetectionErrors:
    """Return the errors of falling trials, each of which counts ``times`` [trial]."""
    own, other = (np.concatenate([[0.0], np.cumsum(times * kind)[last]]) for kind in (trials.same, ~trials.same))
    threshold = np.concatenate([[math.inf], trials.scores[last]])
    with np.errstate(invalid="ignore"):  # no trial of a kind, no rate: NaN
        return DetectionErrors(threshold, other / other[-1], 1 - own / own[-1])


def _checked(trials: Trials) -> Trials:
    """Return the trials as arrays; raise ValueError where they do not belong together or a score is NaN."""
    scores, same = np.asarray(trials.scores, np.float64), np.asarray(trials.same, bool)
    clips = np.asarray(trials.clips)
    if scores.ndim != 1 or not scores.size or same.shape != scores.shape or clips.shape != (len(scores), 2):
        raise ValueError(
            f"scores {scores.shape}, same {same.shape} and clips {clips.shape} do not belong together: "
            "give [trial], [trial] and [trial, 2], at least one"
        )
    if len(bad := np.flatnonzero(np.isnan(scores))):
        raise ValueError(f"{len(bad)} of {len(scores)} scores are NaN, the first is trial {bad[0]}: leave them out")
    if len(own := np.flatnonzero(clips[:, 0] == clips[:, 1])):
        raise ValueError(f"trial {own[0]} compares clip {clips[own[0], 0]} with itself: leave such trials out")
    return Trials(scores, same, clips)


def _directions(embeddings: ArrayLike, speakers: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings at length one, and the speaker of each."""
    embeddings, speakers = np.asarray(embeddings, np.float64), np.asarray(speakers)
    if embeddings.ndim != 2 or speakers.shape != embeddings.shape[:1]:
        raise ValueError(
            f"embeddings {embeddings.shape} and speakers {speakers.shape} do not belong together: "
            "give [clip, dim] and [clip]"
        )
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if len(bad := np.flatnonzero(~((length > 0) & np.isfinite(length)))):
        raise ValueError(
            f"{len(bad)} of {len(length)} embeddings are zero or not finite, the first is clip {bad[0]}: "
            "leave those clips out, counted"
        )
    return embeddings / length, speakers
