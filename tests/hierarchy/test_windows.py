"""Windows that hear enough are as good as a Denoiser that hears everything, and know what lies beside them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.diffusion import grids, samplers
from audiodiff.diffusion.gaussians import Gaussian
from audiodiff.diffusion.guidance import ClassifierFree
from audiodiff.hierarchy.windows import Windowed
from audiodiff.types import Level

LEVEL = Level(jnp.ones(3), jnp.array([0.1, 1.0, 10.0]))


def noise(time, channels=1, batch=3):
    return jnp.asarray(np.random.default_rng(time).normal(size=(batch, time, channels)), jnp.float32)


def error(denoise, stationary, x):
    scale = LEVEL.sigma[:, None, None]
    return float(jnp.max(jnp.abs(denoise(scale * x, LEVEL, {}) - stationary(scale * x, LEVEL, {}))))


def test_the_estimate_becomes_the_joint_one_as_the_overlap_grows(stationary):
    """Ledger row 98: the exact Denoiser of a stationary Gaussian, in windows against all of it at once."""
    x = noise(151, channels=2)
    errors = [error(Windowed(stationary, 64, overlap), stationary, x) for overlap in (0, 8, 24, 48)]
    assert errors[0] > 0.2
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < 0.02 * errors[0]


def test_one_window_of_everything_changes_nothing(stationary):
    x = noise(40)
    np.testing.assert_allclose(
        Windowed(stationary, 40, 10)(x, LEVEL, {}), stationary(x, LEVEL, {}), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(("time", "window", "overlap"), [(151, 64, 24), (33, 7, 5), (32, 8, 0), (20, 19, 1)])
def test_together_and_one_by_one_are_the_same(stationary, time, window, overlap):
    x = noise(time, channels=2)
    one, all_ = (Windowed(stationary, window, overlap, together)(x, LEVEL, {}) for together in (False, True))
    np.testing.assert_allclose(one, all_, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("together", [False, True])
def test_a_denoiser_of_each_position_hears_no_windows(together):
    """The mean of equal estimates is the estimate, for spectra [batch, frame, bin, channel] too."""
    denoise, x = Gaussian(jnp.float32(0.5), jnp.float32(2.0)), noise(37)[..., None] * jnp.ones(4)
    np.testing.assert_allclose(
        Windowed(denoise, 9, 4, together)(x, LEVEL, {}), denoise(x, LEVEL, {}), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("together", [False, True])
def test_what_lies_beside_x_is_cut_along_and_the_rest_is_not(together):
    def beside(x, level, conditions):
        frames = jnp.repeat(conditions["frames"], 4, axis=1)
        tokens = conditions["tokens"].sum(axis=1)[:, None]
        return frames + 10 * conditions["signal"] + 100 * tokens + 1000 * conditions["global"][:, None]

    x = noise(40)
    given = {
        "frames": noise(10),
        "signal": noise(41)[:, :40],
        "tokens": noise(3),
        "global": jnp.arange(3.0)[:, None],
    }
    expected = beside(x, LEVEL, given)
    np.testing.assert_allclose(Windowed(beside, 16, 8, together)(x, LEVEL, given), expected, rtol=1e-5, atol=1e-4)
    with pytest.raises(ValueError, match="frames has 10 positions beside 40 of x.*multiples of 4"):
        Windowed(beside, 18, 8, together)(x, LEVEL, given)


def test_guidance_goes_around_windows():
    def towards(x, level, conditions):
        return x + conditions["global"][:, None]

    x, one = noise(30), jnp.ones((3, 1))
    for together in (False, True):
        guided = ClassifierFree(Windowed(towards, 10, 4, together), {"global": 0 * one}, 2.0)
        np.testing.assert_allclose(guided(x, LEVEL, {"global": one}), x + 2, rtol=1e-5)


def test_sampling_under_windows_is_sampling_under_the_whole(stationary):
    """Ledger row 98: an ODE solved with either ends at the same sound, and without an overlap it does not."""
    grid = grids.karras(12, sigma_min=0.02, sigma_max=30.0)
    x = 30 * noise(160)
    joint, windowed, apart = (
        samplers.dpmpp_2m(denoise, x, grid, {})
        for denoise in (stationary, Windowed(stationary, 64, 32), Windowed(stationary, 64, 0))
    )
    assert float(jnp.max(jnp.abs(windowed - joint))) < 0.03
    assert float(jnp.max(jnp.abs(apart - joint))) > 0.3


@pytest.mark.parametrize("together", [False, True])
def test_gradients_pass_through_windows(together):
    denoise, x = Gaussian(jnp.float32(0.5), jnp.float32(2.0)), noise(40)

    def total(denoise, x):
        return jnp.sum(denoise(x, LEVEL, {}) ** 2)

    np.testing.assert_allclose(
        jax.grad(total, 1)(Windowed(denoise, 13, 6, together), x), jax.grad(total, 1)(denoise, x), rtol=1e-4, atol=1e-6
    )


def test_windows_that_cannot_be_are_refused(stationary):
    with pytest.raises(ValueError, match="a window of 50 positions does not fit in 40"):
        Windowed(stationary, 50, 10)(noise(40), LEVEL, {})
    with pytest.raises(ValueError, match="an overlap of 8 positions leaves nothing new of a window of 8"):
        Windowed(stationary, 8, 8)(noise(40), LEVEL, {})
