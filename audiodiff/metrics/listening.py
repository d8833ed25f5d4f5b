"""Evaluate listening tests: opinion scores, preferences, rankings from pairs, MUSHRA screening, tests over systems.

The project has no listeners: all of it is shown on synthetic raters, and no opinion score is claimed anywhere.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import scipy  # its parts load when they are first used
from numpy.typing import ArrayLike

from audiodiff.dsp.choices import check_choice
from audiodiff.metrics.intervals import Figure, normal_quantile, proportion_figure

MOST_SIGNS = 13  # differences up to which all 2^n signs are gone through
MOST_ITERATIONS, SMALLEST_CHANGE, FURTHEST_FROM_MAXIMUM = 10_000, 1e-12, 1e-6


class Preference(NamedTuple):
    """Hold how often A was preferred to B, and the exact two-sided p-value of "as often as B"."""

    share: Figure
    p_value: float


class Ranking(NamedTuple):
    """Hold log strengths [system] with the mean 0, and their covariance [system, system] (singular: the mean is set).

    P(i beats j) = 1 / (1 + exp(s_j - s_i)); the variance of s_i - s_j is c_ii + c_jj - 2 c_ij.
    """

    log_strength: np.ndarray
    covariance: np.ndarray

    @property
    def order(self) -> np.ndarray:
        """Indices of the systems, the best first."""
        return np.argsort(-self.log_strength, kind="stable")


class Screening(NamedTuple):
    """Hold which assessors [assessor] stay, their shares of failed items, and whose anchor counts [item]."""

    kept: np.ndarray
    reference_failed: np.ndarray
    anchor_failed: np.ndarray
    anchor_degraded: np.ndarray


class SystemTests(NamedTuple):
    """Hold quartiles [3, system], Friedman's p-value (NaN for two systems), and one Wilcoxon test per pair of systems.

    ``p_values`` are [pair]; ``adjusted`` are Holm's, to be compared with the level of the whole family.
    """

    quartiles: np.ndarray
    friedman_p: float
    pairs: list[tuple[int, int]]
    p_values: np.ndarray
    adjusted: np.ndarray


def mean_opinion_score(ratings: ArrayLike, confidence: float = 0.95, scale: tuple[float, float] = (1.0, 5.0)) -> Figure:
    """Return the mean of ratings [rater, item], NaN where not rated, with an interval over new raters and new items.

    A rating is mean + rater + item + error, as in crowdMOS (Ribeiro et al. 2011): ratings by one rater, or of one
    item, are not independent. The three variances come without bias, whatever was rated, from half the mean squared
    differences of pairs that share the rater (G_r), the item (G_i) or neither (G) (Gao & Owen 2017)::

        v_r = G - G_r,  v_i = G - G_i,  v_e = G_r + G_i - G
        mean +- t sqrt(v_r sum n_r^2 / N^2 + v_i sum n_i^2 / N^2 + v_e / N)

    n_r and n_i the ratings per rater and item, t of Satterthwaite's degrees of freedom, at least those of the fewer
    of raters and items; unbounded for one rater or item, since the next may be anyone. 95 % intervals held the truth in
    95 to 98 % of synthetic tests (studies/listening_statistics.py), of a two-way bootstrap (Owen 2007) in 92 to 99.8 %.
    """
    normal_quantile(confidence)
    y = _scores(ratings, "[rater, item]", scale)
    rated = ~np.isnan(y)
    y, rated = (part[rated.any(axis=1)][:, rated.any(axis=0)] for part in (y, rated))
    count, note = int(rated.sum()), f"{y.shape[0]} raters, {y.shape[1]} items"
    value = float(y[rated].mean()) if count else math.nan
    if min(y.shape) < 2:
        return Figure("MOS", value, -math.inf, math.inf, count, note=note)
    variance, freedom = _variance_of_mean(np.where(rated, y - value, 0.0), rated)
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance)
    return Figure("MOS", value, value - half, value + half, count, note=note)


def ab_test(preferred: int, not_preferred: int, tied: int, *, ties: str, confidence: float = 0.95) -> Preference:
    """Return the share of A over B in %, Wilson's interval, and the exact two-sided binomial test of one half.

    ``ties``: "drop" looks at decided trials only; "split" gives half of the ties to each side and drops an odd one,
    which keeps "no difference" in view and is the less significant. There is no default: the note declares it.
    Trials must be independent, one per listener and pair: repeats of one listener are not.
    """
    check_choice("ties", ties, ("drop", "split"))
    counts = (preferred, not_preferred, tied)
    if any(count < 0 or count % 1 for count in counts) or not any(counts):
        raise ValueError(f"preferences {counts} are no counts of trials: give integers from 0, not all of them 0")
    each = int(tied // 2) if ties == "split" else 0
    wins, trials = int(preferred) + each, int(preferred + not_preferred) + 2 * each
    p_value = float(scipy.stats.binomtest(wins, trials).pvalue) if trials else 1.0
    note = f"{tied} ties, {'half to each side' if ties == 'split' else 'dropped'}"
    return Preference(proportion_figure("preference", wins, trials, confidence, note), p_value)


def sign_test(differences: ArrayLike, *, ties: str, confidence: float = 0.95) -> Preference:
    """Return :func:`ab_test` of how many paired differences [pair] are above and below 0; a 0 is a tie."""
    differences = np.asarray(differences, np.float64)
    if differences.ndim != 1 or not np.isfinite(differences).all():
        raise ValueError(f"differences {differences.shape} must be [pair] and finite: leave out the others, counted")
    return ab_test(*(int(np.sum(np.sign(differences) == s)) for s in (1, -1, 0)), ties=ties, confidence=confidence)


def bradley_terry(wins: ArrayLike) -> Ranking:
    """Return the Bradley-Terry strengths of wins [winner, loser], by the MM algorithm (Hunter 2004, eq. 3).

    p_i <- W_i / sum_j n_ij / (p_i + p_j), with W_i all wins of i and n_ij the trials of i and j; a tie is half a win
    for each. The covariance is the inverse of the Fisher information sum n_ij p_i p_j / (p_i + p_j)^2, on the plane of
    mean 0. The maximum exists if and only if the graph of "has beaten" is strongly connected (Ford 1957): else some
    group of systems never lost to, or never met, the rest, no finite strengths fit, and this is an error.
    """
    wins = np.asarray(wins, np.float64)
    counts = wins.ndim == 2 and len(wins) > 1 and bool((np.isfinite(wins) & (wins >= 0)).all())
    if not counts or wins.shape[0] != wins.shape[1] or wins.diagonal().any():
        raise ValueError(f"wins {wins.shape}: give [system, system], 2 or more, finite and from 0, 0 on the diagonal")
    groups, group = scipy.sparse.csgraph.connected_components(wins > 0, directed=True, connection="strong")
    if groups > 1:
        members = [np.flatnonzero(group == g).tolist() for g in range(groups)]
        raise ValueError(
            f"the comparisons fall into {groups} groups of systems, {members}, without wins both ways between "
            "them, so that no finite strengths fit: add comparisons between the groups, or rank each alone"
        )
    trials, won, s = wins + wins.T, wins.sum(axis=1), np.zeros(len(wins))
    for _ in range(MOST_ITERATIONS):
        p = np.exp(s)
        new = np.log(won / np.sum(trials / (p[:, None] + p), axis=1))
        new -= new.mean()
        change, s = np.max(np.abs(new - s)), new
        if change < SMALLEST_CHANGE:
            break
    expected = 1 / (1 + np.exp(s - s[:, None]))
    coupling = trials * expected * expected.T
    covariance = np.linalg.pinv(np.diag(coupling.sum(axis=1)) - coupling, hermitian=True)
    # MM creeps where systems hardly met: small changes prove nothing, the Newton step tells what is left to go.
    left = np.max(np.abs(covariance @ (won - np.sum(trials * expected, axis=1))))
    if not left < FURTHEST_FROM_MAXIMUM:
        limit = f"{FURTHEST_FROM_MAXIMUM} after {MOST_ITERATIONS} iterations"
        raise ValueError(f"log strengths are {left:.1e} from their maximum, not {limit}: compare rarely met pairs more")
    return Ranking(s, covariance)


def mushra_screening(hidden_reference: ArrayLike, mid_anchor: ArrayLike) -> Screening:
    """Return who passes the post-screening of ITU-R BS.1534-3, from scores [assessor, item] in 0..100, NaN if missing.

    Out is who rates the hidden reference below 90 for more than 15 % of the items, or the mid-range (7 kHz) anchor
    above 90 for more than 15 % of them. An item whose mid-range anchor more than a quarter of all assessors put above
    90 was hardly degraded by it: no one is screened by that anchor. Exclude before looking at the systems under test.
    """
    reference, anchor = (_scores(x, "[assessor, item]", (0, 100)) for x in (hidden_reference, mid_anchor))
    if reference.shape != anchor.shape or any(np.isnan(x).all(axis=1).any() for x in (reference, anchor)):
        raise ValueError(f"reference {reference.shape} and anchor {anchor.shape}: give one shape, no assessor all NaN")
    degraded = _share(anchor > 90, ~np.isnan(anchor), axis=0) <= 0.25
    failed_reference = _share(reference < 90, ~np.isnan(reference), axis=1)
    failed_anchor = _share((anchor > 90) & degraded, ~np.isnan(anchor) & degraded, axis=1)
    return Screening((failed_reference <= 0.15) & (failed_anchor <= 0.15), failed_reference, failed_anchor, degraded)


def compare_systems(scores: ArrayLike) -> SystemTests:
    """Return Friedman's test over systems and Wilcoxon's signed-rank test of each pair with Holm's correction.

    ``scores`` are [block, system]. A block is what is independent: one assessor's mean over the items, not each of
    the items. A pair's tied blocks are left out. Of up to 13 others the p-value is exact, equal sizes included, so that
    fewer than 6 never give p < .05; of more it is scipy's.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or min(scores.shape) < 2 or not np.isfinite(scores).all():
        raise ValueError(f"scores {scores.shape}: give finite [block, system], 2 or more each, without broken blocks")
    pairs = list(itertools.combinations(range(scores.shape[1]), 2))
    differences = [scores[:, i] - scores[:, j] for i, j in pairs]
    p_values = np.array([_signed_rank_p(d[d != 0]) for d in differences])
    friedman_p = math.nan
    if len(pairs) > 1:
        friedman_p = float(scipy.stats.friedmanchisquare(*scores.T).pvalue) if np.ptp(scores, axis=1).any() else 1.0
    return SystemTests(np.percentile(scores, [25, 50, 75], axis=0), friedman_p, pairs, p_values, holm(p_values))


def holm(p_values: ArrayLike) -> np.ndarray:
    """Return p-values adjusted for their number by Holm (1979): sorted, max over j <= i of (m - j + 1) p_j, at most 1.

    Rejecting below a level keeps the chance of any false rejection below it, however the tests depend.
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values {p} are no probabilities [test]: give values from 0 to 1, without NaN")
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order]))
    return adjusted


def _signed_rank_p(differences: np.ndarray) -> float:
    """Return Wilcoxon's p-value: scipy's, but for few differences without its second of work and in any version."""
    if (count := len(differences)) > MOST_SIGNS:
        return float(scipy.stats.wilcoxon(differences).pvalue)
    ranks = scipy.stats.rankdata(np.abs(differences))  # multiples of a half: sums are exact
    every_sign = 1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
    return float(np.mean(np.abs(every_sign @ ranks) >= abs(np.sign(differences) @ ranks)))


def _variance_of_mean(y: np.ndarray, rated: np.ndarray) -> tuple[float, float]:
    """Return the variance of the mean of y [rater, item], 0 where not rated, and its degrees of freedom."""
    count, per_rater, per_item = rated.sum(), rated.sum(axis=1), rated.sum(axis=0)
    # Sums over ordered pairs of half the squared difference: n sum y^2 - (sum y)^2 within each group.
    rater_squares = np.sum(per_rater * np.sum(y**2, axis=1) - y.sum(axis=1) ** 2)
    item_squares = np.sum(per_item * np.sum(y**2, axis=0) - y.sum(axis=0) ** 2)
    other_squares = count * np.sum(y**2) - y.sum() ** 2 - rater_squares - item_squares
    rater_pairs, item_pairs = np.sum(per_rater * (per_rater - 1)), np.sum(per_item * (per_item - 1))
    apart = other_squares / (count * (count - 1) - rater_pairs - item_pairs)
    # Without a pair that shares the rater his variance is part of the error, which counts as often.
    of_rater = apart - rater_squares / rater_pairs if rater_pairs else 0.0
    of_item = apart - item_squares / item_pairs if item_pairs else 0.0
    error = max(apart - of_rater - of_item, 0.0) / count
    rater_share, item_share = np.sum(per_rater**2) / count**2, np.sum(per_item**2) / count**2
    rater_part, item_part = of_rater * rater_share, of_item * item_share
    variance = max(rater_part + item_part, 0.0) + error
    fewest = float(min(y.shape) - 1)
    spread = (max(rater_part, 0.0) + error) ** 2 / (1 / rater_share - 1)
    spread += (max(item_part, 0.0) + error) ** 2 / (1 / item_share - 1)
    return float(variance), max(float(variance**2 / spread), fewest) if spread else fewest


def _scores(values: ArrayLike, axes: str, scale: tuple[float, float]) -> np.ndarray:
    """Return scores as float64, NaN where there is none, refusing what is off the scale."""
    scores = np.asarray(values, np.float64)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"scores have the shape {scores.shape}: give a filled array {axes}")
    if (off := scores[(scores < scale[0]) | (scores > scale[1])]).size:
        raise ValueError(f"{off.size} scores are off the scale {scale}, the first {off[0]}: a missing one is NaN")
    return scores


def _share(hits: np.ndarray, of: np.ndarray, axis: int) -> np.ndarray:
    return hits.sum(axis=axis) / np.maximum(of.sum(axis=axis), 1)
