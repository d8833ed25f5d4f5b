"""Measure an Objective on held-out data with fixed noise, so that one run's figures compare with each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from audiodiff.training.parallel import Jit, measure_batches
from audiodiff.training.step import Constants, as_pytree
from audiodiff.types import Array, Objective, PyTree


def evaluate_loss(
    objective: Objective,
    params: PyTree,
    batches: Iterable[Mapping[str, Any]],
    key: Array,
    *,
    frozen: PyTree = None,
    strategy: Jit | None = None,
) -> dict[str, float]:
    """Return the means of the loss and of the objective's measurements over ``batches``, by weight.

    All batches share ``key``: an example's noise comes from (key, draw), so it is the same at every call and for
    every batch size. With a ``strategy`` the batches are split over its devices.
    """
    placed = batches if strategy is None else map(strategy.place_batch, batches)
    figures = measure_batches(Constants(as_pytree(objective), key, frozen), params, placed)
    if not figures:
        raise ValueError("there is no batch to evaluate on: the list is empty")
    return figures
