"""Run real processes that meet on loopback: they train as one does, stop together, and say why they cannot meet."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from audiodiff.training import ConnectionRefused, connect, latest_step, read_metrics, restore_params
from audiodiff.training.distributed import Consensus, is_leader, leader_first

SCRIPT = pathlib.Path(__file__).parent / "linear_regression.py"
ENVIRONMENT = os.environ | {"JAX_ENABLE_X64": "1"}


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def start(workdir, steps, delay_s):
    """Start two processes of two devices each."""
    where = f"localhost:{free_port()}"
    return [
        subprocess.Popen(
            [sys.executable, SCRIPT, workdir, str(steps), str(delay_s), where, str(index), "2"],
            env=ENVIRONMENT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]


def train_alone(workdir):
    """Train by one process and one device; of its own, for x64 is a matter of threads, and batches have one."""
    subprocess.run([sys.executable, SCRIPT, workdir, "10", "0"], env=ENVIRONMENT, check=True, capture_output=True)


def end(processes):
    """Return exit codes and what was said on stderr."""
    said = [process.communicate(timeout=120)[1] for process in processes]
    return [process.returncode for process in processes], said


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    train_alone(folder)
    return folder


def assert_close(folder, other):
    """AdamW in float64: 1e-9 is far above rounding and far below one misplaced noise."""
    with jax.enable_x64(True):
        one, two = restore_params(folder), restore_params(other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), one, two)
    figures = [
        [{k: v for k, v in line.items() if not k.startswith("speed/")} for line in read_metrics(where)]
        for where in (folder, other)
    ]
    assert [line.keys() for line in figures[0]] == [line.keys() for line in figures[1]]
    for line, twin in zip(*figures, strict=True):
        np.testing.assert_allclose(list(line.values()), list(twin.values()), rtol=1e-9)


def test_two_processes_take_the_steps_of_one(alone, tmp_path):
    codes, said = end(start(tmp_path, 10, 0))
    assert codes == [0, 0], said
    assert "finished 10 steps" in said[0] and "finished" not in said[1]  # one of them speaks
    assert_close(alone, tmp_path)


def test_one_signal_stops_both_before_one_step_and_one_process_goes_on(alone, tmp_path):
    processes = start(tmp_path, 10, 0.3)
    while len(read_metrics(tmp_path)) < 1 and processes[0].poll() is None:
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    codes, said = end(processes)
    assert codes == [0, 143], said
    assert "another process was asked to stop: saved step" in said[0]
    assert 0 < latest_step(tmp_path) < 10
    train_alone(tmp_path)
    assert_close(alone, tmp_path)


def test_an_absent_coordinator_is_told_when_time_is_up():
    with pytest.raises(
        ConnectionRefused, match=r"process 1 of 2 could not reach the coordinator localhost:\d+ within 1 s"
    ):
        connect(f"localhost:{free_port()}", process_index=1, process_count=2, timeout_s=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"coordinator": "node0"}, "must be auto or HOST:PORT"),
        ({"coordinator": "node0:1"}, "process_index=None and process_count=None must be given"),
        ({"coordinator": "node0:1", "process_index": 2, "process_count": 2}, "process_index=2 .* below the count"),
        ({"coordinator": "auto", "timeout_s": 0}, "connect_timeout_s=0 must be positive"),
    ],
)
def test_what_cannot_be_is_told(arguments, words):
    with pytest.raises(ValueError, match=words):
        connect(**arguments)


def test_a_process_alone_decides_by_itself():
    assert is_leader()
    with leader_first("nothing to wait for"):
        votes = Consensus()
    assert [votes.cast(wish) for wish in (False, True, False)] == [False, True, False]
