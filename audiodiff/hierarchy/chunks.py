"""Sample on and on in the memory of one chunk: each follows the one before where the two overlap.

Chunks are windows of x one hop apart, a hop being the window less the overlap; chunk k is final from its first position
to the first of chunk k + 1. In the overlap a chunk has the noise of the one before, and its estimates at every level
fade from that chunk's into its own (:class:`Follow`). So the two agree about x_t where the second begins, and a sampler
walks as under the average of all windows at once (:class:`~audiodiff.hierarchy.windows.Windowed`), but for what an
earlier chunk would learn of a later one. Nothing that is known is put back from outside, which would put an x_t before
the network that its own path would never have come to.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from audiodiff.diffusion.noise import initial_noise
from audiodiff.dsp.crossfade import fade_out
from audiodiff.types import Array, Conditions, Denoiser, Level

Sampler = Callable[..., Any]
"""(denoise, x, grid, conditions, key, trajectory=...) -> x, or (x, Trajectory)."""


class Carry(NamedTuple):
    """Hold what a chunk leaves to the next, all of it of their overlap.

    ``estimates`` [step, batch, overlap, ...]: of x_0, at every level but the last. ``end`` [batch, overlap, ...]: x at
    the last level. ``number``, int: how many chunks there were.
    """

    estimates: Array
    end: Array
    number: Array


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["denoise", "grid", "estimates", "share"], meta_fields=[]
)
@dataclass(frozen=True)
class Follow:
    """Fade from the estimates of another path into those of a Denoiser, at every level of the grid.

    x_0 = share e + (1 - share) D over the first positions of x_t [batch, time, ...], D beyond: e is that of
    ``estimates`` [step, batch, overlap, ...] at the level of ``grid`` that is nearest, and ``share`` [overlap].
    """

    denoise: Denoiser
    grid: Level
    estimates: Array
    share: Array

    def __call__(self, x_t: Array, level: Level, conditions: Conditions) -> Array:
        estimate = self.denoise(x_t, level, conditions)
        overlap = self.estimates.shape[2]
        # sigma / (alpha + sigma) tells levels apart at zero SNR too.
        places = (self.grid.sigma / (self.grid.alpha + self.grid.sigma))[:-1]
        here = level.sigma / (level.alpha + level.sigma)
        nearest = jnp.argmin(jnp.abs(places - here[:, None]), axis=1)
        other = jax.vmap(lambda step, of_one: of_one[step], (0, 1))(nearest, self.estimates)
        share = self.share.reshape(-1, *[1] * (x_t.ndim - 2))
        first = share * other + (1 - share) * estimate[:, :overlap]
        return jnp.concatenate([first, estimate[:, overlap:]], axis=1)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["denoise"], meta_fields=["blocks"])
@dataclass(frozen=True)
class Joined:
    """Denoise x_t [batch * blocks, block, ...] as [batch, blocks * block, ...]: blocks of one signal, end to end.

    A sampler takes blocks for examples, each with a key of its own, so that one block has the same noise in any chunk.
    """

    denoise: Denoiser
    blocks: int

    def __call__(self, x_t: Array, level: Level, conditions: Conditions) -> Array:
        one = Level(*(value[:: self.blocks] for value in level))
        return self.denoise(joined(x_t, self.blocks), one, conditions).reshape(x_t.shape)


def joined(x: Array, blocks: int) -> Array:
    """Put blocks [batch * blocks, block, ...] end to end: [batch, blocks * block, ...]."""
    return x.reshape(-1, blocks * x.shape[1], *x.shape[2:])


def first_carry(shape: tuple[int, ...], overlap_positions: int, grid: Level) -> Carry:
    """Return what the first chunk is told: that there was none before.

    ``shape`` is that of a chunk, [batch, window, ...]. An overlap of 0 makes chunks that know nothing of each other.
    Raises ValueError for an overlap that is not shorter than the window.
    """
    if not 0 <= overlap_positions < shape[1]:
        raise ValueError(
            f"an overlap of {overlap_positions} positions leaves nothing new of a window of {shape[1]}: "
            f"give 0 to {shape[1] - 1}"
        )
    end = jnp.zeros((shape[0], overlap_positions, *shape[2:]))
    return Carry(jnp.zeros((grid.sigma.shape[0] - 1, *end.shape)), end, jnp.zeros((), jnp.int32))


def next_chunk(
    sampler: Sampler,
    denoise: Denoiser,
    carry: Carry,
    hop_positions: int,
    keys: Array,
    grid: Level,
    conditions: Conditions,
    sigma_data: Array | float = 0.0,
) -> tuple[Array, Carry]:
    """Return the next ``hop_positions`` of x, [batch, hop, ...], and what the chunk leaves to the one after.

    ``carry.end`` is the rest of x should this be the last. Noise is drawn block by block from ``keys`` [batch] and the
    number of the block in the whole, a block being what divides hop and overlap: so a chunk does not depend on how many
    follow, and two that overlap have the same noise there, that of a stochastic sampler's steps included.
    """
    batch, overlap = carry.end.shape[:2]
    block = math.gcd(hop_positions, overlap)
    blocks = (hop_positions + overlap) // block
    places = carry.number * (hop_positions // block) + jnp.arange(blocks)
    of_block = jax.vmap(lambda key: jax.vmap(lambda place: jax.random.fold_in(key, place))(places))(keys).ravel()
    start, path = jax.vmap(jax.random.split, out_axes=1)(of_block)
    shape = (batch * blocks, block, *carry.end.shape[2:])
    x = initial_noise(start, shape, Level(grid.alpha[0], grid.sigma[0]), sigma_data=sigma_data)
    share = jnp.where(carry.number > 0, jnp.asarray(fade_out(overlap), x.dtype), 0.0)
    follow = Joined(Follow(denoise, grid, carry.estimates, share), blocks)
    end, passed = sampler(follow, x, grid, conditions, path, trajectory=True)
    end, estimates = joined(end, blocks), jax.vmap(lambda x0: joined(x0, blocks))(passed.x0)
    left = Carry(estimates[:, :, hop_positions:], end[:, hop_positions:], carry.number + 1)
    return end[:, :hop_positions], left
