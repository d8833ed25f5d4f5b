"""Hold the MDCT against the sum that defines it, and its inverse against the audio."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from jax.test_util import check_grads

from audiodiff import dsp as m

mdct = jax.jit(m.mdct, static_argnums=1)
imdct = jax.jit(m.imdct, static_argnums=(1, 2))


def _audio(shape, dtype=np.float64):
    return np.random.default_rng(0).normal(scale=0.3, size=shape).astype(dtype)


def _by_definition(x, spec, w):
    """Sum cosines over every frame, in loops over frames and coefficients."""
    bins, frames = spec.bins, m.mdct_frame_count(len(x), spec)
    padded = np.zeros((frames + 1) * bins)
    padded[bins : bins + len(x)] = x
    n = np.arange(2 * bins)
    return np.array(
        [
            [
                np.sqrt(2 / bins)
                * np.sum(w * padded[f * bins + n] * np.cos(np.pi / bins * (n + 0.5 + bins / 2) * (k + 0.5)))
                for k in range(bins)
            ]
            for f in range(frames)
        ]
    )


@pytest.mark.parametrize("window", m.MDCT_WINDOWS)
@pytest.mark.parametrize("frame_samples", [2, 6, 16])  # an odd half and an even one, down to the least
def test_it_equals_its_definition(frame_samples, window):
    spec = m.MdctSpec(frame_samples, window)
    x = _audio(41)
    expected = _by_definition(x, spec, m.MDCT_WINDOWS[window](frame_samples))
    with jax.enable_x64(True):
        np.testing.assert_allclose(mdct(x, spec), expected, atol=1e-12)


@pytest.mark.parametrize(("length", "frame_samples"), [(0, 16), (1, 16), (8, 16), (203, 30)])
@pytest.mark.parametrize(("dtype", "atol"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_every_length_comes_back_with_its_energy(length, frame_samples, dtype, atol):
    """Perfect reconstruction and Parseval, in a batch."""
    spec, x = m.MdctSpec(frame_samples, "kbd"), _audio((2, length), dtype)
    with jax.enable_x64(dtype == np.float64):
        coefficients = mdct(x, spec)
        back = imdct(coefficients, spec, length)
    assert coefficients.shape == (2, m.mdct_frame_count(length, spec), spec.bins)
    assert back.shape == x.shape and coefficients.dtype == back.dtype == dtype
    np.testing.assert_allclose(back, x, atol=atol)
    np.testing.assert_allclose(np.square(coefficients).sum((-2, -1)), np.square(x).sum(-1), rtol=max(atol, 1e-12))


def test_large_frames_reconstruct_in_float32():
    spec, x = m.MdctSpec(1024), _audio(5001, np.float32)
    np.testing.assert_allclose(imdct(mdct(x, spec), spec, 5001), x, atol=1e-5)


def test_it_is_critically_sampled_but_for_one_hop():
    spec = m.MdctSpec(64)
    assert m.mdct_frame_count(3200, spec) * spec.bins == 3200 + spec.bins
    assert m.mdct_frame_count(3201, spec) * spec.bins == 3200 + 2 * spec.bins


def test_the_inverse_is_the_transpose_and_projects_what_no_audio_has():
    """<mdct(x), c> = <x, imdct(c)>, the property that makes gradients and least squares of it."""
    spec = m.MdctSpec(22)
    x, c = _audio(100), _audio((m.mdct_frame_count(100, spec), spec.bins))
    with jax.enable_x64(True):
        back = imdct(c, spec, 100)
        np.testing.assert_allclose(np.vdot(mdct(x, spec), c), np.vdot(x, back), rtol=1e-10)
        nearest = np.linalg.norm(mdct(back, spec) - c)
        assert nearest < np.linalg.norm(mdct(back + 0.01 * x, spec) - c)


def test_gradients_flow_both_ways():
    spec = m.MdctSpec(10)
    with jax.enable_x64(True):
        x = jnp.asarray(_audio(23))
        check_grads(jax.jit(lambda x: mdct(x, spec) ** 2), (x,), order=1, modes=["rev"])
        c = mdct(x, spec)
        check_grads(jax.jit(lambda c: imdct(c, spec, 23) ** 2), (c,), order=1, modes=["rev"])
    assert np.isfinite(jax.grad(lambda x: jnp.square(mdct(x, spec)).sum())(jnp.zeros(23))).all()


def test_windows_equal_scipy_and_keep_their_promise():
    np.testing.assert_allclose(m.sine_window(64), scipy.signal.windows.cosine(64), atol=1e-12)
    np.testing.assert_allclose(m.kbd_window(64, 4), scipy.signal.windows.kaiser_bessel_derived(64, beta=4 * np.pi))
    low, high = np.sin(np.pi / 8 * (2 - np.sqrt(2))), np.sin(np.pi / 8 * (2 + np.sqrt(2)))  # by half angles
    np.testing.assert_allclose(m.vorbis_window(4), [low, high, high, low], atol=1e-12)

    def side_lobes_db(w):
        spectrum = 20 * np.log10(np.abs(np.fft.rfft(w, 64 * len(w))) / w.sum() + 1e-12)
        return spectrum[8 * 64 :].max()  # from eight bins on

    assert side_lobes_db(m.kbd_window(256)) < side_lobes_db(m.vorbis_window(256)) < side_lobes_db(m.sine_window(256))


def test_a_spec_survives_json_and_takes_a_window_of_values():
    spec = m.MdctSpec(16, tuple(m.kbd_window(16, 6)))
    assert m.MdctSpec(**json.loads(json.dumps(dataclasses.asdict(spec)))) == spec
    with jax.enable_x64(True):
        np.testing.assert_allclose(imdct(mdct(_audio(50), spec), spec, 50), _audio(50), atol=1e-12)


@pytest.mark.parametrize("window", ["sine", "kbd"])
def test_on_a_circle_the_transform_is_a_square_orthonormal_matrix(window):
    """Its rows from unit vectors; a turn of the circle by a hop turns the frames by one."""
    spec = m.MdctSpec(16, window)
    with jax.enable_x64(True):
        matrix = np.asarray(m.circular_mdct(jnp.eye(40, dtype=jnp.float64), spec)).reshape(40, 40)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(40), atol=1e-12)
        audio = _audio(40)
        coefficients = m.circular_mdct(audio, spec)
        np.testing.assert_allclose(m.circular_imdct(coefficients, spec), audio, atol=1e-12)
        turned = m.circular_mdct(np.roll(audio, 8, axis=-1), spec)
        np.testing.assert_allclose(turned, np.roll(coefficients, 1, axis=-2), atol=1e-12)
        # Away from the seam it is the transform of the open clip.
        np.testing.assert_allclose(coefficients[..., 0:4, :], mdct(audio, spec)[..., 1:5, :], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: m.MdctSpec(15), "frame_samples is 15; it must be even and at least 2"),
        (lambda: m.MdctSpec(0), "frame_samples is 0; it must be even and at least 2"),
        (lambda: m.MdctSpec(16, "sinus"), "window is 'sinus'; choose one of sine"),
        (lambda: m.MdctSpec(16, (1.0, 0.0)), "window has 2 values and frame_samples is 16"),
        (lambda: m.MdctSpec(4, (0.5, 0.5, 0.5, 0.5)), r"cancel its aliases: .* 1 differs by up to 0.5, .*1e-10"),
        (lambda: m.MdctSpec(2, (0.6, 0.8)), r"cancel its aliases: w\[n\] from w\[N - 1 - n\] differs by up to 0.2"),
        (lambda: m.MdctSpec(2, (float("nan"), 0.8)), "cancel its aliases"),
        (lambda: m.imdct(np.zeros((3, 7)), m.MdctSpec(16), 16), r"shape \(3, 7\), and length_samples 16 .* 3, 8\]"),
        (lambda: m.imdct(np.zeros((2, 8)), m.MdctSpec(16), 16), r"shape \(2, 8\), and length_samples 16 .* 3, 8\]"),
        (lambda: m.circular_mdct(np.zeros(20), m.MdctSpec(16)), "a circle of 20 samples is not of whole hops of 8"),
        (lambda: m.circular_mdct(np.zeros(0), m.MdctSpec(16)), "a circle of 0 samples is not of whole hops of 8"),
        (lambda: m.circular_imdct(np.zeros((2, 7)), m.MdctSpec(16)), r"shape \(4, 7\), and length_samples 24"),
        (lambda: m.mdct(np.zeros(9, np.complex64), m.MdctSpec(4)), "audio must be real"),
    ],
)
def test_errors_name_value_limit_and_mend(call, message):
    with pytest.raises(ValueError, match=message):
        call()
