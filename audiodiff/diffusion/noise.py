"""Draw Gaussian noise so that an example depends on its own key, and a path on the level, never on the step count.

Everywhere in ``diffusion`` a ``key`` is either one typed key for the whole batch, or an array of keys [batch]:
then example i sees key i alone and can be drawn again in a batch of any size.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from audiodiff.types import Array, Level

PATH_DEPTH = 16
"""Halvings of the Brownian tree: 2^16 places for a level to stand on, and 17 draws of noise for each place visited."""


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


def path_places(grid: Level) -> Array:
    """Return the place of each level [n+1] on the leaves of the Brownian tree: 0 first, 2^PATH_DEPTH if clean.

    With u = 1 / (1 + (alpha/sigma)^(1/4)), finite at zero SNR (1) and at the data (0) and close to even for the
    grids in use, the place is (1 - u / u_first) 2^PATH_DEPTH. Levels nearer than a leaf are moved one leaf apart,
    so that no step is without noise.
    """
    noise, signal = grid.sigma**0.25, grid.alpha**0.25
    u = noise / (signal + noise)
    place = jnp.round((1 - u / u[0]) * 2**PATH_DEPTH).astype(jnp.int32)
    rank = jnp.arange(place.shape[0], dtype=jnp.int32)
    return jax.lax.cummax(place - rank) + rank


def brownian(key: Array, place: Array, shape: tuple[int, ...], dtype: jnp.dtype | type = jnp.float32) -> Array:
    """Return W(place / 2^PATH_DEPTH) of the one Brownian motion on [0, 1] that belongs to ``key``.

    Levy's construction, walked from the root to a leaf: between the ends W(l) and W(r) of an interval, its middle is
    (W(l) + W(r))/2 + sqrt(r - l)/2 z, with z drawn from the key folded with the heap index of the interval. Two grids
    that visit a place see the same W there, whatever lies between.
    """
    last = 2**PATH_DEPTH - 1

    def halve(depth: Array, walk: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        left, right, node = walk
        # Depth 0 draws W(1) itself, by heap index 0, which no interval has.
        spread = jnp.where(depth == 0, 1.0, jnp.exp2(-(depth + 1) / 2)).astype(dtype)
        middle = (left + right) / 2 + spread * standard_normal(fold_in(key, node), shape, dtype)
        go_right = jnp.where(depth == 0, 0, jnp.minimum(place, last) >> (PATH_DEPTH - depth) & 1)
        node = jnp.where(depth == 0, 1, 2 * node + go_right)
        return jnp.where(go_right, middle, left), jnp.where(go_right, right, middle), node

    start = (jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros((), jnp.int32))
    left, right, _ = jax.lax.fori_loop(0, PATH_DEPTH + 1, halve, start)
    # A place is the left end of its leaf; the one at 1 has none, and ends the last.
    return jnp.where(place > last, right, left)
