"""Turn a config's strings into functions: the one place where a name may be wrong, and is told so kindly."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class ConfigError(ValueError):
    """Say in one sentence what a config asks for that cannot be, and what can."""


def nearest_first(name: str, valid: list[str]) -> str:
    """List the valid names, the most similar to ``name`` first."""
    return ", ".join(sorted(valid, key=lambda one: -difflib.SequenceMatcher(None, str(name), one).ratio()))


def choose(what: str, name: str, table: Mapping[str, T]) -> T:
    """Return table[name]; raise ConfigError that lists the valid names, nearest first, otherwise."""
    if name not in table:
        raise ConfigError(f"unknown {what} {name!r}; choose one of {nearest_first(name, list(table))}")
    return table[name]


def options(what: str, config: Mapping[str, Any], allowed: tuple[str, ...]) -> dict[str, Any]:
    """Return the options of a section but for its ``name``; raise ConfigError at one that the choice does not take."""
    given = {key: value for key, value in config.items() if key != "name"}
    for key in given:
        if key not in allowed:
            raise ConfigError(
                f"{what} {config.get('name', '')!r} takes no {key!r}; it takes {nearest_first(key, list(allowed))}"
            )
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}


def call(what: str, function: Callable[..., T], config: Mapping[str, Any], allowed: tuple[str, ...], **fixed: Any) -> T:
    """Call a constructor with a section's options and ``fixed`` arguments; its ValueError becomes a ConfigError."""
    try:
        return function(**options(what, config, allowed), **fixed)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{what} {config.get('name', '')!r}: {error}") from error
