"""What is measured is what closed forms and single clips say, through the very array that diffuses."""

from __future__ import annotations

import numpy as np
import pytest

from audiodiff.data.audio_files import write_audio
from audiodiff.data.embedded import EmbeddedSounds
from audiodiff.data.layouts import scan_folder, scan_fsdd
from audiodiff.data.manifest import ManifestSource
from audiodiff.data.normalisation import Preparation
from audiodiff.data.pipeline import Batches
from audiodiff.data.sources import ArraySource, AudioError
from audiodiff.data.statistics import DataStatistics, file_formats, is_clipped, measure


def test_sigma_data_of_full_clips_is_their_level():
    source = ArraySource([np.random.default_rng(i).normal(size=500) for i in range(6)], 8_000)
    found = measure(source, Preparation(500, target_dbfs=-20))
    assert found.sigma_data**2 + found.mean**2 == pytest.approx(0.01, rel=1e-5)
    assert found.clips == 6 and found.hours == pytest.approx(3_000 / 8_000 / 3_600)


def test_padding_lowers_sigma_data():
    source = ArraySource([np.random.default_rng(0).normal(size=500)], 8_000)
    assert measure(source, Preparation(2_000)).sigma_data == pytest.approx(0.05, rel=1e-2)


def test_sigma_data_is_that_of_the_batches():
    source = EmbeddedSounds(96, length_samples=3_000)
    preparation = Preparation(2_048)
    batch = Batches(source, preparation, batch_size=96, seed=0)[0]
    assert measure(source, preparation, chunk=7).sigma_data == pytest.approx(batch["audio"].std(), rel=0.02)


@pytest.mark.parametrize("channels,shape", [(1, (4, 100)), (2, (4, 100, 2))])
def test_it_is_measured_through_the_representation(channels, shape):
    source = ArraySource([np.random.default_rng(i).normal(size=(100, channels)) for i in range(4)], 8_000)
    seen = []

    def encode(audio):
        seen.append(audio.shape)
        return 3 * audio + 5

    plain = measure(source, Preparation(100))
    encoded = measure(source, Preparation(100), encode)
    assert seen == [shape]
    assert encoded.sigma_data == pytest.approx(3 * plain.sigma_data, rel=1e-6)
    assert encoded.mean == pytest.approx(3 * plain.mean + 5, rel=1e-6)


def test_a_representation_sees_as_many_clips_at_a_time_whatever_their_lengths():
    """Each shape that it sees is compiled; rows that fill up a group count for nothing."""
    lengths = (60, 100, 60, 100, 100, 60, 60)
    source = ArraySource([np.random.default_rng(i).normal(size=(n, 1)) for i, n in enumerate(lengths)], 8_000)
    seen = set()

    def encode(audio):
        seen.add(audio.shape)
        return 3 * audio + 5

    preparation = Preparation(100, bucket_samples=(60,))
    encoded, plain = measure(source, preparation, encode, chunk=3), measure(source, preparation)
    assert seen == {(3, 60), (3, 100)}
    assert encoded.sigma_data == pytest.approx(3 * plain.sigma_data, rel=1e-6)
    assert encoded.mean == pytest.approx(3 * plain.mean + 5, rel=1e-6)


def test_levels_and_durations_are_of_the_clips_as_they_come():
    turns = 2 * np.pi * np.arange(8_000) / 80
    source = ArraySource([a * np.sin(turns[:n]) for a, n in ((0.5, 8_000), (0.05, 4_000), (0.005, 800))], 8_000)
    found = measure(source, Preparation(800))
    assert [found.level_dbfs[q] for q in ("0", "50", "100")] == pytest.approx([-49.03, -29.03, -9.03], abs=0.01)
    assert [found.peak_dbfs[q] for q in ("0", "50", "100")] == pytest.approx([-46.02, -26.02, -6.02], abs=0.01)
    assert [found.duration_seconds[q] for q in ("0", "50", "100")] == pytest.approx([0.1, 0.5, 1.0])


def test_clipping_is_a_run_at_full_scale():
    turns = 2 * np.pi * np.arange(800)[:, None] / 80
    assert is_clipped(np.clip(1.5 * np.sin(turns), -1, 1))
    assert not is_clipped(0.9 * np.sin(turns))
    assert not is_clipped(np.array([[0.0], [1.0], [0.0], [-1.0], [1.0], [0.0]])), "single peaks are no clipping"
    assert is_clipped(np.array([[0.0, 0.1], [0.0, -1.0], [0.1, -1.0], [0.0, -1.0]])), "in any channel"
    assert not is_clipped(np.ones((1, 1)))


def mixed_folder(folder):
    turns = 2 * np.pi * np.arange(800) / 80
    write_audio(folder / "fine.wav", 0.5 * np.sin(turns), 8_000)
    write_audio(folder / "flat.wav", np.clip(1.5 * np.sin(turns), -1, 1), 8_000)
    write_audio(folder / "rich.flac", np.stack([np.sin(turns)] * 2, 1), 44_100)
    write_audio(folder / "silent.wav", np.zeros(800), 8_000)
    (folder / "torn.wav").write_bytes((folder / "fine.wav").read_bytes()[:-200])
    return scan_folder(folder)


def test_what_cannot_be_used_is_counted_and_named(tmp_path):
    manifest = mixed_folder(tmp_path)
    found = measure(ManifestSource(manifest, 8_000), Preparation(800))
    assert found.clips == 3
    assert found.clipped == (str(tmp_path / "flat.wav"),)
    assert [fault.clip for fault in found.silent] == [str(tmp_path / "silent.wav")]
    assert [fault.clip for fault in found.damaged] == [str(tmp_path / "torn.wav")]
    assert "truncated" in found.damaged[0].reason
    assert file_formats(manifest) == {(8_000, 1): 3, (44_100, 2): 1}
    with pytest.raises(AudioError, match=r"silent.wav.*\(strict is set"):
        measure(ManifestSource(manifest, 8_000), Preparation(800), strict=True)
    with pytest.raises(AudioError, match="none of the 1 clips can be used; the first says: array 0: silent"):
        measure(ArraySource([np.zeros(9)], 8_000), Preparation(800))


def test_statistics_come_back_from_their_file(tmp_path):
    source = ManifestSource(mixed_folder(tmp_path / "data"), 8_000)
    found = measure(source, Preparation(800), manifest_hash="abc", file_formats={"8000 Hz, 1 channel(s)": 4})
    found.save(tmp_path / "statistics.json")
    assert DataStatistics.load(tmp_path / "statistics.json") == found
    assert found.preparation["length_samples"] == 800 and found.preparation["target_dbfs"] == -20
    (tmp_path / "statistics.json").write_text("{}")
    with pytest.raises(ValueError, match=r"statistics.json: no statistics of a data set .*prepare.py"):
        DataStatistics.load(tmp_path / "statistics.json")


@pytest.mark.fsdd
def test_fsdd_levels_are_those_of_its_page(fsdd_root):
    """Median level per speaker differs by more than 20 dB, so raw levels would be learned as identity."""
    manifest = scan_fsdd(fsdd_root)
    source = ManifestSource(manifest, 8_000, split="test")
    found = measure(source, Preparation(8_192))
    assert found.clips == 300 and not found.silent and not found.damaged
    assert 0.05 < found.sigma_data < 0.1, "-20 dBFS with about half of each example padding"
    by_speaker = {
        speaker: [i for i in range(300) if source.clips[i].conditions["speaker"] == speaker]
        for speaker in ("jackson", "theo")
    }
    power = {s: np.mean([np.mean(source[i]["audio"] ** 2) for i in rows]) for s, rows in by_speaker.items()}
    assert 10 * np.log10(power["jackson"] / power["theo"]) > 15
