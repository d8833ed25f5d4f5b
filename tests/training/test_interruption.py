from __future__ import annotations

import signal

import pytest

from audiodiff.training.interruption import Interrupted, Stop


def test_the_first_signal_is_remembered_and_the_second_has_its_usual_effect():
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with Stop() as stop:
            assert stop.reason() is None
            signal.raise_signal(signal.SIGTERM)
            assert stop.reason() == "received SIGTERM" and stop.signal == signal.SIGTERM
            assert received == []
            signal.raise_signal(signal.SIGTERM)
            assert received == [signal.SIGTERM]
        with Stop():
            pass
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM] * 2  # the handlers were given back
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_exit_code_is_the_shells(number, code):
    assert Interrupted(number, "stopped").code == code


def test_time_runs_out():
    assert "used its 1e-09 minutes" in Stop(max_minutes=1e-9).reason()
    assert Stop(max_minutes=1e-9).reason(spend=False) is None
    assert Stop(max_minutes=60).reason() is None
