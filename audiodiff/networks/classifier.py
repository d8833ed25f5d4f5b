"""Classify log-mel spectrograms: the judge of generated speech, and the source of features for distances."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from audiodiff.networks.layers import Conv1d, Dense, Downsample, RMSNorm, zero_init
from audiodiff.networks.receptive_field import ConvShape, receptive_field
from audiodiff.types import Array


class LogMelClassifier(nn.Module):
    """Classify x [batch, frame, bin] -> ({head: logits [batch, classes]}, features [batch, features]).

    Bins are the channels of a residual convolution network over frames: one block per width, time halved between.
    Frames are pooled by their mean and by learned attention into one feature vector, from which every head is a
    linear map. Normalisation is per position, so clips of any length and padding pass alike. The input should be
    standardised to about zero mean and unit variance. About 0.2M parameters with 64 bins.
    """

    heads: tuple[tuple[str, int], ...]
    widths: tuple[int, ...] = (48, 80, 112)
    features: int = 128
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> tuple[dict[str, Array], Array]:
        h = Conv1d(self.widths[0], 3, dtype=self.dtype, name="stem")(x)
        for index, width in enumerate(self.widths):
            if index:
                h = Downsample(width, 2, dtype=self.dtype, name=f"down_{index}")(h)
            y = jax.nn.silu(RMSNorm(dtype=self.dtype, name=f"norm_{index}_0")(h))
            y = Conv1d(width, 3, dtype=self.dtype, name=f"conv_{index}_0")(y)
            y = jax.nn.silu(RMSNorm(dtype=self.dtype, name=f"norm_{index}_1")(y))
            h = h + Conv1d(width, 3, dtype=self.dtype, kernel_init=zero_init, name=f"conv_{index}_1")(y)
        h = RMSNorm(dtype=self.dtype, name="norm")(h).astype(jnp.float32)
        weights = jax.nn.softmax(Dense(1, kernel_init=zero_init, name="attention")(h), axis=1)
        pooled = jnp.concatenate([jnp.mean(h, axis=1), jnp.sum(weights * h, axis=1)], axis=-1)
        features = jax.nn.silu(Dense(self.features, name="features")(pooled))
        return {name: Dense(classes, name=f"head_{name}")(features) for name, classes in self.heads}, features

    def receptive_field(self) -> int:
        """Return the number of frames that one pooled position depends on."""
        block = [ConvShape(3), ConvShape(3)]
        later = [ConvShape(4, stride=2), *block] * (len(self.widths) - 1)
        return receptive_field([ConvShape(3), *block, *later])
