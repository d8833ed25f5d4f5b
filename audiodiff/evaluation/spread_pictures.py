"""Draw figures with their intervals over what they cost, such as quality over the number of steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from audiodiff.evaluation.pictures import INK, LINES, Picture, blank, rendered
from audiodiff.metrics.intervals import Figure


def spread_curves(series: Mapping[str, Sequence[tuple[float, Figure]]], *, x_label: str, y_label: str) -> Picture:
    """Draw named curves of (x, figure) over a logarithmic x, each with a band from low to high.

    The limits are those of the values, not of the intervals: one of two runs may reach far beyond what it is of. A
    figure that is not defined leaves a gap. Raises ValueError where no figure is defined, or an x is not above 0.
    """
    points = [(x, figure) for curve in series.values() for x, figure in curve if math.isfinite(figure.value)]
    if not points or min(x for x, _ in points) <= 0:
        raise ValueError(f"{len(points)} points cannot be drawn over a logarithmic axis: give some, with x above 0")
    picture = blank(7.2, 3.4)
    axes = picture.add_subplot()
    values = np.array([figure.value for _, figure in points])
    pad = 0.15 * (values.max() - values.min()) or 0.5
    limits = values.min() - pad, values.max() + pad
    for (name, curve), colour in zip(series.items(), LINES * len(series), strict=False):
        ordered = sorted(curve, key=lambda point: point[0])
        x = [at for at, _ in ordered]
        low, high = (np.clip([getattr(figure, end) for _, figure in ordered], *limits) for end in ("low", "high"))
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            x, [figure.value for _, figure in ordered], "o-", color=colour, linewidth=1.6, markersize=4, label=name
        )
    axes.set(xscale="log", xlabel=x_label, ylabel=y_label, ylim=limits)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(color=INK, alpha=0.2, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    legend = picture.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_color(INK)
    return rendered(picture)
