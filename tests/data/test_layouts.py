"""Each published layout is read as its publisher describes it, from small folders made here."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from audiodiff.data.audio_files import audio_info, write_audio
from audiodiff.data.layouts import (
    LAYOUTS,
    detect_layout,
    scan_folder,
    scan_fsdd,
    scan_ljspeech,
    scan_sc09,
    scan_speech_commands,
    scan_vctk,
    split_by_hash,
)
from audiodiff.data.manifest import ManifestSource


def put(root, *names):
    for name in names:
        write_audio(root / name, np.full(80, 0.25), 8_000)


def splits(manifest):
    return {clip.path: clip.split for clip in manifest.clips}


def test_folder_takes_any_format_at_any_depth(tmp_path):
    put(tmp_path, "a10.wav", "a2.flac", "deep/er/c.OGG", ".hidden.wav")
    (tmp_path / "notes.txt").write_text("no audio")
    manifest = scan_folder(tmp_path)
    assert [clip.path for clip in manifest.clips] == ["a2.flac", "a10.wav", "deep/er/c.OGG"]
    assert manifest.kinds == {} and all(len(ManifestSource(manifest, 8_000)[i]["audio"]) for i in range(3))


def test_sub_folders_are_labels(tmp_path):
    put(tmp_path, "dog/1.wav", "cat/x/2.wav")
    source = ManifestSource(scan_folder(tmp_path), 8_000)
    assert source.conditions["label"].vocabulary == ("cat", "dog")
    assert [source[i]["label"] for i in range(2)] == [0, 1]


@pytest.mark.parametrize("folder", [".", "recordings"])
def test_fsdd_split_is_by_index(tmp_path, folder):
    names = [
        f"{digit}_{speaker}_{index}.wav"
        for digit in (7, 0)
        for speaker in ("theo", "jackson")
        for index in (0, 4, 5, 49)
    ]
    put(tmp_path / folder, *names)
    manifest = scan_fsdd(tmp_path, validation_indices=[49])
    assert detect_layout(tmp_path) == "fsdd"
    assert Counter(splits(manifest).values()) == {"test": 8, "train": 4, "validation": 4}
    assert splits(manifest)["7_theo_4.wav"] == "test" and splits(manifest)["7_theo_5.wav"] == "train"
    assert list(manifest.kinds) == ["digit", "speaker"], "7_theo_0: digit first"
    assert manifest.conditions["speaker"].vocabulary == ("jackson", "theo")
    with pytest.raises(ValueError, match="validation index 3 is of the official test split"):
        scan_fsdd(tmp_path, [3, 10])


def test_speech_commands_split_is_by_its_lists(tmp_path):
    put(tmp_path, "seven/0a_nohash_0.wav", "seven/0b_nohash_0.wav", "seven/0b_nohash_1.wav", "bed/0c_nohash_0.wav")
    put(tmp_path, "_background_noise_/hum.wav")
    (tmp_path / "validation_list.txt").write_text("seven/0b_nohash_0.wav\nseven/0b_nohash_1.wav\n")
    (tmp_path / "testing_list.txt").write_text("bed/0c_nohash_0.wav\n")
    manifest = scan_speech_commands(tmp_path)
    assert detect_layout(tmp_path) == "speech_commands"
    assert splits(manifest) == {
        "bed/0c_nohash_0.wav": "test",
        "seven/0a_nohash_0.wav": "train",
        "seven/0b_nohash_0.wav": "validation",
        "seven/0b_nohash_1.wav": "validation",
    }
    assert manifest.clips[-1].conditions == {"word": "seven", "speaker": "0b"}
    digits = scan_sc09(tmp_path)
    assert len(digits.clips) == 3 and digits.conditions["word"].vocabulary == ("seven",)
    (tmp_path / "testing_list.txt").unlink()
    with pytest.raises(ValueError, match=r"testing_list.txt: no such file; expected .* official split"):
        scan_sc09(tmp_path)


def test_ljspeech_reads_normalised_text_with_quotes_and_commas(tmp_path):
    names = [f"LJ001-{number:04d}" for number in range(1, 132)]
    put(tmp_path, *(f"wavs/{name}.wav" for name in names[:2]))
    lines = [f'{name}|"{name}", in 1455|"{name}", in fourteen fifty-five' for name in names]
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    manifest = scan_ljspeech(tmp_path)
    assert detect_layout(tmp_path) == "ljspeech"
    assert manifest.clips[0].path == "wavs/LJ001-0001.wav"
    assert manifest.clips[0].conditions["text"] == '"LJ001-0001", in fourteen fifty-five'
    assert Counter(splits(manifest).values()) == {"train": 125, "test": 5, "validation": 1}
    assert len(ManifestSource(manifest, 8_000)[0]["audio"]) == 80
    (tmp_path / "metadata.csv").write_text("LJ001-0001, a comma\n")
    with pytest.raises(ValueError, match=r"metadata.csv: 'LJ001-0001, a comma' is not id\|transcript"):
        scan_ljspeech(tmp_path)


@pytest.mark.parametrize("version", ["0.92", "0.80"])
def test_vctk_joins_audio_text_and_speakers(tmp_path, version):
    if version == "0.92":
        folder, tail, ids = "wav48_silence_trimmed", "_mic1.flac", ("p225", "s5")
        put(tmp_path, f"{folder}/p225/p225_001_mic2.flac")
    else:
        folder, tail, ids = "wav48", ".wav", ("225", "5")
    put(tmp_path, f"{folder}/p225/p225_001{tail}", f"{folder}/p280/p280_001{tail}", f"{folder}/p315/p315_001{tail}")
    for speaker in ("p225", "p280"):
        (tmp_path / "txt" / speaker).mkdir(parents=True)
        (tmp_path / "txt" / speaker / f"{speaker}_001.txt").write_text("Please call Stella.\n")
    (tmp_path / "speaker-info.txt").write_text(
        f"ID  AGE  GENDER  ACCENTS  REGION\n{ids[0]}  23  F    English    Southern  England\n{ids[1]} 20 M Irish\n"
    )
    manifest = scan_vctk(tmp_path)
    assert detect_layout(tmp_path) == "vctk"
    assert [clip.path for clip in manifest.clips] == [f"{folder}/p225/p225_001{tail}", f"{folder}/p280/p280_001{tail}"]
    assert manifest.clips[0].conditions == {
        "speaker": "p225",
        "text": "Please call Stella.",
        "gender": "F",
        "accent": "English",
    }
    assert manifest.clips[1].conditions["accent"] == "unknown"
    (tmp_path / "speaker-info.txt").unlink()
    assert list(scan_vctk(tmp_path).kinds) == ["speaker", "text"]


def test_a_split_by_hash_does_not_depend_on_order_and_stays_when_names_are_added():
    names = [f"clip{number}" for number in range(1_000)]
    split = split_by_hash(names, {"test": 0.05, "validation": 0.1})
    assert split == split_by_hash(names[::-1], {"test": 0.05, "validation": 0.1})
    assert Counter(split.values()) == {"train": 850, "validation": 100, "test": 50}
    more = split_by_hash([*names, "one more"], {"test": 0.05, "validation": 0.1})
    assert sum(more[name] != split[name] for name in names) <= 2


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_missing_empty_and_foreign_folders_are_one_clear_error(tmp_path, layout):
    scan = LAYOUTS[layout]
    with pytest.raises(ValueError, match="nowhere: no such folder; expected .+"):
        scan(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="the folder is empty; expected .+"):
        scan(tmp_path)
    (tmp_path / "notes.txt").write_text("no audio here")
    with pytest.raises(ValueError, match="expected|named like") as error:
        scan(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.fsdd
def test_fsdd_is_what_its_page_says(fsdd_root):
    """Counts, split and durations as in the data's README."""
    manifest = scan_fsdd(fsdd_root, validation_indices=range(45, 50))
    assert detect_layout(fsdd_root) == "fsdd"
    assert Counter(splits(manifest).values()) == {"train": 2_400, "validation": 300, "test": 300}
    assert Counter(splits(scan_fsdd(fsdd_root)).values()) == {"train": 2_700, "test": 300}
    assert manifest.conditions["digit"].vocabulary == tuple("0123456789")
    assert manifest.conditions["speaker"].vocabulary == ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    pairs = Counter(tuple(clip.conditions.values()) for clip in manifest.clips)
    assert len(pairs) == 60 and set(pairs.values()) == {50}
    infos = [audio_info(fsdd_root / clip.path) for clip in manifest.clips]
    assert {(info.rate_hz, info.channels, info.subtype) for info in infos} == {(8_000, 1, "PCM_16")}
    seconds = np.array([info.duration_seconds for info in infos])
    assert seconds.sum() / 60 == pytest.approx(21.87, abs=0.01)
    np.testing.assert_allclose(np.percentile(seconds, [5, 50, 95, 99]), [0.246, 0.420, 0.662, 0.920], atol=1e-3)
    assert seconds.max() == pytest.approx(2.283, abs=1e-3)
    fits = [np.mean(seconds * 8_000 <= length) for length in (4_096, 6_144, 8_192)]
    np.testing.assert_allclose(fits, [0.756, 0.976, 0.994], atol=1e-3)
