"""Parts of one clip add up to it whatever the filter before and the channels, and pooled mels are means of frames."""

import functools

import jax
import numpy as np
import pytest

from audiodiff import dsp
from audiodiff.hierarchy.levels import PooledMel, PyramidLevel
from audiodiff.hierarchy.pyramid import Pyramid
from audiodiff.representations import Waveform
from audiodiff.vocoders import MelFrames

PYRAMID = Pyramid((2, 4), 64)
MEL = dsp.MelSpec(rate_hz=8000, stft=dsp.StftSpec(128, 32), bands=10, fmax_hz=4000.0, floor=1e-5)


quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""Compile in a third of the time: here compiling takes longest, and what runs is small."""
encode = quick(lambda one, audio: one.encode(audio))
decode = quick(lambda one, x, length: one.decode(x, None, length), static_argnums=2)


def noise(*shape, dtype=np.float32):
    return np.random.default_rng(0).normal(scale=0.3, size=shape).astype(dtype)


# --- levels of a pyramid

WAVEFORMS = {
    "plain": Waveform(),
    "pre-emphasis": Waveform(preemphasis=0.9),
    "equaliser": Waveform(equaliser_db=(-6.0, 0.0, 6.0)),
    "two channels": Waveform(preemphasis=0.9, channels=2),
}


def clip(waveform, length=501):
    return noise(3, length, *([waveform.channels] if waveform.channels > 1 else []))


@pytest.mark.parametrize("waveform", WAVEFORMS.values(), ids=list(WAVEFORMS))
@pytest.mark.parametrize(
    "parts",
    [
        [(2, ())],
        [(2, (0,)), (2, (1,)), (2, (3, 2))],
        [(0, ()), (1, (1,)), (2, (1, 2, 3))],
        [(1, (1, 0)), (2, (2, 1, 3))],
    ],
    ids=["whole", "bands", "coarse and details", "bands in another order"],
)
def test_the_parts_of_a_clip_decode_to_audio_that_adds_up_to_it(parts, waveform):
    audio = clip(waveform)
    total, shapes = np.zeros_like(audio), 0
    for level, bands in parts:
        one = PyramidLevel(PYRAMID, level, bands, waveform)
        x = encode(one, audio)
        assert x.shape == one.shape(3, 501)
        shapes += x[0].size
        part = decode(one, x, 501)
        assert part.shape == audio.shape
        total += part
    assert shapes == 512 * waveform.channels, "as many numbers as the completed clip"
    # The inverse of the pre-emphasis sums rounding up, ten times at 0.9.
    np.testing.assert_allclose(total, audio, rtol=0, atol=(1e-5 if waveform.preemphasis else 2e-6))


@pytest.mark.parametrize("level, bands", [(0, ()), (1, (1,)), (2, (3, 1))])
@pytest.mark.parametrize("channels", [1, 2])
def test_encoding_what_was_decoded_gives_it_again(level, bands, channels):
    """Of whole hops; a crop of the audio takes off what lies beyond it."""
    one = PyramidLevel(PYRAMID, level, bands, Waveform(channels=channels))
    x = noise(*one.shape(2, 512))
    np.testing.assert_allclose(encode(one, decode(one, x, 512)), x, atol=1e-6)


def test_channels_and_bands_lie_side_by_side():
    """Each channel has its own bands, in the order given: the others hear nothing of it."""
    one = PyramidLevel(PYRAMID, 2, (3, 1), Waveform(channels=2))
    audio = clip(one.waveform)
    x = np.asarray(encode(one, audio))
    silenced = np.asarray(encode(one, audio * np.float32([1, 0])))
    np.testing.assert_array_equal(silenced[..., :2], x[..., :2])
    np.testing.assert_array_equal(silenced[..., 2:], 0)
    mono = PyramidLevel(PYRAMID, 2, (1, 3))
    np.testing.assert_allclose(encode(mono, audio[..., 1])[..., ::-1], x[..., 2:], atol=1e-6)


def test_what_a_level_is_called():
    details, some = PyramidLevel(PYRAMID, 2, (2, 1, 3)), PyramidLevel(PYRAMID, 2, (0, 1))
    whole = PyramidLevel(PYRAMID, 2)
    assert [one.is_detail for one in (details, some, whole, PyramidLevel(PYRAMID, 0))] == [True, False, False, False]
    assert [one.rate_level for one in (details, some, whole)] == [1, 1, 2]
    assert details.signal == whole


def test_float64_stays_float64():
    with jax.enable_x64(True):
        one = PyramidLevel(PYRAMID, 2, (1, 2))
        x = encode(one, noise(1, 200, dtype=np.float64))
        assert x.dtype == decode(one, x, 200).dtype == np.float64


@pytest.mark.parametrize(
    "level, bands, said",
    [
        (3, (), r"level 3 is not one of 0 to 2, the levels of factors \(2, 4\)"),
        (0, (1,), r"level 0 is the coarsest and has no bands, and bands is \(1,\): give none"),
        (1, (2,), r"bands is \(2,\): give each of 0 to 1 once at most, or none for all"),
        (2, (1, 1), r"bands is \(1, 1\): give each of 0 to 3 once at most"),
    ],
)
def test_bands_that_a_level_does_not_have_are_refused(level, bands, said):
    with pytest.raises(ValueError, match=said):
        PyramidLevel(PYRAMID, level, bands)


def test_an_array_of_another_length_is_refused():
    one = PyramidLevel(PYRAMID, 1, (1,))
    with pytest.raises(ValueError, match=r"x has the shape \(2, 63, 1\), and 501 samples have \(2, 64, 1\)"):
        one.decode(noise(2, 63, 1), None, 501)
    with pytest.raises(ValueError, match="the audio has 2 channels, the model 1"):
        one.encode(noise(1, 100, 2))


# --- pooled mels


@pytest.mark.parametrize("length", [1, 31, 320, 501])
@pytest.mark.parametrize("pool_frames", [1, 3, 4, 0])
def test_pooled_mels_are_the_means_of_frames(length, pool_frames):
    """By numpy of a vocoder's frames; the last mean counts its last frame as often as frames are missing."""
    one, audio = PooledMel(MEL, pool_frames, mean=-2.0), noise(2, length)
    frames = np.asarray(MelFrames(MEL)(audio))[:, : -(-length // 32)]
    pool = pool_frames or frames.shape[1]
    filled = np.concatenate([frames] + [frames[:, -1:]] * (-frames.shape[1] % pool), axis=1)
    expected = [filled[:, begin : begin + pool].mean(axis=1) for begin in range(0, filled.shape[1], pool)]
    x = encode(one, audio)
    assert x.shape == one.shape(2, length)
    np.testing.assert_allclose(x, np.stack(expected, axis=1) + 2.0, rtol=1e-4, atol=1e-4)


def test_the_pool_of_an_utterance_is_one_vector():
    assert PooledMel(MEL, 0).shape(4, 12345) == (4, 1, 10)


def test_pooled_mels_say_that_there_is_no_way_back():
    with pytest.raises(ValueError, match="pooled log-mels have no way back to audio: give them to a finer stage"):
        PooledMel(MEL).decode(noise(1, 4, 10), None, 100)
    with pytest.raises(ValueError, match="pool_frames is -1: give how many frames make one, or 0 for all"):
        PooledMel(MEL, -1)
