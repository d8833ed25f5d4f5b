"""Check level distributions against scipy's quantiles, and that stratification covers every stratum once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from audiodiff.diffusion import levels
from audiodiff.diffusion.processes import Edm, RectifiedFlow, VpCosine, VpCrash

U = np.array([0.001, 0.2, 0.5, 0.77, 0.999])


def ratio(level):
    return np.asarray(level.sigma / level.alpha)


@pytest.mark.parametrize("process", [Edm(), VpCosine(), RectifiedFlow()], ids=["edm", "vp", "flow"])
def test_log_normal_has_its_quantiles_on_every_curve(x64, process):
    level = levels.LogNormal(-1.2, 1.2, process)(jnp.asarray(U))
    np.testing.assert_allclose(ratio(level), scipy.stats.lognorm(1.2, scale=np.exp(-1.2)).ppf(U), rtol=1e-7)
    np.testing.assert_allclose(process.on_curve(level).alpha, level.alpha, rtol=1e-12)


def test_log_uniform_and_logit_normal_have_their_quantiles(x64):
    level = levels.LogUniform(0.01, 20.0)(jnp.asarray(U))
    np.testing.assert_allclose(ratio(level), scipy.stats.loguniform(0.01, 20.0).ppf(U), rtol=1e-10)
    t = levels.LogitNormal(0.3, 0.8)(jnp.asarray(U)).sigma
    np.testing.assert_allclose(np.log(t / (1 - t)), scipy.stats.norm(0.3, 0.8).ppf(U), rtol=1e-6, atol=1e-9)


def test_logit_normal_on_a_flow_is_log_normal(x64):
    flow, edm = levels.LogitNormal(0.3, 0.8)(jnp.asarray(U)), levels.LogNormal(0.3, 0.8)(jnp.asarray(U))
    np.testing.assert_allclose(ratio(flow), ratio(edm), rtol=1e-10)


def test_uniform_time_over_crash_is_dance_diffusion_s_schedule(x64):
    """sigma = sin^2(pi t / 2) and alpha = sqrt(1 - sigma^2), at t = 1/2 and over a range."""
    level = levels.UniformTime(VpCrash())(jnp.asarray([0.5]))
    np.testing.assert_allclose(jnp.concatenate(level), [0.75**0.5, 0.5], rtol=1e-12)
    level = levels.UniformTime(VpCrash(), 0.2, 0.8)(jnp.asarray(U))
    np.testing.assert_allclose(level.sigma, np.sin((0.2 + 0.6 * U) * np.pi / 2) ** 2, rtol=1e-12)
    np.testing.assert_allclose(level.alpha**2 + level.sigma**2, 1, rtol=1e-12)


def test_every_stratum_is_visited_once_a_step_from_any_device():
    draw = jnp.arange(5 * 16, 6 * 16)
    u = levels.stratified_uniform(jax.random.key(0), draw, 16)
    np.testing.assert_array_equal(np.sort(np.floor(np.asarray(u) * 16)), np.arange(16))
    np.testing.assert_allclose(np.diff(np.asarray(u)), 1 / 16, atol=1e-6)
    halves = [levels.stratified_uniform(jax.random.key(0), part, 16) for part in (draw[:8], draw[8:])]
    np.testing.assert_array_equal(jnp.concatenate(halves), u)


def test_stratified_numbers_are_uniform_over_steps():
    u = jax.vmap(lambda key: levels.stratified_uniform(key, jnp.array([3]), 8))(
        jax.random.split(jax.random.key(1), 4000)
    )
    assert scipy.stats.kstest(np.asarray(u).ravel() * 8 - 3, "uniform").pvalue > 1e-3


def test_uniform_is_open_and_depends_on_each_key_alone():
    keys = jax.random.split(jax.random.key(0), 4000)
    u = np.asarray(levels.uniform(keys))
    np.testing.assert_array_equal(levels.uniform(keys[7:9]), u[7:9])
    assert scipy.stats.kstest(u, "uniform").pvalue > 1e-3
    ends = levels._open(jnp.array([0.0, 1.0]))
    assert float(ends[0]) > 0 and float(ends[1]) < 1 and np.all(np.isfinite(levels.LogNormal()(ends).sigma))


def test_no_strata_is_refused():
    with pytest.raises(ValueError, match="strata is 0 but must be at least 1"):
        levels.stratified_uniform(jax.random.key(0), jnp.arange(3), 0)
