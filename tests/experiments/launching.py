"""Where and how the launch scripts are run by their tests, and how they end."""

from __future__ import annotations

import pathlib
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax-tests")}


class Ended(NamedTuple):
    """Hold how a script ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """Return the one line that says what was wrong; fail if there is more or less than that."""
        assert self.code == 1 and "Traceback" not in self.out + self.err
        lines = self.err.splitlines()
        (line,) = [line for line in lines if line.startswith("error: ")]
        assert line == lines[-1]
        return line
