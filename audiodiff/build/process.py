"""Build processes, level distributions, weightings and grids."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from audiodiff.build.choices import ConfigError, call, choose, options
from audiodiff.diffusion import grids, levels, processes, weightings
from audiodiff.diffusion.parameterisations import PARAMETERISATIONS, Parameterisation
from audiodiff.diffusion.processes import Curve, DiscreteVp, linear_betas, zero_terminal_snr
from audiodiff.types import Level

TABLES = {
    "diffwave200": (1e-4, 0.02, 200),
    "diffwave50": (1e-4, 0.05, 50),
    "ddpm1000": (1e-4, 0.02, 1000),
    "wavegrad1000": (1e-6, 0.01, 1000),
}
"""The linear beta tables of the papers: first, last, steps."""


def _discrete(table: str = "diffwave200", zero_terminal: bool = False) -> DiscreteVp:
    betas = linear_betas(*choose("beta table", table, TABLES))
    return DiscreteVp.from_betas(zero_terminal_snr(betas) if zero_terminal else betas)


PROCESSES: dict[str, tuple[Callable[..., Curve], tuple[str, ...]]] = {
    "edm": (processes.Edm, ("sigma_min", "sigma_max", "rho")),
    "vp_linear": (processes.VpLinear, ("beta_min", "beta_max")),
    "vp_cosine": (processes.VpCosine, ("s",)),
    "vp_crash": (processes.VpCrash, ()),
    "vp_table": (_discrete, ("table", "zero_terminal")),
    "sub_vp": (processes.SubVp, ("beta_min", "beta_max")),
    "rectified_flow": (processes.RectifiedFlow, ()),
}

WEIGHTINGS: dict[str, tuple[Callable[..., weightings.Weighting], tuple[str, ...]]] = {
    "edm": (weightings.Edm, ()),
    "uniform": (weightings.Uniform, ()),
    "min_snr": (weightings.MinSnr, ("gamma",)),
    "truncated_snr": (weightings.TruncatedSnr, ()),
    "p2": (weightings.P2, ("gamma", "k")),
    "sigmoid": (weightings.Sigmoid, ("bias",)),
}


def make_process(config: Mapping[str, Any]) -> Curve:
    """Build a process. ``shift`` multiplies sigma / alpha on any of them (see :class:`processes.Shifted`)."""
    kind, allowed = choose("process", config["name"], PROCESSES)
    plain = {key: value for key, value in config.items() if key != "shift"}
    process = call("process", kind, plain, allowed)
    return processes.Shifted(process, config["shift"]) if config.get("shift", 1.0) != 1.0 else process


def make_parameterisation(name: str) -> Parameterisation:
    """Build a parameterisation: eps, x0, v, score, edm or velocity."""
    return choose("parameterisation", name, PARAMETERISATIONS)


def make_weighting(config: Mapping[str, Any], parameterisation: Parameterisation) -> weightings.Weighting:
    """Build a weighting of the squared error of x_0 by level."""
    kind, allowed = choose("weighting", config["name"], WEIGHTINGS)
    fixed = {"parameterisation": parameterisation} if config["name"] == "uniform" else {}
    return call("weighting", kind, config, allowed, **fixed)


def make_levels(config: Mapping[str, Any], process: Curve, sigma_data: float) -> levels.LevelDistribution:
    """Build the distribution of training levels.

    ``log_normal`` (mean, std) and ``log_uniform`` (sigma_min, sigma_max) are given in units of sigma_data, so that a
    config means the same noise whatever the scale of its data. EDM's P_mean = -1.2 at sigma_data 0.5 is mean = -0.507.
    """
    name = config["name"]
    if name == "log_normal":
        given = options("levels", config, ("mean", "std"))
        return levels.LogNormal(given["mean"] + math.log(sigma_data), given["std"], process)
    if name == "log_uniform":
        given = options("levels", config, ("sigma_min", "sigma_max"))
        return levels.LogUniform(given["sigma_min"] * sigma_data, given["sigma_max"] * sigma_data, process)
    kinds: dict[str, tuple[Callable[..., levels.LevelDistribution], tuple[str, ...]]] = {
        "uniform_time": (levels.UniformTime, ("smallest_t", "largest_t")),
        "logit_normal": (levels.LogitNormal, ("mean", "std")),
        "log_normal": (levels.LogNormal, ()),
        "log_uniform": (levels.LogUniform, ()),
    }
    kind, allowed = choose("levels", name, kinds)
    return call("levels", kind, config, allowed, process=process)


def make_grid(config: Mapping[str, Any], process: Curve, sigma_data: float, steps: int) -> Level:
    """Build the grid of a sampler; ``karras`` bounds are in units of sigma_data."""
    name = config["name"]
    if name == "karras":
        given = options("grid", config, ("sigma_min", "sigma_max", "rho"))
        low, high = given["sigma_min"] * sigma_data, given["sigma_max"] * sigma_data
        return grids.karras(steps, low, high, given.get("rho", 7.0), process)
    if name == "table":
        if not isinstance(process, DiscreteVp):
            raise ConfigError("grid 'table' picks steps of a process 'vp_table': choose that process, or grid 'karras'")
        return grids.from_table(process, steps, config.get("spacing", "trailing"))
    kinds: dict[str, tuple[Callable[..., Level], tuple[str, ...]]] = {
        "uniform_time": (grids.uniform, ("largest_t",)),
        "uniform_logsnr": (grids.uniform_logsnr, ("logsnr_min", "logsnr_max")),
        "cosine": (grids.cosine, ("largest_t",)),
        "karras": (grids.karras, ()),
        "table": (grids.from_table, ()),
    }
    kind, allowed = choose("grid", name, kinds)
    return call("grid", kind, config, allowed, process=process, steps=steps)
