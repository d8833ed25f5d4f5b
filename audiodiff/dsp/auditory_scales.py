"""Convert frequency to what the ear makes of it: Bark, critical bands, ERB, and the threshold in quiet.

All of it is float64 numpy: constants that a traced function builds once and casts to its own precision. Levels in
dB SPL say how loud a recording is *played*, which no file records; see :func:`threshold_in_quiet_db`.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from jax.typing import ArrayLike

from audiodiff.dsp.choices import check_choice

BarkScale = Literal["zwicker", "traunmueller", "wang"]

# Terhardt's formula goes to infinity at 0 Hz, and hearing ends at about 20 Hz.
LOWEST_AUDIBLE_HZ = 20.0


def hz_to_bark(frequency_hz: ArrayLike, scale: BarkScale = "zwicker") -> np.ndarray:
    """Convert Hz to critical-band rate in Bark.

    ``zwicker``       13 atan(0.00076 f) + 3.5 atan((f / 7500)^2)              (Zwicker and Terhardt, 1980)
    ``traunmueller``  z = 26.81 f / (1960 + f) - 0.53, plus 0.15 (2 - z) where z < 2 and 0.22 (z - 20.1) where
                      z > 20.1                                                 (Traunmueller, 1990)
    ``wang``          6 asinh(f / 600)                            (Wang, Sekey and Gersho, 1992; also PEAQ, RASTA)

    They are not interchangeable: 1 kHz is 8.51, 8.53 and 7.70 Bark. Raises ValueError for a frequency below 0.
    """
    check_choice("scale", scale, get_args(BarkScale))
    f = _frequencies(frequency_hz)
    if scale == "zwicker":
        return 13 * np.arctan(0.00076 * f) + 3.5 * np.arctan(np.square(f / 7500))
    if scale == "wang":
        return 6 * np.arcsinh(f / 600)
    z = 26.81 * f / (1960 + f) - 0.53
    return z + 0.15 * np.maximum(2 - z, 0) + 0.22 * np.maximum(z - 20.1, 0)


def critical_bandwidth_hz(frequency_hz: ArrayLike) -> np.ndarray:
    """Return the width in Hz of the critical band about a frequency: 25 + 75 (1 + 1.4 (f / 1000)^2)^0.69.

    Zwicker and Terhardt (1980): 100 Hz wide up to 500 Hz, then about a fifth of the frequency.
    """
    return 25 + 75 * (1 + 1.4 * np.square(_frequencies(frequency_hz) / 1000)) ** 0.69


def erb_hz(frequency_hz: ArrayLike) -> np.ndarray:
    """Return the equivalent rectangular bandwidth of the auditory filter in Hz: 24.7 (4.37 f / 1000 + 1).

    Glasberg and Moore (1990), measured with notched noise; narrower than the critical band, most so below 500 Hz.
    """
    return 24.7 * (4.37 * _frequencies(frequency_hz) / 1000 + 1)


def hz_to_erb_rate(frequency_hz: ArrayLike) -> np.ndarray:
    """Convert Hz to the number of ERBs below a frequency: 21.4 log10(1 + 0.00437 f) (Glasberg and Moore, 1990)."""
    return 21.4 * np.log10(1 + 0.00437 * _frequencies(frequency_hz))


def erb_rate_to_hz(erb_rate: ArrayLike) -> np.ndarray:
    """Convert an ERB rate to Hz, the inverse of :func:`hz_to_erb_rate`."""
    return (10 ** (np.asarray(erb_rate, np.float64) / 21.4) - 1) / 0.00437


def threshold_in_quiet_db_spl(frequency_hz: ArrayLike) -> np.ndarray:
    """Return the level in dB SPL of the softest audible sine (Terhardt, 1979).

    3.64 f^-0.8 - 6.5 exp(-0.6 (f - 3.3)^2) + 0.001 f^4, with f in kHz.

    The least is -4.98 dB at 3324 Hz. Frequencies below 20 Hz get the value at 20 Hz, 83.2 dB, since the formula goes
    to infinity at 0 Hz.
    """
    f = np.maximum(_frequencies(frequency_hz), LOWEST_AUDIBLE_HZ) / 1000
    return 3.64 * f**-0.8 - 6.5 * np.exp(-0.6 * np.square(f - 3.3)) + 1e-3 * f**4


def threshold_in_quiet_db(frequency_hz: ArrayLike, *, full_scale_db_spl: float) -> np.ndarray:
    """Return the threshold in quiet in dB relative to a sine of amplitude 1, which is played at full_scale_db_spl.

    The calibration is an assumption about the listener's volume knob and so has no default. The usual ones put a
    16-bit sine of the least amplitude at 0 dB SPL (full scale at 90) or 6 dB below (96). Raises ValueError for a
    value that is not finite.
    """
    return threshold_in_quiet_db_spl(frequency_hz) - check_calibration(full_scale_db_spl)


def check_calibration(full_scale_db_spl: float) -> float:
    """Return full_scale_db_spl, or raise ValueError where it is not a finite number."""
    if not np.isfinite(full_scale_db_spl):
        raise ValueError(
            f"full_scale_db_spl is {full_scale_db_spl}; it must be finite: the level at which a sine of amplitude 1 "
            "is played, such as 96"
        )
    return full_scale_db_spl


def _frequencies(frequency_hz: ArrayLike) -> np.ndarray:
    f = np.asarray(frequency_hz, np.float64)
    if (f < 0).any():
        raise ValueError(f"frequency_hz holds {f.min()}; it must be at least 0")
    return f
