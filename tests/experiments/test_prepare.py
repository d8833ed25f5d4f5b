"""The command scans, reports and writes; what is wrong is one clear line and an exit code that is not 0."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from audiodiff.data import DataStatistics, ManifestSource, read_manifest, write_audio

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "experiments" / "prepare.py"), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)


def one_clear_line(result: subprocess.CompletedProcess) -> str:
    assert result.returncode not in (0, None) and "Traceback" not in result.stderr + result.stdout
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("prepare: ")]
    return line


@pytest.fixture
def digits(tmp_path):
    rng = np.random.default_rng(0)
    for digit in range(3):
        for index in (0, 5):
            write_audio(tmp_path / "digits" / f"{digit}_ann_{index}.wav", rng.uniform(-0.3, 0.3, 4_000), 8_000)
    return tmp_path / "digits"


def test_it_reports_writes_and_lists_what_is_bad(digits, tmp_path):
    (digits / "7_ann_0.wav").write_bytes((digits / "0_ann_0.wav").read_bytes()[:1_000])
    write_audio(digits / "8_ann_0.wav", np.zeros(4_000), 8_000)
    result = run(f"--root={digits}", f"--out={tmp_path / 'out'}")
    assert result.returncode == 0, result.stderr
    for said in (
        "layout fsdd, 8 clips",
        "6 (3 test, 3 train)",
        "8000 Hz",
        "7_ann_0.wav: truncated",
        "8_ann_0.wav: silent",
    ):
        assert said in result.stdout
    manifest = read_manifest(tmp_path / "out" / "manifest.jsonl")
    source = ManifestSource(manifest, 8_000)
    assert len(source) == 6 and all(len(source[i]["audio"]) == 4_000 for i in range(6))
    statistics = DataStatistics.load(tmp_path / "out" / "statistics.json")
    assert statistics.clips == 6 and len(statistics.silent) == len(statistics.damaged) == 1
    assert statistics.manifest_hash == manifest.hash
    assert statistics.sigma_data == pytest.approx(0.1 / np.sqrt(2), rel=1e-3), "half of each second is padding"
    assert json.loads((tmp_path / "out" / "statistics.json").read_text())["rate_hz"] == 8_000


def test_strict_stops_and_writes_nothing(digits, tmp_path):
    (digits / "7_ann_0.wav").write_bytes(b"")
    line = one_clear_line(run(f"--root={digits}", f"--out={tmp_path / 'out'}", "--strict"))
    assert "7_ann_0.wav: empty, 0 bytes" in line and not (tmp_path / "out").exists()


def test_a_missing_and_an_empty_folder_are_named(tmp_path):
    missing = one_clear_line(run(f"--root={tmp_path / 'nowhere'}", f"--out={tmp_path / 'out'}"))
    assert f"{tmp_path / 'nowhere'}: no such folder; expected" in missing
    (tmp_path / "empty").mkdir()
    assert "the folder is empty; expected" in one_clear_line(
        run(f"--root={tmp_path / 'empty'}", f"--out={tmp_path / 'out'}")
    )


@pytest.mark.parametrize("flag,said", [("--layout=fsd", "fsdd"), ("--rate_hz=0", "positive")])
def test_a_wrong_flag_is_named_with_the_valid_ones(digits, tmp_path, flag, said):
    result = run(f"--root={digits}", f"--out={tmp_path / 'out'}", flag)
    assert result.returncode != 0 and "Traceback" not in result.stderr and said in result.stderr


@pytest.mark.fsdd
def test_fsdd_is_prepared_whole(fsdd_root, tmp_path):
    result = run(f"--root={fsdd_root}", f"--out={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert "3000 (300 test, 2700 train)" in result.stdout and "0.3645" in result.stdout
    assert not DataStatistics.load(tmp_path / "statistics.json").damaged
