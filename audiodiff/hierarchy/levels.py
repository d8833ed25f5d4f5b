"""Levels as representations: what a stage of a hierarchy diffuses, and what the next is told of it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from audiodiff import dsp
from audiodiff.hierarchy.pyramid import Pyramid
from audiodiff.representations.waveform import Waveform
from audiodiff.types import Array


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=[], meta_fields=["pyramid", "level", "bands", "waveform"]
)
@dataclass(frozen=True)
class PyramidLevel:
    """Represent audio by one level of a :class:`Pyramid` of its waveform, [batch, position, channel].

    Without ``bands`` x is the whole signal S of the level. With them it is those of the level's bands, at the rate of
    the level below and side by side as channels: band 0 is the level below itself, all others are what it lacks.
    ``decode`` gives audio at the full rate that holds this part alone; parts of one clip add up to it, as everything
    here is linear. ``waveform`` is the filter before (:class:`Waveform`).

    Raises ValueError for bands that the level does not have.
    """

    pyramid: Pyramid
    level: int
    bands: tuple[int, ...] = ()
    waveform: Waveform = field(default_factory=Waveform)

    def __post_init__(self) -> None:
        self.pyramid.divisor(self.level)
        if self.bands and self.level < 1:
            raise ValueError(f"level 0 is the coarsest and has no bands, and bands is {self.bands}: give none")
        if self.bands and set(self.bands) - set(range(self._factor)) or len(set(self.bands)) < len(self.bands):
            raise ValueError(
                f"bands is {self.bands}: give each of 0 to {self._factor - 1} once at most, or none for all"
            )

    @property
    def rate_level(self) -> int:
        """The level whose rate x has."""
        return self.level - 1 if self.bands else self.level

    @property
    def is_detail(self) -> bool:
        """Whether x is all that the level below lacks, and nothing else."""
        return set(self.bands) == set(range(1, self._factor))

    @property
    def all_bands(self) -> tuple[int, ...]:
        """All bands that the level has, of which the lowest is the level below; (0,) of the coarsest."""
        return tuple(range(self._factor)) if self.level else (0,)

    @property
    def signal(self) -> PyramidLevel:
        """The whole level."""
        return PyramidLevel(self.pyramid, self.level, (), self.waveform)

    @property
    def _factor(self) -> int:
        return self.pyramid.factors[self.level - 1]

    def shape(self, batch: int, length_samples: int) -> tuple[int, ...]:
        """Return the shape of x for clips of that length."""
        positions = self.pyramid.positions(self.rate_level, length_samples)
        return batch, positions, max(1, len(self.bands)) * self.waveform.channels

    def encode(self, audio: Array, key: Array | None = None) -> Array:
        """Return x, float32 or wider; raise ValueError for other axes or channels."""
        samples = jnp.swapaxes(self.waveform.encode(audio), 1, 2)
        if not self.bands:
            return jnp.swapaxes(self.pyramid.reduce(samples, self.level), 1, 2)
        split = self.pyramid.split(samples, self.level)[..., jnp.array(self.bands), :]
        return jnp.swapaxes(split.reshape(len(split), -1, split.shape[-1]), 1, 2)

    def decode(self, x: Array, key: Array | None, length_samples: int) -> Array:
        """Return audio [batch, length_samples], with a channel axis where there are several channels.

        Raises ValueError where x has another number of positions than such clips have.
        """
        if x.shape != (shape := self.shape(len(x), length_samples)):
            raise ValueError(f"x has the shape {x.shape}, and {length_samples} samples have {shape}: give as many")
        signal = jnp.swapaxes(x, 1, 2)
        if self.bands:
            given = signal.reshape(len(x), self.waveform.channels, len(self.bands), -1)
            empty = jnp.zeros((*given.shape[:2], self._factor, given.shape[-1]), given.dtype)
            samples = self.pyramid.join(empty.at[..., jnp.array(self.bands), :].set(given), self.level)
        else:
            samples = self.pyramid.expand(signal, self.level)
        # The filter before was of the clip as long as it is, and so is its inverse.
        return self.waveform.decode(jnp.swapaxes(samples[..., :length_samples], 1, 2), key, length_samples)


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["mel", "pool_frames", "mean"])
@dataclass(frozen=True)
class PooledMel:
    """Represent audio [batch, time] by its log-mel averaged over time less ``mean``, [batch, frame, band]: features.

    ``pool_frames`` frames make one, so that frames of 16 ms become units, phrases or, with 0, the utterance. There is
    no way back to audio: it is what a finer stage is told.
    """

    mel: dsp.MelSpec
    pool_frames: int = 1
    mean: float = 0.0

    def __post_init__(self) -> None:
        if self.pool_frames < 0:
            raise ValueError(f"pool_frames is {self.pool_frames}: give how many frames make one, or 0 for all")

    def shape(self, batch: int, length_samples: int) -> tuple[int, ...]:
        """Return the shape of x for clips of that length."""
        hops = -(-length_samples // self.mel.stft.hop_samples)
        return batch, -(-hops // self.pool_frames) if self.pool_frames else 1, self.mel.bands

    def encode(self, audio: Array, key: Array | None = None) -> Array:
        """Return x: of the hops of a clip, one frame each (see :class:`~audiodiff.vocoders.MelFrames`), the means."""
        length = audio.shape[1]
        hops = -(-length // self.mel.stft.hop_samples)
        frames = dsp.log_mel(dsp.fit_length(audio, hops * self.mel.stft.hop_samples), self.mel)[:, :hops]
        pool = self.pool_frames or hops
        count = self.shape(len(audio), length)[1]
        padded = jnp.pad(frames, ((0, 0), (0, count * pool - hops), (0, 0)), mode="edge")
        return padded.reshape(len(audio), count, pool, self.mel.bands).mean(axis=2) - self.mean

    def decode(self, x: Array, key: Array | None, length_samples: int) -> Array:
        """Raise ValueError: there is no way back."""
        raise ValueError("pooled log-mels have no way back to audio: give them to a finer stage, which is told them")
