"""Put reports side by side: arms of one or more runs each, every figure with its interval over runs.

A run trained with another seed is another run; a comparison of methods needs several an arm, and says of an arm of one
run that it is one. What noise and real clips score stands beside, as in each report.
"""

from __future__ import annotations

import dataclasses
import html
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy  # its parts load when they are first used

from audiodiff.evaluation import page, pictures
from audiodiff.evaluation.report import FIGURES_FILE, FigureRow, Report
from audiodiff.metrics.intervals import Figure, mean_figure

SAME = ("judge", "data", "clips")
"""Facts in which all runs must agree: two judges hear differently, and distances of sets are biased by their size."""

Arms = Mapping[str, Sequence[Report]]


class ComparedFigure(NamedTuple):
    """Hold one figure of all arms: over its runs, of each run, and its difference from the first arm's."""

    name: str
    arms: Mapping[str, Figure]
    runs: Mapping[str, Sequence[Figure]]
    differences: Mapping[str, Figure]
    floor: Figure | None
    ceiling: Figure | None


def compare(arms: Arms) -> list[ComparedFigure]:
    """Return every figure that all runs have, in the order of the first report.

    Over several runs a figure is their mean with Student's interval over runs; of one run it is its own, noted as such.
    Differences are from the first arm, by Welch's interval, where both arms have two runs or more. Raises ValueError
    where there are less than two arms, an empty one, no figure that all have, or runs that disagree in SAME.
    """
    if len(arms) < 2 or not all(arms.values()):
        raise ValueError(
            f"{len(arms)} arms with {[len(runs) for runs in arms.values()]} runs: give two with one or more"
        )
    _check_alike(arms)
    rows = {arm: [{row.figure.name: row for row in run.figures} for run in runs] for arm, runs in arms.items()}
    every = [run for runs in rows.values() for run in runs]
    names = [name for name in every[0] if all(name in run for run in every)]
    if not names:
        raise ValueError("the reports have no figure in common: evaluate all runs alike")
    return [_compare_figure(name, {arm: [run[name] for run in runs] for arm, runs in rows.items()}) for name in names]


def write_comparison(
    path: str | os.PathLike[str], title: str, summary: str, arms: Arms
) -> tuple[pathlib.Path, list[ComparedFigure]]:
    """Write the page of :func:`compare` to ``path`` (``.html``), its figures as JSON beside it; return both."""
    compared = compare(arms)
    first = next(iter(arms.values()))[0]
    facts = {arm: _facts(runs) for arm, runs in arms.items()}
    text = page.document(
        title,
        f"<header>\n<h1>{html.escape(title)}</h1>\n{page.paragraphs(summary)}\n</header>",
        page.section("run", "What was run", _facts_table(facts)),
        page.section("figures", "Figures", _table(compared, first)),
        page.section("plots", "Plots", page.plots([_plot(compared, first)])),
        page.section("listen", "Listen", _listen(arms)),
    )
    values = {
        "title": title,
        "facts": facts,
        "figures": [
            {
                "name": figure.name,
                "arms": {arm: value.to_dict() for arm, value in figure.arms.items()},
                "runs": {arm: [run.to_dict() for run in runs] for arm, runs in figure.runs.items()},
                "differences": {arm: value.to_dict() for arm, value in figure.differences.items()},
                "floor": figure.floor and figure.floor.to_dict(),
                "ceiling": figure.ceiling and figure.ceiling.to_dict(),
            }
            for figure in compared
        ],
    }
    return page.write(path, text, {FIGURES_FILE: page.strict_json(values)}), compared


def _check_alike(arms: Arms) -> None:
    runs = [(f"run {index + 1} of {arm!r}", run) for arm, runs in arms.items() for index, run in enumerate(runs)]
    (first_name, first), *others = runs
    for name, run in others:
        for fact in SAME:
            ours, theirs = first.facts.get(fact), run.facts.get(fact)
            if ours != theirs:
                raise ValueError(
                    f"{first_name} has {fact} {ours} and {name} {theirs}: "
                    "evaluate as many clips of both by one judge on one data set"
                )


def _compare_figure(name: str, rows: Mapping[str, Sequence[FigureRow]]) -> ComparedFigure:
    runs = {arm: [row.figure for row in of_arm] for arm, of_arm in rows.items()}
    values = {arm: np.array([figure.value for figure in figures]) for arm, figures in runs.items()}
    base, *others = rows
    differences = {
        arm: difference for arm in others if (difference := _difference(values[arm], values[base], runs[base][0].unit))
    }
    first = rows[base][0]
    return ComparedFigure(
        name, {arm: _over_runs(figures) for arm, figures in runs.items()}, runs, differences, first.floor, first.ceiling
    )


def _over_runs(figures: Sequence[Figure]) -> Figure:
    if len(figures) == 1:
        return dataclasses.replace(figures[0], note="one run")
    values = [figure.value for figure in figures]
    return mean_figure(figures[0].name, values, unit=figures[0].unit, note=f"mean of {len(figures)} runs")


def _difference(values: np.ndarray, base: np.ndarray, unit: str) -> Figure | None:
    """Return mean minus mean with the interval of Welch (1947); None where a spread over runs is not known."""
    values, base = values[np.isfinite(values)], base[np.isfinite(base)]
    if min(len(values), len(base)) < 2:
        return None
    low, high = scipy.stats.ttest_ind(values, base, equal_var=False).confidence_interval(0.95)
    centre = float(values.mean() - base.mean())
    # Without any spread Welch's interval is not a number: the difference is then exact.
    low, high = (low, high) if np.isfinite([low, high]).all() else (centre, centre)
    return Figure("difference", centre, float(low), float(high), len(values) + len(base), unit)


def _facts(runs: Sequence[Report]) -> dict[str, str]:
    """Return the facts of an arm, with all values of one that differs between its runs."""
    names = dict.fromkeys(name for run in runs for name in run.facts)
    return {name: ", ".join(dict.fromkeys(run.facts.get(name, "unknown") for run in runs)) for name in names}


def _facts_table(facts: Mapping[str, Mapping[str, str]]) -> str:
    names = dict.fromkeys(name for of_arm in facts.values() for name in of_arm)
    cells = [[html.escape(text) for text in (name, *(of.get(name, "") for of in facts.values()))] for name in names]
    return page.table("run", ["Fact", *facts], cells)


def _table(compared: Sequence[ComparedFigure], first: Report) -> str:
    names = list(compared[0].arms)
    columns = ["Figure", *names, page.capital(first.floor_name), page.capital(first.ceiling_name)]
    rows = []
    for figure in compared:
        note = html.escape(figure.runs[names[0]][0].note)
        heading = f'{html.escape(figure.name)}<span class="note">{note}</span>'
        cells = [_arm_text(figure, arm) for arm in figure.arms]
        rows.append([heading, *cells, page.figure_text(figure.floor), page.figure_text(figure.ceiling)])
    legend = (
        f'<p class="aside">Every value has its 95 % interval in brackets, over runs where an arm has several, and the '
        f"number n of runs (of items, for one run) behind it. Δ is the difference from {html.escape(names[0])}, with "
        "Welch's interval over runs; it is left out where an arm has one run.</p>"
    )
    return page.table("figures", columns, rows) + legend


def _arm_text(figure: ComparedFigure, arm: str) -> str:
    text = f'{page.figure_text(figure.arms[arm])} <span class="interval">{html.escape(figure.arms[arm].note)}</span>'
    return text + difference_text(figure, arm)


def difference_text(figure: ComparedFigure, arm: str) -> str:
    """Return what stands behind an arm's value: its difference from the first, or nothing where there is none."""
    if arm not in figure.differences:
        return ""
    difference = figure.differences[arm]
    return f' <span class="interval">Δ {html.escape(difference.value_text)} {difference.interval_text}</span>'


def panel(figure: ComparedFigure, beside: Figure | None) -> pictures.Panel:
    """Return the panel of a figure: a bar for each arm with its runs, and a mark where what stands beside them lies."""
    bars = [
        pictures.Bar(arm, of.value, of.low, of.high, [run.value for run in figure.runs[arm]])
        for arm, of in figure.arms.items()
    ]
    unit = next(iter(figure.arms.values())).unit
    marks = [beside.value] if beside is not None and np.isfinite(beside.value) else []
    return pictures.Panel(f"{figure.name} ({unit})" if unit else figure.name, bars, marks)


def _plot(compared: Sequence[ComparedFigure], first: Report) -> page.Plot:
    panels = [panel(figure, figure.ceiling) for figure in compared]
    caption = f"Mean and 95 % interval of each arm, a faint dot for each run; dashed: {first.ceiling_name}."
    return page.Plot("Figures by arm", pictures.intervals(panels).png, caption)


def _listen(arms: Arms) -> str:
    """Play the pairs of the first run of every arm: those whose label all have."""
    pairs = {arm: {pair.label: pair for pair in runs[0].pairs} for arm, runs in arms.items()}
    base, *others = pairs
    shown = []
    for label, pair in pairs[base].items():
        if all(label in pairs[arm] for arm in others):
            sides = {"real": pair.real, **{arm: of_arm[label].generated for arm, of_arm in pairs.items()}}
            shown.append(page.players(label, sides, pair.rate_hz))
    return "\n".join(shown)
