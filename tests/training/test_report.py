from __future__ import annotations

import json
import math

import numpy as np
import pytest

from audiodiff.training.programs import Work
from audiodiff.training.report import Clock, Window


class Feed:
    waited_s = 0.0


def test_a_window_survives_json_bit_for_bit():
    values = np.random.default_rng(0).normal(size=20).astype(np.float32)
    whole, first = Window(), Window()
    for value in values:
        whole.add({"loss": value, "skipped": value})
    for value in values[:7]:
        first.add({"loss": value, "skipped": value})
    second = Window(json.loads(json.dumps(first.contents())))
    for value in values[7:]:
        second.add({"loss": value, "skipped": value})
    means = whole.take()
    assert means == second.take()
    assert means["loss"] == pytest.approx(np.mean(values, dtype=np.float64))
    assert means["skipped"] == values[-1]
    assert whole.take() == {}


def test_what_is_not_finite_is_left_out_of_the_mean():
    window = Window()
    for value in (1.0, math.nan, 3.0, math.inf):
        window.add({"some": value, "none": math.nan})
    means = window.take()
    assert means["some"] == 2.0 and math.isnan(means["none"])


def test_the_clock_leaves_out_what_it_is_told_to(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("audiodiff.training.report.time.perf_counter", lambda: now[0])
    feed = Feed()
    clock = Clock(feed, matmul_rate=lambda: 100.0)
    with clock.stopped():
        now[0] += 100.0  # compilation
    clock.count(None)
    assert clock.lap() == {}  # the step that compiled is not timed
    for flops, audio_s in ((20.0, 1.0), (20.0, 1.0), (120.0, 6.0), (20.0, 1.0), (20.0, 1.0)):  # one of a longer bucket
        now[0] += 2.0
        feed.waited_s += 0.5
        clock.count(Work(4, flops, audio_s))
    with clock.stopped():
        now[0] += 50.0  # evaluation
    assert clock.lap() == {
        "steps_per_second": 0.5,
        "examples_per_second": 2.0,
        "audio_seconds_per_second": 1.0,
        "matmul_share": 0.2,
        "data_wait_share": 0.25,
    }
