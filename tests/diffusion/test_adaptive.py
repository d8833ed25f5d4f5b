"""Check the adaptive solver: error against tolerance, independence of examples, and honesty when it gives up."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.diffusion import adaptive as module
from audiodiff.diffusion import grids
from audiodiff.diffusion.gaussians import Gaussian
from audiodiff.diffusion.processes import Edm, RectifiedFlow, VpCosine
from audiodiff.types import Level

SOLVE = jax.jit(
    lambda denoise, x, grid, tolerance: module.adaptive(
        denoise, x, grid, {}, rtol=tolerance, atol=tolerance, report=True
    )
)


def narrow_and_wide() -> Gaussian:
    return Gaussian(jnp.array([0.3, -0.2]), jnp.array([0.04, 1.5]))


@pytest.mark.parametrize(
    ("process", "last"),
    [(VpCosine(s=0.0), 0.02), (Edm(), 0.0), (RectifiedFlow(), 0.02)],
    ids=["zero_snr", "edm", "flow"],
)
def test_the_error_follows_the_tolerance(x64, process, last):
    grid = process.level(jnp.array([1.0, 0.5, last]))
    x = float(jnp.hypot(*grids.level_at(grid, 0))) * jnp.array([[0.3, -1.0], [1.2, 0.4], [-2.0, 0.1]])
    exact = narrow_and_wide().flow(x, grids.level_at(grid, 0), grids.level_at(grid, -1))
    errors, evaluations = [], []
    for tolerance in (1e-2, 1e-4, 1e-6):
        end, report = SOLVE(narrow_and_wide(), x, grid, tolerance)
        assert np.all(report.arrived)
        errors.append(float(jnp.max(jnp.abs(end - exact))))
        evaluations.append(int(jnp.max(report.evaluations)))
        assert errors[-1] < 20 * tolerance
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    # A third-order method needs about 100^(1/3) = 4.6 times the steps for a hundredth of the error.
    assert evaluations[0] < evaluations[1] < evaluations[2] < 8 * evaluations[1]


def test_to_a_clean_end_it_returns_the_estimate_of_the_level_before(x64):
    data, grid = narrow_and_wide(), grids.karras(6, 0.01, 20.0)
    x = 20.0 * jnp.array([[0.3, -1.0], [1.2, 0.4], [-2.0, 0.1]])
    end, _ = SOLVE(data, x, Level(grid.alpha[jnp.array([0, -2, -1])], grid.sigma[jnp.array([0, -2, -1])]), 1e-8)
    before = data.flow(x, grids.level_at(grid, 0), grids.level_at(grid, -2))
    level = Level(jnp.ones(3), jnp.full(3, 0.01))
    np.testing.assert_allclose(end, data(before, level, {}), atol=1e-6)


def test_an_example_does_not_depend_on_its_batch(x64):
    """Easy and hard examples pace themselves: each as if alone."""
    grid = Edm().level(jnp.array([1.0, 0.5, 0.0]))
    x = jnp.array([[1.0, 1.0], [100.0, -30.0], [-240.0, 3.0]])
    together, report = SOLVE(narrow_and_wide(), x, grid, 1e-4)
    assert len(set(np.asarray(report.evaluations).tolist())) > 1
    for i in range(3):
        alone, own = SOLVE(narrow_and_wide(), jnp.stack([x[i]] * 3), grid, 1e-4)
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-12)
        assert int(own.evaluations[0]) == int(report.evaluations[i])


def test_evaluations_are_counted_as_they_happen(x64):
    class Counted:
        calls = 0

        def __call__(self, x_t, level, conditions):
            Counted.calls += 1
            return narrow_and_wide()(x_t, level, conditions)

    with jax.disable_jit():
        _, report = module.adaptive(
            Counted(), jnp.ones((1, 2)), Edm().level(jnp.array([1.0, 0.0])), {}, rtol=0.1, atol=0.1, report=True
        )
    assert int(report.evaluations[0]) == Counted.calls


def test_one_that_does_not_arrive_is_nan():
    x, report = module.adaptive(
        Gaussian(jnp.zeros(1), jnp.ones(1)), jnp.ones((2, 1)), grids.karras(3), {}, rtol=1e-6, max_steps=2, report=True
    )
    assert not np.any(report.arrived) and np.all(np.isnan(x))
