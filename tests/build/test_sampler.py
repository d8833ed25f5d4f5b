"""Every sampler builds by its name; the same choice is the same object, which jit keeps its program by."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.build.choices import ConfigError
from audiodiff.build.process import make_grid, make_process
from audiodiff.build.sampler import SAMPLERS, make_sampler

CLIP = jnp.array([[0.3, -0.7, 0.1]])


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_ends_at_the_only_clip_there_is(name):
    """Where all data are one clip its denoiser always says that clip, and so must every sampler in the end."""
    grid = make_grid({"name": "karras", "sigma_min": 0.01, "sigma_max": 2.0}, make_process({"name": "edm"}), 1.0, 3)
    x = jax.random.normal(jax.random.key(0), CLIP.shape) * grid.sigma[0]
    end = make_sampler({"name": name})(lambda x, level, conditions: CLIP + 0 * x, x, grid, {}, jax.random.key(1))
    np.testing.assert_allclose(end, CLIP, atol=2e-3 if name == "adaptive" else 1e-6)


def test_the_same_choice_is_the_same_object():
    once, again = (make_sampler({"name": "ddim", "eta": 0.5}) for _ in range(2))
    assert once is again and hash(once) == hash(again)
    assert make_sampler({"name": "ddim", "eta": 0.6}) is not once
    assert make_sampler({"name": "ddim"}) is not make_sampler({"name": "euler"})


def test_options_reach_the_sampler():
    grid = make_grid({"name": "karras", "sigma_min": 0.1, "sigma_max": 2.0}, make_process({"name": "edm"}), 1.0, 3)
    x = jax.random.normal(jax.random.key(0), CLIP.shape) * grid.sigma[0]

    def end(**given):
        # An estimate that depends on x_t, so that noise on the way is not forgotten.
        return make_sampler({"name": "ddim", **given})(lambda x, *_: 0.5 * x, x, grid, {}, jax.random.key(1))

    np.testing.assert_array_equal(end(), end(eta=0.0))
    assert np.abs(end(eta=1.0) - end(eta=0.0)).max() > 1e-3


def test_wrong_names_and_options_are_told_with_the_nearest():
    with pytest.raises(ConfigError, match="unknown sampler 'dpmpp2m'; choose one of dpmpp_2m, "):
        make_sampler({"name": "dpmpp2m"})
    with pytest.raises(ConfigError, match="sampler 'edm_stochastic' takes no 'churn'; it takes s_churn, "):
        make_sampler({"name": "edm_stochastic", "churn": 3})
