"""Samples as files: named by what was asked, each a function of (seed, number) alone, with a record of how."""

from __future__ import annotations

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from audiodiff import prng
from audiodiff.build.choices import ConfigError
from audiodiff.build.run import load_judge
from audiodiff.build.samples import combinations, file_name, write_samples
from audiodiff.data import ConditionInfo


def read(folder, name) -> np.ndarray:
    return soundfile.read(folder / name, dtype="float32")[0]


def test_combinations_turn_the_last_condition_fastest():
    turns = combinations({"digit": ("0", "1"), "speaker": ("ann", "bob", "cid")})
    assert [tuple(turn.values()) for turn in turns[:4]] == [("0", "ann"), ("0", "bob"), ("0", "cid"), ("1", "ann")]
    assert len(turns) == 6 and combinations({}) == [{}]


def test_a_file_is_named_by_its_conditions_and_take():
    assert file_name({"digit": "7", "speaker": "theo"}, 0) == "7_theo_0.wav"
    assert file_name({}, 12) == "12.wav"
    assert file_name({"word": "Früh stück", "level_dbfs": "-20.5"}, 3) == "Früh stück_-20.5_3.wav"


def test_no_label_leaves_the_folder_or_takes_the_name_of_another():
    labels = ["a/b", "a%2Fb", "a\\b", "../b", "a:b", ".b", "a\0b"]
    names = [file_name({"label": label}, 0) for label in labels]
    assert len(set(names)) == len(labels)
    assert not any(set(name) & set('/\\:*?"<>|\0') or name.startswith(".") for name in names)


@pytest.fixture(scope="module")
def samples(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    said: list[str] = []
    write_samples(run, folder, count=3, batch=2, seed=5, say=said.append)
    assert said == ["2 of 3 clips", "3 of 3 clips"]
    return folder


def test_the_record_says_how_each_was_made(run, samples):
    record = json.loads((samples / "samples.json").read_text(), parse_constant=pytest.fail)
    assert (record["seed"], record["step"], record["rate_hz"]) == (5, 2, 8000)
    assert record["weights_hash"] == run.weights_hash
    assert record["guided_by"] is record["guide_scale"] is None
    assert {name: record["sampler"][name] for name in ("name", "steps", "guidance")} == {
        "name": "dpmpp_2m",
        "steps": 3,
        "guidance": 1.5,
    }
    assert [one["file"] for one in record["samples"]] == ["ah_A2_0.wav", "ah_B2_0.wav", "ah_Db3_0.wav"]
    assert record["samples"][1]["conditions"] == {"sound": "ah", "pitch": "B2"}
    assert sorted(path.name for path in samples.iterdir()) == sorted(
        ["samples.json", *(one["file"] for one in record["samples"])]
    )


def test_a_file_holds_what_the_run_says_for_its_number(run, samples):
    """Clip 1 from the record alone: its number, seed and conditions, at 16 bits."""
    one = json.loads((samples / "samples.json").read_text())["samples"][1]
    keys = prng.per_example(prng.stream(5, "sample"), np.array([0, one["number"]]))
    clip = run.sample(keys, one["conditions"])[1] * 10 ** (one["gain_db"] / 20)
    np.testing.assert_allclose(read(samples, one["file"]), clip, atol=2**-15)


def test_a_clip_is_the_same_whatever_the_count_and_the_batch(run, samples, tmp_path):
    write_samples(run, tmp_path, count=2, batch=60, seed=5, say=lambda line: None)
    for name in ("ah_A2_0.wav", "ah_B2_0.wav"):
        np.testing.assert_allclose(read(tmp_path, name), read(samples, name), atol=2**-14)


def test_a_held_condition_is_the_same_in_all_and_takes_are_counted(run, tmp_path):
    write_samples(run, tmp_path, count=2, fixed={"pitch": "F3", "sound": "bell"}, say=lambda line: None)
    record = json.loads((tmp_path / "samples.json").read_text())["samples"]
    assert [one["file"] for one in record] == ["bell_F3_0.wav", "bell_F3_1.wav"]
    assert np.abs(read(tmp_path, "bell_F3_0.wav") - read(tmp_path, "bell_F3_1.wav")).max() > 1e-3


def test_nothing_is_written_for_what_cannot_be(run, tmp_path):
    with pytest.raises(ConfigError, match="unknown value of condition 'sound' 'bel'; choose one of bell, "):
        write_samples(run, tmp_path, count=2, fixed={"sound": "bel"})
    with pytest.raises(ConfigError, match="unknown condition 'souns'; choose one of sound, pitch"):
        write_samples(run, tmp_path, count=2, fixed={"souns": "bell"})
    facts = dataclasses.replace(run.facts, conditions={**run.facts.conditions, "pitch": ConditionInfo("number")})
    loud = dataclasses.replace(run, model=dataclasses.replace(run.model, facts=facts))
    with pytest.raises(ConfigError, match="condition 'pitch' is a number, not one of a few labels: give it a value"):
        write_samples(loud, tmp_path, count=2)
    assert not list(tmp_path.iterdir())


def test_the_record_names_the_judge_that_led(run, judge_workdir, tmp_path):
    """As test_run.py leads, so that one program serves both."""
    judge = load_judge(judge_workdir)
    led = {"steps": 20, "guide": judge, "guide_scale": 10.0}
    record = json.loads(write_samples(run, tmp_path, count=2, **led, say=lambda line: None).read_text())
    assert (record["guided_by"], record["guide_scale"]) == (judge.weights_hash, 10.0)
    keys = prng.per_example(prng.stream(0, "sample"), np.arange(2))
    asked = {name: [one["conditions"][name] for one in record["samples"]] for name in ("sound", "pitch")}
    clip = run.sample(keys, asked, **led)[1] * 10 ** (record["samples"][1]["gain_db"] / 20)
    np.testing.assert_allclose(read(tmp_path, record["samples"][1]["file"]), clip, atol=2**-15)


def test_what_the_guide_alone_hears_is_held_and_named(run, judge_workdir, tmp_path, monkeypatch):
    objective = dataclasses.replace(run.model.objective, conditions=("pitch",))
    deaf = dataclasses.replace(run, model=dataclasses.replace(run.model, objective=objective))
    monkeypatch.setattr("audiodiff.build.run.generate", lambda objective, params, keys, *_, **__: np.zeros((2, 2048)))
    write_samples(
        deaf, tmp_path, count=2, fixed={"sound": "bell"}, guide=load_judge(judge_workdir), say=lambda line: None
    )
    record = json.loads((tmp_path / "samples.json").read_text())
    assert [one["conditions"] for one in record["samples"]] == [
        {"pitch": "A2", "sound": "bell"},
        {"pitch": "B2", "sound": "bell"},
    ]


def test_long_clips_are_those_of_the_run_and_are_recorded(run, tmp_path):
    path = write_samples(run, tmp_path, count=1, seconds=0.4, overlap_samples=512, seed=3)
    record = json.loads(path.read_text())
    assert (record["seconds"], record["overlap_samples"]) == (0.4, 512)
    (made,) = record["samples"]
    keys = prng.per_example(prng.stream(3, "sample"), jnp.arange(1))
    expected = run.sample_long(keys, made["conditions"], seconds=0.4, overlap_samples=512)[0]
    np.testing.assert_allclose(read(tmp_path, made["file"]) * 10 ** (-made["gain_db"] / 20), expected, atol=1e-4)


def test_long_clips_that_cannot_be_are_refused(run, judge_workdir, tmp_path):
    with pytest.raises(ConfigError, match=r"a guide hears whole clips and 1 s are made in chunks"):
        write_samples(run, tmp_path, count=1, seconds=1.0, guide=load_judge(judge_workdir))
    with pytest.raises(ConfigError, match="overlap_samples 5 is of chunks, and none are made: give seconds too"):
        write_samples(run, tmp_path, count=1, overlap_samples=5)
    assert not list(tmp_path.iterdir())
