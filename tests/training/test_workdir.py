from __future__ import annotations

import json
import os

import jax
import pytest

from audiodiff.training import workdir as folders
from audiodiff.training.workdir import WorkdirError, exclusive, prepare_workdir, read_config, record_start

CONFIG = {"seed": 1, "train": {"save_every": 10, "sizes": (1, 2)}, "data": {"root": "/a", "rate_hz": 8000}}


def test_a_run_opens_again_with_its_own_config_and_only_with_it(tmp_path):
    folder = prepare_workdir(tmp_path / "a" / "run", CONFIG)
    assert folder.is_absolute() and read_config(folder) == json.loads(json.dumps(CONFIG))
    assert prepare_workdir(folder, json.loads(json.dumps(CONFIG))) == folder  # tuples and lists are the same
    stored = (folder / "config.json").read_bytes()
    other = {"seed": 2, "train": {"save_every": 20, "sizes": (1, 2), "new": None}, "data": {"root": "/b"}}
    with pytest.raises(WorkdirError) as error:
        prepare_workdir(folder, other)
    for change in ("seed: 1 -> 2", "data.rate_hz: 8000 -> absent", "train.new: absent -> null"):
        assert change in str(error.value)
    assert "save_every" not in str(error.value) and "data.root" not in str(error.value)
    assert (folder / "config.json").read_bytes() == stored


def test_cadences_and_paths_may_change_and_are_stored(tmp_path):
    prepare_workdir(tmp_path, CONFIG)
    changed = CONFIG | {"train": {"save_every": 5, "sizes": (1, 2)}, "data": {"root": "/b", "rate_hz": 8000}}
    prepare_workdir(tmp_path, changed)
    assert read_config(tmp_path)["train"]["save_every"] == 5 and read_config(tmp_path)["data"]["root"] == "/b"
    with pytest.raises(WorkdirError, match="rate_hz: 8000 -> 16000"):
        prepare_workdir(tmp_path, changed | {"data": {"root": "/b", "rate_hz": 16000}})
    prepare_workdir(tmp_path, changed | {"seed": 3}, may_change=["seed"])


def test_part_of_a_name_is_not_the_name(tmp_path):
    prepare_workdir(tmp_path, {"bookkeep": 1})
    with pytest.raises(WorkdirError, match="bookkeep: 1 -> 2"):  # `keep` may change
        prepare_workdir(tmp_path, {"bookkeep": 2})


def test_damaged_missing_and_newer_configs(tmp_path):
    with pytest.raises(FileNotFoundError, match="not the folder of a run"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"format": 1, "con')
    with pytest.raises(WorkdirError, match="is damaged"):
        prepare_workdir(tmp_path, CONFIG)
    (tmp_path / "config.json").write_text('{"format": 99, "config": {}}')
    with pytest.raises(WorkdirError, match="format 99, newer than 1"):
        read_config(tmp_path)


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match=r"cannot write in workdir .*file/run \(Not a directory\)"):
        prepare_workdir(tmp_path / "file" / "run")
    with pytest.raises(WorkdirError, match="cannot write in workdir"):
        prepare_workdir(tmp_path / "file")


def test_two_processes_cannot_share_a_run(tmp_path):
    with exclusive(tmp_path), pytest.raises(WorkdirError, match="another process"), exclusive(tmp_path):
        pass
    with exclusive(tmp_path):
        pass


def test_each_start_is_recorded(tmp_path):
    record_start(tmp_path, 0)
    record_start(tmp_path, 7)
    starts = json.loads((tmp_path / "env.json").read_text())
    assert [start["step"] for start in starts] == [0, 7]
    assert starts[1]["packages"]["jax"] == jax.__version__
    assert len(starts[1]["devices"]) == len(jax.devices())


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    folders.write_json(tmp_path / "a.json", {"old": 1})

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        folders.write_json(tmp_path / "a.json", {"new": 2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
