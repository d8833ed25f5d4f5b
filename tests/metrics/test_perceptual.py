"""Hold perceptual metrics against their definitions, their published ends of scale, and noise that makes them worse."""

import functools
import math
import sys

import numpy as np
import pytest
import scipy.signal
import scipy.stats
import soundfile

from audiodiff.metrics import perceptual

METRICS = {
    "stoi": (perceptual.stoi, 10_000),
    "estoi": (functools.partial(perceptual.stoi, extended=True), 10_000),
    "pesq nb": (functools.partial(perceptual.pesq, mode="nb"), 8_000),
    "pesq wb": (functools.partial(perceptual.pesq, mode="wb"), 16_000),
    "visqol speech": (functools.partial(perceptual.visqol, mode="speech"), 16_000),
    "visqol audio": (functools.partial(perceptual.visqol, mode="audio"), 48_000),
}
every_metric = pytest.mark.parametrize(("metric", "rate_hz"), METRICS.values(), ids=METRICS)


@pytest.fixture(scope="module", autouse=True)
def _uncompiled():
    """Keep ViSQOL from compiling its loops for half a minute: without numba it gives the same numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("visqol.numba_accel._HAS_NUMBA", False)
        yield


def _speech(seconds, rate_hz, seed=0):
    """Return noise that falls by 6 dB an octave, in syllables of a third of a second, at an RMS of 0.1."""
    count = round(seconds * rate_hz)
    noise = np.random.default_rng(seed).normal(size=count)
    syllables = 0.05 + np.clip(np.sin(2 * np.pi * 3 * np.arange(count) / rate_hz), 0, 1) ** 2
    speech = scipy.signal.lfilter([1], [1, -0.95], noise) * syllables
    return 0.1 * speech / speech.std()


def _noisy(clip, snr_db, rate_hz):
    return clip + 10 ** (-snr_db / 20) * _speech(len(clip) / rate_hz, rate_hz, seed=1)


def _stoi_by_definition(x, s, extended):
    """Return STOI or ESTOI at 10 kHz from definitions 2.5, segment by segment; the last whole frame is left out."""
    window = scipy.signal.windows.hann(258)[1:-1]

    def frames(z):
        return np.lib.stride_tricks.sliding_window_view(z[:-1], 256)[::128] * window

    level_db = 20 * np.log10(np.linalg.norm(frames(s), axis=1))
    active = level_db > level_db.max() - 40
    edges = np.rint(150 * 2 ** ((np.arange(15)[:, None] + [-0.5, 0.5]) / 3) * 512 / 10_000).astype(int)

    def segments(z):
        kept = frames(z)[active]
        joined = np.zeros(128 * (len(kept) + 1))
        for k, frame in enumerate(kept):
            joined[128 * k : 128 * k + 256] += frame
        power = np.abs(np.fft.rfft(frames(joined), 512)) ** 2
        bands = np.sqrt(np.stack([power[:, low:high].sum(axis=1) for low, high in edges]))
        return np.lib.stride_tricks.sliding_window_view(bands, 30, axis=1).swapaxes(0, 1)

    y, t = segments(x), segments(s)
    if extended:
        y, t = (scipy.stats.zscore(scipy.stats.zscore(z, axis=2), axis=1) for z in (y, t))
        return np.mean(y * t)
    y = y * np.linalg.norm(t, axis=2, keepdims=True) / np.linalg.norm(y, axis=2, keepdims=True)
    y = np.minimum(y, t * (1 + 10 ** (15 / 20)))
    rows = zip(y.reshape(-1, 30), t.reshape(-1, 30), strict=True)
    return np.mean([np.corrcoef(of_estimate, of_target)[0, 1] for of_estimate, of_target in rows])


@pytest.mark.oracle
@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize(("rate_hz", "tolerance"), [(10_000, 1e-12), (16_000, 1e-4)])
def test_stoi_equals_its_definition(extended, rate_hz, tolerance):
    """Ledger row 87: noise above and below the clipping, and a pause that is taken out; another filter to resample."""
    s = _speech(1.5, rate_hz)
    s[rate_hz // 2 : rate_hz * 3 // 4] *= 1e-3
    x = _noisy(s, -5, rate_hz)
    at_10_khz = (scipy.signal.resample_poly(z, 10_000, rate_hz, window=("kaiser", 8.0)) for z in (x, s))
    ours = perceptual.stoi(x, s, rate_hz, extended)
    assert 0.2 < ours < 0.9
    assert ours == pytest.approx(_stoi_by_definition(*at_10_khz, extended), abs=tolerance)


@pytest.mark.parametrize(
    ("name", "best", "stored"),
    [
        ("stoi", pytest.approx(1, abs=1e-9), 0.977763),
        ("estoi", pytest.approx(1, abs=1e-9), 0.861131),
        ("pesq nb", pytest.approx(0.999 + 4 / (1 + math.exp(-1.4945 * 4.5 + 4.6607)), abs=1e-5), 4.106942),  # P.862.1
        ("pesq wb", pytest.approx(0.999 + 4 / (1 + math.exp(-1.3669 * 4.5 + 3.8224)), abs=1e-5), 3.573492),  # P.862.2
        ("visqol speech", pytest.approx(4.55, abs=0.25), 3.488897),
        ("visqol audio", pytest.approx(4.7321, abs=1e-4), 4.626289),  # Google's own vector castanets_identity
    ],
)
def test_equal_clips_have_the_best_score_and_noise_lowers_it(name, best, stored):
    """Ledger rows 87, 88 and 89: a gain is not heard, and more noise is worse.

    The score at 10 dB is stored: by pystoi 0.4.1, pesq 0.0.4 and visqol-python 3.8.0 with numba, called themselves.
    """
    metric, rate_hz = METRICS[name]
    s = _speech(1, rate_hz)
    x = np.stack([0.3 * s, _noisy(s, 10, rate_hz), _noisy(s, 0, rate_hz)])
    scores = metric(x, np.stack([s, s, s]), rate_hz)
    assert scores[0] == best and scores[1] == pytest.approx(stored, abs=1e-3)
    assert scores[2] < scores[1] < scores[0]


@every_metric
def test_silence_and_bad_samples_are_not_a_number_or_an_error(metric, rate_hz):
    """Ledger rows 87, 88 and 89: each clip of a batch by itself; the packages call some of these good."""
    target = np.tile(_speech(1, rate_hz), (2, 3, 1))
    estimate = target + 0.01 * _speech(1, rate_hz, seed=1)
    target[0, 1], estimate[0, 2], estimate[1, 0] = 0, 0, 0.3
    target[1, 1, 7], estimate[1, 2, -1] = np.nan, np.inf
    scores = metric(estimate, target, rate_hz)
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(np.isnan(scores), [[False, True, True], [True, True, True]])
    for column, why in enumerate(["estimate is silent", "sample of the target is not finite", "sample of the est"]):
        with pytest.raises(ValueError, match=rf"not defined on clip \[0\] of 1 s: .*{why}.*, or pass undefined='nan'"):
            metric(estimate[1:, column], target[1:, column], rate_hz, undefined="raise")
    with pytest.raises(ValueError, match=r"not defined on the clip of 1 s: the target is silent; drop it, or pass"):
        metric(estimate[0, 1], target[0, 1], rate_hz, undefined="raise")
    with pytest.raises(ValueError, match="undefined is 'skip'; choose one of"):
        metric(estimate, target, rate_hz, undefined="skip")


@pytest.mark.parametrize(
    ("name", "least_seconds"),
    [
        ("stoi", 0.4097),
        ("estoi", 0.4097),
        ("pesq nb", 0.25),
        ("pesq wb", 0.25),
        ("visqol speech", 0.64),
        ("visqol audio", 0.96),
    ],
)
def test_a_clip_a_little_too_short_is_not_a_number(name, least_seconds):
    """Ledger rows 87, 88 and 89: at the least length there is a score, below it a reason."""
    metric, rate_hz = METRICS[name]
    s = 0.1 * np.random.default_rng(0).normal(size=round(least_seconds * rate_hz))
    assert np.isfinite(metric(s, s, rate_hz))
    assert np.isnan(metric(s[8:], s[8:], rate_hz))
    with pytest.raises(ValueError, match=r"it is shorter than 0\.\d+ s; join clips of one speaker"):
        metric(s[8:], s[8:], rate_hz, undefined="raise")


@pytest.mark.parametrize(
    ("name", "too_little_seconds", "enough_seconds", "why"),
    [
        ("stoi", 0.35, 0.46, "fewer than 31 of its frames, 0.41 s, come within 40 dB of its loudest; join clips"),
        ("pesq nb", 0.17, 0.24, "no 0.2 s of continuous speech are found in the target; join clips"),
    ],
)
def test_too_little_speech_in_a_long_clip_is_not_a_number(name, too_little_seconds, enough_seconds, why):
    """Ledger rows 87 and 88: what counts is how long the target sounds, not how long the clip is."""
    metric, rate_hz = METRICS[name]
    little, enough = np.random.default_rng(0).normal(scale=1e-4, size=(2, 2 * rate_hz))
    for clip, seconds in ((little, too_little_seconds), (enough, enough_seconds)):
        clip[rate_hz : rate_hz + round(seconds * rate_hz)] *= 1e4
    np.testing.assert_array_equal(np.isnan(metric([little, enough], [little, enough], rate_hz)), [True, False])
    with pytest.raises(ValueError, match=rf"clip \[0\] of 2 s: {why}"):
        metric([little, enough], [little, enough], rate_hz, undefined="raise")


def test_what_visqol_does_not_hear_is_not_a_number():
    """Ledger row 89: at -120 dB noise is as good as none to ViSQOL; with a gain it is noise."""
    s = _speech(0.7, 16_000)
    x = _noisy(s, 0, 16_000)
    assert np.isnan(perceptual.visqol(1e-5 * x, 1e-5 * s, 16_000, "speech"))
    with pytest.raises(ValueError, match="nothing of the estimate is above ViSQOL's absolute floor; raise both"):
        perceptual.visqol(1e-5 * x, 1e-5 * s, 16_000, "speech", undefined="raise")
    assert perceptual.visqol(x, s, 16_000, "speech") < 4


def test_estoi_draws_no_luck():
    """Ledger row 87: where half an estimate is digital silence pystoi scores its own random noise."""
    import pystoi

    s = _speech(2, 10_000)
    x = s * (np.arange(20_000) < 10_000)
    assert pystoi.stoi(s, x, 10_000, extended=True) != pystoi.stoi(s, x, 10_000, extended=True)
    before = np.random.get_state()[1].copy()
    first = perceptual.stoi(x, s, 10_000, extended=True)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.random.standard_normal(100)
    assert perceptual.stoi(x, s, 10_000, extended=True) == first


@pytest.mark.parametrize(
    ("module", "name", "package"),
    [
        ("pystoi", "stoi", "pystoi"),
        ("pesq", "pesq nb", "pesq"),
        ("visqol", "visqol audio", r"visqol-python\[lattice\]"),
        ("ai_edge_litert.interpreter", "visqol speech", r"visqol-python\[lattice\]"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, module, name, package):
    """Ledger row 89: ViSQOL without its extra is refused for speech, where it would change its scale unheard."""
    metric, rate_hz = METRICS[name]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"package {package}, and .* pip install 'audiodiff\[metrics\]'"):
        metric(np.ones(5), np.ones(5), rate_hz)


@every_metric
def test_shapes_that_do_not_match_are_refused(metric, rate_hz):
    with pytest.raises(ValueError, match=r"estimate of shape \(800,\) .* target of shape \(801,\); give both"):
        metric(np.ones(800), np.ones(801), rate_hz)
    with pytest.raises(ValueError, match=r"estimate of shape \(2, 0\) cannot be compared"):
        metric(np.ones((2, 0)), np.ones((2, 0)), rate_hz)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: perceptual.stoi(x, x, 4000), "rate_hz is 4000; STOI takes whole rates from 8000 Hz"),
        (lambda x: perceptual.stoi(x, x, 22050.5), "rate_hz is 22050.5; STOI"),
        (
            lambda x: perceptual.pesq(x, x, 22050, "nb"),
            "rate_hz is 22050; PESQ in mode 'nb' takes 8000 or 16000 Hz: br",
        ),
        (lambda x: perceptual.pesq(x, x, 8000, "wb"), "PESQ in mode 'wb' takes 16000 Hz: bring both clips there"),
        (lambda x: perceptual.pesq(x, x, 8000, "fb"), "mode is 'fb'; choose one of nb, wb"),
        (
            lambda x: perceptual.pesq(x, x, 8000, "nb"),
            "a clip of 19.1 s is too long for PESQ, which overruns its table",
        ),
        (lambda x: perceptual.visqol(x, x, 8000, "speech"), "rate_hz is 8000; ViSQOL in mode 'speech' takes 16000 Hz"),
        (lambda x: perceptual.visqol(x, x, 16000, "audio"), "ViSQOL in mode 'audio' takes 48000 Hz"),
        (lambda x: perceptual.visqol(x, x, 48000, "music"), "mode is 'music'; choose one of"),
        (lambda x: perceptual.joined(x, [1], "a", 5), r"clips of shape \(152800,\) have 1 lengths and 1 speakers"),
        (lambda x: perceptual.joined([x, x], [1, 2], "a", 5), "have 2 lengths and 1 speakers; give"),
        (lambda x: perceptual.joined([x], [152801], "a", 5), "a length is 152801; it must be from 0 to 152800"),
        (lambda x: perceptual.joined([x], [5], "a", 0), "piece_samples is 0; it must be at least 1"),
    ],
)
def test_errors_name_value_and_limit(call, message):
    with pytest.raises(ValueError, match=message):
        call(_speech(19.1, 8000))


def test_joined_pieces_hold_each_speakers_clips_in_order_without_padding():
    """Ledger row 87: what is left over is dropped, as is a speaker with less than a piece."""
    lengths, speakers = [3, 4, 2, 4, 0], ["a", "b", "c", "a", "a"]
    numbered = np.zeros((5, 4), np.float32)
    numbered[np.arange(4) < np.array(lengths)[:, None]] = np.arange(1, 14)  # 1-3 a, 4-7 b, 8-9 c, 10-13 a
    pieces = perceptual.joined(numbered, lengths, speakers, 3)
    np.testing.assert_array_equal(pieces, [[1, 2, 3], [10, 11, 12], [4, 5, 6]])
    assert pieces.dtype == np.float32
    assert perceptual.joined(numbered, lengths, speakers, 20).shape == (0, 20)


@pytest.mark.fsdd
def test_joined_digits_can_be_scored_and_single_ones_often_not(fsdd_root):
    """Ledger row 87: take 0 of every digit; noise 20 and 0 dB below each piece."""
    paths = sorted(fsdd_root.rglob("*_0.wav"))
    clips = [soundfile.read(path)[0] for path in paths]
    assert len(clips) == 60
    single = np.array([perceptual.stoi(clip, clip, 8000) for clip in clips])
    assert 0.4 < np.isnan(single).mean() < 0.7
    lengths = [len(clip) for clip in clips]
    padded = np.stack([np.pad(clip, (0, max(lengths) - len(clip))) for clip in clips])
    pieces = perceptual.joined(padded, lengths, [path.stem.split("_")[1] for path in paths], 16_000)
    noise = np.random.default_rng(0).normal(size=pieces.shape) * pieces.std(axis=1, keepdims=True)
    slightly, much = (perceptual.stoi(pieces + gain * noise, pieces, 8000) for gain in (0.1, 1))
    assert len(pieces) >= 8 and (much > 0.3).all() and (much < slightly).all() and (slightly < 1).all()
