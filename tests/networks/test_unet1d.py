from __future__ import annotations

import functools
import math
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from audiodiff.networks.attention import Kind
from audiodiff.networks.conditions import ConditionSpec
from audiodiff.networks.layers import conv1d
from audiodiff.networks.unet1d import UNet1d, from_blocks, to_blocks

RNG = np.random.default_rng(0)
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""Compile in a third of the time: here compiling takes longest, and what runs is small."""
SMALL = UNet1d((4, 2), (8, 12), (1, 1), (0, 0), embedding=8)
CONDITIONED = UNet1d(
    (4, 2),
    (8, 8),
    (0, 0),
    (0, 2),
    embedding=8,
    conditions=(
        ConditionSpec("digit", "label", 3),
        ConditionSpec("level", "number"),
        ConditionSpec("mel", "frames", 2),
        ConditionSpec("text", "tokens", 5),
    ),
)
RAW = {
    "digit": np.array([0, 2]),
    "level": np.array([0.1, 0.9], np.float32),
    "mel": RNG.normal(size=(2, 7, 2)).astype(np.float32),
    "text": np.array([[1, 4, 0], [2, 3, -1]]),
}


def shapes(network, time=16, channels=1, raw=None):
    """Return the shapes of the parameters."""
    x = jnp.zeros((2, time, channels))
    return jax.eval_shape(
        lambda key: network.init({"params": key}, x, jnp.zeros(2), raw or {}, method="init_all"), jax.random.key(0)
    )


def randomised(network, **arguments):
    """Return parameters none of which is zero, of about the scale that keeps variance: what begins at zero is awake."""
    return jax.tree.map(
        lambda leaf: (RNG.normal(size=leaf.shape) / math.sqrt(max(leaf.size / leaf.shape[-1], 1))).astype(np.float32),
        shapes(network, **arguments),
    )


def noise(*shape):
    return RNG.normal(size=shape).astype(np.float32)


# --- lengths


@pytest.mark.parametrize("time, channels", [(1, 1), (2, 2), (7, 1), (8, 2), (9, 1), (1001, 2)])
def test_the_output_is_as_long_as_the_input_whatever_the_length(time, channels):
    params = shapes(SMALL, channels=channels)
    y = jax.eval_shape(SMALL.apply, params, jnp.zeros((3, time, channels)), jnp.zeros(3), {})
    assert y.shape == (3, time, channels)


def test_a_length_between_multiples_is_padded_with_silence_and_cropped():
    params, x, c_noise = randomised(CONDITIONED, raw=RAW), noise(2, 28, 1), noise(2)
    mel = noise(2, 7, 2)  # one frame a hop: it belongs to the sound and not to what is padded

    @quick
    def run(x, mel):
        return CONDITIONED.apply(params, x, c_noise, CONDITIONED.apply(params, {**RAW, "mel": mel}, method="encode"))

    longer = run(np.pad(x, ((0, 0), (0, 4), (0, 0))), np.concatenate([mel, mel[:, -1:]], axis=1))
    assert np.std(longer) > 0.1
    np.testing.assert_allclose(run(x, mel), longer[:, :28], atol=1e-5)


@functools.cache
def attending(kind) -> np.ndarray:
    """Run 23 samples, 12 positions of attention, through one kind; weights and sound are the same for all."""
    network, rng = UNet1d((2,), (4,), (0,), (1,), attention=kind, window=4, embedding=4), np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 2, shapes(network))
    x = rng.normal(size=(2, 23, 1)).astype(np.float32)
    return np.asarray(quick(network.apply)(params, x, np.zeros(2, np.float32), {}))


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_of_attention_takes_an_odd_length_and_is_not_another(kind):
    y = attending(kind)
    assert y.shape == (2, 23, 1) and np.isfinite(y).all()
    assert kind == "full" or np.abs(y - attending("full")).max() > 1e-3


def test_a_strict_network_names_the_nearest_legal_lengths():
    strict = SMALL.clone(strict=True)
    params = shapes(SMALL)
    assert jax.eval_shape(strict.apply, params, jnp.zeros((1, 24, 1)), jnp.zeros(1), {}).shape == (1, 24, 1)
    with pytest.raises(ValueError, match="21 samples are not a multiple of 8: use 16 or 24"):
        jax.eval_shape(strict.apply, params, jnp.zeros((1, 21, 1)), jnp.zeros(1), {})
    with pytest.raises(ValueError, match="5 samples are not a multiple of 8: use 8"):
        jax.eval_shape(strict.apply, params, jnp.zeros((1, 5, 1)), jnp.zeros(1), {})


def test_to_blocks_makes_a_strided_convolution_an_ordinary_one():
    """K blocks of a factor are K * factor taps at that stride, centred."""
    x, kernel, factor = noise(2, 24, 3), noise(3 * 4, 3, 5), 4
    strided = conv1d(np.pad(x, ((0, 0), (4, 4), (0, 0))), kernel, stride=factor)[:, 1:-1]
    ordinary = conv1d(to_blocks(x, factor), kernel.reshape(3, factor * 3, 5))
    np.testing.assert_allclose(ordinary, strided, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(from_blocks(to_blocks(x, factor), factor), x)


# --- wiring


@pytest.mark.parametrize(
    "network",
    [
        SMALL,
        UNet1d((3, 2, 2), (6, 6, 6), (1, 0, 1), (0, 0, 0), dilations=(1, 3), embedding=4),
        UNet1d((2, 5), (6, 6), (1, 1), (0, 0), overlap=1, dilations=(2,), stem="random", embedding=4),
        UNet1d((4,), (6,), (1,), (0,), overlap=5, embedding=4),
        UNet1d((4, 2), (6, 6), (0, 1), (0, 0), stem="spectral", atoms=8, atom_blocks=5, embedding=4),
        UNet1d((2, 2), (6, 6), (0, 1), (0, 0), stem="spectral", atoms=8, long_level=1, long_atoms=8, embedding=4),
    ],
)
def test_the_receptive_field_is_the_support_of_the_gradient(network):
    field, multiple = network.receptive_field(), network.multiple
    params = randomised(network)
    begin = -(-field // multiple) * multiple
    x = noise(1, 2 * begin + multiple, 1)

    @quick
    @jax.jacrev
    def jacobian(x):
        return network.apply(params, x, jnp.zeros(1), {})[0, begin : begin + multiple, 0]

    heard = np.asarray(jacobian(x))[:, 0, :, 0] != 0
    widths = [np.flatnonzero(row)[-1] - np.flatnonzero(row)[0] + 1 for row in heard]
    assert max(widths) == field


def test_every_skip_reaches_the_output():
    """With the way down cut between stages, the gradient by a stage's output can pass its skip alone."""
    network = UNet1d((4, 2), (8, 8), (1, 2), (0, 0), embedding=8)
    stages = ("stem", "encoder0_0", "down1", "encoder1_0", "encoder1_1")
    params, x = randomised(network), noise(2, 32, 1)

    def output(nudges, skips):
        def cut_and_nudge(call, arguments, options, context):
            name = context.module.name or ""
            if context.method_name != "__call__":
                return call(*arguments, **options)
            if name.startswith(("encoder", "down", "middle")):
                arguments = (jax.lax.stop_gradient(arguments[0]), *arguments[1:])
            if name.startswith("decoder") and not skips:
                below = network.channels[int(name[len("decoder")])]
                h = arguments[0]
                h = jnp.concatenate([h[..., :below], jax.lax.stop_gradient(h[..., below:])], axis=-1)
                arguments = (h, *arguments[1:])
            return call(*arguments, **options) + nudges.get(name, 0.0)

        with nn.intercept_methods(cut_and_nudge):
            return jnp.sum(network.apply(params, x, jnp.zeros(2), {}) * noise_like_output)

    noise_like_output = noise(2, 32, 1)
    gradient = quick(jax.grad(output), static_argnums=1)
    nudges = dict.fromkeys(stages, 0.0)
    assert {name: abs(float(value)) > 1e-6 for name, value in gradient(nudges, True).items()} == dict.fromkeys(
        stages, True
    )
    # Without the skips nothing is left: it was they that carried the gradient.
    assert {name: float(value) for name, value in gradient(nudges, False).items()} == dict.fromkeys(stages, 0.0)


def test_moving_the_input_by_a_whole_multiple_moves_the_output():
    params, multiple = randomised(SMALL), SMALL.multiple
    margin = -(-SMALL.receptive_field() // multiple) * multiple
    x = noise(1, 3 * margin, 1)
    run = quick(lambda x: SMALL.apply(params, x, jnp.zeros(1), {}))
    moved = run(np.roll(x, multiple, axis=1))
    inside = slice(margin, -margin)
    np.testing.assert_allclose(moved[:, inside], np.roll(run(x), multiple, axis=1)[:, inside], atol=1e-5)


def test_every_condition_and_the_noise_level_reach_the_output():
    params, x = randomised(CONDITIONED, raw=RAW), noise(2, 16, 1)
    encoded = quick(lambda params: CONDITIONED.apply(params, RAW, method="encode"))(params)
    assert set(encoded) == {"global", "frames", "tokens"}
    weights = noise(2, 16, 1)

    @quick
    @jax.grad
    def gradient(inputs):
        x, c_noise, encoded = inputs
        return jnp.sum(weights * CONDITIONED.apply(params, x, c_noise, encoded))

    by_x, by_noise, by_condition = gradient((x, noise(2), encoded))
    assert (np.abs(by_x).max(axis=1) > 0).all()
    assert (np.abs(by_noise) > 0).all()
    for value in by_condition.values():  # of every example, every frame and every token
        assert (np.abs(value).max(axis=-1) > 1e-7).all()


def test_examples_of_a_batch_do_not_hear_each_other():
    params, x = randomised(SMALL), noise(2, 16, 1)
    run = quick(lambda x: SMALL.apply(params, x, jnp.zeros(2), {}))
    changed = np.stack([x[0], x[1] + 1])
    np.testing.assert_array_equal(run(x)[0], run(changed)[0])
    assert np.abs(run(x)[1] - run(changed)[1]).max() > 0.01


# --- the beginning


HEARS = UNet1d((2, 2), (4, 4), (0, 0), (0, 0), stem="spectral", atoms=8, embedding=4)


@pytest.mark.parametrize(
    "network, last",
    [
        (UNet1d((4,), (4,), (0,), (0,), stem="gabor", embedding=4), ["coefficients"]),
        (UNet1d((4,), (4,), (0,), (0,), stem="random", embedding=4), ["head"]),
        (HEARS, ["mask", "coefficients"]),
        (HEARS.clone(long_level=1, long_atoms=8), ["mask", "coefficients", "mask1", "coefficients1"]),
    ],
    ids=["gabor", "random", "spectral", "long"],
)
def test_silence_comes_out_at_first_and_can_be_learnt_from(network, last):
    x, target = noise(1, 16, 1), noise(1, 16, 1)

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
    assert all(np.abs(gradient[name]["kernel"]).max() > 1e-4 for name in last)


def frame(hop, features, channels, overlap=3):
    """Return analysis and synthesis by a network's own first weights, as functions [batch, time, channel] -> same."""
    network = UNet1d((hop,), (features,), (0,), (0,), overlap=overlap, embedding=4)

    @quick  # and nothing but the two kernels is computed
    def kernels(key):
        x = jnp.zeros((1, hop, channels))
        params = network.init({"params": key}, x, jnp.zeros(1), {}, method="init_all")["params"]
        return params["stem"]["kernel"], params["head"]["kernel"]

    stem, head = kernels(jax.random.key(0))
    return (lambda x: conv1d(to_blocks(x, hop), stem), lambda c: from_blocks(conv1d(c, head), hop))


@pytest.mark.parametrize("hop, features, channels", [(8, 24, 1), (32, 128, 1), (8, 64, 2)])
def test_the_gabor_stem_is_a_nearly_tight_frame(hop, features, channels):
    """The coefficients have features / hop (a channel) times the energy of the signal, and synthesis gives it back."""
    analysis, synthesis = frame(hop, features, channels)
    x = noise(2, 20 * hop, channels)
    x[:, : 2 * hop] = x[:, -2 * hop :] = 0  # patches that reach over the ends are cut off
    redundancy = features / channels / hop
    coefficients = np.asarray(analysis(x))
    np.testing.assert_allclose(np.sum(coefficients**2), redundancy * np.sum(x**2), rtol=0.03)
    error = np.asarray(synthesis(coefficients)) / redundancy - x
    assert np.sqrt(np.mean(error**2) / np.mean(x**2)) < 0.15


@pytest.mark.parametrize("channels", [1, 2])
def test_a_mask_of_ones_is_nearly_the_identity_and_turning_it_by_a_quarter_shifts_the_phase_of_a_tone(channels):
    """The spectral head scales and turns what its stem has heard: with nothing else awake it is a linear filter.

    A second channel is silent, and stays so.
    """
    network = UNet1d((32,), (4,), (0,), (0,), stem="spectral", atoms=256 * channels, atom_blocks=7, embedding=4)
    time = np.arange(4096)
    # One of the frame's frequencies, (k + 1/2) / 256 cycles a sample.
    tone, quarter = (np.cos(2 * np.pi * 20.5 / 256 * time + phase) for phase in (0, np.pi / 2))
    x = np.pad(tone[None, :, None], ((0, 0), (0, 0), (0, channels - 1))).astype(np.float32)
    params = quick(lambda key: network.init({"params": key}, x, jnp.zeros(1), {}, method="init_all"))(jax.random.key(0))
    run = quick(lambda params: network.apply(params, x, jnp.zeros(1), {}))

    def output(gain, turn):
        mask = jnp.tile(jnp.repeat(jnp.array([gain, turn]), 128), channels)
        changed = {**params["params"], "mask": {**params["params"]["mask"], "bias": mask}}
        return np.asarray(run({"params": changed}))[0, 512:-512]

    np.testing.assert_allclose(output(0.0, 0.0), 0, atol=1e-6)
    np.testing.assert_allclose(output(1.0, 0.0)[:, 0], tone[512:-512], atol=0.1)
    turned = output(0.0, 1.0)
    np.testing.assert_allclose(turned[:, 1:], 0, atol=1e-6)
    assert abs(np.corrcoef(turned[:, 0], quarter[512:-512])[0, 1]) > 0.99
    assert abs(np.corrcoef(turned[:, 0], tone[512:-512])[0, 1]) < 0.1


def test_synthesis_is_the_adjoint_of_analysis():
    analysis, synthesis = frame(8, 14, 2)  # not a frame at all, and an odd share of features
    x, coefficients = noise(1, 64, 2), noise(1, 8, 14)
    np.testing.assert_allclose(
        np.vdot(analysis(x), coefficients), np.vdot(x, synthesis(coefficients)), rtol=1e-4, atol=1e-4
    )


def test_the_gabor_stem_sorts_tones_by_frequency_and_channels_apart():
    hop, features, half = 32, 128, 32
    analysis, _ = frame(hop, features, 2)
    time = np.arange(20 * hop)
    for atom in (3, 17, 30):
        tone = np.cos(2 * np.pi * (atom + 0.5) / 64 * time).astype(np.float32)
        x = np.stack([np.zeros_like(tone), tone], axis=1)[None]
        energy = np.mean(np.square(analysis(x)), axis=(0, 1))
        assert energy[: features // 2].max() == 0
        right = energy[features // 2 :]
        assert np.argmax(right[:half] + right[half:]) == atom


# --- parameters


def count_by_hand(network, channels=1):
    """Count the parameters layer by layer, from the sizes alone; without frames and tokens."""

    def dense(inputs, outputs, bias=True):
        return inputs * outputs + bias * outputs

    def conv(taps, inputs, outputs):
        return dense(taps * inputs, outputs)

    def block(inputs, outputs):
        film, project = 2 * dense(network.embedding, outputs), inputs * outputs if inputs != outputs else 0
        return inputs + conv(3, inputs, outputs) + outputs + film + conv(3, outputs, outputs) + project

    def attention(width):
        return width + 3 * width * width + dense(width, width)

    embedding, overlap, hop, first = network.embedding, network.overlap, network.factors[0], network.channels[0]
    total = dense(128, embedding) + dense(embedding, embedding)
    for spec in network.conditions:
        total += (spec.size + 1) * embedding  # a table and a null
    if network.conditions:
        total += dense(embedding, embedding)
    for level, width in enumerate(network.channels):
        total += network.blocks[level] * block(width, width) + (network.blocks[level] + 1) * block(2 * width, width)
        attending = (2 * network.blocks[level] + 1) * (network.attention_heads[level] > 0)
        total += attending * attention(width)
        if level:
            before, factor = network.channels[level - 1], network.factors[level]
            total += conv(overlap, factor * before, width) + conv(overlap, width, factor * before)
    last = network.channels[-1]
    total += block(last, last) + attention(last) * (network.attention_heads[-1] > 0)
    if network.stem == "spectral":
        for level, (atoms, blocks) in network.spectra.items():
            frame, width = blocks * atoms * math.prod(network.factors[: level + 1]) * channels, network.channels[level]
            total += frame + dense(atoms + atoms // 2, width) + width + 2 * dense(width, atoms) + frame
        return total
    total += conv(overlap, hop * channels, first) + first
    if network.stem == "gabor":
        return total + dense(first, first) + overlap * first * hop * channels
    return total + conv(overlap, first, hop * channels)


LABELS = (ConditionSpec("digit", "label", 10), ConditionSpec("speaker", "label", 6))


@pytest.mark.parametrize(
    "network, channels",
    [
        (SMALL, 1),
        (SMALL.clone(stem="random"), 2),
        (UNet1d((2, 3, 2), (8, 8, 12), (2, 0, 1), (0, 2, 2), embedding=6, overlap=5), 1),
        (UNet1d(conditions=LABELS), 1),
        (UNet1d(conditions=LABELS, stem="spectral"), 2),
        (UNet1d(conditions=LABELS, stem="spectral", long_level=2, long_atoms=64, long_blocks=3), 1),
    ],
)
def test_the_parameters_are_as_many_as_the_sizes_say(network, channels):
    raw = {spec.name: np.zeros(2, int) for spec in network.conditions}
    total = sum(leaf.size for leaf in jax.tree.leaves(shapes(network, channels=channels, raw=raw)))
    assert total == count_by_hand(network, channels)


def test_computes_in_its_dtype_with_float32_parameters_and_output():
    half = CONDITIONED.clone(dtype=jnp.bfloat16)
    params = shapes(half, raw=RAW)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    encoded = jax.eval_shape(lambda p: half.apply(p, RAW, method="encode"), params)
    y, inside = jax.eval_shape(
        lambda p, c: half.apply(p, jnp.zeros((2, 16, 1)), jnp.zeros(2), c, capture_intermediates=True), params, encoded
    )
    assert y.dtype == jnp.float32
    assert inside["intermediates"]["decoder1_0"]["__call__"][0].dtype == jnp.bfloat16


# --- errors


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"blocks": (1,)}, r"levels of a UNet1d disagree: .*'blocks': 1.*; give each tuple one entry a level"),
        ({"factors": (4, 0)}, r"factors is \(4, 0\): give at least one number, each at least 1"),
        ({"dilations": ()}, r"dilations is \(\): give at least one number, each at least 1"),
        ({"blocks": (1, -1)}, r"blocks is \(1, -1\): .* each at least 0"),
        ({"stem": "spectrum"}, "unknown stem 'spectrum': choose one of spectral, "),
        ({"stem": "spectral", "atoms": 7}, "atoms is 7: a cosine and a sine of each frequency make an even number"),
        ({"long_atoms": 7}, "long_atoms is 7: a cosine and a sine of each frequency make an even number"),
        ({"long_blocks": 4}, "long_blocks is 4: a centred kernel spans an odd number of blocks"),
        ({"long_level": 1}, "long_level is 1: choose 1 to 1 with the spectral stem, or 0 for no long spectrum"),
        ({"stem": "spectral", "long_level": 2}, "long_level is 2: choose 1 to 1 with the spectral stem"),
        ({"overlap": 2}, "overlap is 2: a centred kernel spans an odd number of blocks"),
        ({"attention_heads": (0, 4)}, "4 attention heads cannot share 12 channels: use a multiple of 8"),
        ({"conditions": (ConditionSpec("text", "tokens", 5),)}, "no level attends to the tokens of condition 'text'"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SMALL.clone(**changes)


def test_a_gabor_stem_too_narrow_for_its_audio_channels_is_refused():
    with pytest.raises(
        ValueError, match="8 features has no cosine and sine for each of 5 audio channels: use at least 10"
    ):
        shapes(SMALL, channels=5)


def test_atoms_that_audio_channels_cannot_share_are_refused():
    with pytest.raises(ValueError, match="3 channels cannot share 8 atoms as cosines and sines: use a multiple of 6"):
        shapes(SMALL.clone(stem="spectral", atoms=8), channels=3)


def test_an_unknown_condition_is_refused_by_name():
    with pytest.raises(ValueError, match="Unknown condition 'singer': this network takes digit, level, mel, text"):
        shapes(CONDITIONED, raw={**RAW, "singer": np.zeros(2)})


# --- signals

STEMS = {
    "random": {"stem": "random"},
    "gabor": {},
    "spectral": {"stem": "spectral", "atoms": 8},
    "long": {"stem": "spectral", "atoms": 8, "long_level": 1, "long_atoms": 8},
}


def told(routes, size=1, **changes):
    """Return a network that is told a signal of half as many positions as x, and its conditions, raw."""
    spec = ConditionSpec("coarse", "signal", size, routes=routes, patch=2, raised=lambda y: jnp.repeat(y, 2, axis=1))
    network = UNet1d((4, 2), (8, 8), (1, 0), (0, 2), embedding=8, conditions=(spec,), **changes)
    return network, {"coarse": noise(2, 12, size)}


BOTH = ("concat", "attention")


@pytest.mark.parametrize(
    "stem, routes, size, channels",
    [
        ("random", BOTH, 1, 1),
        ("gabor", BOTH[:1], 2, 1),
        ("gabor", BOTH[1:], 1, 1),
        ("spectral", BOTH[:1], 1, 1),
        ("spectral", BOTH, 1, 2),
        ("long", BOTH[:1], 2, 1),
    ],
)
def test_a_signal_reaches_the_output_by_every_route_from_every_position(stem, routes, size, channels):
    """Whether it has the channels of x or not."""
    network, raw = told(routes, size, **STEMS[stem])
    params, x = randomised(network, time=24, channels=channels, raw=raw), noise(2, 24, channels)
    encoded = quick(lambda params: network.apply(params, raw, method="encode"))(params)
    weights = noise(2, 24, channels)

    @quick
    @jax.grad
    def gradient(encoded):
        return jnp.sum(weights * network.apply(params, x, jnp.zeros(2), encoded))

    by = gradient(encoded)
    assert set(by) == {{"concat": "signal", "attention": "tokens"}[route] for route in routes}
    for route, value in by.items():
        assert (np.abs(value).max(axis=-1) > 1e-7).all(), route


def test_a_signal_in_the_channels_of_x_is_masked_by_a_spectral_head_and_any_other_is_heard_alone():
    for size, masks in ((1, {"mask", "signal_mask"}), (2, {"mask"})):
        network, raw = told(("concat",), size, **STEMS["spectral"])
        names = set(shapes(network, time=24, raw=raw)["params"])
        assert {name for name in names if name.endswith("mask")} == masks
        assert {"analysis", "signal_analysis", "head"} <= names


@pytest.mark.parametrize("stem", STEMS.values(), ids=list(STEMS))
def test_a_concatenated_signal_is_heard_as_far_as_x_is(stem):
    """The gradient of an output sample by the signal is where that by x is, as wide as the receptive field."""
    spec = ConditionSpec("coarse", "signal", 1)
    network = UNet1d((2, 2), (6, 6), (0, 1), (0, 0), embedding=4, conditions=(spec,), **stem)
    field, multiple = network.receptive_field(), network.multiple
    begin = -(-field // multiple) * multiple
    x, signal = noise(1, 2 * begin + multiple, 1), noise(1, 2 * begin + multiple, 1)
    params = randomised(network, time=x.shape[1], raw={"coarse": np.zeros((2, x.shape[1], 1))})

    @quick
    @functools.partial(jax.jacrev, argnums=(0, 1))
    def jacobian(x, signal):
        return network.apply(params, x, jnp.zeros(1), {"signal": signal})[0, begin : begin + multiple, 0]

    by_x, heard = (np.asarray(part)[:, 0, :, 0] != 0 for part in jacobian(x, signal))
    np.testing.assert_array_equal(heard, by_x)
    widths = [np.flatnonzero(row)[-1] - np.flatnonzero(row)[0] + 1 for row in heard]
    assert max(widths) == field


def test_an_absent_signal_is_not_heard():
    network, raw = told(BOTH)
    params, x = randomised(network, time=24, raw=raw), noise(2, 24, 1)

    @quick
    def run(coarse, present):
        encoded = network.apply(params, {"coarse": coarse}, {"coarse": present}, method="encode")
        return network.apply(params, x, jnp.zeros(2), encoded)

    first, absent = raw["coarse"], np.array([True, False])
    moved = np.abs(run(first, absent) - run(first + 1, absent)).max(axis=(1, 2))
    assert moved[0] > 1e-4 and moved[1] == 0
    assert np.abs(run(first, absent) - run(first, np.ones(2, bool)))[1].max() > 1e-4, "its null is another"


def test_a_signal_of_another_length_is_refused():
    network, raw = told(("concat",))
    with pytest.raises(ValueError, match="the signal has 24 positions and x 23: bring it to those of x"):
        shapes(network, time=23, raw=raw)


def test_a_signal_to_attend_to_needs_a_level_that_attends():
    network, _ = told(BOTH)
    with pytest.raises(ValueError, match="no level attends to the tokens of condition 'coarse'"):
        network.clone(attention_heads=(0, 0))
    assert told(("concat",))[0].clone(attention_heads=(0, 0))


@pytest.mark.parametrize(
    "network, names",
    [
        (SMALL.clone(stem="random"), {"stem", "head", "norm", "down1", "encoder0_0", "middle1_0", "decoder1_0", "up1"}),
        (SMALL, {"stem", "coefficients", "head", "norm"}),
        (
            SMALL.clone(**STEMS["long"]),
            {"analysis", "analysis1", "stem", "stem1", "mask", "mask1", "coefficients1", "head1"},
        ),
    ],
    ids=["random", "gabor", "spectral"],
)
def test_without_a_signal_parameters_are_named_as_in_every_checkpoint(network, names):
    found = set(shapes(network)["params"])
    assert names <= found
    assert not [name for name in found if "signal" in name or "place" in name]
    with_tokens = set(shapes(CONDITIONED, raw=RAW)["params"])
    assert {"decoder1_0_cross", "frames", "mix"} <= with_tokens
    assert not [name for name in with_tokens if "place" in name], "tokens of a text have no place on x"
