"""Report a comparison: read its results, from whichever machines they came, and put them on one page."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from audiodiff.build.comparison_cells import BUDGETS, EXACT, Cell, Comparison, Record, pending
from audiodiff.evaluation.arms_page import Ledger, Material, Pace, write_arms_page
from audiodiff.evaluation.report import FigureRow, Report
from audiodiff.metrics.intervals import Figure
from audiodiff.training.summary import quantity

BUDGET_NAMES = {"flops": "at equal FLOPs", "clock": "at equal time"}

SUMMARY = """Models of {parameters} parameters, trained on {data} by one trainer for one objective, sampled by \
{sampler} with guidance {guidance:g} and judged by one judge on {clips} clips of each seed, unselected.

Both budgets are read from one run: at one step {flops} of training are spent, at another {seconds:g} s. What a step \
takes was measured once, for all arms in turn, on {machine}. That fixes both steps, and training itself may run \
elsewhere and beside other work: seeds are equal in steps, and times are those of the calibration. FLOPs are counted \
in the program of a training step before the compiler rewrites it."""


def write_report(comparison: Comparison, path: pathlib.Path) -> pathlib.Path:
    """Write the page of all results that there are, with its figures as JSON beside it; return its path.

    Raises ConfigError for results of another config.
    """
    return write_arms_page(path, material(comparison))


def material(comparison: Comparison) -> Material:
    """Gather all that the page shows."""
    records = {cell: record for cell in comparison.cells if (record := comparison.read(cell.name)) is not None}
    calibration, speed = comparison.read("calibration"), comparison.read("speed")
    ceilings = {arm: record for arm in comparison.arms if (record := comparison.read(f"{arm}_ceiling")) is not None}
    absent = [cell.name for cell in pending(comparison, comparison.cells)]
    return Material(
        title=f"Comparison of {', '.join(comparison.arms)}",
        summary=_summary(comparison, list(records.values()), calibration),
        facts={arm: _facts(arm, records, calibration) | _inverted_by(comparison, arm) for arm in comparison.arms},
        missing=[*absent, *(["speed"] if speed is None else []), *([] if calibration else ["calibration"])],
        budgets={BUDGET_NAMES[budget]: _reports(records, budget) for budget in BUDGETS},
        real=_figures(next(iter(ceilings.values()), {}).get("real", ())),
        sweep=_sweep(records),
        evaluations_a_step={
            _system(cell.arm, way): record["evaluations_a_step"]
            for cell, record in records.items()
            for way in _ways(record["budgets"]["clock"])
        },
        ledger=_ledgers(records, ceilings),
        paces=_paces(speed) if speed else {},
        clip_seconds=speed["clip_seconds"] if speed else 1.0,
        speed_machine=speed["made"]["machine"] if speed else "",
    )


def _summary(comparison: Comparison, records: Sequence[Record], calibration: Record | None) -> str:
    if calibration is None or not records:
        return "Nothing is measured yet."
    counts = sorted(arm["parameters"] for arm in calibration["arms"].values())
    first, budget = records[0], comparison.config["budget"]
    return SUMMARY.format(
        parameters=f"{counts[0]:,} to {counts[-1]:,}",
        data=f"{comparison.config['data']['name']} (manifest {first['data']})",
        sampler=f"{first['sampler']} in {first['steps']} steps",
        guidance=first["guidance"],
        clips=first["clips"],
        flops=quantity(budget["flops"], "FLOP"),
        seconds=budget["seconds"],
        machine=calibration["made"]["machine"],
    )


def _facts(arm: str, records: Mapping[Cell, Record], calibration: Record | None) -> dict[str, str]:
    own = {cell: record for cell, record in records.items() if cell.arm == arm}
    facts = {"seeds": ", ".join(str(cell.seed) for cell in own) or "none yet"}
    if calibration is not None:
        cost = calibration["arms"][arm]
        facts |= {
            "parameters": f"{cost['parameters']:,}",
            "a training step": f"{quantity(cost['flops'], 'FLOP')}, {cost['seconds']:.3g} s",
            "config": cost["config_hash"],
        }
    for record in own.values():
        facts |= {f"steps {BUDGET_NAMES[budget]}": f"{step:,}" for budget, step in record["marks"].items()}
        facts["judge"] = record["judge"]
    if own:
        facts["trained on"] = ", ".join(dict.fromkeys(record["trained_on"] for record in own.values()))
        facts["commit"] = ", ".join(dict.fromkeys(str(record["made"]["commit"]) for record in own.values()))
    return facts


def _inverted_by(comparison: Comparison, arm: str) -> dict[str, str]:
    """Name the vocoder of an arm that has one, which its own parameters do not count."""
    vocoder = comparison.read("vocoder")
    if vocoder is None or not comparison.inverters(arm):
        return {}
    return {"vocoder": f"{vocoder['parameters']:,} parameters, {vocoder['steps']:,} steps, {vocoder['weights_hash']}"}


def _reports(records: Mapping[Cell, Record], budget: str) -> dict[str, list[Report]]:
    """Return a report for every run of a system, as :func:`audiodiff.evaluation.comparison.compare` takes them."""
    reports: dict[str, list[Report]] = {}
    for cell, record in records.items():
        facts = {name: str(record[name]) for name in ("judge", "data", "clips")}
        found = record["budgets"][budget]
        for way in _ways(found):
            rows = [FigureRow(figure) for figure in _figures(found[way])]
            reports.setdefault(_system(cell.arm, way), []).append(Report("", "", facts, rows))
    return reports


def _sweep(records: Mapping[Cell, Record]) -> dict[str, dict[int, list[list[Figure]]]]:
    sweep: dict[str, dict[int, list[list[Figure]]]] = {}
    for cell, record in records.items():
        for steps, found in record["sweep"].items():
            for way in _ways(found):
                of_steps = sweep.setdefault(_system(cell.arm, way), {}).setdefault(int(steps), [])
                of_steps.append(_figures(found[way]))
    return sweep


def _ledgers(records: Mapping[Cell, Record], ceilings: Mapping[str, Record]) -> dict[str, Ledger]:
    """Return the ledger of each system whose arm has a cell and a ceiling, at the budget of time."""
    ledgers = {}
    for arm, ceiling in ceilings.items():
        ends = [record["budgets"]["clock"] for cell, record in records.items() if cell.arm == arm]
        for way in ceiling["ceiling"]:
            ledgers[_system(arm, way)] = Ledger(
                real=_figures(ceiling["real"]),
                ceiling=_figures(ceiling["ceiling"][way]),
                inverter=_figures(ceiling["inverter"][way]),
                generator=[_figures(end["generator"] if "generator" in end else end[way]) for end in ends],
                total=[_figures(end[way]) for end in ends],
            )
    return ledgers


def _paces(speed: Record) -> dict[str, list[Pace]]:
    paces: dict[str, list[Pace]] = {}
    for arm, batches in speed["arms"].items():
        for batch, taken in batches.items():
            check = taken["check"]
            said = f"{check['measured_seconds']:.3g} s, expected {check['expected_seconds']:.3g} s"
            for way, seconds in taken["decode_seconds"].items():
                pace = Pace(int(batch), taken["fixed_seconds"], taken["step_seconds"], seconds, said)
                paces.setdefault(_system(arm, way), []).append(pace)
    return paces


def _system(arm: str, way: str) -> str:
    return arm if way == EXACT else f"{arm} + {way}"


def _ways(found: Mapping[str, Any]) -> list[str]:
    """Return the inverters that figures are held of."""
    return [name for name in found if name != "generator"]


def _figures(values: Sequence[Mapping[str, Any]]) -> list[Figure]:
    return [Figure.from_dict(value) for value in values]
