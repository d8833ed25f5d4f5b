"""Check inpainting on correlated Gaussians, where the law of the missing part given the known one is closed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.diffusion import grids, samplers
from audiodiff.diffusion.editing import Inpaint, continuation, repaint
from audiodiff.diffusion.gaussians import Gaussian
from audiodiff.diffusion.noise import initial_noise
from audiodiff.diffusion.processes import RectifiedFlow, VpCosine

CORRELATION = 0.9


def correlated(x_t, level, conditions):
    """Denoise pairs of unit variance and correlation 0.9: independent along (1, 1) and (1, -1)."""
    turn = jnp.array([[1.0, 1.0], [1.0, -1.0]]) / 2**0.5
    return Gaussian(jnp.zeros(2), jnp.array([1 + CORRELATION, 1 - CORRELATION]))(x_t @ turn, level, {}) @ turn


@pytest.mark.parametrize("sampler", [samplers.heun, samplers.dpmpp_2m, samplers.ddpm], ids=lambda s: s.__name__)
def test_the_known_part_comes_back_and_keeps_its_noise_on_the_way(sampler):
    known, mask = jnp.array([[1.5, 0.0], [-0.5, 0.0]]), jnp.array([[1.0, 0.0]])
    grid = grids.uniform(RectifiedFlow(), 5, largest_t=0.9)
    edit = Inpaint(correlated, known, mask)
    x = edit.begin(initial_noise(jax.random.key(0), (2, 2), grids.level_at(grid, 0)), grids.level_at(grid, 0))
    end, passed = sampler(edit, x, grid, {}, jax.random.key(1), trajectory=True)
    np.testing.assert_allclose(end[:, 0], known[:, 0], rtol=1e-6)
    assert np.all(np.asarray(end[:, 1]) != 0)
    if sampler is not samplers.ddpm:
        eps = (passed.x_t[:-1, :, 0] - grid.alpha[:-1, None] * known[:, 0]) / grid.sigma[:-1, None]
        np.testing.assert_allclose(eps, jnp.broadcast_to(eps[0], eps.shape), rtol=1e-4, atol=1e-5)


def test_repeats_draw_the_missing_part_from_its_conditional_law():
    """Given a, b ~ N(0.9 a, 1 - 0.81): one take falls short of the slope, ten come near."""
    count, mask, grid = 2000, jnp.array([[1.0, 0.0]]), grids.uniform(VpCosine(), 60)
    a = np.random.default_rng(0).standard_normal(count)
    edit = Inpaint(jax.tree_util.Partial(correlated), jnp.stack([a, np.zeros(count)], axis=1), mask)
    start = grids.level_at(grid, 0)
    x = edit.begin(initial_noise(jax.random.key(0), (count, 2), start), start)
    run = jax.jit(
        lambda edit, x, grid, key, repeats: repaint(edit, x, grid, {}, key, repeats=repeats), static_argnums=4
    )
    slopes, left = [], []
    for repeats in (1, 10):
        b = np.asarray(run(edit, x, grid, jax.random.key(1), repeats))[:, 1]
        slopes.append(np.cov(a, b)[0, 1] / np.var(a))
        left.append(np.var(b - slopes[-1] * a))
    assert slopes[1] == pytest.approx(CORRELATION, abs=0.05)
    assert left[1] == pytest.approx(1 - CORRELATION**2, abs=0.06)
    assert abs(slopes[0] - CORRELATION) > 5 * abs(slopes[1] - CORRELATION)


def test_a_continuation_keeps_its_prompt():
    prompt = jnp.arange(6.0).reshape(1, 3, 2)
    known, mask = continuation(prompt, 5)
    assert known.shape == (1, 5, 2) and mask.shape == (1, 5, 1)
    np.testing.assert_array_equal(known[:, :3], prompt)
    np.testing.assert_array_equal(mask[0, :, 0], [1, 1, 1, 0, 0])
    denoise = Inpaint(lambda x, level, conditions: jnp.full_like(x, 9.0), known, mask)
    end = samplers.euler(denoise, jnp.zeros((1, 5, 2)), grids.karras(2), {})
    np.testing.assert_allclose(end, known + 9.0 * (1 - mask), rtol=1e-6)


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="the prompt has 3 samples and the result 3"):
        continuation(jnp.zeros((1, 3, 1)), 3)
    edit = Inpaint(correlated, jnp.zeros((1, 2)), jnp.zeros((1, 2)))
    with pytest.raises(ValueError, match="repeats is 0"):
        repaint(edit, jnp.zeros((1, 2)), grids.karras(2), {}, jax.random.key(0), repeats=0)
