"""Give the tests of long audio a process whose every window has an exact Denoiser."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest

from audiodiff.diffusion.processes import expand

REACH = 4.0


@functools.partial(jax.tree_util.register_dataclass, data_fields=["angle"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Stationary:
    """Hold the stationary Gaussian of covariance exp(-|d| / 4) cos(angle d), independent between channels.

    It is the Denoiser of any length: E[x_0 | x_t] = alpha C (alpha^2 C + sigma^2)^-1 x_t.
    """

    angle: jax.Array | float = 0.0

    def covariance(self, time: int) -> jax.Array:
        apart = jnp.abs(jnp.arange(time)[:, None] - jnp.arange(time))
        return jnp.exp(-apart / REACH) * jnp.cos(self.angle * apart)

    def __call__(self, x_t, level, conditions):
        variance, vectors = jnp.linalg.eigh(self.covariance(x_t.shape[1]))
        turned = jnp.einsum("ts,btc->bsc", vectors, x_t)
        alpha, sigma = expand(level.alpha, x_t), expand(level.sigma, x_t)
        gain = alpha * variance[:, None] / (alpha**2 * variance[:, None] + sigma**2)
        return jnp.einsum("ts,bsc->btc", vectors, gain * turned)


@pytest.fixture
def stationary():
    return Stationary()
