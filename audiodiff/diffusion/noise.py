"""Draw Gaussian noise so that an example depends on its own key, and a path on the level, never on the step count.

Everywhere in ``diffusion`` a ``key`` is either one typed key for the whole batch, or an array of keys [batch]:
then example i sees key i alone and can be drawn again in a batch of any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from audiodiff.prng import in_one_pass
from audiodiff.types import Array, Level

PATH_DEPTH = 12
"""Halvings of the Brownian tree: 2^12 places for a level to stand on."""

PLACES_PER_STEP = 32
"""Into how many places the tree is resolved for each step of a grid, as far as it goes."""

KNOWN_DEPTH = 3
"""Halvings of the tree whose noise is drawn once for a path; a place visited costs a draw for each of the others."""


def standard_normal(key: Array, shape: tuple[int, ...], dtype: jnp.dtype | type = jnp.float32) -> Array:
    """Draw N(0, I) of shape [batch, ...] from one key, or each example from its own of [batch] keys.

    Raises ValueError when there are neither one key nor as many as examples.
    """
    if key.ndim == 0:
        return jax.random.normal(key, shape, dtype)
    if key.shape != shape[:1]:
        raise ValueError(f"got keys of shape {key.shape} for noise of shape {shape}: pass one key, or {shape[:1]} keys")
    return jax.vmap(lambda k: jax.random.normal(k, shape[1:], dtype))(key)


def fold_in(key: Array, data: Array | int) -> Array:
    """Return jax.random.fold_in(key, data), for one key or for each of [batch] keys."""
    if key.ndim == 0:
        return jax.random.fold_in(key, data)
    return jax.vmap(lambda k: jax.random.fold_in(k, data))(key)


def initial_noise(
    key: Array,
    shape: tuple[int, ...],
    level: Level,
    *,
    sigma_data: Array | float = 0.0,
    dtype: jnp.dtype | type = jnp.float32,
) -> Array:
    """Draw the x_T [batch, ...] from which sampling starts: N(0, (alpha^2 sigma_data^2 + sigma^2) I).

    ``level`` is the first of the grid, scalars or [batch]; ``sigma_data`` adds the variance of the data that a
    schedule with SNR left at t = 1 has in x_T. The draw depends on the key and the level alone: grids of
    different step counts that share their first level start from the same noise.
    """
    scale = jnp.sqrt((level.alpha * sigma_data) ** 2 + level.sigma**2).astype(dtype)
    noise = standard_normal(key, shape, dtype)
    return scale.reshape(scale.shape + (1,) * (noise.ndim - scale.ndim)) * noise


def path_depth(steps: int) -> int:
    """Return how many halvings of the Brownian tree a grid of so many steps resolves.

    Raises ValueError when there are more steps than places.
    """
    if steps > 2**PATH_DEPTH:
        raise ValueError(
            f"got a grid of {steps} steps: a path has {2**PATH_DEPTH} places, so take at most {2**PATH_DEPTH} steps"
        )
    return min(PATH_DEPTH, math.ceil(math.log2(PLACES_PER_STEP * steps)))


def path_places(grid: Level) -> Array:
    """Return the place of each level [n+1] on the leaves of the Brownian tree: 0 first, 2^PATH_DEPTH if clean.

    With u = 1 / (1 + (alpha/sigma)^(1/4)), finite at zero SNR (1) and at the data (0) and close to even for the
    grids in use, the place is (1 - u / u_first) 2^PATH_DEPTH, to the nearest that :func:`path_depth` resolves. Levels
    nearer than that are moved apart, so that no step is without noise.
    """
    steps = grid.sigma.shape[0] - 1
    depth = path_depth(steps)
    noise, signal = grid.sigma**0.25, grid.alpha**0.25
    u = noise / (signal + noise)
    place = jnp.round((1 - u / u[0]) * 2**depth).astype(jnp.int32)
    rank = jnp.arange(steps + 1, dtype=jnp.int32)
    apart = jnp.minimum(jax.lax.cummax(place - rank), 2**depth - steps) + rank
    return apart * 2 ** (PATH_DEPTH - depth)


def brownian(
    key: Array, shape: tuple[int, ...], dtype: jnp.dtype | type = jnp.float32, depth: int | None = None
) -> Callable[[Array], Array]:
    """Return place -> W(place / 2^PATH_DEPTH), the one Brownian motion on [0, 1] that belongs to ``key``.

    Levy's construction as a series of Schauder's functions, over the halvings d of [0, 1]:

        W(u) = u z_0 + sum_d 2^-(d/2 + 1) tent(2^d u mod 1) z_i,  tent(v) = 1 - |2 v - 1|,  i = 2^d + floor(2^d u),

    with z_i drawn from the key folded with i, the heap index of the interval of that depth around u. At a place of the
    tree the series ends: ``depth`` (by default PATH_DEPTH) is where it does at every place that will be asked for. Two
    grids that visit a place see the same W, whatever lies between.
    """
    depth = PATH_DEPTH if depth is None else depth
    known_depth = min(depth, KNOWN_DEPTH)
    key = in_one_pass(key)
    keys_of = jax.vmap(lambda i: fold_in(key, i))
    known = jnp.stack([standard_normal(k, shape, dtype) for k in keys_of(jnp.arange(2**known_depth))])

    def path(place: Array) -> Array:
        below = PATH_DEPTH - jnp.arange(depth)
        interval = (2**PATH_DEPTH + place) >> below
        within = (place % 2**below).astype(dtype) / 2**below
        weights = jnp.exp2(below / 2 - PATH_DEPTH / 2 - 1).astype(dtype) * (1 - jnp.abs(2 * within - 1))
        of_known = jnp.zeros(2**known_depth, dtype).at[0].set((place / 2**PATH_DEPTH).astype(dtype))
        of_known = of_known.at[interval[:known_depth]].set(weights[:known_depth])
        value = jnp.tensordot(of_known, known, 1, precision=jax.lax.Precision.HIGHEST)
        # Term by term, not a product of weights and draws side by side: XLA makes all of it in one pass.
        for weight, k in zip(weights[known_depth:], keys_of(interval[known_depth:]), strict=True):
            value += weight * standard_normal(k, shape, dtype)
        return value

    return path
