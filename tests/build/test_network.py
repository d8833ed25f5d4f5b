"""Every network builds by its name for any number of channels, and hears the conditions that the data have."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.build.choices import ConfigError
from audiodiff.build.network import CONDITIONS, NETWORKS, TAKE_BINS, make_classifier, make_conditions, make_network
from audiodiff.data import ConditionInfo
from audiodiff.networks.conditions import ConditionSpec
from audiodiff.networks.dilated_stack import DilatedStack
from audiodiff.networks.over_bins import OverBins
from audiodiff.networks.unet1d import UNet1d
from audiodiff.networks.unet2d import UNet2d
from audiodiff.networks.wavegrad import WaveGrad, signal_features

SIZES = {
    "unet1d": {"factors": (8, 2), "channels": (8, 8), "blocks": (1, 1), "attention_heads": (0, 0), "embedding": 8},
    "unet2d": {
        "frame_factors": (1, 2),
        "bin_factors": (2, 1),
        "channels": (4, 4),
        "blocks": (0, 0),
        "attention_heads": (0, 1),
        "attention_axis": ("frame", "bin"),
        "embedding": 8,
    },
    "dilated_stack": {"residual_layers": 2, "residual_channels": 4, "dilation_cycle": 2, "embedding_features": 8},
    "wavegrad": {
        "factors": (2, 3),
        "channels": (6, 4),
        "down_channels": (4,),
        "frame_channels": 6,
        "wave_channels": 4,
        "deep_blocks": 1,
        "embedding_features": 8,
    },
}
INFOS = {"digit": ConditionInfo("label", ("0", "1", "2")), "level_dbfs": ConditionInfo("number")}


quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""Compile in a third of the time: here compiling takes longest, and what runs is small."""


def drawn(network, x, raw):
    """Return parameters none of which is zero: the last layer of a network starts so."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(network.init, jax.random.key(0), x, raw))
    rng = np.random.default_rng(0)
    return jax.tree.unflatten(tree, [0.3 * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves])


BINS = 3
OVER_BINS = {"unet1d": {"stem": "random"}, "unet2d": {}, "dilated_stack": {}, "wavegrad": {}}


@pytest.mark.parametrize(
    ("name", "bins", "channels"),
    [
        *((name, None, channels) for name in NETWORKS if name not in TAKE_BINS for channels in (1, 2)),
        *((name, BINS, 2) for name in NETWORKS),
    ],
)
def test_every_network_hears_its_conditions_and_tells_its_channels_apart(name, bins, channels):
    config = {"name": name, **SIZES[name], **(OVER_BINS[name] if bins else {})}
    network = make_network(config, make_conditions(INFOS), audio_channels=channels, bins=bins)
    shape = (2, 7, bins, channels) if bins else (2, 19, channels)
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    raw = {"digit": np.array([0, 2]), "level_dbfs": np.array([-1.0, 1.0], np.float32)}
    params = drawn(network, x, raw)
    run = quick(lambda params, raw: network(params, x, jnp.zeros(2), network.encode(params, raw)))

    def output(**changes):
        return np.asarray(run(params, {**raw, **changes}))

    y = output()
    assert y.shape == x.shape
    positions = tuple(range(1, x.ndim))
    change = np.abs(output(digit=np.array([1, 2])) - y).max(axis=positions)
    assert change[0] > 1e-4 and change[1] == 0, "the first example's digit was changed, and no other"
    change = np.abs(output(level_dbfs=np.array([-1.0, 2.0], np.float32)) - y).max(axis=positions)
    assert change[0] == 0 and change[1] > 1e-4
    if channels == 2:
        assert np.abs(y[..., 0] - y[..., 1]).max() > 1e-3


def test_labels_are_as_many_as_the_data_set_has():
    digit, level = make_conditions(INFOS)
    assert (digit.name, digit.kind, digit.size) == ("digit", "label", 3)
    assert (level.name, level.kind) == ("level_dbfs", "number")


def test_a_kind_that_no_network_takes_is_named(monkeypatch):
    monkeypatch.delitem(CONDITIONS, "text")
    with pytest.raises(ConfigError, match="condition 'words' is of kind text, which no network takes: choose a label"):
        make_conditions({"words": ConditionInfo("text")})


def test_the_same_config_is_the_same_network_to_jit():
    """A network is static under jit: two equal ones must not compile twice."""
    for config, bins in (({"name": "unet1d", **SIZES["unet1d"]}, None), ({"name": "dilated_stack"}, BINS)):
        first, second = (make_network(config, make_conditions(INFOS), bins=bins) for _ in range(2))
        assert first == second and hash(first) == hash(second)


@pytest.mark.parametrize(("name", "bins"), [("unet1d", None), ("unet2d", BINS), ("wavegrad", None)])
def test_a_config_read_from_json_is_the_same_network(name, bins):
    lists = {key: list(value) if isinstance(value, tuple) else value for key, value in SIZES[name].items()}
    read, written = (make_network({"name": name, **sizes}, bins=bins) for sizes in (lists, SIZES[name]))
    assert read == written and hash(read) == hash(written)


def test_a_network_takes_bins_as_they_are_or_over_its_channels_and_no_bins_as_before():
    def built(name, bins):
        stem = {"stem": "random"} if name == "unet1d" else {}
        return type(make_network({"name": name, **stem}, bins=bins).network)

    assert [built(name, BINS) for name in NETWORKS] == [OverBins, UNet2d, OverBins, OverBins]
    names = ("unet1d", "dilated_stack", "wavegrad")
    assert [built(name, None) for name in names] == [UNet1d, DilatedStack, WaveGrad]


def test_vocoder_networks_upsample_as_their_config_says():
    mel = make_conditions({"mel": ConditionInfo("array", shape=(7, 80))})
    assert make_network({"name": "dilated_stack", "upsample": [16, 16]}, mel).network.upsample == (16, 16)
    wavegrad = make_network({"name": "wavegrad", "encode_noise": "signal"}, mel).network
    assert wavegrad.hop_samples == 300 and wavegrad.encode_noise is signal_features


def test_a_judge_has_its_heads():
    network = make_classifier({"name": "classifier", "widths": (4,), "features": 3}, (("digit", 11), ("speaker", 7)))
    features = jnp.zeros((2, 6, 5))
    logits, embedding = network(network.init(jax.random.key(0), features), features)
    assert {name: values.shape for name, values in logits.items()} == {"digit": (2, 11), "speaker": (2, 7)}
    assert embedding.shape == (2, 3)


@pytest.mark.parametrize(
    ("config", "dtype", "said"),
    [
        ({"name": "unet"}, "float32", "unknown network 'unet'; choose one of unet1d, "),
        ({"name": "unet1d", "chanels": (8,)}, "float32", "network 'unet1d' takes no 'chanels'; it takes channels, "),
        ({"name": "unet1d"}, "float16", "unknown dtype 'float16'; choose one of "),
        ({"name": "unet1d", "factors": (4,)}, "float32", "network 'unet1d': the levels of a UNet1d disagree"),
        ({"name": "dilated_stack", "dilation_cycle": 0}, "float32", "'dilated_stack': dilation_cycle is 0: give at "),
        ({"name": "wavegrad", "factors": (8, 8)}, "float32", r"'wavegrad': channels is \(512, .* give 2 numbers of at"),
        ({"name": "wavegrad", "encode_noise": "alpha"}, "float32", "unknown encode_noise 'alpha'; choose one of "),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence(config, dtype, said):
    with pytest.raises(ConfigError, match=said):
        make_network(config, dtype=dtype)


@pytest.mark.parametrize(
    ("config", "bins", "said"),
    [
        ({"name": "unet1d"}, BINS, "network 'unet1d': stem is 'gabor', a spectrum of samples, .*: use 'random'"),
        ({"name": "unet2d"}, None, "network 'unet2d' takes frames and bins, and x has time alone: choose a spectral "),
        ({"name": "unet2d", "stem": "gabor"}, BINS, "network 'unet2d' takes no 'stem'; it takes "),
        ({"name": "unet2d", "overlap": 2}, BINS, "network 'unet2d': overlap is 2: a centred kernel spans an odd "),
    ],
)
def test_a_network_that_bins_do_not_suit_is_refused(config, bins, said):
    with pytest.raises(ConfigError, match=said):
        make_network(config, bins=bins)


@pytest.mark.parametrize(
    ("name", "bins", "routes", "said"),
    [
        ("unet2d", BINS, ("attention",), "network 'unet2d' does not hear 'coarse' by attention: use unet1d, or"),
        ("wavegrad", None, ("concat",), "network 'wavegrad' does not hear 'coarse' by concat: use unet1d or "),
        ("dilated_stack", None, ("concat", "attention"), "'dilated_stack' does not hear 'coarse' by attention"),
    ],
)
def test_a_network_that_would_not_hear_a_signal_is_refused(name, bins, routes, said):
    coarse = ConditionSpec("coarse", "signal", routes=routes)
    with pytest.raises(ConfigError, match=said):
        make_network({"name": name, **SIZES[name]}, (coarse,), bins=bins)


def test_networks_that_hear_a_signal_are_told_it():
    coarse = ConditionSpec("coarse", "signal")
    for name in ("unet1d", "dilated_stack"):
        network = make_network({"name": name, **SIZES[name]}, (coarse,))
        x, raw = jnp.zeros((1, 16, 1)), {"coarse": jnp.zeros((1, 16, 1))}
        params = drawn(network, x, raw)

        @quick
        @jax.grad
        def gradient(signal, network=network, params=params, x=x):
            return jnp.sum(network(params, x, jnp.zeros(1), {"signal": signal}) ** 2)

        assert (np.abs(gradient(raw["coarse"] + 1)) > 0).all(), name
