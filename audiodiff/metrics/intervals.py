"""Say how sure a figure is: intervals for proportions, means and any statistic, and the Figure that carries them.

An interval states what is known. Nothing known is the whole range, [0, 1] for a proportion and (-inf, inf) for a
mean, so that no figure ever lacks an interval. All randomness comes from an explicit key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy  # its parts load when they are first used
from numpy.typing import ArrayLike

JACKKNIFE_GROUPS = 200


class Interval(NamedTuple):
    """Hold the ends of a confidence interval; either may be infinite, neither is ever NaN."""

    low: float
    high: float


@dataclass(frozen=True)
class Figure:
    """Hold one measured number with its interval and the count of items behind it, all in ``unit``.

    ``value`` is finite, or NaN where the figure is not defined on the data at hand; a proportion is held in its unit
    (87.3 with unit "%", not 0.873). ``str`` reads ``87.3 % [84.4, 89.8] (n=600)``.
    """

    name: str
    value: float
    low: float
    high: float
    count: int
    unit: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if math.isinf(self.value):
            raise ValueError(f"figure {self.name!r} is {self.value}: give a finite value, or NaN if it is not defined")
        if not self.low <= self.high:
            raise ValueError(f"figure {self.name!r} has the interval [{self.low}, {self.high}]: low must not pass high")
        if self.count < 0 or (self.count == 0 and not math.isnan(self.value)):
            raise ValueError(f"figure {self.name!r} is {self.value} from {self.count} items: without items it is NaN")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for strict JSON: None stands for NaN and for an open end."""
        return {key: None if _not_finite(value) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Figure:
        """Read back what :meth:`to_dict` wrote."""
        absent: dict[str, Any] = {"value": math.nan, "low": -math.inf, "high": math.inf}
        return cls(**{key: absent[key] if value is None else value for key, value in values.items()})

    def __str__(self) -> str:
        return f"{self.value_text} {self.interval_text} (n={self.count})"

    @property
    def value_text(self) -> str:
        """The value and its unit, with as many decimals as the interval can bear."""
        text = "undefined" if math.isnan(self.value) else self._format(self.value)
        return f"{text} {self.unit}".rstrip()

    @property
    def interval_text(self) -> str:
        """The interval as ``[low, high]``, in the figure's unit."""
        return f"[{self._format(self.low)}, {self._format(self.high)}]"

    def _format(self, number: float) -> str:
        if math.isinf(number):
            return "\u2212\u221e" if number < 0 else "\u221e"
        width = self.high - self.low
        # Two significant digits of the interval's width: more would be noise, fewer would hide its ends.
        scale = width if 0 < width < math.inf else abs(number) / 10
        decimals = 1 - math.floor(math.log10(scale)) if scale else 1
        return f"{number:.{min(max(decimals, 0), 9)}f}"


def normal_quantile(confidence: float) -> float:
    """Return z with P(|N(0, 1)| < z) = confidence."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not a probability: give a value between 0 and 1, such as 0.95")
    return float(scipy.stats.norm.ppf((1 + confidence) / 2))


def wilson_interval(successes: float, count: int, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval of a proportion (Wilson 1927), [0, 1] when there are no trials.

    (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), with z = 1.96 at 95 %.
    """
    if not 0 <= successes <= count:
        raise ValueError(f"{successes} successes in {count} trials: give between 0 and {count}")
    if count == 0:
        return Interval(0.0, 1.0)
    z = normal_quantile(confidence)
    p, shrink = successes / count, 1 + z**2 / count
    centre = (p + z**2 / (2 * count)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    # No success leaves zero possible, and no failure one; rounding must not say otherwise.
    low = 0.0 if successes == 0 else centre - half
    return Interval(low, 1.0 if successes == count else centre + half)


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return Student's t interval of a mean, mean +- t_{n-1} s / sqrt(n); unbounded for fewer than two values.

    Raises ValueError for values that are not finite: :func:`mean_figure` leaves them out and counts them.
    """
    values = np.asarray(values, np.float64).ravel()
    normal_quantile(confidence)
    if bad := int(np.sum(~np.isfinite(values))):
        raise ValueError(f"{bad} of {values.size} values are not finite: leave them out, counted, as mean_figure does")
    if values.size < 2:
        return Interval(-math.inf, math.inf)
    half = scipy.stats.t.ppf((1 + confidence) / 2, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size)
    return Interval(float(values.mean() - half), float(values.mean() + half))


def bootstrap_interval(
    key: jax.Array,
    statistic: Callable[..., float],
    *samples: ArrayLike,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Return the bias-corrected and accelerated bootstrap interval of a statistic (Efron 1987, BCa).

    Item i of every sample belongs together and is drawn together: ``statistic(*samples)`` maps arrays [n, ...] to a
    number. The interval is the quantiles Phi(z0 + (z0 + z) / (1 - a (z0 + z))) of the resampled statistics, z0 the
    normal score of the share of them below the statistic itself and a the jackknife's skewness over six, from at
    most 200 groups. Unbounded where the statistic is NaN or n < 2. Items must be independent: give one value per
    clip, not per frame.
    """
    arrays = [np.asarray(sample) for sample in samples]
    count = len(arrays[0])
    if any(len(array) != count for array in arrays):
        raise ValueError(f"samples of {[len(array) for array in arrays]} items cannot be paired: give equal counts")
    z = normal_quantile(confidence) * np.array([-1.0, 1.0])
    if count < 2 or math.isnan(value := float(statistic(*arrays))):
        return Interval(-math.inf, math.inf)

    def of(items: np.ndarray) -> float:
        return float(statistic(*(array[items] for array in arrays)))

    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    replicates = np.array([of(generator.integers(count, size=count)) for _ in range(resamples)])
    group = np.arange(count) % JACKKNIFE_GROUPS
    left_out = np.array([of(np.flatnonzero(group != g)) for g in range(min(count, JACKKNIFE_GROUPS))])
    return _bca(value, replicates, left_out, z)


def bootstrap_interval_of_means(
    key: jax.Array,
    function: Callable[[np.ndarray], np.ndarray],
    values: ArrayLike,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Return :func:`bootstrap_interval` of ``function`` of the means of values [item, dim], all resamples at once.

    ``function`` maps means [..., dim] to [...]. Resampling is a matrix product then, ten times as fast.
    """
    values = np.asarray(values, np.float64)
    count = len(values)
    z = normal_quantile(confidence) * np.array([-1.0, 1.0])
    if count < 2 or math.isnan(value := float(function(values.mean(axis=0)))):
        return Interval(-math.inf, math.inf)
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    times = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    left_out = (values.sum(axis=0) - values) / (count - 1)
    return _bca(value, function(times @ values / count), function(left_out), z)


def _bca(value: float, replicates: np.ndarray, left_out: np.ndarray, z: np.ndarray) -> Interval:
    """Return the BCa interval from the statistic, its resamples and its jackknife, at the normal scores z [2]."""
    bad = ~np.isfinite(np.concatenate([replicates, left_out]))
    if bad.any():
        raise ValueError(f"the statistic is not finite on {bad.mean():.1%} of the resamples: drop what is not finite")
    below = np.mean(replicates < value) + np.mean(replicates == value) / 2
    bias = scipy.stats.norm.ppf(np.clip(below, 0.5 / len(replicates), 1 - 0.5 / len(replicates)))
    influence = left_out.mean() - left_out
    spread = np.sum(influence**2)
    acceleration = np.sum(influence**3) / (6 * spread**1.5) if spread else 0.0
    score = bias + (bias + z) / (1 - acceleration * (bias + z))
    low, high = np.quantile(replicates, scipy.stats.norm.cdf(score))
    return Interval(float(low), float(high))


def proportion_figure(name: str, successes: float, count: int, confidence: float = 0.95, note: str = "") -> Figure:
    """Return successes/count in % with its Wilson interval; NaN with [0, 100] when nothing was counted."""
    low, high = wilson_interval(successes, count, confidence)
    return Figure(name, 100 * successes / count if count else math.nan, 100 * low, 100 * high, count, "%", note)


def mean_figure(name: str, values: ArrayLike, confidence: float = 0.95, unit: str = "", note: str = "") -> Figure:
    """Return the mean of the finite values with its t interval; the note tells how many were not finite."""
    finite, note = _finite(values, note)
    value = float(finite.mean()) if finite.size else math.nan
    return Figure(name, value, *mean_interval(finite, confidence), finite.size, unit, note)


def median_figure(
    name: str, values: ArrayLike, key: jax.Array, confidence: float = 0.95, unit: str = "", note: str = ""
) -> Figure:
    """Return the median of the finite values with its bootstrap interval; the note tells how many were not finite."""
    finite, note = _finite(values, note)
    value = float(np.median(finite)) if finite.size else math.nan
    return Figure(
        name, value, *bootstrap_interval(key, np.median, finite, confidence=confidence), finite.size, unit, note
    )


def _finite(values: ArrayLike, note: str) -> tuple[np.ndarray, str]:
    """Split off the undefined values and put their count into the note."""
    values = np.asarray(values, np.float64).ravel()
    finite = values[np.isfinite(values)]
    lost = values.size - finite.size
    return finite, "; ".join(filter(None, (note, f"{lost} of {values.size} undefined" if lost else "")))


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
