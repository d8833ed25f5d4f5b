"""Turn the steps' measurements into lines: fetched one step late, averaged, with the speed beside them."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from audiodiff.training.prefetch import Prefetch
from audiodiff.training.progress import Progress
from audiodiff.training.writers import Writer
from audiodiff.types import Array

logger = logging.getLogger(__name__)

OnMeasurements = Callable[[int, Mapping[str, float]], None]
"""Receive each line as it is written: the step it speaks for, and its figures by name."""

LAST = ("learning_rate", "skipped", "skipped_in_a_row")
"""Measurements of which the last value counts, not the mean."""


class NonFiniteError(FloatingPointError):
    """Say that too many updates in a row were skipped because loss or gradient was not finite."""


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
    """Count steps and the time they take, leaving out what happens while it is stopped (compilation, evaluation)."""

    def __init__(self, feed: Prefetch, batch_size: int):
        self._feed = feed
        self._batch_size = batch_size
        self._shapes: set[tuple] = set()
        self._untimed = 0
        self._begin()

    def _begin(self) -> None:
        self._since = time.perf_counter()
        self._waited_s = self._feed.waited_s
        self._steps = 0

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Leave out the time spent inside."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - begin

    def must_compile(self, batch: Mapping[str, Array]) -> bool:
        """Say whether this batch is the first of its shapes, with a warning if others came before it."""
        shapes = tuple((name, x.shape, str(x.dtype)) for name, x in sorted(batch.items()))
        if shapes in self._shapes:
            return False
        if self._shapes:
            found = ", ".join(f"{name} {list(shape)}" for name, shape, _ in shapes)
            logger.warning("compiling the step again for a batch of new shapes: %s", found)
        self._shapes.add(shapes)
        self._untimed += 1
        return True

    def count(self) -> None:
        """Count one step, unless it was one that compiled."""
        self._steps += 0 if self._untimed else 1
        self._untimed = max(0, self._untimed - 1)

    def lap(self) -> dict[str, float]:
        """Return the figures since the last lap, none if no step was timed, and begin the next."""
        seconds, steps = time.perf_counter() - self._since, self._steps
        waited_s = self._feed.waited_s - self._waited_s
        self._begin()
        if not steps or seconds <= 0:
            return {}
        return {
            "steps_per_second": steps / seconds,
            "examples_per_second": steps * self._batch_size / seconds,
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
        self._held: tuple[int, Any] | None = None

    def hold(self, step: int, measured: Any) -> None:
        """Keep the measurements of a step that may still be running."""
        self._held = (step, measured)

    def settle(self, *, final: bool = False) -> None:
        """Wait for the held measurements and add them up; write the line if it is due, or the run is at its end."""
        if self._held is None:
            return
        (step, measured), self._held = self._held, None
        values = jax.device_get(measured)
        self.window.add(values)
        self._clock.count()
        if final or step % self._log_every == 0:
            self._write(step)
        if (skipped := int(values["skipped_in_a_row"])) >= self._max_skipped_in_a_row:
            raise NonFiniteError(
                f"loss or gradient was not finite in {skipped} steps in a row, up to step {step}: lower the learning "
                "rate or look at the data; the last checkpoint is kept"
            )

    def _write(self, step: int) -> None:
        figures = {f"train/{name}": value for name, value in self.window.take().items()}
        figures |= {f"speed/{name}": value for name, value in self._clock.lap().items()}
        self._writer.scalars(step, figures)
        self._progress.update(step + 1, figures)
        if self._on_measurements is not None:
            self._on_measurements(step, figures)
