"""Hold signal metrics against stated values and the properties that define them."""

import dataclasses

import numpy as np
import pytest
import scipy.signal

from audiodiff import dsp
from audiodiff.metrics import signal

TARGET, ESTIMATE = np.array([3, -0.5, 2, 7]), np.array([2.5, 0, 2, 8])  # the example in torchmetrics' documentation
SPEC = dsp.MelSpec(rate_hz=8000, stft=dsp.StftSpec(256, 64), bands=32, fmax_hz=4000.0, floor=1e-7)
METRICS = {
    "snr": signal.snr,
    "segmental_snr": lambda x, s, **kw: signal.segmental_snr(x, s, 200, **kw),
    "si_sdr": signal.si_sdr,
    "si_sdr, means kept": lambda x, s, **kw: signal.si_sdr(x, s, zero_mean=False, **kw),
    "mcd": lambda x, s, **kw: signal.mel_cepstral_distortion(x, s, SPEC, **kw),
    "mcd, aligned": lambda x, s, **kw: signal.mel_cepstral_distortion(x, s, SPEC, aligned=True, **kw),
}
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


def _noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(scale=0.1, size=shape)


def test_values_of_the_worked_example():
    """Ledger row 81: definitions 2.4."""
    assert signal.snr(ESTIMATE, TARGET) == pytest.approx(16.1804810, abs=1e-6)
    assert signal.si_sdr(ESTIMATE, TARGET, zero_mean=False) == pytest.approx(18.4029916, abs=1e-6)
    assert signal.si_sdr(ESTIMATE, TARGET) == pytest.approx(15.0917562, abs=1e-6)


@pytest.mark.parametrize("zero_mean", [True, False])
def test_si_sdr_is_blind_to_gain_and_sign_and_sees_orthogonal_noise_alone(zero_mean):
    """Ledger row 81: noise orthogonal to the target at -20 dB of it leaves 20 dB."""
    s, noise = _noise(2, 1000)
    s, noise = s - s.mean(), noise - noise.mean()
    noise -= s * (noise @ s) / (s @ s)
    x = s + 0.1 * noise * np.linalg.norm(s) / np.linalg.norm(noise)
    for gain in (1, 1e-4, -3, 1e5):
        assert signal.si_sdr(gain * x, s, zero_mean) == pytest.approx(20, abs=1e-9)
        assert signal.si_sdr(x, gain * s, zero_mean) == pytest.approx(20, abs=1e-9)
    offset = signal.si_sdr(x + 0.5, s, zero_mean)
    assert offset == pytest.approx(20, abs=1e-9) if zero_mean else offset < 0


@pytest.mark.oracle
def test_ratios_equal_torchmetrics_and_auraloss():
    """Ledger row 81: clips with a mean, from -5 to 30 dB; auraloss adds 1e-8 to sums of squares of 0.005 and more."""
    import auraloss.time
    import torch
    from torchmetrics.functional import audio

    s = _noise(3, 2000) + 0.3
    x = 0.7 * s + np.array([[0.02], [0.1], [1.0]]) * (_noise(3, 2000, seed=1) + 0.2)
    estimate, target = torch.from_numpy(x), torch.from_numpy(s)
    np.testing.assert_allclose(signal.snr(x, s), audio.signal_noise_ratio(estimate, target), rtol=1e-12)
    for zero_mean in (True, False):
        ours = signal.si_sdr(x, s, zero_mean)
        theirs = audio.scale_invariant_signal_distortion_ratio(estimate, target, zero_mean)
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)
        loss = auraloss.time.SISDRLoss(zero_mean, reduction="none")(estimate, target)
        np.testing.assert_allclose(ours, -loss, atol=1e-5)
    unshifted = auraloss.time.SNRLoss(zero_mean=False, reduction="none")(estimate, target)
    np.testing.assert_allclose(signal.snr(x, s), -unshifted, atol=1e-5)


def test_limits_are_infinite_and_no_number_is_made_up():
    """Ledger row 81."""
    s = _noise(500)
    assert signal.snr(s, s) == signal.si_sdr(s, s) == np.inf
    assert signal.segmental_snr(s, s, 100) == 35
    assert signal.snr(0 * s, s) == pytest.approx(0, abs=1e-12)
    assert signal.segmental_snr(0 * s, s, 100) == pytest.approx(0, abs=1e-12)
    assert np.isnan(signal.si_sdr(0 * s, s))
    assert signal.si_sdr([0.0, 1.0], [1.0, 0.0], zero_mean=False) == -np.inf
    assert np.isnan(signal.si_sdr(s, np.full(500, 0.3)))  # a constant has nothing but its mean


def test_segmental_snr_is_the_mean_of_clipped_frames_with_sound():
    """Ledger row 81: frames at 6.02, 40 (clipped to 35), -20 (clipped to -10) dB, and one of silence."""
    s = np.ones(40)
    error = np.repeat([0.5, 0.01, 10, 0.7], 10)
    s[30:] = 0
    expected = [20 * np.log10(2), 35, -10]
    assert signal.segmental_snr(s + error, s, 10) == pytest.approx(np.mean(expected), abs=1e-9)
    assert signal.segmental_snr(s + error, s, 10, limits_db=(-50, 50)) == pytest.approx(
        np.mean([expected[0], 40, -20]), abs=1e-9
    )
    overlapped = signal.segmental_snr((s + error)[:20], s[:20], 10, hop_samples=10)
    assert overlapped == pytest.approx(np.mean(expected[:2]), abs=1e-9)
    assert signal.segmental_snr((s + error)[:19], s[:19], 10) == pytest.approx(expected[0], abs=1e-9)  # tail dropped


def test_the_constant_of_mel_cepstral_distortion():
    """Ledger row 82: definitions 2.3; a difference of one in one coefficient, and any in c_0."""
    np.testing.assert_allclose(signal.MCD_DB, 6.141851463713754, rtol=1e-15)
    target = _noise(5, 25)
    one = target.copy()
    one[:, 7] += 1
    assert signal.cepstral_distortion(one, target) == pytest.approx(6.141851463713754, rel=1e-12)
    level = target.copy()
    level[:, 0] += 100
    assert signal.cepstral_distortion(level, target) == 0
    assert signal.aligned_cepstral_distortion(level, target) == 0
    assert signal.squared_mfcc_distance(level, target) == pytest.approx(100**2, rel=1e-12)
    assert signal.squared_mfcc_distance(one, target) == pytest.approx(1, rel=1e-12)


def test_full_order_distortion_is_the_decibel_distance_of_log_mels_without_their_levels():
    """Ledger row 82: by Parseval, for either power; this is what sqrt(2) and 10 / ln 10 are there for."""
    x, s = _noise(2, 2000)
    plain = dataclasses.replace(SPEC, log="db")
    x_db, s_db = (np.asarray(dsp.log_mel(clip, plain), np.float64) for clip in (x, s))
    level = signal.mel_cepstra(x, SPEC)[..., 0]
    np.testing.assert_allclose(level, x_db.mean(axis=-1) * np.log(10) / 20, rtol=1e-5)
    difference = x_db - s_db
    difference -= difference.mean(axis=-1, keepdims=True)
    expected = np.sqrt(np.square(difference).mean(axis=-1)).mean()
    assert signal.mel_cepstral_distortion(x, s, SPEC, order=31) == pytest.approx(expected, rel=1e-5)
    squared = dataclasses.replace(SPEC, power=2, floor=1e-14)
    decibels = dataclasses.replace(squared, log="db", top_db=80.0, reference_db=20.0)
    values = [signal.mel_cepstral_distortion(x, s, spec, order=24) for spec in (squared, decibels)]
    assert values[0] == values[1]  # the logarithm, reference and range of a spec play no part
    narrow = signal.mel_cepstral_distortion(x, s, SPEC, order=24)
    assert narrow < expected and values[0] == pytest.approx(narrow, rel=0.1)


def test_distortion_is_zero_on_itself_blind_to_gain_and_sees_a_filter():
    """Ledger row 82."""
    s = _noise(2, 2000)
    np.testing.assert_array_equal(signal.mel_cepstral_distortion(s, s, SPEC), 0)
    np.testing.assert_allclose(signal.mel_cepstral_distortion(0.3 * s, s, SPEC), 0, atol=1e-3)
    coloured = [scipy.signal.lfilter([1, a], [1], s) for a in (0.2, 0.5, 0.9)]
    errors = [signal.mel_cepstral_distortion(x, s, SPEC).mean() for x in coloured]
    assert 0.1 < errors[0] < errors[1] < errors[2]


def test_alignment_forgives_repeated_frames_and_is_a_mean_over_the_path():
    """Ledger row 82."""
    x, s = _noise(2, 12, 25)
    assert signal.aligned_cepstral_distortion(np.repeat(s, 3, axis=0), s) == 0
    assert signal.aligned_cepstral_distortion(s, np.repeat(s, [1, 2] * 6, axis=0)) == 0
    assert 0 < signal.aligned_cepstral_distortion(x, s) < signal.cepstral_distortion(x, s)
    held = np.broadcast_to(s[0], x.shape)  # one frame has one path only, and the mean is over its steps
    for pair in ((x, s[:1]), (s[:1], x)):
        assert signal.aligned_cepstral_distortion(*pair) == pytest.approx(signal.cepstral_distortion(x, held))


def test_a_penalty_charges_for_length_what_alignment_forgives():
    """Ledger row 82: twice the frames cost twice as much, either way round; equal lengths and equal clips nothing."""
    s = _noise(6, 25)
    x = np.repeat(_noise(6, 25, seed=1), 2, axis=0)
    for pair in ((x, s), (s, x)):
        plain = signal.aligned_cepstral_distortion(*pair)
        assert signal.aligned_cepstral_distortion(*pair, penalise_length=True) == pytest.approx(2 * plain, rel=1e-12)
    x = x[::2]
    assert signal.aligned_cepstral_distortion(x, s, True) == signal.aligned_cepstral_distortion(x, s)
    assert signal.aligned_cepstral_distortion(np.repeat(s, 3, axis=0), s, True) == 0
    short, long = _noise(1, 1024), _noise(1, 4096, seed=1)  # 16 and 64 hops, one frame more where they are centred
    charged, plain = (
        signal.mel_cepstral_distortion(long, short, SPEC, aligned=True, penalise_length=on) for on in (True, False)
    )
    assert 3.5 < charged / plain <= 4


def test_alignment_forgives_a_pause_in_audio():
    """Ledger row 82: a tone held longer and a later start, as in speech at another pace."""
    t = np.arange(1600) / 8000
    low, high = np.sin(2 * np.pi * 300 * t), np.sin(2 * np.pi * 1500 * t)
    s, x = np.concatenate([low, high]), np.concatenate([low, low, high])
    pair = signal.mel_cepstral_distortion(np.stack([x, x]), np.stack([s, 0 * s]), SPEC, aligned=True)
    assert pair[0] < 1 and np.isnan(pair[1])
    assert signal.mel_cepstral_distortion(x[: len(s)], s, SPEC) > 5


@every_metric
def test_silence_is_not_a_number_or_an_error(metric):
    """Ledger rows 81 and 82: each clip of a batch by itself."""
    s = _noise(3, 800)
    x = s + 0.1 * _noise(3, 800, seed=1)
    s[1] = 0
    values = metric(x, s)
    assert values.shape == (3,) and values.dtype == np.float64
    np.testing.assert_array_equal(np.isnan(values), [False, True, False])
    with pytest.raises(ValueError, match="1 of 3 targets are silent .* pass silence='nan'"):
        metric(x, s, silence="raise")
    with pytest.raises(ValueError, match="silence is 'skip'; choose one of"):
        metric(x, s, silence="skip")


@every_metric
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_sample_makes_its_clip_not_a_number(metric, bad):
    """Also where it lies past the last whole frame, or where the target is silent."""
    s = _noise(4, 850)
    x = s + 0.1 * _noise(4, 850, seed=1)
    s[2, :400] = 0
    x[1, 849], x[2, 10], s[3, 5] = bad, bad, bad
    np.testing.assert_array_equal(np.isnan(metric(x, s)), [False, True, True, True])


@every_metric
def test_shapes_that_do_not_match_are_refused(metric):
    with pytest.raises(ValueError, match=r"estimate of shape \(2, 800\) .* target of shape \(3, 800\)"):
        metric(np.ones((2, 800)), np.ones((3, 800)))
    with pytest.raises(ValueError, match=r"the target of shape \(2, 0\) holds no samples"):
        metric(np.ones((2, 800)), np.ones((2, 0)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: signal.snr(np.ones(5), np.ones(6)), r"\(5,\) cannot be compared with a target of shape \(6,\)"),
        (lambda: signal.mel_cepstral_distortion(np.ones(500), np.ones(501), SPEC), r"\(500,\) cannot be compared"),
        (lambda: signal.segmental_snr(np.ones(5), np.ones(5), 6), "a clip of 5 samples holds no frame of 6"),
        (lambda: signal.segmental_snr(np.ones(5), np.ones(5), 2, 0), "at a hop of 0"),
        (lambda: signal.segmental_snr(np.ones(5), np.ones(5), 2, limits_db=(3, 3)), r"limits_db is \(3, 3\)"),
        (lambda: signal.mel_cepstra(np.ones(500), SPEC, 32), "order is 32; it must be from 1 to 31"),
        (lambda: signal.cepstral_distortion(np.ones((3, 5)), np.ones((4, 5))), r"\(3, 5\) and \(4, 5\) cannot be"),
        (lambda: signal.squared_mfcc_distance(np.ones((0, 5)), np.ones((0, 5))), r"\(0, 5\) cannot be compared"),
        (lambda: signal.aligned_cepstral_distortion(np.ones((0, 5)), np.ones((3, 5))), "hold no path"),
    ],
)
def test_errors_name_value_and_limit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
