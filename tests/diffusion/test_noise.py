"""Check that noise depends on an example's own key and on the level, and on nothing else."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.diffusion import grids, noise
from audiodiff.diffusion.processes import DDPM_1000, DiscreteVp, VpCosine, linear_betas
from audiodiff.types import Level


def test_an_example_depends_on_its_own_key_alone():
    keys = jax.random.split(jax.random.key(0), 5)
    many, few = noise.standard_normal(keys, (5, 4)), noise.standard_normal(keys[1:3], (2, 4))
    np.testing.assert_array_equal(many[1:3], few)
    assert len(np.unique(np.asarray(many))) == 20


def test_wrong_number_of_keys_is_refused():
    with pytest.raises(ValueError, match=r"pass one key, or \(3,\) keys"):
        noise.standard_normal(jax.random.split(jax.random.key(0), 2), (3, 4))


def test_initial_noise_does_not_see_the_step_count_and_has_the_variance_of_x_T():
    process = DiscreteVp.from_betas(linear_betas(1e-4, 0.02, 200))
    first = [
        noise.initial_noise(jax.random.key(3), (50_000, 1), grids.level_at(grids.uniform(process, n), 0), sigma_data=s)
        for n, s in ((5, 0.5), (50, 0.5), (5, 0.0))
    ]
    np.testing.assert_array_equal(first[0], first[1])
    alpha, sigma = process.level(jnp.ones(()))
    np.testing.assert_allclose(jnp.var(first[0]), (0.5 * alpha) ** 2 + sigma**2, rtol=0.03)
    np.testing.assert_allclose(jnp.var(first[2]), sigma**2, rtol=0.03)


def test_the_path_is_brownian():
    """E W(u)^2 = u and E W(u) W(v) = min(u, v), at places on a coarse, a fine and the last node of the tree."""
    full = 2**noise.PATH_DEPTH
    places = jnp.array([0, full // 4, full // 4 + 771, full - 1, full])
    path = jax.vmap(noise.brownian(jax.random.key(1), (40_000,)))(places)
    u = np.asarray(places) / full
    np.testing.assert_allclose(np.cov(path), np.minimum(u[:, None], u[None]), atol=0.03)
    np.testing.assert_allclose(path[-1], path[-2], atol=5 / full**0.5)


@pytest.mark.parametrize("gap", [1, 16, 512])
def test_the_path_is_as_rough_as_brownian_motion_at_every_scale(gap):
    """Var(W(v) - W(u)) = v - u, to six standard errors: the covariances above hardly feel the finest halvings."""
    path = noise.brownian(jax.random.key(2), (40_000,))
    places = 771 + gap * jnp.arange(2)
    start, end = jax.vmap(path)(places)
    np.testing.assert_allclose(np.var(end - start), gap / 2**noise.PATH_DEPTH, rtol=6 * (2 / 40_000) ** 0.5)


def test_a_level_has_one_place_whatever_the_grid():
    """To half of what the coarser grid resolves, a 64th of its even step."""
    process = VpCosine()
    coarse, fine = (noise.path_places(grids.uniform(process, n)) for n in (8, 64))
    assert np.abs(coarse - fine[::8]).max() <= 2**noise.PATH_DEPTH / 8 / 64
    assert int(coarse[0]) == 0 and int(coarse[-1]) == 2**noise.PATH_DEPTH


def test_a_coarse_grid_reads_the_path_of_a_fine_one_with_fewer_draws():
    key = jax.random.key(1)
    places = noise.path_places(grids.uniform(VpCosine(), 8))
    depth = noise.path_depth(8)
    assert depth < noise.PATH_DEPTH == noise.path_depth(1000)
    few, all_of_them = noise.brownian(key, (5,), depth=depth), noise.brownian(key, (5,))
    for place in places:
        np.testing.assert_allclose(few(place), all_of_them(place), atol=1e-6)
    assert np.abs(few(places[1] + 1) - all_of_them(places[1] + 1)).max() > 1e-4  # a place it does not resolve


def test_no_two_levels_share_a_place():
    table = DiscreteVp.from_betas(linear_betas(*DDPM_1000))
    assert np.all(np.diff(noise.path_places(grids.from_table(table, 1000))) > 0)
    same = Level(jnp.ones(4), jnp.array([1.0, 1.0, 1.0, 0.0]))
    apart = 2 ** (noise.PATH_DEPTH - noise.path_depth(3))
    assert np.all(np.diff(noise.path_places(same)[:3]) == apart)
    # Levels crowded at the clean end are moved back into the path instead of past its end.
    crowded = noise.path_places(Level(jnp.ones(5), jnp.array([1.0, 0.0, 0.0, 0.0, 0.0])))
    np.testing.assert_array_equal(np.diff(crowded[1:]), 2 ** (noise.PATH_DEPTH - noise.path_depth(4)))
    assert int(crowded[-1]) == 2**noise.PATH_DEPTH


def test_more_steps_than_places_are_refused():
    steps = 2**noise.PATH_DEPTH + 1
    with pytest.raises(ValueError, match=f"grid of {steps} steps.*at most {steps - 1} steps"):
        noise.path_places(Level(jnp.ones(steps + 1), jnp.linspace(1.0, 0.0, steps + 1)))
