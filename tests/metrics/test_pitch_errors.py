from __future__ import annotations

import jax
import numpy as np
import pytest

from audiodiff.metrics import pitch_errors


def test_intervals_of_music_have_their_cents():
    np.testing.assert_allclose(
        pitch_errors.cents([880.0, 110.0, 466.1637615], [440.0] * 3), [1200, -2400, 100], atol=1e-5
    )
    fifth = pitch_errors.cents([300.0], [200.0])
    fourth = pitch_errors.cents([400.0], [300.0])
    np.testing.assert_allclose(fifth + fourth, 1200.0)


def test_unvoiced_frames_are_left_out_and_counted():
    estimate = [220.0, np.nan, 0.0, 100.0, 440.0]
    reference = [220.0, 100.0, np.nan, -1.0, 220.0]
    np.testing.assert_allclose(pitch_errors.cents(estimate, reference), [0, np.nan, np.nan, np.nan, 1200])
    assert pitch_errors.voicing(estimate, reference) == (2, 1, 1, 1)
    assert pitch_errors.clip_cents_error(estimate, reference) == 600.0


def test_one_octave_error_does_not_move_the_median():
    f0 = np.linspace(100.0, 200.0, 9)
    wrong = f0 * 2 ** (7 / 1200)
    wrong[4] *= 2
    np.testing.assert_allclose(pitch_errors.clip_cents_error(wrong, f0), 7.0)


def test_the_figure_is_over_clips_and_says_what_it_left_out():
    f0 = np.full((6, 4), 200.0)
    estimate = f0 * 2 ** (np.array([10, -20, 30, 40, 50, 0])[:, None] / 1200)
    estimate[5] = np.nan
    figure = pitch_errors.f0_error(estimate, f0, jax.random.key(0))
    assert figure.value == pytest.approx(30.0)
    assert figure.count == 5 and 9.99 < figure.low < 30 < figure.high < 50.01
    assert "20 frames voiced in both" in figure.note and "4 only in the reference" in figure.note
    assert "1 of 6 undefined" in figure.note


def test_no_voiced_frame_at_all_is_not_a_number():
    figure = pitch_errors.f0_error(np.zeros((2, 3)), np.full((2, 3), 100.0), jax.random.key(0))
    assert np.isnan(figure.value) and figure.count == 0


def test_unequal_contours_are_refused():
    with pytest.raises(ValueError, match=r"\(4,\) and \(5,\)"):
        pitch_errors.cents(np.ones(4), np.ones(5))
