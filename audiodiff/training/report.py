"""Turn the steps' measurements into lines: fetched one step late, averaged, with the speed beside them."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from audiodiff.training.prefetch import Prefetch
from audiodiff.training.programs import Work
from audiodiff.training.progress import Progress
from audiodiff.training.step import Batch
from audiodiff.training.writers import Writer

OnMeasurements = Callable[[int, Mapping[str, float]], None]
"""Receive each line as it is written: the step it speaks for, and its figures by name."""

LAST = ("learning_rate", "skipped", "skipped_in_a_row")
"""Measurements of which the last value counts, not the mean."""


class NonFiniteError(FloatingPointError):
    """Say that too many updates in a row were skipped because loss or gradient was not finite; ``step`` is the last."""

    def __init__(self, message: str, step: int, batch: Batch):
        super().__init__(message)
        self.step = step
        self.batch = batch


class Window:
    """Average the measurements of the steps between two lines, so that a line speaks for all of them.

    Its contents go through JSON unchanged (sums in double precision): a resumed run goes on with the same sums.
    """

    def __init__(self, contents: Mapping[str, Any] | None = None):
        self._sums: dict[str, tuple[float, int]] = {k: (total, count) for k, (total, count) in (contents or {}).items()}

    def add(self, measurements: Mapping[str, Any]) -> None:
        """Add the measurements of one step; those that are not finite are left out of the mean."""
        for name, value in measurements.items():
            number = float(value)
            total, count = (0.0, 0) if name in LAST else self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + number, count + 1) if math.isfinite(number) else (total, count)

    def take(self) -> dict[str, float]:
        """Return the means, NaN where no step had a finite value, and start anew."""
        means = {name: total / count if count else math.nan for name, (total, count) in self._sums.items()}
        self._sums = {}
        return means

    def contents(self) -> dict[str, list[float]]:
        """Return what `Window(contents)` starts from again."""
        return {name: [total, count] for name, (total, count) in self._sums.items()}


class Clock:
    """Add up the work of steps and the time they take, leaving out what happens while it is stopped.

    ``matmul_rate`` returns the FLOP/s that the share of the machine's speed is taken of.
    """

    def __init__(self, feed: Prefetch, matmul_rate: Callable[[], float]):
        self._feed = feed
        self._matmul_rate = matmul_rate
        self._begin()

    def _begin(self) -> None:
        self._since = time.perf_counter()
        self._waited_s = self._feed.waited_s
        self._done: list[Work] = []

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Leave out the time spent inside: compilation, evaluation."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - begin

    def count(self, work: Work | None) -> None:
        """Count one step; None if it compiled, and was not timed."""
        if work is not None:
            self._done.append(work)

    def lap(self) -> dict[str, float]:
        """Return the figures since the last lap, none if no step was timed, and begin the next."""
        seconds, done = time.perf_counter() - self._since, self._done
        waited_s = self._feed.waited_s - self._waited_s
        self._begin()
        if not done or seconds <= 0:
            return {}
        flops = sum(work.flops for work in done) / seconds
        return {
            "steps_per_second": len(done) / seconds,
            "examples_per_second": sum(work.examples for work in done) / seconds,
            "audio_seconds_per_second": sum(work.audio_s for work in done) / seconds,
            "matmul_share": flops / self._matmul_rate(),
            "data_wait_share": min(1.0, waited_s / seconds),
        }


class Report:
    """Hold the measurements of the running step, and write a line every ``log_every`` steps."""

    def __init__(
        self,
        writer: Writer,
        window: Window,
        clock: Clock,
        progress: Progress,
        *,
        log_every: int,
        max_skipped_in_a_row: int,
        on_measurements: OnMeasurements | None = None,
    ):
        self.window = window
        self._writer = writer
        self._clock = clock
        self._progress = progress
        self._log_every = log_every
        self._max_skipped_in_a_row = max_skipped_in_a_row
        self._on_measurements = on_measurements
        self._held: tuple[int, Any, Work | None, Batch] | None = None

    def hold(self, step: int, measured: Any, work: Work | None, batch: Batch) -> None:
        """Keep the measurements of a step that may still be running, its work if it is timed, and its batch."""
        self._held = (step, measured, work, batch)

    def settle(self, *, final: bool = False) -> None:
        """Wait for the held measurements and add them up; write the line if it is due, or the run is at its end."""
        if self._held is None:
            return
        (step, measured, work, batch), self._held = self._held, None
        values = jax.device_get(measured)
        self.window.add(values)
        self._clock.count(work)
        if final or step % self._log_every == 0:
            self._write(step)
        if (skipped := int(values["skipped_in_a_row"])) >= self._max_skipped_in_a_row:
            raise NonFiniteError(
                f"loss or gradient was not finite in {skipped} steps in a row, up to step {step}: lower the learning "
                "rate or look at the data; the last checkpoint is kept",
                step,
                batch,
            )

    def _write(self, step: int) -> None:
        figures = {f"train/{name}": value for name, value in self.window.take().items()}
        figures |= {f"speed/{name}": value for name, value in self._clock.lap().items()}
        self._writer.scalars(step, figures)
        self._progress.update(step + 1, figures)
        if self._on_measurements is not None:
            self._on_measurements(step, figures)
