from __future__ import annotations

import dataclasses
import json
import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bench import BEGIN, BEGIN_ACCELERATOR, END, END_ACCELERATOR, Record, between, markdown, rows
from devices import step_on
from measure import Reading, beside_peers, counted, fitted_exponent, in_turn, median_ratio, median_time, queued
from networks import macs

from audiodiff.metrics.intervals import Figure
from audiodiff.networks.layers import conv1d

FACTS = dict.fromkeys(("commit", "date", "cores", "backend", "device", "jax", "python", "huge_pages"), "?")
RATIO = Reading(Figure("a ratio", 1.5, 1.4, 1.6, 7, "x"), at_least=1.2)


@pytest.mark.parametrize(
    "reading, recorded, fault",
    [
        (RATIO, None, ""),
        (RATIO, 1.7, ""),  # 13 % worse
        (RATIO, 1.9, "was 1.9"),  # 27 % worse
        (RATIO, 0.5, ""),
        (dataclasses.replace(RATIO, at_least=1.6), 1.5, "below 1.6"),
        (dataclasses.replace(RATIO, at_least=None, at_most=1.4), None, "above 1.4"),
        (dataclasses.replace(RATIO, more_is_better=False), 1.2, "was 1.2"),
        (dataclasses.replace(RATIO, more_is_better=False), 1.9, ""),
        (dataclasses.replace(RATIO, kind="speed"), 1.9, ""),  # another machine, another speed
        (Reading(Figure("none", math.nan, -math.inf, math.inf, 0), at_least=1.0), None, "below 1"),
    ],
)
def test_a_missed_bar_and_a_regression_of_a_fifth_are_told(reading, recorded, fault):
    assert reading.fault(recorded) == fault


def test_a_reading_survives_json():
    assert Reading.from_dict(RATIO.to_dict()) == RATIO


def test_cases_take_turns_and_the_first_round_is_thrown_away():
    order: list[str] = []
    counts = {"a": 0, "b": 0}

    def case(name: str) -> float:
        order.append(name)
        counts[name] += 1
        return float(counts[name])

    times = in_turn({"a": lambda: case("a"), "b": lambda: case("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b", "b", "a"]
    np.testing.assert_array_equal(times["a"], [2, 3, 4])


def test_queued_calls_are_timed_without_the_first():
    called: list[int] = []

    def call() -> jax.Array:
        called.append(len(called))
        if len(called) == 1:
            time.sleep(0.2)
        return jnp.zeros(1)

    assert queued(call, 4) < 0.05 and len(called) == 5


def test_a_time_is_told_in_milliseconds():
    figure = median_time("t", np.array([0.001, 0.003, 0.002])).figure
    assert figure.value == pytest.approx(2.0) and 1.0 < figure.low < figure.high < 3.0


@pytest.mark.parametrize("backend, beside", [("cpu", True), ("gpu", False)])
def test_peers_are_left_out_with_a_note_where_they_do_not_run(monkeypatch, capsys, backend, beside):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert beside_peers() == beside
    assert ("on gpu their rows are left out" in capsys.readouterr().err) != beside


def test_a_ratio_is_taken_round_by_round_so_that_a_slow_round_cancels():
    below = np.array([1.0, 1.0, 5.0, 1.0, 2.0])
    figure = median_ratio("r", 2 * below, below)
    assert figure.value == figure.low == figure.high == 2.0


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found(power):
    sizes = np.array([1, 2, 4, 8])
    figure = fitted_exponent("e", sizes, 3.0 * sizes**power)
    np.testing.assert_allclose([figure.value, figure.low, figure.high], power)


def test_multiplications_are_counted_through_scans_branches_and_convolutions():
    def scanned(x):
        return jax.lax.scan(lambda y, _: (y @ x, None), x, length=3)[0]

    def branched(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x, lambda x: x, x)

    def convolved(x):
        return conv1d(x[None], jnp.ones((3, 4, 2))) + conv1d(x[None], jnp.ones((3, 2, 2)), groups=2)

    x = jnp.ones((4, 4))
    assert macs(jax.make_jaxpr(jax.jit(scanned))(x).jaxpr) == 3 * 4**3
    assert macs(jax.make_jaxpr(branched)(x).jaxpr) == 4**3
    assert macs(jax.make_jaxpr(convolved)(x).jaxpr) == 4 * 3 * 4 * 2 + 4 * 3 * 2 * 2


def test_a_devices_program_is_counted():
    alone = step_on(1)
    assert alone["flops"] > 1e8 and alone["bytes"] > 1e6


def test_the_page_keeps_what_stands_around_the_table():
    table = rows({"networks": [RATIO, Reading(counted("a count", 3), "count")]}, {"a ratio": 2.0})
    page = between(f"before\n{BEGIN}\nold\n{END}\nafter\n", markdown(table, FACTS, "python bench.py"))
    assert page.startswith("before\n") and page.endswith("after\n") and "old" not in page
    assert "| networks | a ratio | 1.50 x | [1.40, 1.60] | at least 1.2 |  | **was 2** |" in page
    assert "| networks | a count | 3.00 |  |  |  |  |" in page


def a_count(name: str, value: float) -> Reading:
    return Reading(counted(name, value), "count")


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(f"{BEGIN}\nof the CPU\n{END}\nwords\n{BEGIN_ACCELERATOR}\nnot measured\n{END_ACCELERATOR}\n")
    return path


def test_each_backend_has_a_record_and_a_table_of_its_own(tmp_path, page):
    for backend, value in (("gpu", 5.0), ("cpu", 3.0)):
        record = Record.read({**FACTS, "backend": backend}, tmp_path / "results")
        assert record.values() == {}  # nothing of the other's
        record.with_new("mel", [a_count("a", value)], whole=True).write(page)
    assert Record.read({"backend": "gpu"}, tmp_path / "results").values() == {"a": 5.0}
    cpu, gpu = page.read_text().split("words")
    assert "| a | 3.00 |" in cpu and "| a | 5.00 |" in gpu and "not measured" not in gpu and "of the CPU" not in cpu


def test_an_accelerator_leaves_the_table_of_the_cpu_as_it_is(tmp_path, page):
    record = Record.read({**FACTS, "backend": "gpu"}, tmp_path)
    record.with_new("mel", [a_count("a", 5.0)], whole=True).write(page)
    assert page.read_text().startswith(f"{BEGIN}\nof the CPU\n{END}\nwords\n")


def test_a_run_cut_short_keeps_what_it_measured_and_what_it_did_not(tmp_path, page):
    old = Record(tmp_path / "cpu.json", {**FACTS, "backend": "cpu"}, {"mel": [a_count("a", 1.0), a_count("b", 2.0)]})
    new = [a_count("a", 7.0)]
    old.with_new("mel", new, whole=False).write(page)
    assert Record.read({"backend": "cpu"}, tmp_path).values() == {"a": 7.0, "b": 2.0}
    assert old.with_new("mel", new, whole=True).values() == {"a": 7.0}  # what is measured no more is dropped
    assert old.with_new("mel", [], whole=True).values() == {"a": 1.0, "b": 2.0}
    assert json.loads((tmp_path / "cpu.json").read_text())["environment"]["backend"] == "cpu"
