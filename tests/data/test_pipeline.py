"""Batch k is a pure function of (seed, k): on any number of hosts, threads and processes, from any start."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiodiff.data.audio_files import write_audio
from audiodiff.data.embedded import EmbeddedSounds
from audiodiff.data.layouts import scan_folder
from audiodiff.data.manifest import ManifestSource
from audiodiff.data.normalisation import Preparation, level_dbfs, restore_level
from audiodiff.data.pipeline import TIMING, Batches
from audiodiff.data.sources import ArraySource, AudioError, ConditionInfo, InMemory

LENGTH = 16


def numbered(count: int, channels: int = 1) -> ArraySource:
    """Clip i is noise of its own and has the number i as its condition."""
    rng = np.random.default_rng(0)
    clips = [rng.normal(size=(int(rng.integers(8, 40)), channels)) for _ in range(count)]
    return ArraySource(clips, 8_000, {"number": ConditionInfo("number")}, {"number": list(range(count))})


def batches(source, **settings) -> Batches:
    return Batches(source, Preparation(LENGTH), **{"batch_size": 4, "seed": 7} | settings)


def assert_hosts_agree(make, hosts: int, k: int, **arguments):
    """Check that the parts of batch k, one a host, are together that of one host, with the draws of its number."""
    whole = make(**arguments)[k]
    parts = [make(**arguments, process_index=host, process_count=hosts)[k] for host in range(hosts)]
    assert_equal(whole, {name: np.concatenate([part[name] for part in parts]) for name in whole})
    np.testing.assert_array_equal(whole["draw"], np.arange(4 * k, 4 * k + 4))


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.sampled_from([1, 2, 4]), st.integers(0, 2**31), st.integers(0, 30), st.booleans())
def test_hosts_together_hold_the_batch_of_one_host(count, hosts, seed, k, shuffle):
    assert_hosts_agree(batches, hosts, k, source=numbered(count), seed=seed, shuffle=shuffle)


def test_every_epoch_holds_every_clip_once_in_a_new_order():
    loader = batches(numbered(10), batch_size=5)
    seen = [np.concatenate([loader[2 * epoch + half]["number"] for half in (0, 1)]) for epoch in range(4)]
    for order in seen:
        np.testing.assert_array_equal(np.sort(order), np.arange(10))
    assert len({tuple(order) for order in seen}) == 4
    assert tuple(batches(numbered(10), batch_size=10, seed=8)[0]["number"]) != tuple(seen[0])


def bucketed(source, **settings) -> Batches:
    return Batches(source, Preparation(40, bucket_samples=(12, 20)), **{"batch_size": 4, "seed": 7} | settings)


@settings(max_examples=20, deadline=None)
@given(st.integers(4, 40), st.sampled_from([1, 2, 4]), st.integers(0, 2**31), st.integers(0, 30), st.booleans())
def test_hosts_pad_to_one_bucket_and_hold_the_batch_of_one_host(count, hosts, seed, k, shuffle):
    assert_hosts_agree(bucketed, hosts, k, source=numbered(count), seed=seed, shuffle=shuffle)


def test_an_epoch_by_buckets_loses_no_sample_and_less_than_a_batch_of_clips():
    source = numbered(31)
    loader = bucketed(source)
    epochs = [[loader[7 * epoch + k] for k in range(7)] for epoch in range(3)]
    for epoch in epochs:
        clips = np.concatenate([batch["index"] for batch in epoch])
        assert len(clips) == len(set(clips)) == 28
        for batch in epoch:
            lengths = [len(source[clip]["audio"]) for clip in batch["index"]]
            np.testing.assert_array_equal(batch["length"], lengths)
            # As long as its longest clip needs.
            assert batch["audio"].shape[1] == next(length for length in (12, 20, 40) if length >= max(lengths))
    assert {batch["audio"].shape[1] for batch in epochs[0]} == {12, 20, 40}
    orders = {tuple(np.concatenate([batch["index"] for batch in epoch])) for epoch in epochs}
    assert len(orders) == 3


def test_buckets_go_on_in_mid_epoch_and_a_bad_clip_keeps_its_place():
    source = numbered(10)
    source[3]["audio"][:] = 0  # silent
    loader = bucketed(source, max_bad_share=0.5)
    for k, batch in zip(range(1, 6), loader.iterate(1), strict=False):
        assert_equal(batch, loader[k])
    weights = {int(i): float(w) for k in range(6) for i, w in zip(loader[k]["index"], loader[k]["weight"], strict=True)}
    assert weights.pop(3) == 0 and set(weights.values()) == {1.0}


def test_a_share_of_the_batches_is_padded_to_the_whole_length_and_differs_in_nothing_else():
    source = ArraySource([np.full((12, 1), 1.0 + i) for i in range(12)], 8_000, {}, {})
    short = Batches(source, Preparation(40, bucket_samples=(20,)), batch_size=4, seed=7)
    mixed = Batches(source, Preparation(40, bucket_samples=(20,), whole_share=0.25), batch_size=4, seed=7)
    lengths = []
    for k in range(200):
        one, other = short[k], mixed[k]
        lengths.append(other["audio"].shape[1])
        width = one["audio"].shape[1]
        np.testing.assert_array_equal(other["audio"][:, :width], one["audio"])
        assert not other["audio"][:, width:].any()
        assert all(np.array_equal(other[name], one[name]) for name in one if name != "audio")
    assert {short[k]["audio"].shape[1] for k in range(200)} == {20}
    assert 30 < lengths.count(40) < 70  # 50 of 200 are expected, with a standard deviation of 6


def test_fewer_clips_than_a_batch_are_refused_where_they_go_by_bucket():
    with pytest.raises(ValueError, match="3 clips make no batch of 4 by bucket; give a smaller batch_size"):
        bucketed(numbered(3))[0]
    assert len(bucketed(numbered(3)).examples(range(3))["audio"]) == 3, "a few clips to look at are no such batch"


def test_unshuffled_batches_follow_the_source():
    loader = batches(numbered(6), shuffle=False)
    np.testing.assert_array_equal(loader[1]["number"], [4, 5, 0, 1])


@pytest.mark.parametrize("num_threads", [0, 3])
def test_iterating_from_a_start_gives_the_batches_of_that_number(num_threads):
    loader = batches(numbered(10), num_threads=num_threads)
    for k, batch in zip(range(5, 9), loader.iterate(5), strict=False):
        assert_equal(batch, loader[k])


@pytest.mark.slow
def test_worker_processes_change_nothing():
    loader = batches(numbered(10), num_workers=1)
    for k, batch in zip(range(2), loader.iterate(), strict=False):
        assert_equal(batch, loader[k])


def test_a_batch_is_what_the_contract_says():
    batch = batches(numbered(10))[0]
    assert {name: (value.shape, value.dtype.name) for name, value in batch.items()} == {
        "audio": ((4, LENGTH), "float32"),
        "weight": ((4,), "float32"),
        "draw": ((4,), "int32"),
        "index": ((4,), "int32"),
        "length": ((4,), "int32"),
        "gain_db": ((4,), "float32"),
        "number": ((4,), "float32"),
    }
    assert batches(numbered(10, channels=2))[0]["audio"].shape == (4, LENGTH, 2)


def test_the_crop_is_new_every_epoch_and_the_same_at_every_reading():
    long = ArraySource([np.random.default_rng(0).normal(size=4_000)], 8_000)
    crops = [batches(long, batch_size=1)[k]["audio"][0] for k in range(4)]
    assert len({crop.tobytes() for crop in crops}) == 4
    np.testing.assert_array_equal(batches(long, batch_size=1)[2]["audio"][0], crops[2])


def test_gain_undoes_the_normalisation():
    source = numbered(5)
    batch = Batches(source, Preparation(64), batch_size=5, seed=0)[0]
    for row, index in enumerate(batch["index"]):
        length = batch["length"][row]
        assert length == len(source[index]["audio"])
        back = restore_level(batch["audio"][row], batch["gain_db"][row])
        np.testing.assert_allclose(back[:length], source[index]["audio"][:, 0], rtol=1e-5)
        assert level_dbfs(batch["audio"][row][:length]) == pytest.approx(-20, abs=1e-4)
        assert not batch["audio"][row][length:].any()


def test_examples_are_fixed_and_in_order():
    loader = batches(numbered(10))
    chosen = loader.examples([5, 2, 5])
    np.testing.assert_array_equal(chosen["number"], [5, 2, 5])
    assert_equal(chosen, loader.examples([5, 2, 5]))
    np.testing.assert_array_equal(chosen["audio"][1], loader.examples([2])["audio"][0])


def folder_with_bad_clips(folder, good=8):
    rng = np.random.default_rng(0)
    for index in range(good):
        write_audio(folder / f"good{index}" / "a.wav", rng.uniform(-0.5, 0.5, 300), 8_000)
    write_audio(folder / "bad_silent" / "a.wav", np.zeros(300), 8_000)
    (folder / "bad_empty").mkdir()
    (folder / "bad_empty" / "a.wav").write_bytes(b"")
    return ManifestSource(scan_folder(folder), 8_000)


def test_a_bad_clip_keeps_its_place_with_weight_0_and_is_named(tmp_path):
    source = InMemory(folder_with_bad_clips(tmp_path))
    loader = Batches(source, Preparation(400), batch_size=10, seed=0, max_bad_share=0.2)
    batch = loader[0]
    bad = batch["weight"] == 0
    assert bad.sum() == 2 and batch["audio"].shape == (10, 400)
    assert not batch["audio"][bad].any() and not batch["length"][bad].any()
    assert np.abs(batch["audio"][~bad]).max(axis=1).min() > 0
    assert [fault.index for fault in loader.faults] == sorted(batch["index"][bad])
    empty, silent = (str(fault) for fault in loader.faults)
    assert str(tmp_path / "bad_empty" / "a.wav") in empty and "0 bytes" in empty
    assert str(tmp_path / "bad_silent" / "a.wav") in silent and "silent" in silent
    for _ in range(3):
        assert_equal(loader[0], batch)
    assert len(loader.faults) == 2, "each clip is named once"
    same = Batches(source, Preparation(400), batch_size=10, seed=0, max_bad_share=0.2).iterate()
    assert_equal(next(same), batch)


def test_a_clip_that_vanishes_on_the_way_is_skipped_and_named_and_too_many_stop_the_run(tmp_path, caplog):
    rng = np.random.default_rng(0)
    for index in range(10):
        write_audio(tmp_path / f"{index}" / "a.wav", rng.uniform(-0.5, 0.5, 300), 8_000)
    source = ManifestSource(scan_folder(tmp_path), 8_000)
    loader = Batches(source, Preparation(400), batch_size=10, seed=0, max_bad_share=0.1)
    before = loader[0]
    assert before["weight"].all()
    (tmp_path / "3" / "a.wav").unlink()
    after = loader[1]
    gone = after["weight"] == 0
    assert gone.sum() == 1 and "3" in str(source.describe(int(after["index"][gone][0])))
    for _ in range(2):
        loader[2]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and str(tmp_path / "3" / "a.wav") in said[0] and "no such file" in said[0]
    (tmp_path / "5" / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError, match="2 of 10 clips cannot be used, more than max_bad_share = 0.1"):
        loader[3]


def test_hosts_agree_on_bad_clips_too(tmp_path):
    source = InMemory(folder_with_bad_clips(tmp_path))
    rest = {"batch_size": 10, "seed": 0, "max_bad_share": 0.2}
    whole = Batches(source, Preparation(400), **rest)[1]
    parts = [Batches(source, Preparation(400), **rest, process_index=host, process_count=5)[1] for host in range(5)]
    assert_equal(whole, {name: np.concatenate([part[name] for part in parts]) for name in whole})


def test_strict_stops_at_the_first_bad_clip(tmp_path):
    loader = Batches(folder_with_bad_clips(tmp_path), Preparation(400), batch_size=10, seed=0, strict=True)
    with pytest.raises(AudioError, match=r"bad_.*\(strict is set"):
        loader[0]


def test_too_many_bad_clips_stop_the_run(tmp_path):
    loader = Batches(folder_with_bad_clips(tmp_path), Preparation(400), batch_size=10, seed=0, max_bad_share=0.15)
    with pytest.raises(AudioError, match="2 of 10 clips cannot be used, more than max_bad_share = 0.15"):
        loader[0]


def test_a_set_without_one_good_clip_is_an_error():
    silent = ArraySource([np.zeros(20)] * 3, 8_000)
    with pytest.raises(AudioError, match="none of the 3 clips can be used; the first says: array 0: silent"):
        batches(silent, max_bad_share=1.0)[0]


def test_sequences_of_unequal_length_are_padded_where_asked():
    words = [np.array([72, 105]), np.array([72, 101, 108, 108, 111]), np.array([33])]
    source = ArraySource([np.ones(9)] * 3, 8_000, {"text": ConditionInfo("text")}, {"text": words})
    with pytest.raises(ValueError, match=r"condition 'text' .* condition_lengths=\{'text': N\}"):
        batches(source, batch_size=3)[0]
    batch = batches(source, batch_size=3, shuffle=False, condition_lengths={"text": 4})[0]
    np.testing.assert_array_equal(batch["text"], [[72, 105, -1, -1], [72, 101, 108, 108], [33, -1, -1, -1]])
    np.testing.assert_array_equal(batch["text_length"], [2, 4, 1])


@pytest.mark.parametrize(
    "settings,said",
    [
        ({"batch_size": 6, "process_count": 4}, "batch_size 6 cannot be divided among 4"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"process_index": 2, "process_count": 2}, "process_index 2"),
        ({"condition_lengths": {"words": 3}}, "names 'words'"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_impossible_settings_are_clear_errors(settings, said):
    with pytest.raises(ValueError, match=said):
        batches(numbered(3), **settings)[0]


def test_an_empty_source_and_a_reserved_name_are_errors():
    with pytest.raises(ValueError, match="no clips"):
        batches(ArraySource([], 8_000))
    taken = ArraySource([np.ones(9)], 8_000, {"weight": ConditionInfo("number")}, {"weight": [1.0]})
    with pytest.raises(ValueError, match="may not be named 'weight'"):
        batches(taken)
    with pytest.raises(IndexError, match="overflow int32"):
        batches(numbered(3))[2**31]


def test_memory_reads_each_clip_once():
    class Counting(EmbeddedSounds):
        read: list[int] = []

        def __getitem__(self, index):
            self.read.append(index)
            return super().__getitem__(index)

    source = InMemory(Counting(4, length_samples=2_000))
    loader = Batches(source, Preparation(100), batch_size=4, seed=0)
    fresh = Batches(EmbeddedSounds(4, length_samples=2_000), Preparation(100), batch_size=4, seed=0)
    for k in range(3):
        assert_equal(loader[k], fresh[k])
    assert sorted(Counting.read) == [0, 1, 2, 3]


@pytest.mark.parametrize("crop", ["random", "start", "centre"])
def test_the_timing_of_a_batch_is_that_of_the_crops_taken(crop):
    """Ledger row 98: the crop is found in its clip where ``start_seconds`` says, to the sample."""
    rng, rate_hz = np.random.default_rng(0), 8_000
    clips = [rng.normal(size=(int(rng.integers(8, 400)), 1)) for _ in range(12)]
    source = ArraySource(clips, rate_hz, {}, {})
    source.conditions = {name: ConditionInfo("number") for name in TIMING}
    preparation = Preparation(LENGTH, None, crop, max_shift_samples=3)
    starts = set()
    for k in range(6):
        batch = Batches(source, preparation, batch_size=4, seed=7)[k]
        np.testing.assert_allclose(
            batch["total_seconds"], [len(clips[index]) / rate_hz for index in batch["index"]], rtol=1e-6
        )
        for index, audio, seconds in zip(batch["index"], batch["audio"], batch["start_seconds"], strict=True):
            start = round(float(seconds) * rate_hz)
            starts.add(start)
            around = np.pad(clips[index][:, 0], LENGTH)[LENGTH + start : 2 * LENGTH + start]
            np.testing.assert_allclose(audio, around, rtol=1e-6)
    assert len(starts) > 10 if crop == "random" else min(starts) >= -3


def test_timing_that_a_source_gives_itself_is_left_alone():
    source = ArraySource([np.ones(50)], 8_000, {"start_seconds": ConditionInfo("number")}, {"start_seconds": [42.0]})
    assert batches(source, batch_size=1)[0]["start_seconds"] == [42.0]
