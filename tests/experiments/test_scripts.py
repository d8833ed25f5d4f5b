"""The launch scripts as people run them: train, sample, evaluate; and each mistake is one line that says what to do."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

import command
import numpy as np
import pytest
import soundfile
from absl import flags
from absl.testing import flagsaver
from launching import ENVIRONMENT, ROOT, Ended

import audiodiff.build.experiment  # noqa: F401 - with all that it imports: libraries define flags as well
from audiodiff.build.data import DATA_VARIABLE
from audiodiff.data import write_audio

MODEL, JUDGE = "--config=configs/digits_dilated.py:smoke", "--config=configs/judge_digits.py:smoke"


def process(name: str, *arguments) -> Ended:
    """Run a script in a process of its own."""
    argv = [sys.executable, f"experiments/{name}.py", *map(str, arguments)]
    done = subprocess.run(argv, cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=280)
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> pathlib.Path:
    """Write two digits of two speakers, each eight times, named as FSDD names them."""
    root, rng = tmp_path_factory.mktemp("data") / "fsdd", np.random.default_rng(0)
    for digit in (3, 7):
        for speaker in ("ann", "theo"):
            for index in range(8):
                write_audio(root / f"{digit}_{speaker}_{index}.wav", rng.uniform(-0.3, 0.3, 4000), 8000)
    return root


@pytest.fixture(scope="module")
def model(digits, tmp_path_factory) -> tuple[pathlib.Path, list[str], Ended]:
    """Train a model by its script; return its workdir, its arguments and what was said."""
    folder = tmp_path_factory.mktemp("runs") / "model"
    arguments = [MODEL, f"--workdir={folder}", f"--config.data.root={digits}", "--config.training.devices=1"]
    return folder, arguments, process("train", *arguments)


@pytest.fixture(scope="module")
def samples(model, tmp_path_factory) -> tuple[pathlib.Path, Ended]:
    """Sample the model by its script."""
    folder = tmp_path_factory.mktemp("out") / "samples"
    return folder, process("sample", f"--workdir={model[0]}", f"--out={folder}", "--num=6", "--batch=6")


def test_training_runs_and_a_rerun_says_that_it_has_finished(model, launch):
    folder, arguments, ended = model
    assert ended.code == 0, ended.err
    assert "starting in" in ended.err and "step 10/10" in ended.err and "finished 10 steps" in ended.err
    again = launch("train", *arguments, "--config.training.log_every=3")
    assert again.code == 0 and f"the run in {folder} has finished its 10 steps: nothing to do" in again.err


def test_samples_are_named_in_the_order_of_the_data_set(samples):
    folder, ended = samples
    assert ended.code == 0, ended.err
    names = ["3_ann_0", "3_theo_0", "7_ann_0", "7_theo_0", "3_ann_1", "3_theo_1"]
    record = json.loads((folder / "samples.json").read_text())
    assert [one["file"] for one in record["samples"]] == [f"{name}.wav" for name in names]
    assert record["samples"][3]["conditions"] == {"digit": "7", "speaker": "theo"}
    audio, rate_hz = soundfile.read(folder / "7_theo_0.wav")
    assert audio.shape == (8192,) and rate_hz == 8000
    assert f"wrote 6 clips and {folder / 'samples.json'}" in ended.out


def test_conditions_are_held_as_asked(model, tmp_path, launch):
    asked = "--conditions=speaker=theo,digit=7"
    ended = launch("sample", f"--workdir={model[0]}", f"--out={tmp_path}", "--num=2", "--batch=6", asked)
    assert ended.code == 0, ended.err
    assert sorted(path.name for path in tmp_path.glob("*.wav")) == ["7_theo_0.wav", "7_theo_1.wav"]


def test_a_judge_scores_the_samples(model, samples, digits, tmp_path, launch):
    judge = tmp_path / "judge"
    small = ["--config.network.widths=(8,)", "--config.training.total_steps=3", "--config.training.devices=1"]
    ended = launch("train", JUDGE, f"--workdir={judge}", f"--config.data.root={digits}", *small)
    assert ended.code == 0, ended.err
    ended = process("evaluate", f"--workdir={model[0]}", f"--samples={samples[0]}", f"--judge={judge}")
    assert ended.code == 0, ended.err
    assert re.search(r"accuracy digit .*real: ", ended.out) and re.search(r"accuracy speaker .*real: ", ended.out)
    page = model[0] / "report" / "index.html"
    assert f"report: {page}" in ended.out and "<audio" in page.read_text()
    assert json.loads((page.parent / "figures.json").read_text())["facts"]["samples"] == "seed 0, numbers 0 to 5"


def test_a_mistake_ends_a_real_process_with_one_line():
    ended = process("train", MODEL, "--workdir=/nowhere", "--config.training.total_step=3")
    said = "error: unknown config key 'training.total_step'; the nearest are training.total_steps, "
    assert ended.err.startswith(said) and ended.err.count("\n") == 1
    assert ended.code == 1 and not ended.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--config and --workdir missing: give --config=... --workdir=..."),
        (
            ["--config=configs/digit_wave.py"],
            "there is no config file configs/digit_wave.py; the nearest is configs/digits_",
        ),
        (["--config=configs/demo.py:judg"], "configs/demo.py has no part 'judg'; choose judge, smoke or judge_smoke"),
        ([MODEL, "--config.trainin.x=3"], "unknown config key 'trainin.x'; the nearest are "),
        (
            [MODEL, "--config.network.kernl_size=3"],
            "unknown config key 'network.kernl_size'; the nearest are network.kernel_size",
        ),
        ([MODEL, "--config.training.total_steps=many"], "flag --config.training.total_steps=many: invalid literal"),
        ([MODEL, "--max_minute=3"], "Unknown command line flag 'max_minute'. Did you mean: max_minutes"),
        ([MODEL, "--max_minutes=long"], "flag --max_minutes=long: could not convert"),
        ([MODEL, "now"], "unexpected argument 'now': options begin with --"),
    ],
)
def test_wrong_flags_are_told_in_one_line(launch, tmp_path, arguments, said):
    workdir = [f"--workdir={tmp_path / 'run'}"] if arguments else []
    assert said in launch("train", *arguments[:1], *workdir, *arguments[1:]).error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([MODEL], f"data 'fsdd' has no root: give --config.data.root=DIR, or set {DATA_VARIABLE} to the folder that"),
        ([MODEL, "--config.data.root=/nowhere"], "/nowhere: no such folder; expected FSDD's"),
        ([MODEL, "--config.data.root={empty}"], "the folder is empty; expected FSDD's"),
        ([MODEL, "--config.data.root={digits}", "--config.data.rate_hz=0"], "rate_hz is 0; give"),
        (
            [MODEL, "--config.data.root={digits}", "--config.data.length_samples=0"],
            "length_samples is 0; give at least 1",
        ),
        (
            [MODEL, "--config.data.root={digits}", "--config.network.name=dilated"],
            "'dilated'; choose one of dilated_stack",
        ),
        ([MODEL, "--config.data.root={digits}", "--config.process.name=ve"], "unknown process 've'; choose one of "),
        ([MODEL, "--config.data.root={digits}", "--config.training.devices=99"], "devices=99 is impossible"),
        ([JUDGE, "--config.data.root={digits}", "--config.mel.hop_samples=0"], "mel 'librosa': hop_samples is 0"),
        ([JUDGE, "--config.data.root={digits}", "--config.mel.fft_samples=0"], "mel 'librosa': fft_samples is 0"),
    ],
)
def test_impossible_experiments_are_told_in_one_line_and_leave_nothing(launch, tmp_path, digits, arguments, said):
    (tmp_path / "empty").mkdir()
    places = {"{digits}": str(digits), "{empty}": str(tmp_path / "empty")}
    arguments = [re.sub(r"\{\w+\}", lambda match: places[match[0]], argument) for argument in arguments]
    assert said in launch("train", *arguments, f"--workdir={tmp_path / 'run'}").error
    assert not list(tmp_path.glob("run/*.json")), "the mended command may use the workdir"


def test_a_workdir_of_another_config_is_refused(model, launch):
    folder, arguments, _ = model
    before = {path: path.read_bytes() for path in folder.glob("*.json*")}
    ended = launch("train", *arguments, "--config.optimiser.learning_rate=0.5")
    assert f"workdir {folder} belongs to another config: optimiser.learning_rate: 0.001 -> 0.5; take" in ended.error
    assert {path: path.read_bytes() for path in folder.glob("*.json*")} == before


def test_a_workdir_that_cannot_be_written_is_told(launch, tmp_path):
    (tmp_path / "file").write_text("")
    ended = launch("train", MODEL, f"--workdir={tmp_path / 'file' / 'run'}")
    assert "cannot write in workdir" in ended.error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--num=0"], "flag --num=0: 0 is not a positive integer"),
        (["--conditions=digt=7"], "unknown condition 'digt'; choose one of digit, speaker"),
        (["--conditions=digit=8"], "unknown value of condition 'digit' '8'; choose one of "),
        (
            ["--conditions=digit"],
            "--conditions has 'digit' without a value: write it as digit=VALUE, several with commas",
        ),
        (["--sampler=heunn"], "unknown sampler 'heunn'; choose one of heun, "),
    ],
)
def test_wrong_samples_are_told_in_one_line_and_nothing_is_written(model, launch, tmp_path, arguments, said):
    out = tmp_path / "out"
    assert said in launch("sample", f"--workdir={model[0]}", f"--out={out}", *arguments).error
    assert not out.exists()


def test_runs_that_cannot_be_sampled_or_judged_are_told_in_one_line(model, launch, tmp_path):
    out = f"--out={tmp_path / 'out'}"
    ended = launch("sample", f"--workdir={tmp_path}", out)
    assert f"{tmp_path} holds no config.json: it is not the folder of a run" in ended.error
    for name in ("config.json", "model.json"):
        (tmp_path / name).write_bytes((model[0] / name).read_bytes())
    ended = launch("sample", f"--workdir={tmp_path}", out)
    assert f"{tmp_path} holds no checkpoint: train there first" in ended.error
    ended = launch("sample", f"--workdir={model[0]}", out, f"--guide={model[0]}")
    assert f"{model[0]} holds a model, which judges nothing: name the workdir of a judge" in ended.error
    ended = launch("evaluate", f"--workdir={model[0]}", f"--samples={tmp_path}", f"--judge={model[0]}")
    assert f"{model[0]} holds a model, which judges nothing: name the workdir of a judge" in ended.error
    assert "--samples and --judge missing: give" in launch("evaluate", f"--workdir={tmp_path}").error


def test_many_lines_become_one_and_a_bug_keeps_its_traceback(monkeypatch, capsys):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", ENVIRONMENT["JAX_COMPILATION_CACHE_DIR"])
    flags.FLAGS.mark_as_parsed()

    def fail(error: Exception):
        raise error

    with pytest.raises(SystemExit, match="1"):
        command.guarded(lambda: fail(RuntimeError("out of memory:\n  4 GiB")))
    assert capsys.readouterr().err == "error: out of memory: 4 GiB\n"
    with pytest.raises(KeyError):
        command.guarded(lambda: fail(KeyError("bug")))
    with flagsaver.flagsaver(traceback=True), pytest.raises(RuntimeError, match="out of memory"):
        command.guarded(lambda: fail(RuntimeError("out of memory")))
