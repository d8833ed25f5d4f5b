"""Turn a config's strings into functions: the one place where a name may be wrong, and is told so kindly.

Every noun has a literal dictionary, a ``Table``: name -> (function, names of the options that a config may give it).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
Table = Mapping[str, tuple[Callable[..., T], tuple[str, ...]]]


class ConfigError(ValueError):
    """Say in one sentence what a config asks for that cannot be, and what can."""


def nearest_first(name: object, valid: Iterable[str]) -> str:
    """List the valid names, the most similar to ``name`` first."""
    return ", ".join(sorted(valid, key=lambda one: -difflib.SequenceMatcher(None, str(name), one).ratio()))


def choose(what: str, name: str, table: Mapping[str, T]) -> T:
    """Return table[name]; raise ConfigError that lists the valid names, nearest first, otherwise."""
    if not isinstance(name, str) or name not in table:
        mend = f"choose one of {nearest_first(name, table)}" if table else "there is none to choose"
        raise ConfigError(f"unknown {what} {name!r}; {mend}")
    return table[name]


def options(what: str, config: Mapping[str, Any], allowed: tuple[str, ...]) -> dict[str, Any]:
    """Return the options of a section but for its ``name``; raise ConfigError at one that the choice does not take."""
    given = {key: value for key, value in config.items() if key != "name"}
    for key in given:
        if key not in allowed:
            takes = nearest_first(key, allowed) or "no options"
            raise ConfigError(f"{_called(what, config)} takes no {key!r}; it takes {takes}")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}


def call(what: str, function: Callable[..., T], config: Mapping[str, Any], allowed: tuple[str, ...], **fixed: Any) -> T:
    """Call a function with a section's options and ``fixed`` arguments; what it refuses becomes a ConfigError."""
    given = options(what, config, allowed)
    try:
        return function(**given, **fixed)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{_called(what, config)}: {error}") from error


def construct(what: str, table: Table[T], config: Mapping[str, Any], **fixed: Any) -> T:
    """Call the function that a section names, with the section's options and ``fixed`` arguments."""
    function, allowed = choose(what, config.get("name", ""), table)
    return call(what, function, config, allowed, **fixed)


def _called(what: str, config: Mapping[str, Any]) -> str:
    return f"{what} {config['name']!r}" if "name" in config else what
