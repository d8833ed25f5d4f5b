"""Who may import whom: the table of the design, read from the sources themselves.

Nothing is imported here; every file is parsed. The same checker is run on planted sources, to see that it sees.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

LOWEST = {"dsp", "diffusion", "training"}
MODELS = {"dsp", "diffusion", "networks", "metrics", "representations", "hierarchy", "vocoders"}
MAY_IMPORT = {
    "types": set(),
    "prng": set(),
    "store": set(),
    **{room: set() for room in LOWEST},
    "networks": {"dsp"},
    "metrics": {"dsp"},
    "data": {"dsp"},
    "representations": {"dsp", "networks"},
    "hierarchy": {"dsp", "diffusion", "representations"},
    "vocoders": {"dsp", "networks", "diffusion", "representations"},
    "objectives": MODELS,
    "evaluation": MODELS | {"data", "objectives"},
    "build": MODELS | {"data", "objectives", "training", "evaluation"},
}
"""Room of audiodiff -> the rooms it may import, beside itself; types, prng and store are open to all."""

LIBRARIES = {"flax": {"networks"}, "optax": {"training"}, "orbax": {"training"}, "ml_collections": set()}
"""Library -> the only rooms that may import it."""

COMPILES = ("training/parallel.py", "evaluation/")
"""Where jax.jit and jax.pmap may appear."""

Import = tuple[int, str]
"""A line and the dotted name it imports: ``from a.b import c`` is a.b.c."""


def imports(tree: ast.AST, package: str) -> Iterator[Import]:
    """Yield what a module of ``package`` imports, wherever in it the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def compiled(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that name jax.jit or jax.pmap."""
    names = {"jax"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or "jax" for alias in node.names if alias.name == "jax"}
    for node in ast.walk(tree):
        attribute = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names
        if attribute and node.attr in ("jit", "pmap"):
            yield node.lineno
        if isinstance(node, ast.ImportFrom) and node.module == "jax":
            yield from (node.lineno for alias in node.names if alias.name in ("jit", "pmap"))


def violations(root: pathlib.Path) -> list[str]:
    """List every breach of the table below ``root``, as "file:line: what"."""
    return [*_rooms(root), *_launchers(root), *_cycles(root), *_names(root), *_mirror(root)]


def _sources(root: pathlib.Path, folder: str) -> Iterator[tuple[str, str, ast.AST]]:
    """Yield (path, package, tree) of each Python file below a folder."""
    for path in sorted((root / folder).rglob("*.py")):
        relative = path.relative_to(root)
        yield relative.as_posix(), ".".join(relative.parent.parts), _parse(path)


@functools.cache
def _parse(path: pathlib.Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


def _rooms(root: pathlib.Path) -> Iterator[str]:
    for path, package, tree in _sources(root, "audiodiff"):
        room = path.split("/")[1].removesuffix(".py")
        # The face of the package offers load(), which is build's.
        allowed = {"build"} if room == "__init__" else MAY_IMPORT.get(room)
        if allowed is None:
            yield f"{path}:1: {room} is no room of the table"
            continue
        for line, name in imports(tree, package):
            parts = name.split(".")
            if parts[0] == "audiodiff":
                other = parts[1] if len(parts) > 1 else "everything"
                if other not in {"types", "prng", "store", room, *allowed}:
                    yield f"{path}:{line}: {room} may not import {other}"
            elif parts[0] in ("experiments", "benchmarks", "configs", "tests", "command"):
                yield f"{path}:{line}: nothing in audiodiff may import {parts[0]}"
            elif room not in LIBRARIES.get(parts[0], {room}):
                yield f"{path}:{line}: {room} may not import {parts[0]}"
        inside = path.removeprefix("audiodiff/")
        if not inside.startswith(COMPILES):
            yield from (f"{path}:{line}: compiles, which only {' and '.join(COMPILES)} may" for line in compiled(tree))


def _launchers(root: pathlib.Path) -> Iterator[str]:
    """Check configs, which know nothing but each other's common part, and the scripts, which nothing imports."""
    for path, package, tree in _sources(root, "configs"):
        for line, name in imports(tree, package):
            if name.split(".")[0] not in ("ml_collections", "__future__") and name != "configs.common":
                yield f"{path}:{line}: a config may not import {name}"
    for folder in ("experiments", "benchmarks"):
        for path, package, tree in _sources(root, folder):
            for line, name in imports(tree, package):
                if name.split(".")[0] in ("experiments", "benchmarks", "tests"):
                    yield f"{path}:{line}: nothing imports {name.split('.')[0]}"


def _cycles(root: pathlib.Path) -> Iterator[str]:
    """Look for a module that imports itself by way of others."""
    found = {path: (package, tree) for path, package, tree in _sources(root, "audiodiff")}
    graph = {
        path: {_file(name, found) for _, name in imports(tree, package)} for path, (package, tree) in found.items()
    }
    graph = {path: targets - {None} for path, targets in graph.items() if path != "audiodiff/__init__.py"}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        yield f"{error.args[1][0]}:1: imports itself: {' -> '.join(error.args[1])}"


def _file(name: str, known: dict) -> str | None:
    """Return the file that a dotted name is, or is defined in."""
    parts = name.split(".")
    for end in (len(parts), len(parts) - 1):
        stem = "/".join(parts[:end])
        for path in (f"{stem}.py", f"{stem}/__init__.py"):
            if path in known and path != "audiodiff/__init__.py":
                return path
    return None


def _names(root: pathlib.Path) -> Iterator[str]:
    """Look for drawers: a name that says nothing of what is inside."""
    for folder in ("audiodiff", "experiments", "benchmarks", "configs", "tests"):
        for path in sorted((root / folder).rglob("*")):
            if re.fullmatch(r"(\w*_)?(utils?|helpers?|misc)(\.py)?", path.name):
                yield f"{path.relative_to(root).as_posix()}:1: is a drawer; name it for what is in it"


def _mirror(root: pathlib.Path) -> Iterator[str]:
    """Look for tests of modules that do not exist: tests/dsp/test_mel.py tests audiodiff/dsp/mel.py."""
    for path in sorted((root / "tests").rglob("test_*.py")):
        relative = path.relative_to(root / "tests")
        if len(relative.parts) > 1 and relative.parts[0] in MAY_IMPORT:
            module = root / "audiodiff" / relative.with_name(relative.name.removeprefix("test_"))
            if not module.exists():
                yield f"tests/{relative.as_posix()}:1: there is no {module.relative_to(root).as_posix()}"


def test_the_table_holds():
    found = violations(ROOT)
    assert not found, "\n".join(found)


def test_the_whole_house_was_read():
    read = {path for path, _, _ in _sources(ROOT, "audiodiff")}
    assert len(read) > 80 and {path.split("/")[1] for path in read} & MAY_IMPORT.keys() >= {"dsp", "build", "training"}


CLEAN = {
    "audiodiff/__init__.py": "def load():\n    from audiodiff.build.run import load\n",
    "audiodiff/types.py": "import jax\n",
    "audiodiff/dsp/mel.py": "from audiodiff.types import Array\nfrom audiodiff.dsp import stft\n",
    "audiodiff/dsp/stft.py": "import jax\nx = jax.vmap\n",
    "audiodiff/networks/unet.py": "from flax import linen\nfrom audiodiff import dsp\n",
    "audiodiff/training/parallel.py": "import jax\nstep = jax.jit(len)\n",
    "audiodiff/evaluation/generate.py": "import functools, jax\nf = functools.partial(jax.jit, len)\n",
    "audiodiff/build/run.py": "from audiodiff.training import train\nfrom audiodiff.evaluation.generate import f\n",
    "configs/common.py": "from ml_collections import ConfigDict\n",
    "configs/digits.py": "from configs import common\n",
    "experiments/train.py": "import command\nfrom audiodiff.build import run\n",
    "tests/dsp/test_mel.py": "",
}


def plant(root: pathlib.Path, files: dict[str, str]) -> pathlib.Path:
    for name, source in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(source)
    return root


def test_a_clean_house_has_no_violation(tmp_path):
    assert violations(plant(tmp_path, CLEAN)) == []


@pytest.mark.parametrize(
    ("path", "source", "said"),
    [
        ("audiodiff/dsp/a.py", "from audiodiff.networks import unet", "dsp may not import networks"),
        ("audiodiff/dsp/a.py", "def f():\n    import audiodiff.data.sources", ":2: dsp may not import data"),
        ("audiodiff/dsp/a.py", "from ..diffusion import samplers", "dsp may not import diffusion"),
        ("audiodiff/data/a.py", "from audiodiff import diffusion", "data may not import diffusion"),
        ("audiodiff/data/a.py", "import audiodiff", "data may not import everything"),
        ("audiodiff/objectives/a.py", "from audiodiff.data import Batches", "objectives may not import data"),
        ("audiodiff/evaluation/a.py", "from audiodiff.training import train", "evaluation may not import training"),
        ("audiodiff/training/a.py", "from audiodiff.build.run import load", "training may not import build"),
        ("audiodiff/diffusion/a.py", "import flax.linen as nn", "diffusion may not import flax"),
        ("audiodiff/build/a.py", "from ml_collections import ConfigDict", "build may not import ml_collections"),
        ("audiodiff/build/a.py", "import orbax.checkpoint as ocp", "build may not import orbax"),
        ("audiodiff/networks/a.py", "import optax", "networks may not import optax"),
        ("audiodiff/dsp/a.py", "import jax as j\n@j.jit\ndef f(x): pass", ":2: compiles"),
        ("audiodiff/diffusion/a.py", "from jax import jit", "compiles"),
        ("audiodiff/training/loop.py", "import jax\nf = jax.pmap(len)", ":2: compiles"),
        ("audiodiff/build/a.py", "from configs import common", "nothing in audiodiff may import configs"),
        ("audiodiff/build/a.py", "import experiments.train", "nothing in audiodiff may import experiments"),
        ("audiodiff/tricks/a.py", "", "tricks is no room of the table"),
        ("audiodiff/dsp/stft.py", "from audiodiff.dsp.mel import x", "imports itself: "),
        ("configs/a.py", "import numpy as np", "a config may not import numpy"),
        ("configs/a.py", "from configs.digits import get_config", "a config may not import configs.digits.get_config"),
        ("experiments/a.py", "from benchmarks import speed", "nothing imports benchmarks"),
        ("audiodiff/dsp/utils.py", "", "is a drawer"),
        ("tests/audio_helpers.py", "", "is a drawer"),
        ("tests/dsp/test_melody.py", "", "there is no audiodiff/dsp/melody.py"),
    ],
)
def test_the_checker_sees(tmp_path, path, source, said):
    found = violations(plant(tmp_path, {**CLEAN, path: source}))
    assert len(found) == 1 and path in found[0] and said in found[0], found
