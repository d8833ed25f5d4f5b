"""Take generation apart: the array that diffuses before it is decoded, the decoding, and what each of them costs."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff.types import Array, Representation


@functools.partial(jax.tree_util.register_dataclass, data_fields=["representation"], meta_fields=[])
@dataclass(frozen=True)
class Undecoded:
    """Stand in for a representation whose ``decode`` hands on x as it is: a generator then gives what it made."""

    representation: Representation

    def shape(self, batch: int, length_samples: int) -> tuple[int, ...]:
        """Return the shape of the array that diffuses."""
        return self.representation.shape(batch, length_samples)

    def encode(self, audio: Array, key: Array | None = None) -> Array:
        """Return x."""
        return self.representation.encode(audio, key)

    def decode(self, x: Array, key: Array | None, length_samples: int) -> Array:
        """Return x."""
        del key, length_samples
        return x


def in_batches(function: Callable[[Array], Array], x: np.ndarray, batch: int) -> np.ndarray:
    """Return a function of x [clip, ...], ``batch`` clips at once, so that one program does for all.

    The last part is filled up by its own last clip.
    """
    full = np.concatenate([x, np.repeat(x[-1:], -len(x) % batch, axis=0)])
    parts = np.split(full, len(full) // batch)
    return np.concatenate([np.asarray(function(jnp.asarray(part))) for part in parts])[: len(x)]


def decode(representation: Representation, x: np.ndarray, length_samples: int, batch: int) -> np.ndarray:
    """Return audio [clip, length_samples] of x [clip, ...], ``batch`` clips at once (:func:`in_batches`)."""
    return in_batches(lambda part: _decode(representation, part, length_samples), x, batch)


@functools.partial(jax.jit, static_argnames="length_samples")
def _decode(representation: Representation, x: Array, length_samples: int) -> Array:
    return representation.decode(x, None, length_samples)


def median_seconds(calls: list[Callable[[], Any]], rounds: int) -> list[float]:
    """Return the median time of each call over ``rounds``, all in turn: what slows the machine down slows all.

    Each is called once before, which compiles it. A call must return when its work is done.
    """
    taken: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(rounds):
        for call, times in zip(calls, taken, strict=True):
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
    return [statistics.median(times) for times in taken]
