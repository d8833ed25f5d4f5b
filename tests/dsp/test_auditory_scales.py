"""Hold the auditory scales against published tables, and against each other."""

import numpy as np
import pytest

from audiodiff.dsp import auditory_scales as scales

HEARING_HZ = np.linspace(0, 16000, 1601)


@pytest.mark.parametrize(
    ("scale", "barks"),
    [
        ("zwicker", (0.98673, 4.73647, 8.51053, 17.25892, 21.27532)),
        ("traunmueller", (0.95574, 4.91919, 8.52743, 17.46329, 21.20305)),
        ("wang", (0.99543, 4.55092, 7.70277, 15.57507, 19.70891)),
    ],
)
def test_bark_scales_match_the_table(scale, barks):
    """Ledger row 13, definitions 2.7: at 100, 500, 1000, 4000 and 8000 Hz.

    The page has 4.73666 for Zwicker at 500 Hz; summing the series of atan in fractions gives 4.736467.
    """
    np.testing.assert_allclose(scales.hz_to_bark([100, 500, 1000, 4000, 8000], scale), barks, atol=6e-6)
    assert (np.diff(scales.hz_to_bark(HEARING_HZ, scale)) > 0).all()


def test_zwicker_numbers_the_critical_bands():
    """Ledger row 13: the formula meets the upper edges that Zwicker (1961) measured, one Bark apart, to 0.2 Bark."""
    edges_hz = [100, 200, 300, 400, 510, 630, 770, 920, 1080, 1270, 1480, 1720, 2000, 2320, 2700, 3150, 3700, 4400,
                5300, 6400, 7700, 9500, 12000, 15500]  # fmt: skip
    np.testing.assert_allclose(scales.hz_to_bark(edges_hz), np.arange(1, 25), atol=0.2)


@pytest.mark.parametrize(
    ("formula", "values"),
    [
        (scales.critical_bandwidth_hz, {200: 102.87, 1000: 162.22, 4000: 685.4}),
        (scales.erb_hz, {1000: 132.639, 8000: 888.212}),
    ],
)
def test_bandwidths_match_the_table(formula, values):
    """Ledger row 13, definitions 2.7 to the digits given."""
    np.testing.assert_allclose(formula(list(values)), list(values.values()), rtol=1e-4)


def test_a_bandwidth_is_one_step_of_its_scale():
    """Ledger row 13: f + ERB is one ERB further on, and f + critical bandwidth about one Bark."""
    f = np.linspace(100, 12000, 500)
    for bandwidth, rate, tolerance in (
        (scales.erb_hz, scales.hz_to_erb_rate, 0.01),
        (scales.critical_bandwidth_hz, scales.hz_to_bark, 0.2),
    ):
        half = bandwidth(f) / 2
        np.testing.assert_allclose(rate(f + half) - rate(f - half), 1, atol=tolerance)


def test_erb_rate_inverts():
    np.testing.assert_allclose(scales.erb_rate_to_hz(scales.hz_to_erb_rate(HEARING_HZ)), HEARING_HZ, atol=1e-9)


def test_threshold_in_quiet_matches_the_table():
    """Ledger row 13, definitions 2.7, the minimum and the clamp at 20 Hz included."""
    levels = scales.threshold_in_quiet_db_spl([100, 500, 1000, 4000, 8000])
    np.testing.assert_allclose(levels, [22.953, 6.279, 3.369, -3.388, 4.786], atol=5.01e-4)
    f = np.arange(0, 16000)
    curve = scales.threshold_in_quiet_db_spl(f)
    assert f[curve.argmin()] == 3324 and curve.min() == pytest.approx(-4.983, abs=5.01e-4)
    assert np.isfinite(curve).all() and (curve[:20] == curve[20]).all() and curve[20] > curve[21]


def test_calibration_moves_the_threshold_and_nothing_else():
    """Played 6 dB louder, a sine may have 6 dB less in the file; at 90 dB the least audible is below one of 16 bits."""
    f = HEARING_HZ[1:]
    soft, loud = (scales.threshold_in_quiet_db(f, full_scale_db_spl=level) for level in (90, 96))
    np.testing.assert_allclose(soft - loud, 6, atol=1e-9)
    assert -96 < soft.min() < -90


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scales.hz_to_bark(100, "zwiker"), "scale is 'zwiker'; choose one of zwicker, "),
        (lambda: scales.hz_to_bark([100, -1]), "frequency_hz holds -1.0; it must be at least 0"),
        (lambda: scales.threshold_in_quiet_db(100, full_scale_db_spl=float("nan")), "is nan; it must be finite"),
    ],
)
def test_errors_name_value_limit_and_mend(call, message):
    with pytest.raises(ValueError, match=message):
        call()
