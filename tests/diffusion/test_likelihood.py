"""Check likelihoods against closed densities (ledger 24 and 25)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from audiodiff.diffusion import grids
from audiodiff.diffusion.gaussians import Gaussian, Mixture
from audiodiff.diffusion.likelihood import bits_per_dimension, log_likelihood, variational_bound
from audiodiff.diffusion.processes import Edm, RectifiedFlow, VpLinear
from audiodiff.types import Level

TURN = np.linalg.qr(np.random.default_rng(3).standard_normal((4, 4)))[0]
SPREAD = np.array([0.04, 0.3, 1.0, 2.5])
MEAN = np.array([0.5, -0.3, 0.0, 0.2])


def turned(x_t, level, conditions):
    """Denoise N(MEAN, TURN diag(SPREAD) TURN^T), whose Jacobian is full: random signs do not give its trace exactly."""
    data = Gaussian(jnp.asarray(MEAN @ TURN), jnp.asarray(SPREAD))
    return data(x_t @ TURN, level, {}) @ TURN.T


LAW = scipy.stats.multivariate_normal(MEAN, TURN @ np.diag(SPREAD) @ TURN.T)


ODE = jax.jit(
    lambda x0, grid, key, probes: log_likelihood(turned, x0, grid, {}, key, probes=probes, sigma_data=0.8),
    static_argnums=3,
)
BOUND = jax.jit(lambda x0, grid, key: variational_bound(turned, x0, grid, {}, key, sigma_data=0.8))


@pytest.mark.parametrize("process", [Edm(), VpLinear(), RectifiedFlow()], ids=["edm", "vp", "flow"])
def test_log_likelihood_is_the_closed_one(x64, process):
    grid = grids.karras(120, 0.002, 80.0, process=process)
    x0 = jnp.asarray(LAW.rvs(6, random_state=0))
    exact = ODE(x0, grid, None, 0)
    np.testing.assert_allclose(exact / 4, LAW.logpdf(x0) / 4, atol=1e-2)
    # A density of x_0 cannot depend on the scale in which x_t is written.
    doubled = ODE(x0, Level(2 * grid.alpha, 2 * grid.sigma), None, 0)
    np.testing.assert_allclose(doubled, exact, rtol=1e-9)
    # Hutchinson's estimator is unbiased: its mean over many keys is the exact trace.
    many = jnp.repeat(x0[:1], 2000, axis=0)
    estimates = np.asarray(ODE(many, grid, jax.random.split(jax.random.key(0), 2000), 1))
    assert np.std(estimates) > 1e-3
    assert np.mean(estimates) / 4 == pytest.approx(float(exact[0]) / 4, abs=1e-2)


def test_log_likelihood_of_a_mixture_in_float32():
    data = Mixture(jnp.array([0.3, 0.7]), jnp.array([[-1.0], [0.6]]), jnp.array([0.25, 0.09]))
    x0 = np.array([[-1.5], [-0.2], [0.7]], np.float32)
    got = log_likelihood(data, jnp.asarray(x0), grids.karras(100, 0.005, 40.0), {}, probes=0, sigma_data=1.0)
    expected = np.log(scipy.stats.norm.pdf(x0, [-1.0, 0.6], [0.5, 0.3]) @ [0.3, 0.7])
    np.testing.assert_allclose(got, expected, atol=1e-2)


def test_probes_without_a_key_are_refused():
    with pytest.raises(ValueError, match="probes is 1 but key is None"):
        log_likelihood(turned, jnp.zeros((1, 4)), grids.karras(2), {})


def test_bits_per_dimension_of_noise_that_fills_its_range():
    """Uniform 16-bit samples cost 16 bits: density 1/2 on [-1, 1), bins of 2^-15."""
    assert float(bits_per_dimension(jnp.asarray(100 * np.log(0.5)), 100, 2.0**-15)) == pytest.approx(16.0, rel=1e-6)


@pytest.mark.parametrize("process", [Edm(), VpLinear()], ids=["edm", "vp"])
def test_the_variational_bound_is_above_and_tight_in_the_limit(x64, process):
    """In expectation over data, bound + ln p >= 0; the gap falls as 1/n, and Richardson's limit of it is 0."""
    x0 = jnp.asarray(LAW.rvs(4000, random_state=1))
    gaps = {}
    for steps in (128, 256):
        bound = BOUND(x0, grids.karras(steps, 0.005, 80.0, process=process), jax.random.key(0))
        excess = np.asarray(bound.total) + LAW.logpdf(x0)
        gaps[steps] = np.mean(excess) / 4
        assert gaps[steps] > 3 * np.std(excess) / 4 / len(excess) ** 0.5
        assert np.all(np.asarray(bound.prior) >= 0) and np.all(np.asarray(bound.diffusion) >= 0)
    assert gaps[128] == pytest.approx(2 * gaps[256], rel=0.1)
    assert 2 * gaps[256] - gaps[128] == pytest.approx(0, abs=0.02)


def test_the_prior_term_is_the_divergence_of_gaussians(x64):
    """KL(N(alpha x0, sigma^2) | N(0, v)) per dimension, against numerical integration."""
    x0, level = jnp.array([[0.7]]), VpLinear(0.1, 1.0).level(1.0)
    grid = grids.uniform(VpLinear(0.1, 1.0), 2)
    prior = variational_bound(
        Gaussian(jnp.zeros(1), jnp.ones(1)), x0, grid, {}, jax.random.key(0), sigma_data=1.0
    ).prior
    x = np.linspace(-9, 9, 40001)
    q = scipy.stats.norm.pdf(x, float(level.alpha) * 0.7, float(level.sigma))
    p = scipy.stats.norm.pdf(x, 0, 1)
    assert float(prior[0]) == pytest.approx(np.sum(q * np.log(np.maximum(q, 1e-300) / p)) * (x[1] - x[0]), rel=1e-6)
