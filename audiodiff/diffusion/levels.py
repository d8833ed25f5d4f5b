"""Choose the noise levels to train at: inverse distribution functions u in (0, 1) -> Level [batch].

Written as functions of a uniform number they all stratify alike:
``distribution(stratified_uniform(key, draw, global_batch))``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from audiodiff.diffusion.processes import Curve, Edm, RectifiedFlow, VpCosine
from audiodiff.types import Array, Level

LevelDistribution = Callable[[Array], Level]
"""u [batch] in (0, 1) -> Level [batch], noisier as u grows."""


def uniform(key: Array, shape: tuple[int, ...] = ()) -> Array:
    """Draw u in the open interval (0, 1), float32, from one key or each from its own of the keys [batch]."""
    if key.ndim:
        return jax.vmap(lambda k: uniform(k, shape))(key)
    return _open(jax.random.uniform(key, shape))


def stratified_uniform(key: Array, draw: Array, strata: int) -> Array:
    """Return u [batch] = (draw mod strata + jitter) / strata, with one jitter for the whole step.

    ``draw`` counts the examples of the shuffled stream and ``strata`` is the global batch, so every step has each
    stratum once and sees an even comb of levels, on any number of devices (Kingma et al. 2021, appendix I.1).
    Raises ValueError when ``strata`` is less than 1.
    """
    if strata < 1:
        raise ValueError(f"strata is {strata} but must be at least 1: pass the global batch size")
    return _open((draw % strata + jax.random.uniform(key)) / strata)


def _open(u: Array) -> Array:
    # Inverse distribution functions are infinite at 0 and 1, which float32 does reach.
    return jnp.clip(u, 1e-7, 1 - 1e-7)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["process"], meta_fields=["smallest_t", "largest_t"])
@dataclass(frozen=True)
class UniformTime:
    """Draw t evenly from [smallest_t, largest_t] of a process; over ``VpCrash`` this is the crash schedule."""

    process: Curve = field(default_factory=VpCosine)
    smallest_t: float = 0.0
    largest_t: float = 1.0

    def __call__(self, u: Array) -> Level:
        return self.process.level(self.smallest_t + u * (self.largest_t - self.smallest_t))


@functools.partial(jax.tree_util.register_dataclass, data_fields=["process"], meta_fields=["mean", "std"])
@dataclass(frozen=True)
class LogNormal:
    """Draw ln(sigma / alpha) from N(mean, std^2), on the curve of a process.

    mean and std are P_mean and P_std of Karras et al. (2022), table 1, meant for sigma_data = 0.5: data of another
    scale s want a mean larger by ln(s / 0.5).
    """

    mean: float = -1.2
    std: float = 1.2
    process: Curve = field(default_factory=Edm)

    def __call__(self, u: Array) -> Level:
        ratio = jnp.exp(self.mean + self.std * jax.scipy.special.ndtri(u))
        return self.process.on_curve(Level(jnp.ones_like(ratio), ratio))


@functools.partial(jax.tree_util.register_dataclass, data_fields=["process"], meta_fields=["sigma_min", "sigma_max"])
@dataclass(frozen=True)
class LogUniform:
    """Draw ln(sigma / alpha), hence log-SNR, evenly from ln sigma_min to ln sigma_max, on the curve of a process."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    process: Curve = field(default_factory=Edm)

    def __call__(self, u: Array) -> Level:
        ratio = self.sigma_min * (self.sigma_max / self.sigma_min) ** u
        return self.process.on_curve(Level(jnp.ones_like(ratio), ratio))


@functools.partial(jax.tree_util.register_dataclass, data_fields=["process"], meta_fields=["mean", "std"])
@dataclass(frozen=True)
class LogitNormal:
    """Draw logit t from N(mean, std^2), which favours the middle of a flow (Esser et al. 2024, section 3.1)."""

    mean: float = 0.0
    std: float = 1.0
    process: Curve = field(default_factory=RectifiedFlow)

    def __call__(self, u: Array) -> Level:
        return self.process.level(jax.nn.sigmoid(self.mean + self.std * jax.scipy.special.ndtri(u)))
