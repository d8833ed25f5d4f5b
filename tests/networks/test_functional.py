from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from audiodiff.networks.functional import Classify, Functional


class Affine(nn.Module):
    """Return gain x + noise_condition + condition, where an absent condition is its null; every number is its own."""

    start: float = 2.0

    def setup(self):
        self.gain = self.param("gain", nn.initializers.constant(self.start), ())
        self.null = self.param("null", nn.initializers.constant(-7.0), ())

    def encode(self, conditions, present=None):
        keep = True if present is None else present["shift"]
        return {"global": jnp.where(keep, conditions["shift"], self.null)[:, None]}

    def __call__(self, x, noise_condition, conditions):
        return self.gain * x + (noise_condition[:, None] + conditions["global"])[..., None]

    def init_all(self, x, noise_condition, conditions):
        return self(x, noise_condition, self.encode(conditions))


class Sum(nn.Module):
    @nn.compact
    def __call__(self, features):
        embedding = features.sum(axis=(1, 2))[:, None] * self.param("weight", nn.initializers.normal(), (1, 2))
        return {"digit": -embedding}, embedding


X, RAW = np.arange(6, dtype=np.float32).reshape(2, 3, 1), {"shift": np.array([10.0, 20.0], np.float32)}


def test_parameters_and_levels_and_conditions_go_where_they_belong():
    network = Functional(Affine())
    params = network.init(jax.random.key(0), X, RAW)
    assert jax.tree.map(float, params) == {"gain": 2.0, "null": -7.0}
    encoded = network.encode(params, RAW)
    y = network({"gain": 3.0, "null": 0.0}, X, np.array([0.25, 0.5], np.float32), encoded)
    np.testing.assert_array_equal(y[..., 0], [[10.25, 13.25, 16.25], [29.5, 32.5, 35.5]])


def test_an_absent_condition_is_its_null_where_the_mask_says_so():
    network = Functional(Affine())
    params = network.init(jax.random.key(0), X, RAW)
    encoded = network.encode(params, RAW, {"shift": np.array([False, True])})
    np.testing.assert_array_equal(encoded["global"], [[-7.0], [20.0]])


def test_equal_networks_are_one_static_argument_and_parameters_are_not():
    traces = []

    def run(network, params):
        traces.append(network)
        return network.encode(params, RAW)["global"]

    jitted = jax.jit(run, static_argnums=0)
    for start, gain in ((2.0, 1.0), (2.0, 5.0), (3.0, 1.0)):
        jitted(Functional(Affine(start)), {"gain": gain, "null": gain})
    assert [one.network.start for one in traces] == [2.0, 3.0]


def test_a_classifier_gives_logits_by_head_and_its_embedding():
    classifier = Classify(Sum())
    params = classifier.init(jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, params) == {"weight": (1, 2)}
    logits, embedding = classifier({"weight": np.array([[1.0, 10.0]])}, X)
    np.testing.assert_array_equal(embedding, [[3, 30], [12, 120]])
    np.testing.assert_array_equal(logits["digit"], [[-3, -30], [-12, -120]])
