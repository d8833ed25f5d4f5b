"""The judge of any labels is trained on a manifest that names them, and examined on the files that it held out."""

from __future__ import annotations

import collections
import json
import pathlib

import numpy as np
import pytest
from absl import flags
from command import plain
from ml_collections import config_flags

from audiodiff.build.choices import ConfigError
from audiodiff.build.data import make_data
from audiodiff.build.evaluate import examine_judge
from audiodiff.build.experiment import run_experiment
from audiodiff.build.run import load_judge
from audiodiff.data import write_audio
from configs import judge_labels


def from_command_line(*arguments: str) -> dict:
    """Return a config as a launch script reads it."""
    alone = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=alone, sys_argv=["", *arguments])
    alone(["", *arguments])
    return plain(holder.value)


def small(manifest: pathlib.Path, labels: str) -> dict:
    """Return the config at the sizes of the digits' judge that the launch scripts are tested with: one compilation."""
    given = [
        *(f"data.root={manifest}", "data.rate_hz=8000", "data.length_samples=8192", "data.held_out_share=0.25"),
        *("mel.fft_samples=512", "mel.hop_samples=128", "mel.window_samples=512", "network.widths=(8,)"),
        *("objective.max_shift_samples=800", "training.total_steps=3", "training.devices=1"),
    ]
    argument = f"--config=configs/judge_labels.py:manifest:{labels}:smoke"
    return from_command_line(argument, *(f"--config.{one}" for one in given))


@pytest.fixture
def manifest(tmp_path) -> pathlib.Path:
    """List 32 clips, each with a digit, a speaker and a number, in files that do not tell which."""
    rng = np.random.default_rng(0)
    lines = ["path,number:age,label:speaker,label:digit"]
    for index in range(32):
        write_audio(tmp_path / f"{index}.wav", rng.uniform(-0.3, 0.3, 4000), 8000)
        lines.append(f"{index}.wav,{index},{('theo', 'ann')[index % 2]},{(7, 3)[index // 2 % 2]}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    return tmp_path / "manifest.csv"


def test_the_labels_that_are_named_get_a_head_each(manifest, tmp_path):
    config = small(manifest, "digit,speaker")
    assert run_experiment(config, tmp_path / "run").finished
    assert load_judge(tmp_path / "run").classes == {"digit": ("3", "7", "reject"), "speaker": ("ann", "theo", "reject")}

    path, figures = examine_judge(tmp_path / "run")
    held_out = make_data(config["data"]).split("validation")
    numbers = [int(pathlib.Path(held_out.describe(index)).stem) for index in range(len(held_out))]
    assert len(numbers) == 8 == figures[0].count
    record = json.loads(path.read_text())
    found = {head: {label: sum(row.values()) for label, row in by.items()} for head, by in record["confusion"].items()}
    assert found == {
        "digit": collections.Counter("73"[number // 2 % 2] for number in numbers),
        "speaker": collections.Counter(("theo", "ann")[number % 2] for number in numbers),
    }
    right = sum(row.get(label, 0) for label, row in record["confusion"]["digit"].items())
    assert {figure.name: figure.value for figure in figures}["accuracy digit"] == pytest.approx(100 * right / 8)


def test_what_is_no_label_cannot_be_judged(manifest, tmp_path):
    with pytest.raises(ConfigError, match="unknown condition 'digt'; choose one of digit, "):
        run_experiment(small(manifest, "digt"), tmp_path / "run")
    with pytest.raises(ConfigError, match="condition 'age' is a number, and a judge tells labels apart"):
        run_experiment(small(manifest, "age"), tmp_path / "run")


@pytest.mark.parametrize(
    ("arg", "said"), [("manifests:a", "no layout 'manifests'"), ("folder:a:tiny", "no size 'tiny'")]
)
def test_a_part_of_the_argument_that_means_nothing_is_told(arg, said):
    with pytest.raises(ValueError, match=said):
        judge_labels.get_config(arg)
