"""Check the one table of parameterisations against the papers' formulas, each other, and the exact score."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.diffusion import parameterisations as table
from audiodiff.diffusion.gaussians import Gaussian
from audiodiff.diffusion.parameterisations import EDM, EPS, PARAMETERISATIONS, SCORE, VELOCITY, X0, V
from audiodiff.diffusion.processes import Edm, RectifiedFlow, VpCosine, mix
from audiodiff.diffusion.weightings import Uniform
from audiodiff.types import Level

every_row = pytest.mark.parametrize("row", PARAMETERISATIONS.values(), ids=PARAMETERISATIONS.keys())
SIGMA_DATA = 0.3


def corrupted(process=None, batch=7):
    """Return x0, eps, x_t and a level that runs from little to much noise."""
    rng = np.random.default_rng(0)
    x0, eps = SIGMA_DATA * rng.standard_normal((batch, 5)), rng.standard_normal((batch, 5))
    level = (process or VpCosine()).level(jnp.linspace(0.02, 0.98, batch))
    return jnp.asarray(x0), jnp.asarray(eps), mix(level, jnp.asarray(x0), jnp.asarray(eps)), level


def test_edm_row_is_karras_s_at_a_published_point(x64):
    """Karras et al. (2022), table 1, at sigma = sigma_data = 0.5."""
    got = table.precondition(EDM, Level(jnp.ones(1), jnp.full(1, 0.5)), 0.5)
    np.testing.assert_allclose(jnp.stack(got)[:, 0], [0.5, 0.3535534, 1.4142136, -0.1732868], atol=5e-8)


def test_rows_are_the_papers_formulas(x64):
    x0, eps, x_t, (alpha, sigma) = corrupted()
    a, s = np.asarray(alpha)[:, None], np.asarray(sigma)[:, None]
    published = {"eps": eps, "x0": x0, "v": a * eps - s * x0, "score": -eps / s, "velocity": eps - x0}
    inverses = {
        "eps": lambda f: (x_t - s * f) / a,
        "x0": lambda f: f,
        "v": lambda f: a * x_t - s * f,
        "score": lambda f: (x_t + s**2 * f) / a,
        "velocity": lambda f: (x_t - s * f) / (a + s),
    }
    for name, expected in published.items():
        row = PARAMETERISATIONS[name]
        output = table.target(row, x0, eps, Level(alpha, sigma), SIGMA_DATA)
        np.testing.assert_allclose(output, expected, rtol=1e-12, atol=1e-12)
        got = table.solve(row, output, x_t, Level(alpha, sigma), SIGMA_DATA)
        np.testing.assert_allclose(got[0], inverses[name](expected), rtol=1e-9, atol=1e-9)


def test_edm_with_unit_data_is_minus_v(x64):
    x0, eps, _, level = corrupted()
    edm, v = (table.target(row, x0, eps, level, 1.0) for row in (EDM, V))
    np.testing.assert_allclose(edm, -v, atol=1e-12)


@pytest.mark.parametrize("process", [VpCosine(), Edm(), RectifiedFlow()], ids=["vp", "edm", "flow"])
def test_all_rows_convert_to_all_others(x64, process):
    x0, eps, x_t, level = corrupted(process)
    outputs = {name: table.target(row, x0, eps, level, SIGMA_DATA) for name, row in PARAMETERISATIONS.items()}
    for source in PARAMETERISATIONS:
        for goal in PARAMETERISATIONS:
            rows = PARAMETERISATIONS[source], PARAMETERISATIONS[goal]
            got = table.convert(*rows, outputs[source], x_t, level, SIGMA_DATA)
            np.testing.assert_allclose(got, outputs[goal], rtol=1e-8, atol=1e-8, err_msg=f"{source} -> {goal}")


@every_row
def test_the_loss_is_the_same_under_the_matching_weight(x64, row):
    """|F - F*|^2 = w |x0_hat - x0|^2 with w = 1 / c_out^2, for any wrong output F."""
    x0, eps, x_t, level = corrupted()
    wrong = jnp.asarray(np.random.default_rng(1).standard_normal(x0.shape))
    estimate = table.solve(row, wrong, x_t, level, SIGMA_DATA)[0]
    weight = Uniform(row)(level, SIGMA_DATA)
    raw = jnp.mean((wrong - table.target(row, x0, eps, level, SIGMA_DATA)) ** 2, axis=1)
    np.testing.assert_allclose(weight * jnp.mean((estimate - x0) ** 2, axis=1), raw, rtol=1e-6)


@every_row
def test_the_estimate_of_x0_does_not_depend_on_the_scale_of_x_t(x64, row):
    x0, eps, x_t, level = corrupted()
    output = jnp.sin(3 * x_t)
    scaled = Level(2.5 * level.alpha, 2.5 * level.sigma)
    here, there = (table.precondition(row, one, SIGMA_DATA) for one in (level, scaled))
    np.testing.assert_allclose(there.c_in * 2.5, here.c_in, rtol=1e-12)
    np.testing.assert_allclose(there.c_noise, here.c_noise, rtol=1e-12)
    first = table.solve(row, output, x_t, level, SIGMA_DATA)[0]
    np.testing.assert_allclose(table.solve(row, output, 2.5 * x_t, scaled, SIGMA_DATA)[0], first, rtol=1e-9)


def test_the_score_of_the_exact_denoiser_is_the_gradient_of_its_log_density(x64):
    """Tweedie's formula, against the gradient of the closed-form density."""
    data = Gaussian(jnp.array([0.4, -0.1, 0.0, 1.0, 0.3]), jnp.array([0.2, 1.0, 0.5, 0.01, 2.0]))
    _, _, x_t, level = corrupted()
    score = table.convert(X0, SCORE, data(x_t, level, {}), x_t, level, 1.0)
    gradient = jax.grad(lambda x: jnp.sum(data.log_density(x, level)))(x_t)
    np.testing.assert_allclose(score, gradient, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("row", [X0, V, EDM, VELOCITY], ids=lambda row: row.name)
def test_zero_snr_and_no_noise_are_exact_where_they_are_defined(x64, row):
    x0, eps = jnp.array([[0.7], [0.7]]), jnp.array([[-1.3], [-1.3]])
    level = Level(jnp.array([0.0, 1.0]), jnp.array([1.0, 0.0]))
    x_t = mix(level, x0, eps)
    output = table.target(row, x0, eps, level, SIGMA_DATA)
    np.testing.assert_allclose(table.solve(row, output, x_t, level, SIGMA_DATA)[0], x0, rtol=1e-6)


@every_row
def test_nothing_is_infinite_at_either_end(row):
    level = Level(jnp.array([0.0, 1.0]), jnp.array([1.0, 0.0]))
    assert np.all(np.isfinite(jnp.stack(table.precondition(row, level, SIGMA_DATA))))
    np.testing.assert_allclose(table.noise_condition(level), [np.log(1e4) / 4, -np.log(1e4) / 4], rtol=1e-6)


def test_noise_condition_is_karras_s_with_sigma_over_alpha(x64):
    np.testing.assert_allclose(table.noise_condition(Edm().level(0.3)), np.log(Edm().sigma(0.3)) / 4, rtol=1e-12)


@pytest.mark.parametrize("process", [VpCosine(), Edm()], ids=["vp", "edm"])
@pytest.mark.parametrize("draw", ["normal", "uniform"])
def test_input_and_target_of_the_network_have_unit_variance_at_every_level(process, draw):
    """Ledger 27: inputs under every row, targets of EDM and eps for any data, of v for data of unit variance."""
    rng, count = np.random.default_rng(0), 200_000
    for scale in (0.1, 1.0):
        unit = rng.standard_normal(count) if draw == "normal" else rng.uniform(-(3**0.5), 3**0.5, count)
        x0, eps = scale * unit[None], rng.standard_normal(count)[None]
        sigma_data = float(np.std(x0))
        for t in (0.02, 0.3, 0.6, 0.97):
            level = process.level(jnp.full(1, t))
            x_t = np.asarray(level.alpha) * x0 + np.asarray(level.sigma) * eps
            for row in (EDM, EPS) if scale != 1.0 else (EDM, EPS, V):
                c_in = np.asarray(table.precondition(row, level, sigma_data).c_in)
                a, b = (np.asarray(value) for value in row.coefficients(level, sigma_data))
                assert np.var(c_in * x_t) == pytest.approx(1.0, abs=0.02)
                assert np.var(a * x0 + b * eps) == pytest.approx(1.0, abs=0.02), (row, t, scale)


def test_rows_are_hashable_and_print_their_name():
    assert len({hash(row) for row in PARAMETERISATIONS.values()}) == 6
    assert repr(EDM) == "Parameterisation('edm')"
