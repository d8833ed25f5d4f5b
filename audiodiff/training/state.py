"""Hold all that training carries from one step to the next, and the moving averages of the parameters."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from audiodiff.training.once import once
from audiodiff.types import Array, PyTree

Decay = Callable[[Array], Array]
"""The share beta(n) of the old average that update number n = 0, 1, ... keeps."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["step", "params", "ema", "opt_state", "skipped", "skipped_in_a_row"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Hold the state before step number ``step``: steps taken, of which ``skipped`` changed no parameter.

    There is no key in it: the key of a step is a function of (seed, step). ``ema`` maps a name to an average of
    the parameters; ``step``, ``skipped`` and ``skipped_in_a_row`` are int32 scalars.
    """

    step: Array
    params: PyTree
    ema: dict[str, PyTree]
    opt_state: PyTree
    skipped: Array
    skipped_in_a_row: Array

    @property
    def updates(self) -> Array:
        """Return how many updates were made, the number that schedules and averages count in."""
        return self.step - self.skipped


def init_state(params: PyTree, transform: optax.GradientTransformation, ema: Mapping[str, Decay]) -> TrainState:
    """Return the state before the first step; every average starts as a copy of the parameters."""
    zero = jnp.zeros((), jnp.int32)
    # Each copy is its own buffer: a buffer that appears twice in the state could not be donated.
    copies = {name: jax.tree.map(lambda p: jnp.array(p, copy=True), params) for name in sorted(ema)}
    own = jax.tree.map(lambda p: jnp.array(p, copy=True), params)
    return TrainState(zero, own, copies, transform.init(params), zero + 0, zero + 0)


def constant_decay(decay: float) -> Decay:
    """Return beta(n) = min(decay, (1 + n) / (10 + n)): an exponential average that forgets its start early.

    The ramp is the usual one (TensorFlow's ``ExponentialMovingAverage``): without it the random first
    parameters would weigh decay^n after n updates.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"ema decay={decay} must lie in [0, 1)")
    return lambda n: jnp.minimum(decay, (1.0 + n) / (10.0 + n)).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class PowerDecay:
    """Give beta(n) = (1 - 1 / (n + 1))^(gamma + 1), the power-function average of EDM2 (arXiv:2312.02696, eq. 8).

    Its weights grow as t^gamma, so its length is a fixed share of the training so far; ``relative_length`` is the
    paper's sigma_rel in (0, 0.28), 0.05 to 0.15 in practice. beta(0) = 0: the first parameters weigh nothing.
    """

    relative_length: float

    def __post_init__(self) -> None:
        power_exponent(self.relative_length)  # raises where there is none

    def __call__(self, n: Array) -> Array:
        exponent = power_exponent(self.relative_length) + 1.0
        # In float32 1 - 1/(n + 1) has lost a sixteenth of the profile after 4 million updates, log1p a sixtieth.
        return jnp.exp(exponent * jnp.log1p(-1.0 / (n + 1.0))).astype(jnp.float32)


def power_exponent(relative_length: float) -> float:
    """Return gamma with sigma_rel = sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2) (EDM2, eq. 123 and algorithm 2)."""
    limit = 1 / math.sqrt(12)  # gamma = 0, the uniform average
    if not 0 < relative_length <= limit:
        raise ValueError(f"ema relative length={relative_length} must lie in (0, {limit:.4f}], the uniform average's")
    t = relative_length**-2
    return float(np.roots([1.0, 7.0, 16.0 - t, 12.0 - t]).real.max())


def update_ema(
    ema: dict[str, PyTree], params: PyTree, updates: Array, decays: Mapping[str, Decay]
) -> dict[str, PyTree]:
    """Return beta(n) ema + (1 - beta(n)) params for every named average, n = ``updates`` made before this one."""

    def mix(beta: Array, old: Array, new: Array) -> Array:
        return old + ((1.0 - beta) * (new - old)).astype(old.dtype)

    return {
        name: jax.tree.map(functools.partial(mix, once(decays[name](updates.astype(jnp.float32)))), old, params)
        for name, old in ema.items()
    }
