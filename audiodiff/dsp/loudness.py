"""Measure loudness: LKFS by ITU-R BS.1770, sones by Stevens, and Zwicker's specific loudness.

LKFS compares recordings and needs no calibration. Sones say how loud a listener finds a sound at a stated playback
level, which is where :class:`audiodiff.dsp.masking.MaskingSpec` comes in.
"""

from __future__ import annotations

import functools
import math

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from audiodiff.dsp.auditory_scales import hz_to_bark
from audiodiff.dsp.framing import frame
from audiodiff.dsp.masking import MaskingSpec, bark_power, level_db_spl, spreading_matrix
from audiodiff.dsp.precision import FULL, as_audio, at_least_float32, floored
from audiodiff.types import Array

# The analogue filters behind BS.1770's table for 48 kHz. The shelf's gain at its own frequency is not quite half of
# the whole in dB.
_SHELF_HZ, _SHELF_Q = 1681.974450955533, 0.7071752369554196
_SHELF_GAIN = 10 ** (3.999843853973347 / 20)
_SHELF_MIDDLE_GAIN = _SHELF_GAIN**0.4996667741545416
_HIGHPASS_HZ, _HIGHPASS_Q = 38.13547087602444, 0.5003270373238773
_LOWEST_RATE_HZ = 8000

# The slowest pole is the high-pass's, at every rate: its impulse response falls to 1e-9 within 87 ms.
_TAIL_S = 0.1

# BS.1770's constant, which takes back the weighting's gain at 997 Hz.
_OFFSET_DB = -0.691

CHANNEL_GAINS_5_0 = (1.0, 1.0, 1.0, 1.41, 1.41)
"""BS.1770's weights of left, right, centre, left surround, right surround; the LFE channel is left out."""


def k_weighting(rate_hz: float) -> np.ndarray:
    """Return BS.1770's K-weighting at any rate as two biquads [2, 6], rows b0 b1 b2 1 a1 a2 (scipy's ``sos``).

    A shelf of +4 dB above 1.7 kHz (the head), then a high-pass at 38 Hz. The standard tabulates them at 48 kHz only.
    Here the analogue filters go through the bilinear transform at the rate, which gives the table back to 1e-9; the
    high-pass keeps the table's numerator 1 -2 1. The gain at 1 kHz stays within 0.05 dB of that at 48 kHz. Raises
    ValueError below 8 kHz, where the shelf does not fit.
    """
    if not _LOWEST_RATE_HZ <= rate_hz < math.inf:
        raise ValueError(f"rate_hz is {rate_hz}; K-weighting needs at least {_LOWEST_RATE_HZ}; resample the audio")
    shelf = _bilinear((_SHELF_GAIN, _SHELF_MIDDLE_GAIN / _SHELF_Q, 1.0), _SHELF_HZ, rate_hz)
    poles = [_bilinear((1.0, 1 / q, 1.0), f, rate_hz) for f, q in ((_SHELF_HZ, _SHELF_Q), (_HIGHPASS_HZ, _HIGHPASS_Q))]
    return np.array([[*shelf / poles[0][0], *poles[0] / poles[0][0]], [1.0, -2.0, 1.0, *poles[1] / poles[1][0]]])


def k_weight(audio: ArrayLike, rate_hz: float) -> Array:
    """Filter audio [..., time] by :func:`k_weighting`, from rest, at the same length.

    The product of spectra, over 0.1 s of zeros beyond the end, in which the response dies away: the circular
    convolution then equals the recursion to 1e-9. The recursion itself would take time steps one after the other
    (``lax.scan``) or carry a 2 x 2 matrix per sample (``associative_scan``), and it rounds against a pole at 0.995: for
    noise on a constant offset of 3, float32 errs by 5e-4 that way and by 2e-6 this way, at 48 kHz.
    """
    x = at_least_float32(audio)
    time = x.shape[-1]
    n = 1 << (time + math.ceil(_TAIL_S * rate_hz) - 1).bit_length()
    response = _response(float(rate_hz), n)
    response = response.astype(jnp.complex128 if x.dtype == jnp.float64 else jnp.complex64)
    return jnp.fft.irfft(jnp.fft.rfft(x, n) * response, n)[..., :time]


def integrated_loudness_lkfs(audio: ArrayLike, rate_hz: float, channel_gains: tuple[float, ...] | None = None) -> Array:
    """Return the gated loudness of BS.1770-4 in LKFS (= LUFS), [...], of mono audio [..., time].

    L = -0.691 + 10 log10 sum_c G_c z_c, z the K-weighted mean square of blocks of 400 ms, 75 % overlapped, averaged
    over the blocks louder than both -70 LKFS and the mean of those less 10 LU. A sine of 997 Hz and amplitude 1 has
    -3.01 LKFS. With ``channel_gains`` (``CHANNEL_GAINS_5_0``, or its first two for stereo) audio is
    [..., channel, time] and the channels add up.

    NaN where no block is louder than -70 LKFS, gradients being finite there, and where a sample is not finite. Raises
    ValueError for a clip shorter than a block, which has no integrated loudness: :func:`k_weighted_level_db` measures
    those, under another name.
    """
    x = _checked(audio, channel_gains)
    block, hop = round(0.4 * rate_hz), round(0.1 * rate_hz)
    if x.shape[-1] < block:
        raise ValueError(
            f"a clip of {x.shape[-1]} samples is shorter than one gating block of 400 ms, {block} samples at "
            f"{rate_hz:g} Hz, and has no integrated loudness; measure it by k_weighted_level_db"
        )
    z = _sum_channels(jnp.square(frame(k_weight(x, rate_hz), block, hop)).mean(axis=-1), channel_gains, -2)
    heard = z > 10 ** ((-70 - _OFFSET_DB) / 10)
    gated = heard & (z > 0.1 * _mean_where(z, heard)[..., None])
    return jnp.where(heard.any(axis=-1), _decibels(_mean_where(z, gated)), jnp.nan)


def k_weighted_level_db(audio: ArrayLike, rate_hz: float, channel_gains: tuple[float, ...] | None = None) -> Array:
    """Return the ungated K-weighted level -0.691 + 10 log10 sum_c G_c z_c, [...], of a clip of any length.

    z is the mean square over the whole clip [..., time], or [..., channel, time] with ``channel_gains``. It is
    near the integrated loudness where no block is gated, and the measure for clips under 400 ms, which have none.
    Silence is -inf, with gradient 0; a clip with a sample that is not finite is NaN. Raises ValueError for one without
    samples.
    """
    weighted = k_weight(_checked(audio, channel_gains), rate_hz)
    return _decibels(_sum_channels(jnp.square(weighted).mean(axis=-1), channel_gains, -1))


def phon_to_sone(phon: ArrayLike) -> Array:
    """Convert loudness level in phon to loudness in sones: 2^((L - 40) / 10).

    Stevens' law psi = k I^0.3 (pressure to the power 0.6) with the exponent log10(2) = 0.301: 10 phon double the
    loudness, and 40 phon are 1 sone. Holds from 40 phon up. Softer sounds fade faster, to nothing at the threshold;
    :func:`zwicker_loudness_sone` does that.
    """
    return 2 ** ((at_least_float32(phon) - 40) / 10)


def sone_to_phon(sone: ArrayLike) -> Array:
    """Convert sones to phon, 40 + 10 log2(N), the inverse of :func:`phon_to_sone`; -inf for 0 sones."""
    return 40 + 10 * jnp.log2(at_least_float32(sone))


def specific_loudness(excitation_db_spl: ArrayLike, quiet_db_spl: ArrayLike) -> Array:
    """Return Zwicker's specific loudness in sone per Bark, of an excitation level and the threshold in quiet.

    N' = 0.08 (E_TQ / E_0)^0.23 ((0.5 + 0.5 E / E_TQ)^0.23 - 1), 0 below the threshold (Zwicker and Fastl, 1990).
    """
    excitation, quiet = at_least_float32(excitation_db_spl), jnp.asarray(quiet_db_spl)
    above = 10 ** (floored(excitation - quiet.astype(excitation.dtype), 0) / 10)
    at_quiet = 10 ** (0.023 * quiet.astype(excitation.dtype))
    return 0.08 * at_quiet * ((0.5 + 0.5 * above) ** 0.23 - 1)


def zwicker_loudness_sone(audio: ArrayLike, spec: MaskingSpec) -> Array:
    """Return the loudness in sones of each frame of audio [..., time], [..., frame], after Zwicker's model.

    Powers in Bark are spread to an excitation pattern, and its :func:`specific_loudness` is summed over Bark. One
    constant calibrates the sum, so that a 1 kHz tone of 40 dB SPL has 1 sone. It knows the threshold in quiet and
    that a wide sound is louder than a narrow one of the same power. It is not ISO 532-1, whose level corrections and
    level-dependent slopes it lacks: a 1 kHz tone has 2.0 sones at 50 dB, as it must, but 3.8 at 60 and 12 at 80.
    """
    energy = bark_power(audio, spec)
    reference = np.zeros(spec.bands)
    reference[int(hz_to_bark(1000))] = 10 ** ((40 - spec.full_scale_db_spl) / 10) / 2
    return _uncalibrated_loudness(energy, spec) / _uncalibrated_loudness(jnp.asarray(reference, energy.dtype), spec)


def _uncalibrated_loudness(energy: Array, spec: MaskingSpec) -> Array:
    """Return the specific loudness of band powers [..., band], summed over Bark."""
    spread = spreading_matrix(spec.bands).T.astype(energy.dtype)
    excitation = level_db_spl(jnp.matmul(energy, spread, precision=FULL), spec)
    return specific_loudness(excitation, spec.quiet_db_spl()).sum(axis=-1)


def _bilinear(coefficients: tuple[float, float, float], frequency_hz: float, rate_hz: float) -> np.ndarray:
    """Turn c_2 s^2 + c_1 s + c_0, s in units of the frequency, into a polynomial in 1 / z (times (1 + 1 / z)^2).

    s = (1 / K) (1 - 1 / z) / (1 + 1 / z), with K = tan(pi f / fs) so that the frequency stays where it is.
    """
    c2, c1, c0 = coefficients
    k = math.tan(math.pi * frequency_hz / rate_hz)
    return np.array([c2 + c1 * k + c0 * k * k, 2 * (c0 * k * k - c2), c2 - c1 * k + c0 * k * k])


@functools.lru_cache(maxsize=16)
def _response(rate_hz: float, fft_samples: int) -> np.ndarray:
    """Return the K-weighting's complex gain at the bins of a half spectrum, [bin]; complex128."""
    delay = np.exp(-2j * np.pi * np.arange(fft_samples // 2 + 1) / fft_samples)
    sections = k_weighting(rate_hz)
    response = np.prod([np.polyval(s[2::-1], delay) / np.polyval(s[:2:-1], delay) for s in sections], axis=0)
    response.setflags(write=False)
    return response


def _checked(audio: ArrayLike, channel_gains: tuple[float, ...] | None) -> Array:
    """Return the audio as floats, [..., time], or [..., channel, time] where there are gains."""
    x = as_audio(audio)
    if channel_gains is not None and (x.ndim < 2 or x.shape[-2] != len(channel_gains)):
        raise ValueError(
            f"channel_gains has {len(channel_gains)} entries and the audio the shape {x.shape}; it must be "
            "[..., channel, time] with one gain for each channel"
        )
    return x


def _sum_channels(z: Array, channel_gains: tuple[float, ...] | None, axis: int) -> Array:
    if channel_gains is None:
        return z
    return jnp.tensordot(z, jnp.asarray(channel_gains, z.dtype), axes=(axis, 0), precision=FULL)


def _mean_where(z: Array, chosen: Array) -> Array:
    """Return the mean of the chosen blocks, [...]; 0 where there are none."""
    return jnp.where(chosen, z, 0).sum(axis=-1) / jnp.maximum(chosen.sum(axis=-1), 1)


def _decibels(z: Array) -> Array:
    """Return -0.691 + 10 log10 z; -inf with gradient 0 where z is 0."""
    zero = z <= 0  # false for a NaN, which is no silence
    return jnp.where(zero, -jnp.inf, _OFFSET_DB + 10 * jnp.log10(jnp.where(zero, 1, z)))
