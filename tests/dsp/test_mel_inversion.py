"""Hold the way back from a log-mel against the way there, and against least squares by scipy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.test_util import check_grads

from audiodiff import dsp
from audiodiff.dsp import mel_inversion

SPEC = dsp.MelSpec(rate_hz=8000, stft=dsp.StftSpec(256, 64), bands=24, fmax_hz=4000.0)
BLOCKS = dsp.StftSpec(64, 64, window="rectangular", padding="none")  # every spectrum is that of some audio

invert = jax.jit(mel_inversion.magnitude_from_mel, static_argnums=(1, 2))


def _harmonics(samples=1500):
    t = np.arange(samples) / 8000
    return 0.1 * sum(np.sin(k * 2 * np.pi * 150 * t) / k for k in range(1, 20)) + 1e-3 * np.cos(7000 * t**2)


def _of_magnitude(magnitude, spec):
    """Take magnitudes to mel as mel_spectrogram does, without the STFT."""
    return (magnitude**spec.power + (spec.power_epsilon if spec.power == 2 else 0)) @ spec.filterbank().T


@pytest.mark.parametrize("name", dsp.MEL_PRESETS)
def test_expand_is_the_inverse_of_compress(name):
    spec = dataclasses.replace(dsp.MEL_PRESETS[name], top_db=None)
    mel = np.geomspace(2 * max(spec.floor, 1e-4**spec.power), 5, 60).reshape(3, 20)
    with jax.enable_x64(True):
        np.testing.assert_allclose(mel_inversion.expand(dsp.compress(mel, spec), spec), mel, rtol=1e-9)
        log_mel = dsp.compress(np.geomspace(1e-12, 5, 60).reshape(3, 20), spec)
        np.testing.assert_allclose(dsp.compress(mel_inversion.expand(log_mel, spec), spec), log_mel, atol=1e-9)


def test_expand_undoes_an_added_floor_and_is_never_negative():
    spec = dataclasses.replace(SPEC, floor=1e-2, floor_rule="add", log="log10")
    mel = np.array([[0.0, 1e-3, 2.0]])
    with jax.enable_x64(True):
        np.testing.assert_allclose(mel_inversion.expand(dsp.compress(mel, spec), spec), mel, atol=1e-12)
        np.testing.assert_array_equal(mel_inversion.expand(np.array([[-3.0]]), spec), 0)


@pytest.mark.parametrize("changes", [{}, {"power": 2}, {"power_epsilon": 1e-4}, {"power": 2, "power_epsilon": 1e-4}])
@pytest.mark.parametrize("iterations", [0, 4])
def test_a_flat_spectrum_comes_back_with_its_mel_exactly(changes, iterations):
    """Ledger row 16: full row rank, and no negative part in the pseudo-inverse's answer."""
    spec = dataclasses.replace(SPEC, stft=dsp.StftSpec(512, 128), **changes)
    assert dsp.filterbank_rank(spec.filterbank()) == spec.bands
    energy = (1 + 0.1 * np.sin(np.arange(12).reshape(3, 4)) @ np.ones((4, spec.bands))) @ spec.filterbank()
    mel = energy @ spec.filterbank().T  # B B^T a: its minimum-norm spectrum is B^T a, nowhere negative
    mel /= mel.mean()
    with jax.enable_x64(True):
        magnitude = np.asarray(invert(mel, spec, iterations))
    used = magnitude**spec.power if spec.power == 2 else np.sqrt(magnitude**2 + spec.power_epsilon)
    used = used + (spec.power_epsilon if spec.power == 2 else 0)
    inside = spec.filterbank().sum(axis=0) > 0
    error = np.linalg.norm(used[:, inside] @ spec.filterbank().T[inside] - mel) / np.linalg.norm(mel)
    assert error < (1e-3 if spec.power_epsilon else 1e-9 if iterations == 0 else 0.02)


def test_iterations_bring_the_mel_nearer_every_time():
    """Ledger row 16: harmonics, which the pseudo-inverse answers with negative values, and Lee and Seung's theorem."""
    with jax.enable_x64(True):
        mel = np.asarray(dsp.mel_spectrogram(_harmonics(), SPEC))
        errors = {
            count: float(np.linalg.norm(_of_magnitude(np.asarray(invert(mel, SPEC, count)), SPEC) - mel))
            for count in (0, 1, 2, 4, 16, 64)
        }
    assert errors[1] > errors[2] > errors[4] > errors[16] > errors[64]
    assert errors[16] < 0.03 * np.linalg.norm(mel)


def test_many_iterations_reach_the_residual_of_scipy_s_nonnegative_least_squares():
    """On mel values that no spectrum has, where the residual is not 0."""
    mel = np.abs(np.random.default_rng(0).normal(size=(3, SPEC.bands))) * (np.arange(SPEC.bands) % 4 == 0)
    with jax.enable_x64(True):
        magnitude = np.asarray(invert(mel, SPEC, 3000))
    ours = np.linalg.norm(magnitude @ SPEC.filterbank().T - mel, axis=1)
    least = [scipy.optimize.nnls(SPEC.filterbank(), each)[1] for each in mel]
    assert min(least) > 0.01
    np.testing.assert_allclose(ours, least, rtol=2e-2)


def test_two_waveforms_with_equal_mels():
    """Ledger row 16: what lies in the null space of the filters is lost, magnitude as well as phase."""
    spec = dataclasses.replace(SPEC, stft=BLOCKS, bands=8)
    bank = spec.filterbank()
    lost = np.linalg.svd(bank)[2][dsp.filterbank_rank(bank) :]
    first = np.full((4, BLOCKS.bins), 1.0)
    second = first + 2 * np.abs(lost).max() ** -1 * 0.4 * lost[:1]
    assert (second > 0).all()
    with jax.enable_x64(True):
        one, two = (dsp.istft(magnitude, BLOCKS, 256) for magnitude in (first, second))
        np.testing.assert_allclose(dsp.mel_spectrogram(one, spec), dsp.mel_spectrogram(two, spec), atol=1e-12)
        np.testing.assert_array_equal(dsp.mel_spectrogram(one, spec), dsp.mel_spectrogram(-one, spec))
    assert np.linalg.norm(one - two) > 0.1 * np.linalg.norm(one)


@pytest.mark.parametrize("changes", [{}, {"power": 2}, {"power_epsilon": 1e-9}])
@pytest.mark.parametrize("iterations", [0, 16])
def test_silence_is_silent_and_gradients_are_finite(changes, iterations):
    """Ledger row 59: by a mel that is silent in some frames and bands."""
    spec = dataclasses.replace(SPEC, **changes)
    mel = np.asarray(dsp.mel_spectrogram(_harmonics().astype(np.float32), spec)).copy()
    mel[:5], mel[:, 3:6] = 0, 0
    magnitude = invert(mel, spec, iterations)
    np.testing.assert_array_equal(magnitude[:5], 0)
    assert np.isfinite(magnitude).all() and (magnitude >= 0).all()
    assert np.isfinite(jax.jit(jax.grad(lambda m: invert(m, spec, iterations).sum()))(mel)).all()
    spoilt = invert(np.where(np.arange(len(mel))[:, None] == 7, np.nan, mel), spec, iterations)
    assert np.isnan(spoilt[7]).any() and np.isfinite(spoilt[8:]).all()


def test_the_gradient_equals_finite_differences():
    """Ledger row 59, from the log-mel to the magnitudes."""
    spec = dataclasses.replace(SPEC, stft=dsp.StftSpec(64, 16), bands=6, power=2)
    log_mel = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6)))
    with jax.enable_x64(True):
        inverse = jax.jit(lambda y: mel_inversion.magnitude_from_mel(mel_inversion.expand(y, spec), spec, 4))
        check_grads(inverse, (log_mel.astype(jnp.float64),), order=1, modes=["rev"], rtol=1e-3)


@pytest.mark.parametrize("changes", [{}, {"power": 2}, {"norm": "none"}, {"fmin_hz": 300.0, "fmax_hz": 3000.0}])
def test_the_envelope_of_a_flat_spectrum_is_the_spectrum_and_a_tilt_keeps_its_order(changes):
    spec = dataclasses.replace(SPEC, **changes)
    bank = spec.filterbank()
    flat = np.full((3, spec.stft.bins), 0.7)
    mel = flat**spec.power @ bank.T
    np.testing.assert_allclose(dsp.mel_envelope(dsp.compress(mel, spec), spec), flat, rtol=1e-3)
    tilt = np.geomspace(1, 0.01, spec.stft.bins)[None]
    envelope = np.asarray(dsp.mel_envelope(dsp.compress(tilt**spec.power @ bank.T, spec), spec))[0]
    inside = np.flatnonzero(bank.sum(0))
    assert (np.diff(envelope) <= 1e-6).all() and (envelope >= 0).all()
    middle = inside[len(inside) // 8 : -len(inside) // 8]
    assert np.abs(np.log(envelope[middle] / tilt[0, middle])).max() < 0.25  # a quarter of a neper, of 4.6 in all


def test_audio_is_brought_nearer_to_a_mel_every_time_and_left_alone_where_it_has_it():
    """White noise to the mel of another sound; a sound to its own mel; silence stays silence."""
    match = jax.jit(dsp.match_mel, static_argnums=(2, 3))
    wanted = dsp.log_mel(_harmonics().astype(np.float32), SPEC)
    noise = 0.1 * np.random.default_rng(0).standard_normal(len(_harmonics())).astype(np.float32)
    errors = [np.abs(dsp.log_mel(match(noise, wanted, SPEC, n), SPEC) - wanted).mean() for n in (0, 1, 2, 4)]
    assert errors[0] > 1.0 and (np.diff(errors) < 0).all() and errors[-1] < errors[0] / 3
    np.testing.assert_allclose(match(_harmonics().astype(np.float32), wanted, SPEC, 2), _harmonics(), atol=1e-3)
    np.testing.assert_array_equal(match(np.zeros_like(noise), wanted, SPEC, 2), 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mel_inversion.magnitude_from_mel(np.ones((3, 23)), SPEC), "mel has 23 bands and the spec 24"),
        (lambda: mel_inversion.mel_envelope(np.ones((3, 23)), SPEC), "mel has 23 bands and the spec 24"),
        (lambda: mel_inversion.magnitude_from_mel(np.ones((3, 24)), SPEC, -1), "iterations is -1; it must be"),
    ],
)
def test_errors_name_value_limit_and_mend(call, message):
    with pytest.raises(ValueError, match=message):
        call()
