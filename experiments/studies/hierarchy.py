"""Hold cascades and a latent against one model of the whole waveform, at equal training FLOPs.

    python experiments/compare.py --config=configs/compare_digits.py --workdir=runs/compare --stage=train --cells=judge
    python experiments/train.py --config=configs/autoencoder_digits.py --workdir=runs/hierarchy/autoencoder
    python experiments/studies/hierarchy.py --workdir=runs/hierarchy --judge=runs/compare/judge --stage=train
    python experiments/studies/hierarchy.py --workdir=runs/hierarchy --judge=runs/compare/judge --stage=evaluate
    python experiments/studies/hierarchy.py --stage=report

Asks: at 1e13 training FLOPs, of which an arm's stages each have a share, what do judge accuracy, Frechet distance and
the levels of bands say, and what does a clip cost? Where do a cascade's errors enter, when each stage's input is
swapped for the truth? How noisy should the finer stage's condition be, in training and at sampling? Three seeds.
``--stage=train`` takes ``--cells=two_0:low,noise0_1:fine`` for several processes side by side; a result is a JSON file
in --results, never made twice.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import itertools
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import command

from audiodiff import dsp, prng
from audiodiff.build.cascade import Cascade, assemble, stage_config
from audiodiff.build.choices import choose
from audiodiff.build.comparison_cells import Bench, Comparison
from audiodiff.build.data import DataSets, make_data
from audiodiff.build.experiment import run_experiment
from audiodiff.build.model import make_representation
from audiodiff.build.run import Run, load_run
from audiodiff.build.step_costs import count_flops
from audiodiff.metrics.intervals import mean_figure
from audiodiff.training.workdir import config_hash, environment, write_json
from configs import cascade_digits

ALLOCATIONS: dict[str, tuple[str, ...]] = {
    "single": ("1", "2", "3", "4", "6", "10", "20", "2@10", "2@5", "3@10", "3@5", "4@10"),
    "latent": ("4", "6", "10", "20"),
    "two": ("4-2", "6-2", "6-4", "10-4", "6-4g", "10-4g", "10-6g", "20-6g", "4-3@10", "6-4@10"),
    "frames": ("4-3", "4-4", "6-4", "10-4", "10-6", "20-6", "20-6g", "4-2@10", "6-3@10", "6-4@10"),
    "octave": ("4-2", "6-2", "6-3", "6-4", "6-4g", "10-4g", "10-6g", "20-6g", "4-3@10"),
    "three": ("6-4-4", "10-4-4", "10-4-4g", "10-6-6g", "20-6-6g"),
}
"""Steps of the sampler by stage; the coarsest is guided, with a g all are. @5 begins at sigma 5 and not at 40."""

FULL = {"single": "20", "latent": "20", "two": "20-6g", "octave": "20-6g", "frames": "20-6", "three": "20-6-6g"}
"""Those of the configs, at which errors are traced."""

NOISES = (0.0, 0.25, 0.5, 1.0)
"""The largest noise of a condition in training, of which 0.5 is that of the arms, and noises at sampling."""

VARIANTS = (*(f"noise{largest:g}" for largest in NOISES if largest != 0.5), "attended")
"""Finer stages of "two" that are trained otherwise, for as many steps."""

EDGES_HZ = (0, 1000, 2000, 3000, 4000)
BANDS_STFT = dsp.StftSpec(256, 64)
BATCH = 50


class Cell(NamedTuple):
    """Name a stage of an arm under a seed."""

    arm: str
    seed: int
    stage: str

    @property
    def name(self) -> str:
        return f"{self.arm}_{self.seed}:{self.stage}"

    @property
    def folder(self) -> pathlib.Path:
        return pathlib.Path(f"{self.arm}_{self.seed}", self.stage)


class Study:
    """Hold the configs of all arms, where their runs lie and where results are kept."""

    def __init__(self, config: Mapping[str, Any], workdir: pathlib.Path, results: pathlib.Path):
        self.config, self.workdir, self.results = config, workdir, results

    @functools.cached_property
    def sets(self) -> DataSets:
        """The data of all."""
        return make_data(self.config["data"])

    def cascade(self, arm: str, seed: int) -> dict[str, Any]:
        """Return the config of an arm's cascade, or of a variant of "two".

        "noise1" has a finer stage that is told under noise up to 1, "attended" one that attends to what it is told.
        """
        config = copy.deepcopy(self.config["arms"]["two" if self.is_variant(arm) else arm])
        if arm.startswith("noise"):
            config["stages"]["fine"]["told"]["low"] |= {"noise": float(arm[5:]), "noise_at_sampling": 0.0}
        if arm == "attended":
            config["stages"]["fine"]["told"]["low"]["by"] = ("attention",)
        for stage in config["stages"].values():
            stage["seed"] = seed
            if "workdir" in stage["representation"]:
                stage["representation"]["workdir"] = str(self.workdir / stage["representation"]["workdir"])
        return config

    def is_variant(self, arm: str) -> bool:
        """Return whether an arm is "two" with another finer stage, whose coarse one is not trained twice."""
        return arm not in self.config["arms"]

    def cells(self) -> Iterator[Cell]:
        """Yield all that is trained, the arms of one seed together."""
        for seed, arm in itertools.product(self.config["seeds"], (*self.config["arms"], *VARIANTS)):
            stages = ["fine"] if self.is_variant(arm) else self.cascade(arm, seed)["order"]
            yield from (Cell(arm, seed, stage) for stage in stages)

    def results_named(self) -> set[str]:
        """Return the names of all results by seed."""
        arms = (*self.config["arms"], *(f"noise{largest:g}" for largest in NOISES), "attended")
        return {f"{arm}_{seed}" for arm, seed in itertools.product(arms, self.config["seeds"])}

    def calibrate(self) -> dict[str, Any]:
        """Return what each stage costs in FLOPs, and the steps that its share of the budget buys."""
        path = self.results / "calibration.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        missing = [arm for arm in self.config["arms"] if arm not in found]
        for arm in missing:
            config = self.cascade(arm, 0)
            for stage in config["stages"]:
                training = stage_config(config, stage)
                share = self.config["shares"].get(arm, {}).get(stage, 1.0)
                flops = count_flops(training, self.sets)
                steps = int(share * self.config["budget_flops"] / flops.step)
                found.setdefault(arm, {})[stage] = {**flops._asdict(), "steps": steps}
                print(arm, stage, found[arm][stage], flush=True)
        if missing:
            self.results.mkdir(parents=True, exist_ok=True)
            write_json(path, found)
        return found

    def train(self, cell: Cell) -> None:
        """Train a stage to the end of its share."""
        marks = self.calibrate()["two" if self.is_variant(cell.arm) else cell.arm]
        config = stage_config(self.cascade(cell.arm, cell.seed), cell.stage)
        steps = marks[cell.stage]["steps"]
        config["training"] |= {"total_steps": steps, "save_every": -(-steps // 2), "evaluate_every": steps}
        run_experiment(config, self.workdir / cell.folder)

    def load(self, arm: str, seed: int) -> Cascade:
        """Load a trained cascade; a variant has the coarse stage of "two"."""
        config = self.cascade(arm, seed)
        owner = {stage: "two" if self.is_variant(arm) and stage != "fine" else arm for stage in config["order"]}
        return assemble(
            config, {stage: load_run(self.workdir / Cell(owner[stage], seed, stage).folder) for stage in owner}
        )


def main() -> None:
    """Do the stage that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=("calibrate", "train", "evaluate", "report"), required=True)
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/hierarchy"))
    parser.add_argument("--judge", type=pathlib.Path, default=pathlib.Path("runs/compare/judge"))
    parser.add_argument("--results", type=pathlib.Path, default=pathlib.Path("experiments/results/hierarchy"))
    parser.add_argument("--cells", default="", help="as two_0:low,two_0:fine (default: all)")
    arguments = parser.parse_args()
    config = command.plain(cascade_digits.get_config("compare"))
    study = Study(config, arguments.workdir.resolve(), arguments.results)
    chosen = [name for name in arguments.cells.split(",") if name]
    known = {cell.name for cell in study.cells()} if arguments.stage == "train" else study.results_named()
    for name in chosen:
        choose("cell", name, dict.fromkeys(known))
    if arguments.stage == "calibrate":
        study.calibrate()
    if arguments.stage == "train":
        for cell in study.cells():
            if not chosen or cell.name in chosen:
                study.train(cell)
    if arguments.stage == "evaluate":
        evaluate(study, arguments.judge, chosen)
    if arguments.stage == "report":
        report(study)


# --- measuring


def evaluate(study: Study, judge: pathlib.Path, chosen: list[str]) -> None:
    """Measure the cascades of those names, as two_0, or all that are trained, where they have no results."""
    comparison = Comparison({"data": study.config["data"]}, judge.resolve().parent, study.results)
    bench = Bench.load(comparison)
    if not (path := study.results / "real.json").exists():
        write_json(path, real(study, bench))
    noises = [f"noise{largest:g}" for largest in NOISES]
    for arm, seed in itertools.product((*study.config["arms"], *noises, "attended"), study.config["seeds"]):
        path = study.results / f"{arm}_{seed}.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        done = known.get("allocations", {})
        if (known and (arm in noises or set(done) >= set(allocations(arm)))) or (chosen and path.stem not in chosen):
            continue
        try:
            cascade = study.load("two" if arm == "noise0.5" else arm, seed)
        except FileNotFoundError as error:
            print(f"{path.stem} is left out: {error}", flush=True)
            continue
        if arm in noises:
            keep(path, by_noise(cascade, bench, float(arm[5:])), cascade)
            continue
        missing = {steps: measured(cascade, bench, steps) for steps in allocations(arm) if steps not in done}
        errors = known.get("swaps") or swaps(cascade, bench, FULL.get(arm, FULL["two"]))
        keep(path, {"allocations": done | missing, "swaps": errors}, cascade)


def real(study: Study, bench: Bench) -> dict[str, Any]:
    """Return the figures of real clips, and of what the coarsest level of two has of them, its other bands silent."""
    test = bench.test
    clips = bench.train.audio[np.resize(np.arange(len(bench.train.audio)), len(test.audio))]
    low = make_representation(study.config["arms"]["two"]["stages"]["low"]["representation"], 1, test.rate_hz)
    alone = np.asarray(low.decode(low.encode(jnp.asarray(test.audio)), None, test.audio.shape[1]))
    return {
        "test": figures_of(bench, test.audio, test.labels),
        "low alone": figures_of(bench, alone, test.labels),
        "bands_db": band_errors(clips, test.audio),
    }


def by_noise(cascade: Cascade, bench: Bench, largest: float) -> dict[str, Any]:
    """Return the figures of a cascade of two by the noise under which its finer stage is told."""
    strengths = [strength for strength in NOISES if strength <= largest]
    told: list[dict[str, float]] = [{"low_noise": strength} if largest else {} for strength in strengths]
    pairs = zip(strengths, told, strict=True)
    return {"by_noise": {f"{strength:g}": measured(cascade, bench, FULL["two"], one) for strength, one in pairs}}


def keep(path: pathlib.Path, record: dict[str, Any], cascade: Cascade) -> None:
    """Write the record of a cascade, with what made it."""
    made = environment()
    stages = {
        stage: {
            "config_hash": config_hash(anywhere(run.config)),
            "weights_hash": run.weights_hash,
            "steps": run.step,
        }
        for stage, run in cascade.runs.items()
    }
    own = {key: made[key] for key in ("time", "commit", "clean_tree")}
    write_json(path, {**record, "stages": stages, "made": own})
    print(f"wrote {path}", flush=True)


def anywhere(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without what depends on where its data and its autoencoder lie."""
    representation = {key: value for key, value in config["representation"].items() if key != "workdir"}
    return {**config, "representation": representation, "data": {**config["data"], "root": ""}}


def measured(cascade: Cascade, bench: Bench, steps: str, told: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Return the figures of as many clips as the test set has, of all labels in turn."""
    count = len(bench.test.audio)
    audio = sampled(cascade, bench.asked(count), count, steps, {}, told or {})
    return {"figures": bench.figures(audio), "bands_db": band_errors(audio, bench.test.audio)}


def swaps(cascade: Cascade, bench: Bench, steps: str) -> dict[str, Any]:
    """Return the figures with the truth in place of the coarsest stages: none, one, ... all but the last.

    "wrong" is the last stage told the truth of another clip: if it heard its condition, the clip sounds as that one.
    """
    order, test = list(cascade.runs), bench.test
    found: dict[str, Any] = {}
    for known in range(len(order)):
        given = dict.fromkeys(order[:known], test.audio)
        audio = sampled(cascade, test.labels, len(test.audio), steps, given, {})
        found["true " + "+".join(order[:known]) if known else "none"] = figures_of(bench, audio, test.labels)
    if len(order) > 1:
        other = np.roll(np.arange(len(test.audio)), len(test.audio) // 2)
        given = dict.fromkeys(order[:-1], test.audio[other])
        audio = sampled(cascade, test.labels, len(test.audio), steps, given, {})
        swapped = {name: values[other] for name, values in test.labels.items()}
        found["wrong, by its own labels"] = figures_of(bench, audio, test.labels)
        found["wrong, by the other's labels"] = figures_of(bench, audio, swapped)
    return found


def figures_of(bench: Bench, audio: np.ndarray, labels: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return how often the judge hears labels in audio [clip, time], and the errors of bands."""
    heard = bench.judge(audio, bench.test.rate_hz)
    right = {f"accuracy {name}": 100 * float(np.mean(heard.labels(name) == labels[name])) for name in labels}
    return {**right, "bands_db": band_errors(audio, bench.test.audio)}


def sampled(
    cascade: Cascade,
    labels: Mapping[str, np.ndarray],
    count: int,
    steps: str,
    given: Mapping[str, np.ndarray],
    told: Mapping[str, float],
) -> np.ndarray:
    """Return ``count`` clips [clip, time]; clip i depends on its number, its labels and what is given alone."""
    made, (counts, guidance, sigma_max) = [], allocated(list(cascade.runs), steps)
    sampler = dataclasses.replace(
        cascade, runs={stage: begins_at(run, sigma_max) if sigma_max else run for stage, run in cascade.runs.items()}
    )
    for begin in range(0, count, BATCH):
        numbers = np.arange(begin, begin + BATCH) % count  # whole batches: one shape, one compile
        asked: dict[str, Any] = {name: values[numbers].tolist() for name, values in labels.items()}
        truth = {stage: audio[numbers] for stage, audio in given.items()}
        keys = prng.per_example(prng.stream(0, "sample"), jnp.asarray(numbers))
        made.append(sampler.sample(keys, asked | dict(told), steps=counts, guidance=guidance, given=truth))
    return np.concatenate(made)[:count]


def allocations(arm: str) -> tuple[str, ...]:
    """Return the steps at which an arm, or a variant of "two", is measured."""
    return ALLOCATIONS.get(arm, (FULL["two"],))


def allocated(order: list[str], steps: str) -> tuple[dict[str, int], dict[str, float], float]:
    """Read steps as "6-4g": how many of each stage, how strongly it is guided, and sigma_max where one is given."""
    text, _, sigma_max = steps.partition("@")
    counts = dict(zip(order, map(int, text.rstrip("g").split("-")), strict=True))
    guidance = {stage: 2.0 if stage == order[0] or text.endswith("g") else 1.0 for stage in order}
    return counts, guidance, float(sigma_max or 0)


def begins_at(run: Run, sigma_max: float) -> Run:
    """Return a run whose grid begins at another noise."""
    sampler = run.config["sampler"]
    grid = {**sampler["grid"], "sigma_max": sigma_max}
    return dataclasses.replace(run, config={**run.config, "sampler": {**sampler, "grid": grid}})


def band_errors(audio: np.ndarray, real: np.ndarray) -> list[float]:
    """Return by how many dB the mean power of audio [clip, time] in each band differs from that of real clips."""

    def levels(clips: np.ndarray) -> np.ndarray:
        power = np.asarray(dsp.power(dsp.stft(clips, BANDS_STFT))).mean(axis=(0, 1))
        edges = np.round(np.asarray(EDGES_HZ) / 8000 * BANDS_STFT.fft_samples).astype(int)
        return 10 * np.log10([power[low:high].mean() for low, high in itertools.pairwise(edges)])

    return [float(value) for value in levels(audio) - levels(real)]


# --- telling


def report(study: Study) -> None:
    """Write figures.json and its pictures of all results, and print its tables."""
    records = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in study.results.glob("*_[0-9].json")}
    by_arm: dict[str, list[dict[str, Any]]] = {}
    for name in sorted(records):
        by_arm.setdefault(name.rpartition("_")[0], []).append(records[name])
    costs = study.calibrate()
    figures: dict[str, Any] = {"allocations": {}, "swaps": {}, "by_noise": {}}
    for arm, found in by_arm.items():
        if arm.startswith("noise"):
            largest = arm.removeprefix("noise")
            figures["by_noise"][largest] = {
                strength: summary([one["by_noise"][strength] for one in found]) for strength in found[0]["by_noise"]
            }
            continue
        figures["swaps"][arm] = {
            swap: {
                name: mean([one["swaps"][swap][name] for one in found])
                for name in found[0]["swaps"][swap]
                if name[0] == "a"
            }
            for swap in found[0]["swaps"]
        }
        figures["allocations"][arm] = {
            steps: {"mflop": cost_mflop(study, costs, arm, steps)}
            | summary([one["allocations"][steps] for one in found])
            for steps in found[0]["allocations"]
        }
    write_json(study.results / "figures.json", figures)
    for arm, rows in figures["allocations"].items():
        for steps, row in rows.items():
            told = "; ".join(
                f"{name} {value['value']:.3g} [{value['low']:.3g}, {value['high']:.3g}]"
                for name, value in row.items()
                if name != "mflop"
            )
            print(f"{arm:>9} {steps:>9} {row['mflop']:7.0f} MFLOP  {told}")
    print(json.dumps({"swaps": figures["swaps"], "by_noise": figures["by_noise"]}, indent=1))
    draw(study.results, figures)


def mean(values: list[float]) -> dict[str, float]:
    """Return a mean over seeds with Student's interval."""
    figure = mean_figure("", np.asarray(values))
    return {"value": figure.value, "low": figure.low, "high": figure.high}


def summary(records: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the means over seeds of what is told of clips."""
    wanted = ("accuracy digit", "accuracy speaker", "Frechet distance", "coverage")
    named = [{figure["name"]: figure["value"] for figure in one["figures"]} for one in records]
    found = {name: mean([one[name] for one in named]) for name in wanted}
    return found | {"band error": mean([float(np.mean(np.abs(one["bands_db"]))) for one in records])}


def cost_mflop(study: Study, costs: Mapping[str, Any], arm: str, steps: str) -> float:
    """Return what a clip costs in MFLOP: evaluations of the networks, twice where guided, and decoding."""
    counts, guidance, _ = allocated(list(study.cascade(arm, 0)["order"]), steps)
    total = 0.0
    for stage, count in counts.items():
        cost = costs["two" if study.is_variant(arm) else arm][stage]
        total += count * (2 if guidance[stage] != 1 else 1) * cost["evaluation"] + cost["decoding"]
    return total / 1e6


def draw(results: pathlib.Path, figures: Mapping[str, Any]) -> None:
    """Draw accuracy against what a clip costs, and against the noise of the condition."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for arm in ALLOCATIONS:
        rows = figures["allocations"].get(arm, {}).values()
        # Points alone: those of an arm differ in guidance and in where the grid begins, too.
        plot(left, [row["mflop"] for row in rows], [row["accuracy digit"] for row in rows], arm, "o")
    left.set(xscale="log", xlabel="MFLOP a clip", ylabel="digits heard in %", ylim=(0, 102))
    for largest, rows in figures["by_noise"].items():
        accuracies = [row["accuracy digit"] for row in rows.values()]
        plot(right, list(map(float, rows)), accuracies, f"trained up to {largest}", "o-")
    right.set(xlabel="noise of the condition at sampling, in its standard deviations", ylabel="digits heard in %")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(results / "hierarchy.png", dpi=110)


def plot(axes: Any, x: list[float], values: list[dict[str, float]], label: str, style: str) -> None:
    """Plot means over seeds with their intervals."""
    y = np.array([value["value"] for value in values])
    spread = np.abs(np.array([[value["low"], value["high"]] for value in values]).T - y)
    axes.errorbar(x, y, yerr=spread, fmt=style, capsize=2, label=label)


if __name__ == "__main__":
    jax.config.update("jax_compilation_cache_dir", str(pathlib.Path("~/.cache/audiodiff/jax").expanduser()))
    main()
