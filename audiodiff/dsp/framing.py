"""Cut audio into overlapping frames and add frames up again.

Both directions view audio as blocks of one hop: frame m is blocks m, m+1, ... side by side. Reshapes, slices and
sums are all it takes, so that the gradient of one is the other and no gather (or, backwards, no scatter with its
atomic additions and run-to-run noise on a GPU) is ever made.
"""

from __future__ import annotations

import jax.numpy as jnp

from audiodiff.types import Array


def fit_length(audio: Array, length_samples: int) -> Array:
    """Crop [..., time] at its end, or pad it there with zeros, to length_samples."""
    time = audio.shape[-1]
    if time >= length_samples:
        return audio[..., :length_samples]
    return jnp.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(0, length_samples - time)])


def frame(audio: Array, frame_samples: int, hop_samples: int) -> Array:
    """Cut [..., time] into the 1 + (time - frame_samples) // hop_samples whole frames, [..., frame, frame_samples].

    Raises ValueError for a clip shorter than one frame, a hop below 1, or a frame below 1 sample.
    """
    _check_sizes(frame_samples, hop_samples)
    time = audio.shape[-1]
    if time < frame_samples:
        raise ValueError(
            f"a clip of {time} samples holds no frame of {frame_samples}; pad it to at least {frame_samples} samples"
        )
    frames = 1 + (time - frame_samples) // hop_samples
    blocks_per_frame = -(-frame_samples // hop_samples)
    blocks = frames + blocks_per_frame - 1
    hops = fit_length(audio, blocks * hop_samples).reshape(*audio.shape[:-1], blocks, hop_samples)
    shifted = jnp.stack([hops[..., i : i + frames, :] for i in range(blocks_per_frame)], axis=-2)
    return shifted.reshape(*audio.shape[:-1], frames, blocks_per_frame * hop_samples)[..., :frame_samples]


def overlap_add(frames: Array, hop_samples: int) -> Array:
    """Add up frames [..., frame, frame_samples] placed hop_samples apart: the transpose of :func:`frame`.

    Returns [..., (frame - 1) * hop_samples + frame_samples].
    """
    count, frame_samples = frames.shape[-2:]
    _check_sizes(frame_samples, hop_samples)
    blocks_per_frame = -(-frame_samples // hop_samples)
    lead = [(0, 0)] * (frames.ndim - 2)
    hops = fit_length(frames, blocks_per_frame * hop_samples).reshape(*frames.shape[:-1], blocks_per_frame, hop_samples)
    placed = [jnp.pad(hops[..., i, :], [*lead, (i, blocks_per_frame - 1 - i), (0, 0)]) for i in range(blocks_per_frame)]
    total = sum(placed[1:], start=placed[0])
    return total.reshape(*frames.shape[:-2], -1)[..., : (count - 1) * hop_samples + frame_samples]


def _check_sizes(frame_samples: int, hop_samples: int) -> None:
    for name, value in (("frame_samples", frame_samples), ("hop_samples", hop_samples)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
