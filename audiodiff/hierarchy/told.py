"""What a stage is told of a coarser level: an array made of the clip or of a stage before, and how noisy it may be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from audiodiff.diffusion.noise import standard_normal
from audiodiff.diffusion.processes import expand
from audiodiff.hierarchy.levels import PooledMel
from audiodiff.hierarchy.pyramid import Pyramid
from audiodiff.types import Array, Conditions, Representation

NOISE = "_noise"
"""Ends the name of the condition that says how noisy another is."""


@dataclass(frozen=True)
class Told:
    """Make of audio what a stage is told: the array of a coarser level, [batch, position, size], or [batch, size].

    It is the same array, whether a clip or a coarser stage made the audio. ``whole`` is for a level of one position
    that stands for the whole utterance.
    """

    level: Representation
    whole: bool = False

    def __call__(self, audio: Array) -> Array:
        """Return the array of audio [batch, time] (or [batch, time, channel])."""
        return self.of(self.level.encode(audio))

    def of(self, x: Array) -> Array:
        """Return the array of what the level's own stage has made."""
        return x.reshape(len(x), -1) if self.whole else x

    def shape(self, batch: int, length_samples: int) -> tuple[int, ...]:
        """Return the shape of the array of clips of that length."""
        shape = self.level.shape(batch, length_samples)
        return (batch, shape[1] * shape[2]) if self.whole else shape


def taken_off(representation: Representation) -> float:
    """Return the mean that training takes off a level of features, and that others are told with it."""
    return representation.mean if isinstance(representation, PooledMel) else 0.0


def is_own(told: Told, makers: Sequence[Representation]) -> bool:
    """Return whether what is told is the very array, its mean added, that one stage makes: there is no other maker."""
    bare = [dataclasses.replace(one, mean=0.0) if isinstance(one, PooledMel) else one for one in makers]
    return bare == [told.level]


@dataclass(frozen=True)
class Raise:
    """Bring the signal of a pyramid's level, [batch, position, channel], to the positions of a finer one."""

    pyramid: Pyramid
    level: int
    to: int

    def __call__(self, signal: Array) -> Array:
        return jnp.swapaxes(self.pyramid.expand(jnp.swapaxes(signal, 1, 2), self.level, self.to), 1, 2)


@dataclass(frozen=True)
class AddLevel:
    """Finish the audio of a stage that makes the details alone: add the level that it was told as ``name``."""

    name: str
    told: Told

    def __call__(self, audio: Array, conditions: Conditions) -> Array:
        """Return the audio of both, by the raw conditions that it was made under."""
        return audio + self.told.level.decode(conditions[self.name], None, audio.shape[1])


@dataclass(frozen=True)
class ConditionNoise:
    """Hide a condition c under noise of a known strength s, so that a stage does not trust what a coarser one makes.

    c' = m + (c - m + s d eps) / sqrt(1 + s^2), of the mean m and the standard deviation d of c: the conditioning
    augmentation of Ho et al. 2022 ("Cascaded diffusion models"), with a strength that the network hears as a number.
    In training s is uniform up to ``largest``.
    """

    name: str
    mean: float
    std: float
    largest: float

    def __post_init__(self) -> None:
        if self.largest <= 0:
            raise ValueError(
                f"the noise of condition {self.name!r} is at most {self.largest}: give more than 0, or none"
            )

    @property
    def strength(self) -> str:
        """The name of the condition that tells s."""
        return self.name + NOISE

    def draw(self, keys: Array) -> Array:
        """Draw a strength [batch] from keys [batch]."""
        uniform: Callable[[Array], Array] = jax.vmap(jax.random.uniform)
        return self.largest * uniform(keys)

    def __call__(self, keys: Array, value: Array, strength: Array) -> Array:
        """Return c' of a condition [batch, ...] at strengths [batch]; with strength 0 it is c."""
        eps = standard_normal(keys, value.shape, value.dtype)
        hidden = value - self.mean + expand(strength, value) * self.std * eps
        return self.mean + hidden / jnp.sqrt(1 + jnp.square(expand(strength, value)))
