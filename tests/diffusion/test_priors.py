"""Plain diffusion of whitened data, coloured afterwards, is diffusion of the data under the prior's noise."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff.diffusion import grids, samplers
from audiodiff.diffusion.noise import initial_noise
from audiodiff.diffusion.priors import Standard
from audiodiff.diffusion.processes import Edm, expand
from audiodiff.types import Level

FACTOR = np.array([[1.0, 0.0], [0.8, 0.3]])
"""L, of a prior over two numbers."""


@dataclasses.dataclass(frozen=True)
class Linear:
    factor: np.ndarray

    def whiten(self, x, conditions):
        return jnp.einsum("ij,bjc->bic", np.linalg.inv(self.factor), x)

    def colour(self, z, conditions):
        return jnp.einsum("ij,bjc->bic", self.factor, z)


def gaussian(variance, z_t, level, conditions):
    """Return E[z_0 | z_t] of data N(0, variance I): what an ideal network of whitened data would say."""
    signal = expand(level.alpha, z_t) * variance
    return z_t * signal / (expand(level.alpha, z_t) * signal + expand(level.sigma, z_t) ** 2)


def test_data_that_the_prior_knows_come_out_with_their_covariance():
    """Data N(0, 4 L L^T): white in z, where the ideal Denoiser is a number and the sampler needs no more."""
    grid = grids.karras(40, 0.002, 80.0, 7.0, Edm())
    first = Level(grid.alpha[0], grid.sigma[0])
    z = initial_noise(jax.random.key(0), (20_000, 2, 1), first, sigma_data=2.0)
    sampled = jax.jit(samplers.dpmpp_2m, static_argnums=0)(
        functools.partial(gaussian, 4.0), z, grid, {}, jax.random.key(1)
    )
    x = np.asarray(Linear(FACTOR).colour(sampled, {}))[:, :, 0]
    np.testing.assert_allclose(np.cov(x.T), 4 * FACTOR @ FACTOR.T, atol=0.1)


def test_the_standard_prior_hands_back_what_it_is_given():
    x = jnp.ones((2, 3, 1))
    assert Standard().whiten(x, {}) is x and Standard().colour(x, {}) is x
