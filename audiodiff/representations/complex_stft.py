"""Diffuse the complex short-time spectrum, real and imaginary part side by side, its magnitudes compressed."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff import dsp
from audiodiff.representations.spectral import Spectral, check_exponent, power_law
from audiodiff.types import Array


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["stft", "exponent", "channels"])
@dataclass(frozen=True)
class ComplexStft(Spectral):
    """Represent audio by Re and Im of X |X|^(exponent - 1), [batch, frame, bin, 2 channel], X its STFT.

    The planes are Re and Im of the first channel, then of the next. Exponent 0.5 halves the dynamic range in dB, so
    that white noise does not hide the weak bins long before the strong ones (Richter et al., 2023, "Speech enhancement
    and dereverberation with diffusion-based generative models", who also scale by a constant; here sigma_data is that
    scale). Frames overlap: there are 2 bins / hop_samples numbers a sample, about fft_samples / hop_samples, and most
    x are the STFT of no audio. Of those decode makes the audio whose STFT is nearest (:func:`audiodiff.dsp.istft`).

    The imaginary part at 0 Hz, and for an even fft_samples at half the rate, is 0 of any audio. It diffuses along,
    so that x stays one block, and decode ignores it.

    Raises ValueError for an exponent outside (0, 1], and for an STFT that does not reconstruct whole clips.
    """

    stft: dsp.StftSpec
    exponent: float = 0.5
    channels: int = 1

    def __post_init__(self) -> None:
        check_exponent(self.exponent)
        spec = self.stft
        if not spec.pad_end or spec.padding == "none":
            raise ValueError(
                f"an STFT with padding={spec.padding!r} and pad_end={spec.pad_end} loses the ends of a clip; "
                "set padding='half_fft' and pad_end=True"
            )
        if not dsp.nola(dsp.window(spec.window, spec.window_samples), spec.hop_samples):
            raise ValueError(
                f"window {spec.window!r} of {spec.window_samples} samples leaves gaps at hop {spec.hop_samples}; "
                "lower hop_samples (half of window_samples suits every window)"
            )

    def shape(self, batch: int, length_samples: int) -> tuple[int, ...]:
        """Return the shape of the array that diffuses, for clips of that length."""
        return batch, dsp.frame_count(length_samples, self.stft), self.stft.bins, 2 * self.channels

    def encode(self, audio: Array, key: Array | None = None) -> Array:
        """Return x, float32 or wider, with gradient 0 at empty bins; raise ValueError for other axes or channels."""
        spectrum = power_law(dsp.stft(self._channels_first(audio), self.stft), self.exponent)
        parts = jnp.stack([spectrum.real, spectrum.imag], axis=-1)
        return jnp.moveaxis(parts, 1, -2).reshape(*parts.shape[:1], *parts.shape[2:4], -1)

    def decode(self, x: Array, key: Array | None, length_samples: int) -> Array:
        """Return audio [batch, length_samples], with a channel axis where there are several channels.

        Raises ValueError where x is not of this representation, or of fewer frames than that needs.
        """
        planes = self._planes(x, length_samples)
        spectrum = jax.lax.complex(planes[:, ::2], planes[:, 1::2] * self._has_phase().astype(planes.dtype))
        audio = dsp.istft(power_law(spectrum, 1 / self.exponent), self.stft, length_samples)
        return self._channels_last(audio)

    def _has_phase(self) -> np.ndarray:
        """Return 0 at the bins [bin] that are real in the spectrum of any audio, and 1 at the others."""
        k = np.arange(self.stft.bins)
        return (2 * k % self.stft.fft_samples != 0).astype(float)
