"""The two scripts as people run them: folders to page and plan, listeners' files to a report, a slip to one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from audiodiff.data import write_audio


@pytest.fixture
def clips(tmp_path):
    """Write two clips of two systems, and return what names them on the command line."""
    rng = np.random.default_rng(0)
    for system in ("ours", "theirs"):
        for clip in range(2):
            write_audio(tmp_path / system / f"{clip}.wav", rng.uniform(-0.3, 0.3, 1600), 8000)
    return f"--systems=ours={tmp_path / 'ours'},theirs={tmp_path / 'theirs'}"


def test_from_folders_to_a_page_and_from_answers_to_a_report(launch, clips, tmp_path):
    page = tmp_path / "listen" / "page.html"
    code, out, err = launch("listen", "--kind=ab", clips, f"--out={page}", "--trials=2", "--title=Which is better?")
    assert code == 0, err
    assert f"page: {page}" in out and "Which is better?" in page.read_text(encoding="utf-8")
    plan = json.loads(page.with_name("page.plan.json").read_text(encoding="utf-8"))
    system = {one["id"]: one["system"] for one in plan["stimuli"]}
    for listener in ("ann", "bob"):
        answers = [
            {"trial": one["id"], "ratings": {id: int(system[id] == "ours") for id in one["stimuli"]}}
            for one in plan["trials"]
        ]
        results = {"format": 1, "plan": plan["hash"], "listener": listener, "answers": answers}
        (tmp_path / "listen" / f"{listener}.json").write_text(json.dumps(results))
    folder = f"--results={tmp_path / 'listen'}"
    code, out, err = launch(
        "listening_results", f"--plan={page.with_name('page.plan.json')}", folder, f"--out={tmp_path / 'report'}"
    )
    assert code == 0, err
    assert "ours over theirs  100 % [51, 100] (n=4)" in out and "2 listeners, 2 trials each." in out
    assert "ours and theirs preferred as often (binomial, Holm): p = 0.12." in out
    assert {one.name for one in (tmp_path / "report").iterdir()} == {"index.html", "figures.json", "listening.json"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kind=mos", "--systems=ours"], "error: --systems has 'ours' without a folder, or twice: write it as"),
        (["--kind=mos", "--systems=ours=a,ours=b"], "error: --systems has 'ours' without a folder, or twice"),
        (["--kind=abc"], "error: unknown kind of listening test 'abc'; choose one of ab"),
        (["--kind=ab", "--trials=3"], "error: 3 trials cannot be spread evenly over 1 comparisons of up to 2 clips"),
        (["--kind=ab", "--trials=2", "--out=page.txt"], "error: report path 'page.txt' is not a page"),
        (["--kind=mushra", "--anchors_hz=low"], "error: --anchors_hz has 'low', not a whole number of Hz"),
        ([], "error: --kind missing: give --kind=..."),
    ],
)
def test_a_slip_is_one_line(launch, clips, tmp_path, arguments, said):
    out = f"--out={tmp_path / 'page.html'}"
    code, _, err = launch("listen", clips, out, *arguments)
    assert code == 1 and err.startswith(said) and err.count("\n") == 1, err


def test_a_plan_that_is_not_there_is_one_line(launch, tmp_path):
    code, _, err = launch("listening_results", f"--plan={tmp_path / 'no.json'}", "--results=r", "--out=o")
    assert code == 1 and "no.json" in err and err.count("\n") == 1
