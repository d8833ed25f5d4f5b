"""The generated sounds are what their truth says: heard by an autocorrelation and a nearest centroid of their own."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import scipy.signal

from audiodiff.data.embedded import PITCHES, PITCHES_HZ, SOUNDS, TONAL, EmbeddedSounds
from audiodiff.data.normalisation import level_dbfs
from audiodiff.data.sources import InMemory, Source

RATE = 8_000
ROUND = len(SOUNDS) * len(PITCHES)


class Heard(InMemory):
    """Make each clip once for all tests of this file."""

    def __init__(self, source: EmbeddedSounds):
        super().__init__(source)
        self.truth = functools.cache(source.truth)


@pytest.fixture(scope="module")
def sounds() -> Heard:
    return Heard(EmbeddedSounds(2 * ROUND, seed=3))


def estimate_f0(frame: np.ndarray, rate_hz: int = RATE) -> float:
    """Find the first strong peak of the autocorrelation over that of the window (Boersma 1993)."""
    window = np.hanning(len(frame))
    correlation = scipy.signal.correlate(frame * window, frame * window, method="fft")[len(frame) - 1 :]
    correlation /= scipy.signal.correlate(window, window, method="fft")[len(frame) - 1 :] + 1e-9
    shortest, longest = rate_hz // 400, rate_hz // 80
    peaks, _ = scipy.signal.find_peaks(correlation[: longest + 2])
    peaks = peaks[peaks >= shortest]
    lag = peaks[np.argmax(correlation[peaks] > 0.9 * correlation[peaks].max())]
    left, top, right = correlation[lag - 1 : lag + 2]
    return rate_hz / (lag + 0.5 * (left - right) / (left - 2 * top + right))


def cents(frequency_hz, reference_hz):
    return 1_200 * np.log2(np.asarray(frequency_hz) / reference_hz)


def test_a_clip_is_a_function_of_seed_and_index():
    one, other = EmbeddedSounds(30, seed=1), EmbeddedSounds(900, seed=1)
    for index in (0, 7, 29):
        np.testing.assert_array_equal(one[index]["audio"], other[index]["audio"])
    assert not np.array_equal(one[0]["audio"], EmbeddedSounds(30, seed=2)[0]["audio"])
    assert not np.array_equal(other[0]["audio"], other[ROUND]["audio"]), "the same sound and pitch, another clip"


def test_every_combination_comes_once_a_round(sounds):
    first = {(sounds[i]["sound"], sounds[i]["pitch"]) for i in range(ROUND)}
    assert first == {(sound, pitch) for sound in range(len(SOUNDS)) for pitch in range(len(PITCHES))}
    assert sounds.conditions["sound"].vocabulary == SOUNDS and sounds.conditions["pitch"].vocabulary == PITCHES
    assert len(SOUNDS) >= 10


def test_pitches_are_whole_tones_in_the_range_of_voices():
    np.testing.assert_allclose(np.diff(cents(PITCHES_HZ, 440)), 200)
    assert PITCHES_HZ[PITCHES.index("A3")] == pytest.approx(220) and 100 < min(PITCHES_HZ) < max(PITCHES_HZ) < 330


def test_levels_are_the_truth_and_nothing_clips(sounds):
    for index in range(len(sounds)):
        audio = sounds[index]["audio"]
        assert audio.shape == (8_192, 1) and audio.dtype == np.float32 and np.isfinite(audio).all()
        assert level_dbfs(audio) == pytest.approx(sounds.truth(index).level_dbfs, abs=1e-3)
        assert np.abs(audio).max() < 1


@pytest.mark.parametrize("sound", sorted(TONAL))
def test_the_fundamental_heard_is_the_true_one(sounds, sound):
    """In every frame within 15 cents, over a clip within 5; their median is the pitch asked for."""
    for index in range(SOUNDS.index(sound), len(sounds), len(SOUNDS)):
        truth, audio = sounds.truth(index), sounds[index]["audio"][:, 0]
        centres = np.arange(700, 6_800, 400)
        heard = np.array([estimate_f0(audio[centre - 240 : centre + 240]) for centre in centres])
        off = cents(heard, truth.f0_hz[centres])
        assert np.abs(off).max() < 15 and abs(np.median(off)) < 5, sounds.describe(index)
        assert abs(cents(np.nanmedian(truth.f0_hz), PITCHES_HZ[PITCHES.index(truth.pitch)])) < 0.1
        assert truth.median_f0_hz == pytest.approx(PITCHES_HZ[sounds[index]["pitch"]])


def test_vowels_move_in_pitch(sounds):
    truth = sounds.truth(0)
    voiced = truth.f0_hz[~np.isnan(truth.f0_hz)]
    assert 40 <= abs(cents(voiced[-1], voiced[0])) <= 160


def test_untonal_sounds_have_no_fundamental(sounds):
    for index, sound in enumerate(SOUNDS):
        truth = sounds.truth(index)
        assert truth.sound == sound
        assert np.isnan(truth.median_f0_hz) == (sound not in TONAL) == np.isnan(truth.f0_hz).all()


def features(source: Source, index: int) -> np.ndarray:
    """Average the log spectrogram to 16 bands and 8 times, so that pitch is smeared and shape stays."""
    _, _, spectrum = scipy.signal.stft(source[index]["audio"][:, 0], nperseg=256, noverlap=0, padded=False)
    power = (np.abs(spectrum) ** 2)[:128, :32].reshape(16, 8, 8, 4).mean(axis=(1, 3))
    return np.log(power / power.max() + 1e-5).ravel()


def test_the_sounds_are_told_apart_by_the_nearest_centroid(sounds):
    train = np.stack([features(sounds, index) for index in range(len(sounds))])
    centroids = np.stack([train[sound :: len(SOUNDS)].mean(axis=0) for sound in range(len(SOUNDS))])
    held_out = EmbeddedSounds(ROUND, seed=99)
    guesses = [np.argmin(np.linalg.norm(centroids - features(held_out, index), axis=1)) for index in range(ROUND)]
    accuracy = np.mean([guess == held_out[index]["sound"] for index, guess in enumerate(guesses)])
    assert accuracy > 0.9


@pytest.mark.parametrize("rate_hz,length", [(8_000, 4_096), (16_000, 8_192), (44_100, 22_050)])
def test_other_rates_and_lengths_keep_class_and_pitch(rate_hz, length):
    source = EmbeddedSounds(len(SOUNDS), rate_hz=rate_hz, length_samples=length)
    for index in range(len(SOUNDS)):
        truth, audio = source.truth(index), source[index]["audio"][:, 0]
        assert audio.shape == (length,) and np.isfinite(audio).all()
        if truth.sound in TONAL:
            centre, half = length // 3, round(0.03 * rate_hz)
            heard = estimate_f0(audio[centre - half : centre + half], rate_hz)
            assert abs(cents(heard, truth.f0_hz[centre])) < 15


def test_fewer_sounds_may_be_chosen():
    source = EmbeddedSounds(4, sounds=("pluck", "kick"))
    assert [source.truth(index).sound for index in range(4)] == ["pluck", "kick"] * 2
    assert [source[index]["sound"] for index in range(4)] == [0, 1, 0, 1]
    assert source.describe(1) == "embedded sound 1 (kick, A2)"


@pytest.mark.parametrize(
    "arguments,said",
    [
        ({"sounds": ("ah", "eh")}, "unknown sound 'eh'; choose among ah, ee"),
        ({"rate_hz": 4_000}, "at least 8000"),
        ({"length_samples": 1_000}, "quarter of a second, 2000"),
    ],
)
def test_impossible_settings_are_clear_errors(arguments, said):
    with pytest.raises(ValueError, match=said):
        EmbeddedSounds(10, **arguments)
    with pytest.raises(IndexError, match="0 to 9"):
        EmbeddedSounds(10)[10]
