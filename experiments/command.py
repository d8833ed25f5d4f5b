"""Share what every launch script does: read the config, and say an error in one line."""

from __future__ import annotations

import difflib
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

# Scripts are run by path from the project's root: configs/ is found there, as audiodiff is where it is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

EXPECTED = (ValueError, FileNotFoundError, RuntimeError, OSError)
"""What bad input raises: told in one line, exit code 1. Anything else is a bug and keeps its traceback."""


def define_config() -> Any:
    """Define --config, a Python file with get_config(arg) (--config=FILE[:ARG]), and --config.key=value for its keys."""
    return config_flags.DEFINE_config_file(
        "config", None, "Config file, as configs/digits_wave.py:cpu.", lock_config=True
    )


def plain(config: ConfigDict) -> dict[str, Any]:
    """Return a config as plain values: nested dicts, tuples, numbers, strings."""
    return {key: plain(value) if isinstance(value, ConfigDict) else value for key, value in config.items()}


def run(main: Callable[[], int | None], *, needs: tuple[str, ...] = ()) -> None:
    """Parse flags and run ``main``; bad input ends with one clear line on stderr and exit code 1."""

    def guarded(arguments: list[str]) -> None:
        if len(arguments) > 1:
            _fail(f"unexpected argument {arguments[1]!r}: options begin with --")
        for name in needs:
            if flags.FLAGS[name].value in (None, ""):
                _fail(f"--{name} is missing: give --{name}=...")
        cache = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/audiodiff/jax"))
        jax.config.update("jax_compilation_cache_dir", cache)
        logging.set_verbosity(logging.WARNING)  # Orbax tells every step of a save at INFO
        try:
            code = main()
        except EXPECTED as error:
            _fail(str(error))
        sys.exit(code or 0)

    app.run(guarded, flags_parser=_parse)


def _parse(arguments: list[str]) -> list[str]:
    """Parse flags; an unknown config key or value is an error in one line, with the nearest keys."""
    try:
        return flags.FLAGS(arguments)
    except (flags.Error, AttributeError, KeyError, ValueError, TypeError, OSError) as error:
        _fail(_explain(error))
        raise AssertionError from error


def _explain(error: Exception) -> str:
    given = [argument[len("--config.") :].split("=")[0] for argument in sys.argv if argument.startswith("--config.")]
    config = flags.FLAGS["config"].value if "config" in flags.FLAGS else None
    known = list(_keys(config)) if isinstance(config, ConfigDict) else []
    for key in given:
        if known and key not in known:
            near = sorted(known, key=lambda one: -difflib.SequenceMatcher(None, key, one).ratio())[:5]
            return f"unknown config key {key!r}; the nearest are {', '.join(near)}"
    return " ".join(str(error).split())


def _keys(config: Mapping[str, Any], prefix: str = "") -> Any:
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, ConfigDict):
            yield from _keys(value, f"{prefix}{key}.")


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)
