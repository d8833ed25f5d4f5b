"""Write a run's report: one HTML page that needs nothing but itself, and its figures as JSON beside it.

Every figure stands beside a floor, its ceilings and what was expected of it.
"""

from __future__ import annotations

import html
import json
import math
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
from numpy.typing import ArrayLike

from audiodiff.evaluation import page
from audiodiff.evaluation.page import Plot
from audiodiff.metrics.intervals import Figure

FIGURES_FILE = "figures.json"
ROLES = ("figure", "floor", "ceiling", "resynthesis")
"""The figures of a row, as they are named in it and in the JSON."""
SIDES = ("real", "generated")
"""The clips of a pair, as they are named in it and in the JSON."""


@dataclass(frozen=True)
class FigureRow:
    """Hold a figure beside what noise and real clips score, and the range it was expected in.

    ``resynthesis`` is the figure of real clips that went through the representation and back: the most that a model
    in it can reach, where it loses something.
    """

    figure: Figure
    floor: Figure | None = None
    ceiling: Figure | None = None
    resynthesis: Figure | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the value lies in the expected range; None where nothing was expected, False where undefined."""
        if self.at_least is None and self.at_most is None:
            return None
        low = -math.inf if self.at_least is None else self.at_least
        return low <= self.figure.value <= (math.inf if self.at_most is None else self.at_most)

    @property
    def expected_text(self) -> str:
        """The expected range in words, ``≥ 80 %``; empty where nothing was expected."""
        unit = f" {self.figure.unit}".rstrip()
        if self.at_least is not None and self.at_most is not None:
            return f"{self.at_least:.4g} to {self.at_most:.4g}{unit}"
        if self.at_least is not None:
            return f"≥ {self.at_least:.4g}{unit}"
        return "" if self.at_most is None else f"≤ {self.at_most:.4g}{unit}"


@dataclass(frozen=True)
class AudioPair:
    """Hold a real and a generated clip of one class, [time] or [time, channel]; either may be None."""

    label: str
    real: ArrayLike | None
    generated: ArrayLike | None
    rate_hz: int


@dataclass(frozen=True)
class Report:
    """Hold all that a report shows. ``facts`` says what was run: config hash, commit, data, device, budget, command."""

    title: str
    summary: str
    facts: Mapping[str, str] = field(default_factory=dict)
    figures: Sequence[FigureRow] = ()
    pairs: Sequence[AudioPair] = ()
    plots: Sequence[Plot] = ()
    floor_name: str = "noise"
    ceiling_name: str = "real test clips"


def write_report(path: str | os.PathLike[str], report: Report) -> pathlib.Path:
    """Write the page to ``path`` (``.html``), and beside it ``figures.json`` and the clips it plays; return its path.

    Parent folders are made. The JSON holds title, facts, figures with floor, ceilings, range and verdict, and the pairs
    with the names of their WAV files: all that a comparison with other reports needs (:func:`read_report`).
    """
    files = {}
    for index, pair in enumerate(report.pairs):
        for side in SIDES:
            if (clip := getattr(pair, side)) is not None and page.playable(clip):
                files[clip_name(index, side)] = page.wav_bytes(clip, pair.rate_hz)[0]
    return page.write(path, render_page(report), {**files, FIGURES_FILE: page.strict_json(_to_dict(report, files))})


def read_report(folder: str | os.PathLike[str]) -> Report:
    """Read back what :func:`write_report` wrote into a folder, all but summary and plots.

    Raises FileNotFoundError where there is no report, and ValueError where it is damaged.
    """
    path = pathlib.Path(folder) / FIGURES_FILE
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no {FIGURES_FILE}: write a report with experiments/evaluate.py first")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Report(
            title=values["title"],
            summary="",
            facts=values["facts"],
            figures=[_row_from_dict(row) for row in values["figures"]],
            pairs=[
                AudioPair(
                    pair["label"],
                    real=_read_clip(path.parent, pair["real"]),
                    generated=_read_clip(path.parent, pair["generated"]),
                    rate_hz=pair["rate_hz"],
                )
                for pair in values["pairs"]
            ],
            floor_name=values["floor_name"],
            ceiling_name=values["ceiling_name"],
        )
    except (ValueError, KeyError, TypeError, AttributeError, soundfile.SoundFileError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}): write the report anew with experiments/evaluate.py"
        ) from error


def _read_clip(folder: pathlib.Path, name: str | None) -> np.ndarray | None:
    return None if name is None else soundfile.read(folder / name, dtype="float32")[0]


def clip_name(index: int, side: str) -> str:
    """Name the file of a clip that a report plays."""
    return f"clips/{index:02d}_{side}.wav"


def _to_dict(report: Report, files: Collection[str]) -> dict[str, Any]:
    """Return all but plots and summary as plain values for strict JSON."""

    def file_of(index: int, side: str) -> str | None:
        return name if (name := clip_name(index, side)) in files else None

    return {
        "title": report.title,
        "facts": dict(report.facts),
        "floor_name": report.floor_name,
        "ceiling_name": report.ceiling_name,
        "figures": [
            {name: (figure := getattr(row, name)) and figure.to_dict() for name in ROLES}
            | {"at_least": row.at_least, "at_most": row.at_most, "passed": row.passed}
            for row in report.figures
        ],
        "pairs": [
            {"label": pair.label, "rate_hz": pair.rate_hz, **{side: file_of(index, side) for side in SIDES}}
            for index, pair in enumerate(report.pairs)
        ],
    }


def _row_from_dict(values: Mapping[str, Any]) -> FigureRow:
    figures = {name: values[name] and Figure.from_dict(values[name]) for name in ROLES}
    return FigureRow(**figures, at_least=values["at_least"], at_most=values["at_most"])


def render_page(report: Report) -> str:
    """Return the whole page as HTML text."""
    pairs = (
        page.players(pair.label, {side: getattr(pair, side) for side in SIDES}, pair.rate_hz) for pair in report.pairs
    )
    return page.document(
        report.title,
        _header(report),
        page.section("run", "What was run", page.facts_list(report.facts)),
        _figures(report),
        page.section("listen", "Listen", "\n".join(pairs)),
        page.section("plots", "Plots", page.plots(report.plots)),
    )


def _header(report: Report) -> str:
    verdicts = [row.passed for row in report.figures if row.passed is not None]
    verdict = ""
    if verdicts:
        state = "pass" if all(verdicts) else "miss"
        verdict = f'<p class="verdict {state}">{sum(verdicts)} of {len(verdicts)} figures as expected</p>'
    return f"<header>\n<h1>{html.escape(report.title)}</h1>\n{page.paragraphs(report.summary)}\n{verdict}\n</header>"


def _figures(report: Report) -> str:
    if not report.figures:
        return ""
    columns = [
        *("Figure", "Got", "Scale", page.capital(report.floor_name), page.capital(report.ceiling_name)),
        *("Resynthesis", "Expected", "Verdict"),
    ]
    rows = [_figure_cells(row) for row in report.figures]
    if not any(row.resynthesis for row in report.figures):
        place = columns.index("Resynthesis")
        for cells in (columns, *rows):
            del cells[place]
    legend = (
        '<p class="aside">Every value comes with its interval in brackets and the number n of items behind it. In the '
        "drawing the bar is the interval and the dot the value; hollow marks are "
        f"{html.escape(report.floor_name)} (left-pointing) and {html.escape(report.ceiling_name)} (right-pointing); "
        "the shaded range is what was expected.</p>"
    )
    return page.section("figures", "Figures", page.table("figures", columns, rows) + legend)


def _figure_cells(row: FigureRow) -> list[str]:
    note = f'<span class="note">{html.escape(row.figure.note)}</span>' if row.figure.note else ""
    return [
        f"{html.escape(row.figure.name)}{note}",
        page.figure_text(row.figure),
        _scale(row),
        *(page.figure_text(beside) for beside in (row.floor, row.ceiling, row.resynthesis)),
        html.escape(row.expected_text),
        _verdict(row),
    ]


def _verdict(row: FigureRow) -> str:
    if row.passed is None:
        return ""
    if math.isnan(row.figure.value):
        return '<span class="miss">✗ not measured</span>'
    return '<span class="pass">✓ as expected</span>' if row.passed else '<span class="miss">✗ missed</span>'


def _scale(row: FigureRow) -> str:
    """Draw value, interval, floor, ceiling and expectation on one line; the table holds the same in words."""
    bounds = [b for b in (row.at_least, row.at_most) if b is not None]
    beside = [(f, tip) for f, tip in ((row.floor, -3), (row.ceiling, 3)) if f is not None and math.isfinite(f.value)]
    if math.isnan(row.figure.value) or not (bounds or beside):
        return ""
    ends = [n for f in (row.figure, *(f for f, _ in beside)) for n in (f.value, f.low, f.high) if math.isfinite(n)]
    low, high = (0.0, 100.0) if row.figure.unit == "%" else (min(ends + bounds), max(ends + bounds))
    pad = 0.05 * (high - low) or 1.0

    def x(number: float) -> float:
        return round(float(np.clip(100 * (number - low + pad) / (high - low + 2 * pad), 0, 100)), 2)

    parts = ['<line class="track" x1="0" x2="100" y1="9" y2="9"/>']
    if bounds:
        start = x(-math.inf if row.at_least is None else row.at_least)
        stop = x(math.inf if row.at_most is None else row.at_most)
        parts.append(f'<rect class="expected" x="{start}" width="{stop - start:.2f}" y="2" height="14"/>')
    for figure, tip in beside:
        at = x(figure.value)
        parts.append(f'<path class="beside" d="M{at} 5.5 L{at + tip:.2f} 9 L{at} 12.5 Z"/>')
    span = f'x1="{x(row.figure.low)}" x2="{x(row.figure.high)}"'
    parts.append(f'<line class="span" {span} y1="9" y2="9"/><circle cx="{x(row.figure.value)}" cy="9" r="3"/>')
    frame = 'viewBox="-4 0 108 18" preserveAspectRatio="xMinYMid" aria-hidden="true" focusable="false"'
    return f"<svg {frame}>{''.join(parts)}</svg>"
