"""Hold the STFT against the definition and against librosa, torch and scipy, and the inverse against the audio."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from jax.test_util import check_grads

from audiodiff import dsp

ATOL = {np.float32: 3e-5, np.float64: 1e-10}
LENGTHS = [(2, 1025), (1000,), (333,)]  # a batch of odd length, a plain one, a clip barely longer than a frame

librosa_spec = dsp.with_sizes(dsp.STFT_PRESETS["librosa"], 256, 64)
torch_spec = dsp.with_sizes(dsp.STFT_PRESETS["torch"], 256, 64)
hifigan_spec = dsp.with_sizes(dsp.STFT_PRESETS["hifigan"], 256, 64)


stft = jax.jit(dsp.stft, static_argnums=1)
istft = jax.jit(dsp.istft, static_argnums=(1, 2))


def _audio(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).normal(scale=0.3, size=shape).astype(dtype)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 63, 256])
def test_dft_equals_its_definition(n):
    """Ledger row 2: one frame without window or padding is X[k] = sum_n x[n] exp(-2 pi i k n / N)."""
    x = _audio(n)
    spec = dsp.StftSpec(n, n, window="rectangular", padding="none")
    matrix = np.exp(-2j * np.pi * np.outer(np.arange(n // 2 + 1), np.arange(n)) / n)
    with jax.enable_x64(True):
        spectrum = stft(x, spec)
        back = istft(spectrum, spec, n)
    assert spectrum.shape == (1, n // 2 + 1)
    np.testing.assert_allclose(spectrum[0], matrix @ x, atol=1e-10)
    np.testing.assert_allclose(spectrum[0], np.fft.rfft(x), atol=1e-10)
    np.testing.assert_allclose(back, x, atol=1e-10)


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", LENGTHS)
@pytest.mark.parametrize("window_samples", [256, 200, 131])
def test_librosa_convention(shape, dtype, window_samples):
    """Ledger row 4."""
    librosa = pytest.importorskip("librosa")
    x = _audio(shape, dtype)
    with jax.enable_x64(dtype == np.float64):
        ours = stft(x, dsp.with_sizes(librosa_spec, 256, 64, window_samples))
    theirs = librosa.stft(x, n_fft=256, hop_length=64, win_length=window_samples)
    np.testing.assert_allclose(ours, np.swapaxes(theirs, -1, -2), atol=ATOL[dtype])
    assert ours.dtype == theirs.dtype


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", LENGTHS)
@pytest.mark.parametrize(("window", "normalized"), [("rectangular", False), ("hann", True)])
def test_torch_convention(shape, dtype, window, normalized):
    """Ledger row 4; torch's default window is rectangular, which is the preset's."""
    torch = pytest.importorskip("torch")
    x = _audio(shape, dtype)
    spec = dataclasses.replace(torch_spec, window=window, scaling="sqrt_fft" if normalized else "none")
    with jax.enable_x64(dtype == np.float64):
        ours = stft(x, spec)
    their_window = torch.ones(256) if window == "rectangular" else torch.hann_window(256, dtype=torch.float64)
    theirs = torch.stft(
        torch.from_numpy(x), 256, 64, window=their_window.to(torch.from_numpy(x)), normalized=normalized,
        return_complex=True,
    )  # fmt: skip
    np.testing.assert_allclose(ours, np.swapaxes(theirs.numpy(), -1, -2), atol=ATOL[dtype])


@pytest.mark.parametrize("shape", LENGTHS)
@pytest.mark.parametrize(("size", "hop"), [(256, 128), (255, 100), (64, 64)])
def test_scipy_convention(shape, size, hop):
    """Ledger row 4: zeros at the boundaries and at the end, divided by the sum of the window."""
    x = _audio(shape)
    with jax.enable_x64(True):
        ours = stft(x, dsp.with_sizes(dsp.STFT_PRESETS["scipy"], size, hop))
    theirs = scipy.signal.stft(x, nperseg=size, noverlap=size - hop)[2]
    np.testing.assert_allclose(ours, np.swapaxes(theirs, -1, -2), atol=1e-12)


@pytest.mark.oracle
@pytest.mark.parametrize("shape", LENGTHS)
def test_hifigan_convention(shape):
    """Ledger row 4: reflect (N - H) / 2 samples at both ends, then do not centre."""
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(_audio(shape, np.float32))
    pad = (256 - 64) // 2
    padded = torch.nn.functional.pad(x.reshape(-1, 1, x.shape[-1]), (pad, pad), mode="reflect")[:, 0]
    theirs = torch.stft(padded, 256, 64, window=torch.hann_window(256), center=False, return_complex=True)
    ours = stft(x.numpy(), hifigan_spec)
    np.testing.assert_allclose(ours.reshape(-1, *ours.shape[-2:]), theirs.numpy().swapaxes(-1, -2), atol=3e-5)


@pytest.mark.parametrize("length", [128, 129, 255, 256, 257, 1000, 1024, 1025])
@pytest.mark.parametrize("spec", [librosa_spec, torch_spec, hifigan_spec, dsp.StftSpec(256, 64), dsp.StftSpec(255, 90)])
def test_frame_count_is_what_stft_makes(length, spec):
    """Ledger row 4: counts for short and odd lengths."""
    if spec.pad_mode == "reflect" and length <= spec.pad_samples:
        pytest.skip("too short to reflect, and refused: see the errors")
    frames = jax.eval_shape(lambda x: stft(x, spec), jnp.zeros(length)).shape[0]
    assert frames == dsp.frame_count(length, spec)
    if spec is librosa_spec:
        assert frames == 1 + length // 64
    if spec is hifigan_spec:
        assert frames == length // 64


HOPS = [(64, 16), (64, 32), (64, 25), (60, 20), (64, 48), (63, 63)]


@pytest.mark.parametrize("name", dsp.WINDOWS)
@pytest.mark.parametrize(("size", "hop"), HOPS)
def test_round_trip_wherever_the_checker_accepts_and_refusal_elsewhere(name, size, hop):
    """Ledger row 5, at an odd length, with the scaling of scipy thrown in."""
    spec = dsp.StftSpec(size, hop, window=name, scaling="window_sum")
    x = _audio((2, 203))
    if not dsp.nola(dsp.window(name, size), hop):
        with pytest.raises(ValueError, match=rf"istft cannot invert window '{name}' of {size} samples at hop {hop}"):
            istft(jnp.zeros((9, spec.bins), jnp.complex64), spec, 203)
        return
    round_trip = jax.jit(lambda x: istft(stft(x, spec), spec, x.shape[-1]))
    with jax.enable_x64(True):
        np.testing.assert_allclose(round_trip(x), x, atol=1e-10)
        np.testing.assert_allclose(round_trip(x.astype(np.float32)), x, atol=1e-5)


def test_the_checker_accepts_and_refuses():
    """The test above must have met both sides."""
    accepted = {(n, h): bool(dsp.nola(dsp.window(n, s), h)) for n in dsp.WINDOWS for s, h in HOPS}
    assert accepted["hann", 25] and accepted["hann", 48] and accepted["rectangular", 63]
    assert not accepted["hann", 63] and not accepted["blackman", 63]


@pytest.mark.parametrize("padding", ["half_fft", "half_overlap"])
@pytest.mark.parametrize("length", [1, 50, 64, 65, 127, 203])
def test_every_length_comes_back_with_pad_end(padding, length):
    spec = dsp.StftSpec(64, 32, padding=padding)
    x = _audio(length)
    with jax.enable_x64(True):
        np.testing.assert_allclose(istft(stft(x, spec), spec, length), x, atol=1e-10)


def test_uncovered_ends_are_finite_and_hardly_amplified():
    """Without padding a Hann window leaves the first sample out; librosa's convention leaves the last ones.

    A plain division would raise an error in the second sample by 1 / w[1] = 415.
    """
    for spec in (dsp.StftSpec(64, 16, padding="none"), dsp.with_sizes(dsp.STFT_PRESETS["librosa"], 64, 32)):
        noise = _audio((dsp.frame_count(223, spec), spec.bins)) * (1 + 1j)
        audio = istft(noise, spec, 223)
        assert np.isfinite(audio).all()
        assert np.abs(audio).max() < 32 * np.abs(np.fft.irfft(noise)).max()
        x = _audio(223, np.float32)
        np.testing.assert_allclose(istft(stft(x, spec), spec, 223)[32:-32], x[32:-32], atol=1e-5)


@pytest.mark.oracle
def test_istft_equals_torch_on_a_spectrum_that_is_no_stft():
    """Least squares has one answer also for a modified spectrum."""
    torch = pytest.importorskip("torch")
    spec = dataclasses.replace(torch_spec, window="hann")
    spectrum = _audio((17, 129)) + 1j * _audio((17, 129), seed=1)
    spectrum[:, [0, -1]] = spectrum[:, [0, -1]].real
    theirs = torch.istft(torch.from_numpy(spectrum.T), 256, 64, window=torch.hann_window(256, dtype=torch.float64))
    with jax.enable_x64(True):
        np.testing.assert_allclose(istft(spectrum, spec, 1024), theirs.numpy(), atol=1e-10)


def test_gradients_flow_both_ways():
    """Ledger row 5: reverse mode equals finite differences through stft, magnitude and istft."""
    spec = dsp.StftSpec(16, 6)
    with jax.enable_x64(True):
        x = jnp.asarray(_audio(40))
        check_grads(jax.jit(lambda x: dsp.magnitude(dsp.stft(x, spec))), (x,), order=1, modes=["rev"])
        frames = dsp.frame_count(40, spec)
        parts = jnp.asarray(_audio((2, frames, spec.bins)))
        check_grads(jax.jit(lambda p: dsp.istft(p[0] + 1j * p[1], spec, 40)), (parts,), order=1, modes=["rev"])


@pytest.mark.parametrize("epsilon", [0.0, 1e-9])
def test_magnitude_and_its_gradient_at_silence(epsilon):
    x = jnp.zeros(256)
    value, gradient = jax.value_and_grad(lambda x: dsp.magnitude(stft(x, librosa_spec), epsilon).sum())(x)
    assert value == pytest.approx(dsp.frame_count(256, librosa_spec) * 129 * np.sqrt(epsilon), rel=1e-4)
    np.testing.assert_array_equal(gradient, 0)


def test_power_is_the_square_of_magnitude():
    spectrum = jnp.asarray([3 + 4j, 0, 1e-3j])
    np.testing.assert_allclose(dsp.magnitude(spectrum), [5, 0, 1e-3], rtol=1e-6)
    np.testing.assert_allclose(dsp.power(spectrum), [25, 0, 1e-6], rtol=1e-6)


def test_spec_is_one_value_per_convention_and_static_under_jit():
    assert dsp.StftSpec(64, 16) == dsp.StftSpec(64, 16, 64) == dsp.with_sizes(dsp.StftSpec(8, 2), 64, 16)
    assert hash(dsp.StftSpec(64, 16)) == hash(dsp.StftSpec(64, 16, 64))
    x = _audio(100, np.float32)
    jitted = stft(x, dsp.StftSpec(64, 16))
    with jax.disable_jit():
        np.testing.assert_allclose(dsp.stft(x, dsp.StftSpec(64, 16)), jitted, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dsp.StftSpec(256, 0), "hop_samples is 0; it must be at least 1"),
        (lambda: dsp.StftSpec(-4, 1), "fft_samples is -4; it must be at least 1"),
        (lambda: dsp.StftSpec(256, 64, 300), "window_samples is 300, longer than fft_samples 256; raise fft_samples"),
        (lambda: dsp.StftSpec(256, 64, window="han"), "window is 'han'; choose one of hann, "),
        (lambda: dsp.StftSpec(256, 64, pad_mode="reflekt"), "pad_mode is 'reflekt'; choose one of reflect, constant"),
        (lambda: dsp.StftSpec(64, 65, padding="half_overlap"), "hop_samples is 65, above fft_samples 64"),
        (
            lambda: stft(np.zeros(128), torch_spec),
            "clip of 128 samples is too short for 128 samples of reflect padding; .* at least 129 samples",
        ),
        (
            lambda: stft(np.zeros(97), hifigan_spec),
            None,  # one sample more than the 96 that it reflects, and a frame: the shortest legal clip
        ),
        (lambda: stft(np.zeros(96), hifigan_spec), "clip of 96 samples is too short for 96 samples of reflect"),
        (
            lambda: stft(np.zeros(255), dsp.StftSpec(256, 64, padding="none", pad_end=False)),
            "clip of 255 samples holds no frame of 256 .* at least 256 samples, or set pad_end=True",
        ),
        (
            lambda: istft(np.zeros((3, 100), np.complex64), librosa_spec, 128),
            "the spectrum has 100 bins, and fft_samples 256 makes 129",
        ),
        (
            lambda: istft(np.zeros((3, 129), np.complex64), librosa_spec, 1000),
            "length_samples 1000 needs 16 frames at hop 64, and the spectrum has 3",
        ),
    ],
)
def test_errors_name_value_limit_and_mend(call, message):
    if message is None:
        call()
        return
    with pytest.raises(ValueError, match=message):
        call()


def test_a_magnitude_that_is_not_a_number_stays_none():
    assert np.isnan(dsp.magnitude(jnp.array([jnp.nan + 0j]))).all()
