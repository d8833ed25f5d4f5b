from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.networks import dilated_stack
from audiodiff.networks.conditions import ConditionSpec
from audiodiff.networks.dilated_stack import BASE, LARGE, DilatedStack
from audiodiff.networks.embeddings import step_features

RNG = np.random.default_rng(0)
MEL = ConditionSpec("mel", "frames", 80)


def draw(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def randomised(network, *inputs):
    """Return parameters that are all drawn at random, so that no layer begins as zero."""
    shapes = jax.eval_shape(lambda *i: network.init(jax.random.key(0), *i, method=network.init_all), *inputs)["params"]
    return jax.tree.map(lambda leaf: draw(*leaf.shape) / math.sqrt(max(leaf.size / leaf.shape[-1], 4)), shapes)


@pytest.mark.parametrize("size, published", [(BASE, 2.64e6), (LARGE, 6.91e6)])
def test_vocoders_have_the_published_number_of_parameters(size, published):
    network = DilatedStack(**size, conditions=(MEL,), upsample=(16, 16), encode_noise=step_features)
    params = jax.eval_shape(
        lambda *inputs: network.init(jax.random.key(0), *inputs, method=network.init_all),
        jnp.zeros((1, 512, 1)),
        jnp.zeros(1),
        {"mel": jnp.zeros((1, 2, 80))},
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert abs(count / published - 1) < 0.01
    assert network.receptive_field() == 6139


def diffwave_in_torch(params, x, step, mel, cycle, strides):
    """Transcribe the published PyTorch network (lmnt-com/diffwave), channels first, on our parameters."""
    import torch
    from torch.nn import functional as F

    params = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf)), params)

    def linear(p, y):
        return F.linear(y, p["kernel"].T, p["bias"])

    def conv1d(p, y, dilation=1):
        kernel = p["kernel"] if p["kernel"].ndim == 3 else p["kernel"][None]
        return F.conv1d(y, kernel.permute(2, 1, 0), p["bias"], dilation=dilation, padding=dilation * (len(kernel) // 2))

    angle = torch.tensor(step)[:, None] * 10.0 ** (torch.arange(64) * 4.0 / 63.0)[None]
    noise = params["noise_embedding"]
    embedded = F.silu(linear(noise["hidden"], torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)))
    embedded = F.silu(linear(noise["output"], embedded))
    mel = torch.tensor(mel).mT[:, None]
    for i, stride in enumerate(strides):
        kernel = params["upsampler"][f"kernel_{i}"].permute(2, 1, 0)[None]
        bias = params["upsampler"][f"bias_{i}"]
        mel = F.conv_transpose2d(mel, kernel, bias, stride=(1, stride), padding=(1, stride // 2))
        mel = F.leaky_relu(mel, 0.4)
    mel = mel[:, 0]
    h = F.relu(conv1d(params["input"], torch.tensor(x).mT))
    skips = 0
    depth = sum(name.startswith("layer_") for name in params)
    for i in range(depth):
        layer, dilation = params[f"layer_{i}"], 2 ** (i % cycle)
        y = h + linear(layer["noise"], embedded)[:, :, None]
        y = conv1d(layer["gate_filter"], y, dilation) + conv1d(layer["frames"], mel)
        gate, filtered = torch.chunk(y, 2, dim=1)
        y = conv1d(layer["residual_skip"], torch.sigmoid(gate) * torch.tanh(filtered))
        residual, skip = torch.chunk(y, 2, dim=1)
        h = (h + residual) / 2**0.5
        skips = skips + skip
    y = F.relu(conv1d(params["skip"], skips / depth**0.5))
    return conv1d(params["output"], y).mT.numpy()


@pytest.mark.oracle
def test_the_network_equals_the_published_one_in_torch():
    pytest.importorskip("torch")
    strides, mel_bins = (4, 2), 5
    network = DilatedStack(
        5, 6, 3, conditions=(ConditionSpec("mel", "frames", mel_bins),), upsample=strides, encode_noise=step_features
    )
    x, step, mel = draw(2, 24, 1), np.array([3.0, 0.0], np.float32), draw(2, 3, mel_bins)
    params = randomised(network, x, step, {"mel": mel})

    @jax.jit
    def ours(params):
        conditions = network.apply({"params": params}, {"mel": mel}, method=network.encode)
        return network.apply({"params": params}, x, step, conditions)

    y = np.asarray(ours(params))
    assert np.std(y) > 0.01
    # Angles of up to 30,000 radians differ by float32's rounding, and the sines with them.
    np.testing.assert_allclose(y, diffwave_in_torch(params, x, step, mel, 3, strides), rtol=2e-3, atol=2e-3 * np.std(y))


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_causal_stacks_ignore_the_future_exactly_at_every_layer_and_reach_back_as_computed(depth):
    x, noise = draw(1, 24, 1), draw(1)
    for causal in (True, False):
        network = DilatedStack(depth, 4, 3, causal=causal, embedding_features=8)
        params = randomised(network, x, noise, {})
        jacobian = jax.jit(jax.jacrev(lambda x, n=network, p=params: n.apply({"params": p}, x, noise, {})))(x)
        jacobian = np.asarray(jacobian)[0, :, 0, 0, :, 0]  # [out, in]
        lag = np.subtract.outer(np.arange(24), np.arange(24))  # positive where the input is earlier
        heard = np.unique(lag[jacobian != 0])
        field = network.receptive_field()
        assert (jacobian[lag < 0] == 0).all() if causal else (jacobian[lag < 0] != 0).any()
        assert heard[-1] - heard[0] + 1 == field
        assert heard[0] == (0 if causal else -(field // 2))


@pytest.fixture(scope="module")
def conditional():
    specs = (ConditionSpec("digit", "label", 3), ConditionSpec("mel", "frames", 4))
    network = DilatedStack(2, 4, 2, conditions=specs, upsample=(4,), embedding_features=8)
    raw = {"digit": np.array([0, 2]), "mel": draw(2, 6, 4)}
    return network, raw, randomised(network, draw(2, 24, 1), draw(2), raw)


def test_every_parameter_learns(conditional):
    network, raw, params = conditional
    present = {"digit": np.array([True, False]), "mel": np.array([False, True])}
    x, noise = draw(2, 21, 1), draw(2)

    @jax.jit
    @jax.grad
    def gradient(params):
        conditions = network.apply({"params": params}, raw, present, method=network.encode)
        y = network.apply({"params": params}, x, noise, conditions)
        assert y.shape == x.shape  # frames cover 24 samples, x is 21
        return jnp.sum(y**2)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
        assert np.abs(leaf).max() > 0 or "residual" in str(path), path  # the last layer's residual leads nowhere


def test_frames_that_do_not_cover_the_signal_are_refused(conditional):
    network, raw, params = conditional
    conditions = jax.eval_shape(lambda: network.apply({"params": params}, raw, method=network.encode))
    with pytest.raises(ValueError, match="6 frames of 4 samples do not cover 26 samples: give at least 7"):
        jax.eval_shape(network.apply, {"params": params}, draw(2, 26, 1), draw(2), conditions)


def test_a_signal_is_heard_at_its_own_place():
    """One layer of three taps: an output hears three positions of the signal, as it does of x."""
    raw = {"coarse": draw(1, 12, 2)}
    network = DilatedStack(1, 4, 1, conditions=(ConditionSpec("coarse", "signal", 2),), embedding_features=8)
    x, noise = draw(1, 12, 1), draw(1)
    params = randomised(network, x, noise, raw)
    assert params["input"]["kernel"].shape == (1 + 2, 4)
    jacobian = jax.jit(
        jax.jacrev(lambda signal: network.apply({"params": params}, x, noise, {"signal": signal})[0, :, 0])
    )(raw["coarse"])
    near = np.abs(np.subtract.outer(np.arange(12), np.arange(12))) <= 1
    for channel in range(2):
        np.testing.assert_array_equal(np.asarray(jacobian)[:, 0, :, channel] != 0, near)


def test_a_signal_of_another_length_or_to_attend_to_is_refused():
    network = DilatedStack(1, 4, 1, conditions=(ConditionSpec("coarse", "signal"),))
    inputs = draw(1, 8, 1), draw(1), {"coarse": draw(1, 7, 1)}
    with pytest.raises(ValueError, match="the signal has 7 positions and x 8: bring it to those of x"):
        randomised(network, *inputs)
    attending = network.clone(conditions=(ConditionSpec("coarse", "signal", routes=("concat", "attention")),))
    with pytest.raises(ValueError, match="'coarse' is a signal to attend to, which a DilatedStack cannot"):
        randomised(attending, *inputs)


def test_tokens_are_refused():
    network = DilatedStack(1, 4, 1, conditions=(ConditionSpec("text", "tokens", 9),))
    with pytest.raises(ValueError, match="'text' is tokens"):
        jax.eval_shape(lambda: network.init(jax.random.key(0), draw(1, 8, 1), draw(1), {}))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"residual_layers": 0}, "residual_layers is 0: give at least 1"),
        ({"residual_channels": -4}, "residual_channels is -4: give at least 1"),
        ({"dilation_cycle": 0}, "dilation_cycle is 0: give at least 1"),
        ({"kernel_size": 0}, "kernel_size is 0: give at least 1"),
        ({"out_channels": 0}, "out_channels is 0: give at least 1"),
        ({"embedding_features": 0}, "embedding_features is 0: give at least 1"),
        ({"upsample": (16, 0)}, r"upsample is \(16, 0\): give strides of at least 1, or none"),
    ],
)
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DilatedStack(**changes)


def test_begins_as_zero_and_returns_float32_from_any_dtype():
    network = DilatedStack(2, 4, 2, out_channels=2, dtype=jnp.bfloat16, embedding_features=8)
    y, params = jax.jit(network.init_with_output)(jax.random.key(0), draw(2, 13, 2), draw(2), {})
    assert y.dtype == jnp.float32 and y.shape == (2, 13, 2)
    assert (np.asarray(y) == 0).all()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other backends fuse by other rules")
def test_a_layer_reads_as_much_at_any_depth(monkeypatch):
    """XLA's CPU backend would sum up the whole residual chain again in every layer: materialise keeps it from that."""

    def bytes_per_layer(depth: int) -> float:
        network = DilatedStack(depth, 8, 2, embedding_features=8)
        x, noise = jnp.ones((2, 256, 1)), jnp.ones(2)
        params = randomised(network, x, noise, {})
        loss = jax.grad(lambda params: jnp.sum(network.apply({"params": params}, x, noise, {}) ** 2))
        return jax.jit(loss).lower(params).compile().cost_analysis()["bytes accessed"] / depth

    assert bytes_per_layer(20) < 1.1 * bytes_per_layer(5)
    monkeypatch.setattr(dilated_stack, "materialise", lambda x: x)
    assert bytes_per_layer(20) > 1.3 * bytes_per_layer(5)  # else XLA has learnt better, and materialise can go
