"""Cut a log-mel so that its frames stand in a fixed place over the samples, whatever the length."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from audiodiff import dsp
from audiodiff.types import Array, Conditions

MEL = "mel"
"""The name of the condition that a vocoder is told."""


@dataclass(frozen=True)
class MatchMel:
    """Finish a vocoder's audio [batch, time]: bring it nearer to the mel that it was told (:func:`dsp.match_mel`)."""

    mel: dsp.MelSpec
    iterations: int = 4

    def __call__(self, audio: Array, conditions: Conditions) -> Array:
        """Return the audio after so many iterations, by the raw conditions that it was made under."""
        wanted = conditions[MEL]
        missing = dsp.frame_count(audio.shape[-1], self.mel.stft) - wanted.shape[1]
        return dsp.match_mel(
            audio, jnp.pad(wanted, ((0, 0), (0, max(missing, 0)), (0, 0)), mode="edge"), self.mel, self.iterations
        )


@dataclass(frozen=True)
class MelFrames:
    """Make the condition of a vocoder of audio: its log-mel, one frame for every hop of samples.

    Networks spread F frames evenly over the samples. Of a clip of F hops a centred STFT (``padding="half_fft"``) makes
    F + 1, which would stand elsewhere in every length of clip; without the last each stands half a hop early, always.
    """

    mel: dsp.MelSpec

    @property
    def hop_samples(self) -> int:
        return self.mel.stft.hop_samples

    def count(self, length_samples: int) -> int:
        """Return how many frames clips of that length have: their hops, the last one begun."""
        return -(-length_samples // self.hop_samples)

    def __call__(self, audio: Array) -> Array:
        """Return the log-mel [batch, frame, band] of audio [batch, time], or of the mean of [batch, time, channel]."""
        mono = audio if audio.ndim == 2 else audio.mean(axis=-1)
        frames = self.count(mono.shape[1])
        padded = dsp.fit_length(mono, frames * self.hop_samples)
        return self.fit(dsp.log_mel(padded, self.mel), mono.shape[1])

    def fit(self, log_mel: Array, length_samples: int) -> Array:
        """Return the frames of a log-mel [batch, frame, band] that stand over length_samples.

        An STFT without padding lacks some at the end: up to a window's worth is made up by the last. Raises ValueError
        for a log-mel of other bands, without frames, or that covers less.
        """
        if log_mel.ndim != 3 or log_mel.shape[-1] != self.mel.bands or not log_mel.shape[1]:
            raise ValueError(
                f"the log-mel has the shape {log_mel.shape}: give [batch, frame, {self.mel.bands}], one frame or more"
            )
        frames = self.count(length_samples)
        missing = frames - log_mel.shape[1]
        tail = -(-self.mel.stft.fft_samples // self.hop_samples) if self.mel.stft.padding == "none" else 0
        if missing > tail:
            raise ValueError(
                f"{log_mel.shape[1]} frames of {self.hop_samples} samples do not cover {length_samples} samples: "
                f"give {frames} frames, or ask for at most {log_mel.shape[1] * self.hop_samples} samples"
            )
        return jnp.pad(log_mel, ((0, 0), (0, max(missing, 0)), (0, 0)), mode="edge")[:, :frames]
