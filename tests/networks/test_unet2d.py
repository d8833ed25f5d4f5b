from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from audiodiff.networks.conditions import ConditionSpec
from audiodiff.networks.layers import conv2d
from audiodiff.networks.unet2d import UNet2d, from_patches, to_patches

RNG = np.random.default_rng(0)
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""Compile in a third of the time: here compiling takes longest, and what runs is small."""
NONE = {"attention_heads": (0, 0), "attention_axis": ("frame", "frame")}
SMALL = UNet2d((1, 2), (1, 3), (4, 6), (1, 0), **NONE, overlap=1, embedding=4)
CONDITIONED = UNet2d(
    (2, 2),
    (1, 2),
    (8, 8),
    (0, 0),
    (0, 2),
    ("frame", "both"),
    embedding=8,
    conditions=(
        ConditionSpec("digit", "label", 3),
        ConditionSpec("mel", "frames", 2),
        ConditionSpec("text", "tokens", 5),
    ),
)
SHALLOW = UNet2d((2,), (2,), (8,), (0,), (2,), ("both",), embedding=8, conditions=CONDITIONED.conditions)
RAW = {
    "digit": np.array([0, 2]),
    "mel": RNG.normal(size=(2, 5, 2)).astype(np.float32),
    "text": np.array([[1, 4, 0], [2, 3, -1]]),
}


def noise(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def shapes(network, channels=1, raw=None):
    """Return the shapes of the parameters."""
    x = jnp.zeros((2, 5, 4, channels))
    return jax.eval_shape(
        lambda key: network.init({"params": key}, x, jnp.zeros(2), raw or {}, method="init_all"), jax.random.key(0)
    )


def randomised(network, **arguments):
    """Return parameters none of which is zero, of about the scale that keeps variance: what begins at zero is awake."""
    return jax.tree.map(
        lambda leaf: noise(*leaf.shape) / math.sqrt(max(leaf.size / leaf.shape[-1], 1)), shapes(network, **arguments)
    )


def blind(params):
    """Return parameters of a network that is not told where a bin lies."""
    place = jax.tree.map(np.zeros_like, params["params"]["place"])
    return {"params": {**params["params"], "place": place}}


def run_on(network, x, level=0.5):
    """Return the network as a function of its parameters, compiled for inputs shaped like x."""
    return quick(lambda params, x=x: network.apply(params, x, jnp.full(x.shape[0], level), {}))


# --- sizes


@pytest.mark.parametrize("frames, bins, channels", [(1, 1, 1), (2, 3, 2), (7, 9, 1), (12, 9, 1), (101, 80, 2)])
def test_the_output_is_as_large_as_the_input_whatever_the_size(frames, bins, channels):
    x = jnp.zeros((3, frames, bins, channels))
    assert jax.eval_shape(SMALL.apply, shapes(SMALL, channels), x, jnp.zeros(3), {}).shape == x.shape


def test_frames_between_multiples_are_padded_with_silence_and_cropped():
    """Along bins it is not so: how many there are says where each one lies."""
    params, x, c_noise = randomised(CONDITIONED, raw=RAW), noise(2, 10, 4, 1), noise(2)

    @quick
    def run(x, mel):
        return CONDITIONED.apply(params, x, c_noise, CONDITIONED.apply(params, {**RAW, "mel": mel}, method="encode"))

    mel = RAW["mel"]  # one frame a patch: it belongs to the sound and not to what is padded
    longer = run(np.pad(x, ((0, 0), (0, 2), (0, 0), (0, 0))), np.concatenate([mel, mel[:, -1:]], axis=1))
    assert np.std(longer) > 0.1
    np.testing.assert_allclose(run(x, mel), longer[:, :10], atol=1e-5)


def test_a_strict_network_names_the_nearest_legal_sizes():
    strict, params = SMALL.clone(strict=True), shapes(SMALL)
    assert strict.multiple == (2, 3)

    def run(frames, bins):
        return jax.eval_shape(strict.apply, params, jnp.zeros((1, frames, bins, 1)), jnp.zeros(1), {})

    assert run(4, 3).shape == (1, 4, 3, 1)
    with pytest.raises(ValueError, match="5 frames are not a multiple of 2: use 4 or 6"):
        run(5, 3)
    with pytest.raises(ValueError, match="2 bins are not a multiple of 3: use 3"):
        run(4, 2)


def test_to_patches_makes_a_strided_convolution_an_ordinary_one():
    """K patches of a factor are K * factor taps at that stride, centred."""
    x, kernel = noise(2, 8, 9, 2), noise(3 * 2, 3 * 3, 2, 5)
    axes = ("NHWC", "HWIO", "NHWC")
    strided = lax.conv_general_dilated(x, kernel, (2, 3), [(2, 2), (3, 3)], dimension_numbers=axes)
    folded = kernel.reshape(3, 2, 3, 3, 2, 5).swapaxes(1, 2).reshape(3, 3, 2 * 3 * 2, 5)
    np.testing.assert_allclose(conv2d(to_patches(x, 2, 3), folded), strided, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(from_patches(to_patches(x, 2, 3), 2, 3), x)


# --- wiring


@pytest.mark.parametrize(
    "network",
    [
        SMALL,
        UNet2d((3,), (2,), (4,), (1,), (0,), ("bin",), overlap=3, embedding=4),
    ],
)
def test_the_receptive_field_is_the_support_of_the_gradient(network):
    field, multiple = network.receptive_field(), network.multiple
    begin = [-(-reach // m) * m for reach, m in zip(field, multiple, strict=True)]
    params, x = randomised(network), noise(1, *(2 * b + m for b, m in zip(begin, multiple, strict=True)), 1)
    block = tuple(slice(b, b + m) for b, m in zip(begin, multiple, strict=True))

    @quick
    def gradients(x):
        _, pull = jax.vjp(lambda x: network.apply(params, x, jnp.zeros(1), {})[(0, *block, 0)].ravel(), x)
        # One by one: jax 0.10.2 miscompiles some gradients under vmap, and so jacrev, on the CPU (jax issue 39103).
        return lax.map(lambda cotangent: pull(cotangent)[0], jnp.eye(math.prod(multiple)))

    heard = np.asarray(gradients(x))[:, 0, :, :, 0] != 0  # [output, frame, bin]
    for axis, reach in enumerate(field):
        lines = [np.flatnonzero(line) for line in heard.any(axis=2 - axis)]
        assert max(line[-1] - line[0] + 1 for line in lines) == reach


@pytest.mark.parametrize("axis", ["frame", "bin", "both"])
def test_attention_hears_its_axis_and_no_other(axis):
    """Beyond the convolutions, which reach a few positions on either axis."""
    network = UNet2d((1,), (1,), (4,), (0,), (1,), (axis,), overlap=1, embedding=4)
    params, reach = randomised(network), network.receptive_field()[0] // 2
    x = noise(1, reach + 4, reach + 5, 1)
    gradient = quick(jax.grad(lambda x: network.apply(params, x, jnp.zeros(1), {})[0, 0, 0, 0]))(x)
    heard = np.asarray(gradient)[0, ..., 0] != 0
    expected = np.zeros_like(heard)
    expected[
        slice(None) if axis != "bin" else slice(reach + 1), slice(None) if axis != "frame" else slice(reach + 1)
    ] = 1
    np.testing.assert_array_equal(heard, expected)


def test_attention_along_frames_is_attention_along_bins_of_what_is_transposed():
    network = UNet2d((1,), (1,), (8,), (0,), (2,), ("frame",), attention="local", window=3, embedding=4)
    params, x = blind(randomised(network)), noise(2, 6, 5, 1)
    transposed = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1) if leaf.ndim == 4 else leaf, params)
    y, other = run_on(network, x)(params), run_on(network.clone(attention_axis=("bin",)), x.swapaxes(1, 2))
    assert np.std(y) > 0.1
    np.testing.assert_allclose(other(transposed).swapaxes(1, 2), y, rtol=1e-4, atol=1e-4)
    assert np.abs(other(params).swapaxes(1, 2) - y).max() > 0.1


def test_every_skip_reaches_the_output():
    """With the way down cut between stages, the gradient by a stage's output can pass its skip alone."""
    network = SMALL.clone(blocks=(1, 2))
    stages = ("stem", "encoder0_0", "down1", "encoder1_0", "encoder1_1")
    params, x, weights = randomised(network), noise(2, 6, 6, 1), noise(2, 6, 6, 1)

    def output(nudges, skips):
        def cut_and_nudge(call, arguments, options, context):
            name = context.module.name or ""
            if context.method_name != "__call__":
                return call(*arguments, **options)
            if name.startswith(("encoder", "down", "middle")):
                arguments = (lax.stop_gradient(arguments[0]), *arguments[1:])
            if name.startswith("decoder") and "_" in name and not skips:
                h = arguments[0]
                below = h.shape[-1] - network.channels[int(name[len("decoder")])]
                h = jnp.concatenate([h[..., :below], lax.stop_gradient(h[..., below:])], axis=-1)
                arguments = (h, *arguments[1:])
            return call(*arguments, **options) + nudges.get(name, 0.0)

        with nn.intercept_methods(cut_and_nudge):
            return jnp.sum(network.apply(params, x, jnp.zeros(2), {}) * weights)

    gradient = quick(jax.grad(output), static_argnums=1)
    nudges = dict.fromkeys(stages, 0.0)
    with_skips, without = gradient(nudges, True), gradient(nudges, False)
    assert {name: abs(float(value)) > 1e-6 for name, value in with_skips.items()} == dict.fromkeys(stages, True)
    # Without the skips nothing is left: it was they that carried the gradient.
    assert {name: float(value) for name, value in without.items()} == dict.fromkeys(stages, 0.0)


def test_what_moves_in_time_stays_the_same_and_what_moves_in_frequency_does_not_unless_bins_are_not_told_apart():
    params, multiple, field = randomised(SMALL), SMALL.multiple, SMALL.receptive_field()
    margin = [-(-reach // m) * m for reach, m in zip(field, multiple, strict=True)]
    x = noise(1, *(2 * side + 2 * m for side, m in zip(margin, multiple, strict=True)), 1)
    inside = (slice(None), *(slice(side, -side) for side in margin))
    run = run_on(SMALL, x)

    def change(params, axis):
        step = multiple[axis - 1]
        moved = np.roll(run(params, x), step, axis=axis) - run(params, np.roll(x, step, axis=axis))
        return np.abs(moved[inside]).max()

    assert np.std(run(params, x)) > 0.1
    assert change(params, axis=1) < 1e-5
    assert change(params, axis=2) > 1e-2
    assert change(blind(params), axis=2) < 1e-5


def test_a_bin_lies_at_its_share_of_all_bins():
    """Twice the bins are the same range, finer: a bin is told about what the two are told that it is halved into."""
    network = UNet2d((1,), (1,), (4,), (0,), (0,), ("frame",), overlap=1, embedding=4)
    params = randomised(network)

    @functools.partial(quick, static_argnums=0)
    def told(bins):
        def keep(module, _):
            return module.name == "place"

        x = jnp.zeros((1, 1, bins, 1))
        _, kept = network.apply(params, x, jnp.zeros(1), {}, capture_intermediates=keep)
        return kept["intermediates"]["place"]["__call__"][0]

    coarse, fine = np.asarray(told(256)), np.asarray(told(512))
    np.testing.assert_allclose((fine[0::2] + fine[1::2]) / 2, coarse, atol=0.02 * np.ptp(coarse))
    assert len(np.unique(np.round(coarse, 3), axis=0)) == 256


def test_every_condition_and_the_noise_level_reach_the_output():
    params, x = randomised(SHALLOW, raw=RAW), noise(2, 12, 9, 1)
    encoded = quick(lambda params: SHALLOW.apply(params, RAW, method="encode"))(params)
    assert set(encoded) == {"global", "frames", "tokens"}
    weights = noise(2, 12, 9, 1)

    @quick
    @jax.grad
    def gradient(inputs):
        x, c_noise, encoded = inputs
        return jnp.sum(weights * SHALLOW.apply(params, x, c_noise, encoded))

    by_x, by_noise, by_condition = gradient((x, noise(2), encoded))
    assert (by_x != 0).all()
    assert (np.abs(by_noise) > 0).all()
    for value in by_condition.values():  # of every example, every frame and every token
        assert (np.abs(value).max(axis=-1) > 1e-7).all()


def test_an_absent_condition_is_its_null_whatever_its_value():
    params, x = randomised(SHALLOW, raw=RAW), noise(2, 4, 4, 1)
    present = {name: np.array([False, True]) for name in RAW}

    @quick
    def run(raw):
        return SHALLOW.apply(params, x, jnp.zeros(2), SHALLOW.apply(params, raw, present, method="encode"))

    y, nulls = run(RAW), params["params"]["condition_encoder"]
    for name, other in {"digit": np.array([1, 1]), "mel": -RAW["mel"], "text": (RAW["text"] + 2) % 5}.items():
        changed = run({**RAW, name: other})
        np.testing.assert_array_equal(changed[0], y[0])
        assert np.abs(changed[1] - y[1]).max() > 1e-4
    constants = {
        "global": np.stack([nulls["digit_null"]] * 2),
        "frames": np.tile(nulls["mel_null"], (2, 5, 1)),
        "tokens": np.tile(nulls["text_null"], (2, 3, 1)),
    }
    expected = quick(lambda encoded: SHALLOW.apply(params, x, jnp.zeros(2), encoded))(constants)
    np.testing.assert_allclose(y[0], expected[0], rtol=1e-5, atol=1e-5)


# --- the beginning


def test_silence_comes_out_at_first_and_can_be_learnt_from():
    network = UNet2d((2,), (1,), (4,), (0,), (0,), ("frame",), embedding=4)
    x, target = noise(1, 4, 3, 1), noise(1, 4, 3, 1)

    @quick
    def begin(key):
        params = network.init({"params": key}, x, jnp.zeros(1), {}, method="init_all")

        def loss(params):
            y = network.apply(params, x, jnp.zeros(1), {})
            return jnp.mean((y - target) ** 2), y

        (_, y), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return y, gradient["params"]

    y, gradient = begin(jax.random.key(0))
    np.testing.assert_array_equal(y, 0)
    assert np.abs(gradient["head"]["kernel"]).max() > 1e-4


# --- parameters and precision


def count_by_hand(network, channels=1):
    """Count the parameters layer by layer, from the sizes alone."""

    def dense(inputs, outputs):
        return (inputs + 1) * outputs

    def conv(side, inputs, outputs):
        return dense(side * side * inputs, outputs)

    def block(inputs, outputs):
        film, project = 2 * dense(network.embedding, outputs), inputs * outputs if inputs != outputs else 0
        return inputs + conv(3, inputs, outputs) + outputs + film + conv(3, outputs, outputs) + project

    def attention(width, inputs):
        return width + 2 * inputs * width + width * width + dense(width, width)

    embedding, overlap, width = network.embedding, network.overlap, network.channels
    kinds = {spec.kind: spec for spec in network.conditions}
    total = dense(128, embedding) + dense(embedding, embedding)
    if "label" in kinds:
        total += (kinds["label"].size + 1) * embedding + dense(embedding, embedding)
    if "frames" in kinds:
        total += kinds["frames"].size * (1 + width[0])
    if "tokens" in kinds:
        total += (kinds["tokens"].size + 2) * embedding
    areas = [frame * bin for frame, bin in zip(network.frame_factors, network.bin_factors, strict=True)]
    attending = [0] * len(width)
    for level, (area, blocks) in enumerate(zip(areas, network.blocks, strict=True)):
        attending[level] += 2 * blocks + 1
        total += blocks * block(width[level], width[level]) + (blocks + 1) * block(2 * width[level], width[level])
        if level:
            above = area * width[level - 1]
            total += conv(overlap, above, width[level]) + conv(overlap, width[level], above)
    total += block(width[-1], width[-1])
    attending[-1] += 1
    for level, heads in enumerate(network.attention_heads):
        cross = attention(width[level], embedding) if "tokens" in kinds else 0
        total += attending[level] * (heads > 0) * (attention(width[level], width[level]) + cross)
    stem, place = conv(overlap, areas[0] * channels, width[0]), 2 * 6 * width[0]
    return total + stem + place + width[0] + conv(overlap, width[0], areas[0] * channels)


@pytest.mark.parametrize(
    "network, channels",
    [
        (SMALL, 1),
        (SMALL.clone(frame_factors=(3, 2), overlap=3, blocks=(0, 2), attention_heads=(2, 0)), 2),
        (CONDITIONED, 2),
        (UNet2d(), 1),
    ],
)
def test_the_parameters_are_as_many_as_the_sizes_say(network, channels):
    raw = {spec.name: RAW[spec.name] for spec in network.conditions}
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes(network, channels, raw))) == count_by_hand(
        network, channels
    )


def test_in_bfloat16_it_puts_out_float32_close_to_what_it_puts_out_in_float32():
    params, x, c_noise = randomised(SHALLOW, raw=RAW), noise(2, 6, 5, 1), noise(2)
    half = SHALLOW.clone(dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes(half, raw=RAW))} == {jnp.dtype(jnp.float32)}

    def run(network):
        def outputs(params):
            encoded = network.apply(params, RAW, method="encode")
            y, inside = network.apply(params, x, c_noise, encoded, capture_intermediates=True)
            return y, inside["intermediates"]["decoder0_0"]["__call__"][0]

        return quick(outputs)(params)

    (y, _), (rounded, inside) = run(SHALLOW), run(half)
    assert rounded.dtype == jnp.float32 and inside.dtype == jnp.bfloat16
    assert 0 < np.std(rounded - y) < 0.05 * np.std(y)


def test_what_is_rematerialised_has_the_same_parameters_outputs_and_gradients():
    network = UNet2d((1,), (2,), (4,), (0,), (1,), ("frame",), embedding=4)
    assert shapes(network) == shapes(network.clone(remat=True))
    params, x, target = randomised(network), noise(2, 3, 4, 1), noise(2, 3, 4, 1)

    def loss(remat):
        def value(params, x):
            return jnp.mean((network.clone(remat=remat).apply(params, x, jnp.zeros(2), {}) - target) ** 2)

        return quick(jax.value_and_grad(value, argnums=(0, 1)))(params, x)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), loss(True), loss(False))


# --- errors


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"blocks": (1,)}, r"levels of a UNet2d disagree: .*'blocks': 1.*; give each tuple one entry a level"),
        ({"bin_factors": (2,)}, r"levels of a UNet2d disagree: .*'bin_factors': 1"),
        ({"attention_axis": ("frame",)}, r"levels of a UNet2d disagree: .*'attention_axis': 1"),
        ({"frame_factors": (4, 0)}, r"frame_factors is \(4, 0\): give at least one number, each at least 1"),
        ({"blocks": (1, -1)}, r"blocks is \(1, -1\): .* each at least 0"),
        ({"attention_axis": ("frame", "bins")}, "unknown attention_axis 'bins': choose one of bin, "),
        ({"overlap": 2}, "overlap is 2: a centred kernel spans an odd number of patches"),
        ({"attention_heads": (0, 4)}, "4 attention heads cannot share 6 channels: use a multiple of 8"),
        ({"conditions": (ConditionSpec("text", "tokens", 5),)}, "no level attends to the tokens of condition 'text'"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SMALL.clone(**changes)


def test_no_levels_are_refused():
    empty: dict = dict.fromkeys(
        ("frame_factors", "bin_factors", "channels", "blocks", "attention_heads", "attention_axis"), ()
    )
    with pytest.raises(ValueError, match=r"frame_factors is \(\): give at least one number"):
        UNet2d(**empty)
