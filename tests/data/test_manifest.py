"""Manifests come back as they were written, and mistakes in them are named by file, line and column."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiodiff.data.audio_files import write_audio
from audiodiff.data.manifest import Clip, Manifest, ManifestSource, natural, read_manifest, write_manifest
from audiodiff.data.sources import AudioError

KINDS = {"digit": "label", "f0_hz": "number", "transcript": "text", "voice": "array"}
# A carriage return alone does not survive CSV readers, and neither format promises to keep control characters.
words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1).filter(lambda s: s.strip())
clips = st.builds(
    Clip,
    path=words,
    start_seconds=st.floats(0, 1e4),
    duration_seconds=st.none() | st.floats(1e-3, 1e4),
    conditions=st.fixed_dictionaries(
        {"digit": words, "f0_hz": st.floats(-1e6, 1e6), "transcript": words, "voice": words}
    ),
    split=st.sampled_from(["", "train", "test"]),
)


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
@settings(max_examples=20, deadline=None)
@given(records=st.lists(clips, min_size=1, max_size=4))
def test_a_manifest_comes_back_as_it_was(tmp_path_factory, name, records):
    folder = tmp_path_factory.mktemp("manifest")
    manifest = Manifest(folder, tuple(records), KINDS)
    write_manifest(folder / name, manifest)
    back = read_manifest(folder / name)
    assert back == manifest and back.hash == manifest.hash
    assert list(back.kinds) == list(KINDS)


def test_the_stamp_sees_files_that_are_written_again(tmp_path):
    for name in ("a", "b"):
        write_audio(tmp_path / f"{name}.wav", np.zeros(8), 8000)
    manifest = Manifest(tmp_path, (Clip("a.wav"), Clip("b.wav"), Clip("b.wav", start_seconds=0.1)))
    stamps = [manifest.stamp(), manifest.stamp()]
    assert stamps[0] == stamps[1]
    write_audio(tmp_path / "b.wav", np.zeros(9), 8000)
    stamps.append(manifest.stamp())
    os.utime(tmp_path / "b.wav", (1, 1))
    stamps.append(manifest.stamp())
    (tmp_path / "a.wav").unlink()
    stamps.append(manifest.stamp())
    assert len(set(stamps[1:])) == 4


def test_the_hash_sees_content_and_not_place(tmp_path):
    clip = Clip("a.wav", conditions={"digit": "1"})
    base = Manifest(tmp_path, (clip,), {"digit": "label"})
    assert Manifest(tmp_path / "elsewhere", (clip,), {"digit": "label"}).hash == base.hash
    others = [
        Manifest(tmp_path, (Clip("b.wav", conditions={"digit": "1"}),), {"digit": "label"}),
        Manifest(tmp_path, (Clip("a.wav", conditions={"digit": "2"}),), {"digit": "label"}),
        Manifest(tmp_path, (Clip("a.wav", conditions={"digit": "1"}, split="test"),), {"digit": "label"}),
        Manifest(tmp_path, (clip,), {"digit": "text"}),
    ]
    assert len({base.hash, *(other.hash for other in others)}) == 5


def test_a_manifest_by_hand_gives_clips_with_all_four_kinds(tmp_path):
    time = np.arange(8_000) / 8_000
    write_audio(tmp_path / "long.wav", 0.5 * np.sin(2 * np.pi * 100 * time), 8_000)
    np.save(tmp_path / "voice.npy", np.array([1.0, 2.0]))
    (tmp_path / "m.csv").write_text(
        "path,start_seconds,duration_seconds,split,label:digit,number:f0_hz,text:words,array:voice\n"
        "long.wav,,,train,10,100,hé,voice.npy\n"
        'long.wav,0.25,0.5,test,2,99.5,"hi, you",voice.npy\n'
    )
    manifest = read_manifest(tmp_path / "m.csv")
    source = ManifestSource(manifest, 8_000)
    assert len(source) == 2 and source.conditions["digit"].vocabulary == ("2", "10")
    whole, part = source[0], source[1]
    np.testing.assert_array_equal(part["audio"], whole["audio"][2_000:6_000])
    assert (whole["digit"], part["digit"], part["f0_hz"]) == (1, 0, 99.5)
    assert bytes(whole["words"].astype(np.uint8)).decode() == "hé"
    np.testing.assert_array_equal(whole["voice"], np.array([1, 2], np.float32))
    assert source.describe(1) == f"{tmp_path / 'long.wav'} from 0.25 s"
    assert source.info(0).frames == 8_000
    test = ManifestSource(manifest, 4_000, channels=2, split="test")
    assert len(test) == 1 and test[0]["audio"].shape == (2_000, 2)
    assert test.conditions["digit"].vocabulary == ("2", "10"), "one vocabulary for all splits"


def test_a_manifest_that_lies_elsewhere_names_its_root(tmp_path):
    write_audio(tmp_path / "data" / "a.wav", np.full(10, 0.5), 8_000)
    manifest = Manifest(tmp_path / "data", (Clip("a.wav"),))
    for name in ("m.jsonl", "data/m.jsonl"):
        write_manifest(tmp_path / name, manifest)
        assert len(ManifestSource(read_manifest(tmp_path / name), 8_000)[0]["audio"]) == 10
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = read_manifest(tmp_path / "m.jsonl", tmp_path / "moved")
    assert moved.hash == manifest.hash and len(ManifestSource(moved, 8_000)[0]["audio"]) == 10


def test_paths_may_begin_from_another_root(tmp_path):
    write_audio(tmp_path / "data" / "a.wav", np.full(10, 0.5), 8_000)
    (tmp_path / "m.jsonl").write_text('{"path": "a.wav"}\n\n')
    assert len(ManifestSource(read_manifest(tmp_path / "m.jsonl", tmp_path / "data"), 8_000)[0]["audio"]) == 10
    with pytest.raises(AudioError, match="no such file; check the manifest, or the folder"):
        ManifestSource(read_manifest(tmp_path / "m.jsonl"), 8_000)[0]


@pytest.mark.parametrize(
    "name,content,said",
    [
        ("m.csv", "path,digit\na.wav,1\n", r"line 2: unknown column 'digit'; use path, .*kind:name"),
        ("m.csv", "path,tag:digit\na.wav,1\n", "line 2: unknown column 'tag:digit'"),
        ("m.csv", "path,number:f0\na.wav,high\n", "line 2: column 'number:f0' holds 'high'; give a number"),
        ("m.csv", "path,label:a\na.wav,1\nb.wav,\n", "line 3: column 'label:a' is empty"),
        ("m.csv", "path,start_seconds\na.wav,soon\n", "line 2: column 'start_seconds' holds 'soon'"),
        ("m.csv", "label:a\n1\n", "line 2: column 'path' is missing"),
        ("m.csv", "path\n", "lists no clips"),
        ("m.jsonl", '{"path": "a.wav"}\nnonsense\n', "line 2: not JSON"),
        ("m.jsonl", "[1]\n", "line 1: holds"),
        ("m.jsonl", '{"path": "a.wav", "label:a": "1"}\n{"path": "b.wav"}\n', "b.wav: condition 'a' is not given"),
        ("m.jsonl", '{"path": "a", "label:a": "1"}\n{"path": "b", "text:a": "1"}\n', "line 2: .* both label and text"),
        ("m.txt", "path\n", "not '.txt'"),
    ],
)
def test_mistakes_are_named(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=said):
        read_manifest(tmp_path / name)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no manifest at .*prepare.py"):
        read_manifest(tmp_path / "m.csv")
    manifest = Manifest(tmp_path, (Clip("a.wav", split="train"),))
    with pytest.raises(ValueError, match=r"split 'dev'; choose one of \['train'\]"):
        ManifestSource(manifest, 8_000, split="dev")
    with pytest.raises(ValueError, match="rate_hz is 0"):
        ManifestSource(manifest, 0)


def test_a_label_or_array_that_does_not_fit_is_a_bad_clip(tmp_path):
    write_audio(tmp_path / "a.wav", np.full(10, 0.5), 8_000)
    known = Manifest(tmp_path, (Clip("a.wav", conditions={"word": "seven"}),), {"word": "label"}).conditions
    other = Manifest(tmp_path, (Clip("a.wav", conditions={"word": "sevn"}),), {"word": "label"})
    with pytest.raises(AudioError, match=r"a.wav: condition 'word': unknown label 'sevn'.*nearest seven"):
        ManifestSource(other, 8_000, conditions=known)[0]
    arrays = Manifest(tmp_path, (Clip("a.wav", conditions={"voice": "none.npy"}),), {"voice": "array"})
    with pytest.raises(AudioError, match=r"a.wav: condition 'voice': .*none.npy"):
        ManifestSource(arrays, 8_000)[0]


def test_natural_order_puts_2_before_10():
    assert sorted(["b10", "b2", "a", "10", "9"], key=natural) == ["9", "10", "a", "b2", "b10"]
