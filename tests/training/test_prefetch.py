from __future__ import annotations

import itertools
import threading
import time

import pytest

from audiodiff.training.prefetch import Prefetch


def test_order_is_kept_and_placing_happens_in_the_background():
    threads = set()

    def place(item):
        threads.add(threading.current_thread())
        return 10 * item

    with Prefetch(range(20), place) as feed:
        assert list(feed) == [10 * k for k in range(20)]
    assert threading.current_thread() not in threads


def test_it_runs_ahead_by_its_depth_and_no_more():
    drawn = []
    source = (drawn.append(k) or k for k in itertools.count())
    with Prefetch(source, depth=2) as feed:
        next(feed)
        deadline = time.monotonic() + 10
        while len(drawn) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(drawn) == 4  # one taken, two waiting, one in the hand


def test_an_error_comes_where_the_item_would_have_and_stays():
    def source():
        yield 1
        raise OSError("the file is gone")

    with Prefetch(source()) as feed:
        assert next(feed) == 1
        for _ in range(2):
            with pytest.raises(OSError, match="the file is gone"):
                next(feed)


def test_leaving_ends_the_thread_and_closes_the_source():
    closed = threading.Event()

    def source():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    with Prefetch(source()) as feed:
        next(feed)
    assert closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
