"""Give the exact Denoisers of Gaussians and Gaussian mixtures.

They are the truth against which samplers, likelihoods and objectives are measured.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from audiodiff.diffusion.noise import fold_in, standard_normal
from audiodiff.diffusion.processes import expand
from audiodiff.types import Array, Conditions, Level


@functools.partial(jax.tree_util.register_dataclass, data_fields=["mean", "variance"], meta_fields=[])
@dataclass(frozen=True)
class Gaussian:
    """Hold the data distribution N(mean, diag(variance)), both of the shape of one example or broadcastable to it.

    Called as a Denoiser it returns
    E[x_0 | x_t] = mean + alpha variance / (alpha^2 variance + sigma^2) (x_t - alpha mean).
    """

    mean: Array
    variance: Array

    def __call__(self, x_t: Array, level: Level, conditions: Conditions) -> Array:
        alpha, sigma = expand(level.alpha, x_t), expand(level.sigma, x_t)
        gain = alpha * self.variance / (alpha**2 * self.variance + sigma**2)
        return self.mean + gain * (x_t - alpha * self.mean)

    def sample(self, key: Array, shape: tuple[int, ...], dtype: jnp.dtype | type = jnp.float32) -> Array:
        """Draw x_0 of shape [batch, ...]."""
        return self.mean + jnp.sqrt(self.variance) * standard_normal(key, shape, dtype)

    def log_density(self, x_t: Array, level: Level) -> Array:
        """Return ln p(x_t) [batch], in nats, at a level [batch]."""
        alpha, sigma = expand(level.alpha, x_t), expand(level.sigma, x_t)
        variance = alpha**2 * self.variance + sigma**2
        terms = (x_t - alpha * self.mean) ** 2 / variance + jnp.log(2 * jnp.pi * variance)
        return -jnp.sum(jnp.broadcast_to(terms, x_t.shape), axis=tuple(range(1, x_t.ndim))) / 2

    def flow(self, x: Array, here: Level, there: Level) -> Array:
        """Carry x from one level to another along the probability-flow ODE, exactly.

        (x - alpha mean) / sqrt(alpha^2 variance + sigma^2) is constant along it.
        """
        spread = [jnp.sqrt(expand(a, x) ** 2 * self.variance + expand(s, x) ** 2) for a, s in (here, there)]
        return expand(there.alpha, x) * self.mean + spread[1] / spread[0] * (x - expand(here.alpha, x) * self.mean)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["weights", "means", "variances"], meta_fields=[])
@dataclass(frozen=True)
class Mixture:
    """Hold sum_k weights_k N(means_k, variances_k I): weights [k], means [k, ...], variances [k].

    Called as a Denoiser it returns E[x_0 | x_t]. The condition "weights" [batch, k], if given, replaces the weights: a
    one-hot row is one class, the weights themselves are the absence of a condition.
    """

    weights: Array
    means: Array
    variances: Array

    def component_log_densities(self, x_t: Array, level: Level) -> Array:
        """Return ln p(x_t | k) [batch, k] at a level [batch]."""
        alpha, variance = level.alpha[:, None], level.alpha[:, None] ** 2 * self.variances + level.sigma[:, None] ** 2
        flat, means = x_t.reshape(x_t.shape[0], -1), self.means.reshape(self.means.shape[0], -1)
        squares = jnp.sum((flat[:, None] - alpha[..., None] * means) ** 2, axis=-1)
        return -(squares / variance + flat.shape[1] * jnp.log(2 * jnp.pi * variance)) / 2

    def _joint(self, x_t: Array, level: Level, conditions: Conditions) -> Array:
        weights = conditions.get("weights", jnp.broadcast_to(self.weights, (x_t.shape[0], self.weights.shape[0])))
        return jnp.log(weights) + self.component_log_densities(x_t, level)

    def responsibilities(self, x_t: Array, level: Level, conditions: Conditions) -> Array:
        """Return p(k | x_t) [batch, k]."""
        return jax.nn.softmax(self._joint(x_t, level, conditions), axis=-1)

    def log_density(self, x_t: Array, level: Level, conditions: Conditions) -> Array:
        """Return ln p(x_t) [batch], in nats."""
        return jax.scipy.special.logsumexp(self._joint(x_t, level, conditions), axis=-1)

    def __call__(self, x_t: Array, level: Level, conditions: Conditions) -> Array:
        shape = (-1,) + (1,) * (self.means.ndim - 1)
        alpha, sigma, x = expand(level.alpha, x_t)[:, None], expand(level.sigma, x_t)[:, None], x_t[:, None]
        variances = self.variances.reshape(shape)
        estimates = self.means + alpha * variances / (alpha**2 * variances + sigma**2) * (x - alpha * self.means)
        share = self.responsibilities(x_t, level, conditions)
        return jnp.sum(share.reshape(share.shape + (1,) * (x_t.ndim - 1)) * estimates, axis=1)

    def sample(self, key: Array, shape: tuple[int, ...], dtype: jnp.dtype | type = jnp.float32) -> Array:
        """Draw x_0 of shape [batch, ...] from one key."""
        chosen = jax.random.choice(fold_in(key, 0), self.weights.shape[0], shape[:1], p=self.weights)
        noise = standard_normal(fold_in(key, 1), shape, dtype)
        return self.means[chosen] + jnp.sqrt(expand(self.variances[chosen], noise)) * noise
