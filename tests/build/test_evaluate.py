"""Evaluation reads what was written, refuses what does not belong together, and reports."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from audiodiff.build.choices import ConfigError
from audiodiff.build.data import make_data
from audiodiff.build.evaluate import (
    RECORDED,
    _pairs,
    _summary,
    check_guide,
    evaluate_samples,
    examine_judge,
    read_clips,
    read_samples,
)
from audiodiff.build.run import load_judge
from audiodiff.build.samples import write_samples
from audiodiff.data import ArraySource, ConditionInfo, Preparation, write_audio
from audiodiff.data.embedded import SOUNDS
from audiodiff.evaluation.score import Clips


@pytest.fixture(scope="module")
def samples(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    write_samples(run, folder, count=12, batch=2, say=lambda line: None)
    return folder


def test_the_report_has_every_figure_beside_floor_and_ceiling(workdir, judge_workdir, samples, tmp_path):
    page, rows = evaluate_samples(workdir, samples, judge_workdir, tmp_path, expected={"accuracy sound": 90.0})
    assert page == tmp_path / "index.html" and "<audio" in page.read_text()
    written = json.loads((tmp_path / "figures.json").read_text())
    assert [one["figure"]["name"] for one in written["figures"]] == [row.figure.name for row in rows]
    figures = {row.figure.name: row for row in rows}
    assert figures["accuracy sound"].figure.count == 12 and figures["accuracy sound"].at_least == 90.0
    assert figures["accuracy sound"].ceiling.count == 192 and figures["coverage"].ceiling is not None
    assert written["facts"]["weights"] and written["facts"]["judge"] == load_judge(judge_workdir).weights_hash


def test_samples_are_read_back_with_their_labels(run, samples):
    record, clips = read_samples(samples, run)
    assert clips.audio.shape == (12, 2048) and clips.rate_hz == 8000
    asked = [one["conditions"]["sound"] for one in record["samples"]]
    assert [SOUNDS[index] for index in clips.labels["sound"]] == asked


def test_samples_of_other_weights_are_refused(run, samples, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no samples.json: make samples with experiments/sample.py"):
        read_samples(tmp_path, run)
    record = json.loads((samples / "samples.json").read_text())
    for change, said in (({"weights_hash": "0"}, "made with weights_hash 0"), ({"rate_hz": 1}, "made with rate_hz 1")):
        (tmp_path / "samples.json").write_text(json.dumps({**record, **change}))
        with pytest.raises(ConfigError, match=said + ", and .* sample anew"):
            read_samples(tmp_path, run)


def test_damaged_samples_are_told(run, samples, tmp_path):
    record = json.loads((samples / "samples.json").read_text())
    (one, *rest) = record["samples"]
    without = {key: {name: record[name] for name in record if name != key} for key in RECORDED}
    for text, said in (
        ("{", r"\(Expecting .*\)"),
        ("[]", r"\(it lacks rate_hz, .*\)"),
        *((json.dumps(left), f"\\(it lacks {key}\\)") for key, left in without.items()),
        (json.dumps({**record, "sampler": {}}), r"\('name'\)"),
        (json.dumps({**record, "samples": []}), r"\(it lists no samples\)"),
        (json.dumps({**record, "samples": [{**one, "conditions": {}}, *rest]}), r"\('sound'\)"),
        (json.dumps({**record, "samples": [{"conditions": one["conditions"]}]}), r"\('file'\)"),
    ):
        (tmp_path / "samples.json").write_text(text)
        with pytest.raises(ConfigError, match=f"samples.json is damaged {said}: restore it, or sample anew"):
            read_samples(tmp_path, run)


def test_a_judge_never_scores_what_it_guided(workdir, judge_workdir, samples, tmp_path):
    """Another judge may, and so may any judge of samples from before there were guides."""
    judge = load_judge(judge_workdir)
    record = json.loads((samples / "samples.json").read_text())
    guided = record | {"guided_by": judge.weights_hash, "guide_scale": 2.0}
    (tmp_path / "samples.json").write_text(json.dumps(guided))
    for one in record["samples"]:
        (tmp_path / one["file"]).symlink_to(samples / one["file"])
    said = f"guided by the judge with the weights {judge.weights_hash}, .* has the weights {judge.weights_hash}: "
    with pytest.raises(ConfigError, match=said + "judge them with another judge"):
        evaluate_samples(workdir, tmp_path, judge_workdir, tmp_path / "report")
    assert not (tmp_path / "report").exists()
    for passes in (record, guided | {"guided_by": "another"}, {name: record[name] for name in RECORDED}):
        check_guide(passes, judge)
    assert f"led by the judge {judge.weights_hash} at scale 2." in _summary(guided)
    assert "led by" not in _summary(record)


def test_other_data_than_the_run_was_trained_on_are_refused(workdir, judge_workdir, samples, config, monkeypatch):
    sets = dataclasses.replace(make_data(config["data"]), manifest_hash="another")
    monkeypatch.setattr("audiodiff.build.evaluate.make_data", lambda section: sets)
    with pytest.raises(ConfigError, match="manifest is another and .* was trained on embedded-24"):
        evaluate_samples(workdir, samples, judge_workdir)


def test_clips_that_cannot_be_used_are_left_out():
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal((100, 2)), np.zeros((100, 2)), rng.standard_normal((60, 2))]
    source = ArraySource(clips, 8000, {"label": ConditionInfo("label", ("a", "b"))}, {"label": [0, 1, 1]})
    read = read_clips(source, Preparation(80, None, "start"))
    assert read.labels["label"].tolist() == [0, 1]
    np.testing.assert_allclose(read.audio[0], clips[0][:80].mean(1), atol=1e-6)
    np.testing.assert_allclose(read.audio[1, 60:], 0)


def test_pairs_are_of_the_same_labels(run, config):
    test = read_clips(make_data(config["data"]).split("test"), make_data(config["data"]).preparation)
    labels = {"sound": np.arange(12), "pitch": np.full(12, 3)}
    generated = Clips(np.arange(12)[:, None] * np.ones((12, 2048)), labels, 8000)
    pairs = _pairs(run, generated, test)
    assert [pair.label for pair in pairs] == [f"{sound} Eb3" for sound in SOUNDS]
    for index, pair in enumerate(pairs):
        same = (test.labels["sound"] == index) & (test.labels["pitch"] == 3)
        assert any(np.array_equal(pair.real, clip) for clip in test.audio[same])
        assert pair.generated[0] == index


def test_several_channels_are_judged_as_one(run, samples, tmp_path):
    record = json.loads((samples / "samples.json").read_text())
    left = np.linspace(-0.5, 0.5, 2048)
    write_audio(tmp_path / "one.wav", np.stack([left, np.zeros(2048)], 1), 8000, "FLOAT")
    only = {**record["samples"][0], "file": "one.wav"}
    (tmp_path / "samples.json").write_text(json.dumps({**record, "samples": [only]}))
    np.testing.assert_allclose(read_samples(tmp_path, run)[1].audio[0], left / 2, atol=1e-6)


def test_a_judge_is_examined_on_its_own_test_split(judge_workdir):
    path, figures = examine_judge(judge_workdir)
    record = json.loads(path.read_text())
    assert record["weights_hash"] == load_judge(judge_workdir).weights_hash
    assert [figure["name"] for figure in record["figures"]] == [figure.name for figure in figures]
    assert "accuracy sound" in [figure.name for figure in figures] and {figure.count for figure in figures} == {192}
