"""Hear where pieces of sound were joined: does the spectrum change more at the borders than between them?"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from audiodiff.dsp.windows import window
from audiodiff.metrics.intervals import Figure, bootstrap_interval_of_means

FLOOR_DB = -80.0
"""What is this far below the loudest bin of a clip counts as silence, which has no spectrum to change."""


class SeamFlux(NamedTuple):
    """Hold the mean flux in dB around each border, and between it and its neighbours: two arrays [border]."""

    near: np.ndarray
    interior: np.ndarray


def spectral_flux_db(audio: ArrayLike, frame_samples: int, hop_samples: int) -> np.ndarray:
    """Return the mean over bins of |L_{m+1} - L_m|, L the log-power spectrum of frame m in dB: [..., frame - 1].

    Frames of audio [..., time] are Hann's and not padded; entry m belongs to the middle between two frames, at sample
    (frame_samples + hop_samples) / 2 + m hop_samples. Power is at least FLOOR_DB below the largest of the clip's, and
    digital silence has a flux of 0. A clip that is not finite has NaN. Raises ValueError for fewer than two frames.
    """
    x = np.asarray(audio, np.float64)
    if frame_samples < 1 or hop_samples < 1 or x.shape[-1] < frame_samples + hop_samples:
        raise ValueError(
            f"a clip of {x.shape[-1]} samples has no two frames of {frame_samples} at a hop of {hop_samples}: "
            f"give at least {frame_samples + hop_samples}, and sizes of at least 1"
        )
    clips = x.reshape(-1, x.shape[-1])
    flux = [_flux_db(clip, frame_samples, hop_samples) for clip in clips]  # one at a time: spectra are large
    return np.stack(flux).reshape(*x.shape[:-1], -1)


def _flux_db(clip: np.ndarray, frame_samples: int, hop_samples: int) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(clip, frame_samples)[::hop_samples]
    if not np.isfinite(clip).all():
        return np.full(len(frames) - 1, np.nan)
    power = np.square(np.abs(np.fft.rfft(frames * window("hann", frame_samples))))
    least = max(power.max() * 10 ** (FLOOR_DB / 10), np.finfo(np.float64).tiny)
    return np.abs(np.diff(10 * np.log10(np.maximum(power, least)), axis=0)).mean(axis=-1)


def seam_flux(
    audio: ArrayLike,
    borders: ArrayLike,
    rate_hz: float,
    *,
    within_seconds: float = 0.01,
    frame_seconds: float = 0.016,
    hop_seconds: float = 0.004,
) -> SeamFlux:
    """Return the flux within ``within_seconds`` of each of ``borders`` and that of its surroundings, [clip * border].

    ``borders`` are the samples, the same in every clip of audio [clip, time], with which something new begins. The
    surroundings of a border reach halfway to its neighbours, or to the ends, but for what a frame that touches the
    border or a neighbour has heard. Raises ValueError for borders too near to each other or to an end, and for clips
    that are not finite.
    """
    x, places = np.atleast_2d(np.asarray(audio, np.float64)), np.sort(np.asarray(borders, np.float64).ravel())
    frame, hop = round(frame_seconds * rate_hz), max(round(hop_seconds * rate_hz), 1)
    flux = spectral_flux_db(x, frame, hop)
    if np.isnan(flux).any():
        raise ValueError(f"{np.isnan(flux).any(axis=1).sum()} of {len(x)} clips are not finite: leave them out")
    middle = (frame + hop) / 2 + hop * np.arange(flux.shape[1])
    reach = max(within_seconds * rate_hz, (frame + hop) / 2)
    between = np.concatenate([[0.0], (places[1:] + places[:-1]) / 2, [x.shape[1]]])
    near, interior = [], []
    for place, low, high in zip(places, between[:-1], between[1:], strict=True):
        apart = np.abs(middle - place)
        close, beyond = apart <= within_seconds * rate_hz, (apart > reach) & (middle > low) & (middle < high)
        if not close.any() or not beyond.any():
            raise ValueError(
                f"the border at sample {place:g} of {x.shape[1]} has no frames by it or none around: "
                f"keep borders {2 * (reach + hop):g} samples apart, and half of it from the ends"
            )
        near.append(flux[:, close].mean(axis=1))
        interior.append(flux[:, beyond].mean(axis=1))
    return SeamFlux(np.stack(near, axis=1).ravel(), np.stack(interior, axis=1).ravel())


def seam_figure(name: str, flux: SeamFlux, key: jax.Array, confidence: float = 0.95, note: str = "") -> Figure:
    """Return the mean flux at the borders over that around them, in %, with its bootstrap interval over borders.

    100 % is no seam. Undefined where nothing changes around the borders.
    """
    values = np.stack([flux.near, flux.interior], axis=1)
    if not len(values) or not values[:, 1].any():
        return Figure(name, np.nan, -np.inf, np.inf, len(values), "%", note)

    def ratio(means: np.ndarray) -> np.ndarray:
        return 100 * means[..., 0] / means[..., 1]

    low, high = bootstrap_interval_of_means(key, ratio, values, confidence)
    return Figure(name, float(ratio(values.mean(axis=0))), low, high, len(values), "%", note)
