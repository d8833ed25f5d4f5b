"""Keep a run's folder: what was asked for (`config.json`) and where it ran (`env.json`).

A run folder::

    config.json      the resolved config and its hash          checkpoints/<step>/
    env.json         one entry per start of the run            events.out.tfevents.*
    metrics.jsonl    one line per measurement                  averages/<step>/  snapshots of the power averages
    finished.json    once the last evaluation is done
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax

FORMAT = 1
"""The version of a run folder's layout. A newer one than this is refused."""

CONFIG_FILE = "config.json"
ENV_FILE = "env.json"
LOCK_FILE = ".lock"

MAY_CHANGE = (
    "workdir",
    "save_every",
    "evaluate_every",
    "log_every",
    "keep",
    "keep_every",
    "snapshot_every",
    "max_minutes",
    "devices",
    "strategy",
    "wandb",
    "remat",
    "fsdp",
    "num_threads",
    "data.root",
)
"""The config keys, or ends of dotted keys, that may change between the starts of a run: cadences, paths, layout."""

MAY_CHANGE_WITHOUT_AN_END = (*MAY_CHANGE, "total_steps")
"""The same where the learning rate does not depend on the total number of steps: then a run may be made longer."""

PACKAGES = ("audiodiff", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scipy")


class WorkdirError(RuntimeError):
    """Say in one sentence why a run folder cannot be used, and what to do."""


def prepare_workdir(
    workdir: str | os.PathLike[str],
    config: Mapping[str, Any] | None = None,
    *,
    may_change: Collection[str] = MAY_CHANGE,
) -> pathlib.Path:
    """Create a run folder, or open it again if it belongs to the same config; return its absolute path.

    ``config`` is the resolved config in plain values. Dotted keys that end in one of ``may_change`` may differ from the
    stored config, which is then updated; any other difference is an error that lists old and new values.
    """
    folder = pathlib.Path(workdir).expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise WorkdirError(f"cannot write in workdir {folder} ({error.strerror}): choose another --workdir") from error
    if config is None:
        return folder
    new = json.loads(json.dumps(config))  # tuples become lists, as they will be when read back
    stored = read_config(folder) if (folder / CONFIG_FILE).exists() else None
    if stored is not None:
        changes = config_changes(stored, new)
        refused = [c for key, c in changes.items() if not any(f".{key}".endswith(f".{end}") for end in may_change)]
        if refused:
            raise WorkdirError(
                f"workdir {folder} belongs to another config: {'; '.join(refused)}; "
                "take these values back, or choose another --workdir"
            )
    if new != stored:
        with full_disk_told(folder):
            write_json(folder / CONFIG_FILE, {"format": FORMAT, "hash": config_hash(new), "config": new})
    return folder


@contextlib.contextmanager
def full_disk_told(workdir: pathlib.Path) -> Iterator[None]:
    """Say of a full disk where it is and what to do: the error of a write names neither."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise WorkdirError(
            f"cannot write in {workdir}: {os.strerror(error.errno)}; make room, then rerun the same command to go on"
        ) from error


@contextlib.contextmanager
def exclusive(workdir: pathlib.Path) -> Iterator[None]:
    """Hold a run folder against a second process on this machine; the lock ends with the process, however it ends."""
    with open(workdir / LOCK_FILE, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorkdirError(
                f"another process is training in {workdir}: wait for it, or choose another --workdir"
            ) from None
        yield


def read_config(workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the resolved config of a run."""
    path = pathlib.Path(workdir) / CONFIG_FILE
    if not path.exists():
        raise FileNotFoundError(
            f"{pathlib.Path(workdir).resolve()} holds no {CONFIG_FILE}: it is not the folder of a run"
        )
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        version, config = stored["format"], stored["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise WorkdirError(f"{path} is damaged ({error}): restore it, or choose another --workdir") from error
    if version > FORMAT:
        raise WorkdirError(f"{path} has format {version}, newer than {FORMAT}: update audiodiff")
    return config


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the first 16 hex digits of the SHA-256 of the config as sorted JSON."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def config_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys (dotted paths) whose values differ, each with a text "key: old -> new"."""
    before, after = _flatten(old), _flatten(new)
    keys = [*before, *(key for key in after if key not in before)]
    texts = {key: f"{key}: {_show(before, key)} -> {_show(after, key)}" for key in keys}
    return {key: text for key, text in texts.items() if _show(before, key) != _show(after, key)}


def record_start(workdir: pathlib.Path, step: int) -> None:
    """Append to ``env.json`` what this start of the run runs on."""
    path = workdir / ENV_FILE
    starts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    write_json(path, [*starts, {"step": step, **environment()}])


def environment() -> dict[str, Any]:
    """Return versions, commit, devices and flags: what one needs to repeat a run."""
    commit, clean = _commit()
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": commit,
        "clean_tree": clean,
        "devices": [device.device_kind for device in jax.devices()],
        "processes": jax.process_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "matmul_precision": jax.config.values["jax_default_matmul_precision"],
    }


def write_json(path: pathlib.Path, value: Any) -> None:
    """Write a JSON file so that a crash leaves the old one or the new one, never half of one."""
    new = path.with_name(path.name + ".tmp")
    new.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(new, path)


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _show(flat: Mapping[str, Any], key: str) -> str:
    return json.dumps(flat[key]) if key in flat else "absent"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> tuple[str | None, bool | None]:
    """Return the commit of the source tree and whether the tree is clean.

    Outside of git the commit is what the variable AUDIODIFF_COMMIT says, as a copy on a cluster may, or None.
    """

    def git(*arguments: str) -> str | None:
        here = pathlib.Path(__file__).resolve().parent
        try:
            done = subprocess.run(
                ["git", "-C", here, *arguments], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return os.environ.get("AUDIODIFF_COMMIT"), None
    status = git("status", "--porcelain")
    return commit, None if status is None else status == ""
