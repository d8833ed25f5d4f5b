"""Time things side by side, and hold what was measured against its bar and against the last record.

A machine is never as fast twice, so nothing is compared across runs but ratios: of times taken in turn, round by round.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np

from audiodiff.metrics.intervals import Figure, bootstrap_interval

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS = ROOT / ".cache" / "peers" / "bin" / "python"
TOLERANCE = 0.2
"""How much worse than its record a ratio may be before it is called a regression."""


@dataclass(frozen=True)
class Reading:
    """Hold one figure with its bar: ``value`` must be ``at_least`` or ``at_most`` that, or stand without one.

    ``kind`` says what may be compared from run to run: a "ratio" or a "count" may, a "speed" of the machine may not.
    """

    figure: Figure
    kind: Literal["ratio", "count", "speed"] = "ratio"
    at_least: float | None = None
    at_most: float | None = None
    more_is_better: bool = True

    @property
    def name(self) -> str:
        return self.figure.name

    def fault(self, recorded: float | None) -> str:
        """Say how the figure misses its bar or falls behind its record; empty where it does neither."""
        value = self.figure.value
        if self.at_least is not None and not value >= self.at_least:
            return f"below {self.at_least:g}"
        if self.at_most is not None and not value <= self.at_most:
            return f"above {self.at_most:g}"
        if self.kind == "speed" or not recorded:
            return ""
        worse = recorded / value if self.more_is_better else value / recorded
        return f"was {recorded:.3g}" if worse > 1 + TOLERANCE else ""

    @property
    def bar(self) -> str:
        """The bar as text."""
        bounds = [f"at least {self.at_least:g}"] if self.at_least is not None else []
        return ", ".join(bounds + ([f"at most {self.at_most:g}"] if self.at_most is not None else []))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self) | {"figure": self.figure.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Reading:
        """Read back what :meth:`to_dict` wrote."""
        return cls(**{**values, "figure": Figure.from_dict(values["figure"])})


def seconds(function: Callable[[], Any], calls: int = 1) -> float:
    """Time a call, to the end of what it dispatches: the mean of ``calls`` after one that is not counted.

    What comes first after another's turn pays for cold caches and for memory that the system took back (twice the time
    of a step of DiffWave BASE): no training loop and no sampler does.
    """
    jax.block_until_ready(function())
    begin = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(function())
    return (time.perf_counter() - begin) / calls


def queued(function: Callable[[], Any], calls: int) -> float:
    """Time calls that wait in the device's queue, to the end of the last: the mean, after one that is not counted.

    Where a call is short, waiting for each would time the way to an accelerator and back as well.
    """
    jax.block_until_ready(function())
    begin = time.perf_counter()
    for _ in range(calls):
        last = function()
    jax.block_until_ready(last)
    return (time.perf_counter() - begin) / calls


def in_turn(cases: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, np.ndarray]:
    """Let all cases time themselves round by round, each round beginning with another: seconds [round] by case.

    One round comes first and is thrown away.
    """
    names = list(cases)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            times[name].append(cases[name]())
    return {name: np.array(values[1:]) for name, values in times.items()}


def median_ratio(name: str, above: np.ndarray, below: np.ndarray, note: str = "") -> Figure:
    """Return the median over rounds of one time over another, with its bootstrap interval."""

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.median(a / b))

    low, high = bootstrap_interval(jax.random.key(0), statistic, above, below)
    return Figure(name, statistic(above, below), min(low, high), high, len(above), "x", note)


def median_speed(name: str, work: float, times: np.ndarray, unit: str, note: str = "") -> Reading:
    """Return work per second at the median time; it describes a machine and has no bar."""
    low, high = work / np.quantile(times, 0.95), work / np.quantile(times, 0.05)
    return Reading(Figure(name, work / float(np.median(times)), low, high, len(times), unit, note), "speed")


def median_time(name: str, times: np.ndarray, note: str = "") -> Reading:
    """Return the median time in ms; it describes a machine and has no bar."""
    low, middle, high = (1e3 * float(np.quantile(times, q)) for q in (0.05, 0.5, 0.95))
    return Reading(Figure(name, middle, low, high, len(times), "ms", note), "speed", more_is_better=False)


def fitted_exponent(name: str, sizes: Any, costs: Any, note: str = "") -> Figure:
    """Fit cost = c size^e by least squares of the logarithms; the interval spans the slopes between neighbours."""
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(costs, float))
    slopes = np.diff(y) / np.diff(x)
    exponent = float(np.polyfit(x, y, 1)[0])
    low, high = min(slopes.min(), exponent), max(slopes.max(), exponent)
    return Figure(name, exponent, float(low), float(high), len(x), "", note or "range: slopes between neighbours")


def counted(name: str, value: float, unit: str = "", note: str = "") -> Figure:
    """Return a figure that is counted and not sampled: it has no spread."""
    return Figure(name, float(value), float(value), float(value), 1, unit, note)


def beside_peers() -> bool:
    """Tell whether the peers run on what we run on, and say where they do not: their packages are built for the CPU."""
    backend = jax.default_backend()
    if backend != "cpu":
        print(f"the peers' packages run on the CPU alone: on {backend} their rows are left out", file=sys.stderr)
    return backend == "cpu"


class Peer:
    """Run cases of the peers' packages in their own environment, one call at a time, so that they can take turns."""

    def __init__(self) -> None:
        if not PEERS.exists():
            raise FileNotFoundError(f"the peers' environment {PEERS} is missing: make it by `make peers`")
        worker = pathlib.Path(__file__).parent / "peers" / "worker.py"
        self._process = subprocess.Popen([PEERS, worker], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line to the worker and return its answer."""
        assert self._process.stdin and self._process.stdout
        print(line, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the peers' worker ended at {line!r}: see above")
        return dict(json.loads(answer))

    def seconds(self, case: str, calls: int = 1) -> float:
        """Time a case as :func:`seconds` does."""
        return float(self.ask(f"{case} {calls}")["seconds"])

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: Any) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()
