"""Check weightings against the published formulas on the scale on which each was published."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.diffusion import weightings
from audiodiff.diffusion.parameterisations import EPS, V, precondition
from audiodiff.diffusion.processes import VpCosine, logsnr
from audiodiff.types import Level


def on_scale(row, weighting, level, sigma_data=1.0):
    """Return the weight that a weighting puts on the squared error of another prediction: w c_out^2."""
    return np.asarray(weighting(level, sigma_data) * precondition(row, level, sigma_data).c_out ** 2)


@pytest.fixture
def level(x64):
    return VpCosine().level(jnp.array([0.05, 0.2, 0.5, 0.8, 0.97]))


def test_min_snr_on_all_three_scales(level):
    """Hang et al. (2023): min(SNR, 5) on x0, min(SNR, 5)/SNR on eps, min(SNR, 5)/(SNR + 1) on v."""
    snr = np.exp(logsnr(level))
    least = np.minimum(snr, 5)
    np.testing.assert_allclose(weightings.MinSnr(5.0)(level, 1.0), least, rtol=1e-10)
    np.testing.assert_allclose(on_scale(EPS, weightings.MinSnr(5.0), level), least / snr, rtol=1e-10)
    np.testing.assert_allclose(on_scale(V, weightings.MinSnr(5.0), level), least / (snr + 1), rtol=1e-10)


def test_p2_and_sigmoid_on_eps(level):
    snr = np.exp(logsnr(level))
    np.testing.assert_allclose(on_scale(EPS, weightings.P2(0.7, 2.0), level), (2 + snr) ** -0.7, rtol=1e-10)
    expected = 1 / (1 + np.exp(np.log(snr) + 2))
    np.testing.assert_allclose(on_scale(EPS, weightings.Sigmoid(-2.0), level), expected, rtol=1e-10)


def test_edm_at_a_published_point_and_as_the_plain_loss_of_its_network(level):
    one = Level(jnp.ones(1), jnp.full(1, 0.5))
    assert float(weightings.Edm()(one, 0.5)[0]) == pytest.approx(8.0)
    np.testing.assert_allclose(weightings.Edm()(level, 0.3), weightings.Uniform()(level, 0.3), rtol=1e-10)


def test_snr_truncation_and_snr_plus_one(level):
    """Salimans & Ho (2022): max(SNR, 1), and SNR + 1 for the plain loss of v."""
    snr = np.exp(logsnr(level))
    np.testing.assert_allclose(weightings.TruncatedSnr()(level, 1.0), np.maximum(snr, 1), rtol=1e-10)
    np.testing.assert_allclose(weightings.Uniform(V)(level, 1.0), snr + 1, rtol=1e-10)
    np.testing.assert_allclose(weightings.Uniform(EPS)(level, 1.0), snr, rtol=1e-10)


def test_weights_are_finite_at_zero_snr():
    zero = Level(jnp.zeros(1), jnp.ones(1))
    for weighting in (weightings.Edm(), weightings.MinSnr(), weightings.P2(), weightings.TruncatedSnr()):
        assert np.isfinite(weighting(zero, 0.5)[0])
    assert float(weightings.Sigmoid()(zero, 0.5)[0]) == 0.0


def test_learned_uncertainty_is_least_at_the_log_of_the_loss(x64):
    """d/du (E[loss] e^-u + u) = 0 at u = ln E[loss], where the value is 1 + ln E[loss]."""
    loss = jnp.array([0.2, 5.0])
    slope = jax.vmap(jax.grad(weightings.uncertainty_loss, argnums=1))
    np.testing.assert_allclose(slope(loss, jnp.log(loss)), 0, atol=1e-12)
    np.testing.assert_allclose(weightings.uncertainty_loss(loss, jnp.log(loss)), 1 + np.log(loss), rtol=1e-12)
    assert np.all(slope(loss, jnp.log(loss) + 1) > 0) and np.all(slope(loss, jnp.log(loss) - 1) < 0)


def test_weightings_are_hashable():
    assert hash(weightings.MinSnr(3.0)) == hash(weightings.MinSnr(3.0)) != hash(weightings.MinSnr(4.0))
