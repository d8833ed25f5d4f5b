"""Lay the n + 1 levels that a sampler of n steps visits: a Level of arrays [n+1], noisiest first, clean last."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from audiodiff.diffusion.processes import Curve, DiscreteVp, Edm
from audiodiff.types import Array, Level

DIFFWAVE_FAST_BETAS = (1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5)
"""The six steps of DiffWave BASE's fast vocoder (Kong et al. 2021, appendix B)."""


def level_at(grid: Level, index: int) -> Level:
    """Return the level of a grid at an index, two scalars; 0 is where sampling starts."""
    return Level(grid.alpha[index], grid.sigma[index])


def clean(levels: Level) -> Level:
    """Append the data's level, alpha = 1 and sigma = 0, to levels [n]."""
    return Level(jnp.append(levels.alpha, 1.0), jnp.append(levels.sigma, 0.0))


def uniform(process: Curve, steps: int, largest_t: float = 1.0) -> Level:
    """Lay t evenly from ``largest_t`` to 0 over a process; the last level is made clean."""
    t = jnp.linspace(largest_t, 0.0, _positive(steps) + 1)
    return clean(process.level(t[:-1]))


def karras(
    steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0, process: Curve | None = None
) -> Level:
    """Lay sigma / alpha evenly in its rho-th root from sigma_max to sigma_min (Karras et al. 2022, eq. 5).

    The levels stand on the curve of ``process``, by default on alpha = 1.
    """
    path = Edm(sigma_min, sigma_max, rho)
    return clean((process or path).on_curve(path.level(1 - _ramp(steps))))


def uniform_logsnr(steps: int, logsnr_min: float, logsnr_max: float, process: Curve) -> Level:
    """Lay log-SNR evenly from logsnr_min to logsnr_max on the curve of a process (Lu et al. 2022)."""
    return clean(process.at_logsnr(logsnr_min + _ramp(steps) * (logsnr_max - logsnr_min)))


def cosine(steps: int, process: Curve, largest_t: float = 1.0) -> Level:
    """Lay the angle arctan(sigma / alpha) evenly, from that of t = largest_t to 0, on the curve of a process.

    On ``VpCosine(s=0)`` these are even times (Salimans & Ho 2022).
    """
    start = process.level(jnp.asarray(largest_t, jnp.result_type(float)))
    angle = jnp.arctan2(start.sigma, start.alpha) * jnp.linspace(1.0, 0.0, _positive(steps) + 1)[1:-1]
    turned = process.on_curve(Level(jnp.cos(angle), jnp.sin(angle)))
    return clean(Level(*(jnp.append(first, rest) for first, rest in zip(start, turned, strict=True))))


def from_table(process: DiscreteVp, steps: int, spacing: str = "trailing") -> Level:
    """Pick ``steps`` of the T levels of a table.

    ``trailing`` takes T, T - T/n, .. and so begins at the noisiest, as zero terminal SNR requires; ``leading`` takes
    .., 1 + T//n, 1 as DDIM did and never sees the last (Lin et al. 2024, table 2).
    Raises ValueError for more steps than the table has or another spacing.
    """
    total = process.steps
    if not 1 <= steps <= total:
        raise ValueError(f"asked {steps} steps of a table of {total}: choose 1 to {total}")
    if spacing == "trailing":
        index = np.rint(total - np.arange(steps) * total / steps).astype(int)
    elif spacing == "leading":
        index = 1 + np.arange(steps)[::-1] * (total // steps)
    else:
        raise ValueError(f"spacing is {spacing!r}: choose 'trailing' or 'leading'")
    return clean(process.level(jnp.asarray(index / total)))


def from_betas(betas: np.ndarray | tuple[float, ...]) -> Level:
    """Lay the levels of a short table of betas, noisiest last in the table and first in the grid."""
    table = DiscreteVp.from_betas(np.asarray(betas))
    return from_table(table, table.steps)


def _positive(steps: int) -> int:
    if steps < 1:
        raise ValueError(f"steps is {steps} but a sampler needs at least 1: raise it")
    return steps


def _ramp(steps: int) -> Array:
    return jnp.linspace(0.0, 1.0, _positive(steps))
