"""Generate sounds with known truth: twelve classes at eight pitches, from an index alone, without a download.

| sound         | how it is made                                                           | tonal |
|---------------|--------------------------------------------------------------------------|-------|
| ah, ee, oo    | pulse train gliding in F0, through formant resonators (Klatt 1980)       | yes   |
| pluck         | tuned Karplus-Strong string (Jaffe and Smith 1983)                       | yes   |
| brass         | FM 1:1, its index following the envelope (Chowning 1973)                 | yes   |
| organ         | six drawbar harmonics with tremolo                                       | yes   |
| bell          | FM 5:7, inharmonic, decaying (Chowning 1973)                             | no    |
| kick          | a sine falling in frequency                                              | no    |
| snare         | a short tone under a burst of noise                                      | no    |
| hat           | four short bursts of high noise                                          | no    |
| rise, fall    | exponential chirps over two and a half octaves                           | no    |

Every sound has a ``pitch``, one of eight names a whole tone apart from A2 = 110 Hz to B3 = 246.9 Hz, so that every
combination of the two conditions exists. For a tonal sound it is the median F0 of the clip, exactly; an untonal one is
only made larger or smaller by it. Sounds vary within class and pitch in level, onset, timbre and glide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy  # its parts load when they are first used

from audiodiff.data.randomness import generator
from audiodiff.data.sources import ConditionInfo, Item

SOUNDS = ("ah", "ee", "oo", "pluck", "brass", "organ", "bell", "kick", "snare", "hat", "rise", "fall")
TONAL = frozenset(SOUNDS[:6])
PITCHES = ("A2", "B2", "Db3", "Eb3", "F3", "G3", "A3", "B3")
PITCHES_HZ = tuple(110.0 * 2 ** (step / 6) for step in range(len(PITCHES)))
LEVELS_DBFS = (-36.0, -24.0)
"""Range of clip levels; the highest crest factor, the hat's, then still stays below full scale."""

FORMANTS_HZ = {"ah": (730, 1090, 2440), "ee": (270, 2290, 3010), "oo": (300, 870, 2240)}
"""Formants of American English men, Peterson and Barney 1952, table II."""
BANDWIDTHS_HZ = (70, 90, 140)


class Truth(NamedTuple):
    """Hold what is exactly known of a generated clip.

    ``f0_hz`` [time]: the fundamental at each sample, NaN where there is none. ``median_f0_hz``: that of the pitch
    label, NaN for an untonal sound. ``level_dbfs``: the RMS level of the whole clip.
    """

    sound: str
    pitch: str
    f0_hz: np.ndarray
    median_f0_hz: float
    level_dbfs: float


@dataclass(frozen=True)
class EmbeddedSounds:
    """Serve ``size`` generated clips of ``length_samples`` as a :class:`~audiodiff.data.sources.Source`.

    Clip i is a pure function of (seed, i) and has sound i mod 12 and pitch (i div 12) mod 8: 96 clips in a row hold
    every combination once. Another seed gives other clips of the same kind, as to test on. ``sounds`` may name fewer.
    """

    size: int
    seed: int = 0
    rate_hz: int = 8000
    length_samples: int = 8192
    sounds: tuple[str, ...] = SOUNDS

    def __post_init__(self) -> None:
        if unknown := [sound for sound in self.sounds if sound not in SOUNDS]:
            raise ValueError(f"unknown sound {unknown[0]!r}; choose among {', '.join(SOUNDS)}")
        if self.rate_hz < 8000:
            raise ValueError(f"rate_hz is {self.rate_hz}; give at least 8000, or the sounds lose what tells them apart")
        if self.length_samples < self.rate_hz // 4:
            raise ValueError(
                f"length_samples is {self.length_samples}; give at least a quarter of a second, {self.rate_hz // 4}"
            )

    @property
    def channels(self) -> int:
        return 1

    @property
    def conditions(self) -> dict[str, ConditionInfo]:
        return {"sound": ConditionInfo("label", self.sounds), "pitch": ConditionInfo("label", PITCHES)}

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Item:
        audio, _ = self._make(index)
        sound, pitch = self._labels(index)
        return {"audio": audio[:, None].astype(np.float32), "sound": sound, "pitch": pitch}

    def truth(self, index: int) -> Truth:
        """Return what is exactly known of clip ``index``."""
        return self._make(index)[1]

    def describe(self, index: int) -> str:
        sound, pitch = self._labels(index)
        return f"embedded sound {index} ({self.sounds[sound]}, {PITCHES[pitch]})"

    def _labels(self, index: int) -> tuple[int, int]:
        if not 0 <= index < self.size:
            raise IndexError(f"clip {index} is not among 0 to {self.size - 1}")
        round_, sound = divmod(index, len(self.sounds))
        return sound, round_ % len(PITCHES)

    def _make(self, index: int) -> tuple[np.ndarray, Truth]:
        label, pitch = self._labels(index)
        sound, nominal_hz = self.sounds[label], PITCHES_HZ[pitch]
        rng = generator(self.seed, "embedded sounds", index)
        onset = int(rng.uniform(0.01, 0.03) * self.rate_hz)
        samples = int(0.92 * self.length_samples) - onset
        seconds = np.arange(samples) / self.rate_hz
        body, f0_hz = synthesise(sound, nominal_hz, seconds, self.rate_hz, rng)
        ramp = np.minimum(1, np.minimum(seconds / 0.002, seconds[::-1] / 0.02))  # no click where it starts or ends
        audio = np.zeros(self.length_samples)
        audio[onset : onset + samples] = body * ramp
        level = rng.uniform(*LEVELS_DBFS)
        audio *= 10 ** (level / 20) / np.sqrt(np.mean(audio**2))
        contour = np.full(self.length_samples, np.nan)
        contour[onset : onset + samples] = f0_hz
        median = nominal_hz if sound in TONAL else np.nan
        return audio, Truth(sound, PITCHES[pitch], contour, median, level)


def synthesise(
    sound: str, pitch_hz: float, seconds: np.ndarray, rate_hz: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | float]:
    """Make the body of one sound at the times ``seconds`` [time] from its onset, and its F0 in Hz, NaN if untonal."""
    if sound in FORMANTS_HZ:
        return vowel(sound, pitch_hz, seconds, rate_hz, rng)
    if sound == "pluck":
        return pluck(pitch_hz, len(seconds), rate_hz, place=rng.uniform(0.15, 0.3)), pitch_hz
    if sound == "brass":
        envelope = np.minimum(seconds / 0.08, 1) * (1 - 0.5 * seconds / seconds[-1])
        return fm(pitch_hz, 1.0, rng.uniform(3, 4) * envelope, seconds) * envelope, pitch_hz
    if sound == "organ":
        harmonics = np.array([1, 2, 3, 4, 6, 8])
        strengths = np.array([1, 0.8, 0.6, 0.4, 0.3, 0.2]) * rng.uniform(0.7, 1, size=6)
        tremolo = 1 + 0.5 * np.sin(2 * np.pi * 6 * seconds + rng.uniform(0, 2 * np.pi))
        return tremolo * (strengths @ np.sin(2 * np.pi * pitch_hz * np.outer(harmonics, seconds))), pitch_hz
    return UNTONAL[sound](pitch_hz, seconds, rate_hz, rng), np.nan


def vowel(
    name: str, pitch_hz: float, seconds: np.ndarray, rate_hz: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Filter a band-limited pulse train by a source slope and three formants; return it with its F0 contour.

    F0 glides in a straight line of cents, as far above the pitch at one end as below it at the other: its median is
    the pitch. All formants scale together by up to 6 %, as speakers' vocal tracts do.
    """
    glide_cents = rng.choice([-1, 1]) * rng.uniform(20, 80)
    f0_hz = pitch_hz * 2 ** (glide_cents / 1200 * np.linspace(-1, 1, len(seconds)))
    phase = 2 * np.pi * np.cumsum(f0_hz) / rate_hz
    pulses = pulse_train(phase, int(0.48 * rate_hz / f0_hz.max()))
    sound = scipy.signal.lfilter([1], [1, -np.exp(-2 * np.pi * 200 / rate_hz)], pulses)
    tract = rng.uniform(0.94, 1.06)
    for formant_hz, bandwidth_hz in zip(FORMANTS_HZ[name], BANDWIDTHS_HZ, strict=True):
        sound = resonate(sound, formant_hz * tract, bandwidth_hz, rate_hz)
    return sound * np.minimum(seconds / 0.03, 1) * np.minimum(seconds[::-1] / 0.08, 1), f0_hz


def pulse_train(phase: np.ndarray, harmonics: int) -> np.ndarray:
    """Sum cos(k phase) for k = 1..harmonics: the real part of z (z^harmonics - 1) / (z - 1) with z = exp(i phase)."""
    z = np.exp(1j * phase)
    apart = np.abs(z - 1) > 1e-9
    return np.where(apart, z * (z**harmonics - 1) / np.where(apart, z - 1, 1), harmonics).real


def resonate(x: np.ndarray, centre_hz: float, bandwidth_hz: float, rate_hz: int) -> np.ndarray:
    """Apply Klatt's resonator (1980, eq. 2), of unit gain at 0 Hz."""
    radius = np.exp(-np.pi * bandwidth_hz / rate_hz)
    b, c = 2 * radius * np.cos(2 * np.pi * centre_hz / rate_hz), -(radius**2)
    return scipy.signal.lfilter([1 - b - c], [1, -b, -c], x)


def pluck(f0_hz: float, samples: int, rate_hz: int, place: float, decay_seconds: float = 0.5) -> np.ndarray:
    """Play a Karplus-Strong string plucked at ``place`` (0 to 1) of its length.

    The loop is a delay of N samples, a mean of two neighbours (half a sample) and an all-pass (C + z^-1)/(1 + C z^-1)
    for the rest of the period, with C from Jaffe and Smith 1983, eq. 16, exact at F0. The loop starts with the
    velocity of a string let go: one period of a rectangle of duty ``place``.
    """
    period = rate_hz / f0_hz
    # Keep the all-pass's own delay in [0.3, 1.3), where it is nearly the same for the partials above.
    n = int(period - 0.5 - 0.3)
    rest = period - 0.5 - n
    omega = 2 * np.pi * f0_hz / rate_hz
    c = np.sin(omega * (1 - rest) / 2) / np.sin(omega * (1 + rest) / 2)
    loop = 0.5 * np.exp(-1 / (f0_hz * decay_seconds)) * np.convolve([1, 1], [c, 1])
    denominator = np.zeros(n + 3)
    denominator[:2] = 1, c
    denominator[n:] -= loop
    burst = np.zeros(samples)
    start = np.arange(round(period)) / period
    burst[: len(start)] = np.where(start < place, 1 - place, -place)
    return scipy.signal.lfilter([1, c], denominator, burst)


def fm(carrier_hz: float, ratio: float, index: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Modulate in frequency: sin(2 pi f t + I(t) sin(2 pi r f t)) (Chowning 1973, eq. 1)."""
    turns = 2 * np.pi * carrier_hz * seconds
    return np.sin(turns + index * np.sin(ratio * turns))


def bell(pitch_hz: float, seconds: np.ndarray, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    decay = np.exp(-seconds / rng.uniform(0.2, 0.3))
    return fm(2.5 * pitch_hz, 1.4, rng.uniform(1.6, 2.0) * decay, seconds) * decay


def kick(pitch_hz: float, seconds: np.ndarray, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    fall = rng.uniform(0.03, 0.04)
    turns = 0.45 * pitch_hz * (seconds + 3 * fall * (1 - np.exp(-seconds / fall)))  # from 4 times the last frequency
    return np.sin(2 * np.pi * turns) * np.exp(-seconds / rng.uniform(0.1, 0.14))


def snare(pitch_hz: float, seconds: np.ndarray, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    tone = np.sin(2 * np.pi * 1.3 * pitch_hz * seconds) * np.exp(-seconds / 0.05)
    return tone + 0.7 * high_noise(len(seconds), 800, rate_hz, rng) * np.exp(-seconds / rng.uniform(0.1, 0.15))


def hat(pitch_hz: float, seconds: np.ndarray, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    beat = np.mod(seconds, (seconds[-1] + seconds[1]) / 4)
    return high_noise(len(seconds), 2300 + 3 * pitch_hz, rate_hz, rng) * np.exp(-beat / rng.uniform(0.03, 0.05))


def chirp(start: float, end: float, pitch_hz: float, seconds: np.ndarray) -> np.ndarray:
    """Sweep exponentially from ``start`` to ``end`` times the pitch: 2 pi times the integral of f0 (f1/f0)^(t/T)."""
    rate = np.log(end / start) / seconds[-1]
    return np.sin(2 * np.pi * pitch_hz * start * np.expm1(rate * seconds) / rate)


def rise(pitch_hz: float, seconds: np.ndarray, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    return chirp(2, rng.uniform(10, 13), pitch_hz, seconds)


def fall(pitch_hz: float, seconds: np.ndarray, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    return chirp(rng.uniform(10, 13), 2, pitch_hz, seconds)


def high_noise(samples: int, cutoff_hz: float, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    # Uniform, not normal: its peaks are lower for the same loudness.
    return scipy.signal.sosfilt(
        scipy.signal.butter(4, cutoff_hz, "high", fs=rate_hz, output="sos"), rng.uniform(-1.7, 1.7, size=samples)
    )


UNTONAL = {"bell": bell, "kick": kick, "snare": snare, "hat": hat, "rise": rise, "fall": fall}
