"""Check flow matching: its regression target, its exact field, and that reflow straightens it (ledger 26)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.diffusion import grids, samplers
from audiodiff.diffusion.gaussians import Gaussian
from audiodiff.diffusion.noise import initial_noise
from audiodiff.diffusion.parameterisations import VELOCITY, X0, convert, target
from audiodiff.diffusion.processes import RectifiedFlow, mix, velocity
from audiodiff.types import Level

FLOW = RectifiedFlow()
MEAN, VARIANCE = 0.5, 0.09


def regression(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return slope and intercept of the least-squares line."""
    slope = np.cov(x, y)[0, 1] / np.var(x, ddof=1)
    return slope, np.mean(y) - slope * np.mean(x)


def test_the_regression_target_is_the_velocity_of_the_path(x64):
    x0, eps, t = jnp.array([[0.2], [0.9]]), jnp.array([[-1.0], [0.4]]), jnp.array([0.2, 0.7])
    np.testing.assert_allclose(target(VELOCITY, x0, eps, FLOW.level(t), 0.3), velocity(FLOW, x0, eps, t), rtol=1e-12)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_target_regresses_to_the_exact_gaussian_field(x64, t):
    """E[eps - x0 | x_t] is linear for Gaussian data: least squares on samples finds the field of the exact Denoiser."""
    rng, count = np.random.default_rng(0), 200_000
    x0, eps = MEAN + VARIANCE**0.5 * rng.standard_normal(count), rng.standard_normal(count)
    level = FLOW.level(jnp.full(1, t))
    slope, intercept = regression(np.asarray(mix(level, x0[None], eps[None]))[0], eps - x0)
    points, two = jnp.array([[0.0], [1.0]]), FLOW.level(jnp.full(2, t))
    data = Gaussian(jnp.full(1, MEAN), jnp.full(1, VARIANCE))
    field = convert(X0, VELOCITY, data(points, two, {}), points, two, 0.3)[:, 0]
    assert intercept == pytest.approx(float(field[0]), abs=0.02)
    assert slope == pytest.approx(float(field[1] - field[0]), abs=0.02)


def test_one_euler_step_is_exact_for_a_point(x64):
    data, x = Gaussian(jnp.full(1, 0.7), jnp.zeros(1)), jnp.array([[1.3], [-0.2]])
    np.testing.assert_allclose(samplers.euler(data, x, grids.uniform(FLOW, 1), {}), 0.7, rtol=1e-14)


def reflowed(x0: np.ndarray, eps: np.ndarray, grid: Level):
    """Fit E[x0 | x_t] on pairs, level by level: the rectified Denoiser of a coupling that is jointly Gaussian."""
    lines = jnp.asarray([regression((1 - t) * x0 + t * eps, x0) for t in np.asarray(grid.sigma[:-1])])

    def denoise(x_t, level, conditions):
        index = jnp.argmin(jnp.abs(grid.sigma[:-1] - level.sigma[0]))
        return lines[index, 0] * x_t + lines[index, 1]

    return denoise


def test_reflow_straightens_and_then_one_step_is_exact(x64):
    """Couple noise to what the ODE makes of it and regress again: paths become lines (Liu et al. 2023, theorem 3.6)."""

    data, grid = Gaussian(jnp.full(1, MEAN), jnp.full(1, VARIANCE)), grids.uniform(FLOW, 64)
    eps = initial_noise(jax.random.key(0), (400, 1), grids.level_at(grid, 0), dtype=jnp.float64)
    x0, passed = samplers.heun(data, eps, grid, {}, trajectory=True)
    before = float(jnp.mean(samplers.straightness(passed, grid)))

    again = reflowed(np.asarray(x0)[:, 0], np.asarray(eps)[:, 0], grid)
    x0_again, passed = samplers.euler(again, eps, grid, {}, trajectory=True)
    after = float(jnp.mean(samplers.straightness(passed, grid)))
    assert before > 0.05 and after < 1e-6 * before
    np.testing.assert_allclose(x0_again, x0, atol=1e-6)
    one_step = samplers.euler(again, eps, Level(grid.alpha[jnp.array([0, -1])], grid.sigma[jnp.array([0, -1])]), {})
    np.testing.assert_allclose(one_step, x0, atol=1e-6)
