"""The page of a comparison of arms shows every figure, what is missing, and keeps it all as JSON."""

from __future__ import annotations

import dataclasses
import json
import math

import browser
import pytest

from audiodiff.evaluation.arms_page import Ledger, Material, Pace, over_runs, write_arms_page
from audiodiff.evaluation.report import FigureRow, Report
from audiodiff.metrics.intervals import Figure

FACTS = {"judge": "3f9a", "data": "fsdd", "clips": "20"}


def figures(accuracy: float, distance: float) -> list[Figure]:
    return [
        Figure("accuracy digit", accuracy, accuracy - 5, accuracy + 5, 20, "%"),
        Figure("Frechet distance", distance, 0.9 * distance, 1.1 * distance, 20),
    ]


def reports(*runs: list[Figure]) -> list[Report]:
    return [Report("", "", FACTS, [FigureRow(figure) for figure in run]) for run in runs]


WAVE = [figures(80.0, 3.0), figures(84.0, 3.2), figures(82.0, 2.8)]
MEL = [figures(90.0, 2.0), figures(92.0, 2.1)]
PAIRED = Figure("log-spectral distance", 7.31, 7.0, 7.6, 20, "dB")
MATERIAL = Material(
    title="Wave & mel",
    summary="Which is better?",
    facts={"wave": {"parameters": "1,000", "seeds": "0, 1, 2"}, "mel": {"parameters": "1,010", "seeds": "0, 1"}},
    missing=["mel_2"],
    budgets={
        "at equal FLOPs": {"wave": reports(*WAVE), "mel + gl": reports(*MEL)},
        "at equal time": {"wave": reports(*WAVE)},
    },
    real=figures(98.0, 0.5),
    sweep={"wave": {1: [figures(20.0, 9.0)], 10: WAVE}, "mel + gl": {1: [figures(30.0, 8.0)], 10: MEL}},
    evaluations_a_step={"wave": 2, "mel + gl": 2},
    ledger={"mel + gl": Ledger(figures(98.0, 0.5), figures(96.0, 1.1), [PAIRED], [figures(94.0, 1.5)], MEL)},
    paces={"wave": [Pace(1, 0.1, 0.4, 0.0, "4.2 s, expected 4.1 s")], "mel + gl": [Pace(1, 0.1, 0.2, 0.3, "")]},
    clip_seconds=0.5,
    speed_machine="a machine (2 cores)",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_arms_page(tmp_path_factory.mktemp("page") / "index.html", MATERIAL)


def test_the_page_shows_figures_differences_budgets_and_what_is_missing(page):
    read = browser.Reader(page.read_text(encoding="utf-8"))
    for text in (
        "Wave & mel",
        "Which is better?",
        "82.0 %",
        "Δ 9.0 %",
        "Missing: mel_2",
        "1,010",
        "a machine (2 cores)",
    ):
        assert text in read.text, text
    assert "At equal FLOPs" in read.text and "fewer than two systems" in read.text
    assert "script" not in {tag for tag, _ in read.tags}


def test_the_ledger_has_the_distances_of_pairs_and_the_generator_before_the_inverter(page):
    read = browser.Reader(page.read_text(encoding="utf-8"))
    for text in ("mel + gl: log-spectral distance", "7.31 dB", "mel + gl: accuracy digit", "96 %", "94 %"):
        assert text in read.text, text


def test_all_figures_are_kept_as_strict_json(page):
    stored = json.loads(page.with_name("figures.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    accuracy = stored["budgets"]["at equal FLOPs"][0]
    assert accuracy["systems"]["wave"]["value"] == 82 and len(accuracy["seeds"]["mel + gl"]) == 2
    assert stored["budgets"]["at equal time"] == []
    assert stored["sweep"]["wave"]["1"][0][0]["value"] == 20 and stored["missing"] == ["mel_2"]
    assert stored["ledger"]["mel + gl"]["inverter"][0]["value"] == 7.31


def test_the_real_time_factor_is_work_for_a_second_of_audio():
    """Two clips of half a second are a second of audio: its seconds of work are the factor."""
    assert Pace(2, 0.25, 0.5, 1.0, "").real_time_factor(4, 0.5) == 0.25 + 4 * 0.5 + 1.0


def test_the_mean_over_runs_has_students_interval_and_one_run_keeps_its_own():
    mean = over_runs(MEL, "accuracy digit")
    assert mean.value == 91 and mean.count == 2
    assert mean.high - 91 == pytest.approx(12.706 * math.sqrt(2) / math.sqrt(2), rel=1e-3)  # t of one degree of freedom
    assert over_runs(MEL[:1], "accuracy digit") == MEL[0][0]
    assert over_runs(MEL, "loudness") is None


def test_nothing_measured_yet_is_a_page_too(tmp_path):
    empty = dataclasses.replace(
        MATERIAL, budgets={"at equal FLOPs": {}}, real=(), sweep={}, ledger={}, paces={}, facts={"wave": {}}
    )
    read = browser.Reader(write_arms_page(tmp_path / "index.html", empty).read_text(encoding="utf-8"))
    assert "fewer than two systems" in read.text and "speed was not measured" in read.text


@pytest.mark.skipif(browser.PATH is None, reason="no Chromium on the path")
def test_a_browser_shows_every_plot_on_a_phone_and_a_desk(page, tmp_path):
    for seen in browser.look(page, tmp_path):
        assert len(seen["images"]) == 5 and min(seen["images"]) > 100
        assert seen["overflow"] <= 0
