"""Priors are invertible changes of variables, and their noise has the loudness and the spectrum that the mel tells."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from audiodiff import dsp
from audiodiff.diffusion.priors import Standard
from audiodiff.vocoders import FrameEnergy, MelFrames, SpectralEnvelope

MEL = dsp.MelSpec(rate_hz=8000, stft=dsp.StftSpec(256, 64), bands=24, fmax_hz=4000.0)
POWER = dsp.MelSpec(rate_hz=8000, stft=dsp.StftSpec(256, 64, scaling="window_norm"), bands=24, fmax_hz=4000.0, power=2)
PRIORS = {"frame energy": FrameEnergy(MEL), "spectral envelope": SpectralEnvelope(MEL), "standard": Standard()}
RNG = np.random.default_rng(0)


def low_passed(cutoff_hz: float, samples: int = 64 * 200) -> np.ndarray:
    """Return loud noise below a frequency and noise 30 dB weaker above it."""
    white = RNG.standard_normal(samples)
    below = signal.sosfiltfilt(signal.butter(8, cutoff_hz, fs=8000, output="sos"), white)
    return (0.1 * below + 0.003 * white).astype(np.float32)


def conditions(audio: np.ndarray, mel: dsp.MelSpec = MEL) -> dict[str, jax.Array]:
    return {"mel": MelFrames(mel)(jnp.atleast_2d(audio))}


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS.keys())
def test_colouring_undoes_whitening(prior):
    told, x = conditions(low_passed(1000)), jnp.asarray(RNG.standard_normal((1, 64 * 200, 1)), jnp.float32)
    z = prior.whiten(x, told)
    np.testing.assert_allclose(prior.colour(z, told), x, atol=2e-5)
    assert z.shape == x.shape


@pytest.mark.parametrize("mel", [MEL, POWER], ids=["magnitude", "power"])
def test_the_noise_is_as_loud_as_the_sound_that_the_mel_is_of(mel):
    loudness = np.repeat([0.02, 0.2, 0.05], 64 * 60)
    audio = (loudness * RNG.standard_normal(len(loudness))).astype(np.float32)
    std = np.asarray(FrameEnergy(mel).std(conditions(audio, mel)["mel"], len(audio)))[0]
    for part in range(3):
        inside = slice(64 * (60 * part + 8), 64 * (60 * part + 52))
        # The mean of a magnitude is sqrt(pi)/2 of its root mean square, and a mel of magnitudes holds means.
        expected = loudness[inside][0] * (np.sqrt(np.pi) / 2 if mel.power == 1 else 1)
        assert std[inside].mean() == pytest.approx(expected, rel=0.08)


def test_silence_has_the_floor_for_its_noise():
    std = FrameEnergy(MEL, floor=0.25).std(conditions(np.zeros(640, np.float32))["mel"], 640)
    np.testing.assert_array_equal(std, 0.25)


@pytest.mark.parametrize("prior", [FrameEnergy(MEL, floor=1.0), SpectralEnvelope(MEL, floor=1.0)])
def test_an_identity_covariance_leaves_everything_as_it_is(prior):
    told = conditions(np.zeros(640, np.float32))
    x = jnp.asarray(RNG.standard_normal((1, 640, 1)), jnp.float32)
    if isinstance(prior, FrameEnergy):
        np.testing.assert_array_equal(prior.whiten(x, told), x)  # to the bit
    np.testing.assert_allclose(prior.colour(x, told), x, atol=2e-6)


def test_the_covariance_of_coloured_noise_is_what_the_gains_say():
    """L from its action on unit vectors: symmetric, and diagonal in the transform with the gains for eigenvalues."""
    prior, told = SpectralEnvelope(MEL), conditions(low_passed(1500, 64 * 6))
    unit = jnp.eye(64 * 6)[:, :, None]
    repeated = {"mel": jnp.repeat(told["mel"], 64 * 6, axis=0)}
    matrix = np.asarray(prior.colour(unit, repeated))[:, :, 0]
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    gains = np.asarray(prior.gains(told["mel"])).ravel()
    eigenvalues = np.sort(np.linalg.eigvalsh(matrix.astype(np.float64)))
    np.testing.assert_allclose(eigenvalues, np.sort(gains), rtol=1e-3, atol=1e-6)
    inverse = np.asarray(prior.whiten(unit, repeated))[:, :, 0]
    np.testing.assert_allclose(matrix @ inverse, np.eye(64 * 6), atol=1e-4)


def test_the_noise_has_the_spectrum_of_the_sound_that_the_mel_is_of():
    audio = low_passed(1000)
    white = RNG.standard_normal((1, len(audio), 1)).astype(np.float32)
    noise = np.asarray(SpectralEnvelope(MEL).colour(jnp.asarray(white), conditions(audio)))[0, :, 0]
    density = functools.partial(signal.welch, fs=8000, nperseg=256)
    (frequency, ours), (_, theirs) = density(noise), density(audio)
    inside = (frequency > 100) & ((frequency < 800) | (frequency > 1800))
    ratio_db = 10 * np.log10(ours[inside] / theirs[inside])
    assert np.abs(ratio_db).max() < 3.5
    assert theirs[frequency < 800].mean() > 100 * theirs[frequency > 1800].mean()  # or any flat noise would pass


@pytest.mark.parametrize("name", ["frame energy", "spectral envelope"])
def test_gradients_by_the_mel_are_finite_at_silence_too(name):
    prior, z = PRIORS[name], jnp.ones((1, 640, 1))
    for audio in (np.zeros(640, np.float32), low_passed(1000, 640)):
        gradient = jax.grad(lambda mel: jnp.sum(prior.colour(z, {"mel": mel}) ** 2))(conditions(audio)["mel"])
        assert np.isfinite(gradient).all()


def test_a_time_of_no_whole_hops_is_refused():
    told = conditions(np.zeros(640, np.float32))
    with pytest.raises(ValueError, match="a circle of 600 samples is not of whole hops of 64: pad it to a multiple"):
        SpectralEnvelope(MEL).whiten(jnp.zeros((1, 600, 1)), told)
    with pytest.raises(ValueError, match="10 mel frames stand over 640 samples and x has 704: give a"):
        SpectralEnvelope(MEL).whiten(jnp.zeros((1, 704, 1)), told)
