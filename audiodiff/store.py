"""Keep what each start of a run would make anew: compiled programs, and files of what was measured.

JAX's own cache finds what the compiler made by the program that it made it from, which a process must first trace and
lower; and only then does it read it back, which takes seconds for a training step. Here a program is found by the
command that needs it, so that it is read in a thread while the process still imports libraries and opens its data. It
is used only where all that it came from is what it was: the project's code, libraries, devices, JAX's settings, what
the caller says, and the shapes, places and static parts of its arguments. Else it is lowered, as ever, and compiled
unless a program with that very text is in the store.

A program in the store runs with the rights of who reads it, as one in JAX's cache does: let nobody else write there.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import pathlib
import pickle
import platform
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

logger = logging.getLogger(__name__)

KEEP = 64
"""How much of each kind a store holds: what has not been used for longest goes first."""

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy")
"""The libraries that a program is written with."""

ENVIRONMENT = ("XLA_", "TF_", "LIBTPU_", "NVIDIA_", "CUDA_")
"""How variables of the environment begin that reach a compiler or the code it makes."""

SETTINGS_APART = ("cache", "dir", "log", "dump", "traceback")
"""Words in the names of JAX's settings that change no program."""


class StoredProgram(NamedTuple):
    """Hold a program that is ready to run, the shapes of what it returns, and what was noted of it."""

    run: Callable[..., Any]
    outputs: Any
    notes: Any


class _Entry(NamedTuple):
    """Hold what is written of a program beside itself; ``described`` is unpickled when its classes are imported."""

    text: str
    inputs: int
    outputs: int
    described: bytes


class Store:
    """Keep what one command needs in a folder; without a folder nothing is found and nothing is kept.

    ``command`` is plain values that tell this command from others. By them a program is found, and no more: whether it
    is used is decided by what it was made of.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, command: Any = None):
        self._folder = None if folder is None else pathlib.Path(folder).expanduser()
        self._command = digest(command)[:16]
        self._given = ""
        # Now: a file that is changed while the process runs is not what it has imported.
        self._code = "" if self._folder is None else _code()
        self._reading: dict[str, Future[tuple[_Entry, Callable[..., Any]]]] = {}
        if self._folder is None:
            return
        paths = sorted(self._folder.glob(f"{self._command}-*.entry"))
        two = ThreadPoolExecutor(2, "programs")
        self._reading = {path.stem.partition("-")[2]: two.submit(self._read, path) for path in paths}
        two.shutdown(wait=False)

    def made_of(self, given: Any) -> None:
        """Say what decides the programs beside code, libraries, devices and arguments: plain values."""
        self._given = digest(given)

    def place(self, made_of: Any) -> pathlib.Path | None:
        """Return the folder for files that follow from these plain values and the code alone; None without a store.

        Whoever makes them looks there first and leaves them there, each whole or not at all.
        """
        if self._folder is None:
            return None
        place = self._folder / f"{digest([made_of, self._code])[:32]}.files"
        place.mkdir(parents=True, exist_ok=True)
        place.touch()
        for old in self._oldest(place.suffix):
            shutil.rmtree(old, ignore_errors=True)
        return place

    def find(self, name: str, arguments: tuple[Any, ...]) -> StoredProgram | None:
        """Return the program of that name for such arguments, if it was kept and all is as it was."""
        reading = self._reading.pop(name, None)
        if reading is None or jax.process_count() > 1:  # all processes must run the same
            return None
        try:
            entry, run = reading.result()
            made_of, outputs, notes = pickle.loads(entry.described)
        except Exception as error:  # a file cut short, a class that has moved, another version of XLA, ...
            logger.info("the kept program %r cannot be used: %s", name, error)
            return None
        now = self._made_of(arguments)
        if other := [what for what in now if made_of.get(what) != now[what]]:
            logger.info("the kept program %r was made of another %s", name, ", ".join(other))
            return None
        return StoredProgram(_of_trees(run, outputs), outputs, notes)

    def compile(
        self,
        name: str,
        arguments: tuple[Any, ...],
        lowered: Any,
        note: Callable[[Any, Any], Any] = lambda lowered, compiled: None,
    ) -> StoredProgram:
        """Compile a program that was lowered for such arguments, and keep it with ``note(lowered, compiled)``.

        A program or a disk that does not allow that is told of in the log and costs nothing else.
        """
        outputs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), lowered.out_info)
        if self._folder is None or jax.process_count() > 1:
            compiled = lowered.compile()
            return StoredProgram(compiled, outputs, note(lowered, compiled))
        text = digest([lowered.as_text(), _places(arguments), *self._surroundings().values()])[:32]
        counts = len(jax.tree.leaves(arguments)), len(jax.tree.leaves(outputs))
        run: Callable[..., Any]
        new = False
        try:
            compiled = self._load(text, *counts)
            run = _of_trees(compiled, outputs)
        except Exception:  # it is not there, or not what it should be
            with _cache_of_jax_left_out():
                run = compiled = lowered.compile()
            new = True
        notes = note(lowered, compiled)
        try:
            if new:
                devices = [device.id for device in compiled.runtime_executable().local_devices()]
                program, _, _ = serialize_executable.serialize(compiled)
                self._write(f"{text}.program", pickle.dumps((devices, zlib.compress(program, 1))))
            described = pickle.dumps((self._made_of(arguments), outputs, notes))
            self._write(f"{self._command}-{name}.entry", pickle.dumps(tuple(_Entry(text, *counts, described))))
        except Exception as error:  # JAX and pickle raise many kinds for what they cannot write down
            logger.info("the program %r is not kept: %s", name, error)
        return StoredProgram(run, outputs, notes)

    def _read(self, path: pathlib.Path) -> tuple[_Entry, Callable[..., Any]]:
        entry = _Entry(*pickle.loads(path.read_bytes()))
        path.touch()
        return entry, self._load(entry.text, entry.inputs, entry.outputs)

    def _load(self, text: str, inputs: int, outputs: int) -> Any:
        """Read a program, as a function of leaves: the classes of its arguments need not be imported yet.

        That takes seconds, without Python's lock.
        """
        assert self._folder
        path = self._folder / f"{text}.program"
        devices, program = pickle.loads(path.read_bytes())
        by_id = {device.id: device for device in jax.devices()}
        path.touch()
        return serialize_executable.deserialize_and_load(
            zlib.decompress(program),
            jax.tree.structure(((0,) * inputs, {})),
            jax.tree.structure([0] * outputs),
            execution_devices=[by_id[one] for one in devices],
        )

    def _write(self, name: str, content: bytes) -> None:
        assert self._folder
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / name
        aside = path.with_name(f".{name}.{os.getpid()}")
        aside.write_bytes(content)
        os.replace(aside, path)
        for old in self._oldest(path.suffix):
            old.unlink(missing_ok=True)

    def _oldest(self, suffix: str) -> list[pathlib.Path]:
        """Return what is too much of one kind; each is touched when it is used."""
        assert self._folder
        return sorted(self._folder.glob(f"*{suffix}"), key=lambda one: one.stat().st_mtime_ns)[:-KEEP]

    def _made_of(self, arguments: tuple[Any, ...]) -> dict[str, str]:
        parts = {"version of the code": self._code, "experiment": self._given, "arguments": _describe(arguments)}
        return parts | self._surroundings()

    def _surroundings(self) -> dict[str, str]:
        """Return what decides what the compiler makes of a text."""
        client = jax.devices()[0].client
        settings = {
            name: repr(value)
            for name, value in jax.config.values.items()
            if not any(word in name for word in SETTINGS_APART)
        }
        return {
            "version of the libraries": digest([platform.python_version(), *map(_version, LIBRARIES)]),
            "machine": digest([client.platform_version, _features(), [d.device_kind for d in jax.devices()]]),
            "environment": digest({k: v for k, v in os.environ.items() if k.startswith(ENVIRONMENT)}),
            "setting of JAX": digest(settings),
        }


def digest(values: Any) -> str:
    """Return the SHA-256 of plain values, in hex; of others by their ``repr``."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=repr).encode()).hexdigest()


def _of_trees(run: Callable[..., Any], outputs: Any) -> Callable[..., Any]:
    """Make of a function of leaves one of the arguments themselves."""
    tree = jax.tree.structure(outputs)
    return lambda *arguments: jax.tree.unflatten(tree, run(*jax.tree.leaves(arguments)))


@contextlib.contextmanager
def _cache_of_jax_left_out() -> Iterator[None]:
    """Compile and do not read: what was read on the CPU cannot be written again whole (jax 0.10)."""
    enabled = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX looks at the setting once
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()


def _code() -> str:
    """Return the SHA-256 of the project's own sources."""
    root = pathlib.Path(__file__).parent
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _features() -> str:
    """Return what the processor can do, where Linux says so: a folder may be shared by unlike machines."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), "")


def _describe(arguments: tuple[Any, ...]) -> str:
    """Return a hash of shapes, dtypes, places and static parts; functions count by name."""
    leaves, tree = jax.tree.flatten(arguments)
    static = re.sub(r" at 0x[0-9a-f]+", "", str(tree))
    return digest([static, [str(jax.typeof(x)) for x in leaves], _places(arguments)])


def _places(arguments: tuple[Any, ...]) -> list[str]:
    """Say where each array lies."""
    return [str(getattr(x, "sharding", None)) for x in jax.tree.leaves(arguments)]


NOTHING_KEPT = Store()
