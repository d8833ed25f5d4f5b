"""Generate audio from a model: the whole sampler as one compiled program."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from audiodiff.diffusion.guidance import ClassifierFree
from audiodiff.diffusion.noise import initial_noise
from audiodiff.objectives.diffusion import DiffusionObjective
from audiodiff.types import Array, Conditions, Level, PyTree


@functools.partial(jax.jit, static_argnames=("sampler", "length_samples", "guided"))
def generate(
    objective: DiffusionObjective,
    params: PyTree,
    keys: Array,
    conditions: Conditions,
    grid: Level,
    guidance: dict[str, Array],
    *,
    sampler: Callable[..., Any],
    length_samples: int,
    guided: bool,
) -> Array:
    """Draw one clip for each of ``keys`` [batch]: audio [batch, time] (or [batch, time, channel]).

    ``conditions`` are raw, ``grid`` the n + 1 levels. With ``guided`` the estimate is a :class:`ClassifierFree` of
    the fields in ``guidance`` (scale, sigma_low, sigma_high, rescale); without, the network runs on half the batch.
    A clip depends on its own key, conditions and the grid, not on what else is in the batch. Weights, seed, guidance and
    the levels are arguments: changing them compiles nothing; the number of steps, the batch and the length do.
    """
    network = objective.network
    encoded = network.encode(params["network"], conditions)
    denoise: Any = objective.denoiser(params)
    if guided:
        absent = {name: jnp.zeros(keys.shape, bool) for name in conditions}
        null = network.encode(params["network"], conditions, absent)
        denoise = ClassifierFree(denoise, null, **guidance)
    shape = (keys.shape[0], length_samples, objective.representation.channels)
    start, path = jax.vmap(jax.random.split, out_axes=1)(keys)
    first = Level(grid.alpha[0], grid.sigma[0])
    x = sampler(denoise, initial_noise(start, shape, first, sigma_data=objective.sigma_data), grid, encoded, path)
    return objective.representation.decode(x, None, length_samples)
