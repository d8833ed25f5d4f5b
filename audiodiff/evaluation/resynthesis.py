"""Send real clips through a representation and back: what they lose there, no model in it can give."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff.types import Array, Representation

BATCH = 60
LOSSLESS = 1e-3
"""An error of this share of the peak, -60 dB, is no loss that a judge could hear."""


def resynthesis(
    representation: Representation, channels: int, sample: np.ndarray
) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return the map of mono clips [clip, time] through a representation and back, or None where nothing is lost.

    Whether anything is, is measured on ``sample`` [clip, time]: an error above LOSSLESS times the peak. Where there are
    several channels the clip is sent through each of them, and mixed down again.
    """

    def through(clips: np.ndarray) -> np.ndarray:
        parts = np.split(clips, range(BATCH, len(clips), BATCH))
        return np.concatenate([np.asarray(_through(representation, jnp.asarray(part), channels)) for part in parts])

    lost = np.abs(through(sample) - sample).max()
    return through if lost > LOSSLESS * np.abs(sample).max() else None


@functools.partial(jax.jit, static_argnames="channels")
def _through(representation: Representation, clips: Array, channels: int) -> Array:
    heard = clips if channels == 1 else jnp.repeat(clips[..., None], channels, axis=-1)
    audio = representation.decode(representation.encode(heard), None, clips.shape[1])
    return audio if channels == 1 else audio.mean(axis=-1)
