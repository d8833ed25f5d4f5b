"""Hold pYIN, and YIN beside it, against signals of known pitch and against librosa, on tones and on real speech."""

import functools
import importlib
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.io import wavfile

from audiodiff import dsp
from audiodiff.dsp.pitch import cumulative_mean_normalised_difference
from audiodiff.dsp.pyin import _viterbi, pyin
from audiodiff.metrics import pitch_errors

RATE, FRAME, HOP = 8000, 512, 128
SETTING = {"rate_hz": RATE, "fmin_hz": 60.0, "fmax_hz": 500.0, "frame_samples": FRAME, "hop_samples": HOP}
LIBROSA = {"sr": RATE, "fmin": 60.0, "fmax": 500.0, "frame_length": FRAME, "hop_length": HOP}
CLIP = 2400  # 0.3 s
TIMES = np.arange(CLIP) / RATE
INSIDE = slice(3, -3)  # frames that the clip fills
TWO_BINS = 2 ** (20.1 / 1200) - 1  # of 10 cents

track, track_by_yin = (jax.jit(functools.partial(f, **SETTING)) for f in (pyin, dsp.yin))


def _harmonics(f0_hz, amplitudes):
    return sum(a * np.sin(2 * np.pi * (k + 1) * f0_hz * TIMES + k) for k, a in enumerate(amplitudes)).astype(np.float32)


@pytest.mark.parametrize("f0_hz", [80.0, 127.3, 201.7, 313.0, 399.9])
@pytest.mark.parametrize("gain", [1.0, 1e-4])
def test_sines_are_found_to_half_a_percent(f0_hz, gain):
    f0, probability = track(gain * _harmonics(f0_hz, [1.0]))
    np.testing.assert_allclose(f0[INSIDE], f0_hz, rtol=5e-3)
    assert probability[INSIDE].min() > 0.9 and probability.max() <= 1


@pytest.mark.parametrize(
    "amplitudes", [[0, 0, 1, 1, 1, 0.5], [0.3, 1]], ids=["missing fundamental", "strong octave above"]
)
def test_no_octave_trap(amplitudes):
    np.testing.assert_allclose(track(_harmonics(110.0, amplitudes))[0][INSIDE], 110.0, rtol=5e-3)


def test_noise_silence_and_constants_are_unvoiced():
    noise = np.random.default_rng(0).normal(size=CLIP).astype(np.float32)
    for x in (noise, noise + 3, np.zeros(CLIP, np.float32)):
        f0, probability = track(x)
        assert np.isnan(f0).all() and probability.max() < 0.1
    assert np.isnan(track(np.full(CLIP, 0.3, np.float32))[0][INSIDE]).all()


def test_a_path_holds_on_to_a_pitch_that_single_frames_do_not_show():
    """A seventh of the power is noise: YIN's threshold of 0.1 takes most frames as unvoiced, the path none of them."""
    noise = np.random.default_rng(1).normal(size=CLIP).astype(np.float32)
    x = _harmonics(150.0, [1.0]) + np.sqrt(0.5 / 6) * noise
    f0, _ = track(x)
    np.testing.assert_allclose(f0[INSIDE], 150.0, rtol=0.03)
    alone, _ = track_by_yin(x)
    assert np.isnan(alone[INSIDE]).mean() > 0.5


def test_the_difference_is_its_definition():
    """Sums written out, in float64; 0 at the period and its multiples of a periodic frame, wherever it starts."""
    frames = np.random.default_rng(2).normal(size=(2, 60))
    lags, window = 20, 41
    d = np.array([[((x[:window] - x[tau : tau + window]) ** 2).sum() for tau in range(lags)] for x in frames])
    means = [[row[1 : tau + 1].mean() for tau in range(1, lags)] for row in d]
    ours = cumulative_mean_normalised_difference(frames.astype(np.float32), lags)
    np.testing.assert_allclose(ours[:, 1:], d[:, 1:] / means, rtol=1e-3)
    np.testing.assert_array_equal(ours[:, 0], 1)
    periodic = np.tile(frames[:, :7], 9).astype(np.float32)
    np.testing.assert_allclose(cumulative_mean_normalised_difference(periodic, 20)[:, 7::7], 0, atol=1e-4)


@pytest.mark.oracle
@pytest.mark.parametrize("reach", [0, 2, 5])
def test_the_path_is_librosas(reach):
    """On random likelihoods, with librosa's own transition matrix."""
    sequence = pytest.importorskip("librosa.sequence")
    bins, switch_prob = 11, 0.2
    observed = np.random.default_rng(reach).dirichlet(np.full(2 * bins, 0.3), size=(3, 40))
    law = sequence.transition_local(bins, 2 * reach + 1, window="triangle", wrap=False)
    transition = np.kron(sequence.transition_loop(2, 1 - switch_prob), law)
    expected = sequence.viterbi(np.swapaxes(observed, -1, -2), transition)
    log_likelihood = np.log(observed).reshape(3, 40, 2, bins).astype(np.float32)
    ours = jax.jit(_viterbi, static_argnums=(1, 2))(log_likelihood, reach, switch_prob)
    np.testing.assert_array_equal(ours, expected)


@pytest.fixture
def librosa_on_our_difference(monkeypatch):
    """Return the module of librosa's pyin, its d' replaced by ours."""
    pytest.importorskip("librosa")
    module = importlib.import_module("librosa.core.pitch")

    def ours(frames, shortest, longest):
        d = cumulative_mean_normalised_difference(np.swapaxes(frames, -1, -2), longest + 2)
        return np.swapaxes(d[..., shortest : longest + 1], -1, -2) + np.zeros(1, np.float32)

    monkeypatch.setattr(module, "_cumulative_mean_normalized_difference", ours)
    return module


def _broken_voices():
    rng = np.random.default_rng(3)
    gain = np.repeat(rng.random((6, 4)) > 0.4, CLIP // 4, axis=-1)
    x = [_harmonics(f0_hz, rng.random(6)) for f0_hz in rng.uniform(80, 350, 6)]
    return (x * gain + 0.2 * rng.normal(size=(6, CLIP))).astype(np.float32)


@pytest.mark.oracle
def test_all_but_the_difference_is_librosas(librosa_on_our_difference):
    """Given our d', librosa's priors, bins and path give our track, on voices that break off in noise."""
    x = _broken_voices()
    their_f0, their_flag, _ = librosa_on_our_difference.pyin(x, **LIBROSA)
    f0, _ = track(x)
    assert 0.2 < their_flag.mean() < 0.95
    np.testing.assert_array_equal(np.isfinite(f0), their_flag)
    np.testing.assert_allclose(f0, their_f0, rtol=1e-5)


@pytest.mark.oracle
def test_the_path_is_given_what_librosas_is_given(librosa_on_our_difference, monkeypatch):
    """A path shows little of small changes: so the priors and the law themselves, which librosa's Viterbi receives."""
    module, x, given, law = librosa_on_our_difference, _broken_voices(), [], []

    def their_viterbi(observed, transition, p_init):
        given.extend([observed[:, 0], transition])
        return np.zeros((*observed.shape[:2], observed.shape[-1]), int)

    def ours(x):
        seen = []

        def our_viterbi(observed, *reach_and_switch_prob):
            seen.append(observed)
            law.extend(reach_and_switch_prob)
            return jnp.zeros(observed.shape[:-2], int)

        monkeypatch.setattr(importlib.import_module("audiodiff.dsp.pyin"), "_viterbi", our_viterbi)
        pyin(x, **SETTING)
        return seen[0]

    monkeypatch.setattr(module, "sequence", mock.Mock(wraps=module.sequence, viterbi=their_viterbi))
    module.pyin(x, **LIBROSA)
    observed, transition = given
    likelihood = np.exp(jax.jit(ours)(x))
    bins = likelihood.shape[-1]
    same = np.isclose(np.swapaxes(observed, -1, -2), likelihood.reshape(*likelihood.shape[:2], -1), atol=1e-4)
    assert same.all(axis=-1).mean() > 0.9  # not where d' falls to an end: librosa sees a trough
    assert np.count_nonzero(transition[bins // 2, :bins]) == 2 * law[0] + 1
    assert transition[0, bins:].sum() == pytest.approx(law[1])


@pytest.fixture(scope="module")
def speech(fsdd_root):
    """The middle 0.3 s of 50 clips of FSDD, spread over speakers and digits."""
    clips = []
    for path in sorted(fsdd_root.rglob("*.wav"))[::60]:
        rate, samples = wavfile.read(path)
        assert rate == RATE
        start = max(0, (len(samples) - CLIP) // 2)
        clips.append(np.pad(middle := samples[start : start + CLIP] / np.float32(32768), (0, CLIP - len(middle))))
    assert len(clips) == 50
    return np.stack(clips).astype(np.float32)


@pytest.mark.oracle
@pytest.mark.fsdd
def test_pyin_agrees_with_librosa_on_speech(speech):
    theirs, _, _ = pytest.importorskip("librosa").pyin(speech, **LIBROSA)
    f0, _ = track(speech)
    frames = pitch_errors.voicing(f0, theirs)
    agreement = (frames.both + frames.neither) / theirs.size
    error = np.abs(pitch_errors.cents(f0, theirs))
    print(f"voicing agreement {agreement:.1%}, median {np.nanmedian(error):.2g} cents")  # shown by pytest -rP
    assert frames.both > 500 and agreement > 0.93
    assert np.nanmedian(error) < 10 and np.mean(error[np.isfinite(error)] > 50) < 0.04


@pytest.mark.oracle
@pytest.mark.fsdd
def test_yin_agrees_with_librosa_on_speech(speech):
    """librosa calls every frame voiced, so the frames compared are ours."""
    theirs = pytest.importorskip("librosa").yin(speech, **LIBROSA)
    error = np.abs(pitch_errors.cents(track_by_yin(speech)[0], theirs))
    assert np.isfinite(error).sum() > 200 and np.nanmedian(error) < 10


@pytest.mark.oracle
@pytest.mark.parametrize("f0_hz", [85.0, 163.0, 330.0])
def test_both_agree_with_librosa_on_a_tone_in_noise(f0_hz):
    x = _harmonics(f0_hz, [1, 0.5, 0.3]) + 0.01 * np.random.default_rng(2).normal(size=CLIP).astype(np.float32)
    theirs, flag, _ = pytest.importorskip("librosa").pyin(x, **LIBROSA)
    f0, _ = track(x)
    assert f0.shape == theirs.shape == (1 + CLIP // HOP,) and flag[INSIDE].all()
    np.testing.assert_allclose(f0[INSIDE], theirs[INSIDE], rtol=TWO_BINS)
    np.testing.assert_allclose(track_by_yin(x)[0][INSIDE], f0[INSIDE], rtol=TWO_BINS)


def test_leading_axes_and_disabled_jit():
    x = np.stack([_harmonics(90.0, [1.0]), _harmonics(250.0, [1.0])])[:, None]
    f0, probability = track(x)
    assert f0.shape == probability.shape == (2, 1, 1 + CLIP // HOP)
    np.testing.assert_allclose(f0[:, 0, 9], [90, 250], rtol=5e-3)
    with jax.disable_jit():
        plain, _ = pyin(x[0, 0, :600], RATE, 60.0, 200.0, 300, 300)
    np.testing.assert_allclose(plain[1], 90, rtol=5e-3)


def test_float64_in_gives_float64_out():
    with jax.enable_x64(True):
        f0, probability = jax.jit(functools.partial(pyin, **SETTING))(_harmonics(200.0, [1.0]).astype(np.float64))
    assert f0.dtype == probability.dtype == np.float64
    np.testing.assert_allclose(f0[INSIDE], 200.0, rtol=5e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 60, 500, 512, 256), "rate_hz is 0; it must be above 0"),
        ((8000, 500, 60, 512, 256), "fmin_hz is 500 and fmax_hz is 60; 0 < fmin_hz < fmax_hz <= 2000"),
        ((8000, 60, 500, 200, 256), "frame_samples is 200, shorter than two periods of fmin_hz 60; take at least 272"),
        ((8000, 60, 500, 512, 0), "hop_samples is 0; it must be at least 1"),
        (
            (8000, 60, 500, 512, 256, 0),
            "max_transition_rate is 0 octaves per second, .* take at least 2.604, or a longer hop",
        ),
        ((8000, 60, 500, 512, 4), "max_transition_rate is 35.92 .* less than a bin per hop of 4 samples; .* 166.7"),
        ((8000, 60, 500, 512, 256, 36, 1.0), "switch_prob is 1.0; it must be between 0 and 1"),
        ((8000, 60, 500, 512, 256, 36, 0.01, 2), r"resolution_semitones is 2; it must be in \(0, 1\]"),
    ],
)
def test_errors_name_value_and_limit(arguments, message):
    with pytest.raises(ValueError, match=message):
        pyin(jnp.zeros(1000), *arguments)


def test_lags_beyond_half_a_frame_are_refused():
    with pytest.raises(ValueError, match=r"lags is 51; it must be in 2 .. 50, half of a frame of 100 samples"):
        cumulative_mean_normalised_difference(jnp.zeros(100), 51)
