"""Show how far a run is: one line that renews itself on a terminal, one line per report elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TextIO


class Progress:
    """Report steps, loss, speed and time left on ``stream`` (default: stderr), or with ``quiet`` nothing."""

    def __init__(self, total_steps: int, stream: TextIO | None = None, *, quiet: bool = False):
        self.total_steps = total_steps
        self.quiet = quiet
        self.stream = sys.stderr if stream is None else stream
        self.live = self.stream.isatty()
        self._width = 0

    def update(self, step: int, figures: Mapping[str, float]) -> None:
        """Show the state after ``step`` steps; ``figures`` may hold train/loss and speed/steps_per_second."""
        speed = figures.get("speed/steps_per_second", 0.0)
        parts = [f"step {step}/{self.total_steps}"]
        if "train/loss" in figures:
            parts.append(f"loss {figures['train/loss']:.4g}")
        if speed > 0:
            parts += [f"{speed:.3g} steps/s", f"{duration((self.total_steps - step) / speed)} left"]
        self._show(", ".join(parts))

    def say(self, message: str) -> None:
        """Print a line that stays."""
        if self.quiet:
            return
        self._end_line()
        print(message, file=self.stream, flush=True)

    def close(self) -> None:
        self._end_line()

    def _show(self, line: str) -> None:
        if self.quiet:
            return
        if not self.live:
            print(line, file=self.stream, flush=True)
            return
        print("\r" + line.ljust(self._width), end="", file=self.stream, flush=True)
        self._width = len(line)

    def _end_line(self) -> None:
        if self._width:
            print(file=self.stream, flush=True)
            self._width = 0


def duration(seconds: float) -> str:
    """Return a duration the way people say it: 42 s, 7 min 5 s, 2 h 10 min.

    >>> duration(425)
    '7 min 5 s'
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
