"""A test is made as its settings say, and what is planted in synthetic raters is found through the listeners' files."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import itertools
import json
import re

import numpy as np
import pytest
import soundfile

from audiodiff.build.choices import ConfigError
from audiodiff.build.listening import Settings, anchor, loudness, write_test
from audiodiff.build.listening_results import read_plan
from audiodiff.data import write_audio

RATE = 8000
CLIPS = [f"{digit}_ann_0.wav" for digit in range(8)]
ANCHORS = (1000, 2000)


def noise(seed, samples=1600, peak=0.3):
    """Return noise that is loud from its first sample to its last."""
    clip = np.random.default_rng(seed).uniform(-peak, peak, samples)
    clip[[0, -1]] = peak
    return clip


def sounds_of(page):
    text = re.search(r'id="test">(.+?)</script>', page.read_text(encoding="utf-8"))[1]
    sounds = json.loads(text)["sounds"]
    return {id: soundfile.read(io.BytesIO(base64.b64decode(sound)))[0] for id, sound in sounds.items()}


def systems_of(plan):
    return {one["id"]: one["system"] for one in plan["stimuli"]}


def test_louder_and_softer_recordings_of_a_clip_become_the_same_sound(tmp_path):
    """Short and long clips, at three gains: what is left is the clip, whatever measures its loudness."""
    for name, gain in (("soft", 0.05), ("loud", 2.0), ("plain", 1.0)):
        for clip, samples in (("short.wav", 1600), ("long.wav", 4800)):
            write_audio(tmp_path / name / clip, gain * noise(samples, samples), RATE, subtype="FLOAT")
    systems = {name: tmp_path / name for name in ("soft", "loud", "plain")}
    page, plan = write_test(tmp_path / "page.html", Settings("mos", systems, trials=6))
    sounds, stimuli = sounds_of(page), read_plan(plan)["stimuli"]
    for clip in ("short.wav", "long.wav"):
        of = {one["system"]: one for one in stimuli if one["clip"] == clip}
        for name in ("soft", "loud"):
            np.testing.assert_allclose(sounds[of[name]["id"]], sounds[of["plain"]["id"]], atol=2**-14)
        assert of["soft"]["gain_db"] - of["plain"]["gain_db"] == pytest.approx(-20 * np.log10(0.05), abs=1e-4)
        assert {one["measure"] for one in of.values()} == {
            {"short.wav": "K-weighted level", "long.wav": "integrated loudness"}[clip]
        }
    for one in stimuli:
        assert loudness(sounds[one["id"]][:, None], RATE)[0] == pytest.approx(-26, abs=0.02)


@pytest.mark.parametrize("samples", [1600, 4800])
def test_silence_around_a_sound_does_not_count(samples):
    sound = noise(0, samples)[:, None]
    padded = np.pad(sound, ((4000, 9000), (0, 0))) + 1e-4
    assert loudness(padded, RATE)[0] == pytest.approx(loudness(sound, RATE)[0], abs=0.02)
    both = loudness(np.hstack([sound, sound]), RATE)[0] - loudness(sound, RATE)[0]
    assert both == pytest.approx(10 * np.log10(2), abs=1e-3), "two channels carry twice the power"


def test_one_clip_that_would_clip_turns_down_all(tmp_path):
    click = noise(1, peak=0.02)
    click[800] = 0.9
    write_audio(tmp_path / "a" / "0.wav", click, RATE)
    write_audio(tmp_path / "b" / "0.wav", noise(0), RATE)
    settings = Settings("ab", {name: tmp_path / name for name in "ab"}, trials=1)
    page, path = write_test(tmp_path / "page.html", settings)
    plan, peaks = read_plan(path), {id: np.abs(sound).max() for id, sound in sounds_of(page).items()}
    assert plan["config"]["level_lkfs"] < plan["config"]["level_asked_lkfs"] == -26
    assert max(peaks.values()) == pytest.approx(1, abs=2**-14)
    levels = [one["gain_db"] + one["loudness_lkfs"] for one in plan["stimuli"]]
    assert levels == pytest.approx([plan["config"]["level_lkfs"]] * 2)


@pytest.mark.parametrize("cutoff_hz", [3500, 7000])
def test_anchors_meet_the_limits_of_bs_1534(cutoff_hz):
    """A sine below the cut-off stays as it is, one beyond the octave's eighth is gone; stereo as mono."""
    rate, t = 24000, np.arange(6000) / 24000
    gain = {}
    for ratio in (0.1, 0.8, 1.0, 8 / 7, 9 / 7, 1.6):
        sine = np.sin(2 * np.pi * ratio * cutoff_hz * t)[:, None] * [1, -0.5]
        low = anchor(sine, rate, cutoff_hz)
        assert low.shape == sine.shape
        middle = slice(1500, 4500)
        gain[ratio] = 20 * np.log10(low[middle].std(axis=0) / sine[middle].std(axis=0))
        if ratio <= 1:
            np.testing.assert_allclose(low[middle], sine[middle], atol=0.012)
    assert max(np.abs(gain[ratio]).max() for ratio in (0.1, 0.8, 1.0)) < 0.1
    assert gain[8 / 7].max() < -25 and max(gain[9 / 7].max(), gain[1.6].max()) < -50


def test_each_kind_asks_what_it_should_and_spreads_evenly(listening_test):
    plan, _ = listening_test("mos", ("good", "fair"), 6)
    rated = [(one["clip"], one["system"]) for one in plan["stimuli"]]
    assert sorted(rated) == sorted(itertools.product({clip for clip, _ in rated}, ("good", "fair", "reference")))
    plan, _ = listening_test("ab", ("good", "fair", "poor"), 6)
    of = systems_of(plan)
    pairs = [tuple(sorted(of[id] for id in trial["stimuli"])) for trial in plan["trials"]]
    assert sorted(pairs) == sorted([("fair", "good"), ("good", "poor"), ("fair", "poor")] * 2)
    plan, page = listening_test("mushra", ("good",), 8)
    sounds = sounds_of(page)
    of = systems_of(plan)
    for trial in plan["trials"]:
        assert sorted(of[id] for id in trial["stimuli"]) == [
            "anchor at 1000 Hz",
            "anchor at 2000 Hz",
            "good",
            "reference",
        ]
        (hidden,) = (id for id in trial["stimuli"] if of[id] == "reference")
        assert of[trial["reference"]] == "reference" and trial["reference"] != hidden
        np.testing.assert_array_equal(sounds[trial["reference"]], sounds[hidden])
        assert trial["stimuli"] == sorted(trial["stimuli"])


def test_x_is_one_of_the_two_by_a_coin(listening_test):
    counts = []
    for seed in range(6):
        plan, page = listening_test("abx", trials=8, seed=seed)
        sounds = sounds_of(page)
        of = systems_of(plan)
        for trial in plan["trials"]:
            same = [id for id in trial["stimuli"] if np.array_equal(sounds[id], sounds[trial["reference"]])]
            assert [of[id] for id in same] == [of[trial["reference"]]]
        counts.append(sum(of[trial["reference"]] == "good" for trial in plan["trials"]))
    assert abs(sum(counts) - 24) < 4 * 12**0.5 and len(set(counts)) > 2


def test_a_seed_says_all(listening_test, listening_folders, tmp_path):
    first, page = listening_test("abx", seed=3)
    sounds = sounds_of(page)
    systems = {name: listening_folders / name for name in ("good", "fair")}
    page, path = write_test(tmp_path / "again.html", Settings("abx", systems, None, 8, 3))
    assert read_plan(path) == first
    assert hashlib.sha256(page.read_bytes()).hexdigest() == first["page_sha256"]
    other, _ = listening_test("abx", seed=4)
    assert not {one["id"] for one in other["stimuli"]} & sounds.keys()
    assert [trial["id"] for trial in first["trials"]] != sorted(trial["id"] for trial in first["trials"])


def test_samples_json_says_which_files_count(listening_folders, tmp_path):
    write_audio(tmp_path / "made" / "old.wav", noise(0), RATE)
    for clip in CLIPS:
        write_audio(tmp_path / "made" / clip, noise(1), RATE)
    record = {"samples": [{"file": clip} for clip in CLIPS[:4]]}
    (tmp_path / "made" / "samples.json").write_text(json.dumps(record))
    settings = Settings("mos", {"made": tmp_path / "made"}, listening_folders / "real", 8)
    plan = read_plan(write_test(tmp_path / "page.html", settings)[1])
    assert {one["clip"] for one in plan["stimuli"]} == set(CLIPS[:4])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "abc"}, "unknown kind of listening test 'abc'; choose one of ab, abx"),
        ({"trials": 0}, "0 trials cannot be spread evenly over 1 comparisons .* multiple of 1 from 1 to 8"),
        ({"trials": 9}, "9 trials cannot be spread"),
        ({"kind": "mos", "trials": 7}, "7 trials cannot be spread evenly over 2 comparisons"),
        ({"kind": "ab", "systems": ("good",)}, "ab compares at least 2 systems and got 1"),
        ({"kind": "abx", "systems": ("good",)}, "abx compares at least 2 systems and got 1"),
        ({"kind": "mushra"}, "mushra needs a reference and an anchor"),
        ({"reference": "real"}, "ab compares systems alone: leave out --reference"),
        ({"systems": ("good", "gone")}, "there is no folder .*gone"),
        ({"systems": ("good", "empty")}, "empty holds no audio files"),
        ({"systems": ("good", "less")}, r"less lacks 5_ann_0.wav, 7_ann_0.wav: clips are matched by file name"),
        ({"systems": ("good", "fast")}, "is at 8000 Hz with 1 channels and .* of fast is at 16000 Hz with 1 channels"),
        ({"systems": ("good", "wide")}, "of wide is at 8000 Hz with 2 channels: convert"),
        ({"systems": ("good", "silent")}, r"silent/\d_ann_0.wav is silent, below -70 LKFS"),
        ({"systems": ("good", "broken")}, r"broken/\d_ann_0.wav: sample 7 is nan"),
        ({"systems": ("good", "damaged")}, "samples.json is damaged"),
        (
            {"kind": "mushra", "reference": "real", "anchors_hz": (3500, 7000)},
            "an anchor at 7000 Hz takes nothing from clips at 8000 Hz: give --anchors_hz from 1 to 3500",
        ),
    ],
)
def test_what_cannot_be_tested_is_told_and_nothing_is_written(listening_folders, tmp_path, change, said):
    bad = {
        "empty": lambda clip: None,
        "less": lambda clip: None if clip in (CLIPS[5], CLIPS[7]) else (noise(0), RATE),
        "fast": lambda clip: (noise(0), 16000),
        "wide": lambda clip: (noise(0).reshape(-1, 2), RATE),
        "silent": lambda clip: (np.zeros(1600), RATE),
        "broken": lambda clip: (np.where(np.arange(1600) == 7, np.nan, 0.1), RATE),
    }
    systems = change.get("systems", ("good", "fair"))
    for name, clip in itertools.product(bad.keys() & set(systems), CLIPS):
        (tmp_path / name).mkdir(exist_ok=True)
        if content := bad[name](clip):
            soundfile.write(tmp_path / name / clip, *content, subtype="FLOAT")
    if "damaged" in systems:
        (tmp_path / "damaged").mkdir()
        (tmp_path / "damaged" / "samples.json").write_text('{"samples": [{}]}')
    paths = {name: (listening_folders if (listening_folders / name).exists() else tmp_path) / name for name in systems}
    reference = listening_folders / change["reference"] if "reference" in change else None
    settings = Settings("ab", paths, trials=8)
    settings = dataclasses.replace(settings, **{**change, "systems": paths, "reference": reference})
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        write_test(tmp_path / "out" / "page.html", settings)
    assert not (tmp_path / "out").exists()


def test_a_system_may_not_take_the_name_of_another_stimulus(listening_folders, tmp_path):
    for name in ("reference", "anchor at 3500 Hz"):
        with pytest.raises(ConfigError, match=f"cannot be called '{name}'"):
            write_test(tmp_path / "page.html", Settings("mos", {name: listening_folders / "good"}))
