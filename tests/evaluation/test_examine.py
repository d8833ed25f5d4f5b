"""A judge is examined on what it must take and on what it must refuse, each heard for what it is."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from audiodiff.evaluation.examine import examine
from audiodiff.evaluation.judge import Verdicts
from audiodiff.evaluation.score import Clips
from audiodiff.objectives.classification import REJECT

CLASSES = {"pitch": ("low", "high", REJECT)}
COUNT, TIME = 20, 1024


def tones() -> Clips:
    """Half of the clips are low tones, half high; all of them in the clip's first half alone."""
    labels = np.arange(COUNT) % 2
    time = np.arange(TIME)
    audio = np.sin(2 * np.pi * np.where(labels, 0.2, 0.02)[:, None] * time) * (time < TIME // 2)
    return Clips(audio.astype(np.float32), {"pitch": labels}, 8000)


def by_ear(audio: np.ndarray, rate_hz: int) -> Verdicts:
    """Tell low from high by zero crossings; refuse the quiet, and what sounds in the second half as well."""
    first, second = (np.sqrt(np.mean(half**2, axis=1)) for half in np.split(audio, 2, axis=1))
    crossings = np.mean(np.diff(np.sign(audio[:, : TIME // 2]), axis=1) != 0, axis=1)
    label = np.where((first < 1e-4) | (second > 0.3 * first), 2, crossings > 0.1)
    return Verdicts(CLASSES, {"pitch": np.eye(3)[label.astype(int)]}, np.zeros((len(audio), 1)))


def saying(*probabilities: float):
    """Return a judge that says the same of everything."""

    def judge(audio: np.ndarray, rate_hz: int) -> Verdicts:
        return Verdicts(CLASSES, {"pitch": np.tile(probabilities, (len(audio), 1))}, np.zeros((len(audio), 1)))

    return judge


def test_a_judge_that_hears_well_is_right_and_refuses_what_it_should():
    found = examine(by_ear, tones(), jax.random.key(0))
    assert [(figure.name, figure.value) for figure in found.figures] == [
        ("accuracy pitch", 100),
        ("calibration error pitch", 0),
        ("rejects clips", 0),
        *(("rejects noise", 100), ("rejects silence", 100), ("rejects random phases", 100)),
    ]
    assert {figure.count for figure in found.figures} == {COUNT}
    np.testing.assert_array_equal(found.confusion["pitch"], [[10, 0, 0], [0, 10, 0], [0, 0, 0]])


def test_a_judge_that_takes_everything_is_found_out():
    """It is sure and right half the time: half of its confidence is not deserved."""
    found = examine(saying(1.0, 0.0, 0.0), tones(), jax.random.key(0))
    assert [figure.value for figure in found.figures] == [50, 50, 0, 0, 0, 0]
    np.testing.assert_array_equal(found.confusion["pitch"], [[10, 0, 0], [10, 0, 0], [0, 0, 0]])


def test_a_rejection_is_a_mistake_made_with_its_confidence():
    found = examine(saying(0.1, 0.2, 0.7), tones(), jax.random.key(0))
    figures = {figure.name: figure.value for figure in found.figures}
    assert figures["accuracy pitch"] == 0 and figures["rejects clips"] == 100
    assert figures["calibration error pitch"] == pytest.approx(70)
    np.testing.assert_array_equal(found.confusion["pitch"][:, 2], [10, 10, 0])


def test_a_judge_that_is_as_sure_as_it_is_right_has_no_calibration_error():
    found = examine(saying(0.5, 0.4, 0.1), tones(), jax.random.key(0))
    assert {figure.name: figure.value for figure in found.figures}["calibration error pitch"] == pytest.approx(0)
