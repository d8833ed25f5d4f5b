"""Hold dynamic time warping against every path there is, and against librosa's."""

import numpy as np
import pytest
import scipy.spatial.distance

from audiodiff.dsp.alignment import dtw, euclidean_costs


def _every_path(n, m):
    """Yield all monotone paths from (0, 0) to (n - 1, m - 1)."""
    if (n, m) == (1, 1):
        yield [(0, 0)]
        return
    for before in ((n - 1, m - 1), (n - 1, m), (n, m - 1)):
        if min(before) >= 1:
            yield from (path + [(n - 1, m - 1)] for path in _every_path(*before))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 4), (5, 1), (3, 3), (4, 6), (6, 5)])
def test_no_path_is_cheaper(n, m):
    """Ledger row 82: of (6, 5) there are 681 paths, and each is tried."""
    costs = np.random.default_rng(10 * n + m).uniform(size=(n, m))
    sums = {tuple(path): sum(costs[cell] for cell in path) for path in _every_path(n, m)}
    path, cost = dtw(costs)
    assert cost == pytest.approx(min(sums.values()), rel=1e-12)
    assert sums[tuple(map(tuple, path))] == pytest.approx(cost, rel=1e-12)
    if (n, m) == (6, 5):
        assert len(sums) == 681  # the Delannoy number D(5, 4)


@pytest.mark.oracle
@pytest.mark.parametrize(("n", "m"), [(40, 57), (80, 20)])
def test_equals_librosa(n, m):
    """Ledger row 82."""
    librosa = pytest.importorskip("librosa")
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(n, 5)), rng.normal(size=(m, 5))
    theirs, their_path = librosa.sequence.dtw(a.T, b.T, metric="euclidean")
    path, cost = dtw(euclidean_costs(a, b))
    assert cost == pytest.approx(theirs[-1, -1], rel=1e-12)
    np.testing.assert_array_equal(path, their_path[::-1])


def test_costs_are_distances():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 3)), 1e6 + rng.normal(size=(4, 3))
    np.testing.assert_allclose(euclidean_costs(a, b), scipy.spatial.distance.cdist(a, b), rtol=1e-12)
    np.testing.assert_array_equal(np.diag(euclidean_costs(b, b)), 0)


def test_a_sequence_matches_itself_on_the_diagonal_and_its_repetitions_at_no_cost():
    """Ledger row 82."""
    a = np.random.default_rng(1).normal(size=(9, 4))
    path, cost = dtw(euclidean_costs(a, a))
    assert cost == 0
    np.testing.assert_array_equal(path, np.stack([np.arange(9)] * 2, axis=1))
    repeats = [1, 3, 1, 2, 1, 1, 4, 1, 2]
    path, cost = dtw(euclidean_costs(a, np.repeat(a, repeats, axis=0)))
    assert cost == 0
    np.testing.assert_array_equal(path[:, 0], np.repeat(np.arange(9), repeats))


def test_equal_costs_take_the_diagonal_first_then_a_step_of_the_first_sequence():
    """Read from the end: five columns to three rows, and a way round a dear middle."""
    np.testing.assert_array_equal(dtw(np.zeros((3, 5))).path, [(0, 0), (0, 1), (0, 2), (1, 3), (2, 4)])
    costs = np.zeros((3, 3))
    costs[1, 1] = 9
    np.testing.assert_array_equal(dtw(costs).path, [(0, 0), (0, 1), (1, 2), (2, 2)])


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        (np.zeros((0, 3)), r"costs of shape \(0, 3\) hold no path; give \[n, m\]"),
        (np.zeros(3), r"costs of shape \(3,\)"),
        (np.array([[0, np.nan], [np.inf, 1]]), "2 of 4 costs are not finite"),
    ],
)
def test_impossible_costs_are_refused(costs, message):
    with pytest.raises(ValueError, match=message):
        dtw(costs)


def test_sequences_of_other_features_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(3, 4\) have no distances"):
        euclidean_costs(np.zeros((3, 2)), np.zeros((3, 4)))
    assert euclidean_costs(np.zeros((0, 2)), np.zeros((3, 2))).shape == (0, 3)
