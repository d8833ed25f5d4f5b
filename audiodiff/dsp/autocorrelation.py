"""Find the period of audio from its autocorrelation, freed of the window's own."""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import ArrayLike

from audiodiff.dsp.pitch import centred_frames, lag_range, neighbours, vertex
from audiodiff.dsp.precision import as_audio, at_least_float32, floored, limited
from audiodiff.dsp.stft import power
from audiodiff.dsp.windows import hann
from audiodiff.types import Array

# The autocorrelation is read at quarters of a sample. Where a voice has harmonics up to the Nyquist frequency its peaks
# are two samples wide: read at whole samples or halves, one between samples loses to a later one that is not, one
# or two octaves below. At quarters 23 such voices of 81 to 399 Hz were all found, to 0.12 cents.
_FINE = 4
# Peaks below this amplitude (-180 dB), or this share of the clip's largest sample, are the rounding of a silence.
_SILENCE, _ROUNDING = 1e-9, 1e-5


def normalised_autocorrelation(frames: ArrayLike, lags: int) -> Array:
    """Return r_x(tau) of frames [..., samples] at tau = 0, 1/4, .. up to lags - 1: [..., 4 (lags - 1) + 1].

    r_x(tau) = r_a(tau) / r_w(tau), each 1 at tau = 0: the autocorrelation of the frame without its mean and under a
    Hann window, over that of the window (Boersma, 1993). A sine that fills the frame has cos(2 pi f tau)
    at every lag, where r_a alone falls with tau and makes every later period look weaker. Between samples it is
    sin(x) / x interpolated, exactly, by the longer inverse FFT of the power spectrum. 0 for a constant frame, and NaN
    for one with a sample that is not finite.

    Raises ValueError where lags is beyond half the frame: there r_w is below 0.17 and would magnify what is left.
    """
    x = at_least_float32(frames)
    samples = x.shape[-1]
    if not 1 <= lags <= samples // 2:
        raise ValueError(f"lags is {lags}; it must be in 1 .. {samples // 2}, half of a frame of {samples} samples")
    w = hann(samples)
    x = (x - x.mean(axis=-1, keepdims=True)) * w.astype(x.dtype)
    fft_samples = 1 << (samples + lags - 1).bit_length()

    def fine(spectrum: Array) -> Array:
        return jnp.fft.irfft(power(spectrum), _FINE * fft_samples)[..., : _FINE * (lags - 1) + 1]

    of_frame = fine(jnp.fft.rfft(x, fft_samples))
    of_window = fine(jnp.fft.rfft(jnp.asarray(w, x.dtype), fft_samples))
    total = of_frame[..., :1]
    silent = total <= _SILENCE**2  # false for a NaN
    return jnp.where(silent, 0, of_frame / jnp.where(silent, 1, total)) * (of_window[0] / of_window)


def autocorrelation_pitch(
    audio: ArrayLike,
    rate_hz: float,
    fmin_hz: float,
    fmax_hz: float,
    frame_samples: int,
    hop_samples: int,
    voicing_threshold: float = 0.45,
    silence_threshold: float = 0.03,
    octave_cost: float = 0.01,
) -> tuple[Array, Array]:
    """Estimate F0 by the autocorrelation of Boersma (1993): returns f0_hz [..., frame], periodicity [..., frame].

    Of all maxima r of r_x (:func:`normalised_autocorrelation`) between the two ends, and of "unvoiced", the
    strongest is taken, frame by frame:

        voiced    r(tau) - octave_cost log2(fmin_hz tau)
        unvoiced  voicing_threshold + max(0, 2 - (peak / clip peak) (1 + voicing_threshold) / silence_threshold)

    peak is the largest sample of the frame, clip peak that of the clip, both without the clip's mean. The octave
    cost makes the period win over its multiples, which fit a periodic frame as well. The defaults are those of
    Praat's "To Pitch (ac)"; there a path over frames follows, for which see :func:`audiodiff.dsp.pyin.pyin`.

    f0_hz is NaN where a frame is unvoiced. The periodicity is r of the best maximum whether or not it wins, in
    [0, 1] and 0 where there is none: the share of the power that repeats; its harmonics-to-noise ratio is
    10 log10(r / (1 - r)) dB. Frame m is centred on sample m hop_samples (zeros beyond the ends), so there
    are 1 + time // hop_samples. A sample that is not finite makes both NaN in all frames of its clip, which share a
    mean and a peak; an unvoiced frame has a periodicity.

    Raises ValueError where 0 < fmin_hz < fmax_hz <= rate_hz / 4 fails, a frame is shorter than three periods of
    fmin_hz (a Hann window shows no fewer), silence_threshold is not above 0, or a clip has no samples.
    """
    shortest, longest = lag_range(rate_hz, fmin_hz, fmax_hz)
    if frame_samples < 3 * longest:
        raise ValueError(
            f"frame_samples is {frame_samples}, shorter than three periods of fmin_hz {fmin_hz}; "
            f"take at least {3 * longest}, or raise fmin_hz"
        )
    if not silence_threshold > 0:
        raise ValueError(
            f"silence_threshold is {silence_threshold}; it must be above 0: the share of the clip's peak "
            "below which a frame is taken as silent, such as 0.03"
        )
    x = as_audio(audio)
    largest = jnp.abs(x).max(axis=-1, keepdims=True)
    mean = x.mean(axis=-1, keepdims=True)
    x = x - mean
    clip_peak = jnp.maximum(jnp.abs(x).max(axis=-1, keepdims=True), _ROUNDING * largest + _SILENCE)
    frames = centred_frames(x, frame_samples, hop_samples)
    peak = jnp.abs(frames).max(axis=-1)

    # One sample and one quarter beyond either end, so that a maximum at an end has its neighbours.
    r = normalised_autocorrelation(frames, longest + 2)[..., _FINE * shortest - 1 : _FINE * longest + 2]
    left, middle, right = neighbours(r)
    side, above = vertex(-r)
    lag = (_FINE * shortest + jnp.arange(middle.shape[-1]) + side) / _FINE
    height = jnp.where((middle > left) & (middle >= right) & (middle > 0), limited(middle + above, 0, 1), -jnp.inf)
    voiced = height - octave_cost * jnp.log2(lag * (fmin_hz / rate_hz))
    best = jnp.argmax(voiced, axis=-1)[..., None]

    def at_best(values: Array) -> Array:
        return jnp.take_along_axis(values, best, axis=-1)[..., 0]

    quiet = 2 - peak / clip_peak * ((1 + voicing_threshold) / silence_threshold)
    unvoiced = voicing_threshold + jnp.maximum(quiet, 0)
    periodicity = jnp.where(jnp.isfinite(mean), floored(at_best(height), 0), jnp.nan)
    return jnp.where(at_best(voiced) > unvoiced, rate_hz / at_best(lag), jnp.nan), periodicity
