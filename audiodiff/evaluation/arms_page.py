"""Write the page of a comparison of arms: figures at each budget, quality against cost, where what is lost, and speed.

Everything comes from the results of cells; what is missing is shown as missing.
"""

from __future__ import annotations

import html
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from audiodiff.evaluation import page, pictures
from audiodiff.evaluation.comparison import Arms, ComparedFigure, compare, difference_text, panel
from audiodiff.evaluation.spread_pictures import spread_curves
from audiodiff.metrics.intervals import Figure, mean_figure

FIGURES_FILE = "figures.json"

PLOTTED = ("accuracy digit", "accuracy speaker", "Frechet distance", "kernel distance")
"""The figures whose course over the number of steps is drawn, where they were measured."""

LEDGER = ("accuracy digit", "accuracy speaker", "rejected", "Frechet distance", "kernel distance")
"""The figures of the error ledger that sets of clips have; the distances of a clip from itself follow by themselves."""

Runs = Mapping[int, Sequence[Sequence[Figure]]]
"""Number of steps -> the figures of each run."""


class Pace(NamedTuple):
    """Hold how long a system generates a batch: seconds of the whole are fixed + steps * step + decode."""

    batch: int
    fixed_seconds: float
    step_seconds: float
    decode_seconds: float
    check: str

    def real_time_factor(self, steps: int, clip_seconds: float) -> float:
        """Return seconds of work for a second of audio; below 1 it keeps up with playing."""
        return (self.fixed_seconds + steps * self.step_seconds + self.decode_seconds) / (self.batch * clip_seconds)


@dataclass(frozen=True)
class Ledger:
    """Hold by figure what becomes of clips on their way through a system.

    real       clips as they are
    ceiling    real clips through representation and inverter
    inverter   what that changes, clip by clip
    generator  what the judge hears of generated arrays before they are inverted, of each run
    total      generated clips, of each run
    """

    real: Sequence[Figure]
    ceiling: Sequence[Figure]
    inverter: Sequence[Figure]
    generator: Sequence[Sequence[Figure]]
    total: Sequence[Sequence[Figure]]


@dataclass(frozen=True)
class Material:
    """Hold all that the page shows; a *system* is an arm with the inverter that it ends in."""

    title: str
    summary: str
    facts: Mapping[str, Mapping[str, str]]
    missing: Sequence[str]
    budgets: Mapping[str, Arms]
    real: Sequence[Figure] = ()
    sweep: Mapping[str, Runs] = field(default_factory=dict)
    evaluations_a_step: Mapping[str, int] = field(default_factory=dict)
    ledger: Mapping[str, Ledger] = field(default_factory=dict)
    paces: Mapping[str, Sequence[Pace]] = field(default_factory=dict)
    clip_seconds: float = 1.0
    speed_machine: str = ""


def write_arms_page(path: str | os.PathLike[str], material: Material) -> pathlib.Path:
    """Write the page to ``path`` (``.html``) and all its figures as JSON beside it; return its path."""
    compared = {budget: compare(arms) if len(arms) > 1 else [] for budget, arms in material.budgets.items()}
    sections = [
        page.section(f"at-{index}", html.escape(page.capital(budget)), _budget(figures, material, budget))
        for index, (budget, figures) in enumerate(compared.items())
    ]
    text = page.document(
        material.title,
        f"<header>\n<h1>{html.escape(material.title)}</h1>\n{page.paragraphs(material.summary)}\n</header>",
        page.section("run", "What was run", _facts(material)),
        *sections,
        page.section("sweep", "Quality against cost of sampling", page.plots(_sweep_plots(material))),
        page.section("ledger", "Where it is lost", _ledger(material)),
        page.section("speed", "Speed", _speed(material)),
    )
    return page.write(path, text, {FIGURES_FILE: page.strict_json(_to_dict(material, compared))})


def over_runs(runs: Sequence[Sequence[Figure]], name: str) -> Figure | None:
    """Return the mean of a figure over runs with Student's interval; of one run its own; None where none has it."""
    found = [figure for run in runs for figure in run if figure.name == name]
    if len(found) < 2:
        return found[0] if found else None
    return mean_figure(name, [figure.value for figure in found], unit=found[0].unit)


def _facts(material: Material) -> str:
    names = dict.fromkeys(name for of_arm in material.facts.values() for name in of_arm)
    texts = [(name, *(of.get(name, "") for of in material.facts.values())) for name in names]
    rows = [[html.escape(text) for text in row] for row in texts]
    missing = f'<p class="miss">Missing: {html.escape(", ".join(material.missing))}.</p>' if material.missing else ""
    return page.table("run", ["Fact", *material.facts], rows) + missing if rows else missing


def _budget(compared: Sequence[ComparedFigure], material: Material, budget: str) -> str:
    if not compared:
        return '<p class="miss">Missing: fewer than two systems have a finished cell.</p>'
    systems = list(compared[0].arms)
    real = {figure.name: figure for figure in material.real}
    rows = []
    for figure in compared:
        cells = [page.figure_text(figure.arms[system]) + difference_text(figure, system) for system in systems]
        rows.append([html.escape(figure.name), *cells, page.figure_text(real.get(figure.name))])
    legend = (
        '<p class="aside">Mean over seeds with Student\'s 95 % interval; n counts seeds, of one seed it counts clips '
        f"and the interval is over them. Δ is the difference from {html.escape(systems[0])}, with Welch's interval "
        "over seeds.</p>"
    )
    name = f"at-{list(material.budgets).index(budget)}"
    table = page.table(name, ["Figure", *systems, "Real clips"], rows)
    return table + legend + page.plots([_intervals(compared, real, budget)])


def _intervals(compared: Sequence[ComparedFigure], real: Mapping[str, Figure], budget: str) -> page.Plot:
    panels = [panel(figure, real.get(figure.name)) for figure in compared]
    caption = "Mean and 95 % interval of each system, a faint dot for each seed; dashed: real clips."
    return page.Plot(f"Figures {budget}", pictures.intervals(panels, columns=2).png, caption)


def _sweep_plots(material: Material) -> list[page.Plot]:
    """Plot each figure against network evaluations, and against the real-time factor of each measured batch."""
    if not material.sweep:
        return []
    plots = []
    batches = sorted({pace.batch for paces in material.paces.values() for pace in paces})
    for name in PLOTTED:
        courses = {system: _course(runs, name) for system, runs in material.sweep.items()}
        courses = {system: course for system, course in courses.items() if course}
        if not courses:
            continue
        unit = next(iter(next(iter(courses.values())).values())).unit
        label = f"{name} ({unit})" if unit else name
        caption = "Mean over seeds and its 95 % interval, at the end of the budget of time."
        evaluations = {
            system: [(steps * material.evaluations_a_step[system], figure) for steps, figure in course.items()]
            for system, course in courses.items()
        }
        picture = spread_curves(evaluations, x_label="network evaluations a clip", y_label=label)
        plots.append(page.Plot(f"{page.capital(name)} by network evaluations", picture.png, caption))
        for batch in batches:
            paced = {
                system: [
                    (pace.real_time_factor(steps, material.clip_seconds), figure)
                    for pace in material.paces[system]
                    if pace.batch == batch
                    for steps, figure in course.items()
                ]
                for system, course in courses.items()
                if system in material.paces
            }
            axis = f"real-time factor, {batch} clip{'s' if batch > 1 else ''} at a time"
            picture = spread_curves(paced, x_label=axis, y_label=label)
            title = f"{page.capital(name)} by real-time factor, batch {batch}"
            plots.append(
                page.Plot(title, picture.png, f"{caption} Time on {material.speed_machine}; inverters included.")
            )
    return plots


def _course(runs: Runs, name: str) -> dict[int, Figure]:
    """Return a figure by the number of steps, where it is defined."""
    found = {steps: over_runs(of_steps, name) for steps, of_steps in sorted(runs.items())}
    return {steps: figure for steps, figure in found.items() if figure is not None and math.isfinite(figure.value)}


def _ledger(material: Material) -> str:
    if not material.ledger:
        return ""
    rows = []
    for system, ledger in material.ledger.items():
        for name in _ledger_names(ledger):
            beside = [_named(figures, name) for figures in (ledger.real, ledger.ceiling, ledger.inverter)]
            runs = [over_runs(figures, name) for figures in (ledger.generator, ledger.total)]
            rows.append([html.escape(f"{system}: {name}"), *map(page.figure_text, (*beside, *runs))])
    columns = ["System and figure", "Real clips", "Ceiling", "Inverter alone", "Generator", "Total"]
    legend = (
        '<p class="aside">Ceiling: real clips through representation and inverter. Inverter alone: what that changes, '
        "clip by clip, and the distance of test clips from themselves. Generator: what the judge hears of generated "
        "log-mels before anything inverts them; an exact representation adds nothing, and its generator is the total. "
        "Distances between a clip and its copy, as that of multi-resolution STFTs, are of pairs: generated clips have "
        "no original, and so no such figure.</p>"
    )
    return page.table("ledger", columns, rows) + legend


def _ledger_names(ledger: Ledger) -> list[str]:
    paired = [figure.name for figure in ledger.inverter if figure.name not in LEDGER]
    known = {figure.name for figure in (*ledger.ceiling, *ledger.inverter)}
    return [*(name for name in LEDGER if name in known), *paired]


def _named(figures: Sequence[Figure], name: str) -> Figure | None:
    return next((figure for figure in figures if figure.name == name), None)


def _speed(material: Material) -> str:
    if not material.paces:
        return '<p class="miss">Missing: speed was not measured.</p>'
    steps = sorted({steps for runs in material.sweep.values() for steps in runs}) or [1]
    rows = [
        [
            html.escape(f"{system}, batch {pace.batch}"),
            *(f"{1000 * seconds:.3g}" for seconds in (pace.step_seconds, pace.decode_seconds)),
            *(f"{pace.real_time_factor(count, material.clip_seconds):.3g}" for count in steps),
            html.escape(pace.check),
        ]
        for system, paces in material.paces.items()
        for pace in paces
    ]
    columns = ["System", "A step (ms)", "Decoding (ms)", *(f"RTF, {count} steps" for count in steps), "Check"]
    legend = (
        f'<p class="aside">Medians on {html.escape(material.speed_machine)}. Of the real-time factor (seconds of work '
        "for a second of audio) a step and the decoding were measured apart; the check is a whole generation beside "
        "what they add up to.</p>"
    )
    return page.table("speed", columns, rows) + legend


def _to_dict(material: Material, compared: Mapping[str, Sequence[ComparedFigure]]) -> dict[str, Any]:
    """Return all that is shown as plain values for strict JSON."""

    def plain(figures: Sequence[Figure]) -> list[dict[str, Any]]:
        return [figure.to_dict() for figure in figures]

    return {
        "title": material.title,
        "facts": {arm: dict(facts) for arm, facts in material.facts.items()},
        "missing": list(material.missing),
        "real": plain(material.real),
        "budgets": {
            budget: [
                {
                    "name": figure.name,
                    "systems": {system: value.to_dict() for system, value in figure.arms.items()},
                    "seeds": {system: plain(runs) for system, runs in figure.runs.items()},
                    "differences": {system: value.to_dict() for system, value in figure.differences.items()},
                }
                for figure in figures
            ]
            for budget, figures in compared.items()
        },
        "sweep": {
            system: {str(steps): [plain(run) for run in of_steps] for steps, of_steps in runs.items()}
            for system, runs in material.sweep.items()
        },
        "evaluations_a_step": dict(material.evaluations_a_step),
        "ledger": {
            system: {
                **{part: plain(getattr(ledger, part)) for part in ("real", "ceiling", "inverter")},
                **{part: [plain(run) for run in getattr(ledger, part)] for part in ("generator", "total")},
            }
            for system, ledger in material.ledger.items()
        },
        "speed": {
            "machine": material.speed_machine,
            "clip_seconds": material.clip_seconds,
            "systems": {system: [pace._asdict() for pace in paces] for system, paces in material.paces.items()},
        },
    }
