"""Check the exact Denoisers against quadrature, scipy's densities and the ODE."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from audiodiff.diffusion.gaussians import Gaussian, Mixture
from audiodiff.diffusion.processes import VpCosine
from audiodiff.types import Level

LEVEL = Level(np.array([0.9, 0.3]), np.array([0.4, 0.95]))
MIXTURE = Mixture(np.array([0.3, 0.7]), np.array([[-1.0], [0.6]]), np.array([0.25, 0.09]))


def test_the_mixture_s_denoiser_is_the_posterior_mean_by_quadrature(x64):
    """E[x0 | x_t] = integral of x0 p(x0) N(x_t; alpha x0, sigma^2), over p(x_t)."""
    x0 = np.linspace(-6, 6, 20001)
    prior = scipy.stats.norm.pdf(x0[:, None], MIXTURE.means[:, 0], MIXTURE.variances**0.5) @ MIXTURE.weights
    x_t = np.array([0.1, -0.7])
    for i, (alpha, sigma) in enumerate(np.stack(LEVEL, axis=1)):
        joint = prior * scipy.stats.norm.pdf(x_t[i], alpha * x0, sigma)
        expected = np.sum(x0 * joint) / np.sum(joint)
        assert float(MIXTURE(jnp.asarray(x_t)[:, None], LEVEL, {})[i, 0]) == pytest.approx(expected, rel=1e-8)
        assert float(jnp.exp(MIXTURE.log_density(jnp.asarray(x_t)[:, None], LEVEL, {})[i])) == pytest.approx(
            np.sum(joint) * (x0[1] - x0[0]), rel=1e-8
        )


def test_one_component_is_the_gaussian_and_densities_are_scipy_s(x64):
    one = Mixture(jnp.ones(1), jnp.array([[0.4, -0.1]]), jnp.array([0.3]))
    same = Gaussian(jnp.array([0.4, -0.1]), jnp.full(2, 0.3))
    x_t = jnp.array([[0.2, 0.5], [-1.0, 1.5]])
    np.testing.assert_allclose(one(x_t, LEVEL, {}), same(x_t, LEVEL, {}), rtol=1e-12)
    np.testing.assert_allclose(one.log_density(x_t, LEVEL, {}), same.log_density(x_t, LEVEL), rtol=1e-12)
    for i in range(2):
        alpha, sigma = float(LEVEL.alpha[i]), float(LEVEL.sigma[i])
        law = scipy.stats.multivariate_normal([alpha * 0.4, -alpha * 0.1], (alpha**2 * 0.3 + sigma**2) * np.eye(2))
        assert float(same.log_density(x_t, LEVEL)[i]) == pytest.approx(law.logpdf(x_t[i]), rel=1e-10)


def test_a_one_hot_weight_is_its_class(x64):
    x_t, weights = jnp.array([[0.2], [-1.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])
    got = MIXTURE(x_t, LEVEL, {"weights": weights})
    for i in range(2):
        single = Gaussian(jnp.asarray(MIXTURE.means[i]), jnp.asarray(MIXTURE.variances[i : i + 1]))
        np.testing.assert_allclose(got[i], single(x_t, LEVEL, {})[i], rtol=1e-12)


def test_the_flow_solves_the_ode_of_the_denoiser(x64):
    """The slope of the exact flow is alpha' D + sigma' eps."""
    data, process, t, h = Gaussian(jnp.array([0.4, -0.1]), jnp.array([0.2, 2.0])), VpCosine(), 0.4, 1e-5
    x, here = jnp.array([[0.3, -1.2]]), process.level(jnp.full(1, t))
    ahead, behind = (data.flow(x, here, process.level(jnp.full(1, t + d))) for d in (h, -h))
    x0 = data(x, here, {})
    eps = (x - here.alpha[:, None] * x0) / here.sigma[:, None]
    rates = [jax.grad(f)(t) for f in (process.alpha, process.sigma)]
    np.testing.assert_allclose((ahead - behind) / (2 * h), rates[0] * x0 + rates[1] * eps, rtol=1e-7)


def test_samples_have_their_law():
    y = np.asarray(MIXTURE.sample(jax.random.key(0), (20_000, 1)))[:, 0]
    law = lambda x: scipy.stats.norm.cdf(x[:, None], MIXTURE.means[:, 0], MIXTURE.variances**0.5) @ MIXTURE.weights  # noqa: E731
    assert scipy.stats.kstest(y, law).pvalue > 1e-3
    z = np.asarray(Gaussian(jnp.full(1, 2.0), jnp.full(1, 0.25)).sample(jax.random.key(0), (20_000, 1)))[:, 0]
    assert scipy.stats.kstest(z, "norm", (2.0, 0.5)).pvalue > 1e-3
