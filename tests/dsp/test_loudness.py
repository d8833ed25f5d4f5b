"""Hold loudness against BS.1770's table, scipy's filters, EBU's test signals, and what is known of sones."""

import functools

import jax
import numpy as np
import pytest
import scipy.signal
from jax.test_util import check_grads

from audiodiff.dsp import loudness
from audiodiff.dsp.masking import MaskingSpec

SPEC = MaskingSpec(rate_hz=16000, full_scale_db_spl=96.0, fft_samples=512, hop_samples=256)
STATIC = ("rate_hz", "channel_gains")

k_weight = jax.jit(loudness.k_weight, static_argnames="rate_hz")
integrated = jax.jit(loudness.integrated_loudness_lkfs, static_argnames=STATIC)
level = jax.jit(loudness.k_weighted_level_db, static_argnames=STATIC)
sones = jax.jit(functools.partial(loudness.zwicker_loudness_sone, spec=SPEC))


def sine(frequency_hz, level_dbfs, seconds, rate_hz):
    """A sine whose peak lies level_dbfs under 1."""
    n = np.arange(round(seconds * rate_hz))
    return (10 ** (level_dbfs / 20) * np.sin(2 * np.pi * frequency_hz / rate_hz * n)).astype(np.float32)


# K-weighting


@pytest.mark.parametrize(
    ("rate_hz", "shelf", "highpass"),
    [
        (
            48000,
            [1.53512485958697, -2.69169618940638, 1.19839281085285, 1, -1.69065929318241, 0.73248077421585],
            [1, -2, 1, 1, -1.99004745483398, 0.99007225036621],
        ),
        (
            8000,
            [1.3216235689, -0.7262554913, 0.298126246, 1, -0.2933807824, 0.186875106],
            [1, -2, 1, 1, -1.9410133428, 0.9418843042],
        ),
    ],
)
def test_filters_are_the_published_ones(rate_hz, shelf, highpass):
    """Ledger row 93: ITU-R BS.1770-4 tables 1 and 2 at 48 kHz, definitions 2.7 at 8 kHz."""
    np.testing.assert_allclose(loudness.k_weighting(rate_hz), [shelf, highpass], atol=1e-9)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 44100])
def test_filters_weigh_alike_at_every_rate(rate_hz):
    """Ledger row 93: scipy reads the gains; up to a quarter of the rate they are those at 48 kHz to 0.5 dB."""
    f = np.geomspace(20, rate_hz / 4, 200)
    gains = [
        20 * np.log10(np.abs(scipy.signal.sosfreqz(loudness.k_weighting(r), f, fs=r)[1])) for r in (rate_hz, 48000)
    ]
    np.testing.assert_allclose(*gains, atol=0.5)


@pytest.mark.parametrize("rate_hz", [8000, 44100, 48000])
def test_weighted_audio_is_scipys_recursion(rate_hz):
    """Ledger row 93: noise on a constant offset that ends in a step, the worst for a circular product."""
    x = np.random.default_rng(0).normal(size=(2, 5001)) + 3
    expected = scipy.signal.sosfilt(loudness.k_weighting(rate_hz), x)
    np.testing.assert_allclose(k_weight(x.astype(np.float32), rate_hz), expected, atol=5e-6)
    with jax.enable_x64(True):
        np.testing.assert_allclose(k_weight(x, rate_hz), expected, atol=1e-8)


# LKFS


@pytest.mark.parametrize(("rate_hz", "lkfs"), [(48000, -3.0103), (16000, -2.9701), (8000, -2.9962)])
def test_a_full_scale_sine_of_997_hz(rate_hz, lkfs):
    """Ledger row 93, definitions 2.7: -3.01 LKFS mono, gated and ungated, and 3.01 LU more in stereo."""
    x = sine(997, 0, 4, rate_hz)
    assert integrated(x, rate_hz) == pytest.approx(lkfs, abs=2e-4)
    assert level(x, rate_hz) == pytest.approx(lkfs, abs=2e-4)
    both = integrated(np.stack([x, x]), rate_hz, loudness.CHANNEL_GAINS_5_0[:2])
    assert both == pytest.approx(lkfs + 10 * np.log10(2), abs=2e-4)


@pytest.mark.parametrize(
    "levels_and_seconds",
    [
        [(-23, 20)],
        [(-36, 10), (-23, 60), (-36, 10)],
        [(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)],
        [(-26, 20), (-20, 20.1), (-26, 20)],
    ],
    ids=["no gate", "relative gate", "absolute gate", "nothing gated"],
)
def test_gating_passes_the_ebu_signals(levels_and_seconds):
    """Ledger row 93: EBU Tech 3341 cases 1, 3, 4 and 5, stereo sines of 1 kHz that must all read -23.0 +- 0.1 LUFS."""
    x = np.concatenate([sine(1000, level_dbfs, seconds, 8000) for level_dbfs, seconds in levels_and_seconds])
    assert integrated(np.stack([x, x]), 8000, (1.0, 1.0)) == pytest.approx(-23, abs=0.1)


def test_channels_weigh_as_in_the_ebu_signal():
    """Ledger row 93: EBU Tech 3341 case 6, 5.0 channels, -23.0 +- 0.1 LUFS."""
    x = np.stack([sine(1000, dbfs, 4, 8000) for dbfs in (-28, -28, -24, -30, -30)])
    assert integrated(x, 8000, loudness.CHANNEL_GAINS_5_0) == pytest.approx(-23, abs=0.1)
    assert level(x, 8000, loudness.CHANNEL_GAINS_5_0) == pytest.approx(-23, abs=0.1)


def test_the_gates_by_construction():
    """Ledger row 93: a tone, then the same 9, 20 or 80 LU softer: only the first pulls the mean."""
    tone = sine(1000, -10, 10, 8000)
    alone = float(integrated(tone, 8000))
    softer = [float(integrated(np.concatenate([tone, 10 ** (-lu / 20) * tone]), 8000)) - alone for lu in (9, 20, 80)]
    assert softer[0] == pytest.approx(10 * np.log10((1 + 10**-0.9) / 2), abs=0.05)
    np.testing.assert_allclose(softer[1:], 0, atol=0.1)
    faint = sine(1000, -62, 10, 8000)  # -65 LKFS, and 7 LU less is within 10 LU of it but under -70 LKFS
    both = integrated(np.concatenate([faint, 10 ** (-7 / 20) * faint]), 8000)
    assert both == pytest.approx(float(integrated(faint, 8000)), abs=0.1)


# As pyloudnorm 0.2.0 gives them, Meter(rate, filter_class="DeMan").integrated_loudness, for _programme(rate).
PYLOUDNORM = {8000: -9.311583, 48000: -9.606773}


def _programme(rate_hz):
    """Seven seconds of two partials that swell and fade, with 1.5 s of near silence in the middle."""
    t = np.arange(7 * rate_hz) / rate_hz
    swell = 0.3 * (1 - np.cos(2 * np.pi * t / 3.5)) * np.where((t > 3) & (t < 4.5), 1e-4, 1)
    return swell * (np.sin(2 * np.pi * 180 * t) + 0.4 * np.sin(2 * np.pi * 2300 * t))


@pytest.mark.parametrize("rate_hz", PYLOUDNORM)
def test_a_programme_reads_as_pyloudnorm_reads_it(rate_hz):
    """Ledger row 93: an independent implementation's figures, stored."""
    assert integrated(_programme(rate_hz).astype(np.float32), rate_hz) == pytest.approx(PYLOUDNORM[rate_hz], abs=1e-3)


def test_short_clips_have_a_level_under_another_name_and_no_integrated_loudness():
    """Ledger row 93: 43 % of FSDD is shorter than one gating block."""
    short, block = sine(997, -20, 0.399, 8000), sine(997, -20, 0.4, 8000)
    with pytest.raises(ValueError, match="3192 samples is shorter than one gating block of 400 ms, 3200 samples at"):
        loudness.integrated_loudness_lkfs(short, 8000)
    np.testing.assert_allclose([level(short, 8000), integrated(block, 8000)], -23, atol=0.05)
    assert np.isfinite(level(np.ones(1, np.float32), 8000))


def test_silence_has_no_loudness_and_finite_gradients():
    """Ledger row 93: nothing passes the gate, in a batch beside a clip of which something does."""
    x = np.stack([0 * sine(997, 0, 1, 8000), sine(997, -68, 1, 8000), sine(997, 0, 1, 8000)])
    values = np.asarray(integrated(x, 8000))
    assert np.isnan(values[:2]).all() and values[2] == pytest.approx(-3, abs=0.05)
    levels = np.asarray(level(x, 8000))
    assert levels[0] == -np.inf and levels[1] == pytest.approx(-71, abs=0.05)
    for measure in (loudness.integrated_loudness_lkfs, loudness.k_weighted_level_db):
        gradient = jax.jit(jax.grad(lambda x, measure=measure: measure(x, 8000).sum()))(x)
        assert np.isfinite(gradient).all() and (gradient[0] == 0).all() and (gradient[2] != 0).any()


def test_gradient_equals_finite_differences_and_float64_stays():
    with jax.enable_x64(True):
        x = np.random.default_rng(0).normal(size=3400)
        assert integrated(x, 8000).dtype == np.float64
        check_grads(lambda x: integrated(x, 8000), (x,), order=1, modes=["rev"])


# Sones


def test_sones_double_every_ten_phon():
    """Ledger row 93, definitions 2.7."""
    np.testing.assert_allclose(loudness.phon_to_sone([20.0, 40.0, 60.0, 80.0]), [0.25, 1, 4, 16], rtol=1e-6)
    phon = np.linspace(0, 120, 25)
    np.testing.assert_allclose(loudness.sone_to_phon(loudness.phon_to_sone(phon)), phon, atol=1e-4)


def test_sones_are_stevens_power_law():
    """Ledger row 93: the slope of log loudness over log intensity is Stevens' 0.3, to half a percent."""
    slope = np.diff(np.log10(loudness.phon_to_sone([40.0, 100.0]))) / np.diff([4.0, 10.0])
    np.testing.assert_allclose(slope, 0.3, rtol=5e-3)


def test_specific_loudness_starts_at_the_threshold_and_forgets_it_far_above():
    """Ledger row 93: 0 up to the threshold; at 110 dB the same over thresholds of 0 and 10 dB, to half a percent."""
    assert (np.asarray(loudness.specific_loudness([-5.0, 10.0], 10.0)) == 0).all()
    loud = loudness.specific_loudness([110.0, 110.0], [0.0, 10.0])
    assert loud[0] == pytest.approx(float(loud[1]), rel=5e-3)


def loudness_of_tone(level_db_spl, frequency_hz=1007.0):
    return float(sones(sine(frequency_hz, level_db_spl - SPEC.full_scale_db_spl, 0.25, 16000))[8])


def test_zwickers_loudness_of_a_tone():
    """Ledger row 93: 1 sone at 40 dB and 1 kHz, near 2 at 50, nothing at the threshold, growth as stated."""
    loud = [loudness_of_tone(level_db_spl) for level_db_spl in (3, 40, 50, 60, 80)]
    np.testing.assert_allclose(loud, [0, 1, 2, 3.8, 12.2], rtol=0.02, atol=1e-6)
    assert loudness_of_tone(20, 60.0) < 0.1 * loudness_of_tone(20, 1007.0), "bass under the threshold in quiet"


def test_a_wide_sound_is_louder_than_a_narrow_one_of_equal_power():
    """Ledger row 93: two tones add in power within a critical band, and in loudness far apart."""
    one = sine(1007, -40, 0.25, 16000)
    together, apart = ((one + sine(f, -40, 0.25, 16000)) / np.sqrt(2) for f in (1060, 3000))
    near, far, alone = (float(np.mean(sones(x)[3:-3])) for x in (together, apart, one))
    assert near == pytest.approx(alone, rel=0.1) and far > 1.4 * alone


def test_loudness_of_silence_is_zero_with_finite_gradients():
    silence = np.zeros(4000, np.float32)
    assert (np.asarray(sones(silence)) == 0).all()
    assert np.isfinite(jax.jit(jax.grad(lambda x: sones(x).sum()))(silence)).all()


# Errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: loudness.k_weighting(4000), "rate_hz is 4000; K-weighting needs at least 8000; resample"),
        (lambda: level(np.zeros(9), 8000, (1.0, 1.0)), r"channel_gains has 2 entries and the audio the shape \(9,\)"),
        (lambda: level(np.zeros((3, 9)), 8000, (1.0, 1.0)), "with one gain for each channel"),
    ],
)
def test_errors_name_value_limit_and_mend(call, message):
    with pytest.raises(ValueError, match=message):
        call()
