"""The fault campaign in short, and that it would see what it looks for."""

from __future__ import annotations

import itertools
import json
import pathlib
import random
import types

import numpy as np
import pytest
from faults import (
    DAMAGES,
    FULL,
    KILL,
    NONE,
    Campaign,
    Start,
    _unclear,
    decks,
    half_a_line,
    markdown,
    rows,
    saved_steps,
)

CACHE = pathlib.Path(__file__).resolve().parents[2] / ".cache" / "jax-tests"


@pytest.mark.slow
def test_a_run_outlives_kills_damage_and_a_full_disk(tmp_path):
    campaign = Campaign(tmp_path, seed=1, steps=80, pace_s=0.02, cache=CACHE)
    campaign.undisturbed()
    life = types.SimpleNamespace(moment=lambda draw, left: ("step ", draw.uniform(0.2, 0.7)))
    faults = [(NONE, KILL), ("half-written files", FULL), ("bytes changed", KILL)]
    campaign.run(life, itertools.chain(faults, itertools.repeat((NONE, NONE))))
    assert campaign.runs == [[]], "the run differs from the undisturbed one"
    assert not [row for row in rows(campaign.starts, campaign.runs) if row[-1]]
    assert [start.ending for start in campaign.starts] == [KILL, FULL, KILL, NONE]


def planted(workdir: pathlib.Path, *steps: int) -> pathlib.Path:
    """Return a run's folder with checkpoints of these steps, of two files each, and a line for every step."""
    for step in steps:
        for name in ("state/data", "meta/metadata"):
            path = workdir / "checkpoints" / str(step) / name
            path.parent.mkdir(parents=True)
            path.write_bytes(bytes(100))
    lines = "".join(json.dumps({"step": step, "train/loss": 1.0}) + "\n" for step in range(steps[-1]))
    (workdir / "metrics.jsonl").write_text(lines)
    return workdir


@pytest.mark.parametrize("damage", DAMAGES)
def test_damages_are_done_to_the_newest_checkpoint_and_to_unsaved_lines_alone(tmp_path, damage):
    workdir = planted(tmp_path, 5, 10)

    def content(folder):
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = content(workdir)
    assert DAMAGES[damage](workdir, random.Random(0))
    after = content(workdir)
    assert after != before and saved_steps(workdir) == [5, 10]
    assert content(workdir / "checkpoints" / "5").items() <= before.items()
    lines = (workdir / "metrics.jsonl").read_text()
    assert lines.startswith(before[workdir / "metrics.jsonl"].decode())
    assert lines.endswith("\n") == (damage != "half a line")


def test_the_only_checkpoint_is_not_damaged(tmp_path):
    workdir = planted(tmp_path, 5)
    done = {name for name, damage in DAMAGES.items() if damage(workdir, random.Random(0))}
    assert done == {"half-written files", "half a line"}
    assert not half_a_line(workdir, random.Random(0)), "one half is enough"


def test_the_lines_of_a_finished_run_are_let_be(tmp_path):
    (planted(tmp_path, 5, 10) / "finished.json").write_text('{"step": 10}')
    assert not half_a_line(tmp_path, random.Random(0))


def test_an_end_on_a_full_disk_must_be_clear():
    clear = "step 9/10\nerror: cannot write in /run: No space left on device; make room, then rerun the same command"
    noise = "Traceback (most recent call last):\n  File ...\nRuntimeError: Event loop is closed"
    assert _unclear(f"{noise}\n{clear}") == []
    assert _unclear("error: RESOURCE_EXHAUSTED: No space left on device") != []
    assert _unclear(f"{clear}\nOSError: [Errno 28] No space left on device") != []
    assert _unclear(noise) != []


def test_every_card_comes_before_one_comes_again():
    drawn = list(itertools.islice(decks(random.Random(0), "abc"), 9))
    assert all(set(drawn[i : i + 3]) == set("abc") for i in (0, 3, 6))


@pytest.mark.parametrize(
    ("began", "text", "wrong"),
    [
        (10, "", []),
        (5, "the checkpoint of step 10 is damaged; falling back to the checkpoint of step 5", []),
        (5, "the checkpoint of step 10 is damaged", ["fell back from step 10 to 5 without naming both"]),
        (7, "", ["fell back from step 10 to 7 without naming both", "went on from step 7, of which there was no"]),
        (0, "", ["passed over the whole checkpoint of step 5", "fell back from step 5 to 0 without"]),
        (None, "", []),
    ],
)
def test_a_wrong_beginning_is_seen(tmp_path, began, text, wrong):
    campaign = Campaign(tmp_path)
    campaign._suspect = {10: "bytes changed"}
    seen = campaign._beginning(Start(1, NONE, KILL, 12, began), types.SimpleNamespace(text=text), [5, 10])
    for words in wrong:
        assert any(one.startswith(words) for one in seen), seen
    assert bool(seen) == bool(wrong)


def test_a_difference_is_seen(tmp_path):
    campaign = Campaign(tmp_path)
    for name in ("undisturbed", "run"):
        planted(tmp_path / name, 3)
        np.savez(tmp_path / f"{name}.npz", w=np.float32([0.0, 1.0]), b=np.float32(2.0))
    assert campaign._differences(tmp_path / "run", tmp_path / "run.npz") == []
    np.savez(tmp_path / "run.npz", w=np.float32([-0.0, 1.0]), b=np.float32(2.0))  # equal in value, not bit for bit
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 0, "train/loss": 1.5, "speed/steps_per_second": 3}\n')
    weights, line = campaign._differences(tmp_path / "run", tmp_path / "run.npz")
    assert weights == "w" and "1.5" in line
    assert campaign._differences(tmp_path / "run", tmp_path / "none.npz") == ["never finished"]


def test_the_table_tells_of_each_fault_and_of_what_was_wrong():
    starts = [
        Start(1, NONE, KILL, 0, 0, 40, "steps", -9, lost=5),
        Start(1, "bytes changed", FULL, 40, 35, 60, "a save in flight", 1, wrong_ending=["no clear last line"]),
        Start(1, "file deleted", NONE, 60, 49, 100, "exit", 0, fell_back=[(56, "file deleted")]),
    ]
    starts[1].unnoticed = "bytes changed"
    table = {row[0]: row[1:] for row in rows(starts, [["params"]])}
    assert table["`kill -9`: steps"] == ["1", "steps taken again: 5 (median), 5 at most", ""]
    assert table[FULL] == ["1", "1 with exit code 1", "no clear last line"]
    assert table["file deleted"] == ["1", "fell back 1 times, naming both (step 56 to 49)", ""]
    count, seen, wrong = table["bytes changed"]
    assert (count, wrong) == (
        "1",
        "unnoticed in 1 runs that differ in the end",
    ) and "1 times from the checkpoint" in seen
    assert table["runs to the end"] == ["1", "0 equal the undisturbed one bit for bit", "run 1 differs: params"]
    facts = {"commit": "abc", "date": "2026-01-01", "cores": 2, "jax": "0", "python": "3"}
    page = markdown(rows(starts, [["params"]]), facts, "python benchmarks/faults.py", "3 starts.")
    assert "| full disk | 1 | 1 with exit code 1 | **no clear last line** |" in page
