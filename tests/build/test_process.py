"""Processes, levels, weightings and grids by name: each is what its name says, in units of sigma_data where due."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.build import process as build
from audiodiff.build.choices import ConfigError
from audiodiff.diffusion.parameterisations import PARAMETERISATIONS, precondition, solve, target
from audiodiff.types import Level

EDM = build.make_process({"name": "edm"})
COSINE = build.make_process({"name": "vp_cosine"})
TABLE = build.make_process({"name": "vp_table"})
GRID_OPTIONS = {
    "karras": {"sigma_min": 0.01, "sigma_max": 20.0},
    "uniform_logsnr": {"logsnr_min": -8.0, "logsnr_max": 8.0},
}
LEVEL_OPTIONS = {"log_normal": {"mean": -0.5, "std": 1.2}, "log_uniform": {"sigma_min": 0.01, "sigma_max": 20.0}}
S = 0.05  # a sigma_data of speech


def ratio(level: Level) -> np.ndarray:
    return np.asarray(level.sigma, np.float64) / np.asarray(level.alpha, np.float64)


@pytest.mark.parametrize("name", build.PROCESSES)
def test_every_process_goes_from_data_to_noise(name):
    process = build.make_process({"name": name})
    level = process.level(jnp.linspace(0, 1, 9))
    assert np.all(np.diff(ratio(Level(level.alpha[:-1], level.sigma[:-1]))) > 0), "noisier as t grows"
    np.testing.assert_allclose(level.alpha[0], 1, atol=1e-6)
    assert level.sigma[0] <= 0.002
    if name.startswith("vp"):
        np.testing.assert_allclose(level.alpha**2 + level.sigma**2, 1, rtol=1e-5)


@pytest.mark.parametrize("name", build.PROCESSES)
def test_shift_multiplies_the_noise_at_every_time_and_stays_on_the_curve(name):
    plain, shifted = build.make_process({"name": name}), build.make_process({"name": name, "shift": 3.0})
    t = jnp.linspace(0.1, 0.9, 5)
    np.testing.assert_allclose(ratio(shifted.level(t)), 3 * ratio(plain.level(t)), rtol=1e-4)
    np.testing.assert_allclose(plain.on_curve(shifted.level(t)), shifted.level(t), rtol=1e-4)


def test_beta_tables_are_the_papers():
    """DiffWave leaves 36 % of the amplitude of a clip at its last step, and with zero terminal SNR nothing."""
    np.testing.assert_allclose(TABLE.alpha(jnp.ones(())), 0.36, atol=0.005)
    assert TABLE.steps == 200
    zero = build.make_process({"name": "vp_table", "table": "ddpm1000", "zero_terminal": True})
    assert zero.steps == 1000 and zero.alpha(jnp.ones(())) == 0


@pytest.mark.parametrize("name", PARAMETERISATIONS)
def test_every_parameterisation_gives_back_what_it_was_made_of(name):
    kind = build.make_parameterisation(name)
    x0, eps = jax.random.normal(jax.random.key(0), (2, 2, 5))
    level = COSINE.level(jnp.array([0.3, 0.7]))
    x_t = level.alpha[:, None] * x0 + level.sigma[:, None] * eps
    found = solve(kind, target(kind, x0, eps, level, S), x_t, level, S)
    np.testing.assert_allclose(found[0], x0, atol=1e-4)
    np.testing.assert_allclose(found[1], eps, atol=1e-4)


@pytest.mark.parametrize("name", build.WEIGHTINGS)
@pytest.mark.parametrize("kind", ["eps", "v"])
def test_every_weighting_is_a_positive_number_an_example(name, kind):
    weight = build.make_weighting({"name": name}, build.make_parameterisation(kind))
    values = weight(COSINE.level(jnp.array([0.1, 0.5, 0.9])), S)
    assert values.shape == (3,) and np.all(np.asarray(values) > 0) and np.all(np.isfinite(values))


@pytest.mark.parametrize("kind", PARAMETERISATIONS)
def test_uniform_weighs_the_network_output_evenly_and_edm_does_so_under_its_own_parameterisation(kind):
    level = COSINE.level(jnp.array([0.1, 0.5, 0.9]))
    parameterisation = build.make_parameterisation(kind)
    uniform = build.make_weighting({"name": "uniform"}, parameterisation)
    np.testing.assert_allclose(uniform(level, S) * precondition(parameterisation, level, S).c_out ** 2, 1, rtol=1e-4)
    edm = build.make_weighting({"name": "edm"}, parameterisation)
    own = precondition(build.make_parameterisation("edm"), level, S).c_out
    np.testing.assert_allclose(edm(level, S) * own**2, 1, rtol=1e-4)


@pytest.mark.parametrize("process", [EDM, COSINE])
@pytest.mark.parametrize("name", build.LEVELS)
def test_every_level_distribution_is_noisier_as_u_grows_and_on_the_curve(name, process):
    levels = build.make_levels({"name": name, **LEVEL_OPTIONS.get(name, {})}, process, S)
    level = levels(jnp.linspace(0.05, 0.95, 7))
    assert np.all(np.diff(ratio(level)) > 0)
    np.testing.assert_allclose(process.on_curve(level), level, rtol=1e-5)


@pytest.mark.parametrize("sigma_data", [0.5, S])
def test_log_normal_is_relative_to_sigma_data(sigma_data):
    """At sigma_data = 0.5 a mean of -0.507 is the P_mean = -1.2 of Karras et al.; the spread is std at any scale."""
    levels = build.make_levels({"name": "log_normal", "mean": -0.507, "std": 1.2}, EDM, sigma_data)
    log = np.log(ratio(levels((jnp.arange(4000) + 0.5) / 4000)))
    np.testing.assert_allclose(log.mean(), -1.2 + np.log(sigma_data / 0.5), atol=2e-3)
    np.testing.assert_allclose(log.std(), 1.2, atol=5e-3)


def test_log_uniform_is_relative_to_sigma_data():
    levels = build.make_levels({"name": "log_uniform", "sigma_min": 0.1, "sigma_max": 10.0}, COSINE, S)
    np.testing.assert_allclose(ratio(levels(jnp.array([0.0, 0.5, 1.0]))), S * np.array([0.1, 1, 10]), rtol=1e-5)


@pytest.mark.parametrize("name", build.GRIDS)
def test_every_grid_falls_to_clean_data_in_as_many_steps_as_asked(name):
    process = TABLE if name == "table" else COSINE
    grid = build.make_grid({"name": name, **GRID_OPTIONS.get(name, {})}, process, S, 6)
    assert grid.alpha.shape == grid.sigma.shape == (7,)
    assert grid.alpha[-1] == 1 and grid.sigma[-1] == 0
    assert np.all(np.diff(np.arctan2(np.asarray(grid.sigma), np.asarray(grid.alpha))) < 0)
    np.testing.assert_allclose(process.on_curve(grid), grid, rtol=1e-5, atol=1e-7)


def test_grids_begin_where_they_say():
    karras = build.make_grid({"name": "karras", **GRID_OPTIONS["karras"]}, COSINE, S, 6)
    np.testing.assert_allclose(ratio(karras)[[0, -2]], [20.0 * S, 0.01 * S], rtol=1e-4)
    logsnr = build.make_grid({"name": "uniform_logsnr", **GRID_OPTIONS["uniform_logsnr"]}, COSINE, S, 6)
    np.testing.assert_allclose(-2 * np.log(ratio(logsnr)[[0, -2]]), [-8, 8], rtol=1e-4)
    for name in ("uniform_time", "cosine"):
        grid = build.make_grid({"name": name, "largest_t": 0.9}, COSINE, S, 6)
        np.testing.assert_allclose([grid.alpha[0], grid.sigma[0]], COSINE.level(jnp.array(0.9)), rtol=1e-5)
    last = build.make_grid({"name": "table"}, TABLE, S, 6)
    np.testing.assert_allclose(last.alpha[0], TABLE.alpha(jnp.ones(())), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: build.make_process({"name": "vp_cosin"}), "unknown process 'vp_cosin'; choose one of vp_cosine, "),
        (lambda: build.make_process({"name": "edm", "shift": 0.0}), "shift 0.0: give a number above 0"),
        (lambda: build.make_process({"name": "vp_table", "table": "diffwave20"}), "choose one of diffwave200, "),
        (lambda: build.make_parameterisation("velocty"), "choose one of velocity, "),
        (lambda: build.make_weighting({"name": "minsnr"}, PARAMETERISATIONS["v"]), "choose one of min_snr, "),
        (
            lambda: build.make_levels({"name": "lognormal"}, EDM, S),
            "unknown levels 'lognormal'; choose one of log_normal, ",
        ),
        (lambda: build.make_levels({"name": "log_normal", "std": 1.0}, EDM, S), "levels 'log_normal': .*'mean'"),
        (lambda: build.make_grid({"name": "carras"}, EDM, S, 6), "unknown grid 'carras'; choose one of karras, "),
        (lambda: build.make_grid({"name": "table"}, EDM, S, 6), "picks steps of process 'vp_table'"),
        (lambda: build.make_grid({"name": "cosine"}, EDM, S, 0), "steps is 0 but a sampler needs at least 1"),
        (
            lambda: build.make_grid({"name": "karras", "sigma_min": 3.0, "sigma_max": 2.0}, EDM, S, 6),
            "sigma_min is 3.0 and sigma_max 2.0: give 0 < sigma_min < sigma_max",
        ),
        (
            lambda: build.make_levels({"name": "log_uniform", "sigma_min": 0.0, "sigma_max": 2.0}, EDM, S),
            "sigma_min is 0.0 and sigma_max 2.0: give 0 < sigma_min < sigma_max",
        ),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence(make, said):
    with pytest.raises(ConfigError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)
