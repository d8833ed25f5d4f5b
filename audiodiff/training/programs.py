"""Compile the step for each shape of batch, and know what it takes."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from audiodiff.store import NOTHING_KEPT, Store, digest
from audiodiff.training.step import Batch, Measurements

logger = logging.getLogger(__name__)


class Cost(NamedTuple):
    """Hold what one step of a compiled program takes: FLOPs of all devices, bytes of each."""

    flops: float
    state_bytes: int
    work_bytes: int


def program_cost(lowered: Any, compiled: Any, *, copies: int = 1, microbatches: int = 1) -> Cost:
    """Read the cost of a step off its program: FLOPs before, memory after the compiler's work.

    ``copies`` is how many devices run the program as it was lowered each by itself (pmap). A loop's body counts once
    in the analysis, and of several microbatches nearly all is a loop's.
    """
    counted = (lowered.cost_analysis() or {}).get("flops", float("nan"))
    memory = compiled.memory_analysis()
    return Cost(
        counted * copies * microbatches,
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes,
    )


class Work(NamedTuple):
    """Hold what a step does: examples, FLOPs, and seconds of audio (0 where the batch has none)."""

    examples: int
    flops: float
    audio_s: float


@dataclasses.dataclass(frozen=True)
class Program:
    """Hold the step compiled for one shape of batch, and what it costs."""

    run: Callable[[Any, Batch, Any], tuple[Any, Measurements]]
    cost: Cost
    work: Work


class Programs:
    """Compile a jitted step once for each shape of batch, and say so when that is more than one.

    ``samples_per_second`` is how many numbers of a batch's "audio" are a second (rate times channels), 0 if unknown.
    ``store`` keeps the programs for the next process.
    """

    def __init__(
        self,
        step: Any,
        *,
        copies: int = 1,
        microbatches: int = 1,
        samples_per_second: float = 0.0,
        store: Store = NOTHING_KEPT,
    ):
        self._step, self._copies, self._microbatches = step, copies, microbatches
        self._samples_per_second, self._store = samples_per_second, store
        self._known: dict[tuple, Program] = {}

    def find(self, batch: Batch) -> Program | None:
        """Return the program for this shape of batch, if there is one yet."""
        return self._known.get(_shapes(batch))

    def compile(self, placed: Any, batch: Batch, constants: Any) -> Program:
        """Compile the step for this shape of batch, or take the program that an earlier process kept."""
        if self._known:
            found = ", ".join(f"{name} {list(shape)}" for name, shape, _ in _shapes(batch))
            logger.warning("compiling the step again for a batch of new shapes: %s", found)
        name, arguments = f"step-{digest(_shapes(batch))[:8]}", (placed, batch, constants)
        cost_of = functools.partial(program_cost, copies=self._copies, microbatches=self._microbatches)
        run, _, cost = self._store.find(name, arguments) or self._store.compile(
            name, arguments, self._step.lower(*arguments), cost_of
        )
        per_second = self._samples_per_second
        audio_s = batch["audio"].size / per_second if per_second and "audio" in batch else 0.0
        program = Program(run, cost, Work(batch["weight"].size, cost.flops, audio_s))
        self._known[_shapes(batch)] = program
        return program


def _shapes(batch: Batch) -> tuple:
    return tuple((name, x.shape, str(x.dtype)) for name, x in sorted(batch.items()))
