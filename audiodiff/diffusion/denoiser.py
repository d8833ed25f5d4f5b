"""Make a Denoiser, (x_t, level, conditions) -> x_0 estimate, of a network and its parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from audiodiff.diffusion.parameterisations import EDM, Parameterisation, precondition
from audiodiff.diffusion.processes import expand
from audiodiff.types import Array, Conditions, Level, PyTree

Apply = Callable[[PyTree, Array, Array, Conditions], Array]
"""(params, x, noise_condition, conditions) -> an array of the shape of x."""


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["params", "sigma_data"], meta_fields=["apply", "parameterisation"]
)
@dataclass(frozen=True)
class ModelDenoiser:
    """Estimate x_0 = c_skip x_t + c_out F(c_in x_t, c_noise, conditions) (Karras et al. 2022, eq. 7).

    Weights and ``sigma_data`` are leaves, so that another checkpoint compiles nothing anew; ``apply`` and the
    parameterisation are static.
    """

    params: PyTree
    sigma_data: Array | float
    apply: Apply
    parameterisation: Parameterisation = EDM

    def raw(self, x_t: Array, level: Level, conditions: Conditions) -> Array:
        """Return the network's own output F for x_t [batch, ...] at a level [batch]."""
        c_in, c_noise = precondition(self.parameterisation, level, self.sigma_data)[2:]
        return self.apply(self.params, expand(c_in, x_t) * x_t, c_noise, conditions)

    def __call__(self, x_t: Array, level: Level, conditions: Conditions) -> Array:
        """Return the estimate of x_0, of the shape and dtype of x_t."""
        c_skip, c_out, _, _ = precondition(self.parameterisation, level, self.sigma_data)
        output = self.raw(x_t, level, conditions)
        return jnp.asarray(expand(c_skip, x_t) * x_t + expand(c_out, x_t) * output, x_t.dtype)
