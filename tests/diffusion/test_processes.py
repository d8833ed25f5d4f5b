"""Check processes against published tables, the step-by-step chain, their own SDE and Bayes' rule."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from audiodiff.diffusion import grids, processes, samplers
from audiodiff.diffusion.gaussians import Gaussian
from audiodiff.diffusion.noise import initial_noise
from audiodiff.diffusion.parameterisations import VELOCITY, X0, convert, target
from audiodiff.diffusion.processes import (
    DDPM_1000,
    DIFFWAVE_50,
    DIFFWAVE_200,
    WAVEGRAD_1000,
    DiscreteVp,
    Edm,
    RectifiedFlow,
    Shifted,
    SubVp,
    VpCosine,
    VpCrash,
    VpLinear,
    cosine_betas,
    linear_betas,
    mix,
    velocity,
    zero_terminal_snr,
)
from audiodiff.types import Level

CURVES = {
    "vp_linear": VpLinear(),
    "vp_cosine": VpCosine(),
    "quarter_circle": VpCosine(s=0.0),
    "vp_crash": VpCrash(),
    "edm": Edm(),
    "geometric": Edm(rho=float("inf")),
    "sub_vp": SubVp(),
    "rectified_flow": RectifiedFlow(),
    "shifted": Shifted(VpCosine(), 3.0),
}
every_curve = pytest.mark.parametrize("process", CURVES.values(), ids=CURVES.keys())


# --- tables (ledger 19)


@pytest.mark.parametrize(
    ("table", "terminal"),
    [(DIFFWAVE_200, 0.1321828), (DIFFWAVE_50, 0.2796725), (DDPM_1000, 4.0358e-5), (WAVEGRAD_1000, 0.0066226)],
)
def test_linear_tables_end_at_the_published_abar(x64, table, terminal):
    process = DiscreteVp.from_betas(linear_betas(*table))
    assert float(process.alpha(1.0)) ** 2 == pytest.approx(terminal, abs=5e-7 if terminal > 0.1 else 1e-7, rel=0)


def test_terminal_snr_in_decibels(x64):
    level = DiscreteVp.from_betas(linear_betas(*DIFFWAVE_200)).level(1.0)
    assert 10 / np.log(10) * float(processes.logsnr(level)) == pytest.approx(-8.17, abs=0.005)


def test_cosine_table_is_the_continuous_cosine_until_its_last_beta_is_clipped(x64):
    table = DiscreteVp.from_betas(cosine_betas())
    assert float(table.alpha(0.5)) ** 2 == pytest.approx(0.4938436, abs=1e-7)
    assert float(VpCosine().alpha(jnp.asarray(0.5))) ** 2 == pytest.approx(0.4938436, abs=1e-7)
    assert cosine_betas()[-1] == 0.999
    t = jnp.arange(1, 1000) / 1000
    np.testing.assert_allclose(table.alpha(t), VpCosine().alpha(t), rtol=1e-9)


def test_edm_path_has_the_published_levels(x64):
    sigma = Edm().sigma(jnp.linspace(1.0, 0.0, 10))
    published = [80, 42.415189, 21.108677, 9.723201, 4.066124, 1.501742, 0.469979, 0.116639, 0.020435, 0.002]
    np.testing.assert_allclose(sigma, published, rtol=0, atol=6e-7)


def test_tables_agree_with_the_product_of_their_betas_at_every_step(x64):
    for table in (DIFFWAVE_200, WAVEGRAD_1000):
        betas = linear_betas(*table)
        process, t = DiscreteVp.from_betas(betas), jnp.arange(1, len(betas) + 1) / len(betas)
        np.testing.assert_allclose(process.alpha(t) ** 2, np.cumprod(1 - betas), rtol=1e-11)
        np.testing.assert_allclose(process.sigma(t) ** 2, 1 - np.cumprod(1 - betas), rtol=1e-9)


def test_small_sigmas_of_a_table_survive_float32():
    betas = linear_betas(*WAVEGRAD_1000)
    sigma = DiscreteVp.from_betas(betas).sigma(jnp.asarray(1 / 1000))
    assert sigma.dtype == jnp.float32
    assert float(sigma) == pytest.approx(np.sqrt(1e-6), rel=1e-5)


def test_ddpm_table_tends_to_the_continuous_vp(x64):
    t = jnp.linspace(0.05, 1.0, 20)
    gaps = []
    for steps in (1000, 4000):
        table = DiscreteVp.from_betas(linear_betas(0.1 / steps, 20 / steps, steps))
        gaps.append(float(jnp.max(jnp.abs(table.alpha(t) - VpLinear().alpha(t)))))
    assert gaps[0] < 2e-3 and gaps[1] < 0.3 * gaps[0]


@every_curve
def test_signal_falls_from_data_to_noise(x64, process):
    level = process.level(jnp.linspace(0.0, 1.0, 101))
    assert np.all(np.diff(level.sigma / level.alpha) > 0)
    assert np.all(np.asarray(level.alpha) >= 0)
    assert float(level.alpha[0]) == pytest.approx(1.0) and float(level.sigma[0]) <= 0.002 + 1e-12


@every_curve
def test_a_process_stands_on_its_own_curve(x64, process):
    level = process.level(jnp.linspace(0.02, 0.98, 9))
    scaled = Level(2.5 * level.alpha, 2.5 * level.sigma)
    for got in (process.on_curve(scaled), process.at_logsnr(processes.logsnr(level))):
        np.testing.assert_allclose(got.alpha, level.alpha, rtol=1e-10)
        np.testing.assert_allclose(got.sigma, level.sigma, rtol=1e-10)


def test_shift_moves_log_snr_and_is_esser_s_formula_on_a_flow(x64):
    t, shift = jnp.linspace(0.1, 0.9, 9), 3.0
    for process in (VpCosine(), Edm(), RectifiedFlow()):
        moved = processes.logsnr(Shifted(process, shift).level(t))
        np.testing.assert_allclose(moved, processes.logsnr(process.level(t)) - 2 * np.log(shift), atol=1e-12)
    np.testing.assert_allclose(Shifted(RectifiedFlow(), shift).sigma(t), shift * t / (1 + (shift - 1) * t), rtol=1e-12)


# --- zero terminal SNR (ledger 22)


def test_zero_terminal_snr_keeps_the_first_level_and_leaves_no_signal(x64):
    betas = linear_betas(*DIFFWAVE_200)
    rescaled = zero_terminal_snr(betas)
    process = DiscreteVp.from_betas(rescaled)
    assert rescaled[-1] == 1.0 and float(process.alpha(1.0)) == 0.0 and float(process.sigma(1.0)) == 1.0
    assert rescaled[0] == pytest.approx(betas[0], rel=1e-10)
    # The map is affine in sqrt(abar), so ratios of differences are kept.
    before, after = np.sqrt(np.cumprod(1 - betas)), np.sqrt(np.cumprod(1 - rescaled))
    np.testing.assert_allclose(np.diff(after) / np.diff(before), before[0] / (before[0] - before[-1]), rtol=1e-9)


def test_zero_terminal_snr_is_exact_in_float32_too():
    level = DiscreteVp.from_betas(zero_terminal_snr(linear_betas(*DDPM_1000))).level(jnp.ones(()))
    assert level.alpha.dtype == jnp.float32 and float(level.alpha) == 0.0 and float(level.sigma) == 1.0


@pytest.mark.parametrize("betas", [[], [0.1, 1.5], [0.0, 0.1], [[0.1]]])
def test_bad_betas_are_refused(betas):
    with pytest.raises(ValueError, match=r"betas must be a row of numbers in \(0, 1\]"):
        DiscreteVp.from_betas(np.asarray(betas))


# --- the forward process (ledger 18)


def test_closed_form_equals_the_step_by_step_chain():
    betas, draws = linear_betas(*DIFFWAVE_50), 100_000
    x0, rng = np.array([1.5, -0.5]), np.random.default_rng(0)
    x = np.broadcast_to(x0, (draws, 2))
    process = DiscreteVp.from_betas(betas)
    for step, beta in enumerate(betas, 1):
        x = np.sqrt(1 - beta) * x + np.sqrt(beta) * rng.standard_normal((draws, 2))
        if step in (1, 10, 50):
            level = process.level(jnp.asarray(step / 50))
            sigma = float(level.sigma)
            np.testing.assert_allclose(x.mean(0), float(level.alpha) * x0, rtol=0, atol=4.5 * sigma / draws**0.5)
            np.testing.assert_allclose(x.var(0), sigma**2, rtol=4.5 * (2 / draws) ** 0.5)


@every_curve
def test_transitions_compose_to_the_closed_form(x64, process):
    t = jnp.linspace(0.05, 0.95, 19)
    level = process.level(t)
    mean, variance = 1.0, float(level.sigma[0]) ** 2 / float(level.alpha[0]) ** 2 * float(level.alpha[0]) ** 2
    mean = float(level.alpha[0])
    for i in range(18):
        here, there = (Level(level.alpha[j], level.sigma[j]) for j in (i, i + 1))
        ratio, noise = (float(value) for value in processes.transition(here, there))
        mean, variance = ratio * mean, ratio**2 * variance + noise
    assert mean == pytest.approx(float(level.alpha[-1]), rel=1e-10)
    assert variance == pytest.approx(float(level.sigma[-1]) ** 2, rel=1e-10)


@pytest.mark.parametrize("shape", [(20_000, 3), (5_000, 4, 3)])
def test_corruption_has_the_mean_and_variance_of_the_process_in_any_shape(shape):
    process, t = VpCosine(), jnp.full(shape[:1], 0.6)
    x_t, eps = process.corrupt(jax.random.key(0), jnp.full(shape, 2.0), t)
    assert x_t.shape == eps.shape == shape
    level = process.level(0.6)
    np.testing.assert_allclose(jnp.mean(x_t), 2 * level.alpha, atol=4.5 * float(level.sigma) / np.prod(shape) ** 0.5)
    np.testing.assert_allclose(jnp.var(x_t), level.sigma**2, rtol=4.5 * (2 / np.prod(shape)) ** 0.5)
    np.testing.assert_allclose(x_t, 2 * level.alpha + level.sigma * eps, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["vp_linear", "vp_cosine", "edm", "sub_vp", "rectified_flow", "vp_crash"])
def test_the_sde_of_a_process_has_its_marginals(x64, name):
    """Integrate dm/dt = f m and dV/dt = 2 f V + g^2 with scipy, and land on alpha(t) and sigma(t)^2."""
    process, start, end = CURVES[name], 0.1, 0.8
    f, g2 = jax.jit(lambda t: processes.drift(process, t)), jax.jit(lambda t: processes.diffusion_squared(process, t))

    def slope(t: float, state: np.ndarray) -> list[float]:
        return [float(f(t)) * state[0], 2 * float(f(t)) * state[1] + float(g2(t))]

    initial = [float(process.alpha(start)), float(process.sigma(start)) ** 2]
    solved = scipy.integrate.solve_ivp(slope, (start, end), initial, rtol=1e-8, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(solved, [float(process.alpha(end)), float(process.sigma(end)) ** 2], rtol=1e-6)


def test_velocity_is_the_slope_of_the_path(x64):
    x0, eps, t, h = jnp.array([[0.3], [-1.2]]), jnp.array([[1.1], [0.4]]), jnp.array([0.3, 0.7]), 1e-6
    for process in CURVES.values():
        ahead, behind = (processes.mix(process.level(t + step), x0, eps) for step in (h, -h))
        got = processes.velocity(process, x0, eps, t)
        np.testing.assert_allclose(got, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(processes.velocity(RectifiedFlow(), x0, eps, t), eps - x0, rtol=1e-14)


# --- the posterior (ledger 20)


@every_curve
def test_posterior_equals_bayes_rule(x64, process):
    """Condition the joint Gaussian of (x_s, x_t) given x_0 on x_t."""
    rng = np.random.default_rng(1)
    x0, x_t = rng.standard_normal((2, 6))
    s, t = jnp.array([0.1, 0.2, 0.5]).repeat(2), jnp.array([0.3, 0.9]).repeat(3)
    t = jnp.maximum(t, s + 0.05)
    earlier, later = process.level(s), process.level(t)
    mean, variance = processes.posterior(jnp.asarray(x_t), jnp.asarray(x0), later, earlier)

    a_s, s_s, a_t, s_t = (np.asarray(v) for v in (*earlier, *later))
    covariance = a_t / a_s * s_s**2
    expected_mean = a_s * x0 + covariance / s_t**2 * (x_t - a_t * x0)
    expected_variance = s_s**2 - covariance**2 / s_t**2
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(variance, expected_variance, rtol=1e-9, atol=1e-10)


def test_posterior_from_no_signal_forgets_x_t_and_to_the_data_is_x0(x64):
    x_t, x0, half = jnp.array([5.0]), jnp.array([0.7]), VpCosine(s=0.0).level(jnp.array([0.5]))
    noise, data = Level(jnp.zeros(1), jnp.ones(1)), Level(jnp.ones(1), jnp.zeros(1))
    mean, variance = processes.posterior(x_t, x0, noise, half)
    np.testing.assert_allclose(mean, half.alpha * x0, rtol=1e-12)
    np.testing.assert_allclose(variance, half.sigma**2, rtol=1e-12)
    mean, variance = processes.posterior(x_t, x0, half, data)
    np.testing.assert_allclose(mean, x0, rtol=1e-12)
    assert float(variance[0]) == 0.0


# --- as pytrees


def test_a_table_is_a_leaf_and_hyper_parameters_are_static():
    table = DiscreteVp.from_betas(linear_betas(*DIFFWAVE_50))
    assert [leaf.shape for leaf in jax.tree.leaves(table)] == [(51,)]
    assert jax.tree.leaves(VpLinear()) == [] and hash(Edm()) == hash(Edm())
    assert float(jax.jit(lambda p, t: p.alpha(t))(table, 1.0)) ** 2 == pytest.approx(0.2796725, abs=1e-6)


# --- flow matching: the regression target, the exact field, and reflow (ledger 26)

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
