from __future__ import annotations

import gzip
import json

import pytest
from linear_regression import run

from audiodiff.training.profile import Trace


def test_a_run_traces_the_steps_it_is_asked_to(tmp_path, capsys):
    run(tmp_path, 6, profile_steps=(3, 5))
    assert "the trace of steps 3 to 4 lies in" in capsys.readouterr().err
    (trace,) = (tmp_path / "profile").rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert any("step" in str(event.get("name")) for event in events)


def test_a_trace_left_open_is_ended(tmp_path):
    run(tmp_path, 4, profile_steps=(2, 100))
    assert list((tmp_path / "profile").rglob("*.trace.json.gz"))


@pytest.mark.parametrize("steps", [(5, 5), (-1, 3), (4, 2)])
def test_steps_that_cannot_be_are_told(tmp_path, steps):
    with pytest.raises(ValueError, match="must be two steps, the first before the second"):
        Trace(tmp_path, steps)
