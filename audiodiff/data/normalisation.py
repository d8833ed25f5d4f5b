"""Turn a clip of any level and length into an example of one level and one length, reversibly where it can be.

Recordings of one set differ by tens of dB, and a model that sees raw levels learns level as identity: so each clip is
brought to one RMS level, by a gain that travels with the example and undoes it.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from audiodiff.data.sources import AudioError

SILENCE_DBFS = -80.0
"""Below this RMS level a clip counts as silent: one step of 16 bit is at -90 dBFS, quiet speech at -50 or more."""


def level_dbfs(audio: np.ndarray) -> float:
    """Measure the RMS level, 20 log10 sqrt(mean x^2) over time and channels, in dB relative to a full scale of 1.

    Digital silence and an empty clip are at -inf.
    """
    power = float(np.vdot(audio, audio)) / audio.size if audio.size else 0.0
    return 10 * math.log10(power) if power > 0 else -math.inf


def normalise_level(
    audio: np.ndarray, target_dbfs: float = -20.0, silence_dbfs: float = SILENCE_DBFS
) -> tuple[np.ndarray, float]:
    """Bring a clip to an RMS level; return it with the gain in dB that did so, for :func:`restore_level`.

    The gain is one number for all channels. Raises :class:`AudioError` for a silent clip, whose gain would only
    bring up noise.
    """
    level = level_dbfs(audio)
    if level < silence_dbfs:
        raise AudioError(f"silent: its level, {level:.1f} dBFS, is below {silence_dbfs:g} dBFS; remove it from the set")
    gain_db = target_dbfs - level
    return (audio * 10 ** (gain_db / 20)).astype(np.float32), gain_db


def audible_gain_db(audio: np.ndarray, target_dbfs: float | None) -> float:
    """Return the gain in dB to an RMS level, 0 where none is asked and for silence, where it would bring up noise."""
    level = level_dbfs(audio)
    return target_dbfs - level if target_dbfs is not None and level >= SILENCE_DBFS else 0.0


def restore_level(audio: np.ndarray, gain_db: float) -> np.ndarray:
    """Undo :func:`normalise_level`: divide by its gain."""
    return (audio * 10 ** (-gain_db / 20)).astype(np.float32)


class Example(NamedTuple):
    """Hold what a model is trained on: ``audio`` [length_samples, channel], ``length`` samples before its padding.

    Sample 0 of it is sample ``start`` of a recording of ``total`` samples; one that begins late has a negative start.
    """

    audio: np.ndarray
    length: int
    gain_db: float
    start: int
    total: int


@dataclass(frozen=True)
class Preparation:
    """Say how a clip becomes an example: level, crop, shift, pad.

    ``target_dbfs``: RMS level that the whole clip (before crop and padding) is brought to; None leaves levels alone.
    ``crop``: where a window of ``length_samples`` is taken from a longer clip; a random one keeps ``margin_samples``
    from either end as far as the clip allows.
    ``max_shift_samples``: a shorter clip begins at a random place up to this many samples late, as far as it fits.
    Padding is zeros at the end. ``flip_polarity`` turns half of the examples upside down.
    ``bucket_samples``: shorter lengths that batches of short clips are padded to instead, so that padding costs little.
    ``whole_share`` of the batches are padded to ``length_samples`` all the same, for what is never seen is never
    learnt: that short clips are followed by silence.
    """

    length_samples: int
    target_dbfs: float | None = -20.0
    crop: Literal["random", "start", "centre"] = "random"
    max_shift_samples: int = 0
    flip_polarity: bool = False
    silence_dbfs: float = SILENCE_DBFS
    bucket_samples: tuple[int, ...] = ()
    whole_share: float = 0.0
    margin_samples: int = 0

    def __post_init__(self) -> None:
        if self.length_samples < 1:
            raise ValueError(f"length_samples is {self.length_samples}; give at least 1")
        if self.max_shift_samples < 0:
            raise ValueError(f"max_shift_samples is {self.max_shift_samples}; give 0 or more")
        if self.margin_samples < 0:
            raise ValueError(f"margin_samples is {self.margin_samples}; give 0 or more")
        if self.crop not in (crops := ("random", "start", "centre")):
            nearest = difflib.get_close_matches(str(self.crop), crops, n=len(crops), cutoff=0.0)
            raise ValueError(f"unknown crop {self.crop!r}; choose one of {', '.join(nearest)}")
        if list(self.bucket_samples) != sorted({n for n in self.bucket_samples if 0 < n < self.length_samples}):
            raise ValueError(
                f"bucket_samples {self.bucket_samples} must rise and lie between 1 and length_samples - 1 = "
                f"{self.length_samples - 1}"
            )

        if not 0 <= self.whole_share <= 1:
            raise ValueError(f"whole_share is {self.whole_share}; it is a share of the batches, give 0 to 1")

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths in samples that examples may have, the shortest first."""
        return (*self.bucket_samples, self.length_samples)

    def bucket(self, samples: int) -> int:
        """Return which of ``lengths`` is the first to hold a clip of so many samples at any shift, else the last."""
        fits = [samples + self.max_shift_samples <= length for length in self.lengths]
        return fits.index(True) if True in fits else len(fits) - 1

    def __call__(self, audio: np.ndarray, rng: np.random.Generator, bucket: int = -1) -> Example:
        """Prepare one clip, float32 [time, channel], at ``lengths[bucket]``.

        Raises :class:`AudioError` where it is silent.
        """
        length_samples = self.lengths[bucket]
        # Silence is refused whether or not levels are changed: with a target of its own level the gain is 0 dB.
        target = level_dbfs(audio) if self.target_dbfs is None else self.target_dbfs
        audio, gain_db = normalise_level(audio, target, self.silence_dbfs)
        total, offset = len(audio), 0
        excess = total - length_samples
        if excess > 0:
            margin = min(self.margin_samples, excess // 2)
            anywhere = margin + int(rng.integers(excess - 2 * margin + 1))
            offset = {"random": anywhere, "start": 0, "centre": excess // 2}[self.crop]
            audio = audio[offset : offset + length_samples]
        shift = int(rng.integers(min(self.max_shift_samples, max(-excess, 0)) + 1))
        sign = -1 if self.flip_polarity and rng.random() < 0.5 else 1
        padded = np.zeros((length_samples, audio.shape[1]), np.float32)
        padded[shift : shift + len(audio)] = sign * audio
        return Example(padded, shift + len(audio), gain_db, offset - shift, total)
