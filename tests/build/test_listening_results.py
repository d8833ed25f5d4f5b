"""A test is made as its settings say, and what is planted in synthetic raters is found through the listeners' files."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from audiodiff.build.choices import ConfigError
from audiodiff.build.listening import Settings, write_test
from audiodiff.build.listening_results import analyse, read_plan, read_results, write_analysis
from audiodiff.metrics.intervals import Figure

RATE = 8000
CLIPS = [f"{digit}_ann_0.wav" for digit in range(8)]
ANCHORS = (1000, 2000)


def systems_of(plan):
    return {one["id"]: one["system"] for one in plan["stimuli"]}


def answers(plan, listener, rate):
    """Return a listener's file as the page writes it; ``rate`` maps a trial and the systems in it to ratings."""
    of = systems_of(plan)
    given = []
    for trial in plan["trials"]:
        values = rate(trial, [of[id] for id in trial["stimuli"]])
        given.append({"trial": trial["id"], "ratings": dict(zip(trial["stimuli"], values, strict=True))})
    return {"format": 1, "plan": plan["hash"], "listener": listener, "answers": given}


def write(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def opinions(seed, true, spread, low, high):
    """Return a rater of a given truth, with an error of his own and one of each rating."""
    rng = np.random.default_rng(seed)
    own = spread * rng.normal() / 2

    def rate(trial, systems):
        return [int(np.clip(np.rint(true[name] + own + spread * rng.normal()), low, high)) for name in systems]

    return rate


def values_of(found):
    return {row.figure.name: row.figure.value for row in found.rows}


def test_opinions_find_what_was_planted(listening_test, tmp_path):
    plan, _ = listening_test("mos", trials=24)
    true = {"good": 4.0, "fair": 3.0, "reference": 4.5}
    raters = {f"r{n}": answers(plan, f"r{n}", opinions(n, true, 0.5, 1, 5)) for n in range(10)}
    found = analyse(plan, read_results(plan, write(tmp_path / "r", raters)))
    rows = {row.figure.name: row for row in found.rows}
    assert list(rows) == ["MOS of good", "MOS of fair", "MOS of reference"]
    for system, mean in (("good", 4.0), ("fair", 3.0)):
        figure = rows[f"MOS of {system}"].figure
        assert figure.low < mean < figure.high and figure.count == 80
        assert rows[f"MOS of {system}"].ceiling == rows["MOS of reference"].figure
    tests = {tuple(one["pair"]): one["p_holm"] for one in found.record["wilcoxon"]}
    assert tests["good", "fair"] < 0.01 and found.record["friedman_p"] < 0.01


def test_mushra_screens_the_planted_assessors_and_finds_the_planted_difference(listening_test, tmp_path):
    plan, _ = listening_test("mushra", ("good", "fair", "poor"))
    true = {"reference": 100, "good": 80, "fair": 60, "poor": 60, "anchor at 2000 Hz": 40, "anchor at 1000 Hz": 20}

    def careful(seed):
        rate = opinions(seed, true, 6, 0, 100)
        return lambda trial, systems: [
            100 if name == "reference" else value for name, value in zip(systems, rate(trial, systems), strict=True)
        ]

    raters = {f"r{n:02}": answers(plan, f"r{n:02}", careful(n)) for n in range(10)}
    raters["deaf"] = answers(
        plan, "deaf", lambda trial, systems: [50 if name == "reference" else 70 for name in systems]
    )
    raters["kind"] = answers(plan, "kind", lambda trial, systems: [95] * len(systems))
    found = analyse(plan, read_results(plan, write(tmp_path / "r", raters)))
    assert found.record["screened"] == {
        "deaf": "rated the hidden reference below 90 in 100% of the trials",
        "kind": "rated the anchor at 2000 Hz above 90 in 100% of the trials",
    }
    assert [line for line in found.sentences if line.startswith("deaf was screened out: rated the hidden")]
    values = values_of(found)
    for name, mean in true.items():
        assert values[f"mean of {name}"] == pytest.approx(mean, abs=4)
        assert values[f"median of {name}"] == pytest.approx(mean, abs=4)
    tests = {tuple(one["pair"]): one["p_holm"] for one in found.record["wilcoxon"]}
    assert len(tests) == 6, "anchors are no systems under test"
    assert tests["good", "fair"] < 0.05 < tests["fair", "poor"] and found.record["friedman_p"] < 1e-3
    assert found.record["quartiles"]["reference"] == [100, 100, 100]
    (row,) = (row for row in found.rows if row.figure.name == "mean of good")
    assert (row.floor.name, row.ceiling.name) == ("mean of anchor at 1000 Hz", "mean of reference")


def test_no_assessor_left_is_told_with_the_reasons(listening_test, tmp_path):
    plan, _ = listening_test("mushra")
    raters = {"deaf": answers(plan, "deaf", lambda trial, systems: [50] * len(systems))}
    with pytest.raises(ConfigError, match="no assessor is left. deaf was screened out: rated the hidden reference"):
        analyse(plan, read_results(plan, write(tmp_path / "r", raters)))


def preferring(seed, chance, tie=0.1):
    """Return a rater who prefers the first named of two systems by a chance, and neither by another."""
    rng = np.random.default_rng(seed)

    def rate(trial, systems):
        if rng.random() < tie:
            return [0.5, 0.5]
        first = rng.random() < chance[tuple(sorted(systems))]
        return [int(first == (name == min(systems))) for name in systems]

    return rate


def test_preferences_find_the_planted_order(listening_test, tmp_path):
    plan, _ = listening_test("ab", ("good", "fair", "poor"), 24)
    chance = {("fair", "good"): 0.1, ("fair", "poor"): 0.8, ("good", "poor"): 0.9}
    raters = {f"r{n}": answers(plan, f"r{n}", preferring(n, chance)) for n in range(10)}
    found = analyse(plan, read_results(plan, write(tmp_path / "r", raters)))
    for pair in found.record["pairs"]:
        assert pair["won"] + pair["lost"] + pair["tied"] == 80 and pair["won"] > pair["lost"]
        assert max(pair["p_holm"], pair["p_by_listeners"], pair["p_by_clips"]) < 0.05
    values = values_of(found)
    assert values["good over fair"] > 75 and values["listeners with good over fair"] == 100
    assert list(values)[-3:] == ["strength of good", "strength of fair", "strength of poor"]


def test_no_preference_is_not_found_and_a_system_that_never_won_is_told(listening_test, tmp_path):
    plan, _ = listening_test("ab", trials=8)
    raters = {f"r{n}": answers(plan, f"r{n}", preferring(n, {("fair", "good"): 0.5})) for n in range(10)}
    found = analyse(plan, read_results(plan, write(tmp_path / "even", raters)))
    assert found.record["pairs"][0]["p_holm"] > 0.05 and len(found.rows) == 3
    plan, _ = listening_test("ab", ("good", "fair", "poor"), 3)
    always = answers(plan, "r", preferring(0, {("fair", "good"): 0, ("fair", "poor"): 1, ("good", "poor"): 1}, tie=0))
    found = analyse(plan, read_results(plan, write(tmp_path / "always", {"r": always})))
    assert "no finite strengths fit" in found.record["ranking_refused"] and len(found.rows) == 9


def test_x_is_told_by_who_hears_and_not_by_who_guesses(listening_test, tmp_path):
    plan, _ = listening_test("abx", trials=8)
    of = systems_of(plan)

    def hearing(seed, chance):
        rng = np.random.default_rng(seed)
        return lambda trial, systems: [
            int((name == of[trial["reference"]]) == told) for told in [rng.random() < chance] for name in systems
        ]

    for name, chance, low, high in (("hear", 0.9, 80, 100), ("guess", 0.5, 35, 65)):
        raters = {f"r{n}": answers(plan, f"r{n}", hearing(n, chance)) for n in range(10)}
        found = analyse(plan, read_results(plan, write(tmp_path / name, raters)))
        assert low < values_of(found)["good told from fair"] < high
        (pair,) = found.record["pairs"]
        assert (pair["p"] < 1e-6) == (name == "hear") and (pair["p"] > 0.05) == (name == "guess")
        assert pair["answers"] == 80 and sum(pair["right_by"].values()) == pair["right"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda one: one.update(plan="beef"), "a.json answers the plan beef, not [0-9a-f]{16}: take it out"),
        (lambda one: one.update(listener=" "), "a.json: it names no listener"),
        (lambda one: one["answers"].pop(), "a.json: it answers 7 of 8 trials in 7 answers"),
        (lambda one: one["answers"].append(one["answers"][0]), "a.json: it answers 8 of 8 trials in 9 answers"),
        (lambda one: one["answers"][0]["ratings"].popitem(), r"a.json: trial \w+ rates \['\w+', "),
        (lambda one: one["answers"][0].pop("ratings"), "a.json: 'ratings'"),
        (lambda one: one.pop("answers"), "a.json: 'answers'"),
        *(
            (
                lambda one, bad=bad: one["answers"][2]["ratings"].update(
                    dict.fromkeys(one["answers"][2]["ratings"], bad)
                ),
                rf"a.json: trial \w+ rates \w+ with {re.escape(repr(bad))}, not with a number from 0 to 100; ask",
            )
            for bad in (101, -0.5, float("nan"), True, "70", None)
        ),
    ],
)
def test_answers_that_cannot_be_are_told_by_file(listening_test, tmp_path, spoil, said):
    plan, _ = listening_test("mushra")
    good = answers(plan, "b", lambda trial, systems: [50] * len(systems))
    bad = answers(plan, "a", lambda trial, systems: [50] * len(systems))
    spoil(bad)
    with pytest.raises(ConfigError, match=said):
        read_results(plan, write(tmp_path / "r", {"a": bad, "b": good}))


def test_choices_that_were_not_offered_are_told(listening_test, tmp_path):
    for kind, value in (("ab", 1), ("abx", 0.5), ("mos", 3.5)):
        plan, _ = listening_test(kind, trials=6)
        given = write(tmp_path / kind, {"a": answers(plan, "a", lambda trial, systems, v=value: [v] * len(systems))})
        with pytest.raises(ConfigError, match=rf"a.json: trial \w+ has the ratings \[{value}"):
            read_results(plan, given)


def test_doubled_damaged_and_absent_results_are_told(listening_test, tmp_path):
    plan, _ = listening_test("mushra")
    once = answers(plan, "Ann", lambda trial, systems: [50] * len(systems))
    with pytest.raises(ConfigError, match="a.json and .*b.json are both of the listener 'ann': keep one"):
        read_results(plan, write(tmp_path / "two", {"a": once, "b": once | {"listener": "ann "}}))
    write(tmp_path / "cut", {"a": once})
    text = (tmp_path / "cut" / "a.json").read_text()
    for content in (text[:-20], "[]", "\xff"):
        (tmp_path / "cut" / "a.json").write_text(content, encoding="latin-1")
        with pytest.raises(ConfigError, match="a.json is damaged .*: restore the listener's answers"):
            read_results(plan, tmp_path / "cut")
    with pytest.raises(ConfigError, match="holds no results"):
        read_results(plan, tmp_path / "none")


def test_a_plan_that_was_changed_is_refused(listening_test, tmp_path):
    plan, _ = listening_test("ab")
    plan["stimuli"][0]["system"] = "fair"
    plan["stimuli"][1]["system"] = "good" if plan["stimuli"][1]["system"] == "fair" else "fair"
    (tmp_path / "page.plan.json").write_text(json.dumps(plan))
    with pytest.raises(ConfigError, match="page.plan.json has the hash [0-9a-f]{16}, not [0-9a-f]{16} as it says"):
        read_plan(tmp_path / "page.plan.json")


def test_the_report_and_its_figures_are_written(listening_folders, tmp_path):
    settings = Settings(
        "mushra", {"good": listening_folders / "good"}, listening_folders / "real", 8, anchors_hz=ANCHORS
    )
    page, path = write_test(tmp_path / "page.html", settings)
    plan = read_plan(path)
    true = {"reference": 100, "good": 60, "anchor at 2000 Hz": 40, "anchor at 1000 Hz": 20}
    rater = lambda trial, systems: [true[name] for name in systems]  # noqa: E731
    write(tmp_path, {name: answers(plan, name, rater) for name in ("ann", "bob")})
    report, found = write_analysis(path, tmp_path, tmp_path / "report")
    record = json.loads((tmp_path / "report" / "listening.json").read_text(), parse_constant=pytest.fail)
    assert record["listeners"] == ["ann", "bob"] and record["screened"] == {} and record["friedman_p"] is None
    assert [Figure.from_dict(one) for one in record["figures"]] == [row.figure for row in found.rows]
    assert {one["figure"]["name"] for one in json.loads((report.parent / "figures.json").read_text())["figures"]} == {
        row.figure.name for row in found.rows
    }
    assert "reference and good alike (Wilcoxon, Holm)" in report.read_text(encoding="utf-8")
