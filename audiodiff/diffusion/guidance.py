"""Turn a Denoiser into one that follows its condition, or a classifier, more closely.

Strengths, intervals and parameters are leaves: changing any compiles nothing anew.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from audiodiff.diffusion.parameterisations import LARGEST_RATIO
from audiodiff.diffusion.processes import expand
from audiodiff.types import Array, Conditions, Denoiser, Level, PyTree


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["denoise", "null", "scale", "sigma_low", "sigma_high", "rescale"],
    meta_fields=[],
)
@dataclass(frozen=True)
class ClassifierFree:
    """Extrapolate from the unconditional to the conditional estimate, in one call on twice the batch.

    x_0 = D_null + w (D - D_null) (Ho & Salimans 2022): w = ``scale``, a number or [batch], is 1 for the condition as it
    is, 0 for none, above 1 for guidance. Outside sigma_low < sigma/alpha <= sigma_high w is 1 (Kynkaanniemi et al.
    2024). ``rescale`` phi in [0, 1] brings the standard deviation of each example back to that of D by this part (Lin
    et al. 2024, eq. 15-16; 0.7 there). ``null`` holds the encoded conditions with none present, named and shaped alike.
    """

    denoise: Denoiser
    null: Conditions
    scale: Array | float = 1.0
    sigma_low: Array | float = 0.0
    sigma_high: Array | float = jnp.inf
    rescale: Array | float = 0.0

    def __call__(self, x_t: Array, level: Level, conditions: Conditions) -> Array:
        if set(conditions) != set(self.null):
            raise ValueError(
                f"conditions {sorted(conditions)} and null conditions {sorted(self.null)} differ: encode both alike"
            )
        doubled = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), dict(conditions), dict(self.null))
        twice = Level(*(jnp.concatenate([value, value]) for value in level))
        given, absent = jnp.split(self.denoise(jnp.concatenate([x_t, x_t]), twice, doubled), 2)
        ratio = level.sigma / level.alpha
        inside = (ratio > self.sigma_low) & (ratio <= self.sigma_high)
        scale = expand(jnp.where(inside, self.scale, 1.0), x_t).astype(x_t.dtype)
        guided = absent + scale * (given - absent)
        axes = tuple(range(1, x_t.ndim))
        wanted, got = (_standard_deviation(x0, axes) for x0 in (given, guided))
        return guided * (1 + self.rescale * (wanted / got - 1))


def _standard_deviation(x: Array, axes: tuple[int, ...]) -> Array:
    """Return the standard deviation, at least 1e-12, with the gradient 0 where x is constant; that of a root is NaN."""
    return jnp.sqrt(jnp.maximum(jnp.var(x, axis=axes, keepdims=True), 1e-24))


LogProbability = Callable[[PyTree, Array, Level, Conditions], Array]
"""(params, x, level, conditions) -> ln p(condition | x) [batch], in nats."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["denoise", "params", "scale"],
    meta_fields=["log_probability", "of_estimate"],
)
@dataclass(frozen=True)
class Classifier:
    """Follow a log-probability: x_0 = D + scale sigma^2/alpha grad ln p(y | x_t) (Dhariwal & Nichol 2021, eq. 10).

    This adds ``scale`` times the gradient by x_t to the score. ``log_probability`` judges the noisy x_t; with
    ``of_estimate`` it judges D(x_t) and the gradient passes through the Denoiser (Chung et al. 2023), so that a
    classifier of clean sound, or a measurement known in part, will do. sigma/alpha is bounded at zero SNR.
    """

    denoise: Denoiser
    params: PyTree
    log_probability: LogProbability
    scale: Array | float = 1.0
    of_estimate: bool = False

    def __call__(self, x_t: Array, level: Level, conditions: Conditions) -> Array:
        def total(x: Array) -> tuple[Array, Array]:
            x0 = self.denoise(x, level, conditions)
            judged = x0 if self.of_estimate else x
            return jnp.sum(self.log_probability(self.params, judged, level, conditions)), x0

        gradient, x0 = jax.grad(total, has_aux=True)(x_t)
        gain = level.sigma**2 / jnp.maximum(level.alpha, level.sigma / LARGEST_RATIO)
        return x0 + expand(self.scale * gain, x_t).astype(x_t.dtype) * gradient
