"""Say what one sound hides of another: masking thresholds in frequency and time, and distances that know of them.

The model is Johnston's (1988) on Schroeder's spreading function: frames of audio become powers in bands of one Bark,
a loud band raises the threshold of its neighbours, and an error below the threshold is predicted inaudible::

    spec = MaskingSpec(rate_hz=16000, full_scale_db_spl=96.0, fft_samples=512, hop_samples=128)
    threshold = temporal_masking_db_spl(masking_threshold_db_spl(target, spec), spec)
    loss = masked_distance(estimate - target, threshold, spec)

Gradients are finite, at silence too. For a loss, compute the threshold from the target and stop its gradient. A sample
that is not finite makes NaN of all that hears it. It is a model of the average ear in 1 Bark steps: it ranks errors, it
does not replace listeners.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from audiodiff.dsp.auditory_scales import check_calibration, hz_to_bark, threshold_in_quiet_db_spl
from audiodiff.dsp.precision import FULL, as_audio, at_least_float32, floored, limited
from audiodiff.dsp.stft import StftSpec, power, stft
from audiodiff.types import Array

# A power 160 dB below that of full scale, per bin or band: inaudible at any volume, and far from underflow.
_SILENCE = 1e-16

# Masking is full up to this distance in time, and decays from there.
_HOLD_S = 1e-3


@dataclass(frozen=True, kw_only=True)
class MaskingSpec:
    """Hold what a masking threshold depends on beside the audio; frozen, hashable, plain values only.

    rate_hz            Sampling rate that the audio must have.
    full_scale_db_spl  The level at which a sine of amplitude 1 is played; see
                       :func:`audiodiff.dsp.auditory_scales.threshold_in_quiet_db`.
    fft_samples        Length of a frame (periodic Hann window, centred, zeros beyond the ends).
    hop_samples        Distance between frames.
    forward_s          How long a sound masks what comes after it, above 1 ms; 0 for not at all.
    backward_s         How long before its onset it masks, above 1 ms; 0 for not at all.

    Raises ValueError for impossible values, and for an FFT too short to give every Bark a bin.
    """

    rate_hz: float
    full_scale_db_spl: float
    fft_samples: int
    hop_samples: int
    forward_s: float = 0.2
    backward_s: float = 0.02

    def __post_init__(self) -> None:
        check_calibration(self.full_scale_db_spl)
        if self.rate_hz <= 0:
            raise ValueError(f"rate_hz is {self.rate_hz}; it must be above 0, such as 16000")
        for name in ("forward_s", "backward_s"):
            value = getattr(self, name)
            if value != 0 and not _HOLD_S < value < np.inf:
                raise ValueError(f"{name} is {value}; it must be above {_HOLD_S} s, or 0 for no masking there")
        empty = np.flatnonzero(np.bincount(self._bark_of_bin()) == 0)
        if empty.size:
            raise ValueError(
                f"fft_samples is {self.fft_samples}, and its bins at {self.rate_hz:g} Hz leave Bark {empty[0]} empty; "
                f"take at least {math.ceil(self.rate_hz / 90)}, bins no wider than a critical band"
            )

    @property
    def stft(self) -> StftSpec:
        """The transform, scaled so that |X|^2 / fft_samples is a mean square."""
        return StftSpec(self.fft_samples, self.hop_samples, scaling="window_norm")

    @property
    def bins_hz(self) -> np.ndarray:
        """The frequency of each bin, [bin]."""
        return np.arange(self.stft.bins) * (self.rate_hz / self.fft_samples)

    @property
    def bands(self) -> int:
        """The number of bands of one Bark; the last may end at half the rate."""
        return int(self._bark_of_bin()[-1]) + 1

    def quiet_db_spl(self) -> np.ndarray:
        """Return the threshold in quiet of each band, [band]: the least over its bins."""
        levels, bark = threshold_in_quiet_db_spl(self.bins_hz), self._bark_of_bin()
        return np.array([levels[bark == band].min() for band in range(self.bands)])

    def _bark_of_bin(self) -> np.ndarray:
        return hz_to_bark(self.bins_hz).astype(int)


def spreading_db(distance_bark: ArrayLike) -> np.ndarray:
    """Return how far below its own level a masker excites the ear at a distance of dz Bark above it, in dB.

    15.81 + 7.5 (dz + 0.474) - 17.5 sqrt(1 + (dz + 0.474)^2) (Schroeder, Atal and Hall, 1979): far out it falls by
    10 dB per Bark upwards and by 25 dB per Bark downwards, so that low sounds mask high ones.
    """
    z = np.asarray(distance_bark, np.float64) + 0.474
    return 15.81 + 7.5 * z - 17.5 * np.sqrt(1 + np.square(z))


def spreading_matrix(bands: int) -> np.ndarray:
    """Return the power that each masker brings to each maskee, [maskee, masker], for bands of one Bark."""
    bark = np.arange(bands)
    return 10 ** (spreading_db(bark[:, None] - bark) / 10)


def bark_power(audio: ArrayLike, spec: MaskingSpec) -> Array:
    """Return the mean square of audio [..., time] in bands of one Bark, [..., frame, band].

    The bands add up to the frame's mean square, weighted by the squared window (Parseval): a sine of amplitude A
    gives A^2 / 2 to its band. Raises ValueError for a clip without samples.
    """
    energy = power(stft(as_audio(audio), spec.stft))
    return jnp.matmul(energy, _bin_to_band(spec).astype(energy.dtype), precision=FULL)


def level_db_spl(mean_square: Array, spec: MaskingSpec) -> Array:
    """Return the level of a mean square in dB SPL: full_scale_db_spl for that of a sine of amplitude 1, 1 / 2.

    Anything below 160 dB under full scale, silence included, has the level there.
    """
    return spec.full_scale_db_spl + 10 * jnp.log10(2 * floored(mean_square, _SILENCE))


def tonality(audio: ArrayLike, spec: MaskingSpec) -> Array:
    """Return how tonal each frame of [..., time] is, [..., frame]: 0 for noise and silence, 1 for a tone.

    min(SFM / -60 dB, 1), with the spectral flatness SFM the geometric over the arithmetic mean of the power spectrum
    (Johnston, 1988). It is one number for the whole spectrum, so that noise in a narrow band counts as a tone.
    Raises ValueError for a clip without samples.
    """
    energy = floored(power(stft(as_audio(audio), spec.stft)) / spec.fft_samples, _SILENCE)
    flatness_db = 10 * (jnp.log10(energy).mean(axis=-1) - jnp.log10(energy.mean(axis=-1)))
    return limited(flatness_db / -60, 0, 1)


def threshold_of_bands_db_spl(mean_square: Array, tonality: ArrayLike, spec: MaskingSpec) -> Array:
    """Return the masking threshold in dB SPL of band powers [..., band] and tonalities a [...] (Johnston, 1988).

    The powers are spread over the bands, divided by the spreading's gain for equal powers, and lowered by
    a (14.5 + z) + (1 - a) 5.5 dB, z in Bark: a tone hides less than noise does. The threshold in quiet is the least.
    """
    mean_square = at_least_float32(mean_square)
    spread = spreading_matrix(spec.bands)
    spread = (spread / spread.sum(axis=1, keepdims=True)).T.astype(mean_square.dtype)
    a, bark = jnp.asarray(tonality, mean_square.dtype)[..., None], np.arange(spec.bands) + 0.5
    offset_db = a * (14.5 + bark).astype(mean_square.dtype) + (1 - a) * 5.5
    masked = level_db_spl(jnp.matmul(mean_square, spread, precision=FULL), spec) - offset_db
    return floored(masked, spec.quiet_db_spl().astype(masked.dtype))


def masking_threshold_db_spl(audio: ArrayLike, spec: MaskingSpec) -> Array:
    """Return the simultaneous masking threshold [..., frame, band] of audio [..., time], in dB SPL per band.

    A sound added below it is predicted inaudible. Silence gives the threshold in quiet.
    """
    return threshold_of_bands_db_spl(bark_power(audio, spec), tonality(audio, spec), spec)


def temporal_masking_db_spl(threshold_db_spl: ArrayLike, spec: MaskingSpec, *, causal: bool = False) -> Array:
    """Let a threshold [..., frame, band] last: after a sound for ``forward_s``, before it for ``backward_s``.

    At a distance of dt > 1 ms between the middles of frames the masking above the threshold in quiet, in dB, is
    multiplied by log(T / dt) / log(T / 1 ms), T the duration: linear in log time and in the masker's level, the form
    that Jesteadt, Bacon and Lehman (1982) measured. Of all frames the strongest counts. ``causal`` leaves out backward
    masking, so that no frame's threshold depends on later frames (each still sees its own fft_samples).
    """
    threshold = at_least_float32(threshold_db_spl)
    quiet = spec.quiet_db_spl().astype(threshold.dtype)
    frames = threshold.shape[-2]
    after = _persistence(spec.forward_s, spec, frames)
    before = [] if causal else _persistence(spec.backward_s, spec, frames)
    around = [(0, 0)] * (threshold.ndim - 2) + [(len(after), len(before)), (0, 0)]
    above = jnp.pad(floored(threshold - quiet, 0), around)
    shares = [*reversed(after), 1.0, *before]  # of the masker len(after) frames ago, ..., now, ... len(before) ahead
    maskers = jnp.stack([share * above[..., i : i + frames, :] for i, share in enumerate(shares)])
    # By its place: the gradient of a maximum asks which values equal it, and where a compiler computes them twice, each
    # time rounded otherwise, none does and it is 0/0. NaN is said apart, because a compiled maximum can leave one out.
    loudest = jnp.take_along_axis(maskers, jnp.argmax(maskers, axis=0)[None], axis=0)[0]
    return jnp.where(jnp.isnan(maskers).any(axis=0), jnp.nan, loudest) + quiet


def masking_weights(threshold_db_spl: ArrayLike, spec: MaskingSpec) -> Array:
    """Turn a threshold [..., frame, band] into weights [..., frame, bin] for the |E|^2 of an error.

    E is ``stft(error, spec.stft)``. Over the bins of a band, the weighted powers add up to the noise-to-mask ratio;
    for a silent target the weights are the inverse of the threshold in quiet.
    """
    inverse = _inverse_threshold(at_least_float32(threshold_db_spl), spec)
    return jnp.matmul(inverse, _bin_to_band(spec).T.astype(inverse.dtype), precision=FULL)


def noise_to_mask_db(error: ArrayLike, threshold_db_spl: ArrayLike, spec: MaskingSpec) -> Array:
    """Return the noise-to-mask ratio [..., frame, band] in dB: the error's level [..., time] less the threshold.

    Above 0 dB the error is predicted audible in that band. Raises ValueError where frames or bands do not match.
    """
    noise, threshold = _same_frames(error, threshold_db_spl, spec)
    return level_db_spl(noise, spec) - threshold


def masked_distance(error: ArrayLike, threshold_db_spl: ArrayLike, spec: MaskingSpec) -> Array:
    """Return the mean over frames and bands of 10 log10(1 + noise / mask) of an error [..., time], [...].

    Well above the threshold it counts dB of audible noise; below, it fades to nothing in proportion to the power,
    and so does its gradient: a loss that spends nothing on what is not heard.
    """
    noise, threshold = _same_frames(error, threshold_db_spl, spec)
    return 10 / math.log(10) * jnp.log1p(noise * _inverse_threshold(threshold, spec)).mean(axis=(-2, -1))


def _same_frames(error: ArrayLike, threshold_db_spl: ArrayLike, spec: MaskingSpec) -> tuple[Array, Array]:
    """Return the error's band powers and the threshold, both [..., frame, band]."""
    noise, threshold = bark_power(error, spec), at_least_float32(threshold_db_spl)
    if noise.shape[-2:] != threshold.shape[-2:]:
        raise ValueError(
            f"the error has {noise.shape[-2:]} frames and bands and the threshold {threshold.shape[-2:]}; "
            "compute both from clips of one length with one spec"
        )
    return noise, threshold


def _inverse_threshold(threshold_db_spl: Array, spec: MaskingSpec) -> Array:
    """Return 1 over the mean square whose :func:`level_db_spl` is the threshold."""
    return 2 * 10 ** ((spec.full_scale_db_spl - threshold_db_spl) / 10)


@functools.lru_cache(maxsize=16)
def _bin_to_band(spec: MaskingSpec) -> np.ndarray:
    """Return what |X|^2 of each bin adds to the mean square of each band, [bin, band]: one bin, one band."""
    mirrored = 1 + (np.arange(spec.stft.bins) % (spec.fft_samples / 2) > 0)  # all but DC and Nyquist stand for two
    matrix = mirrored[:, None] / spec.fft_samples * (spec._bark_of_bin()[:, None] == np.arange(spec.bands))
    matrix.setflags(write=False)
    return matrix


def _persistence(duration_s: float, spec: MaskingSpec, frames: int) -> list[float]:
    """Return the share of the masking that is left 1, 2, ... frames away, as long as any is."""
    hop_s = spec.hop_samples / spec.rate_hz
    lags = range(1, min(frames, math.ceil(duration_s / hop_s)))
    return [min(1.0, math.log(duration_s / (lag * hop_s)) / math.log(duration_s / _HOLD_S)) for lag in lags]
