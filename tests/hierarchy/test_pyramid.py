"""Hold the pyramid against its identities: what is analysed comes back, levels nest, details are orthogonal."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff import dsp
from audiodiff.hierarchy.pyramid import Pyramid

DEPTHS = [(2,), (4,), (2, 2), (4, 2, 2), (2, 3, 2, 2)]
"""Depths 1 to 4, with factors that are no powers of two."""


def pyramid(factors, **options):
    return Pyramid(factors, **{"frame_samples": 96, **options})


def noise(*shape, dtype=np.float32):
    return np.random.default_rng(0).normal(scale=0.3, size=shape).astype(dtype)


def energy(x):
    return np.square(x).sum(axis=-1)


quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""Compile in a third of the time: here compiling takes longest, and what runs is small."""
reduce = quick(Pyramid.reduce, static_argnums=(0, 2))
expand = quick(Pyramid.expand, static_argnums=(0, 2, 3))
details_of = quick(Pyramid.details, static_argnums=(0, 2))
complete = quick(Pyramid.complete, static_argnums=(0, 3))


@functools.partial(quick, static_argnums=(0, 2))
def there_and_back(pyramid, x, length):
    parts = pyramid.analyse(x)
    levels = tuple(pyramid.reduce(x, level) for level in range(pyramid.top + 1))
    return parts, levels, pyramid.synthesise(parts, length)


@pytest.mark.parametrize(
    "factors, length, window",
    [
        *((factors, 1001, "vorbis") for factors in DEPTHS),
        ((2, 3, 2, 2), 1, "vorbis"),  # less than a hop
        ((2, 3, 2, 2), 95, "sine"),
        ((4, 2, 2), 95, "kbd"),
    ],
)
def test_a_clip_comes_back_and_every_level_has_the_energy_of_the_one_below_and_its_details(factors, length, window):
    """|S_{l+1}|^2 = |S_l|^2 + |D_{l+1}|^2, and the parts of an odd clip synthesise it below 1e-6 of its peak."""
    one, x = pyramid(factors, window=window), noise(2, length)
    parts, levels, back = there_and_back(one, x, length)
    np.testing.assert_allclose(back, x, rtol=0, atol=1e-6 * np.abs(x).max())
    assert sum(part[0].size for part in parts) == one.positions(one.top, length) == -(-length // 48) * 48
    np.testing.assert_array_equal(levels[0], parts[0])
    np.testing.assert_array_equal(levels[-1], np.pad(x, ((0, 0), (0, -length % 48))))
    for level in range(1, one.top + 1):
        details = parts[level].reshape(2, -1)
        assert levels[level].shape[-1] == one.positions(level, length)
        assert parts[level].shape[1:] == (factors[level - 1] - 1, one.positions(level - 1, length))
        np.testing.assert_allclose(energy(levels[level]), energy(levels[level - 1]) + energy(details), rtol=1e-5)


@pytest.mark.parametrize("factors", [(2,), (2, 2, 2, 2, 2), (4, 2, 2, 2)])
def test_two_seconds_of_full_scale_come_back_at_any_depth(factors):
    """A tone and clipped noise, of the least crest factors: the error grows with the deviation, and not with depth."""
    one, tone = Pyramid(factors), np.sin(2 * np.pi * 440 / 8000 * np.arange(16001))
    x = np.stack([tone, np.clip(noise(16001) * 3, -1, 1)]).astype(np.float32)
    _, _, back = there_and_back(one, x, 16001)
    np.testing.assert_allclose(back, x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("factors", DEPTHS)
def test_reducing_what_was_expanded_gives_it_again_and_expanding_adds_no_energy(factors):
    one = pyramid(factors)
    for level in range(one.top):
        s = noise(2, one.positions(level, 200))
        audio = expand(one, s, level)
        np.testing.assert_allclose(reduce(one, audio, level), s, atol=1e-6)
        np.testing.assert_allclose(energy(audio), energy(s), rtol=1e-5)


def test_levels_are_what_splitting_step_by_step_gives():
    """A level and its details are the bands of the clip, and of the level above: the two agree exactly."""
    one, x = pyramid((3, 2, 2)), noise(1001)
    for level, bands in ((1, 3), (2, 2)):
        signal = reduce(one, x, level)
        by_steps = jax.jit(dsp.split_bands, static_argnums=(1, 2))(signal, bands, one.spec(level))
        np.testing.assert_allclose(by_steps[0], reduce(one, x, level - 1), atol=1e-6)
        np.testing.assert_allclose(by_steps[1:], details_of(one, x, level), atol=1e-6)
        np.testing.assert_allclose(complete(one, by_steps[0], by_steps[1:], level), signal, atol=1e-6)


def test_expanding_in_two_steps_is_expanding_in_one():
    one = pyramid((2, 2, 3))
    s = noise(2, one.positions(0, 500))
    by_steps = expand(one, expand(one, s, 0, 1), 1, 2)
    np.testing.assert_allclose(by_steps, expand(one, s, 0, 2), atol=1e-6)
    np.testing.assert_allclose(expand(one, by_steps, 2), expand(one, s, 0), atol=1e-6)
    np.testing.assert_array_equal(one.expand(s, 1, 1), s)


def test_expanding_is_the_transpose_of_reducing():
    one = pyramid((2, 3))
    x, s = noise(96), noise(one.positions(0, 96))
    (transposed,) = quick(jax.linear_transpose(lambda audio: one.reduce(audio, 0), jnp.asarray(x)))(jnp.asarray(s))
    np.testing.assert_allclose(expand(one, s, 0), transposed, atol=1e-6)


def test_completing_by_fewer_details_leaves_the_highest_bands_silent():
    one, x = pyramid((4, 2)), noise(2, 480)
    below, details = reduce(one, x, 0), np.array(details_of(one, x, 1))
    fewer = complete(one, below, details[:, :1], 1)
    details[:, 1:] = 0
    np.testing.assert_allclose(fewer, complete(one, below, details, 1), atol=1e-6)
    np.testing.assert_allclose(complete(one, below, details[:, :0], 1), expand(one, below, 0, 1), atol=1e-6)


def test_white_noise_is_white_noise_of_the_same_deviation_at_every_level():
    one, x = Pyramid((2, 2, 2)), noise(2**16)
    for level in range(one.top):
        s = np.asarray(reduce(one, x, level))
        assert abs(s.std() / 0.3 - 1) < 0.02
        assert abs(np.corrcoef(s[:-1], s[1:])[0, 1]) < 0.04
        assert abs(np.asarray(details_of(one, x, level + 1)).std() / 0.3 - 1) < 0.02


def test_float64_stays_float64():
    with jax.enable_x64(True):
        one, x = pyramid((2, 2, 3)), noise(201, dtype=np.float64)
        parts, _, back = there_and_back(one, x, 201)
    assert {part.dtype for part in parts} == {back.dtype} == {np.dtype(np.float64)}
    np.testing.assert_allclose(back, x, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "factors, frame_samples, said",
    [
        ((), 96, r"factors is \(\): give one number for each step between levels, at least 2"),
        ((2, 1), 96, r"factors is \(2, 1\): give one number"),
        ((2, 5), 96, "10 times apart in all, and a frame has 96 samples: give frame_samples as a multiple of 20"),
        ((2,), 95, "frame_samples is 95; it must be even"),
    ],
)
def test_a_pyramid_that_cannot_be_is_refused(factors, frame_samples, said):
    with pytest.raises(ValueError, match=said):
        Pyramid(factors, frame_samples)


def test_levels_that_there_are_not_are_refused():
    one = pyramid((2, 2))
    for level in (-1, 3):
        with pytest.raises(ValueError, match=rf"level {level} is not one of 0 to 2, the levels of factors \(2, 2\)"):
            one.reduce(noise(96), level)
    with pytest.raises(ValueError, match="level 2 is finer than level 1: a signal is brought up, never down"):
        one.expand(noise(96), 2, 1)
    for call in (one.details, one.split):
        with pytest.raises(ValueError, match="level 0 is the coarsest and has no details: ask for those of level 1"):
            call(noise(96), 0)
    with pytest.raises(ValueError, match="level 1 has 2 bands and 3 are given: give its lowest ones"):
        one.join(noise(3, 24), 1)
