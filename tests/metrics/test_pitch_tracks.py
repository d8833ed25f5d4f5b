"""Hold the track errors against planted errors, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from audiodiff.metrics import pitch_errors, pitch_tracks

NAN = np.nan


def _random_tracks(seed, shape=(40,), voiced=0.6):
    rng = np.random.default_rng(seed)
    reference = rng.uniform(80, 300, shape)
    estimate = reference * 2 ** rng.normal(0, 0.2, shape)
    return (np.where(rng.random(shape) < voiced, f0, NAN) for f0 in (estimate, reference))


def test_planted_octave_errors_are_gross_errors():
    """Ledger row 85: 3 of 10 frames an octave off, each by 1200 cents, whichever way."""
    reference = np.linspace(100, 200, 10)
    estimate = reference.copy()
    estimate[[2, 7]] *= 2
    estimate[4] /= 2
    errors = pitch_tracks.track_errors(estimate, reference)
    assert errors.gross_pitch_error == errors.f0_frame_error == pytest.approx(0.3)
    assert errors.rmse_cents == pytest.approx(1200 * np.sqrt(0.3))
    assert errors.voicing_error == 0 and errors.voicing_f1 == 1
    assert pitch_errors.clip_cents_error(estimate, reference) == 0  # the median that the rates stand beside


def test_each_kind_of_frame_counts_once():
    """Two gross, two false voicings and one missed of ten; the gross errors are shares of the five voiced in both."""
    reference = [100, 100, 100, 100, 100, NAN, NAN, 100, NAN, 0]
    estimate = [100, 119, 121, 79, 81, 100, 50, NAN, -1, NAN]
    errors = pitch_tracks.track_errors(estimate, reference)
    assert (errors.both, errors.frames) == (5, 10)
    assert errors.gross_pitch_error == pytest.approx(2 / 5)
    assert errors.voicing_error == pytest.approx(3 / 10)
    assert errors.f0_frame_error == pytest.approx(5 / 10)
    assert errors.voicing_precision == pytest.approx(5 / 7) and errors.voicing_recall == pytest.approx(5 / 6)


def test_twenty_percent_itself_is_not_gross():
    assert pitch_tracks.track_errors([240.0, 160.0], [200.0, 200.0]).gross_pitch_error == 0
    assert pitch_tracks.track_errors([210.1], [200.0], gross_share=0.05).gross_pitch_error == 1


@pytest.mark.oracle
@pytest.mark.parametrize("seed", range(3))
def test_rates_and_rmse_are_scikit_learns(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    estimate, reference = _random_tracks(seed)
    errors = pitch_tracks.track_errors(estimate, reference)
    flags = np.isfinite(reference), np.isfinite(estimate)
    both = flags[0] & flags[1]
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(*flags, average="binary")
    np.testing.assert_allclose(
        [errors.voicing_precision, errors.voicing_recall, errors.voicing_f1, 1 - errors.voicing_error],
        [precision, recall, f1, metrics.accuracy_score(*flags)],
    )
    assert errors.rmse_hz == pytest.approx(metrics.root_mean_squared_error(reference[both], estimate[both]))
    octaves = metrics.root_mean_squared_error(np.log2(reference[both]), np.log2(estimate[both]))
    assert errors.rmse_cents == pytest.approx(1200 * octaves)
    p, p0 = np.random.default_rng(seed).random((2, 30))
    assert pitch_tracks.periodicity_rmse(p, p0) == pytest.approx(metrics.root_mean_squared_error(p0, p))


def test_where_nothing_is_voiced_in_both_pitch_is_not_a_number_and_voicing_is():
    errors = pitch_tracks.track_errors([100.0, NAN, NAN], [NAN, 100.0, NAN])
    assert errors.both == 0 and errors.frames == 3
    assert np.isnan([errors.rmse_hz, errors.rmse_cents, errors.gross_pitch_error]).all()
    assert errors.voicing_error == errors.f0_frame_error == pytest.approx(2 / 3)
    assert errors.voicing_precision == errors.voicing_recall == errors.voicing_f1 == 0
    silent = pitch_tracks.track_errors([NAN, 0.0], [NAN, NAN])
    assert silent.voicing_error == silent.f0_frame_error == 0
    assert np.isnan([silent.voicing_precision, silent.voicing_recall, silent.voicing_f1]).all()
    assert all(np.isnan(value) for value in pitch_tracks.track_errors([], [])[:-2])


def test_absent_frames_do_not_count():
    short, long = _random_tracks(5, (2, 12))
    present = np.arange(12) < 9
    cut = pitch_tracks.track_errors(short[:, :9], long[:, :9])
    masked = pitch_tracks.track_errors(short, long, np.stack([present, present]))
    np.testing.assert_array_equal(masked, cut)
    p, p0 = np.random.default_rng(0).random((2, 12))
    p[9:] = NAN
    assert pitch_tracks.periodicity_rmse(p, p0, present) == pitch_tracks.periodicity_rmse(p[:9], p0[:9])
    assert np.isnan(pitch_tracks.periodicity_rmse(p, p0))
    assert np.isnan(pitch_tracks.periodicity_rmse(p, p0, np.zeros(12, bool)))


def test_clips_are_scored_apart():
    estimate, reference = _random_tracks(6, (3, 20))
    together = pitch_tracks.track_errors(estimate, reference)
    for i in range(3):
        np.testing.assert_array_equal([v[i] for v in together], pitch_tracks.track_errors(estimate[i], reference[i]))


def test_figures_are_over_clips_and_tell_what_was_left_out():
    reference = np.full((4, 5), 100.0)
    estimate = reference.copy()
    estimate[0, 0] *= 2
    estimate[1, :2] *= 2
    estimate[3] = NAN
    figures = pitch_tracks.track_figures(estimate, reference)
    gross = figures["gross_pitch_error"]
    assert gross.value == pytest.approx(20.0) and gross.unit == "%" and gross.count == 3
    assert "15 of 20 frames voiced in both" in gross.note and "1 of 4 undefined" in gross.note
    assert figures["f0_frame_error"].value == pytest.approx(40.0) and figures["f0_frame_error"].count == 4
    assert figures["rmse_hz"].unit == "Hz" and figures["rmse_cents"].unit == "cents"
    none = pitch_tracks.track_figures(np.zeros((2, 3)), np.full((2, 3), 100.0))["rmse_cents"]
    assert np.isnan(none.value) and none.count == 0 and "0 of 6 frames voiced in both" in none.note


def test_a_flag_beside_f0_makes_a_track():
    np.testing.assert_array_equal(pitch_tracks.track([100, 200], [True, False]), [100, NAN])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pitch_tracks.track_errors(np.ones(4), np.ones(5)), r"\(4,\) and \(5,\)"),
        (lambda: pitch_tracks.track_errors([1.0], [1.0], gross_share=0), "gross_share is 0; it must be above 0"),
        (lambda: pitch_tracks.track_errors([1.0], [1.0], [1]), "present has type int64"),
        (lambda: pitch_tracks.track([1.0, 2.0], [0.9, 0.1]), "give one bool per frame"),
        (lambda: pitch_tracks.periodicity_rmse([0.5], [1.5]), "periodicity of the reference is 1.5"),
        (lambda: pitch_tracks.periodicity_rmse(np.ones(4), np.ones(5)), r"\(4,\) and \(5,\)"),
    ],
)
def test_errors_name_value_and_mend(call, message):
    with pytest.raises(ValueError, match=message):
        call()
