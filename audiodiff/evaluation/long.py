"""Generate audio of any length: chunk by chunk in the memory of one, or all windows of it together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from audiodiff.data.pipeline import START_SECONDS
from audiodiff.diffusion.noise import initial_noise
from audiodiff.evaluation.generate import finished, model_under
from audiodiff.hierarchy.chunks import Carry, first_carry, next_chunk
from audiodiff.hierarchy.windows import Windowed
from audiodiff.objectives.diffusion import DiffusionObjective
from audiodiff.types import Array, Conditions, Level, PyTree


class Progress(NamedTuple):
    """Hold what a chunk leaves to the next: what their overlap carries, and ``past`` [batch, window, ...] of x.

    Decoding begins with the past, so that a filter of the representation is in full swing where the chunk begins.
    """

    carry: Carry
    past: Array


@functools.partial(jax.jit, static_argnames=("window_samples", "overlap_samples"))
def begin(
    objective: DiffusionObjective, keys: Array, grid: Level, *, window_samples: int, overlap_samples: int
) -> Progress:
    """Return what the first chunk is told, for clips of ``keys`` [batch]."""
    shape = objective.representation.shape(len(keys), window_samples)
    carry = first_carry(shape, overlap_samples, grid)
    return Progress(carry, jnp.zeros(shape))


@functools.partial(jax.jit, static_argnames=("sampler", "guided"))
def generate_chunk(
    objective: DiffusionObjective,
    params: PyTree,
    keys: Array,
    conditions: Conditions,
    grid: Level,
    guidance: Mapping[str, Array | float],
    progress: Progress,
    hop_seconds: Array | float,
    *,
    sampler: Callable[..., Any],
    guided: bool,
) -> tuple[Array, Progress]:
    """Draw the next hop of each clip: audio [batch, hop] (or [batch, hop, channel]), and what it leaves to the next.

    Arguments are those of :func:`~audiodiff.evaluation.generate.generate`, and the representation has a position a
    sample. A condition "start_seconds" is where the clip begins; each chunk is told ``hop_seconds`` more than the one
    before. One program makes every chunk of any length.
    """
    return _chunk(objective, params, keys, conditions, grid, guidance, hop_seconds, sampler, guided, progress)


@functools.partial(jax.jit, static_argnames=("sampler", "guided", "count"))
def generate_chunks(
    objective: DiffusionObjective,
    params: PyTree,
    keys: Array,
    conditions: Conditions,
    grid: Level,
    guidance: Mapping[str, Array | float],
    progress: Progress,
    hop_seconds: Array | float,
    *,
    sampler: Callable[..., Any],
    guided: bool,
    count: int,
) -> Array:
    """Draw ``count`` chunks in one program: audio [batch, count * hop], the same as :func:`generate_chunk` by turns."""

    def one(progress: Progress, _: None) -> tuple[Progress, Array]:
        audio, left = _chunk(
            objective, params, keys, conditions, grid, guidance, hop_seconds, sampler, guided, progress
        )
        return left, audio

    audio = jnp.moveaxis(jax.lax.scan(one, progress, None, length=count)[1], 0, 1)
    return audio.reshape(len(keys), -1, *audio.shape[3:])


@functools.partial(
    jax.jit, static_argnames=("sampler", "guided", "length_samples", "window_samples", "overlap_samples", "together")
)
def generate_windowed(
    objective: DiffusionObjective,
    params: PyTree,
    keys: Array,
    conditions: Conditions,
    grid: Level,
    guidance: Mapping[str, Array | float],
    *,
    sampler: Callable[..., Any],
    guided: bool,
    length_samples: int,
    window_samples: int,
    overlap_samples: int,
    together: bool = False,
) -> Array:
    """Draw clips [batch, length_samples] under the average of the estimates of all windows (:class:`Windowed`).

    Every step moves the whole, so that the beginning hears of the end, window by window; memory grows with the length.
    """
    shape = functools.partial(objective.representation.shape, len(keys))
    window, rest = shape(window_samples)[1], shape(window_samples - overlap_samples)[1]
    windowed = functools.partial(Windowed, window_positions=window, overlap_positions=window - rest, together=together)
    denoise, encoded = model_under(objective, params, keys, conditions, guidance, guided, windowed)
    start, path = jax.vmap(jax.random.split, out_axes=1)(keys)
    first = Level(grid.alpha[0], grid.sigma[0])
    x = initial_noise(start, shape(length_samples), first, sigma_data=objective.sigma_data)
    x0 = sampler(denoise, x, grid, encoded, path)
    return finished(objective, x0, conditions, length_samples)


def _chunk(
    objective: DiffusionObjective,
    params: PyTree,
    keys: Array,
    conditions: Conditions,
    grid: Level,
    guidance: Mapping[str, Array | float],
    hop_seconds: Array | float,
    sampler: Callable[..., Any],
    guided: bool,
    progress: Progress,
) -> tuple[Array, Progress]:
    carry, past = progress
    window = past.shape[1]
    hop = window - carry.end.shape[1]
    if START_SECONDS in conditions:
        elapsed = conditions[START_SECONDS] + carry.number * hop_seconds
        conditions = {**conditions, START_SECONDS: elapsed}
    denoise, encoded = model_under(objective, params, keys, conditions, guidance, guided)
    x, carry = next_chunk(sampler, denoise, carry, hop, keys, grid, encoded, objective.sigma_data)
    heard = jnp.concatenate([past, x, carry.end], axis=1)
    audio = objective.decode(heard, conditions, heard.shape[1])[:, window : window + hop]
    return audio, Progress(carry, heard[:, hop : hop + window])
