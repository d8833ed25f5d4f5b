"""Levels are brought to their target and back; examples keep every sample that fits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiodiff.data.normalisation import Preparation, level_dbfs, normalise_level, restore_level
from audiodiff.data.sources import AudioError

RNG = np.random.default_rng


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return RNG(seed).normal(size=(samples, channels)).astype(np.float32)


def test_known_levels():
    turns = 2 * np.pi * np.arange(8_000)[:, None] / 80
    assert level_dbfs(np.sin(turns)) == pytest.approx(-3.0103, abs=1e-4)
    assert level_dbfs(np.sign(np.sin(turns + 0.01))) == pytest.approx(0)
    assert level_dbfs(np.zeros((10, 1))) == level_dbfs(np.zeros((0, 1))) == -np.inf


@settings(max_examples=50, deadline=None)
@given(st.floats(-70, 20), st.floats(-40, 0), st.integers(1, 3))
def test_normalisation_hits_its_target_and_is_invertible(level, target, channels):
    audio = noise(500, channels)
    audio *= 10 ** ((level - level_dbfs(audio)) / 20)
    normal, gain_db = normalise_level(audio, target)
    assert level_dbfs(normal) == pytest.approx(target, abs=1e-3)
    assert gain_db == pytest.approx(target - level, abs=1e-3)
    np.testing.assert_allclose(restore_level(normal, gain_db), audio, rtol=1e-5)


def test_one_gain_for_all_channels_keeps_their_balance():
    audio = noise(500, 2) * [1.0, 0.1]
    normal, _ = normalise_level(audio)
    np.testing.assert_allclose(normal[:, 1] / normal[:, 0], audio[:, 1] / audio[:, 0], rtol=1e-4)


@pytest.mark.parametrize("target", [-20.0, None])
@pytest.mark.parametrize("audio", [np.zeros((50, 1)), np.full((50, 1), 1e-5), np.zeros((0, 1))])
def test_silence_is_refused(target, audio):
    with pytest.raises(AudioError, match="silent: its level"):
        Preparation(32, target)(audio.astype(np.float32), RNG(0))


def test_levels_stay_where_no_target_is_given():
    audio = noise(20)
    example = Preparation(20, target_dbfs=None)(audio, RNG(0))
    np.testing.assert_array_equal(example.audio, audio)
    assert example.gain_db == 0


@settings(max_examples=50, deadline=None)
@given(
    samples=st.integers(1, 60),
    length=st.integers(1, 60),
    crop=st.sampled_from(["random", "start", "centre"]),
    shift=st.integers(0, 40),
    seed=st.integers(0, 100),
)
def test_an_example_is_a_window_of_its_clip_or_holds_all_of_it(samples, length, crop, shift, seed):
    audio = noise(samples) + 10  # no sample is 0, so that padding is known by its zeros
    example = Preparation(length, None, crop, shift)(audio, RNG(seed))
    assert example.audio.shape == (length, 1)
    content = example.audio[np.flatnonzero(example.audio)]
    assert len(content) == min(samples, length)
    begin = int(np.flatnonzero(audio == content[0])[0])
    np.testing.assert_array_equal(content, audio[begin : begin + len(content)])
    first = int(np.flatnonzero(example.audio)[0])
    assert first <= shift and first + len(content) == example.length <= length
    if crop == "start" or samples <= length:
        assert begin == 0
    if crop == "centre" and samples > length:
        assert begin == (samples - length) // 2


def test_random_crops_and_shifts_reach_every_place():
    audio = noise(12) + 10
    crops = {float(Preparation(10, None)(audio, RNG(seed)).audio[0, 0]) for seed in range(60)}
    assert crops == {float(value) for value in audio[:3, 0]}
    lengths = {Preparation(15, None, max_shift_samples=2)(audio, RNG(seed)).length for seed in range(60)}
    assert lengths == {12, 13, 14}


@settings(max_examples=50, deadline=None)
@given(samples=st.integers(1, 60), shift=st.integers(0, 20), seed=st.integers(0, 100))
def test_the_shortest_bucket_that_holds_a_clip_changes_nothing_but_its_padding(samples, shift, seed):
    plain = Preparation(50, None, "start", shift)
    preparation = dataclasses.replace(plain, bucket_samples=(10, 25))
    audio, bucket = noise(samples) + 10, preparation.bucket(samples)
    example, whole = preparation(audio, RNG(seed), bucket), plain(audio, RNG(seed))
    length = preparation.lengths[bucket]
    np.testing.assert_array_equal(example.audio, whole.audio[:length])
    assert not whole.audio[length:].any() and example.length == whole.length
    assert all(shorter < samples + shift for shorter in preparation.lengths[:bucket])


def test_polarity_flips_half_of_the_examples():
    audio = noise(8)
    signs = [
        float(np.sign(np.vdot(Preparation(8, flip_polarity=True)(audio, RNG(seed)).audio, audio))) for seed in range(60)
    ]
    assert set(signs) == {-1.0, 1.0} and abs(sum(signs)) < 30


@pytest.mark.parametrize(
    "arguments",
    [
        {"length_samples": 0},
        {"length_samples": 4, "crop": "end"},
        {"length_samples": 4, "max_shift_samples": -1},
        {"length_samples": 4, "bucket_samples": (0, 2)},
        {"length_samples": 4, "bucket_samples": (3, 2)},
        {"length_samples": 4, "bucket_samples": (4,)},
    ],
)
def test_impossible_arguments_are_clear_errors(arguments):
    with pytest.raises(ValueError, match="0|end|-1|must rise and lie between 1 and length_samples - 1 = 3"):
        Preparation(**arguments)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_an_impossible_share_of_whole_batches_is_a_clear_error(share):
    with pytest.raises(ValueError, match=f"whole_share is {share}; it is a share of the batches, give 0 to 1"):
        Preparation(4, bucket_samples=(2,), whole_share=share)


@settings(max_examples=100, deadline=None)
@given(
    samples=st.integers(1, 60),
    length=st.integers(1, 60),
    crop=st.sampled_from(["random", "start", "centre"]),
    shift=st.integers(0, 40),
    margin=st.integers(0, 40),
    seed=st.integers(0, 100),
)
def test_an_example_knows_where_in_its_clip_it_begins(samples, length, crop, shift, margin, seed):
    """Ledger row 98: sample n of the example is sample start + n of the clip, late ones before it begins included."""
    audio = noise(samples) + 10
    example = Preparation(length, None, crop, shift, margin_samples=margin)(audio, RNG(seed))
    assert example.total == samples
    places = example.start + np.arange(length)
    inside = (places >= 0) & (places < samples)
    np.testing.assert_array_equal(example.audio[inside], audio[places[inside]])
    assert not example.audio[~inside].any()
    if crop == "random" and samples > length:
        kept = min(margin, (samples - length) // 2)
        assert kept <= example.start <= samples - length - kept


def test_random_crops_go_everywhere_but_into_the_margins():
    audio = noise(30)
    starts = {Preparation(10, None, margin_samples=6)(audio, RNG(seed)).start for seed in range(200)}
    assert starts == set(range(6, 15))
    with pytest.raises(ValueError, match="margin_samples is -1"):
        Preparation(10, margin_samples=-1)
