"""Write the training step once, for the global batch; `parallel` compiles it for any layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from audiodiff.training.once import once
from audiodiff.training.optimisers import Optimiser
from audiodiff.training.state import Decay, TrainState, update_ema
from audiodiff.types import Array, Context, Objective, PyTree

Batch = Mapping[str, Array]
Measurements = dict[str, Array]
Step = Callable[..., tuple[TrainState, Measurements]]

OWN_MEASUREMENTS = (
    "loss",
    "gradient_norm",
    "update_norm",
    "learning_rate",
    "bad_examples",
    "skipped",
    "skipped_in_a_row",
)
"""The trainer's own measurements; an Objective must choose other names."""


class Constants(NamedTuple):
    """Hold the arrays a step reads and never changes: arguments of the compiled step, never captured by it.

    ``key`` is that of the stream "train"; the step folds its number in. ``objective`` is a pytree and callable.
    """

    objective: Any
    key: Array
    frozen: PyTree = None


def as_pytree(objective: Objective) -> Any:
    """Return the objective as an argument of a compiled function: its arrays are leaves, the rest is static.

    An objective that is not a registered pytree is static as a whole and must not hold arrays.
    """
    if not jax.tree_util.all_leaves([objective]):
        return objective
    try:
        hash(objective)
    except TypeError as error:
        kind = type(objective).__name__
        raise TypeError(
            f"{kind} cannot be hashed ({error}): make it a frozen dataclass or a registered pytree"
        ) from error
    return jax.tree_util.Partial(objective)


class Average(NamedTuple):
    """Hold a weighted sum and the sum of its weights, both of which add over devices and microbatches."""

    total: Array
    weight: Array

    def mean(self) -> Array:
        return self.total / self.weight


def weighted_average(values: Array, weight: Array) -> Average:
    """Average the finite entries of ``values`` [batch]; the others are "not defined for this example"."""
    known = jnp.isfinite(values) & (weight > 0)
    values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    return Average(jnp.sum(jnp.where(known, values * weight, 0)), jnp.sum(jnp.where(known, weight, 0)))


def measure(objective: Callable, params: PyTree, context: Context, batch: Batch) -> tuple[Average, dict[str, Average]]:
    """Return the loss and each measurement of the batch as sums: they are divided once the parts are added up.

    A non-finite loss of an example that counts is kept: it reaches the gradient norm, and the update is skipped.
    """
    weight = batch["weight"]
    losses, values = objective(params, context, zero_where_bad(batch))
    for name, value in {"its loss": losses, **values}.items():
        if value.shape != weight.shape:
            raise ValueError(
                f"the objective returned {name!r} of shape {value.shape}: return one number per example, {weight.shape}"
            )
    if clash := sorted(set(values) & set(OWN_MEASUREMENTS)):
        raise ValueError(f"the objective measures {clash[0]!r}, a name of the trainer's own: rename it")
    losses = losses.astype(jnp.promote_types(losses.dtype, jnp.float32))
    weight = weight.astype(losses.dtype)
    loss = Average(jnp.sum(jnp.where(weight > 0, losses * weight, 0)), jnp.sum(weight))
    return loss, {name: weighted_average(value, weight) for name, value in values.items()}


def zero_where_bad(batch: Batch) -> dict[str, Array]:
    """Replace by zeros what examples of weight 0 hold: a NaN in it would reach the gradient through any weight."""

    def zero(x: Array) -> Array:
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return x
        return jnp.where(jnp.reshape(batch["weight"] == 0, (-1, *[1] * (x.ndim - 1))), 0, x)

    return {name: zero(x) for name, x in batch.items()}


def make_step(
    optimiser: Optimiser,
    *,
    ema: Mapping[str, Decay] | None = None,
    microbatches: int = 1,
    max_skipped_in_a_row: int | None = None,
    gather: Callable[[PyTree], PyTree] = lambda params: params,
) -> Step:
    """Return ``step(state, batch, constants, axis_name=None) -> (state, measurements)``.

    With w the examples' weights, l their losses and g = grad_params::

        key  = fold_in(stream(seed, "train"), step)
        loss = sum_i w_i l_i / sum_i w_i                       over the global batch
        params, ema, opt_state <- update(g loss)               unless |g loss| is not finite: then skipped, counted

    ``axis_name`` names the axis of a ``pmap``; its only use is one psum of losses, weights and gradients. Every
    measurement is a scalar: the objective's are means over the finite entries, by weight. A batch whose
    weights are all 0 has no loss; its update is skipped too. ``microbatches`` parts of the batch are taken one after
    another and summed before the one division, which equals the whole batch but for rounding. ``gather`` is the
    layout's: it makes parameters whole that lie in parts. After ``max_skipped_in_a_row`` updates nothing changes any
    more: the loop, which learns of it a step late, finds the state as the last of them did.
    """
    decays = dict(ema or {})

    def step(
        state: TrainState, batch: Batch, constants: Constants, axis_name: str | None = None
    ) -> tuple[TrainState, Measurements]:
        context = Context(jax.random.fold_in(constants.key, state.step), state.step, state.ema, constants.frozen)

        def summed_loss(params: PyTree, part: Batch) -> tuple[Array, Any]:
            loss, measured = measure(constants.objective, gather(params), context, part)
            return loss.total, (loss, measured, jnp.sum(part["weight"] == 0))

        def gradients_of(part: Batch) -> Any:
            return jax.grad(summed_loss, has_aux=True)(state.params, part)

        sums = _accumulate(gradients_of, batch, microbatches)
        if axis_name is not None:
            sums = jax.lax.psum(sums, axis_name)
        gradients, (loss, measured, bad_examples) = sums
        gradients = jax.tree.map(lambda g: g / loss.weight.astype(g.dtype), gradients)

        updates, opt_state = optimiser.transform.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        averages = update_ema(state.ema, params, state.updates, decays)

        gradient_norm = optax.tree.norm(gradients)
        good = jnp.isfinite(gradient_norm) & jnp.isfinite(loss.mean())
        if max_skipped_in_a_row is not None:
            good &= state.skipped_in_a_row < max_skipped_in_a_row
        good = once(good)
        params, averages, opt_state = jax.tree.map(
            lambda new, old: jnp.where(good, new, old),
            (params, averages, opt_state),
            (state.params, state.ema, state.opt_state),
        )
        bad = 1 - good.astype(jnp.int32)
        after = TrainState(
            step=state.step + 1,
            params=params,
            ema=averages,
            opt_state=opt_state,
            skipped=state.skipped + bad,
            skipped_in_a_row=(state.skipped_in_a_row + 1) * bad,
        )
        measurements = {name: average.mean() for name, average in measured.items()} | {
            "loss": loss.mean(),
            "gradient_norm": gradient_norm,
            "update_norm": jnp.where(good, optax.tree.norm(updates), 0),
            "learning_rate": optimiser.schedule(state.updates),
            "bad_examples": bad_examples,
            "skipped": after.skipped,
            "skipped_in_a_row": after.skipped_in_a_row,
        }
        return after, measurements

    return step


def _accumulate(gradients_of: Callable[[Batch], Any], batch: Batch, microbatches: int) -> Any:
    """Sum ``gradients_of`` over equal parts of the batch, one after another, in the memory of one part."""
    if microbatches == 1:
        return gradients_of(batch)

    def split(x: Array) -> Array:
        # Part i holds the examples i, i + m, i + 2m, ...: each device then splits what it holds, and nothing moves.
        return jnp.moveaxis(x.reshape(x.shape[0] // microbatches, microbatches, *x.shape[1:]), 1, 0)

    def add(total: Any, part: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, gradients_of(part)), None

    parts = jax.tree.map(split, dict(batch))
    # All parts are the loop's: of two with the first outside, XLA would begin both at once.
    shapes = jax.eval_shape(gradients_of, jax.tree.map(lambda x: x[0], parts))
    return jax.lax.scan(add, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), parts)[0]
