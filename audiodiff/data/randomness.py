"""Derive every host-side random number from names and counters: the numpy twin of :mod:`audiodiff.prng`."""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, name: str, counter: int = 0) -> np.random.Generator:
    """Return the generator of one draw of a named stream, a pure function of (seed, name, counter).

    Philox-4x64 (Salmon et al., SC 2011) is counter based: (seed, counter) is its key and CRC-32 of the name the
    highest word of its counter, so that no two draws of any two streams overlap and none needs stored state.
    """
    if seed < 0 or counter < 0:
        raise ValueError(f"seed {seed} and counter {counter} must not be negative; give integers from 0 up")
    key = np.array([seed, counter], dtype=np.uint64)
    start = np.array([0, 0, 0, zlib.crc32(name.encode())], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=start))
