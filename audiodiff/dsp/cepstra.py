"""Compute cepstra: the cosine transform of a log spectrum, which packs its envelope into the first few numbers."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from audiodiff.dsp.precision import FULL, at_least_float32
from audiodiff.types import Array


def dct(x: ArrayLike) -> Array:
    """Return the orthonormal DCT-II of the last axis: c[k] = s_k sum_n x[n] cos(pi k (2 n + 1) / (2 N)).

    s_0 = sqrt(1/N), s_k = sqrt(2/N). The transform keeps lengths and angles, and :func:`idct` inverts it. It is
    a matrix product, since N is a number of mel bands here.
    """
    x = at_least_float32(x)
    return jnp.matmul(x, _dct_matrix(x.shape[-1]).T.astype(x.dtype), precision=FULL)


def idct(coefficients: ArrayLike) -> Array:
    """Return the inverse of :func:`dct`, the orthonormal DCT-III of the last axis."""
    c = at_least_float32(coefficients)
    return jnp.matmul(c, _dct_matrix(c.shape[-1]).astype(c.dtype), precision=FULL)


def mfcc(log_mel: ArrayLike, coefficients: int = 20, lifter: float = 0.0) -> Array:
    """Return mel-frequency cepstral coefficients [..., frame, coefficient] of a log-mel [..., frame, band].

    The first ``coefficients`` of the orthonormal DCT-II, weighted by :func:`lifter_weights`. c_0, the level, is
    the first of them. On the ``librosa`` preset's log-mel this is librosa.feature.mfcc.
    """
    log_mel = at_least_float32(log_mel)
    bands = log_mel.shape[-1]
    if not 1 <= coefficients <= bands:
        raise ValueError(f"coefficients is {coefficients}; it must be from 1 to the {bands} bands of the log-mel")
    matrix = lifter_weights(coefficients, lifter)[:, None] * _dct_matrix(bands)[:coefficients]
    return jnp.matmul(log_mel, matrix.T.astype(log_mel.dtype), precision=FULL)


def lifter_weights(coefficients: int, lifter: float) -> np.ndarray:
    """Return 1 + (L / 2) sin(pi n / L) for n = 1 .. coefficients, float64; ones for L = 0.

    The sine raises the small higher coefficients to the size of the others. librosa counts n from 1, as here;
    HTK, which keeps c_0 apart, gives its c_n the weight that stands here at n.
    """
    if lifter < 0:
        raise ValueError(f"lifter is {lifter}; it must be above 0, or 0 for none")
    n = np.arange(1, coefficients + 1)
    return np.ones(coefficients) if lifter == 0 else 1 + lifter / 2 * np.sin(np.pi * n / lifter)


@functools.lru_cache(maxsize=16)
def _dct_matrix(length: int) -> np.ndarray:
    k, n = np.arange(length)[:, None], np.arange(length)
    matrix = np.sqrt(2 / length) * np.cos(np.pi * k * (2 * n + 1) / (2 * length))
    matrix[0] /= np.sqrt(2)
    matrix.setflags(write=False)
    return matrix
