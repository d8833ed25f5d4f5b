"""Hold reading against scipy and soundfile's own figures, and every kind of damage to one clear error."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import scipy.io.wavfile
import scipy.signal
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audiodiff.data.audio_files import audio_info, read_audio, write_audio
from audiodiff.data.sources import AudioError

RATE = 16_000


def tone(seconds: float = 0.5, rate_hz: int = RATE, frequency_hz: float = 440.0, channels: int = 1) -> np.ndarray:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.stack([0.5 * np.sin(2 * np.pi * frequency_hz * (1 + c) * time) for c in range(channels)], 1)


@pytest.mark.parametrize(
    "name,subtype", [("a.wav", "PCM_16"), ("a.wav", "FLOAT"), ("a.flac", "PCM_24"), ("a.aiff", "PCM_16")]
)
def test_what_is_written_is_read_back(tmp_path, name, subtype):
    audio = tone(channels=2)
    assert write_audio(tmp_path / "deep" / name, audio, RATE, subtype) == 0
    got = read_audio(tmp_path / "deep" / name)
    assert got.dtype == np.float32 and got.shape == audio.shape
    step = {"PCM_16": 2**-15, "PCM_24": 2**-23, "FLOAT": 0}[subtype]
    np.testing.assert_allclose(got, audio, atol=step + 1e-7)


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3"])
def test_lossy_formats_keep_length_and_sound(tmp_path, name):
    audio = tone(1.0)
    write_audio(tmp_path / name, audio, RATE)
    got = read_audio(tmp_path / name)
    assert len(got) == len(audio)
    assert np.corrcoef(got[:, 0], audio[:, 0])[0, 1] > 0.99


def test_agrees_with_scipys_reader(tmp_path):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, (300, 2), dtype=np.int16)
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, samples)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), (samples / 2**15).astype(np.float32))


@pytest.mark.parametrize("native_hz,rate_hz", [(44_100, 16_000), (8_000, 22_050), (48_000, 8_000)])
def test_resampling_agrees_with_scipys_polyphase(tmp_path, native_hz, rate_hz):
    """In the pass band, and away from the edges, two independent resamplers give the same sound."""
    rng = np.random.default_rng(1)
    cutoff = 0.8 * min(native_hz, rate_hz) / 2
    noise = scipy.signal.sosfiltfilt(
        scipy.signal.butter(12, cutoff * 0.75, fs=native_hz, output="sos"), rng.normal(size=native_hz // 2)
    )
    write_audio(tmp_path / "a.wav", 0.1 * noise, native_hz, "FLOAT")
    got = read_audio(tmp_path / "a.wav", rate_hz)[:, 0]
    common = np.gcd(native_hz, rate_hz)
    want = scipy.signal.resample_poly(0.1 * noise, rate_hz // common, native_hz // common, window=("kaiser", 14.0))
    assert abs(len(got) - len(want)) <= 1
    middle = slice(200, min(len(got), len(want)) - 200)
    error_db = 20 * np.log10(np.linalg.norm(got[middle] - want[middle]) / np.linalg.norm(want[middle]))
    assert error_db < -60


def test_what_lies_above_the_new_nyquist_does_not_alias(tmp_path):
    write_audio(tmp_path / "a.wav", tone(frequency_hz=7_000), RATE, "FLOAT")
    inside = read_audio(tmp_path / "a.wav", 8_000)[200:-200]
    assert 20 * np.log10(np.abs(inside).max()) < -90


def test_stereo_44100_end_to_end(tmp_path):
    audio = tone(0.2, 44_100, channels=2)
    write_audio(tmp_path / "a.wav", audio, 44_100)
    assert read_audio(tmp_path / "a.wav", 44_100, channels=2).shape == (8_820, 2)
    mono = read_audio(tmp_path / "a.wav", 44_100, channels=1)
    np.testing.assert_allclose(mono[:, 0], audio.mean(axis=1), atol=1e-4)
    write_audio(tmp_path / "m.wav", audio[:, 0], 44_100)
    both = read_audio(tmp_path / "m.wav", channels=2)
    np.testing.assert_array_equal(both[:, 0], both[:, 1])
    with pytest.raises(AudioError, match="has 2 channels and 3 are asked"):
        read_audio(tmp_path / "a.wav", channels=3)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_a_segment_is_that_part_of_the_whole(tmp_path, name):
    write_audio(tmp_path / name, tone(1.0), RATE)
    whole = read_audio(tmp_path / name)
    np.testing.assert_allclose(read_audio(tmp_path / name, None, 0.25, 0.5), whole[4_000:12_000], atol=1e-4)
    # Times in a manifest are rounded, so a few milliseconds past the end are cut off; more is an error.
    assert len(read_audio(tmp_path / name, None, 0.5, 0.505)) == 8_000
    with pytest.raises(AudioError, match="0.5 s to 1.2 s is asked of a file of 1 s"):
        read_audio(tmp_path / name, None, 0.5, 0.7)
    with pytest.raises(AudioError, match="2 s to its end"):
        read_audio(tmp_path / name, None, 2.0)
    with pytest.raises(AudioError, match="start at 0 or later"):
        read_audio(tmp_path / name, None, -1.0)


@pytest.mark.parametrize("rate_hz", [0, -8_000])
def test_rate_0_is_refused(tmp_path, rate_hz):
    with pytest.raises(ValueError, match=f"rate_hz is {rate_hz}"):
        read_audio(tmp_path / "a.wav", rate_hz)
    with pytest.raises(ValueError, match=f"rate_hz is {rate_hz}"):
        write_audio(tmp_path / "a.wav", tone(), rate_hz)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff", "a.rf64", "a.opus"])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_file_is_an_error(tmp_path, name, kept):
    """libsndfile reads a cut WAV, AIFF, OGG or MP3 short and says nothing."""
    path = tmp_path / name
    write_audio(path, np.random.default_rng(0).uniform(-0.5, 0.5, RATE), RATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(AudioError) as error:
        read_audio(path, 8_000)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_wav_that_lacks_one_sample_is_truncated_and_trailing_chunks_are_not(tmp_path):
    path = tmp_path / "a.wav"
    write_audio(path, tone(), RATE)
    content = path.read_bytes()
    path.write_bytes(content + b"LIST" + struct.pack("<I", 4) + b"INFO")
    assert len(read_audio(path)) == 8_000
    path.write_bytes(content[:-2])
    with pytest.raises(AudioError, match="promises 16000 bytes of samples, the file holds 15998"):
        read_audio(path)
    unknown_size = bytearray(content)  # as a program that writes to a pipe leaves it
    position = content.index(b"data") + 4
    unknown_size[position : position + 4] = b"\xff" * 4
    path.write_bytes(unknown_size)
    assert len(read_audio(path)) == 8_000


def damaged(folder, kind):
    path = folder / f"{kind}.wav"
    write_audio(path, tone(), RATE, "FLOAT")
    content = bytearray(path.read_bytes())
    if kind == "missing":
        path.unlink()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "garbage":
        path.write_bytes(bytes(range(256)) * 40)
    elif kind == "header only":
        path.write_bytes(content[:30])
    elif kind == "rate 0":
        content[24:28] = bytes(4)
        path.write_bytes(content)
    elif kind == "no samples":
        soundfile.write(path, np.zeros((0, 1)), RATE)
    else:
        value = {"nan": np.nan, "inf": np.inf}[kind]
        soundfile.write(path, np.array([0.1, 0.2, value, 0.3], np.float32), RATE, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    "kind,said",
    [
        ("missing", "no such file"),
        ("empty", "empty, 0 bytes"),
        ("garbage", "not readable as audio"),
        ("header only", "truncated"),
        ("rate 0", "rate above 0"),
        ("no samples", "zero length"),
        ("nan", "sample 2 is nan"),
        ("inf", "sample 2 is inf"),
    ],
)
def test_damage_is_one_clear_error(tmp_path, kind, said):
    path = damaged(tmp_path, kind)
    with pytest.raises(AudioError) as error:
        read_audio(path)
    message = str(error.value)
    assert message.startswith(str(path)) and said in message and "\n" not in message


def test_info_is_what_the_file_says(tmp_path):
    write_audio(tmp_path / "a.flac", tone(0.25, 22_050, channels=2), 22_050)
    info = audio_info(tmp_path / "a.flac")
    assert (info.rate_hz, info.channels, info.frames, info.subtype) == (22_050, 2, 5_512, "PCM_16")
    assert info.duration_seconds == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize("peak,subtype", [("error", "PCM_16"), ("error", "PCM_24")])
def test_beyond_full_scale_is_refused_and_nothing_is_left(tmp_path, peak, subtype):
    with pytest.raises(ValueError, match=r"peaks at 1\.5, .* peak='scale'"):
        write_audio(tmp_path / "a.wav", 3 * tone(), RATE, subtype, peak)
    assert not list(tmp_path.iterdir())


def test_scaling_returns_the_gain_that_undoes_it(tmp_path):
    loud = 3 * tone()
    gain_db = write_audio(tmp_path / "a.wav", loud, RATE, peak="scale")
    assert gain_db == pytest.approx(-3.52, abs=0.01)
    got = read_audio(tmp_path / "a.wav")
    assert np.abs(got).max() <= 1
    np.testing.assert_allclose(got * 10 ** (-gain_db / 20), loud, atol=1e-4)


def test_float_keeps_what_is_beyond_full_scale(tmp_path):
    loud = (3 * tone()).astype(np.float32)
    assert write_audio(tmp_path / "a.wav", loud, RATE, peak="float") == 0
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), loud)
    with pytest.raises(ValueError, match="FLAC cannot hold FLOAT"):
        write_audio(tmp_path / "a.flac", loud, RATE, peak="float")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_never_written(tmp_path, value):
    (tmp_path / "a.wav").write_bytes(b"what was there before")
    with pytest.raises(ValueError, match="holds 1 NaN or inf"):
        write_audio(tmp_path / "a.wav", np.array([0.0, value]), RATE, peak="float")
    assert (tmp_path / "a.wav").read_bytes() == b"what was there before"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name,audio", [("a.m4a", np.ones(4)), ("a.wav", np.ones(0)), ("a.wav", np.ones((1, 2, 3)))])
def test_what_cannot_be_written_is_an_error(tmp_path, name, audio):
    with pytest.raises(ValueError, match=name):
        write_audio(tmp_path / name, audio, RATE)
    assert not list(tmp_path.iterdir())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=50), st.sampled_from(["scale", "float"]))
def test_any_finite_audio_survives_the_file(tmp_path_factory, values, peak):
    path = tmp_path_factory.mktemp("any") / "a.wav"
    audio = np.array(values, np.float32)
    gain_db = write_audio(path, audio, 8_000, peak=peak)
    back = read_audio(path)[:, 0] * 10 ** (-gain_db / 20)
    np.testing.assert_allclose(back, audio, atol=4 * 2**-15)
