"""Save and restore training states; only this module and `posthoc` know Orbax.

Layout: ``WORKDIR/checkpoints/<step>/{state,meta}``, written in the background and complete once the step's folder has
its final name. Beside them ``sums.json`` holds a checksum of each file, because neither Orbax nor TensorStore notices
when bytes of an array have changed. A checkpoint that cannot be read is moved to ``WORKDIR/damaged/``, never deleted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pathlib
import re
import zlib
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from audiodiff.training.state import TrainState
from audiodiff.types import PyTree

FORMAT = 1
"""The version of what a checkpoint holds. A newer one than this is refused."""

SUMS_FILE = "sums.json"
"""The CRC-32 of each file of a checkpoint, by its path; checkpoints of before have none."""

logger = logging.getLogger(__name__)


def _worth_telling(record: logging.LogRecord) -> bool:
    """Drop what Orbax reports of each stage of a save, and the tracebacks of its threads, which it raises as well."""
    return "orbax" not in record.pathname or (record.levelno > logging.INFO and not record.exc_info)


logging.getLogger("absl").addFilter(_worth_telling)
# Where one of its writes has failed, Orbax abandons the others: asyncio tells of each, after the error was told of.
logging.getLogger("asyncio").addFilter(lambda record: "exception was never retrieved" not in record.getMessage())


class CheckpointError(RuntimeError):
    """Say in one sentence why a checkpoint could not be saved or restored, and what to do."""


class Restored(NamedTuple):
    """Hold a restored state, the step it was saved before, and the plain values saved with it."""

    state: TrainState
    step: int
    meta: dict[str, Any]


class Checkpoints:
    """Keep the newest ``keep`` checkpoints of a run, and each ``keep_every``-th for good.

    A context manager: leaving it waits for the save in flight, which would else be lost in silence.
    """

    def __init__(self, workdir: str | os.PathLike[str], *, keep: int = 2, keep_every: int | None = None):
        self.workdir = pathlib.Path(workdir).resolve()  # Orbax fails on relative paths, in a background thread
        self._saving: int | None = None
        self._manager = ocp.CheckpointManager(
            _folder(self.workdir),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                keep_period=keep_every,
                create=True,
                cleanup_tmp_directories=True,
                # called when all is written but the final name, so no whole checkpoint is ever without its sums
                async_options=ocp.options.AsyncOptions(post_finalization_callback=self._write_sums),
            ),
            item_handlers={"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()},
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        finally:
            with self._explained():
                self._manager.close()

    def steps(self) -> list[int]:
        """Return the saved steps, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: TrainState, meta: Mapping[str, Any] | None = None) -> None:
        """Start saving the state before step ``step``; the previous save is waited for, and its errors are raised here.

        The arrays are copied before this returns: the state may be donated at once. ``meta`` holds JSON values.
        """
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave({**(meta or {}), "format": FORMAT})
        )
        self.wait()
        self._saving = step
        with self._explained():
            started = self._manager.save(step, args=arguments)
        if not started:
            raise CheckpointError(
                f"the state of step {step} was not saved in {_folder(self.workdir)}: step "
                f"{self._manager.latest_step()} is there already; move the newer checkpoints away"
            )

    def wait(self) -> None:
        """Return when the save in flight, if any, is on disk."""
        with self._explained():
            self._manager.wait_until_finished()

    def restore(self, template: TrainState) -> Restored | None:
        """Restore the newest readable checkpoint onto the template's shardings; None where there is none at all.

        A damaged checkpoint is moved aside with an error in the log that names it and the one taken instead. If all
        are damaged the run stops: nothing ever restarts silently.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self._restore(step, template)
            except CheckpointError:
                raise  # readable, but not this run's: an older one would be no better
            except Exception as error:  # Orbax and TensorStore raise many kinds for damaged files
                older = [s for s in steps if s < step]
                instead = f"falling back to the checkpoint of step {older[-1]}" if older else "no older one is left"
                moved = self._set_aside(step)
                logger.error(
                    "the checkpoint of step %d is damaged (%s); it now lies in %s; %s",
                    step,
                    _brief(error),
                    moved,
                    instead,
                )
                damage = error
        if steps:
            raise CheckpointError(
                f"all checkpoints of {self.workdir} are damaged (steps {', '.join(map(str, steps))}): they lie in "
                f"{self.workdir / 'damaged'}; start in a new workdir, or delete this one's metrics to start anew"
            ) from damage
        return None

    def _restore(self, step: int, template: TrainState) -> Restored:
        folder = _folder(self.workdir) / str(step)
        _check_sums(folder)
        meta, saved = _describe(folder)
        _check_same(template, saved, folder)
        state = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(template))).state
        return Restored(state, step, meta)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Say in one sentence what Orbax and TensorStore say in pages when a save fails."""
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:  # many kinds, most of them without an errno
            code = getattr(error, "errno", None) or next(iter(re.findall(r"os_error_code='(\d+)'", str(error))), None)
            raise CheckpointError(
                f"could not save the state of step {self._saving} in {_folder(self.workdir)}: "
                f"{os.strerror(int(code)) if code else _brief(error)}; what was saved before it is whole: mend this, "
                "then rerun the same command to go on"
            ) from error

    def _write_sums(self) -> None:
        """Write the checksums of the save in flight into its folder, which has its temporary name still."""
        if jax.process_index() != 0:
            return
        (folder,) = _folder(self.workdir).glob(f"{self._saving}.orbax-checkpoint-tmp*")
        files = sorted(path for item in ("state", "meta") for path in (folder / item).rglob("*") if path.is_file())
        sums = {path.relative_to(folder).as_posix(): _checksum(path) for path in files}
        (folder / SUMS_FILE).write_text(json.dumps(sums, indent=2), encoding="utf-8")

    def _set_aside(self, step: int) -> pathlib.Path:
        target = self.workdir / "damaged" / str(step)
        target.parent.mkdir(exist_ok=True)
        while target.exists():
            target = target.with_name(target.name + "_")
        os.replace(_folder(self.workdir) / str(step), target)
        self._manager.reload()
        return target


def save_tree(folder: pathlib.Path, tree: PyTree) -> None:
    """Write any pytree of arrays, whole or not at all, in place of what is there; it is on disk on return."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.resolve(), tree, force=True)


def load_tree(folder: pathlib.Path) -> Any:
    """Read what :func:`save_tree` wrote, as nested dicts of numpy arrays."""
    handler = ocp.PyTreeCheckpointHandler()
    tree = handler.metadata(folder.resolve()).tree
    to_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    return handler.restore(folder.resolve(), args=ocp.args.PyTreeRestore(tree, restore_args=to_numpy))


def latest_step(workdir: str | os.PathLike[str]) -> int | None:
    """Return the newest saved step of a run, or None."""
    steps = [int(p.name) for p in _folder(pathlib.Path(workdir).resolve()).glob("*") if p.name.isdigit()]
    return max(steps, default=None)


def restore_params(
    workdir: str | os.PathLike[str], template: PyTree | None = None, *, ema: str | None = None, step: int | None = None
) -> PyTree:
    """Load the parameters of a run, or its moving average named ``ema``, from a checkpoint (default: the newest).

    With a ``template`` (arrays or ``jax.ShapeDtypeStruct``) they are checked against it and placed like it; without
    one they come as nested dicts on the default device.
    """
    workdir = pathlib.Path(workdir).resolve()
    newest = latest_step(workdir)
    if newest is None:
        raise FileNotFoundError(f"{workdir} holds no checkpoint: train there first, or check the path")
    folder = _folder(workdir) / str(newest if step is None else step)
    if not folder.is_dir():
        raise FileNotFoundError(f"{workdir} holds no checkpoint of step {step}: the newest is of step {newest}")
    try:
        _check_sums(folder)
        _, saved = _describe(folder)
        if ema is not None and ema not in saved["ema"]:
            held = ", ".join(saved["ema"]) or "none"
            raise CheckpointError(f"{workdir} holds no moving average {ema!r}: it holds {held}")
        found = saved["params"] if ema is None else saved["ema"][ema]
        if template is not None:
            _check_same(template, found, folder)
        tree = _nest(jax.tree.map(_where_to, found if template is None else template), ema)
        arguments = ocp.args.PyTreeRestore(
            tree, restore_args=ocp.checkpoint_utils.construct_restore_args(tree), partial_restore=True
        )
        restored = ocp.PyTreeCheckpointHandler().restore(folder / "state", args=arguments)
    except CheckpointError:
        raise
    except Exception as error:  # Orbax and TensorStore raise many kinds for damaged files
        raise CheckpointError(f"the checkpoint {folder} is damaged ({_brief(error)}): name an older step") from error
    return restored["params"] if ema is None else restored["ema"][ema]


def _nest(params: PyTree, ema: str | None) -> dict[str, Any]:
    """Return the part of a saved state that holds these parameters."""
    return {"params": params} if ema is None else {"ema": {ema: params}}


def _where_to(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None)
    if not isinstance(sharding, jax.sharding.Sharding):
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _folder(workdir: pathlib.Path) -> pathlib.Path:
    return workdir / "checkpoints"


def _checksum(path: pathlib.Path) -> int:
    checksum = 0
    with open(path, "rb") as file:
        while part := file.read(2**22):
            checksum = zlib.crc32(part, checksum)
    return checksum


def _check_sums(folder: pathlib.Path) -> None:
    """Raise an error that names the first file that is not as it was written."""
    path = folder / SUMS_FILE
    sums = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, checksum in sums.items():
        if _checksum(folder / name) != checksum:
            raise OSError(f"{name} is not as it was written")


def _describe(folder: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the plain values of a checkpoint and its tree as nested dicts of shapes and dtypes, without its arrays."""
    meta = ocp.JsonCheckpointHandler().restore(folder / "meta")
    if meta["format"] > FORMAT:
        raise CheckpointError(f"{folder} has checkpoint format {meta['format']}, newer than {FORMAT}: update audiodiff")
    return meta, ocp.PyTreeCheckpointHandler().metadata(folder / "state").tree


def _flatten(tree: PyTree) -> dict[str, Any]:
    """Return the leaves by path, with paths that agree between a state and the nested dicts Orbax reports."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(_entry(k) for k in path): leaf for path, leaf in leaves if leaf is not None}


def _entry(key: Any) -> str:
    for name in ("key", "name", "idx"):
        if hasattr(key, name):
            return str(getattr(key, name))
    return str(key)


def _check_same(wanted: PyTree, saved: PyTree, source: pathlib.Path) -> None:
    """Raise an error that names the first leaf that is missing, unknown, or of another shape or dtype."""
    here, there = _flatten(wanted), _flatten(saved)
    for path in [*here, *(path for path in there if path not in here)]:
        ours, theirs = (f"{t[path].dtype}{list(t[path].shape)}" if path in t else "absent" for t in (here, there))
        if ours != theirs:
            raise CheckpointError(
                f"{source} is of another network or optimiser: {path} is {theirs} there and {ours} here; "
                "use the config it was trained with, or another workdir"
            )


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error).strip() else ''}"
