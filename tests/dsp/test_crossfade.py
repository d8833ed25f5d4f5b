"""Windows cover everything, and their weights sum to one at every position, whatever the sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiodiff.dsp.crossfade import crossfade_weights, fade_out, window_starts


@st.composite
def sizes(draw):
    window = draw(st.integers(1, 60))
    return draw(st.integers(window, 300)), window, draw(st.integers(0, window - 1))


@settings(max_examples=200, deadline=None)
@given(sizes())
def test_weights_sum_to_one_and_the_outer_edges_stay_whole(sizes):
    """Ledger row 98: odd sizes, three windows over one place and a last window that overlaps by more included."""
    positions, window, overlap = sizes
    starts, weights = window_starts(*sizes), crossfade_weights(*sizes)
    assert weights.shape == (len(starts), window)
    assert (weights >= 0).all()
    total = np.zeros(positions)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + window] += weight
    np.testing.assert_allclose(total, 1, atol=1e-12)
    alone = starts[1] if len(starts) > 1 else positions
    np.testing.assert_array_equal(weights[0, :alone], 1)  # what one window covers is its own, up to the outer edges
    alone = starts[-2] + window if len(starts) > 1 else 0
    np.testing.assert_array_equal(weights[-1, alone - starts[-1] :], 1)


@settings(max_examples=100, deadline=None)
@given(sizes())
def test_windows_cover_everything_and_overlap_by_what_was_asked(sizes):
    positions, window, overlap = sizes
    starts = window_starts(*sizes)
    apart = np.diff(starts)
    assert starts[0] == 0
    assert starts[-1] + window == positions
    assert (apart[:-1] == window - overlap).all()
    assert (apart[-1:] <= window - overlap).all()
    assert (apart > 0).all()


def test_a_fade_is_its_own_complement_and_falls():
    fade = fade_out(7)
    np.testing.assert_allclose(fade + fade[::-1], 1, atol=1e-15)
    assert (np.diff(fade) < 0).all()
    assert len(fade_out(0)) == 0


def test_neighbours_are_equal_in_the_middle_of_their_overlap():
    first, second = crossfade_weights(23, 13, 3)
    assert first[11] == second[1] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((10, 11, 2), "a window of 11 positions does not fit in 10"),
        ((10, 0, 0), "a window of 0 positions"),
        ((10, 5, 5), "an overlap of 5 positions leaves nothing new of a window of 5: give 0 to 4"),
        ((10, 5, -1), "an overlap of -1"),
    ],
)
def test_windows_that_cannot_be_are_refused(sizes, said):
    with pytest.raises(ValueError, match=said):
        window_starts(*sizes)
