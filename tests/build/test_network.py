"""Every network builds by its name for any number of channels, and hears the conditions that the data have."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.build.choices import ConfigError
from audiodiff.build.network import CONDITIONS, NETWORKS, make_classifier, make_conditions, make_network
from audiodiff.data import ConditionInfo

SIZES = {
    "unet1d": {"factors": (8, 2), "channels": (8, 8), "blocks": (1, 1), "attention_heads": (0, 0), "embedding": 8},
    "dilated_stack": {"residual_layers": 2, "residual_channels": 4, "dilation_cycle": 2, "embedding_features": 8},
}
INFOS = {"digit": ConditionInfo("label", ("0", "1", "2")), "level_dbfs": ConditionInfo("number")}


def disturbed(params, key):
    """Return parameters moved away from where they start: the last layer of a network starts at zero."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(
        tree, [leaf + 0.3 * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    )


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_hears_its_conditions_and_tells_its_channels_apart(name, channels):
    network = make_network({"name": name, **SIZES[name]}, make_conditions(INFOS), audio_channels=channels)
    x = jax.random.normal(jax.random.key(0), (2, 19, channels))
    raw = {"digit": jnp.array([0, 2]), "level_dbfs": jnp.array([-1.0, 1.0])}
    params = disturbed(network.init(jax.random.key(1), x, raw), jax.random.key(2))

    def output(**changes):
        return np.asarray(network(params, x, jnp.zeros(2), network.encode(params, {**raw, **changes})))

    y = output()
    assert y.shape == x.shape
    change = np.abs(output(digit=jnp.array([1, 2])) - y).max(axis=(1, 2))
    assert change[0] > 1e-4 and change[1] == 0, "the first example's digit was changed, and no other"
    change = np.abs(output(level_dbfs=jnp.array([-1.0, 2.0])) - y).max(axis=(1, 2))
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
    first, second = (make_network({"name": "unet1d", **SIZES["unet1d"]}, make_conditions(INFOS)) for _ in range(2))
    assert first == second and hash(first) == hash(second)


def test_a_config_read_from_json_is_the_same_network():
    lists = {key: list(value) if isinstance(value, tuple) else value for key, value in SIZES["unet1d"].items()}
    assert make_network({"name": "unet1d", **lists}) == make_network({"name": "unet1d", **SIZES["unet1d"]})


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
    ],
)
def test_what_cannot_be_is_told_in_one_sentence(config, dtype, said):
    with pytest.raises(ConfigError, match=said):
        make_network(config, dtype=dtype)
