"""Name the axes, the arrays and the five protocols that the whole project is made of.

Axis legend, used in every docstring::

    batch     examples                              frame     STFT frames
    time      samples, or positions of a network    bin       frequency bins or mel bands
    channel   features; audio channels              token     entries of a sequence condition

``dsp`` acts on the last axis, ``[..., time]``. Models see real arrays with the channel last,
``[batch, time, channel]`` or ``[batch, frame, bin, channel]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax

Array = jax.Array
PyTree = Any
Conditions = Mapping[str, Array]
"""A flat dict of condition arrays, each with the batch on its first axis."""


class Level(NamedTuple):
    """Hold the noise level of x_t = alpha x_0 + sigma eps: two arrays of shape [batch]."""

    alpha: Array
    sigma: Array


class Context(NamedTuple):
    """Hold what an Objective may know beside parameters and batch.

    ``key`` is the step's key, the same on every device; per-example keys are derived from it with
    :func:`audiodiff.prng.per_example` and the batch's ``draw``. ``ema`` and ``frozen`` are pytrees or None.
    """

    key: Array
    step: Array
    ema: PyTree = None
    frozen: PyTree = None


class Representation(Protocol):
    """Map audio [batch, time] or [batch, time, channel] to the array that diffuses, and back.

    ``shape`` is that of ``encode`` for ``batch`` clips of length_samples: what a sampler draws its first noise in. Axis
    1 is time, in samples or frames; a longer clip has as many positions or more.
    """

    def shape(self, batch: int, length_samples: int) -> tuple[int, ...]: ...

    def encode(self, audio: Array, key: Array | None = None) -> Array: ...

    def decode(self, x: Array, key: Array | None, length_samples: int) -> Array: ...


class Process(Protocol):
    """Define x_t = alpha(t) x_0 + sigma(t) eps for t in [0, 1], 0 = data and 1 = noise."""

    def alpha(self, t: Array) -> Array: ...

    def sigma(self, t: Array) -> Array: ...

    def corrupt(self, key: Array, x0: Array, t: Array) -> tuple[Array, Array]: ...


class Network(Protocol):
    """A Flax module: conditions are encoded once per sample, the call returns an array of the shape of x."""

    def encode(self, conditions: Conditions, present: Conditions | None = None) -> dict[str, Array]: ...

    def __call__(self, x: Array, noise_condition: Array, conditions: Conditions) -> Array: ...


class Denoiser(Protocol):
    """Estimate x_0 from x_t at a level: E[x_0 | x_t]. Everything in sampling is a function of one of these."""

    def __call__(self, x_t: Array, level: Level, conditions: Conditions) -> Array: ...


class Objective(Protocol):
    """Say what is minimised: parameters from a key, and a loss per example with its measurements."""

    def init(self, key: Array, batch: Mapping[str, Array]) -> PyTree: ...

    def __call__(
        self, params: PyTree, context: Context, batch: Mapping[str, Array]
    ) -> tuple[Array, dict[str, Array]]: ...
