"""The temporal pyramid: a clip at several rates, each level the one below and the bands that it lacks.

    S_L = the clip,   S_l = the lowest 1/f_l of S_{l+1}, at 1/f_l of its rate,   D_{l+1} = the other f_l - 1 bands

Analysis is an orthonormal matrix (:mod:`audiodiff.dsp.band_split`), so |S_{l+1}|^2 = |S_l|^2 + |D_{l+1}|^2 exactly,
what a level adds is orthogonal to what it was given, and white noise of one level is white noise of the same standard
deviation in all others. All of it goes around: the last frame of a completed clip goes on at its first sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp

from audiodiff import dsp
from audiodiff.types import Array


@dataclass(frozen=True)
class Pyramid:
    """Hold the levels of a pyramid, numbered from the coarsest, 0, to the clip itself, ``len(factors)``.

    ``factors[l]`` is how many times slower level l is than level l + 1. ``frame_samples`` is the length of the longest
    filters, in samples of the clip, and twice the multiple that clips are completed to: longer ones part the bands
    more sharply and smear more in time. ``window`` is one of ``dsp.MDCT_WINDOWS``.

    Raises ValueError for factors that are below 2, or whose product does not divide half a frame.
    """

    factors: tuple[int, ...]
    frame_samples: int = 256
    window: str = "vorbis"

    def __post_init__(self) -> None:
        if not self.factors or min(self.factors) < 2:
            raise ValueError(f"factors is {self.factors}: give one number for each step between levels, at least 2")
        if self.spec(self.top).bins % math.prod(self.factors):
            raise ValueError(
                f"the levels are {math.prod(self.factors)} times apart in all, and a frame has {self.frame_samples} "
                f"samples: give frame_samples as a multiple of {2 * math.prod(self.factors)}"
            )

    @property
    def top(self) -> int:
        """The number of the finest level, the clip itself."""
        return len(self.factors)

    def divisor(self, level: int) -> int:
        """Return how many times slower than the clip a level is; raise ValueError for a level that there is not."""
        if not 0 <= level <= self.top:
            raise ValueError(f"level {level} is not one of 0 to {self.top}, the levels of factors {self.factors}")
        return math.prod(self.factors[level:])

    def spec(self, level: int) -> dsp.MdctSpec:
        """Return the transform that splits a level."""
        return dsp.MdctSpec(self.frame_samples // self.divisor(level), self.window)

    def positions(self, level: int, length_samples: int) -> int:
        """Return how many positions a level has of a clip of length_samples, which is completed to whole hops."""
        return dsp.padded_samples(length_samples, self.spec(self.top)) // self.divisor(level)

    def reduce(self, audio: Array, level: int) -> Array:
        """Return level S of audio [..., time] of any length: [..., position]."""
        completed = dsp.fit_length(audio, self.positions(self.top, audio.shape[-1]))
        bands = self.divisor(level)
        return completed if bands == 1 else dsp.split_bands(completed, bands, self.spec(self.top))[..., 0, :]

    def expand(self, signal: Array, level: int, to: int | None = None) -> Array:
        """Return what of level ``to`` (default: the clip) lies in S [..., position] of a level: its other bands empty.

        This is the transpose of :meth:`reduce`, and its inverse from the right. Raises ValueError for a level that is
        finer than ``to``.
        """
        to = self.top if to is None else to
        if level > to:
            raise ValueError(f"level {level} is finer than level {to}: a signal is brought up, never down")
        bands = self.divisor(level) // self.divisor(to)
        if bands == 1:
            return signal
        return dsp.join_bands(signal[..., None, :], bands, self.spec(to), signal.shape[-1] * bands)

    def details(self, audio: Array, level: int) -> Array:
        """Return D of a level above 0 of audio [..., time]: [..., band, position of the level below], lowest first."""
        return self.split(audio, level)[..., 1:, :]

    def split(self, audio: Array, level: int) -> Array:
        """Return all bands of a level above 0 of audio [..., time]: S of the level below, and then its details."""
        count, top = self._bands(level), self.spec(self.top)
        completed = dsp.fit_length(audio, self.positions(self.top, audio.shape[-1]))
        # A level has the lowest coefficients of the clip itself: one transform there and one back, at any depth, and
        # no more rounding than that.
        return dsp.split_bands(completed, self.divisor(level - 1), top)[..., :count, :]

    def join(self, bands: Array, level: int) -> Array:
        """Return the audio, of whole hops, of the lowest bands of a level [..., band, position]: others are silent.

        This is the transpose of :meth:`split`. Raises ValueError for more bands than the level has.
        """
        if bands.shape[-2] > (count := self._bands(level)):
            raise ValueError(f"level {level} has {count} bands and {bands.shape[-2]} are given: give its lowest ones")
        divisor = self.divisor(level - 1)
        return dsp.join_bands(bands, divisor, self.spec(self.top), bands.shape[-1] * divisor)

    def complete(self, below: Array, details: Array, level: int) -> Array:
        """Return S of a level above 0 from S of the level below [..., position] and its details [..., band, position].

        The highest details may be missing; they are silent then.
        """
        bands = jnp.concatenate([below[..., None, :], details], axis=-2)
        return dsp.join_bands(bands, self._bands(level), self.spec(level), below.shape[-1] * self._bands(level))

    def analyse(self, audio: Array) -> tuple[Array, ...]:
        """Return (S_0, D_1, .., D_L) of audio [..., time]: as many numbers as the completed clip has samples."""
        return self.reduce(audio, 0), *(self.details(audio, level) for level in range(1, self.top + 1))

    def synthesise(self, parts: Sequence[Array], length_samples: int) -> Array:
        """Return the audio [..., length_samples] of its parts: :meth:`analyse` undone."""
        below, *details = parts
        audio = self.expand(below, 0)
        for level, detail in enumerate(details, start=1):
            audio = audio + self.join(jnp.pad(detail, [(0, 0)] * (detail.ndim - 2) + [(1, 0), (0, 0)]), level)
        return audio[..., :length_samples]

    def _bands(self, level: int) -> int:
        if level < 1:
            raise ValueError(f"level {level} is the coarsest and has no details: ask for those of level 1 or above")
        return self.divisor(level - 1) // self.divisor(level)
