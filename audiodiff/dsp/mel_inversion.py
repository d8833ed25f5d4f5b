"""Go back from a log-mel spectrogram to the magnitudes it was made of, as far as that can be done.

The logarithm inverts down to its floor. The filters do not: they have fewer bands than bins, so of all spectra with
these mel values one is chosen. Phase is :mod:`audiodiff.dsp.phase_recovery`'s business.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from audiodiff.dsp.mel import MelSpec
from audiodiff.dsp.mel import log_mel as forward_log_mel
from audiodiff.dsp.precision import FULL, at_least_float32, limited
from audiodiff.dsp.stft import istft, stft
from audiodiff.types import Array

LARGEST_GAIN = 4.0
SMALL = 1e-5
"""What :func:`match_mel` changes in one iteration at most, and the magnitude below which it sees no difference."""


def expand(log_mel: ArrayLike, spec: MelSpec) -> Array:
    """Return mel magnitudes or powers [..., frame, band]: the inverse of :func:`audiodiff.dsp.mel.compress`.

    expand(compress(m)) is max(m, floor) for ``floor_rule`` "clip" and m for "add", never below 0. What ``top_db`` or
    ``unit_range`` has clipped comes back as the limit.
    """
    value = at_least_float32(log_mel)
    if spec.unit_range is not None:
        low, high = spec.unit_range
        value = low + (high - low) * value
    match spec.log:
        case "none":
            mel = value
        case "ln":
            mel = jnp.exp(value)
        case "log10":
            mel = 10**value
        case "db":
            mel = 10 ** ((value + spec.reference_db) * (spec.power / 20))
    return _at_least_zero(mel - spec.floor if spec.floor_rule == "add" else mel)


def magnitude_from_mel(mel: ArrayLike, spec: MelSpec, iterations: int = 16) -> Array:
    """Estimate the magnitudes |X| [..., frame, bin] of ``spec.stft`` behind mel values m [..., frame, band].

    With B the filters, e is |X| or |X|^2 as ``spec.power`` says. 0 iterations give the pseudo-inverse without its
    negative part, max(B^+ m, 0): where B has full row rank and B^+ m is nowhere negative, B e = m exactly. More
    iterations start from the larger of it and (B^T m) / (B^T B 1), so that no bin between the harmonics is
    stuck at 0, and lower ||B e - m|| step by step (Lee and Seung, 2001)::

        e <- e (B^T m) / (B^T B e)

    Bins outside every filter are 0. The gradient is finite, at silence too; NaN stays NaN, and negative values of m,
    which no spectrum has, count as 0. Raises ValueError for another number of bands than ``spec`` has, and for
    iterations below 0.
    """
    mel = at_least_float32(mel)
    if mel.shape[-1] != spec.bands:
        raise ValueError(f"the mel has {mel.shape[-1]} bands and the spec {spec.bands}; give the spec it was made with")
    if iterations < 0:
        raise ValueError(f"iterations is {iterations}; it must be at least 0, such as 16")
    mel = _at_least_zero(mel)
    bank = spec.filterbank().astype(mel.dtype)
    product = functools.partial(jnp.matmul, precision=FULL)
    # Singular values below a millionth of the largest are redundant bands: dividing by them would amplify rounding.
    energy = _at_least_zero(product(mel, np.linalg.pinv(spec.filterbank(), rcond=1e-6).T.astype(mel.dtype)))
    if iterations:
        # Filters of peak 1 ask the same of e, and keep the squares that a gradient divides by far from underflow.
        peak = bank.max()
        bank, wanted = bank / peak, product(mel / peak, bank / peak)

        def update(energy: Array, _: None = None) -> tuple[Array, None]:
            given = product(product(energy, bank.T), bank)
            # The square of a smaller divisor, which the gradient divides by, would underflow.
            empty = given <= np.sqrt(np.finfo(given.dtype).tiny)
            return jnp.where(empty, 0.0, energy * wanted / jnp.where(empty, 1.0, given)), None

        first = update(jnp.ones_like(energy))[0]
        energy, _ = jax.lax.scan(update, jnp.where(energy < first, first, energy), length=iterations)
    if spec.power == 1 and spec.power_epsilon == 0:
        return energy
    squared = (energy if spec.power == 2 else jnp.square(energy)) - spec.power_epsilon
    # A magnitude at the rounding of its frame's largest is 0: the slope of the root has a bound then.
    zero = squared <= np.finfo(energy.dtype).eps ** 2 * squared.max(axis=-1, keepdims=True, initial=0)
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squared)))


def mel_envelope(log_mel: ArrayLike, spec: MelSpec) -> Array:
    """Return the smooth magnitude envelope [..., frame, bin] of ``spec.stft`` behind a log-mel [..., frame, band].

    Each band's mean over its own filter, (B e)_b / (B 1)_b, spread by the filters' shares of a bin::

        envelope_k = sum_b B_bk e_b / sum_b B_bk,   e_b = m_b / sum_k B_bk

    Of a flat spectrum it gives the spectrum, and nothing that it gives is negative: unlike the pseudo-inverse of
    :func:`magnitude_from_mel` it has no harmonics, which mel bands do not hold. Bins outside every filter take the
    nearest bin inside one. Powers are averaged as powers where ``spec.power`` is 2. The gradient is finite.
    """
    mel = expand(log_mel, spec)
    if mel.shape[-1] != spec.bands:
        raise ValueError(f"the mel has {mel.shape[-1]} bands and the spec {spec.bands}; give the spec it was made with")
    energy = jnp.matmul(mel, _spread(spec).astype(mel.dtype), precision=FULL)
    # The root's slope at 0 has no bound, and below this a magnitude is no sound.
    return energy if spec.power == 1 else jnp.sqrt(jnp.maximum(energy, 1e-16))


def match_mel(audio: ArrayLike, log_mel: ArrayLike, spec: MelSpec, iterations: int = 4) -> Array:
    """Bring audio [..., time] nearer to a log-mel [..., frame, band], its phases kept: one gain a bin and frame.

    Each iteration multiplies the STFT by the ratio of the wanted envelope to the audio's own (:func:`mel_envelope`), at
    most LARGEST_GAIN up or down, and goes back by overlap-add. It is an equaliser for what has the right fine structure
    and not quite the right loudness, as a sampled waveform has; audio with the mel already is left as it is. Frames of
    the log-mel past those of the audio are cut. The gradient is finite.
    """
    audio = at_least_float32(audio)
    wanted = mel_envelope(log_mel, spec)
    for _ in range(iterations):
        spectrum = stft(audio, spec.stft)
        own = mel_envelope(forward_log_mel(audio, spec), spec)
        gain = (wanted[..., : own.shape[-2], :] + SMALL) / (own + SMALL)
        audio = istft(spectrum * limited(gain, 1 / LARGEST_GAIN, LARGEST_GAIN), spec.stft, audio.shape[-1])
    return audio


@functools.lru_cache(maxsize=16)
def _spread(spec: MelSpec) -> np.ndarray:
    """Return the matrix [band, bin] from mel values to the envelope."""
    bank = spec.filterbank()
    heard = bank.sum(axis=0) > 0
    shares = np.where(heard, bank, 0) / np.where(heard, bank.sum(axis=0), 1) / bank.sum(axis=1, keepdims=True)
    inside = np.flatnonzero(heard)
    nearest = inside[np.abs(np.arange(spec.stft.bins)[:, None] - inside).argmin(axis=1)]
    matrix = shares[:, nearest]
    matrix.setflags(write=False)
    return matrix


def _at_least_zero(x: Array) -> Array:
    """Return max(x, 0) where NaN stays NaN, which compiled jnp.maximum does not promise."""
    return jnp.where(x < 0, 0.0, x)
