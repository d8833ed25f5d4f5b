"""A report holds what the results hold, whatever is missing of them."""

from __future__ import annotations

import pytest
from command import plain

from audiodiff.build.comparison_cells import Cell, Comparison
from audiodiff.build.comparison_report import material, write_report
from audiodiff.metrics.intervals import Figure
from configs import compare_digits


def figures(accuracy: float) -> list[dict]:
    named = {"accuracy digit": accuracy, "Frechet distance": 100 - accuracy}
    return [Figure(name, value, value - 1, value + 1, 20).to_dict() for name, value in named.items()]


def cell(comparison: Comparison, arm: str, seed: int, accuracy: float) -> None:
    """Keep a cell whose figures all tell where they belong: by time 10 above those by FLOPs, one step 30 below."""
    ways = ("griffin_lim", "vocoder", "generator") if arm == "log_mel" else ("exact",)

    def at(value: float) -> dict:
        return {way: figures(value + index) for index, way in enumerate(ways)}

    record = {
        "config_hash": comparison.identity(arm, measured=True),
        "judge": "3f9a",
        "data": "embedded",
        "clips": 20,
        "trained_on": "cpu",
        "evaluations_a_step": 2,
        "sampler": "dpmpp_2m",
        "steps": 2,
        "guidance": 2.0,
        "marks": {"flops": 3, "clock": 5},
        "budgets": {"flops": at(accuracy), "clock": at(accuracy + 10)},
        "sweep": {"1": at(accuracy - 30), "2": at(accuracy)},
    }
    comparison.write(Cell(arm, seed).name, {"arm": arm, "seed": seed, **record})


@pytest.fixture
def comparison(tmp_path) -> Comparison:
    config = plain(compare_digits.get_config("smoke"))
    made = Comparison(config, tmp_path / "runs", tmp_path / "results")
    cost = {"parameters": 10, "flops": 1e6, "seconds": 0.1}
    arms = {arm: {**cost, "config_hash": made.identity(arm)} for arm in made.arms}
    made.write("calibration", {"arms": arms})
    for seed in (0, 1):
        cell(made, "waveform_dilated", seed, 50 + seed)
    cell(made, "log_mel", 1, 70)
    paired = Figure("log-spectral distance", 7.0, 6.0, 8.0, 20, "dB").to_dict()
    ways = ("griffin_lim", "vocoder")
    ceiling = {"arm": "log_mel", "config_hash": made.identity("log_mel", measured=True), "real": figures(98)}
    ceiling |= {"ceiling": {way: figures(95) for way in ways}, "inverter": {way: [paired] for way in ways}}
    made.write("log_mel_ceiling", ceiling)
    return made


def value(found: list[Figure]) -> float:
    return found[0].value


def test_every_system_has_its_runs_at_each_budget(comparison):
    found = material(comparison)
    assert list(found.budgets) == ["at equal FLOPs", "at equal time"]
    flops, time = found.budgets.values()
    assert list(flops) == ["waveform_dilated", "log_mel + griffin_lim", "log_mel + vocoder"], "the first arm leads"
    assert [run.figures[0].figure.value for run in flops["waveform_dilated"]] == [50, 51]
    assert [run.figures[0].figure.value for run in time["log_mel + vocoder"]] == [81]
    assert found.facts["log_mel"]["seeds"] == "1" and found.facts["log_mel"]["steps at equal time"] == "5"


def test_what_is_missing_is_named(comparison):
    assert material(comparison).missing == ["log_mel_0", "speed"]


def test_the_sweep_and_the_ledger_tell_generator_from_inverter(comparison):
    found = material(comparison)
    assert [value(run) for run in found.sweep["waveform_dilated"][1]] == [20, 21]
    ledger = found.ledger["log_mel + vocoder"]
    assert value(ledger.real) == 98 and value(ledger.ceiling) == 95 and value(ledger.inverter) == 7
    assert [value(run) for run in ledger.generator] == [82] and [value(run) for run in ledger.total] == [81]
    assert "waveform_dilated" not in found.ledger, "it has no ceiling yet"


def test_speed_belongs_to_systems(comparison):
    taken = {"step_seconds": 0.5, "fixed_seconds": 0.1, "decode_seconds": {"griffin_lim": 0.2, "vocoder": 0.4}}
    taken["check"] = {"steps": 14, "expected_seconds": 7.1, "measured_seconds": 7.2}
    comparison.write("speed", {"arms": {"log_mel": {"1": taken}}, "clip_seconds": 0.5})
    found = material(comparison)
    (pace,) = found.paces["log_mel + vocoder"]
    assert pace.real_time_factor(2, found.clip_seconds) == pytest.approx((0.1 + 2 * 0.5 + 0.4) / 0.5)
    assert "7.2 s, expected 7.1 s" in pace.check and found.speed_machine


def test_a_report_of_nothing_is_a_page_that_says_so(comparison, tmp_path):
    empty = Comparison(comparison.config, tmp_path / "runs", tmp_path / "none")
    text = write_report(empty, tmp_path / "index.html").read_text()
    assert "Nothing is measured yet" in text and "waveform_dilated_0" in text


def test_a_report_of_what_there_is_needs_no_run(comparison, tmp_path):
    page = write_report(comparison, tmp_path / "out" / "index.html")
    assert "log_mel + vocoder" in page.read_text() and page.with_name("figures.json").exists()
    assert not comparison.workdir.exists()
