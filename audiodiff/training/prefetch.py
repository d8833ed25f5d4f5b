"""Draw and place the next batches while the device works on this one."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any


class Prefetch:
    """Iterate over ``source`` from a background thread, ``depth`` items ahead, each passed through ``place``.

    A context manager; errors of the source are raised where the item would have come. ``waited_s`` is the
    time the consumer has stood waiting.
    """

    def __init__(self, source: Iterable[Any], place: Callable[[Any], Any] = lambda item: item, *, depth: int = 2):
        self.waited_s = 0.0
        self._items: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._draw, args=(source, place), name="prefetch", daemon=True)

    def __enter__(self) -> Prefetch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join(timeout=10.0)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        begin = time.perf_counter()
        item, error = self._items.get()
        self.waited_s += time.perf_counter() - begin
        if error is not None:
            self._items.put((item, error))  # nothing comes after it: it stays the answer
            raise error
        return item

    def _draw(self, source: Iterable[Any], place: Callable[[Any], Any]) -> None:
        try:
            for item in source:
                if not self._put(place(item)):
                    return
        except BaseException as error:  # handed to the consumer, whatever it is
            self._put(None, error)
        else:
            self._put(None, StopIteration())
        finally:
            if hasattr(source, "close"):
                source.close()

    def _put(self, item: Any, error: BaseException | None = None) -> bool:
        """Wait for room and put the item; False if the consumer left meanwhile."""
        while not self._closing.is_set():
            try:
                self._items.put((item, error), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
