"""Weight the loss by level: w(level) multiplies |x0_hat - x_0|^2, whatever the network predicts.

One scale for all, because |F - F*|^2 = |x0_hat - x_0|^2 / c_out^2: a weight published for eps stands here times
SNR, one published for v times SNR + 1. A weighting is a hashable function (level, sigma_data) -> [batch].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from audiodiff.diffusion.parameterisations import EDM, Parameterisation, precondition
from audiodiff.diffusion.processes import logsnr
from audiodiff.types import Array, Level

Weighting = Callable[[Level, Array | float], Array]
"""(level [batch], sigma_data) -> weight [batch] on the squared error of x_0."""


def _snr(level: Level) -> Array:
    return (level.alpha / level.sigma) ** 2


@dataclass(frozen=True)
class Uniform:
    """Weigh the raw network output evenly: w = 1 / c_out^2, the plain mean squared error of F."""

    parameterisation: Parameterisation = EDM

    def __call__(self, level: Level, sigma_data: Array | float) -> Array:
        return 1 / precondition(self.parameterisation, level, sigma_data).c_out ** 2


@dataclass(frozen=True)
class Edm:
    """Weigh by (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 for sigma over alpha (Karras et al. 2022, table 1)."""

    def __call__(self, level: Level, sigma_data: Array | float) -> Array:
        return 1 / sigma_data**2 + _snr(level)


@dataclass(frozen=True)
class MinSnr:
    """Weigh by min(SNR, gamma): eps training that does not spend itself on the last bits (Hang et al. 2023)."""

    gamma: float = 5.0

    def __call__(self, level: Level, sigma_data: Array | float) -> Array:
        return jnp.minimum(_snr(level), self.gamma)


@dataclass(frozen=True)
class TruncatedSnr:
    """Weigh by max(SNR, 1), which keeps x_0 learnt at zero SNR (Salimans & Ho 2022, section 4)."""

    def __call__(self, level: Level, sigma_data: Array | float) -> Array:
        return jnp.maximum(_snr(level), 1.0)


@dataclass(frozen=True)
class P2:
    """Weigh by SNR / (k + SNR)^gamma, 1 / (k + SNR)^gamma on eps (Choi et al. 2022, eq. 8)."""

    gamma: float = 1.0
    k: float = 1.0

    def __call__(self, level: Level, sigma_data: Array | float) -> Array:
        return _snr(level) / (self.k + _snr(level)) ** self.gamma


@dataclass(frozen=True)
class Sigmoid:
    """Weigh by e^bias sigmoid(logsnr - bias), sigmoid(bias - logsnr) on eps (Kingma & Gao 2023; Hoogeboom et al. 2024).

    The papers integrate it over log-SNR: draw the levels from ``LogUniform``, or divide by the density of those drawn.
    """

    bias: float = -1.0

    def __call__(self, level: Level, sigma_data: Array | float) -> Array:
        return math.exp(self.bias) * jax.nn.sigmoid(logsnr(level) - self.bias)


def uncertainty_loss(loss: Array, log_variance: Array) -> Array:
    """Return loss / e^u + u, least at u = ln E[loss], where every level weighs alike (Karras et al. 2024, eq. 14).

    ``loss`` [batch] is already weighted; ``log_variance`` u [batch] comes from a small network of the level.
    """
    return loss * jnp.exp(-log_variance) + log_variance
