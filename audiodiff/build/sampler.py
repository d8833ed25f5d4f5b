"""Build samplers: a name and its options become one hashable function that jit may hold static."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from audiodiff.build.choices import ConfigError, Table, choose, options
from audiodiff.diffusion import samplers
from audiodiff.diffusion.adaptive import adaptive

Sampler = Callable[..., Any]
"""``(denoise, x, grid, conditions, key, **options) -> x``."""

SAMPLERS: Table[Any] = {
    "ddpm": (samplers.ddpm, ()),
    "ddim": (samplers.ddim, ("eta",)),
    "euler": (samplers.euler, ()),
    "heun": (samplers.heun, ()),
    "dpmpp_2m": (samplers.dpmpp_2m, ()),
    "dpmpp_2m_sde": (samplers.dpmpp_2m_sde, ("eta",)),
    "ancestral": (samplers.ancestral, ("eta", "second_order")),
    "euler_maruyama": (samplers.euler_maruyama, ("eta",)),
    "edm_stochastic": (samplers.edm_stochastic, ("s_churn", "s_min", "s_max", "s_noise")),
    "adaptive": (adaptive, ("rtol", "atol", "max_steps")),
}


def make_sampler(config: Mapping[str, Any]) -> Sampler:
    """Build a sampler, the same object for the same choice: jit compiles a new one anew."""
    function, allowed = choose("sampler", config.get("name", ""), SAMPLERS)
    return _bound(function, tuple(sorted(options("sampler", config, allowed).items())))


def check_guidance(strength: float, drop_probability: float) -> None:
    """Raise ConfigError where a model is to be guided away from a null that it never learnt."""
    if strength != 1.0 and not drop_probability:
        raise ConfigError(
            f"guidance is {strength:g}, and this model was trained with drop_probability 0: it knows no "
            "unconditional sound to be guided away from; give guidance 1"
        )


@functools.lru_cache(maxsize=64)
def _bound(function: Sampler, given: tuple[tuple[str, Any], ...]) -> Sampler:
    return functools.partial(function, **dict(given))
