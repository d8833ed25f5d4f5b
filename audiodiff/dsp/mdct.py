"""Transform audio to as many real coefficients as it has samples, and back: the modified discrete cosine transform.

With M = ``bins`` coefficients per hop of M samples and frames of N = 2 M::

    X[m, k] = sqrt(2 / M) sum_{n < 2M} w[n] x[n + (m - 1) M] cos(pi / M (n + 1/2 + M/2) (k + 1/2))

(Princen, Johnson and Bradley, 1987). Each frame alone is aliased in time, and overlap-add cancels the alias (TDAC)
where w[n]^2 + w[n + M]^2 = 1 and w is symmetric. Then the transform is orthonormal.

One complex FFT of M points makes a frame.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from audiodiff.dsp.choices import check_choice
from audiodiff.dsp.framing import fit_length, frame, overlap_add
from audiodiff.dsp.precision import at_least_float32
from audiodiff.types import Array

# The largest deviation from w[n]^2 + w[n + M]^2 = 1: well above the rounding of float64, well below that of float32.
PRINCEN_BRADLEY_TOLERANCE = 1e-10


def sine_window(frame_samples: int) -> np.ndarray:
    """Return sin(pi (n + 1/2) / N): the best coding gain for tones that stand apart (MP3, and AAC by choice)."""
    return np.sin(np.pi * (np.arange(frame_samples) + 0.5) / frame_samples)


def vorbis_window(frame_samples: int) -> np.ndarray:
    """Return sin(pi/2 sin^2(pi (n + 1/2) / N)), the window of Vorbis I: between the sine and KBD."""
    return np.sin(np.pi / 2 * np.square(sine_window(frame_samples)))


def kbd_window(frame_samples: int, alpha: float = 4.0) -> np.ndarray:
    """Return the Kaiser-Bessel-derived window: roots of the running sum of a Kaiser window with beta = pi alpha.

    w[n]^2 = sum_{j <= n} v[j] / sum_j v[j] for n < N / 2, mirrored; v has N / 2 + 1 values. AAC takes alpha 4 for
    long frames: a wider main lobe than the sine's, and far lower side lobes.
    """
    rising = np.cumsum(np.kaiser(frame_samples // 2 + 1, np.pi * alpha))
    half = np.sqrt(rising[:-1] / rising[-1])
    return np.concatenate([half, half[::-1]])


MDCT_WINDOWS: Mapping[str, Callable[[int], np.ndarray]] = {
    "sine": sine_window,
    "kbd": kbd_window,
    "vorbis": vorbis_window,
}


@dataclass(frozen=True)
class MdctSpec:
    """Hold one modified discrete cosine transform; frozen, hashable, plain values only.

    frame_samples  N, even; the hop and the number of bins are N / 2.
    window         A name in ``MDCT_WINDOWS``, or the N values themselves, such as ``tuple(kbd_window(N, 6))``.

    Raises ValueError for an odd frame, and for values that are not symmetric or break w[n]^2 + w[n + N/2]^2 = 1.
    """

    frame_samples: int
    window: str | tuple[float, ...] = "sine"

    def __post_init__(self) -> None:
        if self.frame_samples < 2 or self.frame_samples % 2:
            raise ValueError(f"frame_samples is {self.frame_samples}; it must be even and at least 2, such as 512")
        if isinstance(self.window, str):
            check_choice("window", self.window, MDCT_WINDOWS)
        else:  # a list after JSON
            object.__setattr__(self, "window", tuple(map(float, self.window)))
        w = _window(self)
        if w.shape != (self.frame_samples,):
            raise ValueError(f"window has {w.size} values and frame_samples is {self.frame_samples}; give as many")
        halves = w[: self.bins], w[self.bins :]
        for what, error in (
            ("w[n]^2 + w[n + N/2]^2 from 1", np.abs(np.square(halves[0]) + np.square(halves[1]) - 1).max()),
            ("w[n] from w[N - 1 - n]", np.abs(w - w[::-1]).max()),
        ):
            if not error <= PRINCEN_BRADLEY_TOLERANCE:
                raise ValueError(
                    f"window cannot cancel its aliases: {what} differs by up to {error:.2g}, and at most "
                    f"{PRINCEN_BRADLEY_TOLERANCE:g} is allowed (Princen-Bradley); take one of {', '.join(MDCT_WINDOWS)}"
                )

    @property
    def bins(self) -> int:
        """The number of coefficients of a frame, and the hop, N / 2."""
        return self.frame_samples // 2


def mdct_frame_count(length_samples: int, spec: MdctSpec) -> int:
    """Return the number of frames that :func:`mdct` makes of length_samples: one per hop begun, and one more.

    So a clip of B whole hops has B + 1 frames: (B + 1) M coefficients for B M samples, a hop more than critical.
    """
    return 1 + -(-length_samples // spec.bins)


def mdct(audio: ArrayLike, spec: MdctSpec) -> Array:
    """Transform [..., time] of any length to real coefficients [..., frame, bin] of the same energy.

    Zeros complete the clip to whole hops and stand a hop before and behind it, so that two windows see each sample.
    float64 gives float64, anything narrower float32.
    """
    audio = at_least_float32(audio)
    frames, hop = mdct_frame_count(audio.shape[-1], spec), spec.bins
    audio = jnp.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(hop, 0)])
    windowed = frame(fit_length(audio, (frames + 1) * hop), spec.frame_samples, hop)
    return _transform(windowed * _window(spec).astype(audio.dtype))


def imdct(coefficients: ArrayLike, spec: MdctSpec, length_samples: int) -> Array:
    """Return the audio [..., length_samples] of coefficients [..., frame, bin]: the transpose of :func:`mdct`.

    It inverts ``mdct(x, spec)`` exactly, and of any other coefficients gives the audio whose MDCT is nearest. Raises
    ValueError for another number of bins than ``spec`` has, or of frames than length_samples makes.
    """
    coefficients = at_least_float32(coefficients)
    expected = (mdct_frame_count(length_samples, spec), spec.bins)
    if coefficients.shape[-2:] != expected:
        raise ValueError(
            f"the coefficients have the shape {coefficients.shape}, and length_samples {length_samples} makes "
            f"[..., {expected[0]}, {expected[1]}] with frame_samples {spec.frame_samples}; give the spec and the "
            "length that they were made with"
        )
    frames = _transpose(coefficients) * _window(spec).astype(coefficients.dtype)
    return overlap_add(frames, spec.bins)[..., spec.bins : spec.bins + length_samples]


def circular_mdct(audio: ArrayLike, spec: MdctSpec) -> Array:
    """Transform a circle of samples [..., time] to exactly as many coefficients [..., frame, bin].

    The last frame goes on at the first sample, so B whole hops have B frames, and the transform is a square orthonormal
    matrix: whatever is multiplied onto the coefficients can be divided out again, sample by sample. Raises ValueError
    for a time that is no whole number of hops.
    """
    audio = at_least_float32(audio)
    hop = spec.bins
    if audio.shape[-1] % hop or not audio.shape[-1]:
        raise ValueError(f"a circle of {audio.shape[-1]} samples is not of whole hops of {hop}: pad it to a multiple")
    return mdct(jnp.concatenate([audio, audio[..., :hop]], axis=-1), spec)[..., 1:-1, :]


def circular_imdct(coefficients: ArrayLike, spec: MdctSpec) -> Array:
    """Return the circle of samples [..., frame * bin] of coefficients [..., frame, bin]: :func:`circular_mdct` undone.

    Raises ValueError for another number of bins than ``spec`` has.
    """
    coefficients = at_least_float32(coefficients)
    samples = coefficients.shape[-2] * spec.bins
    padded = jnp.pad(coefficients, [(0, 0)] * (coefficients.ndim - 2) + [(1, 1), (0, 0)])
    opened = imdct(padded, spec, samples + spec.bins)
    return jnp.concatenate(
        [opened[..., : spec.bins] + opened[..., samples:], opened[..., spec.bins : samples]], axis=-1
    )


@functools.lru_cache(maxsize=64)
def _window(spec: MdctSpec) -> np.ndarray:
    w = MDCT_WINDOWS[spec.window](spec.frame_samples) if isinstance(spec.window, str) else np.asarray(spec.window)
    w.setflags(write=False)
    return w


def _transform(frames: Array) -> Array:
    """Take windowed frames z [..., 2 M] to their coefficients [..., M].

    With n0 = (M + 1) / 2, the cosine at 2 M - 1 - k is (-1)^(M + 1) times that at k, so the even k below 2 M
    suffice, and for those z[n] and z[n + M] differ by a factor of -i::

        X[2 j] = sqrt(2 / M) Re(e^{-i pi n0 (2 j + 1/2) / M} FFT_j((z[n] - i z[n + M]) e^{-i pi n / (2 M)}))
    """
    bins = frames.shape[-1] // 2
    before, after = _twiddles(bins, frames.dtype)
    paired = jax.lax.complex(frames[..., :bins], -frames[..., bins:])
    even = (jnp.fft.fft(paired * before) * after).real
    low, high = even[..., : -(-bins // 2)], (-1) ** (bins + 1) * even[..., -(-bins // 2) :]
    interleaved = jnp.stack([low, fit_length(high[..., ::-1], low.shape[-1])], axis=-1)
    return interleaved.reshape(*even.shape[:-1], -1)[..., :bins]


def _transpose(coefficients: Array) -> Array:
    """Take coefficients [..., M] to aliased frames [..., 2 M]: the steps of :func:`_transform` backwards."""
    bins = coefficients.shape[-1]
    before, after = _twiddles(bins, coefficients.dtype)
    low, high = coefficients[..., ::2], (-1) ** (bins + 1) * coefficients[..., 1::2][..., ::-1]
    even = jnp.concatenate([low, high], axis=-1)
    paired = bins * jnp.fft.ifft(even * after.conj()) * before.conj()
    return jnp.concatenate([paired.real, -paired.imag], axis=-1)


def _twiddles(bins: int, dtype: jnp.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return the factors before and after the FFT, the second with the scale sqrt(2 / M), in the dtype's complex."""
    n, kind = np.arange(bins), np.result_type(dtype, np.complex64)
    before = np.exp(-0.5j * np.pi * n / bins)
    after = np.sqrt(2 / bins) * np.exp(-0.5j * np.pi * (bins + 1) / bins * (2 * n + 0.5))
    return before.astype(kind), after.astype(kind)
