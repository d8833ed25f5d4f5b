"""Share what every launch script does: read the config, and say an error in one line."""

from __future__ import annotations

import difflib
import gc
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

# Scripts are run by path from the project's root: configs/ is found there, as audiodiff is where it is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))


def ask_for_huge_pages() -> None:
    """Begin again, once, with memory in huge pages where Linux and glibc have them.

    A training step walks gigabytes of activations; in pages of 4 KiB the CPU spends an eighth of a step of the digits
    on finding them, and a fifth of one of DiffWave's (docs/performance.md). glibc reads the setting only at the start.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.execve(sys.executable, sys.orig_argv, os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"})


if pathlib.Path(__file__).parent in pathlib.Path(getattr(sys.modules["__main__"], "__file__", "")).resolve().parents:
    ask_for_huge_pages()  # a launch script, which has imported nothing yet that it would import twice

from absl import app, flags, logging  # noqa: E402
from ml_collections import ConfigDict, config_flags  # noqa: E402

EXPECTED = (ValueError, OSError, RuntimeError, FloatingPointError)
"""What bad input raises, told in one line with exit code 1. Anything else is a bug and keeps its traceback."""

TRACEBACK = flags.DEFINE_bool("traceback", False, "Show where an error arose.")


def define_config(*, required: bool = True) -> Any:
    """Define --config=FILE[:ARG], a Python file with get_config(arg), and --config.key=value for each of its keys."""
    holder = config_flags.DEFINE_config_file("config", None, "Config file, as configs/digits_wave.py:cpu.")
    if required:
        flags.mark_flag_as_required("config")
    return holder


def pairs(flag: str, text: str) -> dict[str, str]:
    """Read the value of a flag that names several, as ``digit=7,speaker=theo``."""
    parts = [part.partition("=") for part in text.split(",") if part]
    for name, equals, _ in parts:
        if not equals:
            raise ValueError(f"--{flag} has {name!r} without a value: write it as {name}=VALUE, several with commas")
    return {name.strip(): value.strip() for name, _, value in parts}


def plain(config: ConfigDict) -> dict[str, Any]:
    """Return a config as plain values: nested dicts, tuples, numbers, strings."""
    return {key: plain(value) if isinstance(value, ConfigDict) else value for key, value in config.items()}


def run(main: Callable[[], None]) -> None:
    """Parse flags and run ``main``; bad input ends with one clear line on stderr and exit code 1."""
    app.run(lambda arguments: guarded(main), flags_parser=parse)


def be_deterministic() -> None:
    """Ask XLA for programs that give the same bits in every run on the same GPU; the CPU's do by themselves.

    To be called before the first operation of JAX.
    """
    flag = "--xla_gpu_deterministic_ops=true"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


def guarded(main: Callable[[], None]) -> None:
    """Call ``main``, and end the process with one line where it is given something impossible."""
    # Tracing makes millions of objects that live on: to look through them for garbage takes a tenth of its time.
    gc.set_threshold(50_000, 20, 10)
    import jax

    cache = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/audiodiff/jax"))
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # a start is hundreds of small programs
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    logging.set_verbosity(logging.WARNING)
    try:
        main()
    except EXPECTED as error:
        if TRACEBACK.value:
            raise
        fail(str(error))


def store_folder() -> pathlib.Path | None:
    """Return the folder of what is kept for the next start, below JAX's cache; None where that is on no disk."""
    cache = os.environ["JAX_COMPILATION_CACHE_DIR"]
    return None if "://" in cache else pathlib.Path(cache) / "store"


def parse(arguments: list[str]) -> list[str]:
    """Parse flags; what cannot be ends the process with one line that names the nearest that can."""
    for argument in arguments:
        if argument.startswith("--config=") and not pathlib.Path(path := _config_file(argument)).is_file():
            known = sorted(pathlib.Path("configs").glob("*.py"), key=lambda one: -_likeness(path, str(one)))
            fail(f"there is no config file {path}" + (f"; the nearest is {known[0]}" if known else ""))
    try:
        rest = flags.FLAGS(arguments)
    except Exception as error:  # absl and ml_collections raise many kinds for a wrong flag
        fail(_explain(error, arguments))
    if len(rest) > 1:
        fail(f"unexpected argument {rest[1]!r}: options begin with --")
    return rest


def fail(message: str) -> NoReturn:
    """End the process with exit code 1 and one line."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)


def _explain(error: Exception, arguments: list[str]) -> str:
    """Say in one sentence what is wrong with the arguments that made ``error``."""
    text = str(error)
    if missing := re.findall(r"Flag (--\S+) must have a value", text):
        return f"{' and '.join(missing)} missing: give {' '.join(f'{name}=...' for name in missing)}"
    if "Traceback" in text:  # ml_collections tells what a config file raised in the words of the interpreter
        return text.strip().splitlines()[-1].partition(": ")[2]
    known = [key for argument in arguments if argument.startswith("--config=") for key in _keys(_load(argument))]
    for argument in arguments:
        key = argument.removeprefix("--config.").partition("=")[0]
        if known and argument.startswith("--config.") and key not in known:
            nearest = sorted(known, key=lambda one: -_likeness(key, one))[:5]
            return f"unknown config key {key!r}; the nearest are {', '.join(nearest)}"
    return text


def _config_file(argument: str) -> str:
    return argument.removeprefix("--config=").partition(":")[0]


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _load(argument: str) -> ConfigDict:
    """Return the config of a ``--config=FILE[:ARG]`` as the file gives it, nothing changed."""
    alone = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=alone, sys_argv=["", argument])
    alone(["", argument])
    return holder.value


def _keys(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all values."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
