"""Build samplers: a name and its options become one hashable function that jit may hold static."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from audiodiff.build.choices import ConfigError, choose, nearest_first
from audiodiff.diffusion import samplers
from audiodiff.diffusion.adaptive import adaptive

SAMPLERS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
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


@functools.lru_cache(maxsize=64)
def _bound(name: str, given: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    # One object for one choice: a new partial of the same sampler would compile anew.
    return functools.partial(SAMPLERS[name][0], **dict(given))


def make_sampler(name: str, options: Mapping[str, Any] | None = None) -> Callable[..., Any]:
    """Return ``(denoise, x, grid, conditions, key) -> x``."""
    _, allowed = choose("sampler", name, SAMPLERS)
    given = dict(options or {})
    for key in given:
        if key not in allowed:
            takes = nearest_first(key, list(allowed)) or "no options"
            raise ConfigError(f"sampler {name!r} takes no {key!r}; it takes {takes}")
    return _bound(name, tuple(sorted(given.items())))
