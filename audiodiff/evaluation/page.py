"""Write the parts that all pages share: the document and its style, facts, figures in words, players, plots.

A page is one file that needs nothing but itself: it makes no request (its own content security policy forbids any),
runs no script, and carries its sound and pictures as data URIs.
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
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
from numpy.typing import ArrayLike

from audiodiff.evaluation import pictures
from audiodiff.metrics.intervals import Figure

MONOSPACED = ("command", "commit", "config", "config hash", "judge")
"""Facts that are set in a typewriter face, to be copied."""


@dataclass(frozen=True)
class Plot:
    """Hold a picture as PNG bytes; ``caption`` says what it shows, and is what a screen reader reads."""

    title: str
    png: bytes
    caption: str


def document(title: str, *parts: str) -> str:
    """Return a whole page as HTML text."""
    body = "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def write(path: str | os.PathLike[str], text: str, beside: Mapping[str, bytes]) -> pathlib.Path:
    """Write a page to ``path`` (``.html``) and the files ``beside`` it, by relative name; return the page's path.

    Folders are made, and the page comes last: where it is, all is. Raises ValueError for another suffix.
    """
    page = pathlib.Path(path)
    if page.suffix != ".html":
        raise ValueError(
            f"report path {str(page)!r} is not a page: end it in .html, as in {str(page / 'index.html')!r}"
        )
    for name, content in {**beside, page.name: text.encode()}.items():
        (page.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (page.parent / name).write_bytes(content)
    return page


def strict_json(values: Any) -> bytes:
    """Return values as JSON that any reader takes: no NaN, no infinity."""
    return (json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def section(name: str, title: str, content: str) -> str:
    """Return a titled section, or nothing where there is nothing to show."""
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{title}</h2>\n{content}\n</section>' if content else ""


def paragraphs(text: str) -> str:
    """Return text as paragraphs, which blank lines part."""
    blocks: Iterable[str] = (block.strip() for block in text.split("\n\n"))
    return "\n".join(f"<p>{html.escape(block)}</p>" for block in blocks if block)


def facts_list(facts: Mapping[str, str]) -> str:
    """Return named facts as a list of definitions."""

    def fact(name: str, text: str) -> str:
        code = name.lower() in MONOSPACED
        # Words of a command are kept whole: a line must not break after the hyphens of an option.
        words = " ".join(f"<span>{html.escape(word)}</span>" for word in text.split())
        value = f"<code>{words}</code>" if code else html.escape(text)
        wide = ' class="wide"' if code and len(text) > 60 else ""
        return f"<div{wide}><dt>{html.escape(name)}</dt><dd>{value}</dd></div>"

    listed = "\n".join(fact(name, text) for name, text in facts.items())
    return f"<dl>\n{listed}\n</dl>" if listed else ""


def figure_text(figure: Figure | None) -> str:
    """Return a figure with interval and count, or nothing."""
    if figure is None:
        return ""
    return (
        f"<b>{html.escape(figure.value_text)}</b> "
        f'<span class="interval">{figure.interval_text} <span class="count">n={figure.count}</span></span>'
    )


def table(label: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of HTML cells, the first of each row its header; ``label`` is the id of what names the table.

    Roles are spelled out because the style makes a stack of blocks of it on a phone, which would drop them.
    """
    head = "".join(f'<th role="columnheader" scope="col">{html.escape(name)}</th>' for name in columns)
    body = "\n".join(_row(row, columns) for row in rows)
    return (
        f'<table role="table" aria-labelledby="{label}">\n<thead role="rowgroup"><tr role="row">{head}</tr></thead>\n'
        f'<tbody role="rowgroup">\n{body}\n</tbody>\n</table>'
    )


def _row(cells: Sequence[str], columns: Sequence[str]) -> str:
    empty = ' class="empty"'
    labelled = "".join(
        f'<td role="cell" data-label="{html.escape(name)}"{"" if cell else empty}>{cell or "–"}</td>'
        for name, cell in zip(columns[1:], cells[1:], strict=True)
    )
    return f'<tr role="row"><th role="rowheader" scope="row">{cells[0]}</th>{labelled}</tr>'


def players(label: str, sides: Mapping[str, ArrayLike | None], rate_hz: int) -> str:
    """Return clips [time] or [time, channel] side by side, spectrograms on one level scale and players below them.

    A clip that cannot be played is named with the reason, and a None as "none given"; nothing else is lost for it.
    """
    heard = [np.asarray(clip) for clip in sides.values() if clip is not None and playable(clip)]
    top_db = pictures.shared_top_db(heard, rate_hz)
    clips = "".join(_player(label, side, clip, rate_hz, top_db) for side, clip in sides.items())
    return f'<article class="pair"><h3>{html.escape(label)}</h3><div class="sides">{clips}</div></article>'


def plots(given: Iterable[Plot]) -> str:
    """Return pictures with titles and captions."""

    def one(plot: Plot) -> str:
        source = data_uri("image/png", plot.png)
        return (
            f'<figure class="plot"><h3>{html.escape(plot.title)}</h3>'
            f'<img alt="{html.escape(plot.title)}: {html.escape(plot.caption)}" src="{source}">'
            f"<figcaption>{html.escape(plot.caption)}</figcaption></figure>"
        )

    return "\n".join(one(plot) for plot in given)


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


def capital(text: str) -> str:
    """Return text with its first letter as a capital, the others as they are."""
    return text[:1].upper() + text[1:]


def data_uri(kind: str, content: bytes) -> str:
    """Return content of a MIME type as the address of itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _player(label: str, side: str, clip: ArrayLike | None, rate_hz: int, top_db: float | None) -> str:
    note, content = "none given", ""
    if clip is not None:
        try:
            wav, gain_db = wav_bytes(clip, rate_hz)
        except ValueError as error:  # a bad clip is shown as what it is; the page is not lost for it
            note, content = "not playable", f'<p class="miss">{html.escape(str(error))}</p>'
        else:
            turned = f", turned down by {-gain_db:.1f} dB to fit" if gain_db < 0 else ""
            note = f"{np.shape(clip)[0] / rate_hz:.2f} s{turned}"
            name = html.escape(f"{label}, {side}")
            picture = data_uri("image/png", pictures.spectrogram(clip, rate_hz, top_db=top_db).png)
            sound = data_uri("audio/wav", wav)
            content = (
                f'<img alt="Spectrogram of {name}: level in dB over time and frequency" src="{picture}">'
                f'<audio controls preload="metadata" aria-label="Play {name}" src="{sound}"></audio>'
            )
    return (
        f'<figure class="clip"><figcaption>{html.escape(side)} <span class="note">{note}</span></figcaption>'
        f"{content}</figure>"
    )


def playable(clip: ArrayLike) -> bool:
    """Return whether a clip is finite audio [time] or [time, channel] of at least one sample."""
    audio = np.asarray(clip)
    return audio.ndim in (1, 2) and audio.size > 0 and bool(np.isfinite(audio).all())


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
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); gap: 1rem; }
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
@media print { body { background: none; } audio { display: none; } .pair, .plot { break-inside: avoid; } }
"""
