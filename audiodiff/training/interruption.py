"""Stop a run between two steps: on SIGTERM, on SIGINT, or when its share of time is used up."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from audiodiff.training.progress import duration

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(SystemExit):
    """Leave with the shell's code for a signal, 143 for SIGTERM and 130 for SIGINT, once all is saved."""

    def __init__(self, number: int, message: str):
        super().__init__(128 + number)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Stop:
    """Remember that the run was asked to stop; the loop looks between steps.

    A context manager that holds the handlers of SIGTERM and SIGINT (in the main thread only) and gives them back. A
    second signal has its usual effect at once, for those who cannot wait for the step to end.
    """

    def __init__(self, max_minutes: float | None = None):
        self.signal: int | None = None
        self._max_minutes = max_minutes
        self._begin = time.monotonic()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def reason(self, *, spend: bool = True) -> str | None:
        """Return why the run should stop now, or None; ``spend=False`` leaves the time out of account."""
        if self.signal is not None:
            return f"received {signal.Signals(self.signal).name}"
        elapsed = time.monotonic() - self._begin
        if spend and self._max_minutes is not None and elapsed >= 60 * self._max_minutes:
            return f"used its {self._max_minutes:g} minutes ({duration(elapsed)})"
        return None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
