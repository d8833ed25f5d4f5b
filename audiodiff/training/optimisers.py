"""Build optimisers: a learning-rate schedule and the optax chain that follows it."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from audiodiff.training.once import once
from audiodiff.types import Array, PyTree

Schedule = Callable[[Array], Array]

OPTIMISERS = ("adamw", "lion", "muon", "sgd")
SCHEDULES = ("constant", "cosine", "inverse_sqrt", "linear")
WITH_AN_END = ("cosine", "linear")
"""The schedules that depend on the total number of steps."""


class Optimiser(NamedTuple):
    """Hold an optax transform and the schedule it follows; the schedule is kept only to be reported."""

    transform: optax.GradientTransformation
    schedule: Schedule


def make_schedule(
    learning_rate: float,
    *,
    schedule: str = "constant",
    warmup_steps: int = 0,
    total_steps: int | None = None,
    end_factor: float = 0.0,
    reference_steps: int | None = None,
) -> Schedule:
    """Return the learning rate as a function of the number of updates n made so far.

    A linear warm-up ``learning_rate * (n + 1) / warmup_steps`` multiplies nothing: it precedes one of::

        constant      lr
        cosine        lr (e + (1 - e) (1 + cos(pi u)) / 2)     u = (n - warmup) / (total - warmup) in [0, 1]
        linear        lr (1 - (1 - e) u)                       e = end_factor
        inverse_sqrt  lr / sqrt(max(n / reference, 1))         EDM2, arXiv:2312.02696, eq. 67

    ``total_steps`` is needed by ``cosine`` and ``linear`` alone; ``reference_steps`` (default: the warm-up)
    by ``inverse_sqrt``.
    """
    if schedule not in SCHEDULES:
        nearest = difflib.get_close_matches(str(schedule), SCHEDULES, n=len(SCHEDULES), cutoff=0.0)
        raise ValueError(f"schedule={schedule!r} is unknown: choose one of {', '.join(nearest)}")
    if not learning_rate > 0:
        raise ValueError(f"learning_rate={learning_rate} must be positive")
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps={warmup_steps} must be 0 or more")
    if not 0 <= end_factor <= 1:
        raise ValueError(f"end_factor={end_factor} must lie in [0, 1]: it is a fraction of the learning rate")
    finite = schedule in WITH_AN_END
    if finite and (total_steps is None or total_steps <= warmup_steps):
        raise ValueError(
            f"schedule={schedule!r} needs total_steps above warmup_steps={warmup_steps}, not {total_steps}"
        )
    span = float(total_steps - warmup_steps) if finite and total_steps is not None else 1.0
    reference = float(max(1, warmup_steps if reference_steps is None else reference_steps))

    def rate(count: Array) -> Array:
        n = jnp.asarray(count, jnp.float32)
        u = jnp.clip((n - warmup_steps) / span, 0.0, 1.0)
        factor = {
            "constant": lambda: jnp.ones_like(n),
            "cosine": lambda: end_factor + (1 - end_factor) * 0.5 * (1 + jnp.cos(jnp.pi * u)),
            "linear": lambda: 1 - (1 - end_factor) * u,
            "inverse_sqrt": lambda: jax.lax.rsqrt(jnp.maximum(n / reference, 1.0)),
        }[schedule]()
        rising = (n + 1) / max(warmup_steps, 1)
        return once(learning_rate * jnp.where(n < warmup_steps, rising, factor))

    return rate


def is_matrix(params: PyTree) -> PyTree:
    """Mark the leaves that weight decay and Muon apply to: kernels (two axes or more), not biases, gains or scalars."""
    return jax.tree.map(lambda p: p.ndim >= 2, params)


def make_optimiser(
    name: str,
    *,
    learning_rate: float,
    schedule: str = "constant",
    warmup_steps: int = 0,
    total_steps: int | None = None,
    end_factor: float = 0.0,
    reference_steps: int | None = None,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    b1: float = 0.9,
    b2: float = 0.99,
    eps: float = 1e-8,
    frozen: Sequence[str] = (),
) -> Optimiser:
    """Return the optimiser ``name`` under a schedule: clip by global norm, precondition, decay kernels, scale.

    ``adamw`` (arXiv:1711.05101), ``lion`` (arXiv:2302.06675), ``muon`` (Jordan 2024: kernels are orthogonalised
    with momentum b1, the rest goes through AdamW; updates are scaled to AdamW's size so that one learning rate
    serves both) or ``sgd`` (with momentum b1). Weight decay is decoupled and spares biases, gains and scalars.
    Parameters whose path matches one of ``frozen`` (as "network/encoder*", * for anything) stay as they are.
    """
    if name not in OPTIMISERS:
        nearest = difflib.get_close_matches(str(name), OPTIMISERS, n=len(OPTIMISERS), cutoff=0.0)
        raise ValueError(f"optimiser={name!r} is unknown: choose one of {', '.join(nearest)}")
    if weight_decay < 0:
        raise ValueError(f"weight_decay={weight_decay} must be 0 or more")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm={clip_norm} must be positive, or None for no clipping")
    for label, value in (("b1", b1), ("b2", b2)):
        if not 0 <= value < 1:
            raise ValueError(f"{label}={value} must lie in [0, 1)")
    rate = make_schedule(
        learning_rate,
        schedule=schedule,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        end_factor=end_factor,
        reference_steps=reference_steps,
    )
    make: dict[str, Callable[[], optax.GradientTransformation]] = {
        "adamw": lambda: optax.adamw(rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=is_matrix),
        "lion": lambda: optax.lion(rate, b1=b1, b2=b2, weight_decay=weight_decay, mask=is_matrix),
        "sgd": lambda: optax.chain(
            optax.add_decayed_weights(weight_decay, mask=is_matrix), optax.sgd(rate, momentum=b1 if b1 else None)
        ),
        "muon": lambda: contrib.muon(
            rate,
            beta=b1,
            eps=eps,
            weight_decay=weight_decay,
            weight_decay_mask=is_matrix,
            adam_b1=b1,
            adam_b2=b2,
            muon_weight_dimension_numbers=_kernel_axes,
            consistent_rms=0.2,
        ),
    }
    transform = make[name]()
    if clip_norm is not None:
        transform = optax.chain(clip_by_global_norm(clip_norm), transform)
    return Optimiser(freeze(transform, frozen) if frozen else transform, rate)


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
    """Scale the gradients by min(1, limit / |g|), |g| the norm over all of them.

    optax's own computes whether to, and by how much, in the update of each array.
    """

    def clip(gradients: PyTree, params: PyTree = None) -> PyTree:
        del params
        factor = once(jnp.minimum(1.0, limit / optax.tree.norm(gradients)))
        return jax.tree.map(lambda g: g * factor.astype(g.dtype), gradients)

    return optax.stateless(clip)


def freeze(transform: optax.GradientTransformation, patterns: Sequence[str]) -> optax.GradientTransformation:
    """Let a transform see and change only the parameters whose path matches none of the patterns.

    Raises ValueError, when the state is made, for a pattern that matches nothing, or where nothing is left to train.
    """

    def label(params: PyTree) -> PyTree:
        def name(path: tuple) -> str:
            return jax.tree_util.keystr(path, simple=True, separator="/")

        names = [name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        for pattern in patterns:
            if not fnmatch.filter(names, pattern):
                nearest = difflib.get_close_matches(pattern, names, n=3, cutoff=0.0)
                raise ValueError(f"frozen {pattern!r} matches no parameter; the nearest are {', '.join(nearest)}")
        labels = {n: "frozen" if any(fnmatch.fnmatchcase(n, p) for p in patterns) else "trained" for n in names}
        if "trained" not in labels.values():
            raise ValueError(f"frozen {', '.join(patterns)} leaves no parameter to train: freeze fewer")
        return jax.tree_util.tree_map_with_path(lambda path, _: labels[name(path)], params)

    return optax.partition({"trained": transform, "frozen": optax.set_to_zero()}, label)


def rest_without_gradient(transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """Leave each part of the parameters, {name: part}, as it is in an update in which all of its gradients are 0.

    Momentum and weight decay would move it, though it is not being trained. They go on meanwhile: a part that is
    trained again finds its momentum faded, and learning rates follow the updates of the whole.
    """

    def update(gradients: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        updates, state = transform.update(gradients, state, params)
        held = {}
        for name, part in updates.items():
            trained = jnp.any(jnp.stack([jnp.any(leaf != 0) for leaf in jax.tree.leaves(gradients[name])]))
            held[name] = optax.tree.where(trained, part, optax.tree.zeros_like(part))
        return held, state

    return optax.GradientTransformation(transform.init, update)


def _kernel_axes(params: PyTree) -> PyTree:
    """Say how Muon flattens a kernel [..., in, out] into a matrix: every axis but the last is reduced over."""
    return jax.tree.map(
        lambda p: contrib.MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1) if p.ndim >= 2 else None, params
    )
