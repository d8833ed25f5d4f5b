"""What is expected of figures is read from one flag, and a slip in it is told."""

from __future__ import annotations

import pathlib
import runpy

import command  # noqa: F401 - defines a flag of its own, which must stay
import pytest
from absl import flags

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "evaluate.py"


@pytest.fixture(scope="module")
def expectations():
    """Return the reader of --expect, and take back the flags that its script defines."""
    before = set(flags.FLAGS)
    function = runpy.run_path(str(SCRIPT))["expectations"]
    for flag in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, flag)
    return function


def test_expectations_are_read_by_name(expectations):
    asked = " accuracy digit=80, accuracy speaker = 62.5,"
    assert expectations(asked) == {"accuracy digit": 80.0, "accuracy speaker": 62.5}
    assert expectations("") == {}


@pytest.mark.parametrize(
    ("text", "value"), [("coverage", ""), ("coverage=", ""), ("coverage=80%", "80%"), ("coverage=101", "101")]
)
def test_what_is_no_percentage_is_told(expectations, text, value):
    with pytest.raises(ValueError, match=f"gives 'coverage' the value '{value}', not a number from 0 to 100: write"):
        expectations(f"accuracy digit=80,{text}")
