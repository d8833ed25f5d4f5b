"""Filter audio along time, with exact inverses: pre-emphasis, and an equaliser of measured gains."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from audiodiff.dsp.precision import as_audio, at_least_float32
from audiodiff.types import Array


def preemphasis(audio: ArrayLike, coefficient: float = 0.97) -> Array:
    """Raise the high frequencies of [..., time]: y[n] = x[n] - a x[n - 1], with x[-1] = 0."""
    _check_coefficient(coefficient)
    x = at_least_float32(audio)
    return x - coefficient * _delay(x, 1)


def deemphasis(audio: ArrayLike, coefficient: float = 0.97) -> Array:
    """Undo :func:`preemphasis`: x[n] = y[n] + a x[n - 1].

    The recursion unrolls in log2(time) parallel steps, since
    1 / (1 - a z^-1) = (1 + a z^-1) (1 + a^2 z^-2) (1 + a^4 z^-4) ...
    """
    _check_coefficient(coefficient)
    x = at_least_float32(audio)
    shift, gain = 1, coefficient
    while shift < x.shape[-1]:
        x = x + gain * _delay(x, shift)
        shift, gain = 2 * shift, gain * gain
    return x


def equalise(audio: ArrayLike, gains_db: tuple[float, ...]) -> Array:
    """Multiply the spectrum of [..., time] by gains in dB, evenly spaced from 0 to half the rate and linear between.

    The filter has zero phase and is circular over the clip: Y_k = 10^(g_k / 20) X_k on the DFT, so the negated gains
    undo it, but for rounding. Measured gains level a data set's long-term spectrum before noise is added, as the band
    equaliser of Multi-Band Diffusion does (San Roman et al. 2023). Raises ValueError for fewer than two gains and for a
    clip without samples.
    """
    if len(gains_db) < 2:
        raise ValueError(f"gains_db has {len(gains_db)} entries; give at least two, at 0 Hz and at half the rate")
    x = as_audio(audio)
    time = x.shape[-1]
    half_rates = np.arange(time // 2 + 1) * 2 / time  # the last bin of an odd length lies below half the rate
    gain_db = np.interp(half_rates, np.linspace(0, 1, len(gains_db)), gains_db)
    return jnp.fft.irfft(jnp.fft.rfft(x) * jnp.asarray(10 ** (gain_db / 20), x.dtype), time)


def _delay(x: Array, samples: int) -> Array:
    """Shift [..., time] to the right by samples, zeros in front, at the same length."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(samples, 0)])[..., : x.shape[-1]]


def _check_coefficient(coefficient: float) -> None:
    if not -1 < coefficient < 1:
        raise ValueError(f"coefficient is {coefficient}; it must lie between -1 and 1, where the inverse is stable")
