"""Write a run's report: one HTML page that needs nothing but itself, and its figures as JSON beside it.

The page makes no request (its own content security policy forbids any), runs no script, and carries its sound and
pictures as data URIs. Every figure stands beside a floor, a ceiling and what was expected of it.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
from numpy.typing import ArrayLike

from audiodiff.evaluation import pictures
from audiodiff.metrics.intervals import Figure

MONOSPACED = ("command", "commit", "config", "config hash", "judge")
"""Facts that are set in a typewriter face, to be copied."""
EMPTY = ' class="empty"'


@dataclass(frozen=True)
class FigureRow:
    """Hold a figure beside what noise and real clips score, and the range it was expected in."""

    figure: Figure
    floor: Figure | None = None
    ceiling: Figure | None = None
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
class Plot:
    """Hold a picture as PNG bytes; ``caption`` says what it shows, and is what a screen reader reads."""

    title: str
    png: bytes
    caption: str


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
    """Write the page to ``path`` (``.html``) and ``figures.json`` beside it; return the page's path.

    Parent folders are made. The JSON holds title, facts and figures with floor, ceiling, range and verdict.
    """
    page = pathlib.Path(path)
    if page.suffix != ".html":
        raise ValueError(
            f"report path {str(page)!r} is not a page: end it in .html, as in {str(page / 'index.html')!r}"
        )
    page.parent.mkdir(parents=True, exist_ok=True)
    figures = json.dumps(figures_to_dict(report), indent=2, ensure_ascii=False, allow_nan=False)
    page.write_text(render_page(report), encoding="utf-8")
    page.with_name("figures.json").write_text(figures + "\n", encoding="utf-8")
    return page


def figures_to_dict(report: Report) -> dict[str, Any]:
    """Return title, facts and figures as plain values for strict JSON; read figures with ``Figure.from_dict``."""
    return {
        "title": report.title,
        "facts": dict(report.facts),
        "figures": [
            {
                "figure": row.figure.to_dict(),
                "floor": row.floor and row.floor.to_dict(),
                "ceiling": row.ceiling and row.ceiling.to_dict(),
                "at_least": row.at_least,
                "at_most": row.at_most,
                "passed": row.passed,
            }
            for row in report.figures
        ],
    }


def wav_bytes(audio: ArrayLike, rate_hz: int) -> tuple[bytes, float]:
    """Return a 16-bit WAV file of audio [time] or [time, channel] in [-1, 1], and the gain in dB that made it fit.

    Louder audio is turned down to full scale, never clipped (gain below 0 dB). Samples come back within 2^-16, half a
    step, and full scale itself within one. NaN, infinities and empty clips are refused.
    """
    audio = np.asarray(audio, np.float64)
    if audio.ndim not in (1, 2) or audio.size == 0:
        raise ValueError(f"audio of shape {audio.shape} is no clip: give samples [time] or [time, channel]")
    bad = audio.size - np.count_nonzero(np.isfinite(audio))
    if bad:
        raise ValueError(f"{bad} of {audio.size} samples are not finite: a sound file cannot hold them")
    gain = 1 / max(1.0, float(np.abs(audio).max()))
    # Scaled here, because libsndfile writes floats times 32767 and reads them over 32768.
    integers = np.clip(np.rint(audio * gain * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
    stream = io.BytesIO()
    soundfile.write(stream, integers, rate_hz, format="WAV", subtype="PCM_16")
    return stream.getvalue(), 20 * math.log10(gain)


def render_page(report: Report) -> str:
    """Return the whole page as HTML text."""
    title = html.escape(report.title)
    body = "\n".join((_header(report), _facts(report), _figures(report), _pairs(report), _plots(report)))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def _header(report: Report) -> str:
    verdicts = [row.passed for row in report.figures if row.passed is not None]
    verdict = ""
    if verdicts:
        state = "pass" if all(verdicts) else "miss"
        verdict = f'<p class="verdict {state}">{sum(verdicts)} of {len(verdicts)} figures as expected</p>'
    return f"<header>\n<h1>{html.escape(report.title)}</h1>\n{_paragraphs(report.summary)}\n{verdict}\n</header>"


def _facts(report: Report) -> str:
    def fact(name: str, text: str) -> str:
        code = name.lower() in MONOSPACED
        # Words of a command are kept whole: a line must not break after the hyphens of an option.
        words = " ".join(f"<span>{html.escape(word)}</span>" for word in text.split())
        value = f"<code>{words}</code>" if code else html.escape(text)
        wide = ' class="wide"' if code and len(text) > 60 else ""
        return f"<div{wide}><dt>{html.escape(name)}</dt><dd>{value}</dd></div>"

    facts = "\n".join(fact(name, text) for name, text in report.facts.items())
    return _section("run", "What was run", f"<dl>\n{facts}\n</dl>" if facts else "")


def _figures(report: Report) -> str:
    if not report.figures:
        return ""
    columns = (
        "Figure",
        "Got",
        "Scale",
        _capital(report.floor_name),
        _capital(report.ceiling_name),
        "Expected",
        "Verdict",
    )
    # Roles are spelled out because the table becomes a stack of blocks on a phone, which would drop them.
    head = "".join(f'<th role="columnheader" scope="col">{html.escape(name)}</th>' for name in columns)
    rows = "\n".join(_figure_row(row, columns) for row in report.figures)
    table = (
        f'<table role="table" aria-labelledby="figures">\n<thead role="rowgroup"><tr role="row">{head}</tr></thead>\n'
        f'<tbody role="rowgroup">\n{rows}\n</tbody>\n</table>'
    )
    legend = (
        '<p class="aside">Every value comes with its interval in brackets and the number n of items behind it. In the '
        "drawing the bar is the interval and the dot the value; hollow marks are "
        f"{html.escape(report.floor_name)} (left-pointing) and {html.escape(report.ceiling_name)} (right-pointing); "
        "the shaded range is what was expected.</p>"
    )
    return _section("figures", "Figures", table + legend)


def _figure_row(row: FigureRow, columns: Sequence[str]) -> str:
    note = f'<span class="note">{html.escape(row.figure.note)}</span>' if row.figure.note else ""
    cells = (
        _figure_text(row.figure),
        _scale(row),
        _figure_text(row.floor),
        _figure_text(row.ceiling),
        html.escape(row.expected_text),
        _verdict(row),
    )
    labelled = "".join(
        f'<td role="cell" data-label="{html.escape(name)}"{"" if cell else EMPTY}>{cell or "–"}</td>'
        for name, cell in zip(columns[1:], cells, strict=True)
    )
    return f'<tr role="row"><th role="rowheader" scope="row">{html.escape(row.figure.name)}{note}</th>{labelled}</tr>'


def _verdict(row: FigureRow) -> str:
    if row.passed is None:
        return ""
    if math.isnan(row.figure.value):
        return '<span class="miss">✗ not measured</span>'
    return '<span class="pass">✓ as expected</span>' if row.passed else '<span class="miss">✗ missed</span>'


def _figure_text(figure: Figure | None) -> str:
    if figure is None:
        return ""
    return (
        f"<b>{html.escape(figure.value_text)}</b> "
        f'<span class="interval">{figure.interval_text} <span class="count">n={figure.count}</span></span>'
    )


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


def _pairs(report: Report) -> str:
    return _section("listen", "Listen", "\n".join(_pair(pair) for pair in report.pairs))


def _pair(pair: AudioPair) -> str:
    sides = {"real": pair.real, "generated": pair.generated}
    playable = [np.asarray(clip) for clip in sides.values() if clip is not None and _playable(clip)]
    top_db = pictures.shared_top_db(playable, pair.rate_hz)
    clips = "".join(_clip(pair.label, side, clip, pair.rate_hz, top_db) for side, clip in sides.items())
    return f'<article class="pair"><h3>{html.escape(pair.label)}</h3><div class="sides">{clips}</div></article>'


def _clip(label: str, side: str, clip: ArrayLike | None, rate_hz: int, top_db: float | None) -> str:
    note, content = "none given", ""
    if clip is not None:
        try:
            wav, gain_db = wav_bytes(clip, rate_hz)
        except ValueError as error:  # a bad clip is shown as what it is; the report is not lost for it
            note, content = "not playable", f'<p class="miss">{html.escape(str(error))}</p>'
        else:
            turned = f", turned down by {-gain_db:.1f} dB to fit" if gain_db < 0 else ""
            note = f"{np.shape(clip)[0] / rate_hz:.2f} s{turned}"
            name = html.escape(f"{label}, {side}")
            picture = _data_uri("image/png", pictures.spectrogram(clip, rate_hz, top_db=top_db).png)
            content = (
                f'<img alt="Spectrogram of {name}: level in dB over time and frequency" src="{picture}">'
                f'<audio controls preload="metadata" aria-label="Play {name}" src="{_data_uri("audio/wav", wav)}">'
                "</audio>"
            )
    return f'<figure class="clip"><figcaption>{side} <span class="note">{note}</span></figcaption>{content}</figure>'


def _playable(clip: ArrayLike) -> bool:
    audio = np.asarray(clip)
    return audio.ndim in (1, 2) and audio.size > 0 and bool(np.isfinite(audio).all())


def _plots(report: Report) -> str:
    def one(plot: Plot) -> str:
        source = _data_uri("image/png", plot.png)
        return (
            f'<figure class="plot"><h3>{html.escape(plot.title)}</h3>'
            f'<img alt="{html.escape(plot.title)}: {html.escape(plot.caption)}" src="{source}">'
            f"<figcaption>{html.escape(plot.caption)}</figcaption></figure>"
        )

    return _section("plots", "Plots", "\n".join(one(plot) for plot in report.plots))


def _section(name: str, title: str, content: str) -> str:
    """Return a titled section, or nothing where there is nothing to show."""
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{title}</h2>\n{content}\n</section>' if content else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _paragraphs(text: str) -> str:
    blocks: Iterable[str] = (block.strip() for block in text.split("\n\n"))
    return "\n".join(f"<p>{html.escape(block)}</p>" for block in blocks if block)


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


STYLE = """
:root {
  --paper: #fbfaf8; --card: #ffffff; --ink: #1d2126; --soft: #5d646d; --rule: #e3e0da;
  --accent: #2f6fc4; --pass: #1f7a4d; --miss: #b3372f; --range: #1f7a4d1f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14161a; --card: #1b1e23; --ink: #e6e4df; --soft: #9aa1ab; --rule: #2c3037;
    --accent: #79aef0; --pass: #62c492; --miss: #f08379; --range: #62c49226;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 72rem; margin: 0 auto; padding: clamp(1.25rem, 4vw, 4rem) clamp(1rem, 4vw, 2.5rem) 5rem; }
h1, h2 { font: 600 1.45rem/1.15 Charter, "Iowan Old Style", "Palatino Linotype", Georgia, serif; }
h1 { font-size: clamp(1.9rem, 5vw, 2.9rem); letter-spacing: -.015em; margin: 0 0 1rem; text-wrap: balance; }
h2 { margin: 3.5rem 0 1.1rem; padding-top: 1.1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; font-weight: 600; margin: 0 0 .6rem; }
p { max-width: 42rem; margin: 0 0 .8rem; }
header p { font-size: 1.12rem; color: var(--soft); }
code { font: .88em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code span { display: inline-block; max-width: 100%; word-break: break-all; }
header .verdict { display: inline-block; padding: .2rem .8rem; border: 1px solid; border-radius: 2rem; }
header .verdict { font-size: 1rem; }
.pass, header .pass { color: var(--pass); }
.miss, header .miss { color: var(--miss); }
.empty { color: var(--soft); }
.aside, .note { color: var(--soft); font-size: .85rem; }
.note { font-weight: 400; }
dl { display: grid; gap: .9rem 2rem; margin: 0; }
dl { grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
dl .wide { grid-column: 1 / -1; }
dt { color: var(--soft); font-size: .8rem; letter-spacing: .02em; }
dd { margin: 0; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; margin-bottom: 1rem; }
th, td { text-align: left; vertical-align: top; padding: .65rem .75rem .65rem 0; border-bottom: 1px solid var(--rule); }
thead th { color: var(--soft); font-size: .8rem; font-weight: 500; padding-top: 0; }
tbody th { font-weight: 600; min-width: 9.5rem; }
tbody th .note, .interval { display: block; }
td b { font-weight: 600; white-space: nowrap; }
.interval { color: var(--soft); font-size: .82rem; white-space: nowrap; }
td:last-child, td:nth-last-child(2) { white-space: nowrap; }
svg { width: 7.5rem; height: 1.45rem; display: block; overflow: visible; }
svg .track { stroke: var(--rule); stroke-width: 1; }
svg .expected { fill: var(--range); }
svg .beside { fill: var(--paper); stroke: var(--soft); stroke-width: 1; }
svg .span { stroke: var(--accent); stroke-width: 3; stroke-linecap: round; opacity: .5; }
svg circle { fill: var(--accent); }
.pair { margin-bottom: 1.5rem; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
figure { margin: 0; }
.clip, .plot { background: var(--card); border: 1px solid var(--rule); border-radius: .6rem; min-width: 0; }
.clip { padding: .8rem; }
.clip figcaption { font-size: .9rem; margin-bottom: .4rem; }
.plot { margin-bottom: 1.5rem; padding: 1.1rem; }
.plot figcaption { color: var(--soft); font-size: .9rem; max-width: 42rem; margin-top: .5rem; }
img { display: block; width: 100%; height: auto; }
audio { display: block; width: 100%; height: 2.4rem; margin-top: .6rem; }
@media (max-width: 68rem) {
  table, tbody, tr, tbody th, td { display: block; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tr { border-bottom: 1px solid var(--rule); padding: .9rem 0; }
  th, td { border: 0; padding: .1rem 0; }
  tbody th { padding-bottom: .3rem; }
  td { display: flex; gap: .3rem .7rem; align-items: baseline; }
  td::before { content: attr(data-label); flex: 0 0 6.4rem; color: var(--soft); font-size: .85rem; }
  td > span.interval { white-space: normal; }
  .interval { display: inline; }
  td.empty { display: none; }
  svg { align-self: center; flex: 0 1 12rem; min-width: 0; }
}
@media (max-width: 36rem) { .sides { grid-template-columns: 1fr; } }
@media print { body { background: none; } audio { display: none; } .pair, .plot { break-inside: avoid; } }
"""
