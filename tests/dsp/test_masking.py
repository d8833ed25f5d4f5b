"""Hold the masking model against what is known of masking, with tones and noises whose levels are set by hand."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from jax.test_util import check_grads

from audiodiff import dsp
from audiodiff.dsp import masking
from audiodiff.dsp.auditory_scales import hz_to_bark, threshold_in_quiet_db_spl

RATE, SAMPLES = 16000, 4000
SPEC = masking.MaskingSpec(rate_hz=RATE, full_scale_db_spl=96.0, fft_samples=512, hop_samples=128)
INSIDE = slice(4, -4)  # frames that the clip fills

jitted = functools.partial(jax.jit, static_argnames="spec")
threshold_of = jitted(masking.masking_threshold_db_spl)
lasting = jax.jit(masking.temporal_masking_db_spl, static_argnames=("spec", "causal"))
noise_to_mask = jitted(masking.noise_to_mask_db)
distance = jitted(masking.masked_distance)
band_levels = jax.jit(lambda x: masking.level_db_spl(masking.bark_power(x, SPEC), SPEC))


def tone(frequency_hz, level_db_spl):
    amplitude = 10 ** ((level_db_spl - SPEC.full_scale_db_spl) / 20)
    return (amplitude * np.sin(2 * np.pi * frequency_hz / RATE * np.arange(SAMPLES) + 0.4)).astype(np.float32)


def noise(low_hz, high_hz, level_db_spl, seed=0):
    """Gaussian noise within a band, at the level of a tone of the same mean square."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=SAMPLES))
    f = np.fft.rfftfreq(SAMPLES, 1 / RATE)
    x = np.fft.irfft(np.where((f >= low_hz) & (f <= high_hz), spectrum, 0), SAMPLES)
    return (x * 10 ** ((level_db_spl - SPEC.full_scale_db_spl) / 20) / np.sqrt(2 * np.mean(x**2))).astype(np.float32)


def band_of(frequency_hz):
    return int(hz_to_bark(frequency_hz))


# Levels in bands


def test_a_tone_has_its_level_in_its_band_and_a_full_scale_one_the_calibration():
    for frequency_hz, level in ((253.1, 40.0), (1007.0, 96.0), (5210.0, 12.0)):
        levels = np.asarray(band_levels(tone(frequency_hz, level)))[INSIDE]
        np.testing.assert_allclose(levels[:, band_of(frequency_hz)], level, atol=0.3)


@pytest.mark.parametrize("fft_samples", [512, 511])
def test_bands_add_up_to_the_windowed_mean_square(fft_samples):
    """Parseval, with the half spectrum's doubling rule from dsp.half_spectrum_energy."""
    spec = dataclasses.replace(SPEC, fft_samples=fft_samples)
    x = noise(0, RATE / 2, 80) + 0.1
    frames = dsp.half_spectrum_energy(dsp.power(dsp.stft(x, spec.stft)), fft_samples)
    np.testing.assert_allclose(masking.bark_power(x, spec).sum(axis=-1), frames, rtol=1e-5)


# Simultaneous masking


def test_spreading_matches_the_table():
    """Ledger row 14, definitions 2.7: 25 dB per Bark below the masker, 10 above."""
    np.testing.assert_allclose(masking.spreading_db([0, 1, -1]), [-0.0014, -4.306, -7.908], atol=5.01e-4)
    far = masking.spreading_db([-2001, -2000, 2000, 2001])
    np.testing.assert_allclose([far[1] - far[0], far[2] - far[3]], [25, 10], atol=1e-3)


def test_the_threshold_peaks_at_the_masker_and_spreads_wider_upwards():
    """Ledger row 14: for tones in five bands, and by the spreading's own slopes where the offset is a noise's."""
    for frequency_hz in (430.0, 1010.0, 1600.0, 2530.0, 4030.0):
        curve = np.asarray(threshold_of(tone(frequency_hz, 80), SPEC))[INSIDE].mean(axis=0) - SPEC.quiet_db_spl()
        peak = band_of(frequency_hz)
        assert curve.argmax() == peak
        assert np.diff(curve[: peak + 1]).min() > -1e-4 and np.diff(curve[peak:]).max() < 1e-4
        assert curve[peak + 3] > curve[peak - 3] + 10
    louder = dataclasses.replace(SPEC, full_scale_db_spl=400.0)  # the threshold in quiet out of the way
    curve = np.asarray(masking.threshold_of_bands_db_spl(np.eye(SPEC.bands)[10] / 2, 0.0, louder))
    assert curve[15] - curve[16] == pytest.approx(10, abs=0.5)
    assert curve[5] - curve[4] == pytest.approx(25, abs=0.5)


def test_equal_powers_keep_their_level_but_for_the_offset():
    """Ledger row 14: the spreading's gain is divided out, so noise hides 5.5 dB below itself and tones 15 to 36."""
    flat = np.full(SPEC.bands, 0.5, np.float32)  # 96 dB in every band
    below = [SPEC.full_scale_db_spl - masking.threshold_of_bands_db_spl(flat, a, SPEC) for a in (0.0, 1.0)]
    np.testing.assert_allclose(below[0], 5.5, atol=1e-3)
    np.testing.assert_allclose(below[1], np.arange(15, 15 + SPEC.bands), atol=1e-3)


@pytest.mark.parametrize("band_offset", [-1, 0, 2, 4])
@pytest.mark.parametrize("margin_db", [-3.0, 3.0])
def test_a_maskee_is_heard_above_the_threshold_and_not_below(band_offset, margin_db):
    """Ledger row 14: a tone is added to a tone of 75 dB, 3 dB below and above the threshold of the tone's band."""
    threshold = np.asarray(threshold_of(tone(1010.0, 75), SPEC))[INSIDE]
    band = band_of(1010.0) + band_offset
    inside_hz = SPEC.bins_hz[hz_to_bark(SPEC.bins_hz).astype(int) == band]
    maskee = tone(inside_hz.mean() + 7.0, threshold[:, band].mean() + margin_db)
    heard = np.asarray(noise_to_mask(maskee, threshold_of(tone(1010.0, 75), SPEC), SPEC))[INSIDE] > 0
    assert heard[:, band].all() == heard.any() == (margin_db > 0)


@pytest.mark.parametrize("frequency_hz", [250.0, 1000.0, 3300.0, 7000.0])
def test_in_quiet_a_tone_is_heard_from_its_threshold_on(frequency_hz):
    """Ledger row 14: against silence, to the 3 dB by which the threshold varies within one Bark."""
    quiet = threshold_of(np.zeros(SAMPLES, np.float32), SPEC)
    for margin_db in (-3.0, 3.0):
        level = threshold_in_quiet_db_spl(frequency_hz) + margin_db
        heard = np.asarray(noise_to_mask(tone(frequency_hz, level), quiet, SPEC))[INSIDE] > 0
        assert heard.any(axis=1).all() == heard.any() == (margin_db > 0)


def test_no_band_hides_what_can_be_heard_in_quiet():
    quiet = SPEC.quiet_db_spl()[hz_to_bark(SPEC.bins_hz).astype(int)]
    assert (quiet <= threshold_in_quiet_db_spl(SPEC.bins_hz)).all()


def test_noise_hides_more_than_a_tone():
    """The asymmetry of masking (Hellman, 1972): white noise is no tone, and hides up to nearly its own level."""
    white, sine = noise(0, RATE / 2, 80), tone(1010.0, 80)
    tonal = [np.asarray(masking.tonality(x, SPEC))[INSIDE] for x in (white, sine, 0 * sine)]
    assert tonal[0].max() < 0.15 and tonal[1].min() > 0.95 and (tonal[2] == 0).all()
    gaps = [np.asarray(band_levels(x) - threshold_of(x, SPEC))[INSIDE, band_of(1010.0)].mean() for x in (white, sine)]
    assert 3 < gaps[0] < 8 and 20 < gaps[1] < 28


def test_threshold_follows_the_level_of_the_masker():
    """10 dB more of masker is 10 dB more of threshold where masking rules, and nothing where quiet does."""
    soft, loud = (np.asarray(threshold_of(noise(700, 1300, level), SPEC))[INSIDE] for level in (60, 70))
    masked = soft > SPEC.quiet_db_spl() + 5
    assert masked.any() and (loud - soft).max() < 11
    np.testing.assert_allclose((loud - soft)[masked], 10, atol=0.1)


# Temporal masking


def burst_threshold(frames=80, at=40, level_db=60.0):
    threshold = np.tile(SPEC.quiet_db_spl(), (frames, 1)).astype(np.float32)
    threshold[at] += level_db
    return threshold


def masking_by_lag(spec=SPEC, **keywords):
    """The masking above the threshold in quiet after and before one frame of masker, [lag]."""
    above = np.asarray(lasting(burst_threshold(), spec, **keywords))[:, 8] - SPEC.quiet_db_spl()[8]
    return above[40:], above[40::-1]


def test_forward_masking_lasts_longer_than_backward_and_both_fall():
    """Ledger row 15: 200 ms against 20 ms, and never rising."""
    forward, backward = masking_by_lag()
    hop_s = SPEC.hop_samples / RATE
    assert (np.diff(forward) <= 0).all() and (np.diff(backward) <= 0).all()
    assert (forward[1:] >= backward[: len(forward)][1:]).all()
    lasts = [np.flatnonzero(x > 1e-3).max() * hop_s for x in (forward, backward)]
    assert 0.18 < lasts[0] < 0.2 and 0.01 < lasts[1] < 0.02
    assert forward[0] == pytest.approx(60, abs=1e-4)


def test_decay_is_a_line_over_the_logarithm_of_time_and_proportional_to_the_masker():
    """Ledger row 15: each doubling of the delay takes the same number of dB (Jesteadt, Bacon and Lehman, 1982)."""
    forward, _ = masking_by_lag()
    np.testing.assert_allclose(np.diff(forward[[1, 2, 4, 8, 16]], 2), 0, atol=1e-3)
    half = np.asarray(lasting(burst_threshold(level_db=30.0), SPEC))[40:, 8] - SPEC.quiet_db_spl()[8]
    np.testing.assert_allclose(half, forward / 2, atol=1e-3)


def test_causal_masking_does_not_know_the_future():
    """Ledger row 15: the causal flag drops the backward part, keeps the forward one."""
    forward, backward = masking_by_lag(causal=True)
    np.testing.assert_allclose(backward[1:], 0, atol=1e-4)
    np.testing.assert_array_equal(forward, masking_by_lag()[0])
    threshold = np.asarray(threshold_of(noise(0, 8000, 70), SPEC))
    later = threshold.copy()
    later[20:] += 100
    causal, both = ([np.asarray(lasting(x, SPEC, causal=c)) for x in (threshold, later)] for c in (True, False))
    np.testing.assert_array_equal(causal[0][:20], causal[1][:20])
    assert (both[0][:20] != both[1][:20]).any()


def test_without_durations_nothing_lasts():
    spec = dataclasses.replace(SPEC, forward_s=0, backward_s=0)
    threshold = burst_threshold()
    np.testing.assert_allclose(lasting(threshold, spec), threshold, atol=1e-4)


def test_a_click_after_a_burst_is_hidden_and_long_after_it_heard():
    """Ledger row 15, from the audio on: the same soft burst 40 ms and 400 ms behind a loud one."""
    place = np.arange(2 * SAMPLES)
    burst = lambda start, level: np.where((place >= start) & (place < start + 400), np.tile(tone(1010.0, level), 2), 0)  # noqa: E731
    threshold = lasting(threshold_of(burst(800, 95), SPEC), SPEC)
    heard = [np.asarray(noise_to_mask(burst(1200 + late, 12), threshold, SPEC) > 0).any() for late in (640, 6400)]
    assert heard == [False, True]


# Distances


def test_masked_noise_costs_less_than_the_same_noise_unmasked():
    """Ledger row 94: equal powers of noise, under a loud band and where there is nothing."""
    threshold = threshold_of(noise(900, 1100, 85), SPEC)
    hidden, bare = noise(920, 1080, 45, seed=1), noise(3000, 3700, 45, seed=1)
    assert np.mean(hidden**2) == pytest.approx(np.mean(bare**2), rel=1e-5)
    assert np.asarray(noise_to_mask(hidden, threshold, SPEC))[INSIDE].max() < 0
    assert distance(hidden, threshold, SPEC) < 0.1 * distance(bare, threshold, SPEC)


def test_the_same_noise_costs_less_under_a_louder_masker_and_nothing_costs_nothing():
    """Ledger row 94."""
    error = noise(920, 1080, 55, seed=1)
    costs = [float(distance(error, threshold_of(noise(900, 1100, level), SPEC), SPEC)) for level in (40, 60, 80)]
    assert costs[0] > 2 * costs[1] > 4 * costs[2] > 0
    assert distance(0 * error, threshold_of(error, SPEC), SPEC) == 0


def test_distance_counts_decibels_above_the_threshold_and_power_below():
    threshold = np.tile(SPEC.quiet_db_spl(), (dsp.frame_count(SAMPLES, SPEC.stft), 1)) + 30
    white = noise(0, RATE / 2, 80)
    loud, louder = (float(distance(gain * white, threshold, SPEC)) for gain in (100, 1000))
    assert louder - loud == pytest.approx(20, abs=0.01)
    soft, softer = (float(distance(gain * white, threshold, SPEC)) for gain in (1e-5, 0.5e-5))
    assert soft < 1e-3 and soft / softer == pytest.approx(4, rel=1e-3)


def test_weights_follow_the_threshold_in_quiet():
    """Ledger row 94: for a silent target, to the dB that the threshold moves within one Bark."""
    weights = np.asarray(masking.masking_weights(threshold_of(np.zeros(SAMPLES, np.float32), SPEC), SPEC))[5]
    inside = (SPEC.bins_hz > 300) & (SPEC.bins_hz < 7600)
    weights_db, quiet = 10 * np.log10(weights[inside]), threshold_in_quiet_db_spl(SPEC.bins_hz[inside])
    np.testing.assert_allclose(weights_db - weights_db.max(), quiet.min() - quiet, atol=4)


def test_weighted_powers_add_up_to_the_noise_to_mask_ratio():
    error, threshold = noise(0, 8000, 50), threshold_of(noise(500, 3000, 70, seed=2), SPEC)
    weighted = masking.masking_weights(threshold, SPEC) * dsp.power(dsp.stft(error, SPEC.stft))
    ratio = 10 ** (noise_to_mask(error, threshold, SPEC) / 10)
    np.testing.assert_allclose(weighted.sum(axis=-1), ratio.sum(axis=-1), rtol=1e-4)


# Arrays


def whole(error, target, spec=SPEC):
    threshold = masking.temporal_masking_db_spl(masking.masking_threshold_db_spl(target, spec), spec)
    return masking.masked_distance(error, threshold, spec).sum()


gradients = jax.jit(jax.grad(whole, argnums=(0, 1)))


def test_gradients_are_finite_at_silence():
    silence = np.zeros(SAMPLES, np.float32)
    for error, target in ((silence, silence), (silence, tone(1010.0, 80)), (silence + 1e-6, silence)):
        assert all(np.isfinite(gradient).all() for gradient in gradients(error, target))


def test_the_gradient_spends_itself_on_what_is_heard():
    """Of two tones of 40 dB in the error, the one under a tone of 90 dB is left alone."""
    hidden, heard = tone(1050.0, 40), tone(3010.0, 40)
    gradient = np.asarray(gradients(hidden + heard, tone(1010.0, 90))[0])
    assert 0 < gradient @ hidden < 0.05 * (gradient @ heard)


def test_gradient_equals_finite_differences_and_float64_stays():
    spec = masking.MaskingSpec(rate_hz=8000, full_scale_db_spl=96.0, fft_samples=128, hop_samples=64)
    loss = jax.jit(lambda error, target: whole(error, target, spec))
    with jax.enable_x64(True):
        x = 0.1 * np.random.default_rng(0).normal(size=(2, 300))
        assert loss(*x).dtype == np.float64
        assert loss(*x.astype(np.float32)).dtype == np.float32
        check_grads(loss, tuple(x), order=1, modes=["rev"], eps=1e-6)


def test_leading_axes_and_disabled_jit():
    x = np.stack([noise(0, 8000, 70), tone(1010.0, 70)])[..., :1000]
    both = threshold_of(x[None], SPEC)
    assert both.shape == (1, 2, dsp.frame_count(1000, SPEC.stft), SPEC.bands)
    with jax.disable_jit():
        np.testing.assert_allclose(masking.masking_threshold_db_spl(x[1], SPEC), both[0, 1], atol=1e-2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate_hz": 0}, "rate_hz is 0; it must be above 0"),
        ({"full_scale_db_spl": float("inf")}, "full_scale_db_spl is inf; it must be finite"),
        ({"fft_samples": 100}, "fft_samples is 100, and its bins at 16000 Hz leave Bark .* take at least 178"),
        ({"forward_s": -1.0}, "forward_s is -1.0; it must be above 0.001 s, or 0"),
        ({"hop_samples": 0}, "hop_samples is 0; it must be at least 1"),
    ],
)
def test_errors_name_value_limit_and_mend(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SPEC, **changes)


@pytest.mark.parametrize("rate_hz", [8000, 11025, 16000, 22050, 44100, 48000])
def test_the_mend_for_a_short_fft_mends(rate_hz):
    assert dataclasses.replace(SPEC, rate_hz=rate_hz, fft_samples=-(-rate_hz // 90)).bands > 15


def test_thresholds_of_another_length_are_refused():
    with pytest.raises(ValueError, match="one length with one spec"):
        masking.noise_to_mask_db(np.zeros(SAMPLES), np.zeros((7, SPEC.bands)), SPEC)
