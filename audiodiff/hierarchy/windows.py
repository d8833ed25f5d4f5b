"""Denoise what is longer than a network was trained at, window by window, with estimates that fade into each other."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from audiodiff.dsp.crossfade import crossfade_weights, window_starts
from audiodiff.types import Array, Conditions, Denoiser, Level

ALONG = ("frames", "signal")
"""The encoded conditions that lie beside x, position by position at their own rate; all others are of the whole."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["denoise"],
    meta_fields=["window_positions", "overlap_positions", "together"],
)
@dataclass(frozen=True)
class Windowed:
    """Average the estimates of overlapping windows: x_0 = sum_i w_i D(F_i x_t) / sum_i w_i, w_i faded at both ends.

    F_i x_t is a window of ``window_positions`` of x_t [batch, time, ...], of any length from that on, and the mean is
    the least-squares agreement of all windows (Bar-Tal et al. 2023, MultiDiffusion, eq. 5). Under a sampler that walks
    by the estimate alone all windows move on together. ``overlap_positions`` of two neighbours are faded into each
    other (:func:`~audiodiff.dsp.crossfade.crossfade_weights`); an estimate is right where what it hangs on lies in its
    window, so an overlap of twice that reach or more is as good as a network that hears everything.

    "frames" and "signal", [batch, position, channel], are cut along with x; a cut must fall between two of their
    positions. Other conditions are those of every window. With ``together`` all windows are one batch; else one comes
    after the other, at the memory of one. Wrap guidance around this, not the reverse: it holds the null conditions of
    the batch that it is given.
    Raises ValueError for a window longer than x, an overlap as long as the window, and conditions that a cut splits.
    """

    denoise: Denoiser
    window_positions: int
    overlap_positions: int
    together: bool = False

    def __call__(self, x_t: Array, level: Level, conditions: Conditions) -> Array:
        time, count = x_t.shape[1], self.window_positions
        starts = window_starts(time, count, self.overlap_positions)
        weights = jnp.asarray(crossfade_weights(time, count, self.overlap_positions), x_t.dtype)
        steps = math.gcd(*(int(start) for start in starts), count)
        along = {name: conditions[name] for name in ALONG if name in conditions}
        for name, values in along.items():
            _check_cuts(name, values.shape[1], time, steps)
        whole = {name: values for name, values in conditions.items() if name not in along}

        def cut(start: Array) -> tuple[Array, dict[str, Array]]:
            beside = {name: window_of(values, start, count, time) for name, values in along.items()}
            return window_of(x_t, start, count, time), beside

        def add(total: Array, one: tuple[Array, Array, Array]) -> tuple[Array, None]:
            start, weight, estimate = one
            weighted = weight.reshape(-1, *[1] * (x_t.ndim - 2)) * estimate
            there = jax.lax.dynamic_slice_in_dim(total, start, count, axis=1) + weighted
            return jax.lax.dynamic_update_slice_in_dim(total, there, start, axis=1), None

        def denoise_and_add(total: Array, one: tuple[Array, Array]) -> tuple[Array, None]:
            start, weight = one
            window, beside = cut(start)
            return add(total, (start, weight, self.denoise(window, level, {**whole, **beside})))

        places, nothing = jnp.asarray(starts), jnp.zeros_like(x_t)
        if not self.together:
            return jax.lax.scan(denoise_and_add, nothing, (places, weights))[0]
        windows, beside = jax.vmap(cut)(places)  # [window, batch, ...]
        joined = jax.tree.map(lambda values: values.reshape(-1, *values.shape[2:]), (windows, beside))
        repeated = jax.tree.map(lambda values: jnp.tile(values, (len(starts), *[1] * (values.ndim - 1))), whole)
        levels = Level(*(jnp.tile(value, len(starts)) for value in level))
        estimates = self.denoise(joined[0], levels, {**repeated, **joined[1]}).reshape(windows.shape)
        return jax.lax.scan(add, nothing, (places, weights, estimates))[0]


def window_of(values: Array, start: Array, count: int, time: int) -> Array:
    """Return what of values [batch, position, ...] lies beside ``count`` of ``time`` positions from ``start`` on."""
    shared = math.gcd(values.shape[1], time)  # start times the positions of a long signal is more than an int32 holds
    own, of = values.shape[1] // shared, time // shared
    return jax.lax.dynamic_slice_in_dim(values, start // of * own, count // of * own, axis=1)


def _check_cuts(name: str, positions: int, time: int, steps: int) -> None:
    """Raise ValueError where a cut at a multiple of ``steps`` of ``time`` falls inside one of ``positions``."""
    if positions * steps % time:
        whole = time // math.gcd(positions, time)
        raise ValueError(
            f"{name} has {positions} positions beside {time} of x, and windows begin or end every {steps}, inside one "
            f"of them: take x, window and overlap of multiples of {whole}"
        )
