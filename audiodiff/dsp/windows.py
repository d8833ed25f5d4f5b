"""Build analysis windows and check whether shifted copies of one add up (COLA) or cover everything (NOLA).

Windows are float64 numpy arrays: constants that a traced function builds once and casts to its own precision.
They are *periodic* by default (one period of a function of period N, as the DFT wants it; scipy's
``fftbins=True``); ``symmetric=True`` gives the form used to design filters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from audiodiff.dsp.choices import check_choice

# The least overlapped w^2, relative to the largest, that an inverse STFT may divide by. Rounding errors grow by
# at most 1/sqrt(1e-3) = 32 there, which keeps a float32 round trip under 1e-5.
NOLA_TOLERANCE = 1e-3


def _cosine_sum(coefficients: tuple[float, ...], length_samples: int, symmetric: bool) -> np.ndarray:
    """Return sum_k (-1)^k a_k cos(2 pi k n / D), D = N (periodic) or N - 1 (symmetric)."""
    _check_length(length_samples)
    if length_samples == 1:
        return np.ones(1)
    angle = 2 * np.pi * np.arange(length_samples) / (length_samples - 1 if symmetric else length_samples)
    k = np.arange(len(coefficients))
    return (-1.0) ** k * coefficients @ np.cos(np.outer(k, angle))


def hann(length_samples: int, *, symmetric: bool = False) -> np.ndarray:
    """Return the Hann window 0.5 - 0.5 cos: side lobes from -31 dB, falling by 18 dB per octave."""
    return _cosine_sum((0.5, 0.5), length_samples, symmetric)


def hamming(length_samples: int, *, symmetric: bool = False) -> np.ndarray:
    """Return the Hamming window 0.54 - 0.46 cos: Hann's main lobe, first side lobe lowered to -43 dB."""
    return _cosine_sum((0.54, 0.46), length_samples, symmetric)


def blackman(length_samples: int, *, symmetric: bool = False) -> np.ndarray:
    """Return the Blackman window 0.42 - 0.5 cos + 0.08 cos 2: side lobes below -58 dB, a wider main lobe."""
    return _cosine_sum((0.42, 0.5, 0.08), length_samples, symmetric)


def rectangular(length_samples: int, *, symmetric: bool = False) -> np.ndarray:
    """Return ones: the narrowest main lobe and side lobes of -13 dB. ``symmetric`` changes nothing."""
    return _cosine_sum((1.0,), length_samples, symmetric)


def gaussian(length_samples: int, *, sigma_samples: float | None = None, symmetric: bool = False) -> np.ndarray:
    """Return exp(-(n - c)^2 / (2 sigma^2)) about the window's centre c: the least time-frequency spread.

    ``sigma_samples`` is the standard deviation, by default an eighth of the length.
    """
    _check_length(length_samples)
    sigma = length_samples / 8 if sigma_samples is None else sigma_samples
    if sigma <= 0:
        raise ValueError(f"sigma_samples is {sigma}; it must be above 0")
    centre = (length_samples - 1) / 2 if symmetric or length_samples == 1 else length_samples / 2
    return np.exp(-0.5 * ((np.arange(length_samples) - centre) / sigma) ** 2)


WINDOWS: Mapping[str, Callable[..., np.ndarray]] = {
    "hann": hann,
    "hamming": hamming,
    "blackman": blackman,
    "rectangular": rectangular,
    "gaussian": gaussian,
}


@functools.lru_cache(maxsize=64)
def window(name: str, length_samples: int, *, symmetric: bool = False) -> np.ndarray:
    """Return the window of that name in ``WINDOWS``, read-only since the array is shared between calls."""
    check_choice("window", name, WINDOWS)
    w = WINDOWS[name](length_samples, symmetric=symmetric)
    w.setflags(write=False)
    return w


class OverlapCheck(NamedTuple):
    """Say whether overlapped copies of a window fulfil a condition, and by how much; true exactly if ``holds``.

    ``smallest`` and ``largest`` bound s[n] = sum_m w[n - m H]^p over n (p = 1 for COLA, 2 for NOLA).
    """

    holds: bool
    smallest: float
    largest: float

    @property
    def constant(self) -> float:
        """The middle of the range: the gain of an overlap-add where COLA holds."""
        return (self.smallest + self.largest) / 2

    @property
    def deviation(self) -> float:
        """The largest relative distance of s[n] from the constant."""
        return (self.largest - self.smallest) / max(abs(self.largest + self.smallest), np.finfo(float).tiny)

    def __bool__(self) -> bool:
        return self.holds


def cola(w: np.ndarray, hop_samples: int, *, tolerance: float = 1e-10) -> OverlapCheck:
    """Check constant overlap-add: sum_m w[n - m H] = c for every n, to a relative tolerance.

    Where it holds, windowed frames add up to c times the signal without any division.
    """
    total = _overlapped(w, hop_samples)
    check = OverlapCheck(False, float(total.min()), float(total.max()))
    return check._replace(holds=bool(check.smallest > 0 and check.deviation <= tolerance))


def nola(w: np.ndarray, hop_samples: int, *, tolerance: float = NOLA_TOLERANCE) -> OverlapCheck:
    """Check nonzero overlap-add: sum_m w[n - m H]^2 >= tolerance times its maximum, for every n.

    This is what the least-squares inverse of Griffin and Lim (1984) needs; COLA is not. scipy's ``check_NOLA``
    asks the same with an absolute 1e-10, which float32 cannot divide by.
    """
    total = _overlapped(np.square(w), hop_samples)
    smallest, largest = float(total.min()), float(total.max())
    return OverlapCheck(bool(largest > 0 and smallest >= tolerance * largest), smallest, largest)


def _overlapped(w: np.ndarray, hop_samples: int) -> np.ndarray:
    """Return one period, hop_samples long, of sum_m w[n - m H]."""
    if hop_samples < 1:
        raise ValueError(f"hop_samples is {hop_samples}; it must be at least 1")
    return np.pad(w, (0, -len(w) % hop_samples)).reshape(-1, hop_samples).sum(axis=0)


def _check_length(length_samples: int) -> None:
    if length_samples < 1:
        raise ValueError(f"a window of {length_samples} samples was asked for; it needs at least 1")
