from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import signal

from audiodiff.dsp import StftSpec
from audiodiff.representations import ComplexStft


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_planes_are_the_parts_of_a_spectrum_with_compressed_magnitudes():
    audio = noise(2, 200, 2)
    _, _, spectrum = signal.stft(np.moveaxis(audio, 2, 1), window="hann", nperseg=64, noverlap=48, scaling="spectrum")
    expected = np.sqrt(np.abs(spectrum)) * np.exp(1j * np.angle(spectrum))
    representation = ComplexStft(StftSpec(64, 16, scaling="window_sum"), 0.5, channels=2)
    x = np.asarray(jax.jit(representation.encode)(audio))
    for channel in range(2):
        found = x[..., 2 * channel] + 1j * x[..., 2 * channel + 1]
        np.testing.assert_allclose(found, np.swapaxes(expected[:, channel], 1, 2)[:, : found.shape[1]], atol=1e-4)


def test_compression_halves_the_range_in_decibels():
    audio, encode = noise(1, 200), jax.jit(ComplexStft(StftSpec(64, 16), 0.5).encode)
    np.testing.assert_allclose(encode(1e-4 * audio), 1e-2 * encode(audio), atol=1e-5)


@pytest.mark.parametrize(("fft_samples", "real_bins"), [(64, (0, 32)), (45, (0,))], ids=["even", "odd"])
def test_imaginary_parts_that_no_audio_has_are_zero_and_not_heard(fft_samples, real_bins):
    representation = ComplexStft(StftSpec(fft_samples, 16))
    x = np.asarray(jax.jit(representation.encode)(noise(1, 200)))
    bins = range(x.shape[2])
    moved = np.stack([x[0], *(x[0] + 3 * (np.arange(x.shape[2])[:, None] == k) * np.array([0, 1]) for k in bins)])
    audio, *others = np.asarray(jax.jit(lambda x: representation.decode(x, None, 200))(moved.astype(np.float32)))
    assert tuple(k for k in bins if np.abs(x[:, :, k, 1]).max() < 1e-6) == real_bins
    assert tuple(k for k in bins if np.abs(others[k] - audio).max() < 1e-6) == real_bins


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (StftSpec(64, 16, pad_end=False), "padding='half_fft' and pad_end=False loses the ends of a clip; set"),
        (StftSpec(64, 16, padding="none"), "padding='none' and pad_end=True loses the ends of a clip; set"),
        (StftSpec(64, 64), "window 'hann' of 64 samples leaves gaps at hop 64; lower hop_samples"),
    ],
)
def test_an_stft_that_cannot_be_undone_is_refused(spec, said):
    with pytest.raises(ValueError, match=said):
        ComplexStft(spec)


def test_a_clip_too_short_to_be_reflected_is_refused():
    with pytest.raises(ValueError, match="a clip of 20 samples is too short for 32 samples of reflect padding"):
        ComplexStft(StftSpec(64, 16, pad_mode="reflect")).encode(noise(1, 20))


def test_holds_no_arrays():
    assert not jax.tree.leaves(ComplexStft(StftSpec(64, 16)))
