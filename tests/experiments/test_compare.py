"""A whole comparison by its script: every cell once, resumed where it stopped, and reported from its results alone."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from launching import Ended

from audiodiff.data import write_audio

CELLS = ["waveform_dilated_0", "log_mel_0"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Write three digits of FSDD's six speakers, each seven times, named as FSDD names them."""
    root, rng = tmp_path_factory.mktemp("data") / "fsdd", np.random.default_rng(0)
    for digit in (3, 5, 7):
        for speaker in ("george", "jackson", "lucas", "nicolas", "theo", "yweweler"):
            for index in range(7):
                write_audio(root / f"{digit}_{speaker}_{index}.wav", rng.uniform(-0.3, 0.3, 1800), 8000)
    return root


@pytest.mark.slow
def test_a_comparison_runs_goes_on_and_is_reported_again_without_its_runs(digits, tmp_path, launch):
    workdir, results = tmp_path / "runs", tmp_path / "results"

    def compare(*arguments) -> Ended:
        size = ["--config=configs/compare_digits.py:smoke", f"--config.data.root={digits}"]
        less = ["--config.seeds=(0,)", "--config.sweep.steps=(2,)"]
        return launch("compare", *size, *less, f"--workdir={workdir}", f"--results={results}", *arguments)

    # In parts, as several processes would: one cell, then all that is left.
    assert "run --stage=calibrate on a quiet machine" in compare("--stage=train", "--cells=log_mel_0").error
    for part in (["--stage=calibrate"], ["--stage=train", "--cells=waveform_dilated_0"]):
        ended = compare(*part)
        assert ended.code == 0, ended.err
    assert (workdir / "waveform_dilated_0").is_dir() and not (workdir / "judge").exists()
    ended = compare()
    assert ended.code == 0, ended.err
    made = {path.stem for path in results.glob("*.json")}
    shared = {"calibration", "judge", "vocoder", "speed", "waveform_dilated_ceiling", "log_mel_ceiling"}
    assert made == {*CELLS, *shared}
    page = workdir / "report" / "index.html"
    shown = page.read_text()
    assert "log_mel + vocoder" in shown and "Missing" not in shown

    # A cell whose results are moved away is measured again, it alone, and comes out the same.
    before = {path: path.read_bytes() for path in results.glob("*.json")}
    lost = results / "log_mel_0.json"
    lost.unlink()
    ended = compare("--stage=report")
    assert "Missing: log_mel_0" in page.read_text()
    ended = compare()
    assert ended.code == 0, ended.err
    after = {path: path.read_bytes() for path in results.glob("*.json")}
    assert [path for path in before if before[path] != after[path]] in ([], [lost])
    old, new = (json.loads(text[lost]) for text in (before, after))
    del old["made"], new["made"]
    assert old == new
    assert page.read_text() == shown

    # Everything that the page shows is in the results.
    shutil.rmtree(workdir)
    ended = compare("--stage=report")
    assert ended.code == 0, ended.err
    assert page.read_text() == shown

    record = json.loads((results / "log_mel_0.json").read_text())
    assert str(tmp_path) not in lost.read_text(), "a cell may have been made anywhere"
    assert set(record["budgets"]["clock"]) == {"griffin_lim", "vocoder", "generator"}
    assert set(record["sweep"]) == {"2"} and record["evaluations_a_step"] == 2


def test_impossible_comparisons_are_told_in_one_line(digits, tmp_path, launch):
    def error(*arguments) -> str:
        size = ["--config=configs/compare_digits.py:smoke", f"--config.data.root={digits}"]
        places = [f"--workdir={tmp_path / 'runs'}", f"--results={tmp_path / 'results'}"]
        return launch("compare", *size, *places, *arguments).error

    assert "unknown cell 'log_mel_7'; choose one of log_mel_" in error("--cells=log_mel_7")
    apart = error("--stage=calibrate", "--config.parameters_within=0.01")
    assert "log_mel has " in apart and "waveform_dilated" in apart and "more than 1% apart" in apart
    assert not list(tmp_path.glob("results/*"))
