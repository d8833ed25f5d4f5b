"""Hold windows against scipy and the tables of textbooks, and the overlap checks against the definition."""

import numpy as np
import pytest
import scipy.signal

from audiodiff import dsp

SCIPY_NAMES = {"hann": "hann", "hamming": "hamming", "blackman": "blackman", "rectangular": "boxcar"}


@pytest.mark.parametrize("name", SCIPY_NAMES)
@pytest.mark.parametrize("length", [1, 2, 7, 256])
@pytest.mark.parametrize("symmetric", [False, True])
def test_windows_equal_scipy(name, length, symmetric):
    expected = scipy.signal.get_window(SCIPY_NAMES[name], length, fftbins=not symmetric)
    np.testing.assert_allclose(dsp.window(name, length, symmetric=symmetric), expected, atol=1e-15)


@pytest.mark.parametrize("symmetric", [False, True])
def test_gaussian_equals_scipy(symmetric):
    expected = scipy.signal.get_window(("gaussian", 9.0), 64, fftbins=not symmetric)
    np.testing.assert_allclose(dsp.gaussian(64, sigma_samples=9.0, symmetric=symmetric), expected, atol=1e-15)


def _spectrum_db(w, oversampling=64):
    magnitudes = np.abs(np.fft.rfft(w, oversampling * len(w)))
    return 20 * np.log10(np.maximum(magnitudes / magnitudes[0], 1e-12))


@pytest.mark.parametrize(
    ("name", "first_null_bin", "side_lobe_db"),
    [("rectangular", 1, -13.26), ("hann", 2, -31.47), ("hamming", 2, -42.66), ("blackman", 3, -58.11)],
)
def test_window_trade_offs_match_known_values(name, first_null_bin, side_lobe_db):
    """Ledger row 7: a lower side lobe is paid for with a wider main lobe."""
    oversampling = 64
    spectrum = _spectrum_db(dsp.window(name, 256), oversampling)
    null = 1 + np.argmax((spectrum[1:-1] < spectrum[:-2]) & (spectrum[1:-1] <= spectrum[2:]))
    assert null / oversampling == pytest.approx(first_null_bin, abs=0.02)
    assert spectrum[null:].max() == pytest.approx(side_lobe_db, abs=0.02)


def _sum_of_copies(w, hop, power):
    """Add shifted copies one by one, far from both ends."""
    total = np.zeros(8 * len(w))
    for start in range(0, len(total) - len(w), hop):
        total[start : start + len(w)] += w**power
    return total[2 * len(w) : 5 * len(w)]


@pytest.mark.parametrize(
    ("length", "hop", "holds"),
    [(1024, 256, True), (1024, 512, True), (512, 128, True), (600, 120, True), (1024, 341, False)],
)
def test_cola_of_hann(length, hop, holds):
    """Definitions 2.1; at 1024 / 256 the copies add up to 2."""
    check = dsp.cola(dsp.hann(length), hop)
    assert bool(check) is check.holds is holds
    total = _sum_of_copies(dsp.hann(length), hop, 1)
    assert check.smallest == pytest.approx(total.min(), rel=1e-12)
    assert check.largest == pytest.approx(total.max(), rel=1e-12)
    assert check.deviation == pytest.approx(np.abs(total / check.constant - 1).max(), abs=1e-12)
    assert holds == scipy.signal.check_COLA("hann", length, length - hop)


def test_cola_constants():
    assert dsp.cola(dsp.hann(1024), 256).constant == pytest.approx(2.0, abs=1e-12)
    assert dsp.cola(dsp.hann(1024) ** 2, 256).constant == pytest.approx(1.5, abs=1e-12)


@pytest.mark.parametrize("name", SCIPY_NAMES)
@pytest.mark.parametrize("hop", [16, 25, 32, 64, 100])
def test_nola_against_the_definition_and_scipy(name, hop):
    w = dsp.window(name, 64)
    check = dsp.nola(w, hop)
    total = _sum_of_copies(w, hop, 2)
    assert (check.smallest, check.largest) == pytest.approx((total.min(), total.max()), rel=1e-12)
    if check:  # ours asks for more than scipy's, never for less
        assert scipy.signal.check_NOLA(w, 64, max(0, 64 - hop))
    assert bool(check) == (hop <= 32 or (hop == 64 and name in ("rectangular", "hamming")))


def test_windows_are_shared_and_therefore_read_only():
    assert dsp.window("hann", 16) is dsp.window("hann", 16)
    with pytest.raises(ValueError, match="read-only"):
        dsp.window("hann", 16)[0] = 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dsp.hann(0), "window of 0 samples .* at least 1"),
        (lambda: dsp.gaussian(8, sigma_samples=0), "sigma_samples is 0; it must be above 0"),
        (lambda: dsp.window("haming", 8), "window is 'haming'; choose one of hamming, "),
        (lambda: dsp.cola(dsp.hann(8), 0), "hop_samples is 0; it must be at least 1"),
    ],
)
def test_errors_name_value_and_limit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
