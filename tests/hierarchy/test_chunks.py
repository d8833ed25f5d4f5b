"""Chunks follow each other as if all had been made at once, in the memory of one."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.diffusion import grids, samplers
from audiodiff.hierarchy.chunks import Follow, first_carry, next_chunk
from audiodiff.types import Level

GRID = grids.karras(12, sigma_min=0.02, sigma_max=30.0)
WINDOW, OVERLAP = 48, 32


@functools.partial(jax.jit, static_argnames=("sampler", "window", "overlap", "count"))
def chain(sampler, denoise, keys, window=WINDOW, overlap=OVERLAP, count=4):
    """Return x [batch, count * hop + overlap, 2] of so many chunks, by one scan."""
    carry = first_carry((len(keys), window, 2), overlap, GRID)

    def one(carry, _):
        done, left = next_chunk(sampler, denoise, carry, window - overlap, keys, GRID, {})
        return left, done

    carry, done = jax.lax.scan(one, carry, None, length=count)
    return jnp.concatenate([jnp.moveaxis(done, 0, 1).reshape(len(keys), -1, 2), carry.end], axis=1)


def only_noise(denoise, x, grid, conditions, key, trajectory):
    """Return x as it is: a chain of these is the noise by position."""
    return x, samplers.Trajectory(x[None], jnp.broadcast_to(x, (grid.sigma.shape[0] - 1, *x.shape)))


def keys(batch=2):
    return jax.random.split(jax.random.key(0), batch)


def test_chunks_become_the_joint_sample_as_the_overlap_grows(stationary):
    """Ledger row 98: from the same noise, the exact Denoiser of a chunk against that of all at once."""
    errors = []
    for overlap in (0, 12, 32):
        options = {"overlap": overlap, "count": 192 // (WINDOW - overlap)}
        x = chain(only_noise, stationary, keys(20), **options)
        joint = samplers.dpmpp_2m(stationary, x, GRID, {})
        made = chain(samplers.dpmpp_2m, stationary, keys(20), **options)
        errors.append(float(jnp.sqrt(jnp.mean((made - joint) ** 2))))
    assert errors[0] > 0.1
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.2 * errors[0]


def test_neighbours_across_a_border_correlate_as_they_should_and_without_an_overlap_do_not(stationary):
    """Ledger row 98: samples 1 apart correlate by exp(-1/4) at a border; those of the twin do not at all."""
    for overlap, expected in ((OVERLAP, float(stationary.covariance(2)[0, 1])), (0, 0.0)):
        x = np.asarray(chain(samplers.dpmpp_2m, stationary, keys(4000), overlap=overlap, count=2))
        border = WINDOW - overlap
        found = np.corrcoef(x[:, border - 1].ravel(), x[:, border].ravel())[0, 1]
        assert found == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("sampler", [samplers.dpmpp_2m, samplers.heun, samplers.dpmpp_2m_sde])
def test_a_chunk_does_not_depend_on_how_many_follow(stationary, sampler):
    """Ledger row 98: two chunks are the beginning of five, bit by bit."""
    two, five = (chain(sampler, stationary, keys(), count=count) for count in (2, 5))
    final = 2 * (WINDOW - OVERLAP)
    np.testing.assert_array_equal(two[:, :final], five[:, :final])
    assert five.shape == (2, 5 * (WINDOW - OVERLAP) + OVERLAP, 2)
    assert float(jnp.std(five)) > 0.5


@pytest.mark.parametrize("sampler", [samplers.dpmpp_2m, samplers.dpmpp_2m_sde])
def test_a_chunk_begins_on_the_path_of_the_one_before(stationary, sampler):
    """Where a chunk takes over it differs from what its predecessor would have said by a small part of itself."""
    batch = keys(20)
    carry = first_carry((20, WINDOW, 2), OVERLAP, GRID)
    step = functools.partial(next_chunk, sampler, stationary, hop_positions=WINDOW - OVERLAP)
    _, before = step(carry, keys=batch, grid=GRID, conditions={})
    done, _ = step(before, keys=batch, grid=GRID, conditions={})
    apart = np.sqrt(np.mean(np.square(before.end[:, : done.shape[1]] - done), axis=(0, 2)))
    assert apart[0] < 0.02
    assert int(before.number) == 1


def test_noise_belongs_to_its_place(stationary):
    """Two chunks have the same where they overlap, and no two places have the same."""
    carry = first_carry((1, WINDOW, 2), OVERLAP, GRID)
    step = functools.partial(next_chunk, only_noise, stationary, hop_positions=WINDOW - OVERLAP)
    first, before = step(carry, keys=keys(1), grid=GRID, conditions={})
    second, _ = step(before, keys=keys(1), grid=GRID, conditions={})
    np.testing.assert_array_equal(second, before.end[:, : WINDOW - OVERLAP])
    x = np.asarray(chain(only_noise, stationary, keys(1), count=30)) / 30
    assert len(np.unique(x)) > 0.99 * x.size
    assert np.std(x) == pytest.approx(1, abs=0.1)


def test_batches_do_not_mix(stationary):
    both, second = chain(samplers.dpmpp_2m, stationary, keys()), chain(samplers.dpmpp_2m, stationary, keys()[1:])
    np.testing.assert_allclose(both[1:], second, rtol=1e-4, atol=1e-4)


def test_memory_does_not_grow_with_the_number_of_chunks(stationary):
    """Ledger row 98: what the program needs beside its result is the same for 4 chunks and for 400."""
    sizes = [
        chain.lower(samplers.dpmpp_2m, stationary, keys(), count=count).compile().memory_analysis()
        for count in (4, 400)
    ]
    grown = sizes[1].output_size_in_bytes - sizes[0].output_size_in_bytes
    assert grown == 396 * (WINDOW - OVERLAP) * 2 * 2 * 4
    # The chunks themselves, before the last overlap is put behind them, are a second copy of the result.
    assert sizes[1].temp_size_in_bytes - sizes[0].temp_size_in_bytes <= 2 * grown


def test_following_fades_from_one_estimate_to_the_other_at_the_level_asked():
    estimates = jnp.arange(12.0)[:, None, None, None] * jnp.ones((12, 2, 3, 1))
    follow = Follow(lambda x, level, conditions: jnp.full_like(x, -1.0), GRID, estimates, jnp.array([1.0, 0.5, 0.0]))
    level = Level(GRID.alpha[jnp.array([4, 7])], GRID.sigma[jnp.array([4, 7])] * 1.01)
    x0 = follow(jnp.zeros((2, 5, 1)), level, {})[..., 0]
    np.testing.assert_allclose(x0, [[4, 1.5, -1, -1, -1], [7, 3, -1, -1, -1]])


def test_an_overlap_that_leaves_nothing_new_is_refused():
    with pytest.raises(ValueError, match="an overlap of 8 positions leaves nothing new of a window of 8: give 0 to 7"):
        first_carry((2, 8, 1), 8, GRID)
