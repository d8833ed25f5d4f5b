from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.networks.conditions import ConditionEncoder, ConditionSpec, resample_frames

SPECS = (
    ConditionSpec("digit", "label", 10),
    ConditionSpec("f0", "number", mean=150.0, std=50.0),
    ConditionSpec("voice", "vector", 5),
    ConditionSpec("mel", "frames", 6, mean=-4.0, std=2.0),
    ConditionSpec("pitch", "frames", 2, features=3),
    ConditionSpec("text", "tokens", 20),
    ConditionSpec("accent", "tokens", 4),
)
RNG = np.random.default_rng(0)


def raw_conditions(batch: int = 3) -> dict[str, np.ndarray]:
    return {
        "digit": RNG.integers(0, 10, batch),
        "f0": RNG.uniform(80, 300, batch).astype(np.float32),
        "voice": RNG.normal(size=(batch, 5)).astype(np.float32),
        "mel": RNG.normal(size=(batch, 8, 6)).astype(np.float32),
        "pitch": RNG.normal(size=(batch, 4, 2)).astype(np.float32),
        "text": RNG.integers(0, 20, (batch, 7)),
        "accent": RNG.integers(0, 4, (batch, 1)),
    }


@pytest.fixture(scope="module")
def encoder():
    module = ConditionEncoder(SPECS, 16)
    params = jax.jit(module.init)(jax.random.key(0), raw_conditions())
    return jax.jit(partial(module.apply, params))


def test_conditions_arrive_under_the_contracts_keys_and_shapes(encoder):
    encoded = encoder(raw_conditions())
    assert {key: value.shape for key, value in encoded.items()} == {
        "global": (3, 16),
        "frames": (3, 8, 6 + 3),
        "tokens": (3, 7 + 1, 16),
    }


def test_a_key_is_absent_when_no_such_condition_is_described():
    module = ConditionEncoder(SPECS[:1], 16)
    assert set(jax.eval_shape(module.init_with_output, jax.random.key(0), {"digit": np.zeros(2, int)})[0]) == {"global"}
    assert ConditionEncoder((), 16).apply({}, {}) == {}


def changed(before, after):
    """Say per key which examples changed."""
    return {key: (np.asarray(before[key]) != np.asarray(after[key])).reshape(3, -1).any(-1).tolist() for key in before}


NOWHERE = [False] * 3


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_an_absent_condition_leaves_nothing_of_its_value(encoder, spec):
    """Present, another value changes that example alone, at its key alone; absent, it changes nothing at all."""
    key = spec.kind if spec.kind in ("frames", "tokens") else "global"
    raw, present = raw_conditions(), {spec.name: np.array([True, True, False])}
    other = {
        **raw,
        spec.name: (raw[spec.name] + 1) % spec.size if spec.kind in ("label", "tokens") else raw[spec.name] + 1,
    }
    before, after = encoder(raw, present), encoder(other, present)
    expected = dict.fromkeys(before, NOWHERE) | {key: [True, True, False]}
    assert changed(before, after) == expected
    assert changed(before, encoder(raw, {spec.name: np.ones(3, bool)})) == expected | {key: [False, False, True]}


def test_every_present_defaults_to_true(encoder):
    raw = raw_conditions()
    everything = {spec.name: np.ones(3, bool) for spec in SPECS}
    assert changed(encoder(raw, None), encoder(raw, everything)) == dict.fromkeys(
        ("global", "frames", "tokens"), NOWHERE
    )


def test_every_null_and_every_table_learns():
    module = ConditionEncoder(SPECS, 16)
    raw, present = raw_conditions(), {spec.name: np.array([True, True, False]) for spec in SPECS}
    params = jax.jit(module.init)(jax.random.key(0), raw)

    @jax.jit
    def gradient(params):
        return jax.grad(lambda p: sum(jnp.sum(y**2) for y in module.apply(p, raw, present).values()))(params)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
        assert np.abs(leaf).max() > 0, path


def test_tokens_hear_their_order_and_ended_sequences_their_end(encoder):
    raw = raw_conditions()
    raw["text"][:] = 3
    same = np.asarray(encoder(raw)["tokens"])
    assert (same[:, 0] != same[:, 1]).any()
    ended = {**raw, "text": np.where(np.arange(7) < 4, raw["text"], -1)}
    other_end = {**raw, "text": np.where(np.arange(7) < 4, raw["text"], -5)}
    assert changed(encoder(raw), encoder(ended))["tokens"] == [True] * 3
    assert changed(encoder(ended), encoder(other_end))["tokens"] == NOWHERE


def test_raw_values_are_standardised():
    module = ConditionEncoder((ConditionSpec("mel", "frames", 6, mean=-4.0, std=2.0),), 16)
    mel = raw_conditions()["mel"]
    _, params = module.init_with_output(jax.random.key(0), {"mel": mel})
    np.testing.assert_allclose(module.apply(params, {"mel": 2 * mel - 4})["frames"], mel, atol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"digitt": np.zeros(3)}, "Unknown condition 'digitt': this network takes digit, f0, voice"),
        ({"digit": None}, "Condition 'digit' is missing"),
        ({"digit": np.zeros((3, 1))}, r"'digit' has shape \(3, 1\): a label condition is \[batch\]"),
        ({"voice": np.zeros((3, 4))}, r"'voice' has shape \(3, 4\): a vector condition is \[batch, 5\]"),
        ({"mel": np.zeros((3, 6))}, r"'mel' has shape \(3, 6\): a frames condition is \[batch, frame, 6\]"),
        ({"f0": np.zeros(2)}, "disagree on the batch size"),
    ],
)
def test_wrong_conditions_are_refused_in_one_sentence(change, message):
    raw = {name: value for name, value in {**raw_conditions(), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(ConditionEncoder(SPECS, 16).init, jax.random.key(0), raw)


def test_present_of_an_unknown_name_is_refused(encoder):
    with pytest.raises(ValueError, match="Unknown condition 'speaker'"):
        encoder(raw_conditions(), {"speaker": np.ones(3, bool)})


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"kind": "labels"}, "kind 'labels': use one of label, number, vector, frames, signal, tokens"),
        ({"kind": "label", "size": 0}, "size 0"),
        ({"kind": "number", "std": 0.0}, "std 0.0"),
        ({"kind": "label", "features": 4}, "only frames choose"),
        ({"kind": "signal", "routes": ()}, r"takes the routes \(\): give concat, attention or both"),
        ({"kind": "signal", "routes": ("concat", "frames")}, r"takes the routes \('concat', 'frames'\): give concat"),
        ({"kind": "signal", "routes": ("concat", "concat")}, r"takes the routes \('concat', 'concat'\): give concat"),
        ({"kind": "signal", "patch": 0}, "has tokens of 0 positions: give at least 1"),
    ],
)
def test_impossible_descriptions_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ConditionSpec("digit", **settings)


@pytest.mark.parametrize("length", [5, 15, 20, 23, 128])
def test_frames_are_interpolated_linearly_between_their_middles(length):
    frames = RNG.normal(size=(2, 5, 3)).astype(np.float32)
    y = jax.jit(partial(resample_frames, length=length))(frames)
    middles = (np.arange(5) + 0.5) * length / 5
    for batch in range(2):
        for channel in range(3):
            expected = np.interp(np.arange(length) + 0.5, middles, frames[batch, :, channel])
            np.testing.assert_allclose(y[batch, :, channel], expected, atol=1e-5)


# --- signals

BOTH = ("concat", "attention")
COARSE = ConditionSpec(
    "coarse", "signal", 2, mean=0.5, std=2.0, routes=BOTH, patch=3, raised=lambda y: jnp.repeat(y, 4, axis=1)
)
SIDE = ConditionSpec("side", "signal", 1)


@pytest.fixture(scope="module")
def signals():
    """Return an encoder of two signals, one by both routes and one that has the positions of x, and what it is told."""
    module = ConditionEncoder((COARSE, SIDE, ConditionSpec("text", "tokens", 5)), 16)
    raw = {
        "coarse": RNG.normal(size=(3, 8, 2)).astype(np.float32),
        "side": RNG.normal(size=(3, 32, 1)).astype(np.float32),
        "text": RNG.integers(0, 5, (3, 4)),
    }
    params = jax.jit(module.init)(jax.random.key(0), raw)
    return jax.jit(partial(module.apply, params)), raw, params


def test_a_signal_stands_raised_and_standardised_beside_x_and_its_patches_are_tokens(signals):
    encoder, raw, params = signals
    encoded = encoder(raw)
    assert {key: value.shape for key, value in encoded.items()} == {"signal": (3, 32, 3), "tokens": (3, 3 + 4, 16)}
    np.testing.assert_allclose(encoded["signal"][..., :2], np.repeat((raw["coarse"] - 0.5) / 2, 4, axis=1), atol=1e-6)
    np.testing.assert_allclose(encoded["signal"][..., 2:], raw["side"], atol=1e-6)
    assert set(params["params"]) == {
        *("coarse_null", "coarse_tokens", "coarse_tokens_null", "side_null", "text_null", "text_table")
    }


@pytest.mark.parametrize("position, token", [(0, 0), (2, 0), (3, 1), (7, 2)])
def test_a_position_is_heard_in_the_token_of_its_patch_and_its_place_alone(signals, position, token):
    encoder, raw, _ = signals
    other = {**raw, "coarse": raw["coarse"].copy()}
    other["coarse"][:, position] += 1
    before, after = encoder(raw), encoder(other)
    moved = {key: np.abs(np.asarray(after[key]) - before[key]).max(axis=(0, 2)) > 1e-4 for key in before}
    assert np.flatnonzero(moved["tokens"]).tolist() == [token]
    assert np.flatnonzero(moved["signal"]).tolist() == list(range(4 * position, 4 * position + 4))


def test_an_absent_signal_leaves_nothing_of_its_value_by_either_route(signals):
    encoder, raw, params = signals
    present, other = {"coarse": np.array([True, True, False])}, {**raw, "coarse": raw["coarse"] + 1}
    before, after = encoder(raw, present), encoder(other, present)
    assert changed(before, after) == {"signal": [True, True, False], "tokens": [True, True, False]}
    nulls = params["params"]
    np.testing.assert_allclose(before["signal"][2, :, :2], np.tile(nulls["coarse_null"], (32, 1)))
    np.testing.assert_allclose(before["tokens"][2, :3], np.tile(nulls["coarse_tokens_null"], (3, 1)))
    np.testing.assert_array_equal(before["signal"][2, :, 2:], raw["side"][2])


def test_a_signal_of_another_size_is_refused(signals):
    encoder, raw, _ = signals
    with pytest.raises(
        ValueError, match=r"'coarse' has shape \(3, 8, 1\): a signal condition is \[batch, position, 2\]"
    ):
        encoder({**raw, "coarse": raw["coarse"][..., :1]})
