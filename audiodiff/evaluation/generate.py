"""Generate audio from a model: the whole sampler as one compiled program."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from audiodiff.diffusion.editing import Inpaint
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
    guidance: Mapping[str, Array | float],
    *,
    sampler: Callable[..., Any],
    length_samples: int,
    guided: bool,
    known: tuple[Array, Array] | None = None,
) -> Array:
    """Draw one clip for each of ``keys`` [batch]: audio [batch, time] (or [batch, time, channel]).

    ``conditions`` are raw, each [batch, ...], and ``grid`` the n + 1 levels. With ``guided`` the estimate is that of
    :class:`ClassifierFree` with the fields in ``guidance`` (scale, sigma_low, sigma_high, rescale); without, the null
    is left out, and half the work with it. A clip depends on its own key and conditions, the weights and the grid, not
    on what else is in the batch. ``known`` is (audio, keep), keep bool [batch, time]: there x_0 is that of the audio,
    and the rest is made to go with it (:class:`Inpaint`). Weights, keys, conditions, guidance, known audio and the
    values of the grid are arguments, so that changing them compiles nothing; another sampler, number of steps, batch or
    length does.
    """
    network = objective.network
    representation: Any = objective.representation
    encoded = network.encode(params["network"], conditions)
    denoise: Any = objective.denoiser(params)
    if guided:
        absent = {name: jnp.zeros(keys.shape, bool) for name in conditions}
        null = network.encode(params["network"], conditions, absent)
        denoise = ClassifierFree(denoise, null, **guidance)
    shape = representation.shape(len(keys), length_samples)
    start, path = jax.vmap(jax.random.split, out_axes=1)(keys)
    first = Level(grid.alpha[0], grid.sigma[0])
    x = initial_noise(start, shape, first, sigma_data=objective.sigma_data)
    if known is None:
        return representation.decode(sampler(denoise, x, grid, encoded, path), None, length_samples)
    audio, keep = known
    denoise = Inpaint(denoise, representation.encode(audio), keep[..., None].astype(x.dtype))
    return representation.decode(sampler(denoise, denoise.begin(x, first), grid, encoded, path), None, length_samples)
