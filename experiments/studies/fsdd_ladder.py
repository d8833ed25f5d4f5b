"""Lead sets of real and damaged spoken digits past every distributional metric: what does each see, what not?

    python experiments/studies/fsdd_ladder.py --judge=runs/judge_digits \\
                                              --out=experiments/results/fsdd_ladder/figures.json
    python experiments/studies/fsdd_ladder.py --markdown=experiments/results/fsdd_ladder/figures.json

Asks: which damage to FSDD moves a metric out of the interval that it gives to unseen real clips? Which copies of
training clips are found, and how much may they be altered? Does the interval of the Frechet distance hold what it
says? Sets of 300 clips, drawn anew ``--draws`` times; six minutes of one CPU core. The second command prints the
tables of docs/results/fsdd_ladder.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from audiodiff import dsp, prng
from audiodiff.build.data import make_data
from audiodiff.build.evaluate import read_clips
from audiodiff.build.run import load_judge
from audiodiff.evaluation.judge import Judge, Verdicts
from audiodiff.evaluation.score import Clips, with_noise
from audiodiff.metrics.classification import accuracy
from audiodiff.metrics.distributions import extrapolated_frechet_figure, frechet_figure, kernel_distance
from audiodiff.metrics.inception import am_score, different_bins, inception_score, modified_inception_score
from audiodiff.metrics.intervals import Figure, proportion_figure
from audiodiff.metrics.neighbours import nearest_neighbour_ratio, neighbourhood
from audiodiff.objectives.classification import random_phase
from audiodiff.training import read_config
from audiodiff.training.workdir import environment

COUNT = 300
"""Clips of every set: as many as the official test split has."""

PARTS = 2
"""Parts of an extrapolation: 150 clips stay above the judge's 128 dimensions."""

BINS = 30
"""Bins of NDB, ten clips of a set in each."""

MEMORY = 1200
"""Clips of train and as many held out, when copies are looked for."""

FLOOR = "other train clips"

Space = Callable[[np.ndarray], np.ndarray]
"""Clips [n, time] -> features [n, dim]."""

Generate = Callable[[np.random.Generator, int, int], np.ndarray]

DESIGNS: dict[str, tuple[str, int, int, float, float]] = {
    "equal, 8 dimensions, 100 clips": ("normal", 8, 100, 0.0, 1.0),
    "near, 8 dimensions, 100 clips": ("normal", 8, 100, 0.5, 1.0),
    "far, 8 dimensions, 100 clips, Laplace": ("laplace", 8, 100, 0.5, 1.5),
    "equal, 32 dimensions, 300 clips": ("normal", 32, 300, 0.0, 1.0),
    "near, 32 dimensions, 300 clips": ("normal", 32, 300, 0.2, 1.2),
    "far, 32 dimensions, 300 clips, Laplace": ("laplace", 32, 300, 1.0, 1.5),
    "equal, 128 dimensions, 300 clips": ("normal", 128, 300, 0.0, 1.0),
    "far, 128 dimensions, 300 clips": ("normal", 128, 300, 1.0, 1.5),
}
"""Name -> law of the features, dimensions, clips of either set, shift of one dimension, scale of all."""


def main() -> None:
    """Measure everything and write it as JSON, or print the tables of such a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", type=pathlib.Path, default=pathlib.Path("runs/judge_digits"), help="its workdir")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--draws", type=int, default=5, help="random draws of all sets")
    parser.add_argument("--repetitions", type=int, default=200, help="pairs of Gaussian sets per coverage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markdown", type=pathlib.Path, help="JSON file to print as tables; nothing is measured")
    arguments = parser.parse_args()
    if arguments.markdown:
        print("\n".join(tables(json.loads(arguments.markdown.read_text(encoding="utf-8")))))
        return
    judge, settings = load_judge(arguments.judge), read_config(arguments.judge)["data"]
    sets = make_data(settings)
    train, test = (read_clips(sets.split(settings[name]), sets.preparation) for name in ("train_split", "test_split"))
    world = World.of(judge, train, test)
    keys = jax.random.split(jax.random.key(arguments.seed), arguments.draws)
    record = {
        "environment": environment(),
        "judge": judge.weights_hash,
        "data": f"{settings['name']}, manifest {sets.manifest_hash}",
        "seed": arguments.seed,
        "draws": arguments.draws,
        "clips": COUNT,
        "ladder": gather(ladder(world, key) for key in keys),
        "planted": gather(planted(world, prng.stream(key, "planted")) for key in keys),
        "altered": gather(altered(world, prng.stream(key, "altered")) for key in keys),
        "repetitions": arguments.repetitions,
        "coverage": {
            name: coverage(arguments.seed, arguments.repetitions, *design) for name, design in DESIGNS.items()
        },
    }
    text = on_one_line(json.dumps(record, indent=1))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


@dataclass(frozen=True)
class World:
    """Hold the real clips, the judge, the feature spaces, and the judge's mean verdict over train by head."""

    judge: Judge
    train: Clips
    test: Clips
    spaces: Mapping[str, Space]
    usual: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, judge: Judge, train: Clips, test: Clips) -> World:
        """Build the spaces: the judge's embedding as every evaluation standardises it, and log-mels in their dB."""
        mel = judge.objective.features.mel
        spaces: dict[str, Space] = {
            "judge": standardised(lambda audio: judge(audio, train.rate_hz).embedding, train.audio),
            "pooled log-mel": lambda audio: pooled(log_mel(audio, mel)),
            "timed log-mel": lambda audio: timed(log_mel(audio, mel)),
        }
        verdicts = judge(train.audio, train.rate_hz)
        usual = {head: p.mean(axis=0) for head, p in verdicts.probabilities.items()}
        return cls(judge, train, test, spaces, usual)


def standardised(space: Space, audio: np.ndarray) -> Space:
    """Return a space whose features have mean 0 and variance 1 over these clips."""
    features = space(audio)
    mean, std = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    return lambda audio: (space(audio) - mean) / std


def log_mel(audio: np.ndarray, mel: dsp.MelSpec) -> np.ndarray:
    """Return the judge's log-mels [n, frame, band], at the level that the clips have."""
    parts = np.split(audio, range(COUNT, len(audio), COUNT))
    return np.concatenate([np.asarray(dsp.log_mel(part, mel)) for part in parts])


def pooled(mels: np.ndarray) -> np.ndarray:
    """Return mean and standard deviation over time of every band: the order of time is lost."""
    return np.concatenate([mels.mean(axis=1), mels.std(axis=1)], axis=1)


def timed(mels: np.ndarray) -> np.ndarray:
    """Return the means over quarters of the time and pairs of bands, as many numbers as ``pooled``."""
    paired = (mels[..., ::2] + mels[..., 1::2]) / 2
    return np.concatenate([part.mean(axis=1) for part in np.array_split(paired, 4, axis=1)], axis=1)


def ladder(world: World, key: jax.Array) -> dict[str, dict[str, Figure]]:
    """Return every figure of every rung against one draw of reference clips, all sets of COUNT clips."""
    order = np.asarray(jax.random.permutation(prng.stream(key, "clips"), len(world.train.audio)))
    reference, held_out = (take(world.train, part) for part in (order[:COUNT], order[COUNT : 2 * COUNT]))
    others = take(world.train, order[2 * COUNT :])
    real = {name: (space(reference.audio), space(held_out.audio)) for name, space in world.spaces.items()}
    found = {}
    for name, clips in rungs(key, world.test, reference, others):
        if len(clips.audio) != COUNT:
            raise ValueError(f"rung {name!r} has {len(clips.audio)} clips, not {COUNT}: the figures need equal counts")
        found[name] = figures(world, real, clips, prng.stream(key, "figures"))
    return found


def rungs(key: jax.Array, test: Clips, reference: Clips, others: Clips) -> Iterator[tuple[str, Clips]]:
    """Yield sets of COUNT clips by name: real ones, damaged ones, and ones that are real and lack something."""
    floor = take(others, np.arange(COUNT))
    audio = floor.audio
    yield FLOOR, floor
    yield "official test clips", take(test, np.arange(COUNT))
    for snr_db in (30, 20, 10, 0):
        yield f"noise at {snr_db} dB", altered_by(floor, with_noise(prng.stream(key, "noise"), audio, snr_db))
    keys = jax.random.split(prng.stream(key, "phase"), COUNT)
    yield "random phases", altered_by(floor, np.asarray(jax.vmap(random_phase)(keys, jnp.asarray(audio))))
    yield "reversed in time", altered_by(floor, np.stack([reverse(clip) for clip in audio]))
    yield "6 dB louder", altered_by(floor, 2 * audio)
    yield "a tenth silent", altered_by(floor, np.where(np.arange(COUNT)[:, None] < COUNT // 10, 0, audio))
    yield "one speaker", take(others, np.flatnonzero(others.labels["speaker"] == 0)[:COUNT])
    yield "two digits", take(others, np.flatnonzero(others.labels["digit"] < 2)[:COUNT])
    yield "150 clips, each twice", take(floor, np.arange(COUNT) // 2)
    halves = [take(clips, np.arange(COUNT // 2)) for clips in (reference, floor)]
    labels = {name: np.concatenate([half.labels[name] for half in halves]) for name in floor.labels}
    yield "half copies of the reference", Clips(np.concatenate([h.audio for h in halves]), labels, floor.rate_hz)


def take(clips: Clips, index: np.ndarray) -> Clips:
    """Return the clips of an index [n], in its order."""
    return Clips(clips.audio[index], {name: values[index] for name, values in clips.labels.items()}, clips.rate_hz)


def altered_by(clips: Clips, audio: np.ndarray) -> Clips:
    """Return the clips with their labels and other audio."""
    return Clips(np.asarray(audio, np.float32), clips.labels, clips.rate_hz)


def reverse(clip: np.ndarray) -> np.ndarray:
    """Return a clip [time] played backwards up to its last sound, the padding still behind it."""
    end = 1 + int(np.flatnonzero(clip)[-1])
    return np.concatenate([clip[:end][::-1], clip[end:]])


def figures(
    world: World, real: Mapping[str, tuple[np.ndarray, np.ndarray]], clips: Clips, key: jax.Array
) -> dict[str, Figure]:
    """Return the figures of one set by name, "<space>: <metric>" and "<head>: <metric>"."""
    found = {}
    for name, space in world.spaces.items():
        (reference, held_out), generated = real[name], space(clips.audio)
        near = neighbourhood(reference, generated)
        memory = nearest_neighbour_ratio(generated, reference, held_out)
        for metric, figure in {
            "FD": frechet_figure(reference, generated),
            "FD extrapolated": extrapolated_frechet_figure(
                prng.stream(key, "deals"), reference, generated, most_parts=PARTS
            ),
            "KAD": kernel_distance(reference, generated),
            "NDB, %": different_bins(prng.stream(key, "bins"), reference, generated, BINS).figure(),
            "precision, %": near.precision,
            "recall, %": near.recall,
            "density": near.density,
            "coverage, %": near.coverage,
            "neighbour ratio": memory.ratio,
            "like copies, %": memory.copies,
        }.items():
            found[f"{name}: {metric}"] = figure
    verdicts = world.judge(clips.audio, clips.rate_hz)
    for head in verdicts.classes:
        found |= {f"{head}: {metric}": figure for metric, figure in of_head(world, verdicts, head, clips, key).items()}
    rejected = verdicts.rejected()
    found["judge: rejected, %"] = proportion_figure("rejected", int(rejected.sum()), len(rejected))
    return found


def of_head(world: World, verdicts: Verdicts, head: str, clips: Clips, key: jax.Array) -> dict[str, Figure]:
    """Return what one head's probabilities say of a set."""
    p = verdicts.probabilities[head]
    return {
        "accuracy, %": accuracy(clips.labels[head], verdicts.labels(head)),
        "IS": inception_score(p, prng.stream(key, "inception")),
        "mIS": modified_inception_score(p, prng.stream(key, "modified")),
        "AM, nats": am_score(p, world.usual[head], prng.stream(key, "am")),
    }


def planted(world: World, key: jax.Array) -> dict[str, dict[str, Figure]]:
    """Return how copies planted among honest clips show, by space and share of copies.

    "found" is the share of the copies that are suspects, "false alarms" that of the honest clips. In the row against
    test clips no copy is planted and the official test split is what was held out.
    """
    train, held_out, honest = memory_sets(world, key)
    found = {}
    for name, space in world.spaces.items():
        x, y, z = (space(audio) for audio in (train, held_out, honest))
        for share in (0, 1, 5, 50):
            copies = len(z) * share // 100
            samples = np.concatenate([x[:copies], z[copies:]])
            found[f"{name}: {share} % copies"] = memory_figures(samples, x, y, copies)
        found[f"{name}: 0 % copies, against test clips"] = memory_figures(z, x, space(world.test.audio), 0)
    return found


def altered(world: World, key: jax.Array) -> dict[str, dict[str, Figure]]:
    """Return how many of 150 altered copies among 300 samples are found, by space and alteration."""
    train, held_out, honest = memory_sets(world, key)
    copies = len(honest) // 2
    audio = train[:copies]
    kinds = {
        "none": audio,
        **{f"noise at {db} dB": with_noise(prng.stream(key, "noise"), audio, db) for db in (40, 30, 20, 10)},
        "6 dB quieter": audio / 2,
        "opposite polarity": -audio,
        **{f"{shift} samples later": np.pad(audio, ((0, 0), (shift, 0)))[:, :-shift] for shift in (16, 64, 800)},
        "mixed with another clip, 10 dB down": audio + 10**-0.5 * np.roll(audio, 1, axis=0),
    }
    found = {}
    for name, space in world.spaces.items():
        x, y, z = (space(clips) for clips in (train, held_out, honest))
        for kind, sounds in kinds.items():
            samples = np.concatenate([space(sounds.astype(np.float32)), z[copies:]])
            found[f"{name}: {kind}"] = memory_figures(samples, x, y, copies)
    return found


def memory_sets(world: World, key: jax.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return disjoint clips of the train split: MEMORY to copy from, MEMORY held out, and COUNT honest samples."""
    order = np.asarray(jax.random.permutation(prng.stream(key, "clips"), len(world.train.audio)))
    train, held_out, rest = np.split(world.train.audio[order], [MEMORY, 2 * MEMORY])
    return train, held_out, rest[:COUNT]


def memory_figures(samples: np.ndarray, train: np.ndarray, held_out: np.ndarray, copies: int) -> dict[str, Figure]:
    """Return the neighbour ratio, and how many of the copies, which come first, and of the others are suspects."""
    memory = nearest_neighbour_ratio(samples, train, held_out)
    suspects, honest = memory.suspects, len(samples) - copies
    return {
        "neighbour ratio": memory.ratio,
        "like copies, %": memory.copies,
        "found, %": proportion_figure("found", int(np.sum(suspects < copies)), copies),
        "false alarms, %": proportion_figure("false alarms", int(np.sum(suspects >= copies)), honest),
    }


def coverage(
    seed: int, repetitions: int, law: str, dim: int, clips: int, shift: float, scale: float
) -> dict[str, float | dict[str, Any]]:
    """Return how often 95 % intervals hold their target on two sets of independent features of unit variance.

    The covariances commute, so that the true Frechet distance is shift^2 + dim (1 - scale)^2 for the Gaussians of
    equal moments. The targets of plain distance and NDB are their means over the repetitions.
    """
    factor = 2**-0.5 if law == "laplace" else 1.0
    found: dict[str, list[Figure]] = {"FD": [], "FD extrapolated": [], "NDB": []}
    for repetition in range(repetitions):
        generator = np.random.default_rng([seed, repetition])
        one, other = factor * getattr(generator, law)(size=(2, clips, dim))
        other = scale * other
        other[:, 0] += shift
        key = jax.random.fold_in(jax.random.key(seed), repetition)
        found["FD"].append(frechet_figure(one, other))
        found["FD extrapolated"].append(extrapolated_frechet_figure(key, one, other, most_parts=PARTS))
        found["NDB"].append(different_bins(key, one, other, clips // 10).figure())
    truth = shift**2 + dim * (1 - scale) ** 2
    result: dict[str, float | dict[str, Any]] = {"true distance": round(truth, 4)}
    for name, those in found.items():
        mean = float(np.mean([figure.value for figure in those]))
        target = truth if name == "FD extrapolated" else mean
        held = sum(figure.low <= target <= figure.high for figure in those)
        result[name] = {"mean": rounded(mean), "held, %": triple(proportion_figure("held", held, repetitions))}
    return result


def gather(draws: Iterator[dict[str, dict[str, Figure]]]) -> dict[str, dict[str, list[list[float | None]]]]:
    """Return row -> figure -> [value, low, high] of every draw."""
    several = list(draws)
    return {
        row: {name: [triple(draw[row][name]) for draw in several] for name in figures}
        for row, figures in several[0].items()
    }


def triple(figure: Figure) -> list[float | None]:
    """Return [value, low, high] for strict JSON: None where a figure is not defined."""
    return [None if np.isnan(number) else rounded(number) for number in (figure.value, figure.low, figure.high)]


def rounded(number: float) -> float:
    return float(f"{number:.4g}")


def on_one_line(text: str) -> str:
    """Return JSON in which every list, and every list of lists, lies on one line."""
    return re.sub(
        r"\[(?:[^\[\]{}]|\[[^\[\]{}]*\])*\]",
        lambda found: " ".join(found[0].split()).replace("[ ", "[").replace(" ]", "]"),
        text,
    )


def tables(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of all tables."""
    ladder = record["ladder"]
    columns = list(ladder[FLOOR])
    groups = {name: [c for c in columns if c.startswith(f"{name}: ")] for name in dict.fromkeys(map(prefix, columns))}
    for group, members in groups.items():
        yield from ["", f"**{group}**", "", *table([suffix(c) for c in members])]
        for rung, row in ladder.items():
            yield line(rung, [cell(row[c], None if rung == FLOOR else ladder[FLOOR][c]) for c in members])
    yield from ["", "**told from the floor**", ""]
    shared = list(dict.fromkeys(map(suffix, columns)))
    yield from table(shared)
    for rung, row in ladder.items():
        if rung != FLOOR:
            yield line(
                rung,
                [
                    " ".join(mark(seen(row[c], ladder[FLOOR][c])) for c in columns if suffix(c) == metric)
                    for metric in shared
                ],
            )
    planted, altered = record["planted"], record["altered"]
    yield from ["", "**planted**", "", *table(list(next(iter(planted.values()))))]
    for name, row in planted.items():
        yield line(name, [cell(draws) for draws in row.values()])
    spaces = list(dict.fromkeys(map(prefix, altered)))
    yield from ["", "**altered**", "", *table(spaces)]
    for kind in dict.fromkeys(map(suffix, altered)):
        yield line(kind, [cell(altered[f"{space}: {kind}"]["found, %"]) for space in spaces])
    yield from ["", "**coverage**", ""]
    yield from table(["true", "FD", "held", "extrapolated", "held", "NDB, %", "held"])
    for name, row in record["coverage"].items():
        numbers = [row["true distance"]]
        for metric in ("FD", "FD extrapolated", "NDB"):
            numbers += [row[metric]["mean"], f"{row[metric]['held, %'][0]:g} %"]
        yield line(name, [str(number) for number in numbers])


def prefix(column: str) -> str:
    return column.split(": ")[0]


def suffix(column: str) -> str:
    return column.split(": ")[1]


def seen(draws: ArrayLike, floor: ArrayLike) -> float:
    """Return the share of draws in which the interval and that of the floor have no point in common."""
    (_, low, high), (_, floor_low, floor_high) = np.transpose(draws), np.transpose(floor)
    return float(np.mean((low > floor_high) | (high < floor_low)))


def mark(share: float) -> str:
    return "+" if share == 1 else "?" if share else "."


def cell(draws: ArrayLike, floor: ArrayLike | None = None) -> str:
    """Return the means over draws of value and interval; bold if told from the floor in all draws, with ? in some."""
    value, low, high = np.mean(np.asarray(draws, float), axis=0)
    if np.isnan(value):
        return ""
    figure = Figure("", value, low, high, 1)
    text = f"{figure.value_text} {figure.interval_text}"
    share = 0.0 if floor is None else seen(draws, floor)
    return f"**{text}**" if share == 1 else f"{text} ?" if share else text


def table(columns: list[str]) -> list[str]:
    return [line("", columns), "|" + "---|" * (len(columns) + 1)]


def line(name: str, cells: list[str]) -> str:
    return f"| {' | '.join(itertools.chain([name], cells))} |"


if __name__ == "__main__":
    main()
