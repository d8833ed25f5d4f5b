"""Keys in one pass draw what JAX draws, and are read no other way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff import prng

DRAWS = {
    "normal": lambda key: jax.random.normal(key, (3, 7)),
    "one": lambda key: jax.random.normal(key, ()),
    "none": lambda key: jax.random.normal(key, (0, 4)),
    "bfloat16": lambda key: jax.random.normal(key, (5,), jnp.bfloat16),
    "bytes": lambda key: jax.random.bits(key, (5,), jnp.uint8),
    "folded": lambda key: jax.random.normal(jax.random.fold_in(key, 3), (5,)),
    "split": lambda key: jax.vmap(lambda k: jax.random.uniform(k, (2,)))(jax.random.split(key, 3)),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_the_numbers_are_those_of_jax(draw):
    key = prng.stream(7, "noise")
    np.testing.assert_array_equal(draw(prng.in_one_pass(key)), draw(key))


def test_numbers_of_64_bits_are_those_of_jax():
    with jax.enable_x64(True):
        key = prng.stream(7, "noise")
        np.testing.assert_array_equal(*(jax.random.normal(k, (9,), jnp.float64) for k in (prng.in_one_pass(key), key)))


def test_keys_of_a_batch_stay_apart():
    keys = prng.per_example(prng.stream(0, "noise"), jnp.arange(4))
    np.testing.assert_array_equal(
        jax.vmap(lambda k: jax.random.normal(k, (6,)))(prng.in_one_pass(keys)),
        jnp.stack([jax.random.normal(k, (6,)) for k in keys]),
    )


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="JAX writes a loop for the CPU alone")
def test_no_loop_is_left():
    """Where JAX's own draw has none on the CPU either, ``in_one_pass`` has nothing to do any more."""

    def text(key):
        return jax.jit(lambda key: jax.random.normal(key, (64,))).lower(key).as_text()

    assert "while" in text(jax.random.key(0))
    assert "while" not in text(prng.in_one_pass(jax.random.key(0)))


def test_keys_of_another_generator_pass():
    key = jax.random.key(0, impl="rbg")
    assert prng.in_one_pass(key) is key
    once = prng.in_one_pass(jax.random.key(0))
    assert prng.in_one_pass(once) is once
