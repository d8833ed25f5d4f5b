"""Hold the cosine transform and MFCCs against scipy and librosa."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft

from audiodiff import dsp

dct, idct = jax.jit(dsp.dct), jax.jit(dsp.idct)


@pytest.mark.parametrize("n", [1, 2, 13, 80])
def test_dct_equals_scipy_and_is_orthonormal(n):
    """Ledger row 12."""
    x = np.random.default_rng(n).normal(size=(3, n))
    with jax.enable_x64(True):
        c = dct(x)
        np.testing.assert_allclose(c, scipy.fft.dct(x, type=2, norm="ortho"), atol=1e-12)
        np.testing.assert_allclose(idct(c), x, atol=1e-12)
        np.testing.assert_allclose(idct(x), scipy.fft.dct(x, type=3, norm="ortho"), atol=1e-12)
        matrix = np.asarray(dct(np.eye(n)))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(n), atol=1e-12)


@pytest.mark.parametrize(("coefficients", "lifter"), [(20, 0), (13, 22), (40, 40.5)])
def test_mfcc_is_the_liftered_dct(coefficients, lifter):
    """Ledger row 12."""
    log_mel = np.random.default_rng(0).normal(size=(2, 7, 40))
    with jax.enable_x64(True):
        ours = np.asarray(jax.jit(lambda m: dsp.mfcc(m, coefficients, lifter))(log_mel))
    expected = scipy.fft.dct(log_mel, type=2, norm="ortho")[..., :coefficients]
    ratio = ours / expected
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[0, 0], ratio.shape), rtol=1e-9)  # one weight each
    if lifter == 0:
        np.testing.assert_allclose(ratio, 1, rtol=1e-9)


@pytest.mark.oracle
@pytest.mark.parametrize(("coefficients", "lifter"), [(20, 0), (13, 22)])
def test_mfcc_equals_librosa(coefficients, lifter):
    """Ledger row 12: from the audio on, by the librosa preset."""
    librosa = pytest.importorskip("librosa")
    x = np.random.default_rng(1).normal(scale=0.1, size=6001)
    with jax.enable_x64(True):
        ours = jax.jit(lambda x: dsp.mfcc(dsp.log_mel(x, dsp.MEL_PRESETS["librosa"]), coefficients, lifter))(x)
    theirs = librosa.feature.mfcc(y=x, sr=22050, n_mfcc=coefficients, lifter=lifter)
    np.testing.assert_allclose(ours, theirs.T, atol=1e-3)  # librosa's filterbank is float32


def test_lifter_weights_peak_in_the_middle():
    weights = dsp.lifter_weights(21, 22)
    assert weights.argmax() == 10 and weights.max() == pytest.approx(12)
    np.testing.assert_allclose(weights, weights[::-1], rtol=1e-12)
    np.testing.assert_array_equal(dsp.lifter_weights(5, 0), np.ones(5))


def test_gradient_at_silence_is_finite():
    spec = dsp.MEL_PRESETS["librosa"]
    gradient = jax.jit(jax.grad(lambda x: dsp.mfcc(dsp.log_mel(x, spec)).sum()))(jnp.zeros(2048))
    assert np.isfinite(gradient).all()


def test_errors_name_value_and_limit():
    with pytest.raises(ValueError, match="coefficients is 41; it must be from 1 to the 40 bands"):
        dsp.mfcc(jnp.zeros((3, 40)), 41)
    with pytest.raises(ValueError, match="lifter is -1; it must be above 0, or 0 for none"):
        dsp.lifter_weights(13, -1)
