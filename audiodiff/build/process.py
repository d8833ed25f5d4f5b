"""Build processes, parameterisations, weightings, level distributions and grids.

Levels of noise that a config names are in units of sigma_data, so that they mean the same whatever the scale of the
data: ``log_normal``, ``log_uniform`` and ``karras``. EDM's P_mean = -1.2 at sigma_data 0.5 is mean = -0.507 here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from audiodiff.build.choices import ConfigError, Table, call, choose, construct
from audiodiff.diffusion import grids, levels, processes, weightings
from audiodiff.diffusion.parameterisations import PARAMETERISATIONS, Parameterisation
from audiodiff.diffusion.processes import Curve, DiscreteVp
from audiodiff.types import Level

TABLES = {
    "diffwave200": processes.DIFFWAVE_200,
    "diffwave50": processes.DIFFWAVE_50,
    "ddpm1000": processes.DDPM_1000,
    "wavegrad1000": processes.WAVEGRAD_1000,
}
"""The linear beta tables of the papers: first, last, steps."""


def _discrete(table: str = "diffwave200", zero_terminal: bool = False) -> DiscreteVp:
    betas = processes.linear_betas(*choose("beta table", table, TABLES))
    return DiscreteVp.from_betas(processes.zero_terminal_snr(betas) if zero_terminal else betas)


def _log_normal(process: Curve, sigma_data: float, mean: float, std: float) -> levels.LogNormal:
    return levels.LogNormal(mean + math.log(sigma_data), std, process)


def _log_uniform(process: Curve, sigma_data: float, sigma_min: float, sigma_max: float) -> levels.LogUniform:
    return levels.LogUniform(*_scaled(sigma_data, sigma_min, sigma_max), process)


def _karras(
    process: Curve, sigma_data: float, steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0
) -> Level:
    return grids.karras(steps, *_scaled(sigma_data, sigma_min, sigma_max), rho, process)


def _from_table(process: Curve, sigma_data: float, steps: int, spacing: str = "trailing") -> Level:
    if not isinstance(process, DiscreteVp):
        raise ValueError("it picks steps of process 'vp_table', unshifted: choose that process, or grid 'karras'")
    return grids.from_table(process, steps, spacing)


def _scaled(sigma_data: float, sigma_min: float, sigma_max: float) -> tuple[float, float]:
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"sigma_min is {sigma_min} and sigma_max {sigma_max}: give 0 < sigma_min < sigma_max")
    return sigma_min * sigma_data, sigma_max * sigma_data


def _unscaled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Take ``sigma_data``, as all entries of a table must, and do without."""

    @functools.wraps(function)
    def without(*, sigma_data: float, **arguments: Any) -> Any:
        return function(**arguments)

    return without


PROCESSES: Table[Curve] = {
    "edm": (processes.Edm, ("sigma_min", "sigma_max", "rho")),
    "vp_linear": (processes.VpLinear, ("beta_min", "beta_max")),
    "vp_cosine": (processes.VpCosine, ("s",)),
    "vp_crash": (processes.VpCrash, ()),
    "vp_table": (_discrete, ("table", "zero_terminal")),
    "sub_vp": (processes.SubVp, ("beta_min", "beta_max")),
    "rectified_flow": (processes.RectifiedFlow, ()),
}

WEIGHTINGS: Table[weightings.Weighting] = {
    "edm": (weightings.Edm, ()),
    "uniform": (weightings.Uniform, ()),
    "min_snr": (weightings.MinSnr, ("gamma",)),
    "truncated_snr": (weightings.TruncatedSnr, ()),
    "p2": (weightings.P2, ("gamma", "k")),
    "sigmoid": (weightings.Sigmoid, ("bias",)),
}

LEVELS: Table[levels.LevelDistribution] = {
    "log_normal": (_log_normal, ("mean", "std")),
    "log_uniform": (_log_uniform, ("sigma_min", "sigma_max")),
    "uniform_time": (_unscaled(levels.UniformTime), ("smallest_t", "largest_t")),
    "logit_normal": (_unscaled(levels.LogitNormal), ("mean", "std")),
}

GRIDS: Table[Level] = {
    "karras": (_karras, ("sigma_min", "sigma_max", "rho")),
    "uniform_time": (_unscaled(grids.uniform), ("largest_t",)),
    "uniform_logsnr": (_unscaled(grids.uniform_logsnr), ("logsnr_min", "logsnr_max")),
    "cosine": (_unscaled(grids.cosine), ("largest_t",)),
    "table": (_from_table, ("spacing",)),
}


def make_process(config: Mapping[str, Any]) -> Curve:
    """Build a process. ``shift`` multiplies sigma / alpha on any of them (see :class:`processes.Shifted`)."""
    process = construct("process", PROCESSES, {key: value for key, value in config.items() if key != "shift"})
    shift = config.get("shift", 1.0)
    if not shift > 0:
        raise ConfigError(f"process {config['name']!r} has shift {shift}: give a number above 0, 1 for none")
    return process if shift == 1 else processes.Shifted(process, shift)


def make_parameterisation(name: str) -> Parameterisation:
    """Build a parameterisation: eps, x0, v, score, edm or velocity."""
    return choose("parameterisation", name, PARAMETERISATIONS)


def make_weighting(config: Mapping[str, Any], parameterisation: Parameterisation) -> weightings.Weighting:
    """Build a weighting of the squared error of x_0 by level; ``uniform`` is so on the network's own output."""
    kind, allowed = choose("weighting", config.get("name", ""), WEIGHTINGS)
    fixed = {"parameterisation": parameterisation} if kind is weightings.Uniform else {}
    return call("weighting", kind, config, allowed, **fixed)


def make_levels(config: Mapping[str, Any], process: Curve, sigma_data: float) -> levels.LevelDistribution:
    """Build the distribution of training levels."""
    return construct("levels", LEVELS, config, process=process, sigma_data=sigma_data)


def make_grid(config: Mapping[str, Any], process: Curve, sigma_data: float, steps: int) -> Level:
    """Build the grid of a sampler: ``steps`` + 1 levels, noisiest first."""
    return construct("grid", GRIDS, config, process=process, sigma_data=sigma_data, steps=steps)
