"""Write a trace of a few steps, to be looked at in Perfetto or TensorBoard's profiler."""

from __future__ import annotations

import pathlib
from types import TracebackType

import jax

TRACE_FOLDER = "profile"


class Trace:
    """Trace the steps first, ..., last - 1 into ``WORKDIR/profile``; a context manager that ends a trace left open."""

    def __init__(self, folder: pathlib.Path, steps: tuple[int, int] | None):
        if steps is not None and not 0 <= steps[0] < steps[1]:
            raise ValueError(f"profile_steps={steps} must be two steps, the first before the second, as 100,110")
        self._folder = folder / TRACE_FOLDER
        self._steps = steps
        self._running = False

    def __enter__(self) -> Trace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def at(self, step: int, pending: object) -> str | None:
        """Begin or end before ``step``; ``pending``, what the steps before gave, is waited for. Return what to say."""
        if self._steps is None:
            return None
        if self._running and step >= self._steps[1]:
            jax.block_until_ready(pending)
            self._stop()
            return f"the trace of steps {self._steps[0]} to {step - 1} lies in {self._folder}"
        if not self._running and self._steps[0] <= step < self._steps[1]:
            jax.block_until_ready(pending)
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._running = True
        return None

    def _stop(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
        self._running = False
