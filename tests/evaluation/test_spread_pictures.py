"""Curves with bands over a logarithmic axis."""

from __future__ import annotations

import math

import numpy as np
import pytest

from audiodiff.evaluation.spread_pictures import spread_curves
from audiodiff.metrics.intervals import Figure


def figure(value: float, half: float) -> Figure:
    return Figure("accuracy", value, value - half, value + half, 3)


def test_every_curve_is_drawn_and_a_wide_interval_does_not_rule_the_axis():
    """The same values with infinite intervals give the picture the same limits: as many pixels differ from white."""

    def drawn(half):
        series = {"one": [(1, figure(10, half)), (10, figure(90, half))], "two": [(1, figure(30, half))]}
        return spread_curves(series, x_label="steps", y_label="accuracy (%)").pixels

    narrow, wide = drawn(0.0), drawn(math.inf)
    assert narrow.shape == wide.shape
    blue = np.all(np.abs(narrow.astype(int) - [63, 127, 214]) < 8, axis=-1)
    orange = np.all(np.abs(narrow.astype(int) - [221, 122, 53]) < 8, axis=-1)
    assert blue.sum() > 100 and orange.sum() > 20
    assert (wide != narrow).any(), "the band is seen"
    assert np.all(np.abs(wide.astype(int) - [63, 127, 214]) < 8, axis=-1).sum() > 100, "and the curve above it"


NOWHERE = Figure("accuracy", math.nan, -math.inf, math.inf, 0)


@pytest.mark.parametrize("series", [{}, {"one": []}, {"one": [(0, figure(1, 1))]}, {"one": [(2, NOWHERE)]}])
def test_what_has_no_place_on_the_axis_is_refused(series):
    with pytest.raises(ValueError, match="logarithmic axis"):
        spread_curves(series, x_label="steps", y_label="accuracy")
