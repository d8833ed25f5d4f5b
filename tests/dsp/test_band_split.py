"""Hold band splits against their identities, tones against a polyphase resampler, and periods against slices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from audiodiff import dsp

split = jax.jit(dsp.split_bands, static_argnums=(1, 2))
join = jax.jit(dsp.join_bands, static_argnums=(1, 2, 3))
SPEC = dsp.MdctSpec(48, "vorbis")


def noise(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).normal(scale=0.3, size=shape).astype(dtype)


# --- perfect reconstruction


@pytest.mark.parametrize("window", ["sine", "kbd", "vorbis"])
@pytest.mark.parametrize("bands", [1, 2, 3, 8, 24])  # the last leaves one coefficient a hop to each band
@pytest.mark.parametrize("length", [1, 23, 24, 241])  # one sample, less than a hop, a hop, an odd length of many
def test_the_bands_of_a_clip_join_to_it_and_have_its_energy(bands, length, window):
    spec, x = dsp.MdctSpec(48, window), noise(2, length)
    parts = split(x, bands, spec)
    assert parts.shape == (2, bands, dsp.padded_samples(length, spec) // bands) and parts.dtype == np.float32
    np.testing.assert_allclose(join(parts, bands, spec, length), x, rtol=0, atol=1e-6 * np.abs(x).max())
    np.testing.assert_allclose(np.square(parts).sum((-2, -1)), np.square(x).sum(-1), rtol=1e-5)


@pytest.mark.parametrize("frame_samples, bands", [(256, 16), (2048, 8)])
def test_long_frames_reconstruct_a_long_clip_of_full_scale(frame_samples, bands):
    spec, x = dsp.MdctSpec(frame_samples, "vorbis"), np.clip(noise(16001) * 3, -1, 1)
    back = join(split(x, bands, spec), bands, spec, 16001)
    np.testing.assert_allclose(back, x, rtol=0, atol=1e-6)


def test_float64_stays_and_is_exact():
    x = noise(3, 101, dtype=np.float64)
    with jax.enable_x64(True):
        parts = split(x, 4, SPEC)
        back = join(parts, 4, SPEC, 101)
    assert parts.dtype == back.dtype == np.float64
    np.testing.assert_allclose(back, x, rtol=0, atol=1e-14)


@pytest.mark.parametrize("bands", [2, 6])
def test_synthesis_is_the_transpose_of_analysis_and_its_inverse(bands):
    """The matrix of whole hops is square and orthonormal: A A^T = A^T A = I, and join is A^T."""
    time = 3 * SPEC.bins
    with jax.enable_x64(True):
        analysis = functools.partial(dsp.split_bands, bands=bands, spec=SPEC)
        matrix = np.asarray(jax.jit(jax.jacobian(analysis))(jnp.zeros(time))).reshape(time, time)
        parts = noise(bands, time // bands, dtype=np.float64)
        (transposed,) = jax.linear_transpose(analysis, jnp.zeros(time))(jnp.asarray(parts))
        joined = dsp.join_bands(parts, bands, SPEC, time)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(time), atol=1e-13)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(time), atol=1e-13)
    np.testing.assert_allclose(transposed, joined, atol=1e-13)
    np.testing.assert_allclose(matrix.T @ parts.ravel(), joined, atol=1e-13)


def test_each_band_is_a_projection_and_missing_high_ones_are_silent():
    """Splitting what the lowest bands make gives them again, and nothing in the others."""
    x = noise(2, 5 * SPEC.bins)
    parts = np.asarray(split(x, 4, SPEC))
    low = join(parts[:, :2], 4, SPEC, x.shape[-1])
    again = split(low, 4, SPEC)
    np.testing.assert_allclose(again[:, :2], parts[:, :2], atol=2e-6)
    np.testing.assert_allclose(again[:, 2:], 0, atol=2e-6)
    silent = np.concatenate([parts[:, :2], np.zeros_like(parts[:, 2:])], axis=1)
    np.testing.assert_array_equal(low, join(silent, 4, SPEC, x.shape[-1]))


# --- what the bands are

RATE = 8000
LONG = dsp.MdctSpec(256, "vorbis")


def tone(hz, samples=RATE):
    return np.sin(2 * np.pi * hz * np.arange(samples) / RATE + 0.7)


@pytest.mark.parametrize("bands", [2, 4])
@pytest.mark.parametrize("share", [0.1, 0.45, 0.7])
def test_a_tone_of_the_lowest_band_is_that_tone_at_the_lower_rate(bands, share):
    """Against a polyphase resampler, up to the time between the samples of the two: sqrt(bands) times as large."""
    low_rate, hz = RATE / bands, share * RATE / bands / 2
    with jax.enable_x64(True):
        low = np.asarray(dsp.split_bands(tone(hz), bands, LONG))[0]
    # Positions lie in the middle of the samples they stand for; the resampler's on the first. Moving x moves them.
    late = np.sin(2 * np.pi * hz * (np.arange(RATE) + (bands - 1) / 2) / RATE + 0.7)
    oracle = scipy.signal.resample_poly(late, 1, bands)
    inner = slice(200 // bands * 2, len(oracle) - 400 // bands)
    ours, theirs = low[: len(oracle)][inner], oracle[inner]
    gain = ours @ theirs / (theirs @ theirs)
    assert abs(gain / np.sqrt(bands) - 1) < 0.01
    residue = ours - gain * theirs
    assert np.square(residue).sum() < 1e-4 * np.square(ours).sum(), "an alias of more than -40 dB"
    spectrum = np.abs(np.fft.rfft(ours * np.hanning(len(ours))))
    assert abs(spectrum.argmax() * low_rate / len(ours) - hz) <= low_rate / len(ours)


def test_a_tone_lies_in_the_band_of_its_frequency():
    """Band b of 4 at 8 kHz is b to b + 1 kHz: a tone in its middle leaves less than -40 dB to the three others."""
    for band in range(4):
        energy = np.square(split(tone(500 + 1000 * band), 4, LONG)[:, 100:-100]).sum(-1)
        assert energy[band] > (1 - 1e-4) * energy.sum(), band


def test_bands_of_white_noise_are_white_and_as_loud():
    parts = np.asarray(split(noise(64 * 1024), 4, LONG))
    np.testing.assert_allclose(parts.std(axis=-1), 0.3, rtol=0.03)
    _, density = scipy.signal.welch(parts, nperseg=64, detrend=False)
    inner = density[:, 1:-1]  # the first and the last of one side count once
    np.testing.assert_allclose(inner / inner.mean(), 1, atol=0.25)
    correlation = np.corrcoef(parts)
    np.testing.assert_allclose(correlation, np.eye(4), atol=0.03)


# --- errors


@pytest.mark.parametrize("bands", [0, -1, 5, 48])
def test_bands_that_cannot_share_a_frame_are_refused(bands):
    said = f"{bands} bands cannot share the 24 coefficients of a frame: give one of its divisors"
    for call in (
        lambda: dsp.split_bands(noise(48), bands, SPEC),
        lambda: dsp.join_bands(noise(2, 24), bands, SPEC, 48),
        lambda: dsp.check_bands(bands, SPEC),
    ):
        with pytest.raises(ValueError, match=said):
            call()


@pytest.mark.parametrize("shape", [(5, 12), (4, 11), (4, 6), (1, 0)])
def test_bands_of_another_clip_are_refused(shape):
    said = rf"shape \({shape[0]}, {shape[1]}\), and a clip of 41 samples has \[..., 4, 12\] with frame_samples 48"
    with pytest.raises(ValueError, match=said):
        dsp.join_bands(noise(*shape), 4, SPEC, 41)


def test_lengths_are_completed_to_whole_hops():
    assert [dsp.padded_samples(n, SPEC) for n in (0, 1, 24, 25)] == [24, 24, 24, 48]


# --- periods


@pytest.mark.parametrize("length", [1, 10, 101])
@pytest.mark.parametrize("period", range(1, 12))
def test_periods_fold_into_rows_and_back_to_the_bit(period, length):
    x = noise(2, 3, length)
    folded = dsp.fold_period(x, period)
    assert folded.shape == (2, 3, -(-length // period), period)
    for column in range(min(period, length)):
        apart = x[..., column::period]
        np.testing.assert_array_equal(folded[..., column][..., : apart.shape[-1]], apart)
    assert np.square(folded).sum() == pytest.approx(np.square(x).sum(), rel=1e-6), "nothing but zeros is added"
    np.testing.assert_array_equal(dsp.unfold_period(folded, length), x)


def test_folding_keeps_integers_and_refuses_no_period():
    assert dsp.fold_period(np.arange(5), 2).tolist() == [[0, 1], [2, 3], [4, 0]]
    with pytest.raises(ValueError, match="period is 0 samples; give at least 1"):
        dsp.fold_period(noise(8), 0)
