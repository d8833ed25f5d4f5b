"""What a stage is told is the same array whoever made the audio, and its noise keeps mean and variance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff import dsp
from audiodiff.hierarchy.levels import PooledMel, PyramidLevel
from audiodiff.hierarchy.pyramid import Pyramid
from audiodiff.hierarchy.told import AddLevel, ConditionNoise, Raise, Told
from audiodiff.representations import Waveform

PYRAMID = Pyramid((2, 2), 32)
MEL = dsp.MelSpec(rate_hz=8000, stft=dsp.StftSpec(128, 32), bands=10, fmax_hz=4000.0, floor=1e-5)


quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""Compile in a third of the time: here compiling takes longest, and what runs is small."""
encode = quick(lambda level, audio: level.encode(audio))
decode = quick(lambda level, x, length: level.decode(x, None, length), static_argnums=2)


def tell(told, audio):
    return jax.jit(told)(audio)


def noise(*shape):
    return np.random.default_rng(0).normal(scale=0.3, size=shape).astype(np.float32)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


# --- what is told


def test_a_stage_is_told_the_level_of_a_clip_and_the_same_of_what_a_coarser_stage_made():
    level = PyramidLevel(PYRAMID, 0)
    told, audio = Told(level), noise(2, 128)
    x = tell(told, audio)
    np.testing.assert_allclose(x, encode(level, audio), atol=1e-7)
    assert x.shape == told.shape(2, 128) == (2, 32, 1)
    np.testing.assert_array_equal(told.of(x), x)
    np.testing.assert_allclose(tell(told, decode(level, x, 128)), x, atol=1e-6)


def test_a_level_of_the_whole_utterance_is_a_vector():
    level = PooledMel(MEL, 0)
    told, audio = Told(level, whole=True), noise(3, 200)
    x, vector = encode(level, audio), tell(told, audio)
    assert vector.shape == told.shape(3, 200) == (3, 10)
    np.testing.assert_allclose(vector, x[:, 0], rtol=1e-6)
    np.testing.assert_array_equal(told.of(x), x[:, 0])


@pytest.mark.parametrize("level, to", [(0, 1), (0, 2), (1, 2), (1, 1)])
def test_raising_is_the_pyramids_expansion_of_every_channel(level, to):
    signal = noise(2, PYRAMID.positions(level, 100), 3)
    raised = jax.jit(Raise(PYRAMID, level, to))(signal)
    assert raised.shape == (2, PYRAMID.positions(to, 100), 3)
    for channel in range(3):
        expanded = quick(Pyramid.expand, static_argnums=(0, 2, 3))(PYRAMID, signal[..., channel], level, to)
        np.testing.assert_allclose(raised[..., channel], expanded, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2])
def test_adding_the_level_that_was_told_completes_the_audio(channels):
    waveform = Waveform(preemphasis=0.5, channels=channels)
    below, details = PyramidLevel(PYRAMID, 1, (), waveform), PyramidLevel(PYRAMID, 2, (1,), waveform)
    audio = noise(2, 101, *([2] if channels == 2 else []))
    told = Told(below)
    alone = decode(details, encode(details, audio), 101)
    assert np.abs(alone - audio).max() > 0.1
    whole = jax.jit(AddLevel("coarse", told))(alone, {"coarse": tell(told, audio), "digit": jnp.zeros(2)})
    np.testing.assert_allclose(whole, audio, atol=2e-6)


# --- how noisy

NOISE = ConditionNoise("coarse", mean=1.5, std=0.4, largest=2.0)


@pytest.mark.parametrize("strength", [0.1, 1.0, 2.0])
def test_noise_keeps_mean_and_deviation_and_hides_as_much_as_it_says(strength):
    """The correlation with what is hidden is 1 / sqrt(1 + s^2)."""
    c = np.random.default_rng(1).normal(1.5, 0.4, (4, 5000, 2)).astype(np.float32)
    hidden = np.asarray(NOISE(keys(4), c, jnp.full(4, strength)))
    assert abs(hidden.mean() - 1.5) < 0.01
    assert abs(hidden.std() / 0.4 - 1) < 0.02
    assert abs(np.corrcoef(hidden.ravel(), c.ravel())[0, 1] - 1 / np.hypot(1, strength)) < 0.02


def test_no_noise_is_the_condition_itself_and_each_example_has_its_own_strength_and_key():
    c = noise(3, 50, 2)
    np.testing.assert_allclose(NOISE(keys(3), c, jnp.zeros(3)), c, atol=1e-6)
    mixed = np.asarray(NOISE(keys(3), c, jnp.array([0.0, 1.0, 1.0])))
    np.testing.assert_allclose(mixed[0], c[0], atol=1e-6)
    assert np.abs(mixed[1:] - c[1:]).max(axis=(1, 2)).min() > 0.1
    alone = NOISE(keys(3)[2:], c[2:], jnp.ones(1))
    np.testing.assert_allclose(mixed[2:], alone, atol=1e-6)
    same = np.asarray(NOISE(keys(2), np.stack([c[0], c[0]]), jnp.ones(2)))
    assert np.abs(same[0] - same[1]).max() > 0.1


def test_strengths_are_uniform_up_to_the_largest():
    drawn = np.sort(NOISE.draw(keys(4000)))
    assert drawn.shape == (4000,) and drawn[0] >= 0 and drawn[-1] <= 2.0
    np.testing.assert_allclose(drawn, np.linspace(0, 2, 4000), atol=0.06)  # Kolmogorov-Smirnov at 1e-3
    assert NOISE.strength == "coarse_noise"


@pytest.mark.parametrize("largest", [0.0, -1.0])
def test_no_noise_at_all_is_refused(largest):
    said = f"the noise of condition 'coarse' is at most {largest}: give more than 0, or none"
    with pytest.raises(ValueError, match=said):
        ConditionNoise("coarse", 0.0, 1.0, largest)
