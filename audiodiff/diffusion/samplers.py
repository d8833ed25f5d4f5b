"""Walk from noise to data along a grid: ``sampler(denoise, x, grid, conditions, key, ...) -> x``.

``grid`` is n + 1 levels, noisiest first; ``x`` [batch, ...] stands at the first of them, the result at the last. With
D = denoise(x_t, level, conditions) for x_0 and eps = (x_t - alpha D) / sigma, every rule is written in (alpha, sigma),
never in t or beta: one function serves VP, VE, EDM, flows and zero terminal SNR. The last step of a clean grid gives D.

``key`` is one key or [batch] keys. Noise is read off a Brownian path indexed by the level (:func:`noise.brownian`): a
finer grid refines the same realisation. Deterministic samplers leave the key alone.

With ``trajectory=True`` each returns (x, Trajectory).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from audiodiff.diffusion.noise import PATH_DEPTH, brownian, path_depth, path_places
from audiodiff.diffusion.parameterisations import noise_of
from audiodiff.diffusion.processes import expand, mix, posterior, transition
from audiodiff.types import Array, Conditions, Denoiser, Level


class Trajectory(NamedTuple):
    """Hold what a sampler passed through: states x_t [n+1, batch, ...] and estimates x_0 [n, batch, ...]."""

    x_t: Array
    x0: Array


def straightness(trajectory: Trajectory, grid: Level) -> Array:
    """Return the mean square by which a path leaves its chord in velocity, [batch]; 0 for a straight one.

    sum of dt |(z_n - z_0)/(t_n - t_0) - dz/dt|^2 / dimensions, in the coordinates of rectified flow, z = x_t / (alpha +
    sigma) and t = sigma / (alpha + sigma) (Liu et al. 2023, eq. 5). One Euler step is exact where it is 0.
    """
    total = grid.alpha + grid.sigma
    z, t = trajectory.x_t / expand(total, trajectory.x_t), grid.sigma / total
    dt = expand(jnp.diff(t), z)
    excess = (z[-1] - z[0]) / (t[-1] - t[0]) - jnp.diff(z, axis=0) / dt
    return jnp.mean(jnp.sum(jnp.abs(dt) * excess**2, axis=0), axis=tuple(range(1, z.ndim - 1)))


class Step(NamedTuple):
    """Hold one step of a grid: the levels it leaves and reaches (scalars), and its noise (None without a path)."""

    here: Level
    there: Level
    z: Any
    number: Array


Rule = Callable[[Array, Any, Step], tuple[Array, Any, Array]]
"""(x, memory, step) -> (x at the next level, memory, estimate of x_0)."""


def denoise_at(denoise: Denoiser, x: Array, level: Level, conditions: Conditions) -> Array:
    """Call a Denoiser at one level, two scalars, for the whole batch."""
    return denoise(x, Level(*(jnp.broadcast_to(value, x.shape[:1]) for value in level)), conditions)


def walk(
    rule: Rule, x: Array, grid: Level, memory: Any = (), key: Array | None = None, *, trajectory: bool = False
) -> Any:
    """Scan a rule over the steps of a grid, with the increments of the key's Brownian path if there is a key.

    z of a step is (W(u_there) - W(u_here)) / sqrt(u_there - u_here): standard normal, and independent between steps.
    Raises ValueError when alpha and sigma of the grid are not two rows of n + 1 >= 2 numbers, or n is more than the
    places of a path.
    """
    alpha, sigma = (jnp.asarray(values).astype(x.dtype) for values in grid)
    if alpha.ndim != 1 or alpha.shape != sigma.shape or alpha.size < 2:
        raise ValueError(f"grid has shapes {alpha.shape}, {sigma.shape}: give two rows of n + 1 numbers, n at least 1")
    if key is not None:
        places = path_places(Level(alpha, sigma))
        noise = brownian(key, x.shape, x.dtype, path_depth(alpha.size - 1))
    steps = jnp.arange(alpha.size - 1)

    def body(carry: tuple[Array, Any, Any], index: Array) -> tuple[tuple[Array, Any, Any], Any]:
        x, memory, path = carry
        z = None
        if key is not None:
            ahead = noise(places[index + 1])
            z = (ahead - path) / jnp.sqrt((places[index + 1] - places[index]) / 2**PATH_DEPTH).astype(x.dtype)
            path = ahead
        step = Step(Level(alpha[index], sigma[index]), Level(alpha[index + 1], sigma[index + 1]), z, index)
        x, memory, x0 = rule(x, memory, step)
        return (x, memory, path), (x, x0) if trajectory else None

    (end, _, _), passed = jax.lax.scan(body, (x, memory, jnp.zeros_like(x)), steps)
    return (end, Trajectory(jnp.concatenate([x[None], passed[0]]), passed[1])) if trajectory else end


def _needs_key(key: Array | None, name: str) -> Array:
    if key is None:
        raise ValueError(f"{name} is stochastic but its key is None: pass a key, or take ddim or dpmpp_2m")
    return key


# --- deterministic


def euler(
    denoise: Denoiser,
    x: Array,
    grid: Level,
    conditions: Conditions,
    key: Array | None = None,
    *,
    trajectory: bool = False,
) -> Any:
    """Solve the probability-flow ODE dx = D dalpha + eps dsigma by Euler's rule, order 1, n evaluations.

    x + (alpha_s - alpha_t) D + (sigma_s - sigma_t) eps, which is algebraically DDIM with eta = 0, on every process.
    """

    def rule(x: Array, memory: Any, step: Step) -> tuple[Array, Any, Array]:
        x0 = denoise_at(denoise, x, step.here, conditions)
        change = Level(step.there.alpha - step.here.alpha, step.there.sigma - step.here.sigma)
        return x + mix(change, x0, noise_of(x, x0, step.here)), memory, x0

    return walk(rule, x, grid, trajectory=trajectory)


def heun(
    denoise: Denoiser,
    x: Array,
    grid: Level,
    conditions: Conditions,
    key: Array | None = None,
    *,
    trajectory: bool = False,
) -> Any:
    """Solve dx = D dalpha + eps dsigma by the trapezoidal rule, order 2, 2n - 1 evaluations.

    The step that ends clean is Euler's, since eps has no value at sigma = 0. With alpha = 1 this is EDM's own sampler
    (Karras et al. 2022, algorithm 1).
    """

    def rule(x: Array, memory: Any, step: Step) -> tuple[Array, Any, Array]:
        x0 = denoise_at(denoise, x, step.here, conditions)
        return _trapezoid(denoise, x, x0, step.here, step.there, conditions), memory, x0

    return walk(rule, x, grid, trajectory=trajectory)


def _trapezoid(denoise: Denoiser, x: Array, x0: Array, here: Level, there: Level, conditions: Conditions) -> Array:
    eps = noise_of(x, x0, here)
    predicted = mix(there, x0, eps)
    change = Level((there.alpha - here.alpha) / 2, (there.sigma - here.sigma) / 2)

    def correct() -> Array:
        x0_there = denoise_at(denoise, predicted, there, conditions)
        return x + mix(change, x0 + x0_there, eps + noise_of(predicted, x0_there, there))

    return jax.lax.cond(there.sigma > 0, correct, lambda: predicted)


def dpmpp_2m(
    denoise: Denoiser,
    x: Array,
    grid: Level,
    conditions: Conditions,
    key: Array | None = None,
    *,
    trajectory: bool = False,
) -> Any:
    """Solve the ODE by DPM-Solver++ 2M (Lu et al. 2022, algorithm 2), order 2 in ln(alpha/sigma), n evaluations.

    x_s = sigma_s/sigma_t x_t + alpha_s (1 - e^-h) D' with h = ln(alpha_s/sigma_s) - ln(alpha_t/sigma_t). To reach the
    middle of the step D' = D + h/(2 h_last) (D - D_last), but D' = D on the first step and on one that ends clean.
    """
    return _multistep(denoise, x, grid, conditions, None, 0.0, trajectory)


def dpmpp_2m_sde(
    denoise: Denoiser,
    x: Array,
    grid: Level,
    conditions: Conditions,
    key: Array | None,
    *,
    eta: Array | float = 1.0,
    trajectory: bool = False,
) -> Any:
    """Solve the reverse SDE by DPM-Solver++ 2M, n evaluations (Lu et al. 2022, SDE-DPM-Solver++(2M), midpoint).

    x_s = sigma_s/sigma_t e^(-eta h) x_t + alpha_s (1 - e^(-(1 + eta) h)) D' + sigma_s sqrt(1 - e^(-2 eta h)) z, with h
    and D' as in ``dpmpp_2m``. eta = 1 is the SDE of the process, eta = 0 its ODE.
    """
    return _multistep(denoise, x, grid, conditions, _needs_key(key, "dpmpp_2m_sde"), eta, trajectory)


def _multistep(
    denoise: Denoiser,
    x: Array,
    grid: Level,
    conditions: Conditions,
    key: Array | None,
    eta: Array | float,
    trajectory: bool,
) -> Any:
    half_logsnr = jnp.log(grid.alpha) - jnp.log(grid.sigma)
    h = jnp.diff(half_logsnr)
    # h is infinite from zero SNR and to the data; where it is, the extrapolation vanishes and the step is of order 1.
    gain = jnp.concatenate([jnp.zeros(1), jnp.where(jnp.isfinite(h[1:]), h[1:] / (2 * h[:-1]), 0.0)]).astype(x.dtype)

    def rule(x: Array, last: Array, step: Step) -> tuple[Array, Array, Array]:
        here, there = step.here, step.there
        x0 = denoise_at(denoise, x, here, conditions)
        ahead = x0 + gain[step.number] * (x0 - last)
        decay = here.alpha * there.sigma / (here.sigma * there.alpha)  # e^-h
        x = there.sigma / here.sigma * decay**eta * x + there.alpha * (1 - decay ** (1 + eta)) * ahead
        if step.z is not None:
            x = x + there.sigma * jnp.sqrt(1 - decay ** (2 * eta)) * step.z
        return x, x0, x0

    return walk(rule, x, grid, jnp.zeros_like(x), key, trajectory=trajectory)


# --- stochastic


def ddpm(
    denoise: Denoiser, x: Array, grid: Level, conditions: Conditions, key: Array | None, *, trajectory: bool = False
) -> Any:
    """Draw each level from the posterior q(x_s | x_t, x_0 = D) (Ho et al. 2020, algorithm 2, variance beta-tilde)."""

    def rule(x: Array, memory: Any, step: Step) -> tuple[Array, Any, Array]:
        x0 = denoise_at(denoise, x, step.here, conditions)
        mean, variance = posterior(x, x0, step.here, step.there)
        return mean + jnp.sqrt(variance) * step.z, memory, x0

    return walk(rule, x, grid, (), _needs_key(key, "ddpm"), trajectory=trajectory)


def ddim(
    denoise: Denoiser,
    x: Array,
    grid: Level,
    conditions: Conditions,
    key: Array | None = None,
    *,
    eta: Array | float = 0.0,
    trajectory: bool = False,
) -> Any:
    """Step by x_s = alpha_s D + sqrt(sigma_s^2 - v) eps + sqrt(v) z (Song et al. 2021, eq. 12).

    v = eta^2 times the posterior's variance: eta = 0 is deterministic and needs no key, eta = 1 is ``ddpm``.
    """

    def rule(x: Array, memory: Any, step: Step) -> tuple[Array, Any, Array]:
        x0 = denoise_at(denoise, x, step.here, conditions)
        variance = eta**2 * posterior(x, x0, step.here, step.there)[1]
        kept = jnp.sqrt(step.there.sigma**2 - variance)
        x = mix(Level(step.there.alpha, kept), x0, noise_of(x, x0, step.here))
        return (x if step.z is None else x + jnp.sqrt(variance) * step.z), memory, x0

    if key is None and not (isinstance(eta, (int, float)) and eta == 0):
        _needs_key(key, f"ddim with eta = {eta}")
    return walk(rule, x, grid, (), None if isinstance(eta, (int, float)) and eta == 0 else key, trajectory=trajectory)


def ancestral(
    denoise: Denoiser,
    x: Array,
    grid: Level,
    conditions: Conditions,
    key: Array | None,
    *,
    eta: Array | float = 1.0,
    second_order: bool = False,
    trajectory: bool = False,
) -> Any:
    """Step the ODE below the next level, then add noise up to it (k-diffusion's Euler ancestral).

    v = eta^2 sigma_s^2 (1 - e^-2h) is added after a step to (alpha_s, sqrt(sigma_s^2 - v)). Stepped by Euler's rule
    this is algebraically ``ddim`` of the same eta; ``second_order`` steps by Heun's, at twice the evaluations.
    """

    def rule(x: Array, memory: Any, step: Step) -> tuple[Array, Any, Array]:
        x0 = denoise_at(denoise, x, step.here, conditions)
        variance = eta**2 * posterior(x, x0, step.here, step.there)[1]
        below = Level(step.there.alpha, jnp.sqrt(step.there.sigma**2 - variance))
        if second_order:
            x = _trapezoid(denoise, x, x0, step.here, below, conditions)
        else:
            x = mix(below, x0, noise_of(x, x0, step.here))
        return x + jnp.sqrt(variance) * step.z, memory, x0

    return walk(rule, x, grid, (), _needs_key(key, "ancestral"), trajectory=trajectory)


def euler_maruyama(
    denoise: Denoiser,
    x: Array,
    grid: Level,
    conditions: Conditions,
    key: Array | None,
    *,
    eta: Array | float = 1.0,
    trajectory: bool = False,
) -> Any:
    """Solve the reverse SDE by Euler-Maruyama: Euler's step of the ODE, - eta^2 V / (2 sigma_t) eps + eta sqrt(V) z.

    V = sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2 is the step's integral of g^2 (Song et al. 2021, eq. 6). The plainest
    SDE solver, here to measure the others against: coarse grids need ``ddpm`` or ``dpmpp_2m_sde``.
    """

    def rule(x: Array, memory: Any, step: Step) -> tuple[Array, Any, Array]:
        here, there = step.here, step.there
        x0 = denoise_at(denoise, x, here, conditions)
        variance = transition(there, here)[1]
        change = Level(there.alpha - here.alpha, there.sigma - here.sigma - eta**2 * variance / (2 * here.sigma))
        stepped = x + mix(change, x0, noise_of(x, x0, here)) + eta * jnp.sqrt(variance) * step.z
        return jnp.where(there.sigma > 0, stepped, there.alpha * x0), memory, x0

    return walk(rule, x, grid, (), _needs_key(key, "euler_maruyama"), trajectory=trajectory)


def edm_stochastic(
    denoise: Denoiser,
    x: Array,
    grid: Level,
    conditions: Conditions,
    key: Array | None,
    *,
    s_churn: Array | float = 40.0,
    s_min: Array | float = 0.0,
    s_max: Array | float = jnp.inf,
    s_noise: Array | float = 1.0,
    trajectory: bool = False,
) -> Any:
    """Raise each level a little by fresh noise, then step down by Heun's rule (Karras et al. 2022, algorithm 2).

    sigma_hat = (1 + gamma) sigma with gamma = min(s_churn / n, sqrt(2) - 1) wherever s_min <= sigma/alpha <= s_max, by
    noise of standard deviation s_noise sqrt(sigma_hat^2 - sigma^2). alpha stays: only the SNR matters to a Denoiser.
    """
    most = jnp.minimum(s_churn / (grid.sigma.shape[0] - 1), jnp.sqrt(2.0) - 1)

    def rule(x: Array, memory: Any, step: Step) -> tuple[Array, Any, Array]:
        ratio = step.here.sigma / step.here.alpha
        gamma = jnp.where((ratio >= s_min) & (ratio <= s_max), most, 0.0).astype(x.dtype)
        raised = Level(step.here.alpha, step.here.sigma * (1 + gamma))
        x = x + s_noise * step.here.sigma * jnp.sqrt(gamma * (2 + gamma)) * step.z
        x0 = denoise_at(denoise, x, raised, conditions)
        return _trapezoid(denoise, x, x0, raised, step.there, conditions), memory, x0

    return walk(rule, x, grid, (), _needs_key(key, "edm_stochastic"), trajectory=trajectory)
