"""Change the sampling rate inside a compiled, differentiable program.

For files on the host use soxr, which is faster and takes any pair of rates; this is for signals that are already
on the device: the stages of a cascade, a metric that wants another rate, a loss at several rates.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from audiodiff.dsp.framing import fit_length
from audiodiff.dsp.precision import FULL, at_least_float32
from audiodiff.types import Array

# Above this many filter taps in all phases (64 MB of float32) the rates have no useful common divisor.
_MOST_TAPS = 2**24


def resample(
    audio: ArrayLike,
    rate_in_hz: int,
    rate_out_hz: int,
    *,
    passband: float = 0.9,
    attenuation_db: float = 100.0,
) -> Array:
    """Resample [..., time] to [..., ceil(time rate_out_hz / rate_in_hz)], sample 0 staying sample 0.

    y[m] = sum_n x[n] h(n - m rate_in / rate_out), h a Kaiser-windowed sinc (polyphase: one filter for each of the
    fractional positions, all of them one strided convolution). Frequencies up to ``passband`` times half of the
    lower rate pass unchanged, those above half of it are lowered by ``attenuation_db``; in between the filter
    falls off. Zeros are assumed outside the clip.

    Raises ValueError for rates that are not positive whole numbers and for a ratio such as 44101 / 44100.
    """
    up, down = _reduced_ratio(rate_in_hz, rate_out_hz)
    x = at_least_float32(audio)
    if up == down:
        return x
    taps, lead = _polyphase_filters(up, down, passband, attenuation_db)
    filters = jnp.asarray(taps[:, None], x.dtype)
    time = x.shape[-1]
    length = -(-time * up // down)
    turns = -(-length // up)  # each turn of the phases reads `down` samples and writes `up`
    trail = (turns - 1) * down + filters.shape[-1] - lead - time
    flat = x.reshape(-1, 1, time)
    phases = jax.lax.conv_general_dilated(
        flat, filters, window_strides=(down,), padding=[(lead, trail)], precision=FULL
    )
    return fit_length(phases.swapaxes(-1, -2).reshape(*x.shape[:-1], turns * up), length)


def _reduced_ratio(rate_in_hz: int, rate_out_hz: int) -> tuple[int, int]:
    for name, rate in (("rate_in_hz", rate_in_hz), ("rate_out_hz", rate_out_hz)):
        if not isinstance(rate, (int, np.integer)) or rate <= 0:
            raise ValueError(f"{name} is {rate}; it must be a positive whole number of Hz, such as 22050")
    divisor = math.gcd(int(rate_in_hz), int(rate_out_hz))
    return int(rate_out_hz) // divisor, int(rate_in_hz) // divisor


@functools.lru_cache(maxsize=32)
def _polyphase_filters(up: int, down: int, passband: float, attenuation_db: float) -> tuple[np.ndarray, int]:
    """Return the filters [up, tap], float64, and how many samples before its own position each begins.

    Kaiser's design (1974): a transition of width dw and an attenuation A need a sinc of half length
    (A - 7.95) / (2 * 2.285 dw) samples under a window of beta = 0.1102 (A - 8.7), for A > 50.
    """
    if not 0 < passband < 1:
        raise ValueError(f"passband is {passband}; it must lie between 0 and 1, such as 0.9")
    if attenuation_db < 50:
        raise ValueError(f"attenuation_db is {attenuation_db}; it must be at least 50")
    nyquist = min(1.0, up / down)  # of the lower rate, in units of the input's
    half_samples = (attenuation_db - 7.95) / (2 * 2.285 * math.pi * (1 - passband) * nyquist)
    lead = math.ceil(half_samples)
    taps = 2 * lead + 1 + (up - 1) * down // up
    if up * taps > _MOST_TAPS:
        raise ValueError(
            f"a rate ratio of {up}/{down} needs {up} filters of {taps} taps; resample by soxr on the host, or choose "
            "rates with a larger common divisor"
        )
    distance = np.arange(taps) - lead - (np.arange(up) * down / up)[:, None]
    cutoff = nyquist * (1 + passband) / 2
    inside = np.maximum(0, 1 - np.square(distance / half_samples))
    kaiser = np.where(inside > 0, np.i0(0.1102 * (attenuation_db - 8.7) * np.sqrt(inside)), 0)
    filters = np.sinc(cutoff * distance) * kaiser
    # Each phase passes a constant unchanged; without this a constant gains a ripple of the size of the attenuation.
    filters /= filters.sum(axis=1, keepdims=True)
    filters.setflags(write=False)
    return filters, lead
