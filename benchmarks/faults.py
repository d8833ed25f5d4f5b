"""Kill, damage and starve one training run again and again; hold what comes of it against an undisturbed one.

    python benchmarks/faults.py                 some 10 minutes of 2 cores
    python benchmarks/faults.py --record        and put the table into docs/training.md

The run of benchmarks/small_run.py is started over and over by the same command. Each start is ended at a moment drawn
over its whole life, from the imports to the exit, by `kill -9`, SIGTERM or a disk that another file has filled up; and
before many a start something in its folder is damaged. A start must go on from the newest whole checkpoint, and say so
where it passes over a damaged one. A run that has finished must equal the undisturbed one bit for bit: parameters,
averages, optimiser state, each line of metrics.jsonl but for the speed, and with it which examples each step was
trained on. Then the next run begins, until the kills are spent.

Moments and damages come from --seed; where the process is at a moment, only the machine knows. The exit code is 1
where anything was not as promised.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import errno
import itertools
import json
import math
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from bench import PLAIN, RED, ROOT, between, environment

from audiodiff.training.loop import FINISHED_FILE
from audiodiff.training.workdir import write_json
from audiodiff.training.writers import METRICS_FILE, read_metrics

RECORD = ROOT / "benchmarks" / "results" / "faults.json"
PAGE = ROOT / "docs" / "training.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
SCRIPT = pathlib.Path(__file__).resolve().parent / "small_run.py"

KILL, TERM, FULL, NONE = "kill -9", "SIGTERM", "full disk", "none"
ENDINGS = (KILL,) * 5 + (TERM, FULL, FULL)
PHASES = ("imports", "restore and compile", "steps", "a save in flight", "evaluation", "exit")
DISK_BYTES = 16 * 2**20
PATIENCE_S = 60.0
"""How long a process that was asked to stop, or has no room left, may take to end."""


@dataclasses.dataclass
class Start:
    """Hold what one start of the process came to.

    ``before`` and ``reached`` are how many steps the starts before it and itself told of, ``began`` the step it went on
    from, None where it never came so far. ``fell_back`` holds the checkpoints that it passed over, each with its
    damage, ``unnoticed`` the damage of the one that it took. ``lost`` is how many of its steps had to be taken again,
    as the next start shows that goes on, unless that fell back.
    """

    run: int
    damage: str
    ending: str
    before: int
    began: int | None = None
    reached: int = 0
    phase: str = PHASES[0]
    code: int = 0
    seconds: float = 0.0
    first_step_s: float | None = None
    lost: int | None = None
    fell_back: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    unnoticed: str = ""
    wrong_beginning: list[str] = dataclasses.field(default_factory=list)
    wrong_ending: list[str] = dataclasses.field(default_factory=list)


class Process:
    """Start the run once, and read what it tells while it goes."""

    def __init__(self, workdir: pathlib.Path, result: pathlib.Path, cache: pathlib.Path, steps: int, pace_s: float):
        command = [sys.executable, str(SCRIPT), f"--workdir={workdir}", f"--result={result}", f"--steps={steps}"]
        command += [f"--step_seconds={pace_s}"]
        variables = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache)}
        self.begin = time.monotonic()
        self.told: list[tuple[float, str]] = []
        self.process = subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True, errors="replace")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.told.append((time.monotonic() - self.begin, line.rstrip("\n")))

    def wait(self, seconds: float) -> bool:
        """Return whether the process has ended within so many seconds."""
        try:
            self.process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return False
        self._reader.join()
        return True

    def wait_for(self, beginning: str, seconds: float) -> bool:
        """Return whether a line with this beginning was told within so many seconds, or the process has ended."""
        until = time.monotonic() + seconds
        while not self.find(beginning) and not self.wait(0.02):
            if time.monotonic() > until:
                return False
        return True

    def kill(self) -> None:
        """End the process as none can resist; one that has ended stays as it is."""
        self.process.kill()
        self.wait(PATIENCE_S)

    def find(self, pattern: str) -> re.Match[str] | None:
        """Return the first match at the beginning of a line."""
        return next((match for _, line in list(self.told) if (match := re.match(pattern, line))), None)

    @property
    def text(self) -> str:
        return "\n".join(line for _, line in self.told)

    @property
    def began(self) -> int | None:
        """Return the step that the run went on from; None where it has not told."""
        match = self.find(r"(?:going on|starting) in .* at step (\d+) of|the run in .* has finished its (\d+) steps")
        return None if match is None else int(match[1] or match[2])

    @property
    def reached(self) -> int:
        """Return how many steps the run has told of."""
        return max((int(m[1]) for _, line in self.told if (m := re.match(r"step (\d+)/", line))), default=0)

    @property
    def first_step_s(self) -> float | None:
        """Return after how many seconds a step was told of."""
        return next((seconds for seconds, line in self.told if line.startswith("step ")), None)

    @property
    def phase(self) -> str:
        """Return what the run was at, by the last thing that it told."""
        phases = {
            "imported": 1, "starting": 1, "going on": 1, "step ": 2, "evaluated": 2, "evaluating": 4,
            "finished": 5, "the run in": 5, "kept": 5,
        }  # fmt: skip
        for _, line in reversed(self.told):
            for beginning, phase in phases.items():
                if line.startswith(beginning):
                    return PHASES[phase]
        return PHASES[0]


class Disk:
    """Hold a folder on a small disk of its own, which can be filled up.

    It is a tmpfs, which only root may mount. Where that is not permitted the limit on the size of a process's files
    stands in for it: writes fail as well, with another errno.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.mounted = False

    def __enter__(self) -> Disk:
        self.folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "audiodiff-faults", str(self.folder)]
        try:
            self.mounted = subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
        except FileNotFoundError:
            self.mounted = False
        return self

    def __exit__(self, *_: Any) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    @property
    def _ballast(self) -> pathlib.Path:
        return self.folder / "ballast"

    def fill(self, spare_bytes: int, process: Process) -> None:
        """Leave no more room than this: of the disk, or else in any file of the process."""
        if not self.mounted:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            limit = spare_bytes // 3  # less than the largest file of a checkpoint, 80 kB
            resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (limit, hard))
            return
        with open(self._ballast, "wb", buffering=0) as file:
            while True:
                try:
                    file.write(bytes(2**16))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break
            file.truncate(max(0, file.tell() - spare_bytes))

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)


def saved_steps(workdir: pathlib.Path) -> list[int]:
    """Return the steps of the checkpoints that are whole by their names, oldest first."""
    return sorted(int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit())


def _file_of_newest(workdir: pathlib.Path, draw: random.Random) -> pathlib.Path | None:
    """Draw a file of the newest checkpoint; None where there is no other to fall back to."""
    steps = saved_steps(workdir)
    if len(steps) < 2:
        return None
    newest = workdir / "checkpoints" / str(steps[-1])
    return draw.choice(sorted(path for path in newest.rglob("*") if path.is_file() and path.stat().st_size))


def cut_file(workdir: pathlib.Path, draw: random.Random) -> bool:
    """Leave only the beginning of a file of the newest checkpoint."""
    if path := _file_of_newest(workdir, draw):
        os.truncate(path, draw.randrange(path.stat().st_size))
    return path is not None


def flip_bytes(workdir: pathlib.Path, draw: random.Random) -> bool:
    """Change up to four bytes of a file of the newest checkpoint."""
    if path := _file_of_newest(workdir, draw):
        content = bytearray(path.read_bytes())
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] ^= draw.randint(1, 255)
        path.write_bytes(content)
    return path is not None


def delete_file(workdir: pathlib.Path, draw: random.Random) -> bool:
    """Delete a file of the newest checkpoint."""
    if path := _file_of_newest(workdir, draw):
        path.unlink()
    return path is not None


def leave_halves(workdir: pathlib.Path, draw: random.Random) -> bool:
    """Leave what a crash in the middle of writing leaves: part of a checkpoint, and parts of the small files."""
    steps = saved_steps(workdir)
    if not steps:
        return False
    checkpoints = workdir / "checkpoints"
    half = checkpoints / f"{steps[-1] + draw.randint(0, 9)}.orbax-checkpoint-tmp"
    shutil.copytree(checkpoints / str(steps[-1]), half, dirs_exist_ok=True)
    for path in sorted(path for path in half.rglob("*") if path.is_file()):
        if draw.random() < 0.5:
            os.truncate(path, path.stat().st_size // 2)
        elif draw.random() < 0.5:
            path.unlink()
    for name in ("config.json.tmp", "env.json.tmp", "metrics.tmp", "finished.json.tmp"):
        (workdir / name).write_text('{"step": ')
    return True


def half_a_line(workdir: pathlib.Path, draw: random.Random) -> bool:
    """End metrics.jsonl in the middle of a line that no checkpoint speaks for yet, as a crash in the middle of a write.

    Lines are on the disk before a checkpoint of a later step is begun. So where the last line is older than the newest
    checkpoint, the half is one of a next line.
    """
    path = workdir / METRICS_FILE
    lines = path.read_text().splitlines() if path.exists() else []
    if not lines or (workdir / FINISHED_FILE).exists():  # by then all lines are on the disk
        return False
    newest = saved_steps(workdir)[-1] if saved_steps(workdir) else 0
    try:
        cut = json.loads(lines[-1])["step"] >= newest
    except ValueError:  # half a line is there already
        return False
    if cut:
        os.truncate(path, path.stat().st_size - draw.randint(2, len(lines[-1])))
    else:
        with open(path, "a") as file:
            file.write(f'{{"step": {newest + 1}, "train/lo'[: draw.randint(1, 20)])
    return True


DAMAGES: dict[str, Callable[[pathlib.Path, random.Random], bool]] = {
    "file cut short": cut_file,
    "bytes changed": flip_bytes,
    "file deleted": delete_file,
    "half-written files": leave_halves,
    "half a line": half_a_line,
}
OF_CHECKPOINT = ("file cut short", "bytes changed", "file deleted")
"""The damages that the run must fall back from."""


def decks(draw: random.Random, cards: Iterable[str]) -> Iterator[str]:
    """Yield the cards in a drawn order, then again in another, for ever: no kind is long in coming."""
    while True:
        deck = list(cards)
        draw.shuffle(deck)
        yield from deck


@dataclasses.dataclass(frozen=True)
class Life:
    """Hold how long an undisturbed start takes: to its first step, for each step from there, and to end."""

    first_step_s: float
    step_s: float
    exit_s: float

    def moment(self, draw: random.Random, steps_left: int) -> tuple[str, float]:
        """Draw a moment of the life that is left: so many seconds after a line of this beginning, or after the start.

        It lies within three times what it takes to the first step: so two starts of three come to take steps. The exit
        is short, and else hardly ever met.
        """
        left_s = self.first_step_s + steps_left * self.step_s + self.exit_s
        if left_s < 2 * self.first_step_s and draw.random() < 0.3:
            return "finished", draw.uniform(0.0, self.exit_s)
        return "", draw.uniform(0.0, min(3 * self.first_step_s, left_s))


class Campaign:
    """Run the same command again and again under faults, and keep what was seen."""

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        seed: int = 0,
        steps: int = 400,
        pace_s: float = 0.03,
        cache: pathlib.Path | None = None,
    ):
        self.folder = folder
        self.steps = steps
        self.pace_s = pace_s
        self.cache = cache or folder / "cache"
        self.starts: list[Start] = []
        self.runs: list[list[str]] = []
        self.mounted = False
        self._draw = random.Random(seed)
        self._suspect: dict[int, str] = {}

    def undisturbed(self, name: str = "undisturbed") -> Life:
        """Make the run that the others are held against, and take its times. What it trained on is checked here.

        A second one, of another name, is held against the first.
        """
        workdir, result = self.folder / name, self.folder / f"{name}.npz"
        process = self._start(workdir, result)
        if not process.wait(20 * PATIENCE_S) or process.process.returncode:
            raise RuntimeError(f"the undisturbed run did not finish:\n{process.text}")
        wrong = _out_of_order(workdir) or "; ".join(self._differences(workdir, result))
        if wrong:
            raise RuntimeError(f"two undisturbed runs differ, or one was trained on other examples: {wrong}")
        stepped = [seconds for seconds, line in process.told if line.startswith("step ")]
        end = time.monotonic() - process.begin
        return Life(stepped[0], (stepped[-1] - stepped[0]) / self.steps, end - stepped[-1])

    def run(self, life: Life, plan: Iterator[tuple[str, str]]) -> None:
        """Start one run by the plan's (damage, ending) pairs until it has finished, and compare it."""
        number = len(self.runs) + 1
        self._suspect.clear()
        with Disk(self.folder / f"disk{number}") as disk:
            self.mounted = disk.mounted
            workdir, result = disk.folder / "run", self.folder / f"{number}.npz"
            last: Start | None = None
            for damage, ending in plan:
                before = 0 if last is None else last.reached
                start = self._one(Start(number, damage, ending, before), workdir, result, disk, life)
                self.starts.append(start)
                if start.began is not None:
                    if last is not None and not start.fell_back:
                        last.lost = max(0, last.reached - start.began)
                    last = start
                print(_line(start), flush=True)
                if start.code == 0 or start.ending == NONE:
                    break
            self.runs.append(self._differences(workdir, result))

    def _start(self, workdir: pathlib.Path, result: pathlib.Path) -> Process:
        return Process(workdir, result, self.cache, self.steps, self.pace_s)

    def _one(self, start: Start, workdir: pathlib.Path, result: pathlib.Path, disk: Disk, life: Life) -> Start:
        """Damage, start, end: return what was seen, with what was wrong about it."""
        held = saved_steps(workdir)
        if start.damage != NONE:
            possible = start.damage not in OF_CHECKPOINT or not self._suspect.keys() & held
            if not (possible and DAMAGES[start.damage](workdir, self._draw)):
                start.damage = NONE
            elif start.damage in OF_CHECKPOINT:
                self._suspect[held[-1]] = start.damage
        process = self._start(workdir, result)
        try:
            self._end(start, process, disk, life)
        finally:
            process.kill()
            disk.free()

        start.seconds = time.monotonic() - process.begin
        start.code, start.began, start.phase = process.process.returncode, process.began, process.phase
        if start.ending == KILL and start.code == 0:  # it was at its end already
            start.ending = NONE
        start.reached = max(process.reached, start.began or 0)
        start.first_step_s = process.first_step_s
        if start.phase in ("steps", "evaluation") and list((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*")):
            start.phase = "a save in flight"
        start.wrong_beginning = self._beginning(start, process, held)
        start.wrong_ending += _ending(start, process, workdir)
        left = saved_steps(workdir)
        self._suspect = {step: damage for step, damage in self._suspect.items() if step in left}
        return start

    def _end(self, start: Start, process: Process, disk: Disk, life: Life) -> None:
        """Bring the process to its end at a drawn moment, in the way asked for."""
        mark, seconds = life.moment(self._draw, self.steps - start.before)
        spare = round(self._draw.uniform(0.0, 150_000.0))  # a checkpoint takes 200 kB
        if start.ending == NONE:
            mark, seconds = "", 20 * PATIENCE_S
        begin = process.begin
        if mark:
            process.wait_for(mark, 20 * PATIENCE_S)
            begin = time.monotonic()
        if process.wait(begin + seconds - time.monotonic()):
            start.ending = NONE
            return
        if start.ending == KILL:
            process.kill()
        elif start.ending == TERM:
            process.process.send_signal(signal.SIGTERM)
        elif start.ending == FULL:
            disk.fill(spare, process)
        if not process.wait(PATIENCE_S):
            start.wrong_ending.append(f"still ran {PATIENCE_S:.0f} s after {start.ending}")
            process.kill()

    def _beginning(self, start: Start, process: Process, held: list[int]) -> list[str]:
        """Say what is wrong with where the run went on from."""
        if start.began is None:
            return []
        passed = [step for step in held if step > start.began]
        start.unnoticed = self._suspect.get(start.began, "")
        start.fell_back = [(step, self._suspect.get(step, NONE)) for step in passed]
        self._suspect.clear()
        wrong = [
            f"passed over the whole checkpoint of step {step}" for step, damage in start.fell_back if damage == NONE
        ]
        for step in passed:
            told = f"the checkpoint of step {step} is damaged" in process.text
            if not told or f"falling back to the checkpoint of step {start.began}" not in process.text:
                wrong.append(f"fell back from step {step} to {start.began} without naming both")
        if start.began not in (held or [0]):
            wrong.append(f"went on from step {start.began}, of which there was no checkpoint")
        return wrong

    def _differences(self, workdir: pathlib.Path, result: pathlib.Path) -> list[str]:
        """Name what differs from the undisturbed run."""
        if not result.exists():
            return ["never finished"]
        with np.load(self.folder / "undisturbed.npz") as whole, np.load(result) as broken:
            names = sorted({*whole.files, *broken.files})
            differ = [name for name in names if not _same(whole.get(name), broken.get(name))]
        lines = [_without_speed(read_metrics(folder)) for folder in (self.folder / "undisturbed", workdir)]
        for ours, theirs in itertools.zip_longest(*lines):
            if ours != theirs:
                differ.append(f"{METRICS_FILE}: {theirs} and not {ours}")
                break
        return differ

    @property
    def kills(self) -> int:
        return sum(start.ending == KILL for start in self.starts)


def _same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Say whether two arrays are the same, bit for bit."""
    if one is None or other is None:
        return False
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def _without_speed(lines: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if not name.startswith("speed/")} for line in lines]


def _out_of_order(workdir: pathlib.Path) -> str:
    """Say where a line tells of other examples than those of its steps; empty where none does."""
    from small_run import BATCH, LOG_EVERY

    seen, total, steps = -1, 0.0, 0
    for line in read_metrics(workdir):
        if "train/draws" not in line:
            continue
        while seen < line["step"]:
            seen, steps = seen + 1, steps + 1
            place = 1 + np.arange(BATCH) + 10 * (seen % LOG_EVERY)
            total += float(np.mean((seen * BATCH + np.arange(BATCH)) * place))
        if not math.isclose(line["train/draws"], total / steps, rel_tol=1e-6):
            return f"was trained on other examples than those of step {seen}"
        total, steps = 0.0, 0
    return "" if seen > 0 else "tells of no examples"


def _ending(start: Start, process: Process, workdir: pathlib.Path) -> list[str]:
    """Say what is wrong with how the process ended, and with what it said."""
    outside = start.began is None or start.phase == PHASES[-1]  # the trainer holds the signals only while it runs
    if start.ending == KILL and start.code == -signal.SIGKILL:
        return []
    if start.ending == TERM and start.code == -signal.SIGTERM and outside:
        return []
    if start.ending == TERM and start.code == 128 + signal.SIGTERM:
        match = process.find(r"received SIGTERM: saved step (\d+) of")
        newest = saved_steps(workdir)[-1:]
        wrong = [] if match and [int(match[1])] == newest else [f"saved {newest} at SIGTERM, said {match and match[0]}"]
        return wrong + (["a traceback at SIGTERM"] if "Traceback" in process.text else [])
    if start.ending == FULL and start.code > 0:
        return _unclear(process.text)
    if start.code:
        return [f"exit code {start.code}: {process.text[-500:]!r}"]
    return []


def _unclear(text: str) -> list[str]:
    """Say what is wrong with the words of a run that ended on a full disk: it must say what is wrong and what to do.

    Let pass, because nothing in Python can keep them back: TensorStore's threads tell that Orbax has closed the loop
    that they would report to, and the interpreter warns of coroutines that Orbax has abandoned.
    """
    lines = text.splitlines()
    reasons = (os.strerror(errno.ENOSPC), os.strerror(errno.EFBIG))
    told = [line for line in lines if line.startswith("error: ")]
    clear = len(told) == 1 and any(one in told[0] for one in reasons) and "rerun the same command" in told[0]
    raised = {line[:300] for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)}
    wrong = [f"no clear sentence: {told}"] if not clear else []
    return wrong + [f"a traceback: {line}" for line in sorted(raised) if "Event loop is closed" not in line]


def plan(draw: random.Random, kills_left: Callable[[], int]) -> Iterator[tuple[str, str]]:
    """Yield what happens before and at the end of each start; nothing more once the kills are spent."""
    endings, damages = decks(draw, ENDINGS), decks(draw, [*DAMAGES, NONE, NONE, NONE])
    while True:
        yield next(damages), next(endings) if kills_left() > 0 else NONE


def _line(start: Start) -> str:
    """Return a start as a line of the log."""
    began = "never began" if start.began is None else f"{start.began} -> {start.reached}"
    parts = [f"run {start.run}", start.damage.rjust(18), start.ending.rjust(9), start.phase.ljust(19), began.ljust(12)]
    parts += [f"{start.seconds:5.1f} s", "fell back" if start.fell_back else ""]
    wrong = "; ".join(start.wrong_beginning + start.wrong_ending)
    return "  ".join(parts) + (f"  {RED}{wrong}{PLAIN}" if wrong else "")


def rows(starts: list[Start], runs: list[list[str]]) -> list[list[str]]:
    """Return the table: fault, how often, what was seen, what was wrong."""
    table = []
    for phase in PHASES:
        found = [start for start in starts if start.ending == KILL and start.phase == phase]
        seen, wrong = "; ".join(_lost(found)), _all(start.wrong_ending for start in found)
        table.append([f"`kill -9`: {phase}", str(len(found)), seen, wrong])
    for name in (TERM, FULL):
        found = [start for start in starts if start.ending == name]
        seen = "; ".join([*_codes(found), *_lost(found)])
        table.append([name, str(len(found)), seen, _all(start.wrong_ending for start in found)])
    for damage in DAMAGES:
        count = sum(start.damage == damage for start in starts)
        table.append([damage, str(count), "; ".join(_fallen_back(damage, starts)), _harm(damage, starts, runs)])
    found = [start for start in starts if start.began is not None]
    wrong = _all(start.wrong_beginning for start in found) or _all(s.wrong_ending for s in starts if s.ending == NONE)
    table.append(["starts that went on", str(len(found)), "each from the newest whole checkpoint", wrong])
    equal = f"{sum(not found for found in runs)} equal the undisturbed one bit for bit"
    wrong = "; ".join(f"run {number} differs: {', '.join(found)}" for number, found in enumerate(runs, 1) if found)
    return [*table, ["runs to the end", str(len(runs)), equal, wrong]]


def _all(found: Iterable[list[str]]) -> str:
    """Return each text once."""
    return "; ".join(dict.fromkeys(text for texts in found for text in texts))


def _lost(found: list[Start]) -> Iterator[str]:
    """Tell of the steps that had to be taken again."""
    if lost := [start.lost for start in found if start.lost is not None]:
        yield f"steps taken again: {statistics.median(lost):g} (median), {max(lost)} at most"


def _codes(found: list[Start]) -> Iterator[str]:
    """Tell of the exit codes."""
    for code, count in sorted(collections.Counter(start.code for start in found).items()):
        yield f"{count} by the signal itself, outside of the trainer" if code < 0 else f"{count} with exit code {code}"


def _fallen_back(damage: str, starts: list[Start]) -> Iterator[str]:
    """Tell what the starts made of a damaged checkpoint."""
    back = [f"{step} to {start.began}" for start in starts for step, kind in start.fell_back if kind == damage]
    if back:
        yield f"fell back {len(back)} times, naming both (step {', '.join(back[:3])}{', ...' * (len(back) > 3)})"
    if missed := sum(start.unnoticed == damage for start in starts):
        yield f"went on {missed} times from the checkpoint all the same: the file is not read"


def _harm(damage: str, starts: list[Start], runs: list[list[str]]) -> str:
    """Say in how many runs a damage was not noticed that then differed in the end."""
    harmed = {start.run for start in starts if start.unnoticed == damage and runs[start.run - 1]}
    return f"unnoticed in {len(harmed)} runs that differ in the end" if harmed else ""


def markdown(table: Iterable[list[str]], facts: Mapping[str, Any], command_line: str, summary: str) -> str:
    """Return what stands between the marks of docs/training.md."""
    lines = [
        f"`{command_line}` at commit {facts['commit']}, {facts['date']}: {facts['cores']} cores, jax {facts['jax']}, "
        f"Python {facts['python']}. {summary}",
        "",
        "| fault | times | what was seen | verdict |",
        "|---|---|---|---|",
    ]
    lines += ["| " + " | ".join([*row[:-1], f"**{row[-1]}**" if row[-1] else "as promised"]) + " |" for row in table]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how many kill -9 at least (default 50)")
    parser.add_argument("--seed", type=int, default=0, help="of moments and damages (default 0)")
    parser.add_argument("--record", action="store_true", help="keep the results, and put the table into the page")
    arguments = parser.parse_args()

    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="audiodiff-faults-") as folder:
        campaign = Campaign(pathlib.Path(folder), seed=arguments.seed)
        campaign.undisturbed()
        life = campaign.undisturbed("again")  # with a warm compile cache, as the starts to come
        deal = plan(random.Random(arguments.seed), lambda: arguments.kills - campaign.kills)
        while campaign.kills < arguments.kills:
            campaign.run(life, deal)
        place = "a tmpfs" if campaign.mounted else "no tmpfs could be mounted, so a limit on the size of files stood in"
    table = rows(campaign.starts, campaign.runs)
    first = [start.first_step_s for start in campaign.starts if start.first_step_s is not None]
    summary = (
        f"{len(campaign.starts)} starts in {(time.monotonic() - begin) / 60:.0f} minutes, {campaign.kills} kills, "
        f"{len(campaign.runs)} runs of {campaign.steps} steps; {statistics.median(first):.1f} s from a start to its "
        f"first step (median); the disk: {place}."
    )
    print(summary)
    for row in table:
        print(f"{row[0]:>34}  {row[1]:>3}  {row[2]}" + (f"  {RED}{row[3]}{PLAIN}" if row[3] else ""))
    if arguments.record:
        facts = environment()
        starts = [dataclasses.asdict(start) for start in campaign.starts]
        RECORD.parent.mkdir(exist_ok=True)
        write_json(
            RECORD,
            {"environment": facts, "seed": arguments.seed, "summary": summary, "table": table} | {"starts": starts},
        )
        text = markdown(table, facts, "python benchmarks/faults.py --record", summary)
        PAGE.write_text(between(PAGE.read_text(), text, BEGIN, END))
    sys.exit(any(row[-1] for row in table))


if __name__ == "__main__":
    main()
