from __future__ import annotations

import jax
import numpy as np
import pytest

from audiodiff.metrics import classification


def test_accuracy_counts_and_carries_wilson():
    figure = classification.accuracy(np.repeat([0, 1], 50), np.repeat([0, 1, 0], [50, 30, 20]))
    assert str(figure) == "80 % [71, 87] (n=100)"


def test_confusion_matrix_equals_counting():
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 4, (2, 50))
    matrix = classification.confusion_matrix(labels, predictions, 5)
    expected = np.zeros((5, 5), int)
    for true, predicted in zip(labels, predictions, strict=True):
        expected[true, predicted] += 1
    np.testing.assert_array_equal(matrix, expected)


def two_classes(confidence):
    confidence = np.asarray(confidence, float)
    return np.stack([confidence, 1 - confidence], axis=-1)


@pytest.mark.parametrize(
    "confidence, labels, bins, error",
    [
        ([1.0, 1.0], [0, 0], 10, 0.0),  # sure and right
        ([1.0, 1.0], [1, 1], 10, 100.0),  # sure and wrong
        ([0.75, 0.75, 0.75, 0.75], [0, 0, 0, 1], 10, 0.0),  # right as often as sure
        ([0.6, 0.6, 0.9, 0.9], [0, 1, 0, 0], 10, 10.0),  # two bins, each 10 points off
        ([0.6, 0.6, 0.6, 0.9], [0, 0, 0, 1], 10, 52.5),  # (3 x 40 + 1 x 90) / 4
        ([0.6, 0.9], [1, 0], 1, 25.0),  # one bin: accuracy 50 against confidence 75
        ([0.5, 0.5], [0, 1], 2, 0.0),  # a bin is closed at its upper end
    ],
)
def test_calibration_error_by_hand(confidence, labels, bins, error):
    figure = classification.expected_calibration_error(two_classes(confidence), labels, jax.random.key(0), bins)
    assert figure.value == pytest.approx(error)
    assert figure.count == len(labels)


def test_reliability_by_hand():
    diagram = classification.reliability(two_classes([0.6, 0.6, 0.9, 1.0]), [0, 1, 0, 0], 4)
    np.testing.assert_array_equal(diagram.clips, [0, 0, 2, 2])
    np.testing.assert_allclose(diagram.accuracy, [np.nan, np.nan, 0.5, 1.0])
    np.testing.assert_allclose(diagram.confidence, [np.nan, np.nan, 0.6, 0.95])


def test_calibration_error_of_deserved_confidence_is_small_and_of_sharpened_confidence_is_not():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(3), 1500)
    labels = np.array([generator.choice(3, p=p) for p in probabilities])
    honest = classification.expected_calibration_error(probabilities, labels, jax.random.key(0))
    sharp = probabilities**4 / np.sum(probabilities**4, axis=1, keepdims=True)
    boastful = classification.expected_calibration_error(sharp, labels, jax.random.key(0))
    assert honest.low <= honest.value < 5 < boastful.low <= boastful.value <= boastful.high


@pytest.mark.parametrize(
    "attempt, named",
    [
        (lambda: classification.accuracy([1, 2], [1]), r"\(2,\) and predictions \(1,\)"),
        (lambda: classification.confusion_matrix([0, 7], [0, 1], 5), "from 0 to 7: give integers from 0 to 4"),
        (lambda: classification.reliability([[2.0, -1.0]], [0]), "apply a softmax"),
        (lambda: classification.reliability([[0.5, 0.5]], [0, 1]), "do not belong together"),
    ],
)
def test_refusals_name_value_and_mend(attempt, named):
    with pytest.raises(ValueError, match=named):
        attempt()
