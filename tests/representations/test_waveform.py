from __future__ import annotations

import jax
import numpy as np
import pytest

from audiodiff.representations import Waveform

GAINS_DB = (-12.0, 0.0, 3.0, 20.0, 12.0)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(2, 1000), (2, 777), (2, 300, 2)])
@pytest.mark.parametrize(
    "options",
    [{}, {"preemphasis": 0.9}, {"equaliser_db": GAINS_DB}, {"preemphasis": 0.97, "equaliser_db": GAINS_DB}],
    ids=["plain", "pre-emphasis", "equaliser", "both"],
)
def test_what_was_encoded_is_decoded(options, shape):
    representation = Waveform(channels=shape[2] if len(shape) == 3 else 1, **options)
    audio = noise(*shape)
    x = representation.encode(audio)
    assert x.shape == representation.shape(shape[0], shape[1])
    back = representation.decode(x, None, shape[1])
    assert back.shape == audio.shape
    np.testing.assert_allclose(back, audio, atol=1e-5 * np.abs(audio).max())
    if options:
        assert np.abs(x.reshape(audio.shape) - audio).max() > 0.1


def test_the_equaliser_inverts_to_a_millionth_of_the_peak():
    """30 dB between its gains; ledger row 34's figure, met by far in float64."""
    audio = noise(2, 4097).astype(np.float64)
    representation = Waveform(equaliser_db=GAINS_DB)
    with jax.enable_x64(True):
        x = representation.encode(audio)
        back = np.asarray(representation.decode(x, None, 4097))
    assert x.dtype == back.dtype == np.float64
    assert np.abs(back - audio).max() < 1e-12 * np.abs(audio).max()


def test_measured_gains_level_the_spectrum_that_noise_is_added_to():
    """White noise hides the top of sound that falls by 40 dB first; levelled, all bands are equally strong."""
    falling_db = (0.0, -10.0, -20.0, -30.0, -40.0)
    white = noise(4, 8192)
    sound = Waveform(equaliser_db=falling_db).encode(white)[..., 0]

    def band_db(x):
        power = np.mean(np.abs(np.fft.rfft(x, axis=1)) ** 2, axis=0)
        return 10 * np.log10([band.mean() for band in np.array_split(power, 4)])

    assert np.ptp(band_db(sound)) > 25
    levelled = Waveform(equaliser_db=tuple(-gain for gain in falling_db)).encode(sound)[..., 0]
    assert np.ptp(band_db(levelled)) < 0.5


def test_channels_are_filtered_apart():
    audio = noise(1, 200, 2)
    both = Waveform(0.9, GAINS_DB, channels=2).encode(audio)
    for channel in range(2):
        alone = Waveform(0.9, GAINS_DB).encode(audio[..., channel])
        np.testing.assert_allclose(both[..., channel], alone[..., 0], atol=1e-5)


def test_decoding_crops_what_is_longer_and_refuses_what_is_shorter():
    x = noise(1, 100, 1)
    np.testing.assert_array_equal(Waveform().decode(x, None, 60), x[:, :60, 0])
    with pytest.raises(ValueError, match="x has 100 samples and 101 were asked"):
        Waveform().decode(x, None, 101)


@pytest.mark.parametrize("dtype", ["int16", "bfloat16"])
def test_narrow_samples_are_widened(dtype):
    audio = jax.numpy.asarray([[3, -7, 100]], dtype)
    for representation in (Waveform(), Waveform(0.5)):
        assert representation.encode(audio).dtype == np.float32


def test_is_static_under_jit_and_holds_no_arrays():
    representation = Waveform(0.9, GAINS_DB)
    assert not jax.tree.leaves(representation)
    run = jax.jit(lambda representation, audio: representation.encode(audio))
    audio = noise(1, 64)
    np.testing.assert_allclose(run(representation, audio), representation.encode(audio), atol=1e-5)


@pytest.mark.parametrize(
    "shape, channels, message",
    [
        ((2, 100), 2, "the audio has 1 channels, the model 2: mix or configure it so"),
        ((2, 100, 3), 1, "the audio has 3 channels, the model 1: mix or configure it so"),
        ((100,), 1, r"the audio has the shape \(100,\): give \[batch, time\] or \[batch, time, channel\]"),
    ],
)
def test_other_channels_are_refused(shape, channels, message):
    with pytest.raises(ValueError, match=message):
        Waveform(channels=channels).encode(np.zeros(shape, np.float32))
