"""Measure speed, memory and scale; hold them against their bars and the last record; write docs/performance.md.

    python benchmarks/bench.py                       all benchmarks, against the record
    python benchmarks/bench.py networks mel          some of them
    python benchmarks/bench.py --record              and make this the record, and its table that of docs/performance.md

What misses its bar, and a ratio or count that is a fifth worse than recorded, shows in red; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Mapping
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
        f"`{command_line}` at commit {facts['commit']}, {facts['date']}: {facts['cores']} cores, {facts['backend']}, "
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

    from measure import Reading

    from audiodiff.training.workdir import write_json

    facts = environment()
    path = RESULTS / f"{facts['backend']}.json"  # a record for each backend, and of it a table of its own
    record = json.loads(path.read_text()) if path.exists() else {"results": {}}
    old = {name: [Reading.from_dict(one) for one in found] for name, found in record["results"].items()}
    recorded = {reading.name: reading.figure.value for found in old.values() for reading in found}
    new: dict[str, list[Reading]] = {}
    for name in arguments.benchmarks or BENCHMARKS:
        new[name] = importlib.import_module(name).measure(arguments.rounds)
        for row in rows({name: new[name]}, recorded):
            fault = f"  {RED}{row[-1]}{PLAIN}" if row[-1] else ""
            print(f"{row[0]:>9}  {row[1]}: {row[2]} {row[3]}  {row[4]}{fault}", flush=True)
    if arguments.record:
        merged = {name: new.get(name) or old.get(name, []) for name in BENCHMARKS}
        plain = {name: [reading.to_dict() for reading in found] for name, found in merged.items()}
        RESULTS.mkdir(exist_ok=True)
        write_json(path, {"environment": facts, "results": plain})
        table = markdown(rows(merged, {}), facts, "python benchmarks/bench.py --record")
        marks = (BEGIN, END) if facts["backend"] == "cpu" else (BEGIN_ACCELERATOR, END_ACCELERATOR)
        PAGE.write_text(between(PAGE.read_text(), table, *marks))
    sys.exit(any(row[-1] for row in rows(new, recorded)))


if __name__ == "__main__":
    main()
