"""Split audio into bands at their own rates, and samples into periods, so that nothing is lost or added.

With M coefficients a hop, an orthonormal lapped transform (:func:`~audiodiff.dsp.mdct.circular_mdct`) of the clip is
cut into B bands of M / B coefficients each, and each band goes back to time by the inverse of that size::

    y_b = imdct_{M/B}(X[:, b M/B : (b + 1) M/B]),      b = 0 .. B - 1,  each at 1/B of the rate

This is a paraunitary, critically sampled filter bank of B bands whose filters are 2 M samples long (Malvar 1992,
"Signal Processing with Lapped Transforms"): energies add, synthesis is the transpose of analysis, and the lowest band
is the clip at a lower rate, as AAC's decoders make it. Because the window of the small transform is the large one seen
at the lower rate, its aliases in time cancel as well.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax.typing import ArrayLike

from audiodiff.dsp.framing import fit_length
from audiodiff.dsp.mdct import MdctSpec, circular_imdct, circular_mdct
from audiodiff.dsp.precision import at_least_float32
from audiodiff.types import Array


def check_bands(bands: int, spec: MdctSpec) -> None:
    """Raise ValueError where the coefficients of a frame cannot be shared out among so many bands."""
    if bands < 1 or spec.bins % bands:
        raise ValueError(
            f"{bands} bands cannot share the {spec.bins} coefficients of a frame: give one of its divisors"
        )


def split_bands(audio: ArrayLike, bands: int, spec: MdctSpec) -> Array:
    """Split [..., time] into bands [..., band, ceil(time / M) M / bands], the lowest first; M = spec.bins.

    Zeros complete a clip of any length to whole hops. The energy of the bands is that of the clip, and each has its
    own, so that a band of white noise is white noise of the same standard deviation. Raises ValueError where M is no
    multiple of ``bands``.
    """
    check_bands(bands, spec)
    audio = at_least_float32(audio)
    coefficients = circular_mdct(fit_length(audio, padded_samples(audio.shape[-1], spec)), spec)
    by_band = coefficients.reshape(*coefficients.shape[:-1], bands, spec.bins // bands)
    return circular_imdct(jnp.moveaxis(by_band, -2, -3), _smaller(spec, bands))


def join_bands(split: ArrayLike, bands: int, spec: MdctSpec, length_samples: int) -> Array:
    """Return the audio [..., length_samples] of its lowest bands [..., band, time]: :func:`split_bands` undone.

    Bands that are left out, the highest of ``bands``, are silent. So ``join_bands(split_bands(x)[..., :1, :])`` is the
    orthogonal projection of x on its lowest band, and splitting that gives the band again. Raises ValueError for more
    bands than there are, or of another length than such a clip has.
    """
    check_bands(bands, spec)
    split = at_least_float32(split)
    given, time = split.shape[-2:]
    expected = padded_samples(length_samples, spec) // bands
    if given > bands or time != expected:
        raise ValueError(
            f"the bands have the shape {split.shape}, and a clip of {length_samples} samples has [..., {bands}, "
            f"{expected}] with frame_samples {spec.frame_samples}: give its lowest ones, with the length they came from"
        )
    by_band = jnp.moveaxis(circular_mdct(split, _smaller(spec, bands)), -3, -2)
    coefficients = by_band.reshape(*by_band.shape[:-2], given * by_band.shape[-1])
    return circular_imdct(fit_length(coefficients, spec.bins), spec)[..., :length_samples]


def padded_samples(length_samples: int, spec: MdctSpec) -> int:
    """Return the length of a clip completed to whole hops, at least one."""
    return max(1, -(-length_samples // spec.bins)) * spec.bins


def fold_period(audio: ArrayLike, period: int) -> Array:
    """Fold [..., time] into rows of one period each, [..., ceil(time / period), period], the last completed by zeros.

    Samples a period apart lie in a column: the view of a multi-period discriminator (Kong et al. 2020, HiFi-GAN).
    """
    _check_period(period)
    audio = jnp.asarray(audio)
    rows = -(-audio.shape[-1] // period)
    return fit_length(audio, rows * period).reshape(*audio.shape[:-1], rows, period)


def unfold_period(folded: ArrayLike, length_samples: int) -> Array:
    """Return the audio [..., length_samples] of its rows: :func:`fold_period` undone exactly."""
    folded = jnp.asarray(folded)
    return folded.reshape(*folded.shape[:-2], -1)[..., :length_samples]


def _check_period(period: int) -> None:
    if period < 1:
        raise ValueError(f"period is {period} samples; give at least 1")


def _smaller(spec: MdctSpec, bands: int) -> MdctSpec:
    """Return the transform of one band: the same window at its rate."""
    return dataclasses.replace(spec, frame_samples=spec.frame_samples // bands)
