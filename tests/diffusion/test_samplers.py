"""Check samplers on exact Denoisers: orders of convergence, laws, equalities, and where their noise comes from."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from audiodiff.diffusion import grids, noise, samplers
from audiodiff.diffusion.gaussians import Gaussian, Mixture
from audiodiff.diffusion.noise import initial_noise
from audiodiff.diffusion.processes import (
    DDPM_1000,
    DiscreteVp,
    Edm,
    RectifiedFlow,
    SubVp,
    VpCosine,
    VpLinear,
    linear_betas,
    zero_terminal_snr,
)
from audiodiff.types import Level

WEIGHTS, MEANS, VARIANCES = np.array([0.3, 0.7]), np.array([-1.0, 0.6]), np.array([0.25, 0.09])


def two_bumps(dtype=None) -> Mixture:
    return Mixture(jnp.asarray(WEIGHTS, dtype), jnp.asarray(MEANS, dtype)[:, None], jnp.asarray(VARIANCES, dtype))


def cdf(x, alpha: float = 1.0, sigma: float = 0.0):
    """Return P(x_t <= x) of the two bumps at a level."""
    spread = np.sqrt(alpha**2 * VARIANCES + sigma**2)
    return scipy.stats.norm.cdf(np.asarray(x)[..., None], alpha * MEANS, spread) @ WEIGHTS


def transported(x, here, there) -> np.ndarray:
    """Carry x along the exact ODE: in one dimension it keeps each point at its quantile."""
    quantiles = cdf(x, *(float(v) for v in here))
    back = [float(v) for v in there]
    return np.array([scipy.optimize.brentq(lambda y, q=q: cdf(y, *back) - q, -20, 20, xtol=1e-14) for q in quantiles])


@functools.cache
def compiled(name: str):
    """Compile a sampler once for each shape; everything with numbers in it is an argument."""
    sampler = getattr(samplers, name)
    return jax.jit(
        lambda denoise, x, grid, key=None, options=None: sampler(denoise, x, grid, {}, key, **(options or {}))
    )


# --- order of convergence (ledger 23)

CURVES = {
    "vp": (VpLinear(), 1.0, 0.05),
    "edm": (Edm(), 1.0, 0.0),
    "flow": (RectifiedFlow(), 1.0, 0.02),
    "zero_snr": (VpCosine(s=0.0), 1.0, 0.02),
}


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("ddim", 1), ("heun", 2), ("dpmpp_2m", 2)])
def test_order_of_convergence(x64, name, order, curve):
    process, first, last = CURVES[curve]
    start, end = process.level(first), process.level(last)
    x = float(jnp.hypot(*start)) * jnp.array([-1.5, -0.2, 0.4, 1.7])
    exact = transported(x, start, end)
    errors = []
    for steps in (100, 200):
        grid = process.level(jnp.linspace(first, last, steps + 1))
        errors.append(np.max(np.abs(compiled(name)(two_bumps(), x[:, None], grid)[:, 0] - exact)))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)
    assert errors[1] < {1: 0.02, 2: 2e-3}[order]


def test_second_order_beats_first_on_a_clean_grid(x64):
    """On a grid as used, with few steps and a clean end, the end is near the data's own quantile."""
    grid = grids.karras(18, sigma_max=40.0)
    x = 40.0 * jnp.array([-1.5, -0.2, 0.4, 1.7])
    exact = transported(x, grids.level_at(grid, 0), grids.level_at(grid, -1))
    worst = {
        name: float(np.max(np.abs(compiled(name)(two_bumps(), x[:, None], grid)[:, 0] - exact)))
        for name in ("euler", "heun", "dpmpp_2m")
    }
    assert max(worst["heun"], worst["dpmpp_2m"]) < 0.5 * worst["euler"] < 0.5 * 0.2


# --- stochastic samplers have the right law

# One shape and one set of options for each: compiled once, whatever the numbers.
COUNT, STEPS = 3000, 60
OPTIONS = {
    "ddpm": {},
    "ddim": {"eta": 0.7},
    "ancestral": {"eta": 1.0},
    "dpmpp_2m_sde": {"eta": 1.0},
    "edm_stochastic": {"s_churn": 40.0},
    "euler_maruyama": {"eta": 1.0},
}
STARTS = {
    "zero_snr_table": lambda n: grids.from_table(DiscreteVp.from_betas(zero_terminal_snr(linear_betas(*DDPM_1000))), n),
    "edm": lambda n: grids.karras(n, 0.01, 20.0),
    "flow": lambda n: grids.uniform(RectifiedFlow(), n),
}


def sampled(name, grid, key=None, **options):
    """Sample the two bumps on a grid from a fixed initial noise; options are numbers."""
    x = initial_noise(jax.random.key(1), (COUNT, 1), grids.level_at(grid, 0), sigma_data=0.8)
    return np.asarray(compiled(name)(two_bumps(jnp.float32), x, grid, key, options))[:, 0]


@pytest.mark.parametrize("name", OPTIONS)
def test_samples_have_the_law_of_the_data(name):
    """Kolmogorov's distance to the mixture, on processes with and without signal at their start and a clean end."""
    for make in STARTS.values():
        y = sampled(name, make(STEPS), jax.random.key(2), **OPTIONS[name])
        # Chance alone reaches 0.036 once in a thousand; the rest is what 60 steps may still be off.
        assert scipy.stats.kstest(y, cdf).statistic < 0.055
        assert np.mean(y) == pytest.approx(WEIGHTS @ MEANS, abs=0.06)
        assert np.var(y) == pytest.approx(WEIGHTS @ (VARIANCES + MEANS**2) - (WEIGHTS @ MEANS) ** 2, rel=0.15)


def test_a_finer_grid_refines_the_same_realisation():
    """Noise is read off a path indexed by level: 15 and 60 steps end near each other, another key far from both."""
    coarse, fine, other = (
        sampled("dpmpp_2m_sde", grids.uniform(VpCosine(), steps), jax.random.key(seed), eta=1.0)
        for steps, seed in ((15, 0), (STEPS, 0), (STEPS, 1))
    )
    assert np.median(np.abs(coarse - fine)) < 0.3 * np.median(np.abs(other - fine))


def test_an_example_depends_on_its_own_key_alone():
    """Change the keys of the neighbours, and the places of the rest: examples 1 and 2 stay what they were."""
    grid, draw = grids.uniform(VpCosine(), 3), compiled("dpmpp_2m_sde")

    def sample(keys):
        return draw(two_bumps(jnp.float32), initial_noise(keys, (4, 1), grids.level_at(grid, 0)), grid, keys)

    keys, others = jax.random.split(jax.random.key(0), 4), jax.random.split(jax.random.key(1), 4)
    first = sample(keys)
    again = sample(jnp.stack([keys[2], others[0], others[1], keys[1]]))
    np.testing.assert_array_equal(again[jnp.array([3, 0])], first[1:3])
    assert np.all(np.asarray(again[1:3]) != np.asarray(first[jnp.array([0, 3])]))


# --- equalities between samplers


@pytest.mark.parametrize("process", [VpCosine(), SubVp()], ids=["vp", "sub_vp"])
def test_samplers_that_are_one_algorithm_agree(process):
    run = functools.partial(sampled, grid=grids.uniform(process, STEPS))
    same, key = functools.partial(np.testing.assert_allclose, atol=1e-3), jax.random.key(3)
    same(run("euler"), run("ddim"))
    same(run("ddpm", key=key), run("ddim", key=key, eta=1.0))
    same(run("ancestral", key=key, eta=0.6), run("ddim", key=key, eta=0.6))
    same(run("dpmpp_2m_sde", key=key, eta=0.0), run("dpmpp_2m"))
    same(run("edm_stochastic", key=key, s_churn=0.0), run("heun"))
    assert np.median(np.abs(run("ddpm", key=key) - run("euler"))) > 0.1


def test_second_order_ancestral_without_noise_is_heun():
    grid, x = grids.uniform(VpCosine(), 3), jnp.array([[0.3], [-1.0]])
    noiseless = samplers.ancestral(two_bumps(jnp.float32), x, grid, {}, jax.random.key(0), eta=0.0, second_order=True)
    np.testing.assert_allclose(noiseless, samplers.heun(two_bumps(jnp.float32), x, grid, {}), rtol=1e-5)


def test_one_step_of_ddim_has_the_mean_and_deviation_of_its_paper():
    """Song et al. (2021), eq. 12 and 16, with alpha_paper = abar."""
    abar_t, abar_s, eta, x, x0 = 0.2, 0.7, 0.5, 1.3, 0.4
    sigma = eta * np.sqrt((1 - abar_s) / (1 - abar_t)) * np.sqrt(1 - abar_t / abar_s)
    eps = (x - np.sqrt(abar_t) * x0) / np.sqrt(1 - abar_t)
    mean = np.sqrt(abar_s) * x0 + np.sqrt(1 - abar_s - sigma**2) * eps
    grid = Level(jnp.sqrt(jnp.array([abar_t, abar_s])), jnp.sqrt(1 - jnp.array([abar_t, abar_s])))
    data = Gaussian(jnp.full(1, x0), jnp.zeros(1))
    y = samplers.ddim(data, jnp.full((COUNT, 1), x), grid, {}, jax.random.key(0), eta=eta)
    assert np.mean(y) == pytest.approx(mean, abs=4.5 * sigma / COUNT**0.5)
    assert np.std(y) == pytest.approx(sigma, rel=4.5 / (2 * COUNT) ** 0.5)


def edm_algorithm_1(denoise, x, sigmas):
    """Karras et al. (2022), algorithm 1 as its box reads, in numpy."""
    for here, there in zip(sigmas[:-1], sigmas[1:], strict=True):
        d = (x - denoise(x, here)) / here
        ahead = x + (there - here) * d
        if there > 0:
            ahead = x + (there - here) * (d + (ahead - denoise(ahead, there)) / there) / 2
        x = ahead
    return x


def dpmpp_algorithm_2(denoise, x, sigmas):
    """Lu et al. (2022), algorithm 2 with alpha = 1, in terms of lambda = -ln sigma, in numpy."""
    buffer, last_h = None, None
    for here, there in zip(sigmas[:-1], sigmas[1:], strict=True):
        x0 = denoise(x, here)
        if there == 0:
            return x0
        h = np.log(here / there)
        d = x0 if buffer is None else (1 + h / (2 * last_h)) * x0 - h / (2 * last_h) * buffer
        x, buffer, last_h = there / here * x - np.expm1(-h) * d, x0, h
    return x


@pytest.mark.parametrize(("name", "published"), [("heun", edm_algorithm_1), ("dpmpp_2m", dpmpp_algorithm_2)])
def test_with_alpha_one_they_are_the_published_boxes(x64, name, published):
    grid, x = grids.karras(12), 80.0 * jnp.array([[-1.0], [0.1], [0.8], [2.0]])

    def denoise(x, sigma):
        return np.asarray(two_bumps()(jnp.asarray(x), Level(jnp.ones(4), jnp.full(4, sigma)), {}))

    expected = published(denoise, np.asarray(x), np.asarray(grid.sigma))
    np.testing.assert_allclose(compiled(name)(two_bumps(), x, grid), expected, rtol=1e-9, atol=1e-9)


def test_the_scale_of_the_process_does_not_matter(x64):
    """The same SNRs on alpha = 1, on the circle and on the line take the solver of ln(alpha/sigma) to the same end."""
    x, ends = jnp.array([[-1.0], [0.1], [0.8], [2.0]]), []
    for process in (Edm(), VpCosine(), RectifiedFlow()):
        grid = grids.karras(12, process=process)
        start = float(jnp.hypot(*grids.level_at(grid, 0)))
        ends.append(compiled("dpmpp_2m")(two_bumps(), start * x, grid))
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ends[2], ends[0], rtol=1e-9, atol=1e-9)


# --- contract


class Counted:
    """Count the calls of a Denoiser; not a pytree, for use without jit."""

    def __init__(self, denoise):
        self.denoise, self.calls = denoise, 0

    def __call__(self, x_t, level, conditions):
        assert level.alpha.shape == level.sigma.shape == x_t.shape[:1]
        self.calls += 1
        return self.denoise(x_t, level, conditions)


@pytest.mark.parametrize(("name", "calls"), [("heun", 3), ("dpmpp_2m_sde", 2)])
def test_without_jit_they_give_the_same_in_the_stated_number_of_evaluations(monkeypatch, name, calls):
    for module in (noise, samplers):
        monkeypatch.setattr(module, "PATH_DEPTH", 2)
    grid, x, key = grids.uniform(VpCosine(), 2), jnp.array([[0.3], [-1.0]]), jax.random.key(0)
    denoise = Counted(two_bumps(jnp.float32))
    with jax.disable_jit():
        plain = getattr(samplers, name)(denoise, x, grid, {}, key)
    assert denoise.calls == calls
    jitted = jax.jit(lambda d, x, g, k: getattr(samplers, name)(d, x, g, {}, k))
    np.testing.assert_allclose(jitted(two_bumps(jnp.float32), x, grid, key), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "calls"), [("euler", 3), ("heun", 5), ("dpmpp_2m", 3)])
def test_evaluations_are_as_many_as_the_steps_make_them_whatever_the_length(name, calls):
    for samples in (1, 1000):
        denoise = Counted(lambda x_t, level, conditions: jnp.zeros_like(x_t))
        with jax.disable_jit():
            getattr(samplers, name)(denoise, jnp.ones((1, samples)), grids.uniform(VpCosine(), 3), {})
        assert denoise.calls == calls


def test_a_trajectory_is_an_output():
    grid, x = grids.uniform(VpCosine(), 3), jnp.array([[0.3], [-1.0]])
    end, passed = samplers.dpmpp_2m(two_bumps(jnp.float32), x, grid, {}, trajectory=True)
    assert passed.x_t.shape == (4, 2, 1) and passed.x0.shape == (3, 2, 1)
    np.testing.assert_array_equal(passed.x_t[0], x)
    np.testing.assert_array_equal(passed.x_t[-1], end)
    np.testing.assert_allclose(passed.x0[-1], end, rtol=1e-6)


def test_seed_strength_and_weights_compile_nothing_anew():
    traced = []

    def denoise(x_t, level, conditions):
        traced.append(1)
        return jnp.zeros_like(x_t)

    draw = jax.jit(lambda x, grid, key, eta: samplers.ddim(denoise, x, grid, {}, key, eta=eta))
    grid, x = grids.uniform(VpCosine(), 2), jnp.ones((1, 2))
    for seed, eta in ((0, 0.1), (1, 0.9)):
        draw(x, grid, jax.random.key(seed), eta)
    assert len(traced) == 1


@pytest.mark.parametrize("name", ["ddpm", "ancestral", "dpmpp_2m_sde", "edm_stochastic", "euler_maruyama"])
def test_a_stochastic_sampler_without_a_key_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is stochastic but its key is None"):
        getattr(samplers, name)(two_bumps(jnp.float32), jnp.ones((1, 1)), grids.karras(2), {}, None)


def test_ddim_needs_a_key_only_for_its_noise():
    samplers.ddim(two_bumps(jnp.float32), jnp.ones((1, 1)), grids.karras(2), {})
    with pytest.raises(ValueError, match="ddim with eta = 0.5 is stochastic"):
        samplers.ddim(two_bumps(jnp.float32), jnp.ones((1, 1)), grids.karras(2), {}, eta=0.5)


def test_a_grid_of_one_level_is_refused():
    with pytest.raises(ValueError, match="give two rows of n \\+ 1 numbers"):
        samplers.euler(two_bumps(jnp.float32), jnp.ones((1, 1)), Level(jnp.ones(1), jnp.zeros(1)), {})
