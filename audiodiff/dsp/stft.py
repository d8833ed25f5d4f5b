"""Transform audio to the short-time Fourier domain and back, in any of the published conventions.

X[m, k] = sum_n w[n] x[n + m H - P] exp(-2 pi i k n / N): N ``fft_samples``, H ``hop_samples``, w the window, P the
padding at the start. A :class:`StftSpec` names all of it; it is hashable, so it can be a static argument under jit.

The frames come from reshaped blocks (see :mod:`audiodiff.dsp.framing`) and the transform is an FFT. Written as a
product with the DFT matrix it would be the O(N^2) it looks like, also in practice: a log-mel of 16 clips of 4 s at
N = 1024 took 25 ms of CPU time with XLA's FFT and 210 ms with the product (two cores, jaxlib 0.10.2), and on a GPU
a float32 product would have to give up its tensor cores to keep its precision.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from audiodiff.dsp.choices import check_choice
from audiodiff.dsp.framing import fit_length, frame, overlap_add
from audiodiff.dsp.precision import at_least_float32
from audiodiff.dsp.windows import NOLA_TOLERANCE, nola, window
from audiodiff.types import Array

Padding = Literal["half_fft", "half_overlap", "none"]
PadMode = Literal["constant", "reflect"]
Scaling = Literal["none", "window_sum", "window_norm", "sqrt_fft"]


@dataclass(frozen=True)
class StftSpec:
    """Hold one convention of the short-time Fourier transform; frozen, hashable, plain values only.

    fft_samples     N, the length of a frame and of its DFT.
    hop_samples     H, the distance between frames.
    window_samples  Length of the window, zero-padded on both sides to N; 0 (the default) stands for N.
    window          A name in ``windows.WINDOWS``, in its periodic form.
    padding         What is added at *both* ends. ``half_fft``: N // 2, which centres frame m on sample m H (the
                    ``center=True`` of librosa and torch). ``half_overlap``: (N - H) // 2, which makes exactly
                    time / H frames where H divides time (HiFi-GAN). ``none``: nothing.
    pad_mode        With what: ``constant`` zeros, or ``reflect``, which needs a clip longer than the padding.
    pad_end         Whether zeros complete the last frame. Without them the samples past the last whole frame
                    are dropped, and :func:`istft` cannot return them.
    scaling         X is divided by: ``none`` 1, ``window_sum`` sum w (scipy's "spectrum": a sine of amplitude A
                    peaks at A / 2), ``window_norm`` sqrt(sum w^2) (torchaudio's ``normalized=True``),
                    ``sqrt_fft`` sqrt(N) (torch's ``normalized=True``).

    The defaults reconstruct a clip of any length exactly. Raises ValueError for impossible values.
    """

    fft_samples: int
    hop_samples: int
    window_samples: int = 0
    window: str = "hann"
    padding: Padding = "half_fft"
    pad_mode: PadMode = "constant"
    pad_end: bool = True
    scaling: Scaling = "none"

    def __post_init__(self) -> None:
        # One spelling per convention, so that equal conventions compare and hash equal.
        if self.window_samples == 0:
            object.__setattr__(self, "window_samples", self.fft_samples)
        for name in ("fft_samples", "hop_samples", "window_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.window_samples > self.fft_samples:
            raise ValueError(
                f"window_samples is {self.window_samples}, longer than fft_samples {self.fft_samples}; "
                "raise fft_samples, or set window_samples to 0 for a window as long as the FFT"
            )
        if self.padding == "half_overlap" and self.hop_samples > self.fft_samples:
            raise ValueError(
                f"hop_samples is {self.hop_samples}, above fft_samples {self.fft_samples}, so frames do not overlap; "
                "lower it, or choose another padding than 'half_overlap'"
            )
        window(self.window, self.window_samples)
        check_choice("padding", self.padding, get_args(Padding))
        check_choice("pad_mode", self.pad_mode, get_args(PadMode))
        check_choice("scaling", self.scaling, get_args(Scaling))

    @property
    def bins(self) -> int:
        """The number of frequency bins, N // 2 + 1."""
        return self.fft_samples // 2 + 1

    @property
    def pad_samples(self) -> int:
        """The padding P at each end of a clip."""
        return {
            "half_fft": self.fft_samples // 2,
            "half_overlap": (self.fft_samples - self.hop_samples) // 2,
            "none": 0,
        }[self.padding]


# The defaults of each library, sizes included. scipy places a short window at the start of the frame where the
# others centre it, so its preset is scipy's for window_samples == fft_samples only.
STFT_PRESETS: Mapping[str, StftSpec] = {
    "librosa": StftSpec(2048, 512, pad_end=False),
    "torch": StftSpec(1024, 256, window="rectangular", pad_mode="reflect", pad_end=False),
    "scipy": StftSpec(256, 128, scaling="window_sum"),
    "hifigan": StftSpec(1024, 256, padding="half_overlap", pad_mode="reflect", pad_end=False),
}
"""The conventions of ``librosa.stft``, ``torch.stft``, ``scipy.signal.stft`` and HiFi-GAN, by name."""


def with_sizes(spec: StftSpec, fft_samples: int, hop_samples: int, window_samples: int = 0) -> StftSpec:
    """Return the same convention at other sizes; window_samples 0 stands for fft_samples."""
    return dataclasses.replace(spec, fft_samples=fft_samples, hop_samples=hop_samples, window_samples=window_samples)


def frame_count(length_samples: int, spec: StftSpec) -> int:
    """Return the number of frames that :func:`stft` makes of a clip of length_samples.

    Raises ValueError where a clip is too short to make one.
    """
    beyond_first = length_samples + 2 * spec.pad_samples - spec.fft_samples
    if spec.pad_end:
        return 1 + max(0, -(-beyond_first // spec.hop_samples))
    if beyond_first < 0:
        raise ValueError(
            f"a clip of {length_samples} samples holds no frame of {spec.fft_samples} with "
            f"{2 * spec.pad_samples} samples of padding; pad it to at least "
            f"{spec.fft_samples - 2 * spec.pad_samples} samples, or set pad_end=True"
        )
    return 1 + beyond_first // spec.hop_samples


def stft(audio: ArrayLike, spec: StftSpec) -> Array:
    """Transform [..., time] to the complex half spectrum [..., frame, bin] of ``spec``.

    float64 gives complex128, anything narrower complex64. Raises ValueError where ``reflect`` padding or a single
    frame needs a longer clip than it is given.
    """
    audio = _pad(at_least_float32(audio), spec)
    frames = frame(audio, spec.fft_samples, spec.hop_samples)
    return jnp.fft.rfft(frames * _analysis_window(spec).astype(frames.dtype))


def istft(spectrum: ArrayLike, spec: StftSpec, length_samples: int) -> Array:
    """Return the audio [..., length_samples] whose STFT is nearest to ``spectrum`` [..., frame, bin].

    Least squares (Griffin and Lim, 1984, eq. 6): x[n] = sum_m w[n - m H] y_m[n - m H] / sum_m w[n - m H]^2, with
    y_m the inverse DFT of frame m. Exact on ``stft(x, spec)`` wherever enough frames cover a sample; with
    ``pad_end`` and padding at the ends that is everywhere, else the uncovered ends fade to zero instead of
    dividing by nearly nothing.

    Raises ValueError for a window and hop that leave gaps (:func:`audiodiff.dsp.windows.nola`), for a spectrum
    with another number of bins, and for one with fewer frames than length_samples needs.
    """
    spectrum = jnp.asarray(spectrum)
    frames, bins = spectrum.shape[-2:]
    if bins != spec.bins:
        raise ValueError(f"the spectrum has {bins} bins, and fft_samples {spec.fft_samples} makes {spec.bins}")
    if frames < frame_count(length_samples, spec):
        raise ValueError(
            f"length_samples {length_samples} needs {frame_count(length_samples, spec)} frames at hop "
            f"{spec.hop_samples}, and the spectrum has {frames}; ask for fewer samples or pass more frames"
        )
    _check_invertible(spec)
    w = _analysis_window(spec)
    y = jnp.fft.irfft(spectrum, n=spec.fft_samples)
    total = overlap_add(y * w.astype(y.dtype), spec.hop_samples)
    total = total * _inverse_envelope(spec, frames).astype(y.dtype)
    return fit_length(total[..., spec.pad_samples :], length_samples)


def power(spectrum: Array) -> Array:
    """Return |X|^2, the power of a complex spectrum, without the square root of ``abs``."""
    return jnp.square(spectrum.real) + jnp.square(spectrum.imag)


def magnitude(spectrum: Array, epsilon: float = 0.0) -> Array:
    """Return sqrt(|X|^2 + epsilon), with gradient 0 (not NaN) where that is sqrt(0), as in silence; NaN stays NaN."""
    squared = power(spectrum) + epsilon
    zero = squared <= 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squared)))


def _pad(audio: Array, spec: StftSpec) -> Array:
    """Pad [..., time] as ``spec`` says, complete to its last frame."""
    time, pad = audio.shape[-1], spec.pad_samples
    if spec.pad_mode == "reflect" and time <= pad:
        raise ValueError(
            f"a clip of {time} samples is too short for {pad} samples of reflect padding; pad it with silence to "
            f"at least {pad + 1} samples, or choose pad_mode='constant'"
        )
    frames = frame_count(time, spec)
    audio = jnp.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(pad, pad)], mode=spec.pad_mode)
    return fit_length(audio, spec.fft_samples + (frames - 1) * spec.hop_samples)


@functools.lru_cache(maxsize=64)
def _analysis_window(spec: StftSpec) -> np.ndarray:
    """Return the window of [fft_samples], centred and with the scaling of ``spec`` in it; float64."""
    w = window(spec.window, spec.window_samples)
    scale = {
        "none": 1.0,
        "window_sum": w.sum(),
        "window_norm": np.sqrt(np.square(w).sum()),
        "sqrt_fft": np.sqrt(spec.fft_samples),
    }[spec.scaling]
    left = (spec.fft_samples - spec.window_samples) // 2
    w = np.pad(w / scale, (left, spec.fft_samples - spec.window_samples - left))
    w.setflags(write=False)
    return w


def _check_invertible(spec: StftSpec) -> None:
    check = nola(_analysis_window(spec), spec.hop_samples)
    if not check:
        raise ValueError(
            f"istft cannot invert window {spec.window!r} of {spec.window_samples} samples at hop {spec.hop_samples}: "
            f"the overlapped squared window falls to {check.smallest / max(check.largest, 1e-300):.2g} of its largest "
            f"value, and {NOLA_TOLERANCE:g} is needed; lower hop_samples (half of window_samples suits every window)"
        )


@functools.lru_cache(maxsize=16)
def _inverse_envelope(spec: StftSpec, frames: int) -> np.ndarray:
    """Return 1 / sum_m w[n - m H]^2 over the whole overlap-add of ``frames`` frames; float64.

    At ends that hardly a frame covers, the sum is kept above what :func:`nola` tolerates: those samples fade out,
    where a plain division would turn the errors of a generated spectrogram into a click.
    """
    squared = np.square(_analysis_window(spec))
    hop, per_frame = spec.hop_samples, -(-spec.fft_samples // spec.hop_samples)
    blocks = np.pad(squared, (0, per_frame * hop - spec.fft_samples)).reshape(per_frame, hop)
    envelope = np.zeros((frames + per_frame - 1, hop))
    for i, block in enumerate(blocks):
        envelope[i : i + frames] += block
    least = NOLA_TOLERANCE * nola(_analysis_window(spec), hop).largest
    return 1 / np.maximum(envelope.reshape(-1)[: (frames - 1) * hop + spec.fft_samples], least)
