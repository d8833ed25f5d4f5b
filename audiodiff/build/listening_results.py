"""Analyse what the listeners of a test sent back, by the plan of its page (:mod:`audiodiff.build.listening`)."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from audiodiff import prng
from audiodiff.build.choices import ConfigError
from audiodiff.build.listening import ANCHOR, REFERENCE
from audiodiff.evaluation import page
from audiodiff.evaluation.listening_page import KINDS
from audiodiff.evaluation.report import FigureRow, Report, write_report
from audiodiff.metrics import listening
from audiodiff.metrics.intervals import Figure, median_figure, normal_quantile
from audiodiff.training.workdir import config_hash

RESULTS_FILE = "listening.json"


class Rating(NamedTuple):
    """Hold what one listener said of one stimulus."""

    listener: str
    trial: str
    clip: str
    system: str
    value: float


class Analysis(NamedTuple):
    """Hold figures, what a reader should know beside them as sentences, and all of it as plain values."""

    rows: list[FigureRow]
    sentences: list[str]
    record: dict[str, Any]


def write_analysis(plan_path: pathlib.Path, results: pathlib.Path, out: pathlib.Path) -> tuple[pathlib.Path, Analysis]:
    """Analyse a folder of results, write index.html, figures.json and listening.json to ``out``; return page, analysis.

    Raises ConfigError for a plan or a file that cannot be used, which it names.
    """
    plan = read_plan(plan_path)
    found = analyse(plan, read_results(plan, results, beside=plan_path))
    facts = {
        "kind": plan["kind"],
        "plan": plan["hash"],
        "stimuli": f"{len(plan['stimuli'])} in {len(plan['trials'])} trials at {plan['config']['level_lkfs']:.1f} LKFS",
        "seed": str(plan["seed"]),
    }
    report = Report(
        title=f"Listening test: {', '.join(plan['config']['systems'])}",
        summary="\n\n".join(found.sentences),
        facts=facts,
        figures=found.rows,
        floor_name="lowest anchor",
        ceiling_name="reference, hidden",
    )
    path = write_report(out / "index.html", report)
    (out / RESULTS_FILE).write_bytes(page.strict_json(found.record))
    return path, found


def read_plan(path: pathlib.Path) -> dict[str, Any]:
    """Read a plan; raise ConfigError where it is damaged or was changed after its page was made."""
    plan = _read_json(path, "the plan")
    made = {key: value for key, value in plan.items() if key not in ("hash", "page_sha256")}
    if plan.get("hash") != (own := config_hash(made)):
        raise ConfigError(f"{path} has the hash {own}, not {plan.get('hash')} as it says: it was changed, restore it")
    return plan


def read_results(plan: Mapping[str, Any], folder: pathlib.Path, *, beside: pathlib.Path | None = None) -> list[Rating]:
    """Read the results in a folder, a JSON file for each listener, checked; ``beside`` is a file there to pass over.

    Raises ConfigError for no results, another plan's, damaged or unfinished ones, two of one listener, and ratings that
    are off the scale; it names the file.
    """
    paths = [path for path in sorted(folder.glob("*.json")) if beside is None or path.resolve() != beside.resolve()]
    if not paths:
        raise ConfigError(f"{folder} holds no results: put the files there that the listeners saved")
    files: dict[str, pathlib.Path] = {}
    ratings = []
    for path in paths:
        results = _read_json(path, "the listener's answers")
        if results.get("plan") != plan["hash"]:
            raise ConfigError(f"{path} answers the plan {results.get('plan')}, not {plan['hash']}: take it out")
        listener = str(results.get("listener") or "").strip()
        if (other := files.setdefault(listener.casefold(), path)) != path:
            raise ConfigError(f"{other} and {path} are both of the listener {listener!r}: keep one of them")
        try:
            ratings += _ratings(plan, listener, results["answers"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: {error}; ask for the file again, or leave the listener out") from error
    return ratings


def analyse(plan: Mapping[str, Any], ratings: Sequence[Rating]) -> Analysis:
    """Analyse ratings by the statistics of :mod:`audiodiff.metrics.listening` that their kind calls for."""
    analysis = {"mos": _opinions, "mushra": _mushra, "ab": _preferences, "abx": _discrimination}[plan["kind"]]
    rows, sentences, tests = analysis(plan, ratings)
    listeners = _listeners(ratings)
    record = {
        "kind": plan["kind"],
        "plan": plan["hash"],
        "listeners": listeners,
        "figures": [row.figure.to_dict() for row in rows],
        **tests,
    }
    count = f"{len(listeners)} listener{'s' * (len(listeners) != 1)}, {len(plan['trials'])} trials each."
    return Analysis(rows, [count, *sentences], record)


Found = tuple[list[FigureRow], list[str], dict[str, Any]]


def _opinions(plan: Mapping[str, Any], ratings: Sequence[Rating]) -> Found:
    """Return the mean opinion of each system, over new listeners and new clips."""
    tables = _tables(plan, ratings)
    figures = {name: _named(listening.mean_opinion_score(of), f"MOS of {name}") for name, of in tables.items()}
    ceiling = figures.get(REFERENCE)
    rows = [FigureRow(one, ceiling=ceiling if one is not ceiling else None) for one in figures.values()]
    return rows, *_compared(tables)


def _mushra(plan: Mapping[str, Any], ratings: Sequence[Rating]) -> Found:
    """Return means and medians of each stimulus over the assessors who pass the screening."""
    tables = _tables(plan, ratings)
    listeners = _listeners(ratings)
    anchors = [ANCHOR.format(cutoff) for cutoff in sorted(plan["config"]["anchors_hz"])]
    lowest, middle = anchors[0], anchors[-1]
    screening = listening.mushra_screening(tables[REFERENCE], tables[middle])
    screened = {}
    for index in np.flatnonzero(~screening.kept):
        shares = {
            f"the hidden reference below 90 in {screening.reference_failed[index]:.0%}": screening.reference_failed,
            f"the {middle} above 90 in {screening.anchor_failed[index]:.0%}": screening.anchor_failed,
        }
        why = " and ".join(text for text, share in shares.items() if share[index] > 0.15)
        screened[listeners[index]] = f"rated {why} of the trials"
    told = [f"{listener} was screened out: {why}." for listener, why in screened.items()]
    if len(screened) == len(listeners):
        raise ConfigError(f"no assessor is left. {' '.join(told)} Look at the test before at its listeners")
    tables = {name: of[screening.kept] for name, of in tables.items()}
    key = prng.stream(plan["seed"], "listening analysis")
    means = {
        name: _named(listening.mean_opinion_score(of, scale=(0, 100)), f"mean of {name}") for name, of in tables.items()
    }
    medians = {
        name: median_figure(f"median of {name}", of.mean(axis=1), key, note="of the assessors' means")
        for name, of in tables.items()
    }
    rows = []
    for figures in (means, medians):
        for name, one in figures.items():
            alone = name in (lowest, REFERENCE)
            floor, ceiling = (None, None) if alone else (figures[lowest], figures[REFERENCE])
            rows.append(FigureRow(one, floor, ceiling))
    sentences, tests = _compared({name: of for name, of in tables.items() if name not in anchors})
    return rows, [*told, *sentences], {"screened": screened, **tests}


def _preferences(plan: Mapping[str, Any], ratings: Sequence[Rating]) -> Found:
    """Return who was preferred, pair by pair, and with more than two systems their strengths."""
    systems = list(plan["config"]["systems"])
    wins = np.zeros((len(systems),) * 2)
    rows, pairs = [], []
    for i, j in itertools.combinations(range(len(systems)), 2):
        # +1 where the first was preferred, -1 where the second, 0 for neither
        signs = {(one.listener, one.clip): 2 * one.value - 1 for one in _of_pair(ratings, systems[i], systems[j])}
        values = np.array(list(signs.values()))
        won, lost, tied = (int(np.sum(values == sign)) for sign in (1, -1, 0))
        wins[i, j], wins[j, i] = won + tied / 2, lost + tied / 2
        name = f"{systems[i]} over {systems[j]}"
        found = listening.ab_test(won, lost, tied, ties="split")
        by = {
            what: listening.sign_test(_summed(signs, part), ties="drop")
            for part, what in enumerate(("listeners", "clips"))
        }
        rows.append(FigureRow(_named(found.share, name)))
        rows += [FigureRow(_named(one.share, f"{what} with {name}")) for what, one in by.items()]
        pair = {"pair": [systems[i], systems[j]], "won": won, "lost": lost, "tied": tied, "p": found.p_value}
        pairs.append({**pair, **{f"p_by_{what}": one.p_value for what, one in by.items()}})
    ranking: dict[str, Any] = {}
    if len(systems) > 2:
        try:
            strengths = _strengths(systems, wins)
        except ValueError as error:  # one who never won leaves the pairs as they are
            ranking = {"ranking_refused": str(error)}
        else:
            rows += [FigureRow(one) for one in strengths]
    return rows, *_corrected(pairs, "preferred as often", ranking)


def _discrimination(plan: Mapping[str, Any], ratings: Sequence[Rating]) -> Found:
    """Return how often X was told, pair by pair, and listener by listener.

    Where nothing is heard each answer is right with a chance of one half, whoever gives it and however often: sides
    are drawn anew for each listener and trial. So all answers count.
    """
    of = {one["id"]: one["system"] for one in plan["stimuli"]}
    hidden = {trial["id"]: of[trial["reference"]] for trial in plan["trials"]}
    rows, pairs = [], []
    for first, second in itertools.combinations(plan["config"]["systems"], 2):
        answers = _of_pair(ratings, first, second)
        hits = [(one.listener, (one.value == 1) == (hidden[one.trial] == first)) for one in answers]
        right = sum(hit for _, hit in hits)
        found = listening.ab_test(right, len(hits) - right, 0, ties="drop")
        by = {who: sum(hit for name, hit in hits if name == who) for who in _listeners(ratings)}
        rows.append(FigureRow(_named(found.share, f"{first} told from {second}", "chance is 50 %")))
        pairs.append(
            {"pair": [first, second], "answers": len(hits), "right": right, "right_by": by, "p": found.p_value}
        )
    return rows, *_corrected(pairs, "told apart no better than by chance", {})


def _ratings(plan: Mapping[str, Any], listener: str, answers: Sequence[Mapping[str, Any]]) -> list[Rating]:
    """Return the ratings of one listener; raise ValueError for what does not fit the plan or the scale."""
    if not listener:
        raise ValueError("it names no listener")
    kind = KINDS[plan["kind"]]
    stimuli = {one["id"]: one for one in plan["stimuli"]}
    given = {answer["trial"]: answer["ratings"] for answer in answers}
    asked = {trial["id"]: trial["stimuli"] for trial in plan["trials"]}
    if len(answers) != len(asked) or given.keys() != asked.keys():
        raise ValueError(
            f"it answers {len(given.keys() & asked.keys())} of {len(asked)} trials in {len(answers)} answers"
        )
    ratings = []
    for trial, values in given.items():
        if values.keys() != set(asked[trial]):
            raise ValueError(f"trial {trial} rates {sorted(values)}, not {sorted(asked[trial])}")
        low, high = kind.scale
        for id, value in values.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise ValueError(f"trial {trial} rates {id} with {value!r}, not with a number from {low} to {high}")
            ratings.append(Rating(listener, trial, stimuli[id]["clip"], stimuli[id]["system"], float(value)))
        options = [sorted(option) for _, _, option in kind.choices]
        if options and sorted(values.values()) not in options:
            raise ValueError(f"trial {trial} has the ratings {sorted(values.values())}, not one of {options}")
    return ratings


def _tables(plan: Mapping[str, Any], ratings: Sequence[Rating]) -> dict[str, np.ndarray]:
    """Return the ratings of each system [listener, clip], both sorted by name."""
    value = {(one.system, one.listener, one.clip): one.value for one in ratings}
    systems = dict.fromkeys(one["system"] for one in plan["stimuli"])
    clips = sorted({one.clip for one in ratings})
    return {
        name: np.array([[value[name, who, clip] for clip in clips] for who in _listeners(ratings)]) for name in systems
    }


def _listeners(ratings: Sequence[Rating]) -> list[str]:
    return sorted({one.listener for one in ratings})


def _of_pair(ratings: Sequence[Rating], first: str, second: str) -> list[Rating]:
    """Return the ratings of the first of two systems in the trials that hold both."""
    shared = {one.trial for one in ratings if one.system == second}
    return [one for one in ratings if one.system == first and one.trial in shared]


def _compared(tables: Mapping[str, np.ndarray]) -> tuple[list[str], dict[str, Any]]:
    """Test systems against each other, a listener's mean over the clips being one observation."""
    names = list(tables)
    scores = np.stack([tables[name].mean(axis=1) for name in names], axis=1)
    if min(scores.shape) < 2:
        return ["Systems are not tested against each other: that takes two of them and two listeners."], {}
    found = listening.compare_systems(scores)
    pairs = [
        {"pair": [names[i], names[j]], "p": p, "p_holm": adjusted}
        for (i, j), p, adjusted in zip(found.pairs, found.p_values.tolist(), found.adjusted.tolist(), strict=True)
    ]
    friedman = None if math.isnan(found.friedman_p) else found.friedman_p
    sentences = [] if friedman is None else [f"All systems alike (Friedman): p = {friedman:.2g}."]
    sentences += [f"{' and '.join(one['pair'])} alike (Wilcoxon, Holm): p = {one['p_holm']:.2g}." for one in pairs]
    quartiles = {name: column.tolist() for name, column in zip(names, found.quartiles.T, strict=True)}
    return sentences, {"friedman_p": friedman, "wilcoxon": pairs, "quartiles": quartiles}


def _corrected(pairs: list[dict[str, Any]], alike: str, more: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Add Holm's p-values to the tests of pairs, and tell them."""
    adjusted = listening.holm([one["p"] for one in pairs]).tolist()
    pairs = [{**one, "p_holm": p} for one, p in zip(pairs, adjusted, strict=True)]
    sentences = [f"{' and '.join(one['pair'])} {alike} (binomial, Holm): p = {one['p_holm']:.2g}." for one in pairs]
    return sentences, {"pairs": pairs, **more}


def _strengths(systems: Sequence[str], wins: np.ndarray) -> list[Figure]:
    """Return Bradley-Terry's strengths as figures, in log odds around a mean of 0."""
    ranking = listening.bradley_terry(wins)
    count, z = int(wins.sum()), normal_quantile(0.95)
    return [
        Figure(f"strength of {systems[i]}", s, s - z * d, s + z * d, count, note="Bradley-Terry, log odds, mean 0")
        for i, s, d in zip(
            ranking.order,
            ranking.log_strength[ranking.order].tolist(),
            np.sqrt(ranking.covariance.diagonal())[ranking.order].tolist(),
            strict=True,
        )
    ]


def _summed(signs: Mapping[tuple[str, str], float], part: int) -> list[float]:
    """Return preferences summed over what shares a part of their key, the listener or the clip."""
    return [sum(v for key, v in signs.items() if key[part] == one) for one in sorted({key[part] for key in signs})]


def _named(figure: Figure, name: str, note: str = "") -> Figure:
    return dataclasses.replace(figure, name=name, note="; ".join(filter(None, (figure.note, note))))


def _read_json(path: pathlib.Path, what: str) -> dict[str, Any]:
    """Read a JSON object; raise ConfigError that names the file where it is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"it holds a {type(values).__name__}, not an object")
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}): restore {what}") from error
    return values
