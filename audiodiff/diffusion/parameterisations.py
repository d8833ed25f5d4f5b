"""Say what a network's raw output F means, for all parameterisations in one table.

A parameterisation is a pair of functions of the level, F = a x_0 + b eps. With x_t = alpha x_0 + sigma eps there
are two equations in two unknowns, so target, preconditioning and every conversion are one 2 x 2 solve.

Each row is homogeneous: (x_t, alpha, sigma) -> (c x_t, c alpha, c sigma) leaves x_0 where it is, as it leaves the true
E[x_0 | x_t]. So a sampler may write x_t in the scale that suits it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp

from audiodiff.diffusion.processes import expand, mix
from audiodiff.types import Array, Level

LARGEST_RATIO = 1e4
"""Bound of sigma / alpha, and of its inverse, wherever a zero would make a coefficient infinite."""


class Preconditioning(NamedTuple):
    """Hold x_0 = c_skip x_t + c_out F(c_in x_t, c_noise): four arrays [batch] (Karras et al. 2022, eq. 7)."""

    c_skip: Array
    c_out: Array
    c_in: Array
    c_noise: Array


@dataclass(frozen=True)
class Parameterisation:
    """Hold one row of the table: (level, sigma_data) -> (a, b) of F = a x_0 + b eps.

    ``needs_signal`` marks rows that name the noise alone: at zero SNR they do not tell x_0, and sigma / alpha is
    bounded by ``LARGEST_RATIO`` there.
    """

    name: str
    coefficients: Callable[[Level, Array | float], tuple[Array, Array]]
    needs_signal: bool = False

    def __repr__(self) -> str:
        return f"Parameterisation({self.name!r})"


def _radius(level: Level, sigma_data: Array | float = 1.0) -> Array:
    return jnp.sqrt((level.alpha * sigma_data) ** 2 + level.sigma**2)


def _eps(level: Level, sigma_data: Array | float) -> tuple[Array, Array]:
    return jnp.zeros_like(level.alpha), jnp.ones_like(level.alpha)


def _x0(level: Level, sigma_data: Array | float) -> tuple[Array, Array]:
    return jnp.ones_like(level.alpha), jnp.zeros_like(level.alpha)


def _v(level: Level, sigma_data: Array | float) -> tuple[Array, Array]:
    return -level.sigma / _radius(level), level.alpha / _radius(level)


def _score(level: Level, sigma_data: Array | float) -> tuple[Array, Array]:
    return jnp.zeros_like(level.alpha), -_radius(level) / level.sigma


def _edm(level: Level, sigma_data: Array | float) -> tuple[Array, Array]:
    radius = _radius(level, sigma_data)
    return level.sigma / (sigma_data * radius), -level.alpha * sigma_data / radius


def _velocity(level: Level, sigma_data: Array | float) -> tuple[Array, Array]:
    return -jnp.ones_like(level.alpha), jnp.ones_like(level.alpha)


EPS = Parameterisation("eps", _eps, needs_signal=True)
"""F = eps (Ho et al. 2020)."""
X0 = Parameterisation("x0", _x0)
"""F = x_0."""
V = Parameterisation("v", _v)
"""F = alpha eps - sigma x_0 on the unit circle, dx/dphi (Salimans & Ho 2022)."""
SCORE = Parameterisation("score", _score, needs_signal=True)
"""F = grad ln p = -eps / sigma on the unit circle, which is the score of x_t itself if VP (Song et al. 2021)."""
EDM = Parameterisation("edm", _edm)
"""F of unit variance with the least gain on its errors (Karras et al. 2022, appendix B.6); -v when sigma_data = 1."""
VELOCITY = Parameterisation("velocity", _velocity)
"""F = eps - x_0, dx/dt of the straight line (Liu et al. 2023; Lipman et al. 2023)."""

PARAMETERISATIONS = {row.name: row for row in (EPS, X0, V, SCORE, EDM, VELOCITY)}


def noise_condition(level: Level) -> Array:
    """Return c_noise = ln(sigma / alpha) / 4 [batch], with sigma / alpha kept within 1e-4 .. 1e4."""
    largest = math.log(LARGEST_RATIO)
    return jnp.clip(jnp.log(level.sigma) - jnp.log(level.alpha), -largest, largest) / 4


def _guard(parameterisation: Parameterisation, level: Level) -> Level:
    """Move a level off the two places where the solve divides by zero."""
    alpha, sigma = level
    if parameterisation.needs_signal:
        alpha = jnp.maximum(alpha, sigma / LARGEST_RATIO)
    # Any tiny sigma does: it cancels wherever the limit is finite.
    return Level(alpha, jnp.maximum(sigma, 1e-12 * alpha))


def precondition(parameterisation: Parameterisation, level: Level, sigma_data: Array | float) -> Preconditioning:
    """Return c_skip, c_out, c_in and c_noise at a level [batch].

    From F = a x_0 + b eps: c_skip = -b / (a sigma - b alpha) and c_out = sigma / (a sigma - b alpha).
    c_in = 1/sqrt(alpha^2 sigma_data^2 + sigma^2) gives the network unit variance under every row.
    """
    guarded = _guard(parameterisation, level)
    a, b = parameterisation.coefficients(guarded, sigma_data)
    determinant = a * guarded.sigma - b * guarded.alpha
    c_in = 1 / _radius(guarded, sigma_data)
    return Preconditioning(-b / determinant, guarded.sigma / determinant, c_in, noise_condition(level))


def target(parameterisation: Parameterisation, x0: Array, eps: Array, level: Level, sigma_data: Array | float) -> Array:
    """Return what the network's raw output is regressed on, F = a x_0 + b eps = (x_0 - c_skip x_t) / c_out.

    The losses agree: |F - target|^2 = |x0_hat - x_0|^2 / c_out^2 for every row.
    """
    return mix(Level(*parameterisation.coefficients(_guard(parameterisation, level), sigma_data)), x0, eps)


def solve(
    parameterisation: Parameterisation, output: Array, x_t: Array, level: Level, sigma_data: Array | float
) -> tuple[Array, Array]:
    """Return (x_0, eps) from a raw output F and x_t: the solution of F = a x_0 + b eps, x_t = alpha x_0 + sigma eps."""
    guarded = _guard(parameterisation, level)
    a, b = parameterisation.coefficients(guarded, sigma_data)
    determinant = a * guarded.sigma - b * guarded.alpha
    x0 = mix(Level(guarded.sigma / determinant, -b / determinant), output, x_t)
    eps = mix(Level(-guarded.alpha / determinant, a / determinant), output, x_t)
    return x0, eps


def convert(
    source: Parameterisation,
    destination: Parameterisation,
    output: Array,
    x_t: Array,
    level: Level,
    sigma_data: Array | float,
) -> Array:
    """Return what a network of ``destination`` would have put out where one of ``source`` put out ``output``."""
    x0, eps = solve(source, output, x_t, level, sigma_data)
    return target(destination, x0, eps, level, sigma_data)


def noise_of(x_t: Array, x0: Array, level: Level) -> Array:
    """Return eps = (x_t - alpha x_0) / sigma, the noise that an estimate of x_0 implies; 0 where sigma is 0."""
    clean = level.sigma == 0
    sigma = expand(jnp.where(clean, 1.0, level.sigma), x_t)
    return jnp.where(expand(clean, x_t), 0.0, (x_t - expand(level.alpha, x_t) * x0) / sigma)
