"""Solve the probability-flow ODE to a tolerance, each example at its own pace, in one bounded ``while_loop``."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from audiodiff.diffusion.processes import expand, mix
from audiodiff.types import Array, Conditions, Denoiser, Level


class Report(NamedTuple):
    """Hold what the adaptive solver did, per example [batch]: Denoiser evaluations, and whether it arrived."""

    evaluations: Array
    arrived: Array


class _State(NamedTuple):
    z: Array
    slope: Array
    angle: Array
    stride: Array
    report: Report
    taken: Array


def adaptive(
    denoise: Denoiser,
    x: Array,
    grid: Level,
    conditions: Conditions,
    key: Array | None = None,
    *,
    rtol: Array | float = 1e-3,
    atol: Array | float = 1e-4,
    max_steps: int = 1000,
    report: bool = False,
) -> Any:
    """Solve from the first level of a grid to its last by the 3(2) pair of Bogacki & Shampine (1989).

    On the unit circle z = x_t / |(alpha, sigma)| the ODE of every process is dz/dphi = v = cos(phi) eps - sin(phi) D,
    tan(phi) = sigma/alpha (Salimans & Ho 2022, appendix D): finite at zero SNR, and the same for all schedules. Only
    the ends of the grid are used; towards a clean end it is solved to the level before, and D of there is returned.

    A step is kept where rms(error / (atol + rtol |z|)) <= 1, judged for each example alone, so that an example does not
    depend on its batch. One that has not arrived after ``max_steps`` steps is NaN, never half denoised sound.
    Returns x, or (x, Report) with ``report=True``.
    """
    alpha, sigma = (jnp.asarray(values).astype(x.dtype) for values in grid)
    angles = jnp.arctan2(sigma, alpha)
    goal = jnp.where(angles[-1] > 0, angles[-1], angles[-2])

    def unit(angle: Array) -> Level:
        return Level(jnp.maximum(jnp.cos(angle), 0.0), jnp.sin(angle))

    def slope(z: Array, angle: Array) -> Array:
        level = unit(angle)
        x0 = denoise(z, level, conditions)
        # With eps = (z - cos D) / sin, v = cos eps - sin D has one division.
        return (expand(level.alpha, z) * z - x0) / expand(level.sigma, z)

    def advance(state: _State) -> _State:
        z, k1, angle = state.z, state.slope, state.angle
        # The last stride ends on the goal exactly; one that is there already stays.
        remaining = angle - goal
        stride = jnp.minimum(state.stride, remaining)
        h = -expand(stride, z)
        k2 = slope(z + h / 2 * k1, angle - stride / 2)
        k3 = slope(z + 3 / 4 * h * k2, angle - 3 / 4 * stride)
        ahead = z + h * (2 / 9 * k1 + 1 / 3 * k2 + 4 / 9 * k3)
        angle_ahead = jnp.where(stride >= remaining, goal, angle - stride)
        k4 = slope(ahead, angle_ahead)
        error = h * (-5 / 72 * k1 + 1 / 12 * k2 + 1 / 9 * k3 - 1 / 8 * k4)
        scale = atol + rtol * jnp.maximum(jnp.abs(z), jnp.abs(ahead))
        size = jnp.sqrt(jnp.mean((error / scale) ** 2, axis=tuple(range(1, z.ndim))))
        keep = size <= 1
        factor = jnp.clip(0.9 * jnp.maximum(size, 1e-10) ** (-1 / 3), 0.2, 5.0)
        moving = remaining > 0
        evaluations = state.report.evaluations + 3 * moving
        angle = jnp.where(keep, angle_ahead, angle)
        return _State(
            jnp.where(expand(keep, z), ahead, z),
            jnp.where(expand(keep, z), k4, k1),
            angle,
            jnp.where(moving, stride * factor, state.stride),
            Report(evaluations, angle <= goal),
            state.taken + 1,
        )

    def unfinished(state: _State) -> Array:
        return (state.taken < max_steps) & ~jnp.all(state.report.arrived)

    batch = x.shape[:1]
    angle = jnp.broadcast_to(angles[0], batch)
    z = x / jnp.hypot(alpha[0], sigma[0])
    begun = Report(jnp.ones(batch, jnp.int32), angle <= goal)
    state = _State(z, slope(z, angle), angle, (angle - goal) / 10, begun, jnp.zeros((), jnp.int32))
    state = jax.lax.while_loop(unfinished, advance, state)

    # v and z at the goal give x_0 and eps there without another evaluation.
    level = Level(jnp.cos(goal), jnp.sin(goal))
    x0 = level.alpha * state.z - level.sigma * state.slope
    eps = level.sigma * state.z + level.alpha * state.slope
    x = mix(Level(alpha[-1], sigma[-1]), x0, eps)
    x = jnp.where(expand(state.report.arrived, x), x, jnp.nan)
    return (x, state.report) if report else x
