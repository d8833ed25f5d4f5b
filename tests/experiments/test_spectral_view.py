"""Hold the bands of the spectral view against white noise, sinusoids and levels that are known."""

import runpy

import jax
import numpy as np
import pytest
from launching import ROOT

from audiodiff.diffusion.processes import Edm, RectifiedFlow, VpCosine, VpLinear

STUDY = runpy.run_path(str(ROOT / "experiments" / "studies" / "spectral_view.py"))
band_energy, noise_share, crossing = (STUDY[name] for name in ("band_energy", "noise_share", "crossing"))


@pytest.mark.parametrize(("length", "bands"), [(8192, 16), (1000, 7), (999, 4)])
def test_bands_share_out_the_mean_square_and_white_noise_fills_each_by_its_width(length, bands):
    """Ledger row 112: Parseval, with DC and the bin at half the rate, and noise in proportion to the bins."""
    x = np.random.default_rng(0).normal(size=(400, length))
    energy = np.asarray(band_energy(x, bands))
    np.testing.assert_allclose(energy.sum(axis=-1), np.mean(x**2, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(energy.mean(axis=0), noise_share(length, bands), rtol=0.02)
    assert noise_share(length, bands).sum() == pytest.approx(1)


def test_a_sinusoid_is_in_its_band_with_half_its_squared_amplitude():
    """Ledger row 112: 1,300 Hz at 8 kHz is in band 5 of 16, each 250 Hz wide; a bin on an edge in the band above."""
    time_s = np.arange(8000) / 8000
    for frequency_hz, band in ((1300, 5), (1250, 5), (1249, 4), (3999, 15)):
        energy = np.asarray(band_energy(0.3 * np.sin(2 * np.pi * frequency_hz * time_s), 16))
        np.testing.assert_allclose(energy, 0.045 * (np.arange(16) == band), atol=1e-6)


@pytest.mark.parametrize("process", [VpLinear(), VpCosine(), Edm()])
def test_at_the_crossing_signal_and_noise_are_equally_strong(process):
    """Ledger row 112: where a variable of variance r is corrupted at the crossing of r, half of x_t is noise."""
    for variance in (0.01, 1.0):
        t = crossing(process, variance)
        x0 = np.sqrt(variance) * jax.random.normal(jax.random.key(1), (1, 200_000))
        x_t, _ = process.corrupt(jax.random.key(2), x0, np.float32(t)[None])
        signal = float(process.alpha(np.float32(t))) * x0
        assert float(np.var(x_t - signal)) == pytest.approx(float(np.var(signal)), rel=0.02)


def test_crossings_have_their_closed_forms():
    """Ledger row 112: on a straight line t / (1 - t) = sqrt(r); on Karras' path sigma = sqrt(r), none below 0.002."""
    ratio = np.array([0.01, 1.0, 9.0])
    np.testing.assert_allclose(crossing(RectifiedFlow(), ratio), [1 / 11, 1 / 2, 3 / 4], rtol=1e-5)
    sigma = Edm().sigma(crossing(Edm(), ratio))
    np.testing.assert_allclose(sigma, np.sqrt(ratio), rtol=1e-4)
    assert np.isnan(crossing(Edm(), 1e-6)) and np.isnan(crossing(Edm(), 1e4))


def test_a_measured_crossing_is_interpolated_between_times():
    """Ledger row 112: signal 2, 1.5, 0.5 over noise 1 crosses between the last two, by the logarithm of the ratio."""
    t = np.array([0.1, 0.2, 0.4])
    found = STUDY["crossing_of_parts"](t, np.array([2, 1.5, 0.5, 1, 1, 1]))
    assert found == pytest.approx(0.2 + 0.2 * np.log(1.5) / np.log(3))
