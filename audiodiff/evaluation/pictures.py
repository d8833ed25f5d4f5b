"""Draw spectrograms and loss curves, as PNG for pages and as pixels for TensorBoard.

Drawn on Agg canvases of their own: no display, no pyplot, no state shared between threads. Backgrounds are
transparent and the ink is a mid grey that reads on white and on black; the pixels are laid over white.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import ArrayLike

INK = "#7a7f87"
LINES = ("#3f7fd6", "#dd7a35", "#3c9d6b", "#a765c9", "#c24d6b", "#8a8a2a")
COLOURS = "magma"
DPI = 144
SMALLEST_DB = -200.0


class Picture(NamedTuple):
    """Hold a picture as PNG bytes with a transparent background and as uint8 pixels [height, width, 3] on white."""

    png: bytes
    pixels: np.ndarray


class Bar(NamedTuple):
    """Hold a value on its interval, with the single values that it is the mean of; NaN leaves its place empty."""

    name: str
    value: float
    low: float
    high: float
    singles: Sequence[float] = ()


class Panel(NamedTuple):
    """Hold the bars of one figure; ``label`` names it with its unit, ``marks`` are values to compare with."""

    label: str
    bars: Sequence[Bar]
    marks: Sequence[float] = ()


def level_db(audio: ArrayLike, rate_hz: int, window_s: float = 0.032, frames: int = 400) -> tuple[np.ndarray, float]:
    """Return STFT levels [frame, bin] in dB, 0 dB for a full-scale sine, and the hop in seconds.

    Hann windows of ``window_s``, the hop such that about ``frames`` of them cover the clip but at least an eighth of
    the window; power is averaged over the channels of [time, channel] audio. NumPy, because a compiled transform
    would be compiled anew for every length of clip.
    """
    audio = np.asarray(audio, np.float64)
    audio = audio[:, None] if audio.ndim == 1 else audio
    if audio.ndim != 2 or 0 in audio.shape or not np.isfinite(audio).all():
        raise ValueError(f"audio of shape {audio.shape} cannot be drawn: give finite samples [time] or [time, channel]")
    window = max(2, round(window_s * rate_hz))
    hop = max(window // 8, len(audio) // frames, 1)
    padded = np.pad(audio, ((window // 2, window), (0, 0)))
    starts = np.arange(0, len(audio), hop)
    hann = np.hanning(window + 1)[:-1]
    framed = padded[starts[:, None] + np.arange(window)] * hann[:, None]  # [frame, window, channel]
    power = np.mean(np.abs(np.fft.rfft(framed, max(512, window), axis=1)) ** 2, axis=-1)
    level = 10 * np.log10(np.maximum(power * (2 / hann.sum()) ** 2, 10 ** (SMALLEST_DB / 10)))
    return level, hop / rate_hz


def spectrogram(
    audio: ArrayLike,
    rate_hz: int,
    *,
    title: str = "",
    top_db: float | None = None,
    range_db: float = 80.0,
    scale: Literal["linear", "mel"] = "linear",
    size_inches: tuple[float, float] = (3.6, 1.9),
) -> Picture:
    """Draw one clip's level over time and frequency, from ``top_db`` (its own peak if None) down by ``range_db``.

    ``scale`` warps the frequency axis only; give pictures that are to be compared one ``top_db``.
    """
    figure = blank(*size_inches)
    axes = figure.add_subplot()
    mesh = _draw_spectrogram(axes, audio, rate_hz, top_db, range_db, scale)
    axes.set(title=title, xlabel="time (s)", ylabel="frequency (Hz)")
    _colour_bar(figure, mesh, [axes])
    return rendered(figure)


def spectrogram_grid(
    pairs: Sequence[tuple[str, ArrayLike | None, ArrayLike | None]],
    rate_hz: int,
    *,
    columns: tuple[str, str] = ("real", "generated"),
    range_db: float = 80.0,
    scale: Literal["linear", "mel"] = "linear",
) -> Picture:
    """Draw rows of (label, real, generated) side by side, every row on one level scale; None leaves a place empty."""
    if not pairs:
        raise ValueError("no clips to draw: give at least one (label, real, generated)")
    figure = blank(7.2, 0.5 + 1.5 * len(pairs))
    grid = figure.subplots(len(pairs), 2, sharex=True, squeeze=False)
    for row, (label, *clips) in zip(grid, pairs, strict=True):
        present = [(axes, clip) for axes, clip in zip(row, clips, strict=True) if clip is not None]
        top = shared_top_db([clip for _, clip in present], rate_hz)
        meshes = [_draw_spectrogram(axes, clip, rate_hz, top, range_db, scale) for axes, clip in present]
        for axes, clip in zip(row, clips, strict=True):
            if clip is None:  # the label of the row stays
                axes.spines[:].set_visible(False)
                axes.set_yticks([])
                axes.tick_params(bottom=False, labelbottom=False)
        row[0].set_ylabel(f"{label}\n(Hz)")
        if meshes:
            _colour_bar(figure, meshes[0], list(row))
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title(name)
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    return rendered(figure)


def shared_top_db(clips: Sequence[ArrayLike], rate_hz: int) -> float | None:
    """Return the highest level over all clips, the ``top_db`` under which they can be compared by eye."""
    return max((float(level_db(clip, rate_hz)[0].max()) for clip in clips), default=None)


def curves(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    log_y: bool = False,
    smoothing: float = 0.0,
) -> Picture:
    """Draw named (x, y) curves, labelled at their ends; values that are not finite leave gaps.

    ``smoothing`` is the share of the curve's points over which a bold running mean is drawn; the points stay, faint.
    """
    figure = blank(7.2, 3.2)
    axes = figure.add_subplot()
    ends = []
    for (name, (x, y)), colour in zip(series.items(), LINES * len(series), strict=False):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if x.shape != y.shape or x.ndim != 1:
            raise ValueError(f"curve {name!r} has x {x.shape} and y {y.shape}: give two lists of equal length")
        ends.append(_draw_curve(axes, x, y, colour, smoothing, log_y, name))
    _finish_curves(axes, ends if len(series) > 1 else [], x_label, y_label, title, log_y)
    return rendered(figure)


def loss_curves(losses: Mapping[str, tuple[ArrayLike, ArrayLike]], *, title: str = "", log_y: bool = True) -> Picture:
    """Draw losses by name over training steps: name -> (step, loss), such as train and held-out."""
    return curves(losses, x_label="step", y_label="loss", title=title, log_y=log_y, smoothing=0.02)


def loss_by_level(
    steps: ArrayLike,
    losses: ArrayLike,
    levels: Sequence[str],
    *,
    title: str = "",
    log_y: bool = True,
) -> Picture:
    """Draw losses [step, level] over steps, one curve per noise level, from dark for the first to bright for the last.

    ``levels`` are the labels, such as "sigma 0.1". NaN marks a step at which no example had that level.
    """
    steps, losses = np.asarray(steps, np.float64), np.asarray(losses, np.float64)
    if losses.shape != (len(steps), len(levels)):
        raise ValueError(
            f"losses {losses.shape} do not fit {len(steps)} steps and {len(levels)} levels: give [step, level]"
        )
    figure = blank(7.2, 3.2)
    axes = figure.add_subplot()
    shades = matplotlib.colormaps["plasma"](np.linspace(0.25, 0.82, len(levels)))
    ends = [_draw_curve(axes, steps, losses[:, i], shades[i], 0.02, log_y, level) for i, level in enumerate(levels)]
    _finish_curves(axes, ends, "step", "loss", title, log_y)
    return rendered(figure)


def running_mean(values: ArrayLike, width: int) -> np.ndarray:
    """Return the centred mean over up to ``width`` values, skipping NaN, shorter at both ends; NaN where all are."""
    values = np.asarray(values, np.float64)
    if not values.size:
        return values
    finite = np.isfinite(values)
    window = np.ones(min(width, len(values)))
    half = len(window) // 2
    total, count = (
        np.convolve(np.pad(v, (half, len(window) - 1 - half)), window, "valid")
        for v in (np.where(finite, values, 0.0), finite.astype(float))
    )
    return np.where(count > 0.5, total / np.maximum(count, 1), np.nan)


def _draw_curve(
    axes: Axes, x: np.ndarray, y: np.ndarray, colour: Any, smoothing: float, log_y: bool, name: str
) -> tuple[float, str, Any]:
    """Draw one curve and return where its label belongs: (last value, name, colour)."""
    y = np.where(np.isfinite(y) & ((y > 0) | (not log_y)), y, np.nan)
    width = max(1, round(smoothing * len(y)))
    bold = running_mean(y, width)
    if width > 1:
        axes.plot(x, y, color=colour, linewidth=0.6, alpha=0.3)
    axes.plot(x, bold, color=colour, linewidth=1.6, solid_capstyle="round", marker="o" if len(x) == 1 else None)
    last = np.flatnonzero(np.isfinite(bold))
    return (float(bold[last[-1]]) if last.size else math.nan, name, colour)


def intervals(panels: Sequence[Panel], columns: int = 3) -> Picture:
    """Draw figures with their intervals, one panel a figure, the same names from top to bottom in each."""
    if not panels:
        raise ValueError("no figures to draw: give at least one panel")
    names = [bar.name for bar in panels[0].bars]
    if any([bar.name for bar in panel.bars] != names for panel in panels):
        raise ValueError(f"every panel must have the bars {', '.join(names)}, in this order")
    columns = min(columns, len(panels))
    lines = -(-len(panels) // columns)
    figure = blank(7.2, lines * (0.75 + 0.24 * len(names)))
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, panel in zip(grid, panels, strict=False):
        _draw_intervals(axes, panel)
        axes.set(ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)), yticklabels=names)
    return rendered(figure)


def _draw_intervals(axes: Axes, panel: Panel) -> None:
    ends = np.array([end for bar in panel.bars for end in (*bar[1:4], *bar.singles)] + list(panel.marks))
    finite = ends[np.isfinite(ends)]
    left, right = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    pad = 0.06 * (right - left) or 0.5
    limits = left - pad, right + pad
    for place, (bar, colour) in enumerate(zip(panel.bars, LINES * len(panel.bars), strict=False)):
        axes.plot(bar.singles, [place] * len(bar.singles), "o", color=colour, alpha=0.35, markersize=3)
        if math.isfinite(bar.value):
            axes.plot(np.clip([bar.low, bar.high], *limits), [place] * 2, color=colour, alpha=0.5, linewidth=3)
            axes.plot(bar.value, place, "o", color=colour, markersize=5)
    for mark in panel.marks:
        axes.axvline(mark, color=INK, linestyle="--", linewidth=0.8)
    axes.set(xlabel=panel.label, xlim=limits)
    axes.grid(axis="x", color=INK, alpha=0.2, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _finish_curves(
    axes: Axes, ends: Sequence[tuple[float, str, Any]], x_label: str, y_label: str, title: str, log_y: bool
) -> None:
    """Name axes and curves; labels at the curves' ends, moved apart where they would overlap, need no legend."""
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    if log_y and np.isfinite(axes.dataLim.get_points()).all():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.01)
    axes.grid(axis="y", color=INK, alpha=0.2, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if not ends:
        return
    axes.autoscale_view()
    to_axes = axes.transData + axes.transAxes.inverted()
    placed = sorted((end for end in ends if math.isfinite(end[0])), key=lambda end: end[0])
    heights = [float(to_axes.transform((0.0, value))[1]) for value, _, _ in placed]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + 0.085)
    overflow = max(0.0, heights[-1] - 1.0) if heights else 0.0
    for (_, name, colour), height in zip(placed, heights, strict=True):
        axes.annotate(name, (1.01, height - overflow), xycoords="axes fraction", color=colour, fontsize=8, va="center")


def _draw_spectrogram(
    axes: Axes, audio: ArrayLike, rate_hz: int, top_db: float | None, range_db: float, scale: str
) -> Any:
    level, hop_s = level_db(audio, rate_hz)
    top = max(float(level.max()) if top_db is None else top_db, SMALLEST_DB + range_db)
    edges_s = (np.arange(len(level) + 1) - 0.5) * hop_s
    edges_hz = np.clip(np.linspace(-0.5, level.shape[1] - 0.5, level.shape[1] + 1) / (level.shape[1] - 1), 0, 1)
    mesh = axes.pcolormesh(
        edges_s, edges_hz * rate_hz / 2, level.T, cmap=COLOURS, vmin=top - range_db, vmax=top, rasterized=True
    )
    if scale == "mel":  # HTK's formula: only the axis is warped, the levels are those of the STFT
        axes.set_yscale("function", functions=(lambda f: np.log1p(f / 700), lambda m: 700 * np.expm1(m)))
    elif scale != "linear":
        raise ValueError(f"frequency scale {scale!r} is unknown: choose 'linear' or 'mel'")
    axes.set(xlim=(0, np.shape(audio)[0] / rate_hz), ylim=(0, rate_hz / 2))
    return mesh


def _colour_bar(figure: Figure, mesh: Any, axes: list[Axes]) -> None:
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=14)
    bar.set_label("dB", color=INK, fontsize=8)
    bar.outline.set_visible(False)


def blank(width_inches: float, height_inches: float) -> Figure:
    figure = Figure((width_inches, height_inches), dpi=DPI, layout="constrained", facecolor="none")
    FigureCanvasAgg(figure)
    return figure


def rendered(figure: Figure) -> Picture:
    for axes in figure.axes:
        axes.set_facecolor("none")
        axes.tick_params(colors=INK, labelsize=8, width=0.6, length=3, which="both")
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
            text.set_color(INK)
            text.set_fontsize(9)
        for spine in axes.spines.values():
            spine.set_color(INK)
            spine.set_linewidth(0.6)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    stream = io.BytesIO()
    canvas.print_png(stream)
    drawn = np.asarray(canvas.buffer_rgba(), np.float64)
    opacity = drawn[..., 3:] / 255
    return Picture(stream.getvalue(), np.rint(drawn[..., :3] * opacity + 255 * (1 - opacity)).astype(np.uint8))
