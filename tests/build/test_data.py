"""Data sets by name: their splits, conditions and hash, and what is said where there is none."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil

import numpy as np
import pytest
from absl import flags
from command import plain
from ml_collections import config_flags

from audiodiff.build.choices import ConfigError
from audiodiff.build.data import DATA_VARIABLE, DataSets, make_data
from audiodiff.data import Batches, InMemory, write_audio, write_manifest
from audiodiff.data.layouts import scan_folder
from configs import common

RATE_HZ = 8000


def section(**changes):
    """Return the data section of a config, with changes."""
    return {**dict(common.data().items()), "length_samples": 2000, **changes}


def embedded(**changes):
    return section(**{"name": "embedded", "size": 24, **changes})


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """Write twenty clips of two instruments, each at a level of its own."""
    rng = np.random.default_rng(0)
    for index in range(20):
        audio = rng.standard_normal(3000)
        audio *= 10 ** (-(20 + index) / 20) / np.sqrt(np.mean(audio**2))
        write_audio(tmp_path / "set" / ("flute" if index % 2 else "oboe") / f"{index}.wav", audio, RATE_HZ, "FLOAT")
    return tmp_path / "set"


def sizes(sets: DataSets) -> dict[str, int]:
    return {split: len(source) for split, source in sets.splits.items()}


def paths(source) -> set[str]:
    return {source.describe(index) for index in range(len(source))}


def test_generated_splits_are_other_clips_of_the_same_kind_and_the_same_every_time():
    sets, again = make_data(embedded()), make_data(embedded())
    assert sizes(sets) == {"train": 24, "validation": 192, "test": 192}
    first = {name: source[0]["audio"] for name, source in sets.splits.items()}
    assert first["train"].shape == (2000, 1)
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert np.abs(first[one] - first[other]).max() > 0.01
    np.testing.assert_array_equal(first["test"], again.split("test")[0]["audio"])
    assert sets.manifest_hash == again.manifest_hash != make_data(embedded(size=25)).manifest_hash
    assert list(sets.split("train").conditions) == ["sound", "pitch"]


def test_the_hash_is_of_the_clips_and_not_of_their_place(folder, tmp_path):
    before = make_data(section(name="folder", root=str(folder))).manifest_hash
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "set")
    assert make_data(section(name="folder", root=str(moved))).manifest_hash == before
    (moved / "oboe" / "0.wav").rename(moved / "flute" / "0.wav")
    assert make_data(section(name="folder", root=str(moved))).manifest_hash != before


def test_held_out_files_are_a_share_of_all_and_the_same_for_anybody(folder, tmp_path):
    config = section(name="folder", root=str(folder), held_out_share=0.2)
    sets = make_data(config)
    train, held_out, everything = (paths(sets.split(name)) for name in ("train", "validation", "all"))
    assert len(held_out) == 4 and len(train) == 16 and train | held_out == everything
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "set")
    elsewhere = make_data({**config, "root": str(moved)})
    assert {pathlib.Path(path).name for path in paths(elsewhere.split("validation"))} == {
        pathlib.Path(path).name for path in held_out
    }


def test_official_splits_and_chosen_conditions(tmp_path):
    for digit in range(7):
        write_audio(tmp_path / f"{digit}_ann_{digit}.wav", np.full(100, 0.5), RATE_HZ)
    sets = make_data(section(root=str(tmp_path), validation_indices=(5,), conditions=("digit",)))
    assert sizes(sets) == {"all": 7, "test": 5, "validation": 1, "train": 1}
    assert list(sets.split("all").conditions) == ["digit"]


def test_a_manifest_with_splits_keeps_them(folder):
    path = folder / "manifest.jsonl"
    clips = tuple(
        dataclasses.replace(clip, split="test" if index < 3 else "train")
        for index, clip in enumerate(scan_folder(folder).clips)
    )
    write_manifest(path, dataclasses.replace(scan_folder(folder), clips=clips))
    config = section(name="manifest", root=str(path))
    assert sizes(make_data(config)) == {"all": 20, "test": 3, "train": 17}
    with pytest.raises(ConfigError, match="the set has splits of its own, test, train: drop held_out_share"):
        make_data({**config, "held_out_share": 0.2})


@pytest.fixture
def spoken(tmp_path) -> pathlib.Path:
    """Write seven takes of two digits by three speakers; those from 5 up are the official train split."""
    for name in (
        f"{digit}_{speaker}_{take}" for digit in (3, 7) for speaker in ("ann", "bo", "theo") for take in range(7)
    ):
        write_audio(tmp_path / "recordings" / f"{name}.wav", np.full(100, 0.5), RATE_HZ)
    return tmp_path


def test_what_is_left_out_is_in_no_other_split_and_moves_no_class(spoken):
    whole = make_data(section(root=str(spoken), conditions=("digit", "speaker")))
    sets = make_data(section(root=str(spoken), conditions=("digit", "speaker"), leave_out=("speaker=bo",)))
    assert sizes(sets) == {"all": 28, "test": 20, "train": 8, "left_out": 14}
    assert paths(sets.split("left_out")) == {path for path in paths(whole.split("all")) if "_bo_" in path}
    for split in ("all", "train", "test"):
        assert paths(sets.split(split)) == {path for path in paths(whole.split(split)) if "_bo_" not in path}
    assert {item["speaker"] for item in (sets.split("all")[index] for index in range(28))} == {0, 2}
    assert sets.split("train").conditions == sets.split("left_out").conditions == whole.split("train").conditions


def test_labels_of_several_conditions_are_each_left_out_whatever_the_network_is_told(spoken):
    left_out = ("speaker=bo", "digit=7")
    sets = make_data(section(root=str(spoken), conditions=(), leave_out=left_out))
    assert sizes(sets) == {"all": 14, "test": 10, "train": 4, "left_out": 28}
    assert not any("_bo_" in path or "7_" in pathlib.Path(path).name for path in paths(sets.split("all")))


def test_the_hash_tells_what_was_left_out(spoken):
    def hash_without(*left_out):
        return make_data(section(root=str(spoken), leave_out=left_out)).manifest_hash

    hashes = [hash_without(), hash_without("speaker=bo"), hash_without("speaker=ann"), hash_without("digit=7")]
    assert len(set(hashes)) == 4
    assert hash_without("speaker=bo", "digit=7") == hash_without("digit=7", "speaker=bo")
    before = {key: value for key, value in section(root=str(spoken)).items() if key != "leave_out"}
    assert make_data(before).manifest_hash == hashes[0], "a run of before the key was there has the same data"


def test_labels_are_left_out_from_the_command_line(spoken):
    def left_out(argument):
        arguments = ["", "--config=configs/judge_digits.py", f"--config.data.leave_out={argument}"]
        alone = flags.FlagValues()
        holder = config_flags.DEFINE_config_file("config", flag_values=alone, sys_argv=arguments)
        alone(arguments)
        return make_data({**plain(holder.value)["data"], "root": str(spoken)})

    assert sizes(left_out("speaker=bo"))["left_out"] == 14
    assert sizes(left_out("'speaker=bo','digit=7'"))["left_out"] == 28


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        (("bo",), "data.leave_out has 'bo': write it as condition=label, such as speaker=theo"),
        (("speker=bo",), "unknown condition in data.leave_out 'speker'; choose one of speaker, digit"),
        (("speaker=teo",), "unknown speaker in data.leave_out 'teo'; choose one of theo, "),
        (("digit=3", "digit=7"), "data.leave_out leaves nothing of 42 clips"),
    ],
)
def test_what_cannot_be_left_out_is_told(spoken, left_out, said):
    with pytest.raises(ConfigError, match=said):
        make_data(section(root=str(spoken), leave_out=left_out))


def test_a_derived_condition_is_measured_on_the_clip_itself(folder):
    """Training clips are all brought to one level: the level that they had can still be told to the network."""
    sets = make_data(section(name="folder", root=str(folder), conditions=("label", "level_dbfs")))
    source = sets.split("all")
    assert list(source.conditions) == ["label", "level_dbfs"] and source.conditions["level_dbfs"].kind == "number"
    for index in range(len(source)):
        written = int(pathlib.Path(source.describe(index)).stem)
        assert source[index]["level_dbfs"] == pytest.approx(-(20 + written), abs=1e-3)
        assert source.conditions["label"].vocabulary[source[index]["label"]] == ("flute" if written % 2 else "oboe")


def test_memory_is_the_default_and_can_be_declined(folder):
    config = section(name="folder", root=str(folder))
    assert isinstance(make_data(config).split("all"), InMemory)
    assert not isinstance(make_data({**config, "in_memory": False}).split("all"), InMemory)


def test_a_set_lies_in_its_folder_below_the_variable(tmp_path, monkeypatch):
    write_audio(tmp_path / "fsdd" / "recordings" / "7_theo_9.wav", np.full(100, 0.5), RATE_HZ)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    assert len(make_data(section()).split("train")) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "fsd"}, "unknown data 'fsd'; choose one of fsdd, "),
        ({}, f"data 'fsdd' has no root: give --config.data.root=DIR, or set {DATA_VARIABLE} to the folder .* fsdd/"),
        ({"name": "folder"}, "data 'folder' has no root: give --config.data.root=DIR$"),
        ({"root": "/nowhere"}, "data 'fsdd': /nowhere: no such folder"),
        ({"name": "manifest", "root": "/nowhere.csv"}, "no manifest at /nowhere.csv"),
        ({"validation_index": 5, "root": "/nowhere"}, "takes no 'validation_index'; it takes validation_indices"),
        ({"name": "embedded"}, "data 'embedded' has data.size None: give the number of clips"),
        ({"name": "embedded", "size": 24, "rate_hz": 0}, "rate_hz is 0; give at least 8000"),
        ({"name": "embedded", "size": 24, "channels": 2}, "data 'embedded' has 1 channel.s., data.channels 2"),
        ({"name": "embedded", "size": 24, "conditions": ("sond",)}, "unknown condition 'sond'; choose one of sound, "),
        ({"name": "embedded", "size": 24, "sounds": ("oboe",)}, "unknown sound 'oboe'"),
        ({"name": "embedded", "size": 24, "leave_out": ("sound=ah",)}, "made and not recorded, .* drop data.leave_out"),
        ({"length_samples": 0}, "data: length_samples is 0; give at least 1"),
        ({"crop": "center"}, "unknown crop 'center'; choose one of centre, "),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence(monkeypatch, changes, said):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=said):
        make_data(section(**changes))


def test_what_the_files_cannot_give_is_told_too(folder):
    config = section(name="folder", root=str(folder))
    with pytest.raises(ConfigError, match="unknown condition 'labl'; choose one of label, level_dbfs"):
        make_data({**config, "conditions": ("labl",)})
    with pytest.raises(ConfigError, match="unknown split 'train'; choose one of all"):
        make_data(config).split("train")
    with pytest.raises(ConfigError, match="held_out_share 0.01 leaves one part of 20 files empty"):
        make_data({**config, "held_out_share": 0.01})
    with pytest.raises(ValueError, match="rate_hz is 0; give the model's sample rate"):
        make_data({**config, "rate_hz": 0})


def test_any_set_can_tell_where_its_crops_are(folder):
    """Ledger row 98: timing is asked for by name, as any condition, and comes with the batches."""
    names = ("label", "start_seconds", "total_seconds", "level_dbfs")
    settings = section(name="folder", root=str(folder), conditions=names, crop="random")
    sets = make_data(settings)
    source = sets.split("all")
    assert {source.conditions[name].kind for name in names[1:]} == {"number"}
    batch = Batches(source, sets.preparation, batch_size=20, seed=0)[0]
    np.testing.assert_allclose(batch["total_seconds"], 3000 / RATE_HZ)
    assert (batch["start_seconds"] >= 0).all()
    assert (batch["start_seconds"] <= 1000 / RATE_HZ).all()
    assert np.ptp(batch["start_seconds"]) > 0.05


def test_a_generated_set_can_have_clips_longer_than_examples():
    """Ledger row 98: a crop out of the middle of a long clip has neither its beginning nor its end."""
    sets = make_data(embedded(clip_samples=8000, sounds=("organ",), crop="random", margin_samples=2000))
    source = sets.split("train")
    assert len(source[0]["audio"]) == 8000
    batch = Batches(source, sets.preparation, batch_size=24, seed=0)[0]
    assert batch["audio"].shape == (24, 2000)
    assert (batch["length"] == 2000).all()
    assert np.abs(batch["audio"][:, [0, -1]]).min(axis=1).max() > 0
    assert (np.abs(batch["audio"]).reshape(24, 10, 200).max(axis=-1) > 0.01).all()
