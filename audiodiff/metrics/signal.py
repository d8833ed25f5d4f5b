"""Compare an estimate with its target sample by sample or cepstrum by cepstrum: SNR, SI-SDR, mel-cepstral distortion.

On the last axis, [..., time] -> [...], in dB and float64. What cannot be measured is NaN: a clip with a NaN in it,
and by default a silent target; ``silence="raise"`` makes an error of the latter. Different lengths are refused, and
clips without samples; no function knows the rate of a clip, which both must share.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from audiodiff import dsp
from audiodiff.dsp.alignment import dtw, euclidean_costs
from audiodiff.dsp.choices import check_choice

Silence = Literal["nan", "raise"]

MCD_DB = 10 * math.sqrt(2) / math.log(10)
"""The decibels of one unit of mel-cepstral distance, 10 sqrt(2) / ln 10 = 6.14."""

# A constant clip without its mean is nothing but rounding, of this part of its peak or less.
_ROUNDING = 1e-13


def snr(estimate: ArrayLike, target: ArrayLike, silence: Silence = "nan") -> np.ndarray:
    """Return 10 log10 (sum s^2 / sum (s - x)^2) in dB for estimate x and target s; +inf where they are equal.

    A silent estimate has 0 dB: it misses as much as there is.
    """
    x, s = _pair(estimate, target)
    missing = _silent(s, silence)
    return np.where(missing, np.nan, _ratio_db(_energy(s), _energy(s - x)))


def segmental_snr(
    estimate: ArrayLike,
    target: ArrayLike,
    frame_samples: int,
    hop_samples: int | None = None,
    limits_db: tuple[float, float] = (-10.0, 35.0),
    silence: Silence = "nan",
) -> np.ndarray:
    """Return the mean over frames of the SNR in dB, that of each frame clipped to ``limits_db`` (Hansen, Pellom 1998).

    Frames are usually 20 to 30 ms and side by side (``hop_samples`` None). A frame whose target is digital silence
    says nothing and is left out; samples past the last whole frame are dropped. Raises ValueError for a clip shorter
    than a frame and for limits that do not rise.
    """
    x, s = _pair(estimate, target)
    if not limits_db[0] < limits_db[1]:
        raise ValueError(f"limits_db is {limits_db}; its first value must be below its second")
    hop = frame_samples if hop_samples is None else hop_samples
    if frame_samples < 1 or hop < 1 or s.shape[-1] < frame_samples:
        raise ValueError(
            f"a clip of {s.shape[-1]} samples holds no frame of {frame_samples} at a hop of {hop}; "
            "give sizes of at least 1 and clips of at least one frame"
        )
    x, s = (np.lib.stride_tricks.sliding_window_view(a, frame_samples, axis=-1)[..., ::hop, :] for a in (x, s))
    active = _energy(s) != 0
    missing = _apply_silence(~active.any(axis=-1), silence)
    frames_db = np.clip(_ratio_db(_energy(s), _energy(s - x)), *limits_db)
    mean = np.where(active, frames_db, 0).sum(axis=-1) / np.maximum(active.sum(axis=-1), 1)
    return np.where(missing, np.nan, mean)


def si_sdr(estimate: ArrayLike, target: ArrayLike, zero_mean: bool = True, silence: Silence = "nan") -> np.ndarray:
    """Return the scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019).

    10 log10 (sum (a s)^2 / sum (a s - x)^2) with a = <x, s> / <s, s>. The paper takes the mean out of both first;
    ``zero_mean=False`` does not, as torchmetrics by default. Neither gain nor sign of the estimate matters. +inf for
    a multiple of the target (or hundreds of dB, by rounding), -inf for an estimate without any of it, NaN for a
    silent estimate, whose scale is nothing. With ``zero_mean`` a constant clip is silent.
    """
    x, s = _pair(estimate, target)
    if zero_mean:
        x, s = (_without_mean(a) for a in (x, s))
    missing = _silent(s, silence)
    energy = np.where(missing, 1.0, _energy(s))
    scaled = ((x * s).sum(axis=-1) / energy)[..., None] * s
    return np.where(missing, np.nan, _ratio_db(_energy(scaled), _energy(scaled - x)))


def mel_cepstra(audio: ArrayLike, spec: dsp.MelSpec, order: int = 24) -> np.ndarray:
    """Return mel-cepstra c_0 .. c_order [..., frame, order + 1] of the ln mel magnitudes of audio [..., time].

    ln H[b] = c_0 + sum_d c_d cos(pi d (2 b + 1) / (2 B)) over the B bands, the one-sided series in which SPTK writes
    its mel-cepstra and for which the constant of :func:`cepstral_distortion` gives decibels. An orthonormal MFCC is
    sqrt(B / 2) times as large for d > 0. Of ``spec`` the rate, STFT, filters and floor are used; power 2 is halved.
    A frame with a sample that is not finite is NaN. Raises ValueError for an order that is not below the number of
    bands, and for a clip shorter than the window, whose cepstra would be those of its ends.
    """
    if not 1 <= order < spec.bands:
        raise ValueError(f"order is {order}; it must be from 1 to {spec.bands - 1}, one less than the mel bands")
    plain = dataclasses.replace(spec, log="ln", reference_db=0.0, top_db=None, unit_range=None)
    audio = np.asarray(audio)
    if audio.shape[-1:] < (spec.stft.window_samples,):
        raise ValueError(
            f"a clip of shape {audio.shape} is shorter than the window of {spec.stft.window_samples} samples and has "
            "no cepstrum; give longer clips, or a spec with a shorter window"
        )
    mfcc = dsp.mfcc(dsp.log_mel(audio, plain), order + 1)
    cepstra = np.asarray(mfcc, np.float64) * math.sqrt(2 / spec.bands) / spec.power
    cepstra[..., 0] /= math.sqrt(2)
    return cepstra


def cepstral_distortion(estimate: ArrayLike, target: ArrayLike) -> np.ndarray:
    """Return the mel-cepstral distortion in dB of cepstra [..., frame, coefficient], frame by frame (Kubichek, 1993).

    mean_m (10 / ln 10) sqrt(2 sum_{d >= 1} (c_d - c'_d)^2). The first coefficient is taken to be c_0, the level, and
    left out. NaN where another is not finite. Raises ValueError for unequal or empty shapes, and for a level alone.
    """
    x, s = _cepstra(estimate, target)
    if s.shape[-1] < 2:
        raise ValueError(f"cepstra of shape {s.shape} are levels alone; give at least 2 coefficients, c_0 and a shape")
    return MCD_DB * np.linalg.norm((x - s)[..., 1:], axis=-1).mean(axis=-1)


def aligned_cepstral_distortion(estimate: ArrayLike, target: ArrayLike, penalise_length: bool = False) -> float:
    """Return the mel-cepstral distortion in dB of cepstra [n, coefficient] and [m, coefficient] along their DTW path.

    The path is the cheapest in Euclidean distance without c_0, and the mean runs over its steps, so clips that differ
    by repeated frames alone are at 0. ``penalise_length`` multiplies by max(n, m) / min(n, m), so that another pace
    costs something wherever the clips differ at all (MCD-DTW-SL; Chen et al., 2022). NaN where a cepstrum is not
    finite. Raises ValueError for other than two axes, no frames, and a level alone.
    """
    x, s = np.asarray(estimate, np.float64), np.asarray(target, np.float64)
    costs = euclidean_costs(x[..., 1:], s[..., 1:])
    if not np.isfinite(costs).all():
        return math.nan
    path, cost = dtw(costs)
    penalty = max(costs.shape) / min(costs.shape) if penalise_length else 1.0
    return penalty * MCD_DB * cost / len(path)


def mel_cepstral_distortion(
    estimate: ArrayLike,
    target: ArrayLike,
    spec: dsp.MelSpec,
    order: int = 24,
    aligned: bool = False,
    silence: Silence = "nan",
    penalise_length: bool = False,
) -> np.ndarray:
    """Return the mel-cepstral distortion in dB of audio [..., time], by :func:`mel_cepstra`.

    Frame by frame, or with ``aligned`` along the path of dynamic time warping, for which the lengths may differ and
    ``penalise_length`` is that of :func:`aligned_cepstral_distortion` (cut padding off before: it counts). With
    order = bands - 1 it is the root-mean-square distance of two log-mels in dB, their mean levels taken out: a gain
    changes nothing (above the floor). Silence on either side has a flat cepstrum that could be compared with; it is
    undefined here all the same.
    """
    x, s = _pair(estimate, target, equal_lengths=not aligned)
    missing = _silent(s, silence) | (x == 0).all(axis=-1)
    if not aligned:
        return np.where(missing, np.nan, cepstral_distortion(*(mel_cepstra(a, spec, order) for a in (x, s))))
    x, s = (mel_cepstra(a, spec, order) for a in (x, s))
    return np.array(
        [
            math.nan if missing[clip] else aligned_cepstral_distortion(x[clip], s[clip], penalise_length)
            for clip in np.ndindex(missing.shape)
        ]
    ).reshape(missing.shape)


def squared_mfcc_distance(estimate: ArrayLike, target: ArrayLike) -> np.ndarray:
    """Return mean_m |MFCC_m - MFCC'_m|^2 of coefficients [..., frame, coefficient], every one of them included.

    Often written where mel-cepstral distortion is meant, which it is not: it has c_0, no root and no decibels. NaN
    where one is not finite.
    """
    x, s = _cepstra(estimate, target)
    return np.square(x - s).sum(axis=-1).mean(axis=-1)


def _pair(estimate: ArrayLike, target: ArrayLike, equal_lengths: bool = True) -> tuple[np.ndarray, np.ndarray]:
    x, s = np.asarray(estimate, np.float64), np.asarray(target, np.float64)
    for name, clip in (("estimate", x), ("target", s)):
        if clip.ndim == 0 or clip.shape[-1] == 0:
            raise ValueError(f"the {name} of shape {clip.shape} holds no samples; give [..., time] of at least 1")
    if x.shape[:-1] != s.shape[:-1] or (equal_lengths and x.shape != s.shape):
        raise ValueError(
            f"an estimate of shape {x.shape} cannot be compared with a target of shape {s.shape}; "
            "crop or pad both to one length, and align them, before"
        )
    # One bad sample makes a whole clip NaN, also where it lies in a frame that is left out.
    x, s = (np.where(np.isfinite(clip).all(axis=-1, keepdims=True), clip, np.nan) for clip in (x, s))
    return x, s


def _cepstra(estimate: ArrayLike, target: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, s = np.asarray(estimate, np.float64), np.asarray(target, np.float64)
    if x.shape != s.shape or s.ndim < 2 or s.size == 0:
        raise ValueError(
            f"cepstra of shapes {x.shape} and {s.shape} cannot be compared frame by frame; "
            "give equal [..., frame, coefficient], or align them (aligned_cepstral_distortion)"
        )
    return np.where(np.isfinite(x), x, np.nan), np.where(np.isfinite(s), s, np.nan)


def _energy(x: np.ndarray) -> np.ndarray:
    return np.square(x).sum(axis=-1)


def _without_mean(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    peak = np.abs(x).max(axis=-1, keepdims=True)
    return np.where(np.abs(centred).max(axis=-1, keepdims=True) <= _ROUNDING * peak, 0, centred)


def _silent(target: np.ndarray, silence: Silence) -> np.ndarray:
    """Return which clips [...] are digital silence, or raise at the first."""
    return _apply_silence((target == 0).all(axis=-1), silence)


def _apply_silence(missing: np.ndarray, silence: Silence) -> np.ndarray:
    check_choice("silence", silence, get_args(Silence))
    if silence == "raise" and np.any(missing):
        raise ValueError(
            f"{np.sum(missing)} of {np.size(missing)} targets are silent and have nothing to be compared with; leave "
            "them out, or pass silence='nan' to get NaN for them"
        )
    return np.asarray(missing)


def _ratio_db(signal: np.ndarray, error: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return 10 * np.log10(signal / error)
