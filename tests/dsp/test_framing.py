"""Hold framing against numpy's sliding windows, and overlap-add against being its transpose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff import dsp

frame = jax.jit(dsp.frame, static_argnums=(1, 2))
overlap_add = jax.jit(dsp.overlap_add, static_argnums=1)
SIZES = [(8, 4), (8, 3), (7, 2), (4, 4), (3, 5), (1, 1)]


@pytest.mark.parametrize(("frame_samples", "hop"), SIZES)
def test_frame_equals_sliding_window_view(frame_samples, hop):
    audio = np.random.default_rng(0).normal(size=(2, 29)).astype(np.float32)
    expected = np.lib.stride_tricks.sliding_window_view(audio, frame_samples, axis=-1)[:, ::hop]
    np.testing.assert_array_equal(frame(audio, frame_samples, hop), expected)


@pytest.mark.parametrize(("frame_samples", "hop"), SIZES)
def test_overlap_add_is_the_transpose_of_frame(frame_samples, hop):
    """<frame(x), y> = <x, overlap_add(y)>, with the gradient as the definition of the transpose."""
    length = 4 * hop + frame_samples
    y = np.random.default_rng(1).normal(size=(5, frame_samples)).astype(np.float32)
    inner_product = jax.jit(lambda x: jnp.vdot(dsp.frame(x, frame_samples, hop), y))
    transposed = jax.grad(inner_product)(jnp.zeros(length))
    np.testing.assert_allclose(overlap_add(y, hop), transposed, atol=1e-6)


def test_overlap_add_keeps_leading_axes():
    both = overlap_add(np.arange(24.0).reshape(2, 3, 4), 2)
    np.testing.assert_array_equal(both[0], [0, 1, 2 + 4, 3 + 5, 6 + 8, 7 + 9, 10, 11])
    np.testing.assert_array_equal(both[1], both[0] + 12 * np.array([1, 1, 2, 2, 2, 2, 1, 1]))


def test_fit_length_crops_and_pads_at_the_end():
    np.testing.assert_array_equal(dsp.fit_length(jnp.array([[1, 2, 3]]), 2), [[1, 2]])
    np.testing.assert_array_equal(dsp.fit_length(jnp.array([[1, 2, 3]]), 5), [[1, 2, 3, 0, 0]])


def test_errors_name_value_and_limit():
    with pytest.raises(ValueError, match="clip of 7 samples holds no frame of 8; pad it to at least 8"):
        dsp.frame(jnp.zeros(7), 8, 4)
    with pytest.raises(ValueError, match="hop_samples is 0; it must be at least 1"):
        dsp.frame(jnp.zeros(8), 8, 0)
    with pytest.raises(ValueError, match="hop_samples is -1"):
        dsp.overlap_add(jnp.zeros((2, 4)), -1)
