"""Run launch scripts in the process of the tests."""

from __future__ import annotations

import runpy
import sys

import command
import pytest
from absl import flags
from launching import ENVIRONMENT, ROOT, Ended

import audiodiff.build.experiment
import audiodiff.build.listening  # noqa: F401 - with all that they import: libraries define flags as well
from audiodiff.build.data import DATA_VARIABLE


@pytest.fixture
def launch(monkeypatch, capsys):
    """Return what runs a script in this process, where everything is imported already, with flags of its own."""
    monkeypatch.chdir(ROOT)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(DATA_VARIABLE, raising=False)

    def run(name: str, *arguments) -> Ended:
        argv = [f"experiments/{name}.py", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", argv)
        before, code = set(flags.FLAGS), 0
        try:
            script = runpy.run_path(argv[0])
            command.parse(argv)
            command.guarded(script["main"])
        except SystemExit as end:
            code = end.code
        finally:
            for flag in set(flags.FLAGS) - before:
                delattr(flags.FLAGS, flag)
        return Ended(code, *capsys.readouterr())

    return run
