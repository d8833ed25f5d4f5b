"""Measure speed, memory and scale; hold them against their bars and the last record; write docs/performance.md.

    python benchmarks/bench.py                       all benchmarks, against the record
    python benchmarks/bench.py networks mel          some of them
    python benchmarks/bench.py --record              and make this the record, and its table that of docs/performance.md

Each backend has a record of its own, benchmarks/results/<backend>.json, and is held against that alone; of those of
accelerators the page shows the one written last. A record is written after every figure, so that a run that is cut
short keeps what it measured.

What misses its bar, and a ratio or count that is a fifth worse than recorded, shows in red; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "experiments")]  # configs/, and the launch scripts' module command

BENCHMARKS = (
    "ceilings",
    "networks",
    "mel",
    "sampling",
    "evaluation",
    "scaling",
    "startup",
    "loading",
    "devices",
    "accelerator",
)
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
BEGIN_ACCELERATOR, END_ACCELERATOR = "<!-- accelerator: begin -->", "<!-- accelerator: end -->"
RED, PLAIN = "\033[31m", "\033[0m"


def environment() -> dict[str, Any]:
    """Tell what was measured on: of what a run notes of itself, what bears on speed, with the cores and tunables."""
    import jax

    from audiodiff.training.workdir import environment as of_run

    known = of_run()
    return {
        "commit": (known["commit"] or "unknown")[:7],
        "date": known["time"][:10],
        "backend": jax.default_backend(),
        "device": known["devices"][0],
        "cores": os.cpu_count(),
        "python": known["python"],
        "jax": known["packages"]["jax"],
        "huge_pages": os.environ.get("GLIBC_TUNABLES", ""),
    }


def rows(results: Mapping[str, Iterable[Any]], recorded: Mapping[str, float]) -> list[list[str]]:
    """Return a table's rows: benchmark, figure, value, interval, bar, note, and what is wrong."""
    table = []
    for benchmark, readings in results.items():
        for reading in readings:
            figure = reading.figure
            interval = figure.interval_text if figure.count > 1 else ""
            fault = reading.fault(recorded.get(reading.name))
            table.append([benchmark, reading.name, figure.value_text, interval, reading.bar, figure.note, fault])
    return table


def markdown(table: Iterable[list[str]], facts: Mapping[str, Any], command_line: str) -> str:
    """Return the measured part of docs/performance.md."""
    lines = [
        f"`{command_line}` at commit {facts['commit']}, {facts['date']}: {facts['cores']} cores, {facts['device']}, "
        f"jax {facts['jax']}, Python {facts['python']}, `{facts['huge_pages'] or 'no tunables'}`.",
        "",
        "| benchmark | figure | value | 95 % interval or range | bar | note | |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += ["| " + " | ".join([*row[:-1], f"**{row[-1]}**" if row[-1] else ""]) + " |" for row in table]
    return "\n".join(lines)


def between(page: str, text: str, begin: str = BEGIN, end: str = END) -> str:
    """Put text between the page's two marks."""
    head, rest = page.split(begin)
    return f"{head}{begin}\n{text}\n{end}{rest.split(end)[1]}"


@dataclass
class Record:
    """Hold what was measured on one backend: readings by benchmark, and where they were taken."""

    path: pathlib.Path
    facts: Mapping[str, Any]
    results: dict[str, Sequence[Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, facts: Mapping[str, Any], folder: pathlib.Path = RESULTS) -> Record:
        """Read the record of the backend in ``facts``; it is empty where there is none yet."""
        from measure import Reading

        path = folder / f"{facts['backend']}.json"
        found = json.loads(path.read_text())["results"] if path.exists() else {}
        return cls(path, facts, {name: [Reading.from_dict(one) for one in plain] for name, plain in found.items()})

    def values(self) -> dict[str, float]:
        """Return the figures by name."""
        return {reading.name: reading.figure.value for found in self.results.values() for reading in found}

    def with_new(self, name: str, new: Sequence[Any], *, whole: bool) -> Record:
        """Return the record with a benchmark measured anew; before the ``whole`` of it is, the rest stays as it was."""
        known = {reading.name for reading in new}
        # A benchmark that gave nothing was not measured: there is no accelerator, say.
        kept = [] if whole and new else [old for old in self.results.get(name, ()) if old.name not in known]
        return Record(self.path, self.facts, {**self.results, name: [*new, *kept]})

    def write(self, page: pathlib.Path = PAGE) -> None:
        """Write the record, and its table between the page's marks for it; a crash leaves the old files or the new."""
        from audiodiff.training.workdir import write_json

        ordered = {name: self.results.get(name, []) for name in BENCHMARKS}
        plain = {name: [reading.to_dict() for reading in found] for name, found in ordered.items()}
        self.path.parent.mkdir(exist_ok=True)
        write_json(self.path, {"environment": self.facts, "results": plain})
        table = markdown(rows(ordered, {}), self.facts, "python benchmarks/bench.py --record")
        marks = (BEGIN, END) if self.facts["backend"] == "cpu" else (BEGIN_ACCELERATOR, END_ACCELERATOR)
        new = page.with_name(page.name + ".tmp")
        new.write_text(between(page.read_text(), table, *marks))
        os.replace(new, page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help=f"some of {', '.join(BENCHMARKS)}")
    parser.add_argument("--rounds", type=int, default=7, help="how often each case takes its turn (default 7)")
    parser.add_argument("--record", action="store_true", help="keep the results as the record")
    arguments = parser.parse_args()
    import command

    if unknown := set(arguments.benchmarks) - set(BENCHMARKS):
        parser.error(f"unknown benchmark {sorted(unknown)[0]!r}: choose of {', '.join(BENCHMARKS)}")
    command.ask_for_huge_pages()

    record = Record.read(environment())
    recorded, faults = record.values(), 0
    for name in arguments.benchmarks or BENCHMARKS:
        new: list[Any] = []
        for reading in importlib.import_module(name).measure(arguments.rounds):
            new.append(reading)
            (row,) = rows({name: [reading]}, recorded)
            fault = f"  {RED}{row[-1]}{PLAIN}" if row[-1] else ""
            print(f"{row[0]:>9}  {row[1]}: {row[2]} {row[3]}  {row[4]}{fault}", flush=True)
            faults += bool(row[-1])
            if arguments.record:
                record.with_new(name, new, whole=False).write()
        record = record.with_new(name, new, whole=True)
        if arguments.record:
            record.write()
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
