from __future__ import annotations

import dataclasses
import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_regression import LinearData, LinearRegression, assert_same, run

from audiodiff.store import Store
from audiodiff.training import CheckpointError, Interrupted, NonFiniteError, WorkdirError, latest_step, read_metrics


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Ten steps without a break, evaluated every four."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    return run(workdir, evaluate=look, evaluate_every=4), metrics(workdir)


def look(state, step, writer):
    writer.scalars(step, {"eval/norm": float(jnp.linalg.norm(state.params["w"]))})


def metrics(workdir):
    """Return the lines without the figures that differ from run to run."""
    return [{k: v for k, v in line.items() if not k.startswith("speed/")} for line in read_metrics(workdir)]


def assert_undisturbed(result, workdir, undisturbed):
    """Require the state, bit for bit, and every line."""
    assert result.finished and result.step == 10
    assert_same(result.state, undisturbed[0].state)
    assert metrics(workdir) == undisturbed[1]


def test_lines_speak_for_the_steps_since_the_last_one(undisturbed, tmp_path):
    every = []
    run(tmp_path, log_every=1, on_measurements=lambda step, figures: every.append((step, figures["train/loss"])))
    assert [step for step, _ in every] == list(range(10))
    lines = {line["step"]: line.get("train/loss") for line in undisturbed[1] if "train/loss" in line}
    assert list(lines) == [0, 3, 6, 9]
    losses = [loss for _, loss in every]
    for step in (3, 6, 9):
        assert lines[step] == pytest.approx(np.mean(losses[step - 2 : step + 1]), rel=1e-6)
    assert {line["step"] for line in undisturbed[1] if "eval/norm" in line} == {4, 8, 10}


def test_five_steps_a_crash_and_five_steps_are_ten_steps(undisturbed, tmp_path):
    def crash(state, step, writer):
        look(state, step, writer)
        if step == 8:
            raise OSError("the disk of the evaluation is full")

    with pytest.raises(OSError, match="the disk"):
        run(tmp_path, evaluate=crash, evaluate_every=4)
    assert latest_step(tmp_path) == 5  # between two lines: the sums of the window are part of the checkpoint
    data = LinearData()
    result = run(tmp_path, evaluate=look, evaluate_every=4, batches=data)
    assert data.drawn[0] == 5
    assert_undisturbed(result, tmp_path, undisturbed)
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_a_checkpoint_is_started_before_the_evaluation_of_its_step(tmp_path):
    def crash(state, step, writer):
        assert state.step == step == 5
        raise OSError

    with pytest.raises(OSError):
        run(tmp_path, evaluate=crash, evaluate_every=5)
    assert latest_step(tmp_path) == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_at_the_next_step_boundary_and_the_run_goes_on(undisturbed, tmp_path, number):
    def interrupt(step, figures):
        if step == 6:
            signal.raise_signal(number)

    with pytest.raises(Interrupted, match="rerun the same command") as stopped:
        run(tmp_path, evaluate=look, evaluate_every=4, on_measurements=interrupt)
    assert stopped.value.code == 128 + number
    assert latest_step(tmp_path) == 8  # the line of step 6 is written while step 7 runs
    assert_undisturbed(run(tmp_path, evaluate=look, evaluate_every=4), tmp_path, undisturbed)


def test_parts_of_a_run_each_take_a_step_and_add_up(undisturbed, tmp_path):
    for part in range(1, 4):
        result = run(tmp_path, evaluate=look, evaluate_every=4, max_minutes=1e-9)
        assert (result.finished, result.step) == (False, part)
        assert "rerun the same command to go on" in result.message
    assert_undisturbed(run(tmp_path, evaluate=look, evaluate_every=4), tmp_path, undisturbed)


def start_process(workdir, total_steps, delay_s):
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, pathlib.Path(__file__).parent / "linear_regression.py", workdir, total_steps, delay_s]
    return subprocess.Popen([str(part) for part in command], env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process):
    deadline = time.monotonic() + 250
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_kill_9_and_a_rerun_equal_the_undisturbed_run(tmp_path):
    with start_process(tmp_path / "killed", 40, 0.05) as process:
        wait_for(lambda: (latest_step(tmp_path / "killed") or 0) >= 10, process)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "finished.json").exists()
    killed = run(tmp_path / "killed", 40)
    whole = run(tmp_path / "whole", 40)
    assert_same(killed.state, whole.state)
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")


def test_sigterm_ends_a_process_with_its_code_and_nothing_lost(tmp_path):
    with start_process(tmp_path, 1000, 0.02) as process:
        wait_for(lambda: (latest_step(tmp_path) or 0) >= 5, process)
        process.send_signal(signal.SIGTERM)
        errors = process.stderr.read()
    assert process.returncode == 143
    assert "received SIGTERM: saved step" in errors and "Traceback" not in errors
    starts = latest_step(tmp_path)
    assert f"saved step {starts} of 1000" in errors


def test_a_finished_run_returns_at_once(undisturbed, tmp_path):
    run(tmp_path, evaluate=look, evaluate_every=4)

    def files():
        found = (path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock")
        return {path: path.stat().st_mtime_ns for path in found}

    before = files()
    data = LinearData()
    result = run(tmp_path, evaluate=look, evaluate_every=4, batches=data)
    assert "has finished its 10 steps: nothing to do" in result.message and data.drawn == []
    assert_undisturbed(result, tmp_path, undisturbed)
    assert files() == before


def test_a_run_killed_during_the_last_evaluation_makes_it_again(undisturbed, tmp_path):
    def crash(state, step, writer):
        look(state, step, writer)
        if step == 10:
            raise OSError

    with pytest.raises(OSError):
        run(tmp_path, evaluate=crash, evaluate_every=4)
    assert_undisturbed(run(tmp_path, evaluate=look, evaluate_every=4), tmp_path, undisturbed)


def test_a_damaged_newest_checkpoint_costs_steps_and_nothing_else(undisturbed, tmp_path, caplog):
    run(tmp_path, evaluate=look, evaluate_every=4)
    (tmp_path / "checkpoints" / "10" / "state" / "_METADATA").unlink()
    assert_undisturbed(run(tmp_path, evaluate=look, evaluate_every=4), tmp_path, undisturbed)
    assert "step 10 is damaged" in caplog.text and "step 5" in caplog.text


def test_a_run_that_fell_back_behind_its_end_is_finished_when_it_is_evaluated_again(undisturbed, tmp_path):
    run(tmp_path, evaluate=look, evaluate_every=4)
    (tmp_path / "checkpoints" / "10" / "state" / "_METADATA").unlink()

    def crash(state, step, writer):
        if step == 10:
            raise OSError
        look(state, step, writer)

    with pytest.raises(OSError):
        run(tmp_path, evaluate=crash, evaluate_every=4)
    assert_undisturbed(run(tmp_path, evaluate=look, evaluate_every=4), tmp_path, undisturbed)


@pytest.mark.parametrize("strategy", ["jit", "pmap"])
def test_a_run_goes_on_under_another_layout(undisturbed, tmp_path, strategy):
    run(tmp_path, 5)
    (tmp_path / "finished.json").unlink()
    result = run(tmp_path, 10, strategy=strategy, devices=2, microbatches=2)
    # Float32 and AdamW: rounding moves an update by a small part of the learning rate, 0.05.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3), result.state.params, undisturbed[0].state.params
    )


def test_overfitting_one_batch_reaches_its_noise(tmp_path):
    data = LinearData()
    losses = []
    run(
        tmp_path,
        200,
        batches=data,
        overfit_batch=True,
        objective=LinearRegression(noise=0.0),
        save_every=200,
        log_every=50,
        on_measurements=lambda step, figures: losses.append(figures["train/loss"]),
    )
    assert data.drawn == [] and losses[-1] < 1e-2 * losses[0]


def test_the_step_is_traced_once(tmp_path):
    traces = []

    @dataclasses.dataclass(frozen=True)
    class Counted(LinearRegression):
        def __call__(self, params, context, batch):
            traces.append(sorted(context.ema))
            return super().__call__(params, context, batch)

    run(tmp_path, objective=Counted())
    assert traces == [["power", "short"]]


def test_given_and_frozen_parameters_reach_the_objective(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Distance:
        def init(self, key, batch):
            raise AssertionError("parameters were given")

        def __call__(self, params, context, batch):
            return (params["w"] - context.frozen) ** 2 + 0 * batch["weight"], {}

    first = []
    given = {"w": jnp.float32(4.0)}
    run(
        tmp_path,
        1,
        objective=Distance(),
        params=given,
        frozen=jnp.float32(1.0),
        on_measurements=lambda step, figures: first.append(figures["train/loss"]),
    )
    assert first == [9.0] and not given["w"].is_deleted()


def test_endless_nans_stop_the_run(tmp_path):
    class Poisoned(LinearData):
        def __getitem__(self, k):
            batch = super().__getitem__(k)
            return batch | {"target": batch["target"] * (np.nan if k >= 7 else 1)}

    with pytest.raises(NonFiniteError, match="not finite in 4 steps in a row, up to step 10"):
        run(tmp_path, 100, batches=Poisoned(), max_skipped_in_a_row=4)
    assert latest_step(tmp_path) == 10


def test_a_batch_of_another_shape_is_trained_on_with_a_warning(tmp_path, caplog):
    class Ragged(LinearData):
        def __getitem__(self, k):
            batch = super().__getitem__(k)
            return batch | ({"length": np.ones((8, 2), np.int32)} if k == 3 else {"length": np.ones(8, np.int32)})

    with caplog.at_level(logging.WARNING):
        assert run(tmp_path, 5, batches=Ragged()).finished
    assert "new shapes" in caplog.text and "length [8, 2]" in caplog.text


def test_a_changed_config_is_refused_before_anything_happens(tmp_path):
    run(tmp_path, 2, config={"model": {"width": 8}, "log_every": 3})
    with pytest.raises(WorkdirError, match=r"model\.width: 8 -> 16"):
        run(tmp_path, 4, config={"model": {"width": 16}, "log_every": 5})
    assert latest_step(tmp_path) == 2
    assert json.loads((tmp_path / "config.json").read_text())["config"]["log_every"] == 3


def test_what_decides_the_data_may_not_change(tmp_path):
    run(tmp_path, 2)
    with pytest.raises(CheckpointError, match="seed=7, not 8"):
        run(tmp_path, 4, seed=8)
    with pytest.raises(CheckpointError, match="global_batch_size=8, not 4"):
        run(tmp_path, 4, batches=LinearData(batch_size=4))


class Ending(LinearData):
    def iterate(self, start):
        yield self[start]


class Unweighted(LinearData):
    def __getitem__(self, k):
        return {name: x for name, x in super().__getitem__(k).items() if name != "weight"}


class Short(LinearData):
    def __getitem__(self, k):
        return super().__getitem__(k) | {"draw": np.arange(7)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"total_steps": 0}, "total_steps=0 must be positive"),
        ({"save_every": 0}, "save_every=0"),
        ({"log_every": -5}, "log_every=-5"),
        ({"evaluate_every": 0}, "evaluate_every=0 must be positive, or None"),
        ({"max_minutes": -1.0}, r"max_minutes=-1\.0"),
        ({"keep": 0}, "keep=0"),
        ({"keep": None}, "keep=None"),
        ({"devices": 3}, "3 devices do not divide the batch of 8: take 1, 2, 4, 8 devices"),
        ({"strategy": "pmapp"}, "strategy='pmapp' is unknown: choose one of pmap, fsdp, jit"),
        ({"microbatches": 3}, "microbatches=3"),
        ({"batches": Unweighted()}, "no 'weight', only audio, draw, target"),
        ({"batches": Short()}, r"'draw' of a batch has shape \(7,\)"),
        ({"batches": Ending()}, "ended before step 1"),
    ],
)
def test_bad_input_is_named(tmp_path, options, words):
    with pytest.raises((ValueError, RuntimeError), match=words):
        run(tmp_path, **({"total_steps": 3} | options))
    assert latest_step(tmp_path) is None


def test_a_start_that_finds_its_programs_traces_nothing_and_takes_the_same_steps(undisturbed, tmp_path):
    traced = []

    @dataclasses.dataclass(frozen=True)
    class Traced(LinearRegression):
        def init(self, key, batch):
            traced.append("init")
            return super().init(key, batch)

        def __call__(self, params, context, batch):
            traced.append("step")
            return super().__call__(params, context, batch)

    def start(name):
        begun = Store(tmp_path / "store", "a command")
        return run(tmp_path / name, objective=Traced(), evaluate=look, evaluate_every=4, store=begun)

    for name in ("compiled", "found"):
        assert_undisturbed(start(name), tmp_path / name, undisturbed)
        assert ("step" in traced) == (name == "compiled")
        traced.clear()
    # A run that goes on finds them too: the state of its checkpoint lies where a new one does.
    stopped = Store(tmp_path / "store", "a command")
    run(tmp_path / "on", objective=Traced(), evaluate=look, evaluate_every=4, store=stopped, max_minutes=1e-9)
    assert_undisturbed(start("on"), tmp_path / "on", undisturbed)
    assert not traced
