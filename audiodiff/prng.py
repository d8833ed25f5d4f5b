"""Derive every random key from names and counters, so that none is ever stored.

A key is a pure function of (seed, name, step, draw). Resuming, changing the number of devices or adding
a new consumer of randomness therefore never changes what the others see.
"""

from __future__ import annotations

import math
import zlib

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

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


def in_one_pass(key: Array) -> Array:
    """Return a key, or keys, whose numbers are those of ``key`` to the bit, and in whose draws XLA sees no loop.

    JAX writes Threefry for the CPU as a loop of five passes over memory. Without it XLA fuses bits, normals and what is
    made of them: six draws summed take a third of the time. But each consumer that it fuses may draw again, so this is
    for noise that one place reads. Keys of another generator are returned as they are.
    """
    if jax.random.key_impl(key) != "threefry2x32":
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_THREEFRY)


def _threefry_bits(key: Array, width: int, shape: tuple[int, ...]) -> Array:
    """Encrypt 0, 1, ... by Threefry-2x32 of 20 rounds (Salmon et al., 2011): 64 bits each, or both halves' xor."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x, y = schedule[0], schedule[1] + jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    for group in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = x + y
            y = x ^ (y << turn | y >> 32 - turn)
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + np.uint32(group + 1)
    if width == 64:
        return x.astype(jnp.uint64) << 32 | y.astype(jnp.uint64)
    return (x ^ y).astype(f"uint{width}")


_JAX = jax.extend.random.threefry_prng_impl
_THREEFRY = jax.extend.random.define_prng_impl(
    key_shape=_JAX.key_shape,
    seed=_JAX.seed,
    split=_JAX.split,
    fold_in=_JAX.fold_in,
    random_bits=_threefry_bits,
    name="threefry2x32_in_one_pass",
    tag="fry1",
)
