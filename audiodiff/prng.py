"""Derive every random key from names and counters, so that none is ever stored.

A key is a pure function of (seed, name, step, draw). Resuming, changing the number of devices or adding
a new consumer of randomness therefore never changes what the others see.
"""

from __future__ import annotations

import zlib

import jax

from audiodiff.types import Array


def stream(seed: int | Array, name: str) -> Array:
    """Return the key of a named stream: fold_in(key(seed), crc32(name)).

    ``seed`` is an integer or a key. CRC-32 because Python's ``hash`` is salted anew in every process.
    """
    key = (
        seed
        if isinstance(seed, jax.Array) and jax.dtypes.issubdtype(seed.dtype, jax.dtypes.prng_key)
        else jax.random.key(seed)
    )
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def per_example(key: Array, draw: Array) -> Array:
    """Return one key per example, fold_in(key, draw), for ``draw`` an integer array [batch].

    ``draw`` is the example's index in the shuffled stream: the same example of the same step sees the same
    noise on one device, on eight, under accumulation and on several hosts.
    """
    return jax.vmap(lambda d: jax.random.fold_in(key, d))(draw)


def normal_like(keys: Array, x: Array) -> Array:
    """Draw standard normal noise of the shape and dtype of x [batch, ...], each example from its own key."""
    return jax.vmap(lambda k, one: jax.random.normal(k, one.shape, one.dtype))(keys, x)
