"""Sources of all kinds look alike, and conditions are stored as a batch carries them."""

from __future__ import annotations

import numpy as np
import pytest

from audiodiff.data.sources import ArraySource, AudioError, ConditionInfo, InMemory, Subset


def test_conditions_are_encoded_by_kind(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    assert ConditionInfo("label", ("no", "yes")).encode("yes") == 1
    assert ConditionInfo("number").encode("2.5") == 2.5
    np.testing.assert_array_equal(ConditionInfo("text").encode("é!"), [0xC3, 0xA9, 0x21])
    assert ConditionInfo("array").encode(str(tmp_path / "a.npy")).dtype == np.float32
    with pytest.raises(ValueError, match="unknown label 'ye'; it is none of the 2 known ones, nearest yes"):
        ConditionInfo("label", ("no", "yes")).encode("ye")
    with pytest.raises(ValueError, match="unknown condition kind 'tag'; choose one of label, number, text, array"):
        ConditionInfo("tag")  # type: ignore[arg-type]


def test_an_array_with_objects_in_it_is_not_loaded(tmp_path):
    """Loading pickles would run code from a data set."""
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        ConditionInfo("array").encode(str(tmp_path / "a.npy"))


def test_arrays_and_subsets():
    source = ArraySource([np.ones(3), np.zeros((4, 1))], 8_000, {"n": ConditionInfo("number")}, {"n": [5.0, 6.0]})
    assert source[0]["audio"].shape == (3, 1) and source.channels == 1
    subset = Subset(source, [1, 1, 0])
    assert len(subset) == 3 and [subset[i]["n"] for i in range(3)] == [6.0, 6.0, 5.0]
    assert subset.describe(0) == "array 1" and subset.conditions == source.conditions
    with pytest.raises(ValueError, match="clip 2 is asked of 2 clips; choose 0 to 1"):
        Subset(source, [2])
    with pytest.raises(ValueError, match="values are given for"):
        ArraySource([np.ones(3)], 8_000, {"n": ConditionInfo("number")})


def test_memory_remembers_that_a_clip_is_bad():
    class Bad(ArraySource):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            raise AudioError("bad.wav: empty, 0 bytes")

    bad = Bad([np.ones(3)], 8_000)
    source = InMemory(bad)
    for _ in range(3):
        with pytest.raises(AudioError, match="bad.wav"):
            source[0]
    assert bad.reads == 1 and source.describe(0) == "array 0" and len(source) == 1
