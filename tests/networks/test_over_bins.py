from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.networks.conditions import ConditionSpec
from audiodiff.networks.dilated_stack import DilatedStack
from audiodiff.networks.over_bins import OverBins
from audiodiff.networks.unet1d import UNet1d

RNG = np.random.default_rng(0)
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""Compile in a third of the time: here compiling takes longest, and what runs is small."""
CONDITIONS = (ConditionSpec("digit", "label", 3), ConditionSpec("mel", "frames", 2))
RAW = {"digit": np.array([0, 2]), "mel": RNG.normal(size=(2, 4, 2)).astype(np.float32)}
NETWORKS = {
    "UNet1d": UNet1d((2,), (4,), (0,), (0,), stem="random", embedding=4, conditions=CONDITIONS),
    "DilatedStack": DilatedStack(1, 4, 1, out_channels=6, embedding_features=4, conditions=CONDITIONS),
}


def noise(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def randomised(network, x):
    shapes = jax.eval_shape(
        lambda key: network.init({"params": key}, x, jnp.zeros(2), RAW, method="init_all"), jax.random.key(0)
    )
    return jax.tree.map(lambda leaf: noise(*leaf.shape) / 2, shapes)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_over_six_bins_or_three_bins_of_two_channels_is_itself_on_six_channels(name):
    alone, over, x = NETWORKS[name], OverBins(NETWORKS[name]), noise(2, 5, 6)
    params = randomised(alone, x)["params"]
    assert jax.tree.map(np.shape, randomised(over, x[..., None])["params"]) == {
        "network": jax.tree.map(np.shape, params)
    }

    @functools.partial(quick, static_argnums=0)
    def run(network, params, x):
        encoded = network.apply({"params": params}, RAW, {"digit": np.array([True, False])}, method="encode")
        assert set(encoded) == {"global", "frames"}
        return network.apply({"params": params}, x, jnp.ones(2), encoded)

    expected = run(alone, params, x)
    assert np.std(expected) > 0.1
    np.testing.assert_array_equal(run(over, {"network": params}, x[..., None])[..., 0], expected)
    two = run(over, {"network": params}, np.stack([x[..., 0::2], x[..., 1::2]], axis=-1))
    np.testing.assert_array_equal(two[..., 0], expected[..., 0::2])
    np.testing.assert_array_equal(two[..., 1], expected[..., 1::2])


@pytest.mark.parametrize("stem", ["gabor", "spectral"])
def test_a_stem_that_analyses_samples_is_refused(stem):
    with pytest.raises(ValueError, match=f"stem is '{stem}', a spectrum of samples, .*: use 'random'"):
        OverBins(UNet1d(stem=stem))


def test_a_waveform_is_refused():
    with pytest.raises(
        ValueError, match=r"x has the shape \(2, 5, 6\): over bins it is \[batch, frame, bin, channel\]"
    ):
        randomised(OverBins(NETWORKS["UNet1d"]), noise(2, 5, 6))
