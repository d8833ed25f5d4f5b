from __future__ import annotations

import json

import browser
import numpy as np
import pytest
from scipy import stats

from audiodiff.evaluation.comparison import compare, write_comparison
from audiodiff.evaluation.report import AudioPair, FigureRow, Report
from audiodiff.metrics.intervals import Figure, proportion_figure

RATE = 8000
FACTS = {"judge": "3f9a", "data": "fsdd, manifest 77", "clips": "600", "config": "c0"}
REAL = proportion_figure("accuracy digit", 293, 300)


def run(accuracy, distance, label="seven, theo", **facts):
    rng = np.random.default_rng(int(10 * accuracy))
    return Report(
        "One run",
        "",
        {**FACTS, **facts},
        [
            FigureRow(proportion_figure("accuracy digit", round(6 * accuracy), 600), ceiling=REAL, at_least=80),
            FigureRow(Figure("kernel distance", distance, distance - 0.1, distance + 0.1, 600)),
        ],
        [AudioPair(label, 0.1 * rng.normal(size=800), 0.1 * rng.normal(size=700), RATE)],
    )


ARMS = {
    "wave": [run(80.0, 0.5, config="a1"), run(82.0, 0.4, config="a2"), run(85.0, 0.6, config="a3")],
    "mel": [run(91.0, 0.3), run(88.0, 0.2), run(90.0, 0.25)],
    "one": [run(60.0, 1.0)],
}


def test_an_arm_of_several_runs_has_their_mean_with_an_interval_over_runs():
    accuracy, distance = compare(ARMS)
    values = [80.0, 82.0, 85.0]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    wave = accuracy.arms["wave"]
    assert wave.value == pytest.approx(np.mean(values)) and wave.count == 3 and "3 runs" in wave.note
    np.testing.assert_allclose([wave.low, wave.high], expected)
    assert [figure.value for figure in distance.runs["mel"]] == [0.3, 0.2, 0.25]
    assert accuracy.ceiling == REAL and distance.ceiling is None


def test_an_arm_of_one_run_says_so_and_has_no_difference():
    accuracy, _ = compare(ARMS)
    one, alone = accuracy.arms["one"], ARMS["one"][0].figures[0].figure
    assert "one run" in one.note and (one.low, one.high) == (alone.low, alone.high)
    assert set(accuracy.differences) == {"mel"}


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says():
    """Welch's interval on arms of three and four runs of unequal spread, whose means differ by 1."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        first = [Report("", "", FACTS, [FigureRow(Figure("x", v, v, v, 9))]) for v in rng.normal(0, 1, 3)]
        second = [Report("", "", FACTS, [FigureRow(Figure("x", v, v, v, 9))]) for v in rng.normal(1, 2, 4)]
        (figure,) = compare({"first": first, "second": second})
        held += figure.differences["second"].low <= 1 <= figure.differences["second"].high
    assert 0.92 <= held / 400 <= 0.99  # Welch is a little wide at so few runs


@pytest.mark.parametrize("fact", ["judge", "data", "clips"])
def test_runs_that_cannot_be_compared_are_refused(fact):
    other = run(90.0, 0.3, **{fact: "another"})
    with pytest.raises(ValueError, match=rf"run 1 of 'wave' has {fact} .* and run 2 of 'mel' another"):
        compare({"wave": ARMS["wave"], "mel": [ARMS["mel"][0], other]})


def test_too_few_arms_and_figures_without_a_name_in_common_are_refused():
    with pytest.raises(ValueError, match="give two"):
        compare({"wave": ARMS["wave"]})
    with pytest.raises(ValueError, match="give two"):
        compare({"wave": ARMS["wave"], "mel": []})
    with pytest.raises(ValueError, match="in common"):
        compare({"wave": ARMS["wave"], "mel": [Report("", "", FACTS)]})


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("comparison") / "index.html"
    return write_comparison(path, "Wave & mel", "Which is better?", ARMS)[0]


def test_the_page_says_what_was_compared(page):
    read = browser.Reader(page.read_text(encoding="utf-8"))
    for text in ("Wave & mel", "Which is better?", "a1, a2, a3", "3f9a", "97.7 %"):
        assert text in read.text
    for text in ("82 %", "mean of 3 runs", "n=600 one run", "Δ"):
        assert text in read.text
    labels = [player["aria-label"] for player in read.all("audio")]
    assert labels == [f"Play seven, theo, {side}" for side in ("real", "wave", "mel", "one")]
    assert "script" not in {tag for tag, _ in read.tags}


def test_the_figures_are_kept_as_strict_json(page):
    stored = json.loads(page.with_name("figures.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    accuracy, distance = stored["figures"]
    assert Figure.from_dict(accuracy["arms"]["mel"]) == compare(ARMS)[0].arms["mel"]
    assert [run["value"] for run in distance["runs"]["wave"]] == [0.5, 0.4, 0.6]


@pytest.mark.skipif(browser.PATH is None, reason="no Chromium on the path")
def test_a_browser_shows_and_plays_everything_on_a_phone_and_a_desk(page, tmp_path):
    for seen in browser.look(page, tmp_path):
        assert len(seen["images"]) == 5 and min(seen["images"]) > 100
        np.testing.assert_allclose(seen["seconds"], np.array([800, 700, 700, 700]) / RATE, atol=1e-3)
        assert seen["sticks_out"] <= 1 and seen["overflow"] <= 0
