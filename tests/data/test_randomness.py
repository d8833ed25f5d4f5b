"""Streams are pure functions of their names, and independent of each other."""

from __future__ import annotations

import numpy as np
import pytest

from audiodiff.data.randomness import generator


def test_a_draw_is_a_function_of_seed_name_and_counter():
    draws = {
        (seed, name, counter): tuple(generator(seed, name, counter).integers(2**60, size=4))
        for seed in (0, 1)
        for name in ("shuffle", "crop")
        for counter in (0, 1, 2**31)
    }
    assert len(set(draws.values())) == len(draws)
    assert all(tuple(generator(*key).integers(2**60, size=4)) == value for key, value in draws.items())


def test_streams_are_uncorrelated():
    values = np.stack([generator(0, name, n).normal(size=4_000) for name in ("a", "b") for n in (0, 1)])
    off = np.corrcoef(values) - np.eye(4)
    assert np.abs(off).max() < 4 / np.sqrt(4_000)


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError, match="seed -1"):
        generator(-1, "a")
