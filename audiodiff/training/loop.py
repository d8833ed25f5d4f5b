"""Run the training loop: the only one in the project, whatever the Objective.

Each step, in this order::

    save -> evaluate -> draw batch -> step -> write the previous step's measurements

A checkpoint holds the state *before* its step's batch is drawn. As batch k and the key of step k are pure functions of
(seed, k), rerunning the same command goes on as if nothing had happened. Measurements are fetched one step late,
when the device already has the next step to work on.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from audiodiff import prng
from audiodiff.store import NOTHING_KEPT, Store
from audiodiff.training.checkpoint import CheckpointError, Checkpoints
from audiodiff.training.distributed import Consensus, is_leader, leader_first
from audiodiff.training.interruption import Interrupted, Stop
from audiodiff.training.optimisers import Optimiser
from audiodiff.training.parallel import Strategy, make_strategy
from audiodiff.training.posthoc import save_snapshot
from audiodiff.training.prefetch import Prefetch
from audiodiff.training.profile import Trace
from audiodiff.training.programs import Program, Programs
from audiodiff.training.progress import Progress
from audiodiff.training.replay import save_replay
from audiodiff.training.report import Clock, NonFiniteError, OnMeasurements, Report, Window
from audiodiff.training.state import Decay, PowerDecay, TrainState, init_state
from audiodiff.training.step import Constants, as_pytree, make_step
from audiodiff.training.summary import matmul_rate, parameter_table, quantity
from audiodiff.training.workdir import (
    MAY_CHANGE,
    exclusive,
    full_disk_told,
    prepare_workdir,
    record_start,
    write_json,
)
from audiodiff.training.writers import Writer
from audiodiff.types import Array, Objective, PyTree

FINISHED_FILE = "finished.json"

Evaluate = Callable[[TrainState, int, Writer], None]
"""Look at the state before a step and write what is seen. Keep no array of it: the next step reuses their memory."""


class Batches(Protocol):
    """Give batch k as a pure function of (seed, k): dicts of numpy arrays, this process's slice of each."""

    @property
    def global_batch_size(self) -> int: ...

    def __getitem__(self, k: int) -> Mapping[str, np.ndarray]: ...

    def iterate(self, start: int) -> Iterator[Mapping[str, np.ndarray]]: ...


class Result(NamedTuple):
    """Hold the state a run ended with, the steps it has taken, whether it is finished, and a sentence for the user."""

    state: TrainState
    step: int
    finished: bool
    message: str


def train(
    objective: Objective,
    optimiser: Optimiser,
    batches: Batches,
    *,
    workdir: str | os.PathLike[str],
    seed: int,
    total_steps: int,
    strategy: str = "jit",
    devices: int | Sequence[jax.Device] | None = None,
    fsdp: int | None = None,
    microbatches: int = 1,
    ema: Mapping[str, Decay] | None = None,
    params: PyTree = None,
    frozen: PyTree = None,
    save_every: int = 1000,
    evaluate_every: int | None = None,
    log_every: int = 50,
    evaluate: Evaluate | None = None,
    on_measurements: OnMeasurements | None = None,
    keep: int = 2,
    keep_every: int | None = None,
    snapshot_every: int | None = None,
    max_minutes: float | None = None,
    max_skipped_in_a_row: int = 20,
    overfit_batch: bool = False,
    samples_per_second: float = 0.0,
    profile_steps: tuple[int, int] | None = None,
    wandb: str = "",
    config: Mapping[str, Any] | None = None,
    may_change: Collection[str] = MAY_CHANGE,
    progress: Progress | None = None,
    store: Store = NOTHING_KEPT,
) -> Result:
    """Train up to ``total_steps`` steps in ``workdir``, going on from its newest checkpoint if it has one.

    ``ema`` names moving averages, of which those of power functions are stored every ``snapshot_every`` steps and at
    the end, for :func:`audiodiff.training.reconstruct`. ``params`` replaces the objective's own initial parameters;
    ``frozen`` reaches it as ``context.frozen``. ``evaluate`` is called every ``evaluate_every`` steps and at the end.
    ``overfit_batch`` trains on batch 0 alone. ``config`` is kept in the workdir and must not change but for
    ``may_change``. ``wandb`` = "offline" or "online" writes to Weights & Biases too.

    After ``max_minutes`` the run saves and returns unfinished; on SIGTERM or SIGINT it saves and raises
    :class:`Interrupted`, a ``SystemExit`` of code 143 or 130; a finished run returns at once.

    Written every ``log_every`` steps: under ``train/`` the means over the steps since the last line; under ``speed/``
    steps, examples and seconds of audio per second, the share of the machine's matmul rate and the share of time
    spent waiting for data, compilation and evaluation left out. ``profile_steps`` = (a, b) writes a trace of steps a
    to b - 1. ``store`` keeps compiled programs for the next start.
    """
    _check_positive(
        total_steps=total_steps,
        save_every=save_every,
        evaluate_every=evaluate_every,
        log_every=log_every,
        keep=keep,
        keep_every=keep_every,
        snapshot_every=snapshot_every,
        max_minutes=max_minutes,
        max_skipped_in_a_row=max_skipped_in_a_row,
    )
    plan = make_strategy(
        strategy, devices=devices, batch_size=batches.global_batch_size, microbatches=microbatches, fsdp=fsdp
    )
    with leader_first("workdir"):
        folder = prepare_workdir(workdir, config, may_change=may_change)
    progress = Progress(total_steps, quiet=not is_leader()) if progress is None else progress
    identity = {"seed": seed, "global_batch_size": batches.global_batch_size}

    with contextlib.ExitStack() as stack:
        stack.enter_context(full_disk_told(folder))
        stop = stack.enter_context(Stop(max_minutes))
        if is_leader():
            stack.enter_context(exclusive(folder))
        checkpoints = stack.enter_context(Checkpoints(folder, keep=keep, keep_every=keep_every))
        stack.callback(progress.close)

        start, state, saved_window = _start(
            objective, optimiser, batches, ema or {}, params, plan, checkpoints, identity, store
        )
        if start >= total_steps and start == _finished_step(folder):
            return _end(
                progress, state, start, True, f"the run in {folder} has finished its {start} steps: nothing to do"
            )
        progress.say(
            f"{'going on' if start else 'starting'} in {folder} at step {start} of {total_steps}: {_count(state)}"
        )
        progress.say(f"parameters\n{parameter_table(state.params)}")
        if is_leader():
            (folder / FINISHED_FILE).unlink(missing_ok=True)  # a finished run goes on where its end was damaged
            record_start(folder, start)

        constants = plan.place_constants(Constants(as_pytree(objective), prng.stream(seed, "train"), frozen))
        step_once = make_step(
            optimiser,
            ema=ema,
            microbatches=microbatches,
            max_skipped_in_a_row=max_skipped_in_a_row,
            gather=plan.gather,
        )
        run_step = plan.compile(step_once, state)
        placed = plan.place(state)
        del state  # the first step takes its memory

        feed = stack.enter_context(Prefetch(_draw(batches, start, total_steps, overfit_batch), plan.place_batch))
        writer = stack.enter_context(Writer(folder, start=start, active=is_leader(), wandb=wandb, config=config))
        trace = stack.enter_context(Trace(folder, profile_steps))
        programs = Programs(
            run_step,
            copies=plan.copies,
            microbatches=microbatches,
            samples_per_second=samples_per_second,
            store=store,
        )
        clock = Clock(feed, lambda: matmul_rate(len(plan.devices))[0])
        report = Report(
            writer,
            Window(saved_window),
            clock,
            progress,
            log_every=log_every,
            max_skipped_in_a_row=max_skipped_in_a_row,
            on_measurements=on_measurements,
        )
        saved_step = None if saved_window is None else start

        consensus = Consensus()
        measured: Any = None
        stack.enter_context(_kept_for_replay(folder, seed, lambda: plan.unplace(placed)))

        for step in itertools.count(start):
            last = step >= total_steps
            reason = stop.reason(spend=step > start)  # each part of a run takes a step, however little time it has
            reason = (reason or "another process was asked to stop") if consensus.cast(reason is not None) else None

            if snapshot_every is not None and step > start and (last or _due(step, snapshot_every)):
                # Before the checkpoint: a run that dies between the two comes by here again.
                _snapshot(folder, plan.unplace(placed), step, ema or {})
            if step != saved_step and (last or reason or _due(step, save_every)):
                report.settle(final=last)
                writer.flush()  # no checkpoint is ever ahead of the metrics
                checkpoints.save(step, plan.unplace(placed), {**identity, "window": report.window.contents()})
                saved_step = step
            if reason:
                checkpoints.wait()
                message = f"{reason}: saved step {step} of {total_steps} in {folder}; rerun the same command to go on"
                result = _end(progress, plan.unplace(placed), step, False, message)
                if stop.signal is not None:
                    raise Interrupted(stop.signal, message)
                return result

            if evaluate is not None and (last or _due(step, evaluate_every)):
                with clock.stopped():
                    evaluate(plan.unplace(placed), step, writer)
            if last:
                break

            batch = _next(feed, step)

            with clock.stopped():
                if done := trace.at(step, measured):
                    progress.say(done)

            if (program := programs.find(batch)) is None:
                with clock.stopped():
                    program = programs.compile(placed, batch, constants)
                    if step == start:
                        progress.say(_describe(program, plan, strategy, *matmul_rate(len(plan.devices))))
                    placed, measured = jax.block_until_ready(program.run(placed, batch, constants))
                work = None
            else:
                placed, measured = program.run(placed, batch, constants)
                work = program.work

            report.settle()
            report.hold(step, measured, work, batch)

        writer.flush()
        checkpoints.wait()
        if is_leader():
            write_json(folder / FINISHED_FILE, {"step": step})
        return _end(progress, plan.unplace(placed), step, True, f"finished {step} steps in {folder}")


def _start(
    objective: Objective,
    optimiser: Optimiser,
    batches: Batches,
    ema: Mapping[str, Decay],
    params: PyTree,
    plan: Strategy,
    checkpoints: Checkpoints,
    identity: Mapping[str, int],
    store: Store,
) -> tuple[int, TrainState, Mapping[str, Any] | None]:
    """Return step, state and window of the newest checkpoint, or (0, a new state, None) where there is none."""
    batch: Mapping[str, Any] = dict(batches[0])
    _check_batch(batch, identity["global_batch_size"] // jax.process_count())
    if jax.process_count() > 1:
        batch = plan.place_batch(batch)  # each process has another slice

    def make(key: Array, batch: Mapping[str, Array], params: PyTree) -> TrainState:
        return init_state(objective.init(key, batch) if params is None else params, optimiser.transform, ema)

    arguments = (prng.stream(identity["seed"], "init"), batch, params)
    kept = store.find("init", arguments)
    shapes = kept.outputs if kept else jax.eval_shape(make, *arguments)
    restored = checkpoints.restore(plan.template(shapes))
    if restored is None:
        program = kept or store.compile("init", arguments, plan.compile_init(make, shapes).lower(*arguments))
        return 0, program.run(*arguments), None
    for name, value in identity.items():
        if restored.meta[name] != value:
            raise CheckpointError(
                f"the run in {checkpoints.workdir} has {name}={restored.meta[name]}, not {value}, and draws its "
                "data by it: take the old value back, or another workdir"
            )
    return restored.step, restored.state, restored.meta["window"]


@contextlib.contextmanager
def _kept_for_replay(folder: pathlib.Path, seed: int, state: Callable[[], TrainState]) -> Iterator[None]:
    """Save the step that stops the run because it is not finite: batch, key and state."""
    try:
        yield
    except NonFiniteError as error:
        path = save_replay(folder, state(), error.batch, step=error.step, seed=seed)
        error.args = (f"{error}; the step is kept in {path}: python experiments/replay.py --workdir={folder}",)
        raise


def _snapshot(folder: pathlib.Path, state: TrainState, step: int, ema: Mapping[str, Decay]) -> None:
    lengths = {name: decay.relative_length for name, decay in ema.items() if isinstance(decay, PowerDecay)}
    averages = {name: state.ema[name] for name in lengths}
    save_snapshot(folder, step, averages, updates=int(state.updates), lengths=lengths)


def _draw(batches: Batches, start: int, stop: int, overfit_batch: bool) -> Iterator[Mapping[str, np.ndarray]]:
    """Yield the batches of the steps start, ..., stop - 1, or as many times batch 0."""
    if overfit_batch:
        yield from itertools.repeat(batches[0], max(0, stop - start))
    else:
        for _, batch in zip(range(start, stop), batches.iterate(start), strict=False):
            yield batch


def _next(feed: Prefetch, step: int) -> Any:
    try:
        return next(feed)
    except StopIteration:
        raise RuntimeError(f"the batches ended before step {step}: `iterate` must go on for ever") from None


def _due(step: int, every: int | None) -> bool:
    return every is not None and step > 0 and step % every == 0


def _end(progress: Progress, state: TrainState, step: int, finished: bool, message: str) -> Result:
    progress.say(message)
    return Result(state, step, finished, message)


def _finished_step(folder: pathlib.Path) -> int | None:
    path = folder / FINISHED_FILE
    return json.loads(path.read_text(encoding="utf-8"))["step"] if path.exists() else None


def _count(state: TrainState) -> str:
    return f"{sum(leaf.size for leaf in jax.tree.leaves(state.params)):,} parameters"


def _describe(program: Program, plan: Strategy, strategy: str, rate: float, rate_source: str) -> str:
    """Say what a step costs and where it runs."""
    cost, work, devices = program.cost, program.work, plan.devices
    audio = f" ({work.audio_s:.3g} s of audio)" if work.audio_s else ""
    return (
        f"devices     {len(devices)} x {devices[0].device_kind}, strategy {strategy}, {jax.process_count()} processes; "
        f"matmul rate {quantity(rate, 'FLOP/s')} ({rate_source})\n"
        f"a step      {work.examples} examples{audio}, {quantity(cost.flops, 'FLOP')}, at best "
        f"{cost.flops / rate:.3g} s\n"
        f"memory      of each device: {quantity(cost.state_bytes, 'B')} for state and batch, "
        f"{quantity(cost.work_bytes, 'B')} while it works"
    )


def _check_batch(batch: Mapping[str, np.ndarray], size: int) -> None:
    for name in ("weight", "draw"):
        if name not in batch:
            raise ValueError(f"the batches have no {name!r}, only {', '.join(sorted(batch))}: every batch needs it")
    for name, values in batch.items():
        if np.shape(values)[:1] != (size,):
            raise ValueError(
                f"{name!r} of a batch has shape {np.shape(values)}: its first axis must be the batch of {size}"
            )


def _check_positive(**values: float | None) -> None:
    for name, value in values.items():
        optional = name in ("evaluate_every", "keep_every", "snapshot_every", "max_minutes")
        if not (optional if value is None else value > 0):
            raise ValueError(f"{name}={value} must be positive" + (", or None" if optional else ""))
