from __future__ import annotations

import io

import pytest

from audiodiff.training.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


FIGURES = {"train/loss": 0.25, "speed/steps_per_second": 2.0}


def test_a_terminal_gets_one_line_that_renews_itself():
    stream = Terminal()
    progress = Progress(100, stream)
    progress.update(10, FIGURES)
    progress.update(20, FIGURES)
    progress.say("done")
    lines = stream.getvalue().split("\n")
    assert lines[0].split("\r")[1:] == [
        "step 10/100, loss 0.25, 2 steps/s, 45 s left",
        "step 20/100, loss 0.25, 2 steps/s, 40 s left",
    ]
    assert lines[1] == "done"


def test_a_shorter_line_leaves_nothing_of_the_longer_one():
    stream = Terminal()
    progress = Progress(100, stream)
    progress.update(10, FIGURES)
    progress.update(11, {})
    longer, shorter = stream.getvalue().split("\r")[1:]
    assert len(shorter) == len(longer) and shorter.strip() == "step 11/100"


def test_a_file_gets_a_line_per_report():
    stream = io.StringIO()
    progress = Progress(100, stream)
    progress.update(10, FIGURES)
    progress.update(20, {"train/loss": float("nan")})
    progress.close()
    assert stream.getvalue() == "step 10/100, loss 0.25, 2 steps/s, 45 s left\nstep 20/100, loss nan\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (425, "7 min 5 s"), (3599.7, "1 h 0 min"), (7830, "2 h 10 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
