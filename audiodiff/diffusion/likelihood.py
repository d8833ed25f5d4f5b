"""Measure how likely data are under a Denoiser: exactly along the ODE, or by the variational bound."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from audiodiff.diffusion.noise import fold_in, standard_normal
from audiodiff.diffusion.parameterisations import noise_of
from audiodiff.diffusion.processes import corrupt, mix
from audiodiff.diffusion.samplers import denoise_at
from audiodiff.types import Array, Conditions, Denoiser, Level


def log_likelihood(
    denoise: Denoiser,
    x0: Array,
    grid: Level,
    conditions: Conditions,
    key: Array | None = None,
    *,
    probes: int = 1,
    sigma_data: Array | float = 0.0,
) -> Array:
    """Return ln p(x_0) [batch], in nats, by the change of variables along the probability-flow ODE.

    ln p(x_0) = ln p(x_T) + integral of tr(dD/dx) dalpha + tr(deps/dx) dsigma (Song et al. 2021, eq. 39), by the
    trapezoidal rule from the last noisy level of a clean grid, x = alpha x_0, up to the first, whose prior is
    N(0, alpha^2 sigma_data^2 + sigma^2). The trace is Hutchinson's mean over ``probes`` vectors of random signs drawn
    from ``key``; ``probes = 0`` takes it exactly, at one evaluation for each dimension.
    Raises ValueError when probes are asked without a key.
    """
    if probes and key is None:
        raise ValueError(f"probes is {probes} but key is None: pass a key, or probes=0 for the exact trace")
    alpha, sigma = (jnp.asarray(values).astype(x0.dtype)[-2::-1] for values in grid)
    axes, dimensions = tuple(range(1, x0.ndim)), x0[0].size
    directions = _basis(x0) if key is None or not probes else _signs(key, x0, probes)

    def estimate(x: Array, level: Level) -> tuple[Array, Array, Array, Array]:
        """Return D, eps, and [batch] of tr(dD/dx) and sigma tr(deps/dx)."""

        def along(direction: Array) -> tuple[Array, Array]:
            value, slope = jax.jvp(lambda x: denoise_at(denoise, x, level, conditions), (x,), (direction,))
            return value, jnp.sum(direction * slope, axis=axes)

        values, traces = jax.lax.map(along, directions)
        trace = jnp.sum(traces, axis=0) / max(probes, 1)
        return values[0], noise_of(x, values[0], level), trace, dimensions - level.alpha * trace

    def step(carry: tuple[Array, Array], index: Array) -> tuple[tuple[Array, Array], None]:
        x, divergence = carry
        here, there = Level(alpha[index], sigma[index]), Level(alpha[index + 1], sigma[index + 1])
        first = estimate(x, here)
        second = estimate(mix(there, first[0], first[1]), there)
        rise, spread = (there.alpha - here.alpha) / 2, (there.sigma - here.sigma) / 2
        d, eps, trace_d, trace_eps = (a + b for a, b in zip(first, second, strict=True))
        # tr(deps/dx) dsigma goes by ln sigma: it runs as 1/sigma, times a number from 0 (data) to dimensions (noise).
        widening = (jnp.log(there.sigma) - jnp.log(here.sigma)) / 2
        return (x + rise * d + spread * eps, divergence + rise * trace_d + widening * trace_eps), None

    start = (alpha[0] * x0, jnp.zeros(x0.shape[:1], x0.dtype))
    (x, divergence), _ = jax.lax.scan(step, start, jnp.arange(alpha.size - 1))
    variance = (alpha[-1] * sigma_data) ** 2 + sigma[-1] ** 2
    prior = -jnp.sum(x**2, axis=axes) / (2 * variance) - dimensions / 2 * jnp.log(2 * math.pi * variance)
    return prior + divergence + dimensions * jnp.log(alpha[0])


def _basis(x: Array) -> Array:
    """Return the unit vectors [dimensions, batch, ...] of one example."""
    return jnp.broadcast_to(jnp.eye(x[0].size, dtype=x.dtype).reshape((-1, 1, *x.shape[1:])), (x[0].size, *x.shape))


def _signs(key: Array, x: Array, probes: int) -> Array:
    """Draw random signs [probes, batch, ...]."""
    return jnp.stack([jnp.sign(standard_normal(fold_in(key, i), x.shape, x.dtype)) for i in range(probes)])


def bits_per_dimension(log_density: Array, dimensions: int, bin_width: float = 1.0) -> Array:
    """Return -ln p / (dimensions ln 2) - log2 bin_width: the cost in bits of a sample quantised to bins of that width.

    16-bit audio in [-1, 1) has bins of 2^-15.
    """
    return -log_density / (dimensions * math.log(2)) - math.log2(bin_width)


class Bound(NamedTuple):
    """Hold the terms of the variational bound on -ln p(x_0), in nats, each [batch] (Kingma et al. 2021, eq. 11)."""

    prior: Array
    diffusion: Array
    reconstruction: Array

    @property
    def total(self) -> Array:
        """Return the bound, an upper bound of -ln p(x_0) in expectation over the noise."""
        return self.prior + self.diffusion + self.reconstruction


def variational_bound(
    denoise: Denoiser,
    x0: Array,
    grid: Level,
    conditions: Conditions,
    key: Array,
    *,
    sigma_data: Array | float = 0.0,
) -> Bound:
    """Draw the variational bound of the ancestral sampler on a clean grid, one noise for each level.

    diffusion = sum over steps of (SNR(s) - SNR(t))/2 |x_0 - D(x_t)|^2 (Kingma et al. 2021, eq. 14); reconstruction
    = -ln N(x_0; D(x_t), sigma_t^2/alpha_t^2) at the last noisy level; prior = KL(q(x_T | x_0) | N(0, alpha_T^2
    sigma_data^2 + sigma_T^2)).
    """
    alpha, sigma = (jnp.asarray(values).astype(x0.dtype)[:-1] for values in grid)
    axes, dimensions = tuple(range(1, x0.ndim)), x0[0].size
    snr = (alpha / sigma) ** 2

    def squared_error(index: Array) -> Array:
        level = Level(alpha[index], sigma[index])
        x_t, _ = corrupt(fold_in(key, index), x0, level)
        return jnp.sum((x0 - denoise_at(denoise, x_t, level, conditions)) ** 2, axis=axes)

    errors = jax.lax.map(squared_error, jnp.arange(alpha.size))
    diffusion = jnp.sum(jnp.diff(snr)[:, None] * errors[:-1], axis=0) / 2
    reconstruction = snr[-1] * errors[-1] / 2 + dimensions / 2 * jnp.log(2 * math.pi / snr[-1])
    ratio = sigma[0] ** 2 / ((alpha[0] * sigma_data) ** 2 + sigma[0] ** 2)
    signal = (alpha[0] / sigma[0]) ** 2 * jnp.sum(x0**2, axis=axes)
    prior = (ratio * (dimensions + signal) - dimensions - dimensions * jnp.log(ratio)) / 2
    return Bound(prior, diffusion, reconstruction)
