"""A seam that was planted is found, and a sound that goes on has none."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from audiodiff.metrics.seams import seam_figure, seam_flux, spectral_flux_db

RATE_HZ, HOP = 16_000, 4000
BORDERS = np.arange(HOP, 15 * HOP, HOP)
KEY = jax.random.key(0)


def tone(jumps=0.0, seed=0, clips=4):
    """Return tones with four harmonics and a little noise, their phase thrown by ``jumps`` turns at every border."""
    rng = np.random.default_rng(seed)
    time = np.arange(15 * HOP)
    thrown = np.cumsum(jumps * np.isin(time, BORDERS))
    f0_hz = rng.uniform(110, 250, size=(clips, 1))
    turns = f0_hz * time / RATE_HZ + thrown
    sound = sum(np.sin(2 * np.pi * k * turns + rng.uniform(0, 6)) / k for k in range(1, 5))
    return sound + 0.003 * rng.normal(size=sound.shape)


def figure(audio, borders=BORDERS):
    return seam_figure("seams", seam_flux(audio, borders, RATE_HZ), KEY)


def test_a_continuous_tone_has_no_seam_and_one_with_phase_jumps_has():
    """Ledger row 98: the metric tells a planted seam from none, with an interval that says so."""
    whole, thrown = figure(tone()), figure(tone(0.3))
    assert whole.count == thrown.count == 4 * len(BORDERS)
    assert whole.low < 100 < whole.high
    assert abs(whole.value - 100) < 5
    assert thrown.low > 130


def test_a_seam_is_heard_within_ten_milliseconds_and_no_further():
    """Borders that are told 60 ms beside the jumps hear nothing of them; what they go beside is not less."""
    audio = tone(0.3)
    near, far = figure(audio, BORDERS + 80), figure(audio, BORDERS[:-1] + HOP // 2)
    assert near.low > 120
    assert far.value < 100


def test_a_quieter_jump_is_a_smaller_seam():
    values = [figure(tone(jump)).value for jump in (0.0, 0.05, 0.15, 0.5)]
    assert values == sorted(values)


def test_flux_of_what_is_known():
    """A level that rises by 1 dB a frame has a flux of 1 dB in every bin; a frame that repeats has none."""
    period = np.tile(np.random.default_rng(0).normal(size=64), 20)
    np.testing.assert_allclose(spectral_flux_db(period, 128, 64), 0, atol=1e-6)
    rising = period * 10 ** (np.arange(len(period)) // 64 / 20)
    np.testing.assert_allclose(spectral_flux_db(rising, 64, 64), 1, atol=1e-6)
    assert spectral_flux_db(np.stack([period, rising]), 64, 64).shape == (2, 19)


def test_flux_does_not_hear_the_level_of_a_clip():
    audio = tone(0.2)
    np.testing.assert_allclose(spectral_flux_db(audio, 256, 64), spectral_flux_db(0.01 * audio, 256, 64), rtol=1e-6)


def test_silence_changes_nothing_and_what_is_not_finite_is_no_number():
    assert (spectral_flux_db(np.zeros(1000), 256, 64) == 0).all()
    spoilt = tone()
    spoilt[1, 5] = np.nan
    flux = spectral_flux_db(spoilt, 256, 64)
    assert np.isnan(flux[1]).all()
    assert np.isfinite(flux[0]).all()
    with pytest.raises(ValueError, match="1 of 4 clips are not finite"):
        seam_flux(spoilt, BORDERS, RATE_HZ)
    silent = figure(np.zeros((2, 15 * HOP)))
    assert np.isnan(silent.value)
    assert (silent.low, silent.high) == (-np.inf, np.inf)


@pytest.mark.parametrize("borders", [[4000, 4100, 4200], [-500], [15 * HOP - 5]])
def test_borders_without_surroundings_are_refused(borders):
    with pytest.raises(ValueError, match="the border at sample"):
        seam_flux(tone(), borders, RATE_HZ)


def test_a_clip_without_frames_is_refused():
    with pytest.raises(ValueError, match="a clip of 319 samples has no two frames of 256 at a hop of 64"):
        spectral_flux_db(np.zeros(319), 256, 64)
