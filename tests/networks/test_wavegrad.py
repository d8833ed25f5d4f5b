from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.diffusion.parameterisations import noise_condition
from audiodiff.networks.conditions import ConditionSpec
from audiodiff.networks.embeddings import level_features
from audiodiff.networks.wavegrad import WaveGrad, signal_features
from audiodiff.types import Level

RNG = np.random.default_rng(0)
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""Compile in a third of the time: here compiling takes longest, and what runs is small."""
SMALL = WaveGrad((3, 2), (6, 4), (4,), 5, 4, 1, embedding_features=8)
MEL = ConditionSpec("mel", "frames", 3)
CONDITIONED = dataclasses.replace(
    SMALL, conditions=(ConditionSpec("digit", "label", 3), ConditionSpec("level", "number"), MEL)
)
RAW = {
    "digit": np.array([0, 2]),
    "level": np.array([0.1, 0.9], np.float32),
    "mel": RNG.normal(size=(2, 4, 3)).astype(np.float32),
}


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def shapes(network, channels=1, raw=None):
    """Return the shapes of the parameters."""
    x = jnp.zeros((2, 2 * network.hop_samples, channels))
    return jax.eval_shape(
        lambda key: network.init(key, x, jnp.zeros(2), raw or {}, method="init_all"), jax.random.key(0)
    )


def randomised(network, **arguments):
    """Return parameters that are all drawn at random, so that no layer begins as zero."""
    return jax.tree.map(
        lambda leaf: draw(*leaf.shape) / math.sqrt(max(leaf.size / leaf.shape[-1], 4)), shapes(network, **arguments)
    )


def run(network, params, x, noise, raw):
    return network.apply(params, x, noise, network.apply(params, raw, method="encode"))


# --- what was published


@pytest.mark.parametrize("bins", [80, 128])
def test_base_has_the_published_number_of_parameters(bins):
    """Of ivanvovk/WaveGrad with 80 bands; the null of absent frames is ours, and so are the taps of any band more."""
    network = WaveGrad(conditions=(ConditionSpec("mel", "frames", bins),))
    params = shapes(network, raw={"mel": jnp.zeros((2, 2, bins))})
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == 15_810_401 + bins + (bins - 80) * 3 * 768
    assert network.hop_samples == 300


def wavegrad_in_torch(params, x, alpha, mel, factors, dilations):
    """Compute the published network (lmnt-com/wavegrad), channels first, on our parameters.

    It picks samples where we average, and encodes alpha where the paper, and we, encode 5000 alpha.
    """
    import torch
    from torch.nn import functional as F

    params = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf)), params)

    def conv(p, y, dilation=1):
        kernel = p["kernel"] if p["kernel"].ndim == 3 else p["kernel"][None]
        return F.conv1d(y, kernel.permute(2, 1, 0), p["bias"], padding=dilation * (len(kernel) // 2), dilation=dilation)

    def leaky(y):
        return F.leaky_relu(y, 0.2)

    def film(p, y):
        y = leaky(conv(p["signal"], y))
        half = y.shape[1] // 2
        rates = torch.exp(-math.log(1e4) * torch.arange(half) / half)
        angle = 5000 * torch.tensor(alpha)[:, None] * rates
        return conv(p["scale_shift"], y + torch.cat([angle.sin(), angle.cos()], 1)[:, :, None]).chunk(2, dim=1)

    y, films = conv(params["wave"], torch.tensor(x).mT), []
    films.append(film(params["film_0"], y))
    for level, factor in enumerate(reversed(factors[1:])):
        p, y = params[f"down_{level}"], F.avg_pool1d(y, factor)
        h = y
        for index, dilation in enumerate((1, 2, 4)):
            h = conv(p[f"conv_{index}"], leaky(h), dilation)
        y = h + conv(p["residual"], y)
        films.append(film(params[f"film_{level + 1}"], y))
    y = conv(params["frames"], torch.tensor(mel).mT)
    for level, (factor, spread) in enumerate(zip(factors, dilations, strict=True)):
        p, (scale, shift) = params[f"up_{level}"], films.pop()
        h = conv(p["conv_0"], F.interpolate(leaky(y), scale_factor=factor), spread[0])
        h = conv(p["conv_1"], leaky(shift + scale * h), spread[1])
        y = h + conv(p["residual"], F.interpolate(y, scale_factor=factor))
        h = conv(p["conv_2"], leaky(shift + scale * y), spread[2])
        y = y + conv(p["conv_3"], leaky(shift + scale * h), spread[3])
    return conv(params["output"], y).mT.numpy()


@pytest.mark.oracle
def test_the_network_equals_the_published_one_in_torch():
    pytest.importorskip("torch")
    network = WaveGrad((3, 2, 2), (6, 5, 4), (4, 8), 5, 6, 1, conditions=(MEL,), encode_noise=signal_features)
    x, mel = draw(2, 36, 1), draw(2, 3, 3)
    params = randomised(network, raw={"mel": mel})
    alpha = np.array([0.3, 0.95], np.float32)
    told = noise_condition(Level(jnp.asarray(alpha), jnp.sqrt(1 - jnp.asarray(alpha) ** 2)))
    y = np.asarray(quick(lambda params: run(network, params, x, told, {"mel": mel}))(params))
    spreads = ((1, 2, 1, 2), (1, 2, 4, 8), (1, 2, 4, 8))
    theirs = wavegrad_in_torch(params["params"], x, alpha, mel, (3, 2, 2), spreads)
    assert np.std(y) > 0.01
    # Angles of up to 5,000 radians differ by float32's rounding, and the sines with them.
    np.testing.assert_allclose(y, theirs, rtol=2e-3, atol=2e-3 * np.std(y))


def test_levels_of_little_noise_look_alike_to_the_signal_and_not_to_the_level():
    c_noise = noise_condition(Level(jnp.sqrt(1 - jnp.array([1e-4, 0.01]) ** 2), jnp.array([1e-4, 0.01])))
    quiet, louder = np.asarray(signal_features(c_noise, 2))
    assert 0.2 < np.arccos(quiet @ louder) < 0.26  # radians
    quiet, louder = np.asarray(level_features(c_noise, 32))
    assert np.linalg.norm(quiet - louder) > 3


# --- lengths and frames


@pytest.mark.parametrize("time, channels", [(1, 1), (5, 2), (6, 1), (7, 1), (23, 2)])
def test_the_output_is_as_long_as_the_input_whatever_the_length(time, channels):
    for network, raw in ((SMALL, {}), (CONDITIONED, RAW)):
        network = dataclasses.replace(network, out_channels=channels)
        params = shapes(network, channels, raw)
        y = jax.eval_shape(functools.partial(run, network), params, jnp.zeros((2, time, channels)), jnp.zeros(2), raw)
        assert y.shape == (2, time, channels)


def test_a_length_between_frames_is_padded_with_silence_and_longer_frames_are_cropped():
    params, x, noise = randomised(CONDITIONED, raw=RAW), draw(2, 15, 1), draw(2)
    output = quick(lambda x, mel: run(CONDITIONED, params, x, noise, {**RAW, "mel": mel}))
    y = output(x, RAW["mel"][:, :3])
    assert np.std(y) > 0.01
    np.testing.assert_array_equal(y, output(np.pad(x, ((0, 0), (0, 3), (0, 0))), RAW["mel"][:, :3])[:, :15])
    np.testing.assert_array_equal(y, output(x, RAW["mel"]))


def test_frames_that_do_not_cover_the_signal_are_refused():
    params = shapes(CONDITIONED, raw=RAW)
    said = "4 frames of 6 samples do not cover 25 samples: give at least 5 frames, or factors whose product is the hop"
    with pytest.raises(ValueError, match=said):
        jax.eval_shape(functools.partial(run, CONDITIONED), params, draw(2, 25, 1), draw(2), RAW)


# --- what hears what


def test_every_condition_and_the_noise_level_reach_the_output():
    params, x, noise = randomised(CONDITIONED, raw=RAW), draw(2, 23, 1), draw(2)
    output = quick(lambda noise, raw: run(CONDITIONED, params, x, noise, raw))
    y = output(noise, RAW)
    other = {"digit": np.array([1, 2]), "level": np.array([0.5, 0.9], np.float32), "mel": RAW["mel"].copy()}
    other["mel"][0, 1, 2] += 1
    changed = [output(noise, {**RAW, name: value}) for name, value in other.items()]
    changed.append(output(noise + np.array([1, 0], np.float32), RAW))
    for heard in changed:
        assert np.abs(heard - y)[0].max() > 1e-4
        assert (heard[1] == y[1]).all(), "an example heard another"


@pytest.mark.parametrize("network, raw", [(SMALL, {}), (CONDITIONED, RAW)])
def test_every_parameter_learns(network, raw):
    params, x, noise = randomised(network, raw=raw), draw(2, 23, 1), draw(2)
    present = {name: np.array([True, False]) for name in raw}

    @quick
    @jax.grad
    def gradient(params):
        return jnp.sum(network.apply(params, x, noise, network.apply(params, raw, present, method="encode")) ** 2)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
        assert np.abs(leaf).max() > 0, path


@pytest.mark.parametrize(
    "network",
    [
        WaveGrad((4,), (4,), (), 4, 4, 0, embedding_features=4),
        WaveGrad((2, 3), (4, 4), (4,), 4, 4, 1, (1, 2, 1, 1), (1, 1, 1, 2), (1,), embedding_features=4),
        WaveGrad((1, 2, 2), (4, 4, 4), (4, 4), 4, 4, 2, (2, 1, 1, 1), (1, 1, 3, 1), (1, 2), embedding_features=4),
    ],
)
def test_the_receptive_field_is_the_support_of_the_gradient(network):
    field, hop = network.receptive_field(), network.hop_samples
    middle = -(-field // hop) * hop
    x, params = draw(1, 2 * middle + hop, 1), randomised(network)

    @quick
    @jax.jacrev
    def jacobian(x):
        return network.apply(params, x, jnp.zeros(1), {})[0, middle : middle + hop, 0]

    widths = []
    for row in np.asarray(jacobian(x))[:, 0, :, 0]:
        heard = np.flatnonzero(row)
        assert heard[0] > 0 and heard[-1] < len(row) - 1, "the signal is too short to tell"
        widths.append(heard[-1] - heard[0] + 1)
    assert max(widths) == field


def test_a_frame_is_heard_near_its_samples_alone_and_moves_with_them():
    count, (deep, fine) = 21, CONDITIONED.factors
    network = dataclasses.replace(CONDITIONED, conditions=(MEL,), deep_dilations=(1, 1, 1, 1), dilations=(1, 1, 2, 1))
    params, hop = randomised(network, raw={"mel": RAW["mel"]}), network.hop_samples
    x = jnp.zeros((1, count * hop, 1))  # silence, so that frames far from both ends are alike in all they meet

    @quick
    @functools.partial(jax.jacrev, argnums=1)
    def jacobian(x, mel):
        return run(network, params, x, jnp.zeros(1), {"mel": mel})[0, :, 0]

    influence = np.abs(np.asarray(jacobian(x, jnp.ones((1, count, 3)))))[:, 0].sum(axis=-1)  # [sample, frame]
    # One frame by the first convolution, then the taps of each block at its own rate, and one by the last.
    reach = hop + 4 * hop // deep + 5 * hop // (deep * fine) + 1
    for frame in range(9, 12):
        heard, first, end = np.flatnonzero(influence[:, frame]), frame * hop, (frame + 1) * hop
        assert first - reach <= heard[0] < first and end <= heard[-1] < end + reach
        assert len(heard) == heard[-1] - heard[0] + 1
    near = np.arange(10 * hop - reach, 11 * hop + reach)
    assert influence[near, 10].max() > 1e-4
    np.testing.assert_allclose(influence[near, 10], influence[near + hop, 11], atol=1e-5 * influence.max())


# --- beginnings and dtypes


def test_silence_comes_out_at_first_in_float32_and_can_be_learnt_from():
    network = WaveGrad((6,), (4,), (), 4, 4, 0, conditions=(MEL,), embedding_features=4, dtype=jnp.bfloat16)
    x, noise, raw = draw(2, 13, 1), draw(2), {"mel": RAW["mel"]}
    params = quick(lambda: network.init(jax.random.key(0), x, noise, raw, method="init_all"))()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))

    @quick
    @functools.partial(jax.grad, has_aux=True)
    def gradient(params):
        y = run(network, params, x, noise, raw)
        return jnp.sum((y - 1) ** 2), y

    slope, y = gradient(params)
    assert y.dtype == jnp.float32 and (np.asarray(y) == 0).all()
    assert np.abs(slope["params"]["output"]["kernel"]).max() > 0.01


def test_what_is_rematerialised_has_the_same_parameters_outputs_and_gradients():
    kept = dataclasses.replace(SMALL, conditions=(ConditionSpec("digit", "label", 3),))
    again, raw = dataclasses.replace(kept, remat=True), {"digit": RAW["digit"]}
    params, x, noise = randomised(kept, raw=raw), draw(2, 11, 1), draw(2)
    assert shapes(kept, raw=raw) == shapes(again, raw=raw)

    def loss(network, params):
        return jnp.sum(run(network, params, x, noise, raw) ** 2)

    results = [quick(jax.value_and_grad(functools.partial(loss, network)))(params) for network in (kept, again)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *results)


# --- what cannot be


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"frame_channels": 0}, "frame_channels is 0: give at least 1"),
        ({"out_channels": -1}, "out_channels is -1: give at least 1"),
        ({"factors": ()}, r"factors is \(\) .*: give 1 numbers of at least 1"),
        ({"factors": (5, 5, 3, 2, 0)}, r"factors is \(5, 5, 3, 2, 0\) .*: give 5 numbers of at least 1"),
        ({"channels": (8, 8)}, r"channels is \(8, 8\) with factors \(5, 5, 3, 2, 2\): give 5 numbers of at least 1"),
        ({"down_channels": (8,) * 5}, r"down_channels is \(8, .*: give 4 numbers of at least 1"),
        ({"dilations": (1, 2)}, r"dilations is \(1, 2\) .*: give 4 numbers of at least 1"),
        ({"down_dilations": (1, 0)}, r"down_dilations is \(1, 0\) .*: give numbers of at least 1"),
        ({"wave_channels": 33}, "wave_channels is 33: sines and cosines of the level take an even number"),
        ({"down_channels": (8, 8, 7, 8)}, r"down_channels is \(8, 8, 7, 8\): sines and cosines"),
        ({"deep_blocks": 6}, "deep_blocks is 6: give 0 to 5"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        WaveGrad(**changes)


def test_tokens_are_refused():
    network = dataclasses.replace(SMALL, conditions=(ConditionSpec("text", "tokens", 9),))
    with pytest.raises(ValueError, match="'text' is tokens, which a WaveGrad cannot attend to: use a UNet1d"):
        shapes(network, raw={"text": np.zeros((2, 3), int)})
