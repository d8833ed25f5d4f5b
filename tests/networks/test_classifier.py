from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from audiodiff.networks.classifier import LogMelClassifier

RNG = np.random.default_rng(0)
HEADS = (("digit", 11), ("speaker", 7))


def test_every_head_and_the_features_come_out_at_any_length():
    network = LogMelClassifier(HEADS)
    (logits, features), params = jax.eval_shape(network.init_with_output, jax.random.key(0), jnp.zeros((3, 65, 64)))
    assert {name: value.shape for name, value in logits.items()} == {"digit": (3, 11), "speaker": (3, 7)}
    assert features.shape == (3, 128)
    assert 100_000 < sum(leaf.size for leaf in jax.tree.leaves(params)) < 300_000
    again, _ = jax.eval_shape(network.apply, params, jnp.zeros((1, 13, 64)))
    assert again["digit"].shape == (1, 11)


def test_the_receptive_field_is_the_support_of_the_gradient_before_pooling():
    network = LogMelClassifier(HEADS, widths=(4, 4, 4), features=4)
    x = RNG.normal(size=(1, 96, 3)).astype(np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), x)
    params = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32), shapes)

    @jax.jit
    @jax.grad
    def gradient(x):
        _, captured = network.apply(params, x, capture_intermediates=lambda module, _: module.name == "norm")
        return captured["intermediates"]["norm"]["__call__"][0][0, 12].sum()

    heard = np.flatnonzero(np.abs(gradient(x))[0].sum(-1))
    assert heard[-1] - heard[0] + 1 == network.receptive_field()


def test_learns_to_tell_sweeps_apart_by_direction():
    """Rising and falling ridges in noise have equal means over time: only the order of frames tells them apart."""
    network = LogMelClassifier((("direction", 2),), widths=(8, 12), features=8)

    def examples(count):
        label = RNG.integers(0, 2, count)
        start = RNG.integers(0, 12, count)
        bins = (start[:, None] + np.where(label, 1, -1)[:, None] * np.arange(24)) % 12
        return (np.eye(12)[bins] * 3 + RNG.normal(size=(count, 24, 12))).astype(np.float32), label

    def loss(params, x, label):
        logits, _ = network.apply(params, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits["direction"], label).mean()

    optimiser = optax.adam(1e-2)

    @jax.jit
    def step(params, state, x, label):
        updates, state = optimiser.update(jax.grad(loss)(params, x, label), state)
        return optax.apply_updates(params, updates), state

    params = jax.jit(network.init)(jax.random.key(0), examples(1)[0])
    state = optimiser.init(params)
    for _ in range(60):
        params, state = step(params, state, *examples(32))
    x, label = examples(200)
    logits, _ = jax.jit(network.apply)(params, x)
    assert (np.asarray(logits["direction"]).argmax(-1) == label).mean() > 0.95
