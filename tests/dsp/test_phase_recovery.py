"""Hold Griffin and Lim's algorithm against its theorem, its fixed points and librosa, and its gradient against NaN."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff import dsp
from audiodiff.data import read_audio
from audiodiff.dsp.phase_recovery import griffin_lim as eager_griffin_lim

TIME = 1501
SPEC = dsp.StftSpec(256, 64)
CENTRED = dsp.StftSpec(256, 64, pad_end=False)  # librosa's and torch's, at constant padding

stft = jax.jit(dsp.stft, static_argnums=1)
griffin_lim = jax.jit(eager_griffin_lim, static_argnums=(1, 2), static_argnames=("momentum", "length_samples"))


def _voice(samples=TIME, seed=0):
    """A gliding harmonic tone under an envelope, with a little noise, silent for its first fifth."""
    t = np.arange(samples) / 8000
    harmonics = sum(np.sin(k * 2 * np.pi * (120 * t + 60 * t**2)) / k for k in range(1, 12))
    noise = np.random.default_rng(seed).normal(scale=0.02, size=samples)
    return np.where(t < t[-1] / 5, 0, 0.2 * np.sin(np.pi * t / t[-1]) * harmonics + noise)


def _magnitude(x, spec):
    with jax.enable_x64(True):
        return np.abs(np.asarray(stft(x, spec)))


COVERED = {
    "centred": SPEC,
    "odd": dsp.StftSpec(255, 100),
    "short window": dsp.StftSpec(128, 48, 60, scaling="window_norm"),
    "half overlap": dsp.StftSpec(128, 32, padding="half_overlap"),
}


@pytest.mark.parametrize("name", COVERED)
def test_convergence_never_rises(name):
    """Ledger row 17: Griffin and Lim's theorem, exact in float64, from zero phase and from random phase at once.

    Noise as magnitudes is what no audio has: the theorem asks for no consistency.
    """
    spec = COVERED[name]
    voice = _magnitude(_voice(), spec)
    target = np.stack([voice, np.abs(np.random.default_rng(1).normal(size=voice.shape))])
    phase = np.random.default_rng(2).uniform(-np.pi, np.pi, target.shape)
    with jax.enable_x64(True):
        for first in (np.zeros_like(target), phase):
            convergence = griffin_lim(target, spec, 40, phase=first, length_samples=TIME).convergence
            assert convergence.shape == (2, 41)
            assert (np.diff(convergence) <= 1e-13).all() and (np.diff(convergence[:, :10]) < -1e-5).all()


def test_convergence_rises_in_float32_by_rounding_alone():
    """Ledger row 17."""
    target = _magnitude(_voice().astype(np.float32), SPEC)
    found = griffin_lim(target, SPEC, 64, key=jax.random.key(0), length_samples=TIME)
    assert found.audio.dtype == found.convergence.dtype == np.float32
    assert np.diff(found.convergence).max() < 1e-6


@pytest.mark.parametrize(("name", "momentum"), [("centred", 0.0), ("odd", 0.99), ("short window", 0.99)])
def test_the_true_phase_is_a_fixed_point(name, momentum):
    """Also with silence in the clip, where there is no phase."""
    spec, x = COVERED[name], _voice()
    with jax.enable_x64(True):
        spectrum = np.asarray(stft(x, spec))
        found = griffin_lim(np.abs(spectrum), spec, 4, momentum=momentum, phase=np.angle(spectrum), length_samples=TIME)
    np.testing.assert_allclose(found.audio, x, atol=1e-10)
    np.testing.assert_allclose(found.convergence, 0, atol=1e-10)


def test_the_convergence_is_that_of_the_whole_spectrum_of_the_audio_returned():
    target = _magnitude(_voice(), SPEC)
    with jax.enable_x64(True):
        found = griffin_lim(target, SPEC, 3, momentum=0.99, length_samples=TIME)
    pad = np.pad(np.asarray(found.audio), (128, 1024))
    whole = [np.fft.fft(pad[i * 64 :][:256] * dsp.hann(256)) for i in range(len(target))]
    mirrored = np.concatenate([target, target[:, 127:0:-1]], axis=1)
    error = np.linalg.norm(np.abs(whole) - mirrored) / np.linalg.norm(mirrored)
    assert found.convergence[3] == pytest.approx(error, rel=1e-9)


@pytest.mark.oracle
@pytest.mark.parametrize("momentum", [0.0, 0.99])
def test_it_equals_librosa_from_zero_phase(momentum):
    librosa = pytest.importorskip("librosa")
    target = _magnitude(_voice(), CENTRED)
    theirs = librosa.griffinlim(
        target.T, n_iter=20, hop_length=64, momentum=momentum, init=None, length=TIME, dtype=np.float64
    )
    with jax.enable_x64(True):
        ours = griffin_lim(target, CENTRED, 20, momentum=momentum, length_samples=TIME)
    np.testing.assert_allclose(ours.audio, theirs, atol=1e-9)
    assert np.abs(theirs).max() > 0.1


def test_the_fast_one_ends_lower():
    """Ledger row 17, on a synthetic voice and after 32 iterations."""
    target = _magnitude(_voice(), SPEC)
    plain, fast = (griffin_lim(target, SPEC, 32, momentum=m, length_samples=TIME).convergence[-1] for m in (0.0, 0.99))
    assert fast < 0.9 * plain


@pytest.mark.fsdd
def test_the_fast_one_ends_lower_on_speech(fsdd_root):
    """Ledger row 17: each of six speakers."""
    spec = dsp.StftSpec(512, 128)
    names = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    clips = [read_audio(fsdd_root / f"7_{name}_0.wav", 8000, channels=1)[:2000, 0] for name in names]
    target = _magnitude(np.stack([np.pad(clip, (0, 2000 - len(clip))) for clip in clips]), spec)
    plain, fast = (griffin_lim(target, spec, 32, momentum=m, length_samples=2000).convergence for m in (0.0, 0.99))
    assert (np.diff(plain) < 1e-5).all()
    assert (fast[:, -1] < plain[:, -1]).all()


def test_silence_stays_silent_beside_a_sounding_clip():
    target = np.stack([np.zeros((24, SPEC.bins)), _magnitude(_voice()[:1472], SPEC)])
    for key in (None, jax.random.key(0)):
        found = griffin_lim(target, SPEC, 8, momentum=0.99, key=key, length_samples=1472)
        np.testing.assert_array_equal(found.audio[0], 0)
        np.testing.assert_array_equal(found.convergence[0], 0)
        assert np.isfinite(found.audio).all() and np.abs(found.audio[1]).max() > 0.05


def _loss(target, spec, iterations, momentum, length):
    found = eager_griffin_lim(target, spec, iterations, momentum=momentum, length_samples=length)
    return jnp.square(found.audio).sum(axis=-1) + found.convergence.sum(axis=-1)


def test_the_gradient_equals_finite_differences():
    """Ledger row 59, the inverter's part."""
    spec = dsp.StftSpec(16, 4)
    generator = np.random.default_rng(0)
    target = _magnitude(generator.normal(size=40), spec) + 0.1
    step = 1e-6 * generator.normal(size=target.shape)
    loss = jax.jit(jax.value_and_grad(lambda s: _loss(s, spec, 2, 0.5, 40)))
    with jax.enable_x64(True):
        (low, _), (_, gradient), (high, _) = (loss(target + sign * step) for sign in (-1, 0, 1))
    assert float(high - low) == pytest.approx(2 * float(np.vdot(gradient, step)), rel=1e-5)


def test_the_gradient_is_finite_at_empty_bins_and_at_silence():
    """Ledger row 59: a silent clip, one with silent frames, one with empty bands, and a perfect fit at zero phase."""
    voice = _magnitude(_voice()[:1472].astype(np.float32), SPEC)
    banded = np.where(np.arange(SPEC.bins) % 3 == 0, voice, 0)
    click = _magnitude(np.eye(1, 1472, 0, dtype=np.float32)[0], SPEC)
    target = jnp.asarray(np.stack([np.zeros_like(voice), voice, banded, click]))
    gradient = jax.jit(jax.grad(lambda s: _loss(s, SPEC, 32, 0.99, 1472).sum()))(target)
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient).max(axis=(1, 2))[1:] > 0).all()


@pytest.mark.parametrize("bad", [np.nan, -1e-3])
def test_an_impossible_magnitude_spoils_its_own_clip_alone(bad):
    voice = _magnitude(_voice()[:1472], SPEC)
    target = np.stack([voice, voice])
    target[0, 10, 5] = bad
    found = griffin_lim(target, SPEC, 8, momentum=0.99, length_samples=1472)
    assert np.isnan(found.audio[0, 10 * 64]) and np.isnan(found.convergence[0]).all()
    assert np.isfinite(found.audio[1]).all() and np.isfinite(found.convergence[1]).all()


def test_a_key_draws_one_phase_per_clip():
    voice = _magnitude(_voice()[:1472], SPEC)
    draw = functools.partial(griffin_lim, np.stack([voice, voice]), SPEC, 2, length_samples=1472)
    first, again, other = (draw(key=jax.random.key(seed)).audio for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01 and np.abs(first[0] - first[1]).max() > 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": -1}, "iterations is -1; it must be at least 0"),
        ({"momentum": 1.0}, "momentum is 1.0; it must be at least 0 and below 1"),
        ({"momentum": -0.1}, "momentum is -0.1; it must be at least 0"),
        ({"momentum": float("nan")}, "momentum is nan; it must be at least 0"),
        ({"length_samples": 2000}, r"shape \(24, 129\), and length_samples 2000 makes \[..., 33, 129\]"),
        ({"magnitude": np.ones((0, 129))}, r"shape \(0, 129\), and length_samples 1472 makes \[..., 24, 129\]"),
        ({"magnitude": np.ones((24, 128))}, r"shape \(24, 128\), .* with fft_samples 256 and hop_samples 64"),
        ({"magnitude": np.ones((24, 129), np.complex64)}, "must be real, .* complex64; pass its .* magnitude"),
        ({"phase": np.ones((23, 129))}, r"phase has shape \(23, 129\) and the magnitude \(24, 129\)"),
        ({"phase": np.ones((24, 129)), "key": jax.random.key(0)}, "both a key and a phase are given"),
    ],
)
def test_errors_name_value_limit_and_mend(changes, message):
    given = {"magnitude": np.ones((24, 129)), "spec": SPEC, "iterations": 2, "length_samples": 1472, **changes}
    with pytest.raises(ValueError, match=message):
        eager_griffin_lim(**given)
