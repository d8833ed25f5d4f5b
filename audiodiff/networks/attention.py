"""Let positions attend to each other: full, local, strided, hierarchical and linear attention behind one interface.

The functions take queries, keys and values as [..., time, dim] with every head among the leading axes, so that all
products are plain batched matrix products. A ``mask`` is a bool array [..., key] (leading axes broadcast), True where
a key may be seen. Exponentials and sums are float32 or wider. A query that may see nothing gets zero.

Cost at length T, window w: full T^2; local T w; strided T (w + T / w); hierarchical T w log(T / w); linear T.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.nn.initializers import Initializer, lecun_normal

from audiodiff.networks.layers import Dense
from audiodiff.types import Array

Kind = Literal["full", "local", "strided", "hierarchical", "linear"]

FORBIDDEN = -1e30
"""The logit of a pair that may not meet: finite, so that a query with nothing to see makes no NaN."""


class Partial(NamedTuple):
    """Hold a softmax average over some of the keys, before its division; see :func:`merge`."""

    peak: Array
    """max_j l_j, [..., query, 1]; a constant to differentiation, since the average does not depend on it."""
    total: Array
    """sum_j exp(l_j - peak), [..., query, 1]."""
    weighted: Array
    """sum_j exp(l_j - peak) v_j, [..., query, dim]."""


def attend(q: Array, k: Array, v: Array, allowed: Array | None = None, bias: Array | None = None) -> Partial:
    """Attend from q [..., query, dim] to k, v [..., key, dim] with logits l = q k^T / sqrt(dim) + bias.

    ``allowed`` and ``bias`` broadcast to [..., query, key]. The division by the total is left for the end: one per
    output instead of one per pair, which takes a third off the time on the CPU (32 x 4 heads x 256 x 32, forward and
    backward: 67 ms instead of 90 ms).
    """
    wide = jnp.promote_types(q.dtype, jnp.float32)
    logits = jnp.matmul(q * q.shape[-1] ** -0.5, k.swapaxes(-1, -2), preferred_element_type=wide)
    if bias is not None:
        logits = logits + bias
    if allowed is not None:
        logits = jnp.where(allowed, logits, FORBIDDEN)
    peak = lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.exp(logits - peak)
    if allowed is not None:
        weights = jnp.where(allowed, weights, 0)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return Partial(peak, total, jnp.matmul(weights.astype(v.dtype), v, preferred_element_type=wide))


def merge(*partials: Partial) -> Array:
    """Join averages over disjoint sets of keys into the softmax average over their union, [..., query, dim]."""
    peak = partials[0].peak
    for part in partials[1:]:
        peak = jnp.maximum(peak, part.peak)
    scales = [jnp.exp(part.peak - peak) for part in partials]
    total = sum(part.total * scale for part, scale in zip(partials, scales, strict=True))
    weighted = sum(part.weighted * scale for part, scale in zip(partials, scales, strict=True))
    return jnp.asarray(weighted) / _or_one(jnp.asarray(total))


def rotary(x: Array, positions: Array | None = None, base: float = 10_000.0) -> Array:
    """Rotate channel pairs (i, i + dim / 2) of x [..., time, dim] by position * base^(-2 i / dim).

    The product of a rotated query and a rotated key depends on their positions through the difference alone
    (Su et al. 2021, arXiv 2104.09864). Positions default to 0 .. time-1. The dim must be even.
    """
    half = x.shape[-1] // 2
    if 2 * half != x.shape[-1]:
        raise ValueError(f"Rotary positions turn channels in pairs, and {x.shape[-1]} is odd: use an even head_dim.")
    positions = jnp.arange(x.shape[-2]) if positions is None else positions
    wide = jnp.promote_types(x.dtype, jnp.float32)
    angle = positions.astype(wide)[..., None] * base ** (-jnp.arange(half, dtype=wide) / half)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1).astype(x.dtype)


def full_attention(q: Array, k: Array, v: Array, *, causal: bool = False, mask: Array | None = None) -> Array:
    """Average v over all keys by softmax(q k^T / sqrt(dim)): O(T^2) time and memory (Vaswani et al. 2017)."""
    allowed = None if mask is None else mask[..., None, :]
    if causal:
        past = jnp.tril(jnp.ones((q.shape[-2], k.shape[-2]), bool))
        allowed = past if allowed is None else allowed & past
    return merge(attend(q, k, v, allowed)).astype(v.dtype)


def local_attention(
    q: Array, k: Array, v: Array, *, window: int, causal: bool = False, mask: Array | None = None
) -> Array:
    """Average v over the keys less than ``window`` positions away: |i - j| < window, and j <= i when causal.

    Time is cut into blocks of ``window``; a block of queries meets its own and the adjacent blocks of keys.
    """
    window = min(window, q.shape[-2])
    return merge(_local(q, k, v, _valid(mask, k), window, window, causal)).astype(v.dtype)


def strided_attention(
    q: Array, k: Array, v: Array, *, window: int, causal: bool = False, mask: Array | None = None
) -> Array:
    """Average v over the near keys and every ``window``-th key: |i - j| < window or (i - j) mod window = 0.

    The strided pattern of Sparse Transformers, both sets under one softmax (Child et al. 2019, arXiv 1904.10509);
    any position reaches any other in two layers, at O(T sqrt(T)) when window is about sqrt(T).
    """
    time, window, valid = q.shape[-2], min(window, q.shape[-2]), _valid(mask, k)
    near = _local(q, k, v, valid, window, window, causal)
    # Positions of one residue modulo the window attend to each other: [..., residue, block, dim].
    queries, keys, values, seen = (_blocks(a, window).swapaxes(-2, -3) for a in (q, k, v, valid))
    count = keys.shape[-2]
    other = ~jnp.eye(count, dtype=bool) & (jnp.tril(jnp.ones((count, count), bool)) if causal else True)
    far = attend(queries, keys, values, other & seen.swapaxes(-1, -2))
    return merge(near, Partial(*(_unblock(a.swapaxes(-2, -3), time) for a in far))).astype(v.dtype)


def hierarchical_attention(
    q: Array, k: Array, v: Array, *, window: int, causal: bool = False, mask: Array | None = None
) -> Array:
    """Average v over near keys one by one and over far keys in cells that double in size with distance.

    Blocks of ``window`` positions meet their own and adjacent blocks key by key. At level l = 1, 2, ... keys are
    pooled in cells of 2^l, and blocks of ``window`` cells meet their own and adjacent blocks, less what a finer level
    has covered, until two blocks span everything. A cell of n keys takes part as n times its mean key and value, so
    the result is full attention wherever keys and values are constant inside cells, and always when window >= time
    (after the multilevel scheme of H-Transformer-1D, Zhu and Soricut 2021, arXiv 2107.11906, with queries kept fine).

    Raises:
      ValueError: if more than one level is needed and the window is odd, since it must halve into cells.
    """
    time, window = q.shape[-2], min(window, q.shape[-2])
    blocks, levels = -(-time // window), 0
    while -(-blocks // 2**levels) > 2:
        levels += 1
    if levels and window % 2:
        raise ValueError(f"Hierarchical attention halves its window, and {window} is odd: use {window + 1}.")
    multiple = window * 2**levels
    valid = _valid(mask, k).astype(jnp.promote_types(q.dtype, jnp.float32))
    q, k, v, count = (_pad_time(a, multiple) for a in (q, k, v, valid))
    partials = [_local(q, k, v, count > 0, window, 2 * window, causal)]  # all of the adjacent blocks
    k, v = k * count.astype(k.dtype), v * count.astype(v.dtype)  # sums over cells from here on
    for level in range(1, levels + 1):
        k, v, count = (a.reshape(*a.shape[:-2], -1, 2, a.shape[-1]).sum(axis=-2) for a in (k, v, count))
        cells = jnp.maximum(count, 1)
        queries = _blocks(q, window * 2**level)
        keys, values = (_neighbours(_blocks((a / cells).astype(a.dtype), window), causal) for a in (k, v))
        counts = _neighbours(_blocks(count, window), causal).swapaxes(-1, -2)
        # In blocks of the level below: 0 and 1 for the two halves of the queries, -2 .. 3 for the cells.
        own = jnp.arange(queries.shape[-2]) // (window * 2 ** (level - 1))
        cell = jnp.arange(keys.shape[-2]) // (window // 2) - 2
        distance = cell[None, :] - own[:, None]
        uncovered = (distance < -1) if causal else (jnp.abs(distance) > 1)
        part = attend(queries, keys, values, uncovered & (counts > 0), jnp.log(jnp.maximum(counts, 1)))
        partials.append(Partial(*(_unblock(a, q.shape[-2]) for a in part)))
    return lax.slice_in_dim(merge(*partials), 0, time, axis=-2).astype(v.dtype)


def linear_attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    causal: bool = False,
    mask: Array | None = None,
    rotate: Callable[[Array], Array] | None = None,
    chunk: int = 64,
) -> Array:
    """Average v with weights phi(q_i) . phi(k_j), phi(x) = elu(x) + 1, in O(T) (Katharopoulos et al. 2020).

    sum_j (phi(q_i) . phi(k_j)) v_j = phi(q_i) . (sum_j phi(k_j) v_j^T), so the keys are summed up once in a state
    [dim, dim]. Causal sums are running sums: over chunks through the state, inside a chunk by masked products.
    ``rotate`` turns the features in the numerator alone, which keeps the weights' normaliser positive (Su et al. 2021,
    section 3.3).
    """
    dtype, time, wide = v.dtype, k.shape[-2], jnp.promote_types(q.dtype, jnp.float32)
    phi_q, phi_k = (jax.nn.elu(a.astype(wide)) + 1 for a in (q, k))
    phi_k, v = phi_k * _valid(mask, k), v.astype(wide)
    turned_q, turned_k = (phi_q, phi_k) if rotate is None else (rotate(phi_q), rotate(phi_k))
    if not causal:
        weighted = turned_q @ (turned_k.swapaxes(-1, -2) @ v)
        total = phi_q @ jnp.sum(phi_k, axis=-2, keepdims=True).swapaxes(-1, -2)
    else:
        chunk = min(chunk, time)
        phi_q, phi_k, turned_q, turned_k, v = (_blocks(a, chunk) for a in (phi_q, phi_k, turned_q, turned_k, v))
        past = jnp.tril(jnp.ones((chunk, chunk), wide))

        def before(states: Array) -> Array:
            """Sum the states of all earlier chunks; subtracting the own one afterwards would let the future leak in."""
            shifted = jnp.pad(states[..., :-1, :, :], [*[(0, 0)] * (states.ndim - 3), (1, 0), (0, 0), (0, 0)])
            return jnp.cumsum(shifted, axis=-3)

        weighted = (turned_q @ turned_k.swapaxes(-1, -2) * past) @ v
        weighted = weighted + turned_q @ before(turned_k.swapaxes(-1, -2) @ v)
        total = jnp.sum(phi_q @ phi_k.swapaxes(-1, -2) * past, axis=-1, keepdims=True)
        total = total + phi_q @ before(jnp.sum(phi_k, axis=-2, keepdims=True).swapaxes(-1, -2))
        weighted, total = _unblock(weighted, time), _unblock(total, time)
    return (weighted / _or_one(total)).astype(dtype)


def _or_one(total: Array) -> Array:
    """Replace zeros by ones: what is divided by a total of nothing is zero, and so are its gradients."""
    return jnp.where(total > 0, total, 1)


def _valid(mask: Array | None, k: Array) -> Array:
    """Return the mask as [..., key, 1], all True without one."""
    return jnp.ones((k.shape[-2], 1), bool) if mask is None else mask[..., None]


def _pad_time(a: Array, multiple: int) -> Array:
    """Pad [..., time, dim] with zeros (False) at the end to a multiple."""
    return jnp.pad(a, [(0, 0)] * (a.ndim - 2) + [(0, -a.shape[-2] % multiple), (0, 0)])


def _blocks(a: Array, size: int) -> Array:
    """Cut [..., time, dim] into blocks [..., block, size, dim], padding the end."""
    return _pad_time(a, size).reshape(*a.shape[:-2], -1, size, a.shape[-1])


def _unblock(a: Array, time: int) -> Array:
    """Undo _blocks: [..., block, size, dim] -> [..., time, dim]."""
    return lax.slice_in_dim(a.reshape(*a.shape[:-3], -1, a.shape[-1]), 0, time, axis=-2)


def _neighbours(blocks: Array, causal: bool) -> Array:
    """Concatenate every block with the one before it, and, unless causal, the one after: [..., block, 3 size, dim]."""
    lead = [(0, 0)] * (blocks.ndim - 3)
    before = jnp.pad(blocks[..., :-1, :, :], [*lead, (1, 0), (0, 0), (0, 0)])
    after = [] if causal else [jnp.pad(blocks[..., 1:, :, :], [*lead, (0, 1), (0, 0), (0, 0)])]
    return jnp.concatenate([before, blocks, *after], axis=-2)


def _local(q: Array, k: Array, v: Array, valid: Array, window: int, reach: int, causal: bool) -> Partial:
    """Attend to valid keys (bool [..., key, 1]) less than ``reach`` away, in the own and adjacent blocks of window."""
    keys, values, seen = (_neighbours(_blocks(a, window), causal) for a in (k, v, valid))
    distance = jnp.arange(keys.shape[-2])[None, :] - window - jnp.arange(window)[:, None]
    near = (jnp.abs(distance) < reach) & (distance <= 0 if causal else True)
    part = attend(_blocks(q, window), keys, values, near & seen.swapaxes(-1, -2))
    return Partial(*(_unblock(a, q.shape[-2]) for a in part))


class Attention(nn.Module):
    """Attend among the positions of x [batch, time, channel], or from x to a context [batch, token, dim].

    ``kind`` chooses the function above; ``window`` is its reach in positions, for the kinds that have one. ``rotary``
    gives x positions; without it, and without a window, the layer commutes with permutations. ``mask`` is bool
    [batch, key], True where a key may be seen. Cross-attention has neither an order nor neighbours: it is full or
    linear, and never causal. Few wide heads are cheaper than many narrow ones.

    Raises:
      ValueError: for an unknown kind, a kind without its window, or cross-attention of a kind that needs an order.
    """

    heads: int
    head_dim: int
    kind: Kind = "full"
    window: int = 0
    causal: bool = False
    rotary: bool = False
    dtype: Any = jnp.float32
    output_init: Initializer = lecun_normal()

    @nn.compact
    def __call__(self, x: Array, context: Array | None = None, mask: Array | None = None) -> Array:
        rotate = rotary if self.rotary and context is None else None
        function = self.function(rotate, cross=context is not None)
        source = x if context is None else context

        def by_head(name: str, inputs: Array) -> Array:
            y = Dense(self.heads * self.head_dim, use_bias=False, dtype=self.dtype, name=name)(inputs)
            return y.reshape(*y.shape[:-1], self.heads, self.head_dim).swapaxes(1, 2)

        q, k, v = by_head("query", x), by_head("key", source), by_head("value", source)
        if rotate is not None and self.kind != "linear":
            q, k = rotate(q), rotate(k)
        y = function(q, k, v, causal=self.causal, mask=None if mask is None else mask[:, None, :])
        y = y.swapaxes(1, 2).reshape(*x.shape[:-1], self.heads * self.head_dim)
        return Dense(x.shape[-1], dtype=self.dtype, kernel_init=self.output_init, name="output")(y)

    def function(self, rotate: Callable[[Array], Array] | None, cross: bool) -> Callable[..., Array]:
        """Return the attention function of this kind, with its own settings bound."""
        functions: dict[str, Callable[..., Array]] = {
            "full": full_attention,
            "local": partial(local_attention, window=self.window),
            "strided": partial(strided_attention, window=self.window),
            "hierarchical": partial(hierarchical_attention, window=self.window),
            "linear": partial(linear_attention, rotate=rotate),
        }
        if self.kind not in functions:
            nearest = difflib.get_close_matches(str(self.kind), functions, n=len(functions), cutoff=0.0)
            raise ValueError(f"Unknown attention kind {self.kind!r}: use one of {', '.join(nearest)}.")
        if cross and (self.causal or self.kind not in ("full", "linear")):
            order = "causal" if self.causal else self.kind
            raise ValueError(
                f"Cross-attention cannot be {order}, for its two sides share no order: use full or linear."
            )
        if self.kind not in ("full", "linear") and self.window < 1:
            raise ValueError(f"{self.kind} attention needs a window of at least 1 position, and it is {self.window}.")
        return functions[self.kind]
