"""Measure on synthetic raters how often the statistics of listening tests say what they promise.

    python experiments/studies/listening_statistics.py --out=listening_statistics.json

Asks: does a 95 % interval of a mean opinion score hold the true mean in 93 to 97 % of tests, do 5 % tests reject a true
hypothesis in at most 5 %, is a planted ranking found, is a planted bad assessor screened and a good one kept? For
comparison, the interval of independent ratings and the two-way bootstrap. A minute on two CPU cores; no listener was
asked anything, so these are figures of the statistics and of no system.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import pathlib
from collections.abc import Callable

import numpy as np
from scipy import stats

from audiodiff.metrics import listening
from audiodiff.metrics.intervals import mean_interval, wilson_interval

MEAN = 3.3
"""The latent mean of the ratings, which the roundings to 1..5 pull towards 3."""

DESIGNS: dict[str, tuple[int, int, tuple[float, float, float], float]] = {
    "laboratory, 20 raters x 30 items": (20, 30, (0.4, 0.4, 0.7), 1.0),
    "8 raters who differ x 40 items": (8, 40, (0.5, 0.3, 0.7), 1.0),
    "crowd, 30 raters, a fifth of them per item": (30, 40, (0.4, 0.4, 0.7), 0.2),
    "crowd, 100 raters, 15 per item": (100, 20, (0.5, 0.3, 0.8), 0.15),
    "many items, few effects": (30, 40, (0.2, 0.2, 0.9), 0.2),
    "independent ratings": (15, 20, (0.0, 0.0, 1.0), 1.0),
}
"""Name -> raters, items, standard deviations (rater, item, error), share of the raters who rate an item."""

Interval = Callable[[np.random.Generator, np.ndarray], tuple[float, float]]


def main() -> None:
    """Measure everything, print it, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--repetitions", type=int, default=2000, help="synthetic tests per figure")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    repetitions, seed = arguments.repetitions, arguments.seed
    figures = {
        "repetitions": repetitions,
        "seed": seed,
        "coverage_percent": {name: coverage(seed, repetitions, design) for name, design in DESIGNS.items()},
        "size_percent": {**exact_sizes(), **simulated_sizes(seed, repetitions)},
        "ranking": ranking(seed, repetitions),
        "screening": screening(seed, repetitions),
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


def coverage(seed: int, repetitions: int, design: tuple[int, int, tuple[float, float, float], float]) -> dict:
    """Return, per kind of interval, how often it holds the expected rating, with Wilson's interval, and its width."""
    raters, items, spreads, share = design
    generator = np.random.default_rng(seed)
    edges = stats.norm.cdf((np.arange(1, 5) + 0.5 - MEAN) / math.hypot(*spreads))
    truth = 5 - edges.sum()
    kinds: dict[str, Interval] = {
        "rater and item": lambda _, y: (lambda f: (f.low, f.high))(listening.mean_opinion_score(y)),
        "independent ratings": lambda _, y: mean_interval(y[~np.isnan(y)]),
        "two-way bootstrap": two_way_bootstrap,
    }
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for _ in range(repetitions):
        y = ratings(generator, raters, items, spreads, share)
        for kind, interval in kinds.items():
            found[kind].append(interval(generator, y))
    result = {}
    for kind, ends in found.items():
        low, high = np.array(ends).T
        result[kind] = {**percent(int(np.sum((low <= truth) & (truth <= high))), repetitions)}
        result[kind]["mean_width"] = round(float(np.mean(high - low)), 3)
    return result


def ratings(
    generator: np.random.Generator, raters: int, items: int, spreads: tuple[float, float, float], share: float
) -> np.ndarray:
    """Draw ratings 1 to 5 [rater, item], NaN where an item was not among those given to the rater."""
    of_rater, of_item, error = spreads
    y = MEAN + of_rater * generator.normal(size=(raters, 1)) + of_item * generator.normal(size=(1, items))
    y = np.clip(np.round(y + error * generator.normal(size=(raters, items))), 1, 5)
    chosen = np.argsort(generator.random(y.shape), axis=0) < round(share * raters)
    return np.where(chosen, y, np.nan)


def two_way_bootstrap(generator: np.random.Generator, y: np.ndarray, resamples: int = 300) -> tuple[float, float]:
    """Return the percentile interval over raters and items drawn anew, each with replacement (Owen 2007)."""
    rated = ~np.isnan(y)
    y, rated = y[rated.any(axis=1)], rated[rated.any(axis=1)]
    raters, items = (generator.multinomial(n, np.full(n, 1 / n), resamples).astype(float) for n in y.shape)
    totals, counts = (np.sum(raters @ table * items, axis=1) for table in (np.nan_to_num(y), rated.astype(float)))
    low, high = np.nanquantile(totals / counts, [0.025, 0.975])
    return float(low), float(high)


def exact_sizes() -> dict:
    """Return the exact chance of the A/B test to reject equal preference at 5 %, by summing the binomial."""
    sizes = {}
    for n in (6, 10, 20, 50, 100, 200):
        p_values = np.array([listening.ab_test(k, n - k, 0, ties="drop").p_value for k in range(n + 1)])
        sizes[f"A/B, {n} trials (exact)"] = round(
            float(100 * stats.binom.pmf(np.arange(n + 1), n, 0.5) @ (p_values <= 0.05)), 3
        )
    return sizes


def simulated_sizes(seed: int, repetitions: int) -> dict:
    """Return how often tests over equal systems reject: blocks of 20, four systems, ordinal scores with ties."""
    generator = np.random.default_rng(seed)
    rejections = {"Friedman, 20 x 4": 0, "any pair by Wilcoxon": 0, "any pair by Wilcoxon with Holm": 0, "sign test": 0}
    for _ in range(repetitions):
        scores = np.round(generator.normal(3, 1, (20, 1)) + generator.normal(0, 1, (20, 4)))
        got = listening.compare_systems(scores)
        rejections["Friedman, 20 x 4"] += got.friedman_p <= 0.05
        rejections["any pair by Wilcoxon"] += got.p_values.min() <= 0.05
        rejections["any pair by Wilcoxon with Holm"] += got.adjusted.min() <= 0.05
        rejections["sign test"] += listening.sign_test(scores[:, 0] - scores[:, 1], ties="drop").p_value <= 0.05
    return {name: percent(int(count), repetitions) for name, count in rejections.items()}


def ranking(seed: int, repetitions: int) -> dict:
    """Return how often five planted strengths, half a logit apart, are found in order, and held by their intervals."""
    generator = np.random.default_rng(seed)
    planted = np.array([0.5, -1.0, 1.0, 0.0, -0.5])
    result = {}
    for trials in (20, 60, 200):
        ordered, held, refused = 0, 0, 0
        for _ in range(repetitions):
            wins = np.zeros((5, 5))
            for i, j in itertools.combinations(range(5), 2):
                wins[i, j] = generator.binomial(trials, 1 / (1 + math.exp(planted[j] - planted[i])))
                wins[j, i] = trials - wins[i, j]
            try:
                got = listening.bradley_terry(wins)
            except ValueError:
                refused += 1
                continue
            ordered += list(got.order) == [2, 0, 3, 4, 1]
            held += np.sum(np.abs(got.log_strength - planted) < 1.96 * np.sqrt(got.covariance.diagonal()))
        fitted = repetitions - refused
        result[f"{trials} trials per pair"] = {
            "in order": percent(ordered, fitted),
            "strength held by its 95 % interval": percent(int(held), 5 * fitted),
            "refused": refused,
        }
    return result


def screening(seed: int, repetitions: int) -> dict:
    """Return the share of four kinds of assessor that BS.1534-3 screens out, over 20 items with 12 good assessors."""
    generator = np.random.default_rng(seed)
    out = {"good": 0, "misses the reference on 30 %": 0, "does not hear the 7 kHz anchor": 0, "random scores": 0}
    for _ in range(repetitions):
        reference = np.clip(generator.normal(99, 3, (15, 20)), 0, 100)
        anchor = np.clip(generator.normal(55, 12, (15, 20)), 0, 100)
        reference[12] = np.where(generator.random(20) < 0.3, generator.uniform(40, 89, 20), reference[12])
        anchor[13] = np.clip(generator.normal(96, 4, 20), 0, 100)
        reference[14], anchor[14] = generator.uniform(0, 100, (2, 20))
        kept = listening.mushra_screening(reference, anchor).kept
        for name, gone in zip(out, np.split(~kept, [12, 13, 14]), strict=True):
            out[name] += int(gone.sum())
    return {name: percent(int(n), repetitions * (12 if name == "good" else 1)) for name, n in out.items()}


def percent(hits: int, count: int) -> dict:
    """Return a share in % with its Wilson interval."""
    low, high = wilson_interval(hits, count)
    return {"percent": round(100 * hits / count, 2), "low": round(100 * low, 2), "high": round(100 * high, 2)}


if __name__ == "__main__":
    main()
