"""Compare models cell by cell: an arm and a seed, trained once, measured at two budgets, kept as one JSON file.

A comparison has a working folder, where its runs lie, and a folder of results, small files that are kept for good::

    WORKDIR/judge  vocoder  <arm>_<seed>         runs as experiments/train.py makes them
    RESULTS/calibration.json                     what a step of each arm takes: it fixes the budgets in steps
    RESULTS/judge.json  vocoder.json             who judged, and what inverted
    RESULTS/<arm>_ceiling.json                   real clips through the arm's representation and inverters
    RESULTS/<arm>_<seed>.json                    a finished cell
    RESULTS/speed.json                           how long the arms take to generate

What is there is never made again, on whatever machine it was made.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff import dsp, prng
from audiodiff.build.choices import ConfigError, choose
from audiodiff.build.data import DataSets, make_data
from audiodiff.build.evaluate import MULTI_RESOLUTION, read_clips
from audiodiff.build.experiment import run_experiment
from audiodiff.build.model import make_representation
from audiodiff.build.run import Run, check_labels, load_judge, load_run
from audiodiff.build.step_costs import StepCost, count_parameters, step_costs, untrained
from audiodiff.evaluation.apart import decode, median_seconds
from audiodiff.evaluation.judge import Judge
from audiodiff.evaluation.mel_hearing import flat_mels, hear_mels
from audiodiff.evaluation.score import Clips, score
from audiodiff.metrics.distributions import frechet_figure
from audiodiff.metrics.intervals import Figure, mean_figure
from audiodiff.representations import LogMel
from audiodiff.training import latest_step
from audiodiff.training.workdir import config_hash, environment, write_json
from audiodiff.types import PyTree, Representation

CALIBRATION_FILE = "calibration.json"
SPEED_FILE = "speed.json"
BUDGETS = ("flops", "clock")
EXACT = "exact"
"""The inverter of a representation that needs none."""

SHARED = ("judge", "vocoder")
"""Runs that all cells share, by their name in the config."""

SAVES = 8
"""How often a cell saves on its way; all checkpoints are kept, those at the budgets among them."""

EVALUATIONS = {"heun": 2, "edm_stochastic": 2}
"""Samplers that ask the network more than once a step."""

TIMED_STEPS, CHECKED_STEPS = (2, 8), 14
"""Numbers of steps from which the time of one is had, and at which that is checked."""

LSD_STFT, LSD_FLOOR = dsp.StftSpec(256, 64), 1e-4
"""The floor is some 60 dB below a voice at -20 dBFS: else padding, digital silence, would be most of the distance."""

Record = dict[str, Any]


class Cell(NamedTuple):
    """Name a cell of the table."""

    arm: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm}_{self.seed}"


@dataclass(frozen=True)
class Comparison:
    """Hold what is compared (plain values), where its runs lie and where its results are kept."""

    config: Mapping[str, Any]
    workdir: pathlib.Path
    results: pathlib.Path

    @functools.cached_property
    def sets(self) -> DataSets:
        """The data of all."""
        return make_data(self.config["data"])

    @property
    def arms(self) -> tuple[str, ...]:
        """What is compared, differences being from the first."""
        return tuple(self.config["order"])

    @property
    def cells(self) -> list[Cell]:
        return [Cell(arm, seed) for arm in self.arms for seed in self.config["seeds"]]

    def training(self, arm: str, seed: int = 0) -> Record:
        """Return the training config of an arm, with the data of all."""
        return {**choose("arm", arm, self.config["arms"]), "data": self.config["data"], "seed": seed}

    def shared(self, name: str) -> Record:
        """Return the training config of a run that all cells share."""
        return {**choose("shared run", name, self.config), "data": self.config["data"]}

    def inverters(self, arm: str) -> dict[str, Record]:
        """Return the inverters of an arm, none where it needs none; those of a workdir lie in the comparison's."""
        if "inverter" not in self.config["arms"][arm]["representation"]:
            return {}
        return {
            name: {**given, **({"workdir": str(self.workdir / given["workdir"])} if "workdir" in given else {})}
            for name, given in self.config["inverters"].items()
        }

    def identity(self, arm: str, *, measured: bool = False) -> str:
        """Return the hash of an arm's training config, the same wherever its data lie.

        With ``measured`` it is that of all which decides what results of the arm say: budgets and clips too.
        """
        config = self.training(arm)
        decides = ("budget", "clips", "sweep", *(["inverters"] if self.inverters(arm) else []))
        also = {name: self.config[name] for name in decides} if measured else {}
        return config_hash({**config, "data": {**config["data"], "root": ""}, **also})

    def path(self, name: str) -> pathlib.Path:
        """Return where the results of that name are kept."""
        return self.results / f"{name}.json"

    def read(self, name: str) -> Record | None:
        """Return results by name, None where there are none; raise ConfigError for those of another config."""
        path = self.path(name)
        if not path.exists():
            return None
        try:
            record: Record = json.loads(path.read_text(encoding="utf-8"))
            arm, found = record.get("arm"), record.get("config_hash")
        except (ValueError, AttributeError) as error:
            raise ConfigError(f"{path} is damaged ({error}): restore it, or move it away to make it anew") from error
        if arm is not None and found != (now := self.identity(arm, measured=True)):
            raise ConfigError(
                f"{path} is of the config {found} and {arm!r} is now {now}: take the config back, or keep the results "
                "of this one in another --results"
            )
        return record

    def write(self, name: str, record: Record) -> None:
        """Keep results, with what made them."""
        self.results.mkdir(parents=True, exist_ok=True)
        made = environment()
        own = {key: made[key] for key in ("time", "commit", "clean_tree")}
        write_json(self.path(name), {**record, "made": {**own, "machine": _machine(made["devices"])}})


def _machine(devices: Sequence[str]) -> str:
    """Name the devices of this machine, and of a CPU its model and the cores that this process may use."""
    if set(devices) != {"cpu"}:
        return ", ".join(dict.fromkeys(devices))
    known = pathlib.Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model} ({cores} cores)"


def select(comparison: Comparison, names: Sequence[str]) -> tuple[list[str], list[Cell]]:
    """Return the shared runs and cells of those names, or all; raise ConfigError for an unknown one."""
    shared = [name for name in SHARED if name in comparison.config]
    cells = {cell.name: cell for cell in comparison.cells}
    for name in names:
        choose("cell", name, {**cells, **dict.fromkeys(shared)})
    chosen = names or [*shared, *cells]
    return [name for name in shared if name in chosen], [cell for name, cell in cells.items() if name in chosen]


def check_parameters(comparison: Comparison) -> dict[str, int]:
    """Return the parameters of each arm; raise ConfigError where two differ by more than parameters_within."""
    counts = {arm: count_parameters(comparison.training(arm), comparison.sets) for arm in comparison.arms}
    fewest, most = min(counts, key=lambda arm: counts[arm]), max(counts, key=lambda arm: counts[arm])
    if counts[most] > counts[fewest] * (1 + comparison.config["parameters_within"]):
        raise ConfigError(
            f"{most} has {counts[most]:,} parameters and {fewest} {counts[fewest]:,}, more than "
            f"{comparison.config['parameters_within']:.0%} apart: change their networks' sizes"
        )
    return counts


def calibrate(comparison: Comparison) -> Record:
    """Return what a training step of each arm takes, measured now if it never was: it fixes every budget in steps."""
    if (known := comparison.read("calibration")) is not None:
        _check_calibrated(comparison, known)
        return known
    check_parameters(comparison)
    _check_mels(comparison)
    configs = {arm: comparison.training(arm) for arm in comparison.arms}
    costs = step_costs(configs, comparison.sets, **comparison.config["calibration"])
    arms = {arm: {**cost._asdict(), "config_hash": comparison.identity(arm)} for arm, cost in costs.items()}
    comparison.write("calibration", {"arms": arms})
    return calibrate(comparison)


def _check_mels(comparison: Comparison) -> None:
    """Raise ConfigError where an arm speaks another mel than the judge hears, and could not be heard uninverted."""
    heard = comparison.config["judge"]["mel"]
    for arm in comparison.arms:
        spoken = comparison.config["arms"][arm]["representation"].get("mel", heard)
        if spoken != heard:
            raise ConfigError(f"{arm} speaks the mel {spoken} and the judge hears {heard}: give both the same")


def _check_calibrated(comparison: Comparison, record: Record) -> None:
    path = comparison.path("calibration")
    for arm in comparison.arms:
        if (found := record["arms"].get(arm, {}).get("config_hash")) != comparison.identity(arm):
            raise ConfigError(
                f"{path} measured {arm!r} in the config {found} and it is now {comparison.identity(arm)}: take the "
                "config back, or keep the results of this one in another --results"
            )


def marks(comparison: Comparison, arm: str) -> dict[str, int]:
    """Return the step at which an arm has spent each budget, by name; raise ConfigError before the calibration."""
    record = comparison.read("calibration")
    if record is None:
        raise ConfigError(f"{comparison.results} holds no {CALIBRATION_FILE}: run --stage=calibrate on a quiet machine")
    _check_calibrated(comparison, record)
    cost = StepCost(**{name: record["arms"][arm][name] for name in StepCost._fields})
    budget = comparison.config["budget"]
    return {
        "flops": max(1, int(budget["flops"] / cost.flops)),
        "clock": max(1, int(budget["seconds"] / cost.seconds)),
    }


def pending(comparison: Comparison, cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells without results."""
    return [cell for cell in cells if comparison.read(cell.name) is None]


def train(comparison: Comparison, names: Sequence[str], *, max_minutes: float | None = None) -> None:
    """Train the shared runs and cells of those names as far as they are not, or go on where they stopped.

    A cell stops at the smaller budget and goes on to the larger: it is one run, whose checkpoints at both are kept.
    ``max_minutes`` is of each run. Raises ConfigError for a cell before the calibration.
    """
    shared, cells = select(comparison, names)
    if not (cells := pending(comparison, cells)) and not names:
        return
    for name in shared:
        run_experiment(comparison.shared(name), comparison.workdir / name, max_minutes=max_minutes)
    for cell in cells:
        train_cell(comparison, cell, max_minutes=max_minutes)


def train_cell(comparison: Comparison, cell: Cell, *, max_minutes: float | None = None) -> None:
    """Train a cell to each of its budgets in turn, those that it has not passed."""
    config, workdir = comparison.training(*cell), comparison.workdir / cell.name
    steps = sorted(set(marks(comparison, cell.arm).values()))
    every = -(-steps[-1] // SAVES)
    saving = {"save_every": every, "evaluate_every": steps[-1], "keep": SAVES + len(steps)}
    for step in steps:
        if not (workdir / "checkpoints" / str(step)).is_dir():
            settings = {**config["training"], **saving, "total_steps": step}
            run_experiment({**config, "training": settings}, workdir, max_minutes=max_minutes)


@dataclass(frozen=True)
class Bench:
    """Hold what every cell is measured by: a judge, real clips, and what is asked for."""

    judge: Judge
    train: Clips
    test: Clips
    prompts: Mapping[str, np.ndarray]
    manifest_hash: str

    @classmethod
    def load(cls, comparison: Comparison) -> Bench:
        """Load the judge and real clips; raise ConfigError where results that there are were judged by another."""
        settings = comparison.config["data"]
        judge = load_judge(comparison.workdir / "judge")
        _recognise(comparison, "judge", judge.weights_hash, judge.params)
        sets = comparison.sets
        train, test = (
            read_clips(sets.split(settings[name]), sets.preparation) for name in ("train_split", "test_split")
        )
        # In every combination that there are clips of, in turn: speakers may be left out.
        rows = np.unique(np.stack(list(train.labels.values()), axis=1), axis=0)
        prompts = {name: rows[:, index] for index, name in enumerate(train.labels)}
        return cls(judge, train, test, prompts, sets.manifest_hash)

    def asked(self, count: int) -> dict[str, np.ndarray]:
        """Return the labels of ``count`` clips."""
        return {name: values[np.arange(count) % len(values)] for name, values in self.prompts.items()}

    def figures(self, audio: np.ndarray) -> list[Record]:
        """Return the figures of generated clips, the first as many as were asked for."""
        clips = Clips(audio, self.asked(len(audio)), self.test.rate_hz)
        return _figures(score(self.judge, clips, self.train, self.test, jax.random.key(0)))

    def figures_of_mels(self, log_mel: np.ndarray, mel: dsp.MelSpec) -> list[Record]:
        """Return the figures of generated log-mels [clip, frame, band], which the judge hears themselves."""
        train, test = (
            dataclasses.replace(clips, audio=flat_mels(clips.audio, mel)) for clips in (self.train, self.test)
        )
        flat = log_mel.reshape(len(log_mel), -1)
        clips = Clips(flat, self.asked(len(flat)), self.test.rate_hz)
        return _figures(score(hear_mels(self.judge, mel), clips, train, test, jax.random.key(0)))


def _recognise(comparison: Comparison, name: str, weights_hash: str, params: PyTree) -> None:
    """Keep whose weights a shared run has; raise ConfigError where results that there are were made with others."""
    known = comparison.read(name)
    if known is None:
        size = sum(leaf.size for leaf in jax.tree.leaves(params))
        steps = latest_step(comparison.workdir / name)
        comparison.write(name, {"weights_hash": weights_hash, "parameters": size, "steps": steps})
    elif known["weights_hash"] != weights_hash:
        raise ConfigError(
            f"{comparison.path(name)} names the {name} {known['weights_hash']}, and the one in "
            f"{comparison.workdir / name} is {weights_hash}: bring back the run of the first"
        )


def _figures(rows: Sequence[Any], role: str = "figure") -> list[Record]:
    return [figure.to_dict() for row in rows if (figure := getattr(row, role)) is not None]


def evaluate(comparison: Comparison, names: Sequence[str]) -> None:
    """Measure the cells of those names that are trained and have no results, and real clips in what they are made of.

    Raises ConfigError where judge or vocoder are not those of the results that there are.
    """
    _, chosen = select(comparison, names)
    cells = [cell for cell in pending(comparison, chosen) if _is_trained(comparison, cell)]
    if not cells:
        return
    bench = Bench.load(comparison)
    inverters = {name: given for cell in cells for name, given in comparison.inverters(cell.arm).items()}
    for name in (name for name, given in inverters.items() if "workdir" in given):
        vocoder = load_run(inverters[name]["workdir"])
        _recognise(comparison, name, vocoder.weights_hash, vocoder.params)
    for arm in dict.fromkeys(cell.arm for cell in cells):
        if comparison.read(f"{arm}_ceiling") is None:
            comparison.write(f"{arm}_ceiling", measure_ceiling(comparison, arm, bench))
    for cell in cells:
        comparison.write(cell.name, measure_cell(comparison, cell, bench))
        print(f"{cell.name} is measured: {comparison.path(cell.name)}", flush=True)


def _is_trained(comparison: Comparison, cell: Cell) -> bool:
    """Say of a cell whether both its checkpoints are there, and print what it lacks."""
    kept = comparison.workdir / cell.name / "checkpoints"
    lacking = [step for step in sorted(set(marks(comparison, cell.arm).values())) if not (kept / str(step)).is_dir()]
    if lacking:
        print(f"{cell.name} is not trained to step {lacking[0]}: it is left out", flush=True)
    return not lacking


def measure_cell(comparison: Comparison, cell: Cell, bench: Bench) -> Record:
    """Return the record of a cell: its figures at both budgets, and by the number of steps at the second."""
    at = marks(comparison, cell.arm)
    found: dict[int, Record] = {}
    for step in sorted(set(at.values())):
        run = load_run(comparison.workdir / cell.name, step=step)
        check_labels(run, bench.judge)
        found[step] = _measure(comparison, cell.arm, run, bench, None, comparison.config["clips"])
    run = load_run(comparison.workdir / cell.name, step=at["clock"])
    sweep = comparison.config["sweep"]
    by_steps = {str(n): _measure(comparison, cell.arm, run, bench, n, sweep["clips"]) for n in sweep["steps"]}
    sampler = run.settings()
    guided = 2 if run.conditions and sampler["guidance"] != 1 else 1
    return {
        "arm": cell.arm,
        "seed": cell.seed,
        "config_hash": comparison.identity(cell.arm, measured=True),
        "judge": bench.judge.weights_hash,
        "data": bench.manifest_hash,
        "clips": comparison.config["clips"],
        "sweep_clips": sweep["clips"],
        "marks": at,
        "weights_hash": run.weights_hash,
        "trained_on": _trained_on(run),
        "sampler": sampler["name"],
        "steps": sampler["steps"],
        "guidance": sampler["guidance"],
        "evaluations_a_step": guided * EVALUATIONS.get(sampler["name"], 1),
        "budgets": {name: found[step] for name, step in at.items()},
        "sweep": by_steps,
    }


def _trained_on(run: Run) -> str:
    starts = json.loads((run.workdir / "env.json").read_text(encoding="utf-8"))
    return ", ".join(dict.fromkeys(str(device) for start in starts for device in start["devices"]))


def _measure(comparison: Comparison, arm: str, run: Run, bench: Bench, steps: int | None, count: int) -> Record:
    """Return the figures of ``count`` clips by inverter, and where there are inverters those of what they are given."""
    x = _generate(run, bench, steps, count, comparison.config["generation_batch"])
    length, batch = run.facts.length_samples, comparison.config["generation_batch"]
    found: Record = {}
    for name, way in _ways_back(comparison, arm, run).items():
        found[name] = bench.figures(decode(way, x, length, min(batch, count)))
    representation = run.model.objective.representation
    if isinstance(representation, LogMel):
        mels = x.mean(axis=-1) + representation.mean
        found["generator"] = bench.figures_of_mels(np.asarray(mels), representation.mel)
    return found


def _ways_back(comparison: Comparison, arm: str, run: Run) -> dict[str, Representation]:
    """Return the run's representation with each of its inverters, by name; EXACT where it needs none."""
    inverters = comparison.inverters(arm)
    runs = {name: run.with_inverter(given) for name, given in inverters.items()} or {EXACT: run}
    return {name: one.model.objective.representation for name, one in runs.items()}


def _generate(run: Run, bench: Bench, steps: int | None, count: int, batch: int) -> np.ndarray:
    """Return x [clip, ...] of ``count`` clips; clip i depends on its number alone, whatever the arm and the steps."""
    batch = min(batch, count)
    key, made = prng.stream(0, "sample"), list[np.ndarray]()
    for begin in range(0, count, batch):
        numbers = np.arange(begin, begin + batch)  # whole batches: one shape, one compile
        asked = {name: values[numbers] for name, values in bench.asked(begin + batch).items()}
        given = {name: asked[name].tolist() for name in run.conditions}
        made.append(run.sample(prng.per_example(key, jnp.asarray(numbers)), given, steps=steps, decoded=False))
    return np.concatenate(made)[:count]


def measure_ceiling(comparison: Comparison, arm: str, bench: Bench) -> Record:
    """Return what becomes of real clips in an arm's representation, by inverter: the most that a model in it can reach.

    "ceiling" are the figures of clips that went through it; "inverter" what that alone changes: the accuracy clip by
    clip, and the distances of test clips from themselves. "real" and "floor" are those of clips as they are and of
    clips under noise, all with as many clips as a cell is measured by.
    """
    config, count = comparison.training(arm), comparison.config["clips"]
    given: Mapping[str, Record | None] = comparison.inverters(arm) or {EXACT: None}
    some = np.resize(np.arange(len(bench.train.audio)), count)
    clips = Clips(
        bench.train.audio[some], {name: v[some] for name, v in bench.train.labels.items()}, bench.test.rate_hz
    )
    record: Record = {"arm": arm, "config_hash": comparison.identity(arm, measured=True)}
    for name, inverter in given.items():
        section = {**config["representation"], **({"inverter": inverter} if inverter else {})}
        split = comparison.sets.split(config["data"]["train_split"])
        way = make_representation(section, split.channels, split.rate_hz)
        through = functools.partial(_through, way, comparison.config["generation_batch"])
        rows = score(bench.judge, clips, bench.train, bench.test, jax.random.key(0), resynthesise=through)
        record |= {"real": _figures(rows, "ceiling"), "floor": _figures(rows, "floor")}
        record.setdefault("ceiling", {})[name] = _figures(rows, "resynthesis")
        record.setdefault("inverter", {})[name] = [
            figure.to_dict() for figure in _what_it_changes(bench, through(bench.test.audio))
        ]
    return record


def _through(representation: Representation, batch: int, audio: np.ndarray) -> np.ndarray:
    """Return clips [clip, time] that went through a representation and back."""
    x = np.asarray(representation.encode(jnp.asarray(audio)))
    return decode(representation, x, audio.shape[1], min(batch, len(audio)))


def _what_it_changes(bench: Bench, audio: np.ndarray) -> list[Figure]:
    """Return how the test clips, sent through something, differ from themselves."""
    test, scale = bench.test, np.maximum(bench.judge(bench.train.audio, bench.train.rate_hz).embedding.std(0), 1e-6)
    before, after = (bench.judge(clips, test.rate_hz) for clips in (test.audio, audio))
    changes = []
    for head in before.classes:
        right = [(verdicts.labels(head) == test.labels[head]).astype(float) for verdicts in (before, after)]
        changes.append(mean_figure(f"accuracy {head}", 100 * (right[1] - right[0]), unit="%", note="change"))
    if len(test.audio) > before.embedding.shape[1]:
        changes.append(frechet_figure(before.embedding / scale, after.embedding / scale))
    spectral = dsp.multi_resolution_stft_distance(audio, test.audio, MULTI_RESOLUTION)
    logarithmic = dsp.log_spectral_distance(audio, test.audio, LSD_STFT, LSD_FLOOR)
    changes.append(mean_figure("multi-resolution STFT distance", np.asarray(spectral)))
    changes.append(mean_figure("log-spectral distance", np.asarray(logarithmic), unit="dB"))
    return changes


def measure_speed(comparison: Comparison) -> Record:
    """Return how long generation takes on this machine, measured now if it never was; it needs the inverters trained.

    One network evaluation and the decoding are timed apart, so that nobody waits for a hundred steps: the time of a
    step is the slope between TIMED_STEPS, which CHECKED_STEPS must confirm. Weights do not matter, and are untrained.
    """
    if (known := comparison.read("speed")) is not None:
        return known
    settings = comparison.config["speed"]
    arms: Record = {arm: {} for arm in comparison.arms}
    for batch in settings["batches"]:
        timed = {arm: _timed_calls(comparison, arm, batch) for arm in comparison.arms}
        calls = [call for of_arm in timed.values() for call in of_arm.values()]
        taken = iter(median_seconds(calls, settings["rounds"]))
        for arm, of_arm in timed.items():
            arms[arm][str(batch)] = _speed_record({name: next(taken) for name in of_arm})
    length = comparison.config["data"]["length_samples"] / comparison.sets.split("train").rate_hz
    comparison.write("speed", {"arms": arms, "clip_seconds": length})
    return measure_speed(comparison)


def _timed_calls(comparison: Comparison, arm: str, batch: int) -> dict[str | int, Callable[[], Any]]:
    """Return what is timed of an arm: generation by its number of steps, decoding by its inverter."""
    config = comparison.training(arm)
    model, params = untrained(config, comparison.sets)
    run = Run(comparison.workdir, config, model, params, 0)
    keys = prng.per_example(jax.random.key(0), jnp.arange(batch))
    asked = dict.fromkeys(run.conditions, 0)
    generate = functools.partial(run.sample, keys, asked, decoded=False)
    calls: dict[str | int, Callable[[], Any]] = {
        steps: functools.partial(generate, steps=steps) for steps in (*TIMED_STEPS, CHECKED_STEPS)
    }
    x, length = generate(steps=1), run.facts.length_samples
    for name, way in _ways_back(comparison, arm, run).items():
        calls[name] = functools.partial(decode, way, x, length, batch)
    return calls


def _speed_record(taken: Mapping[str | int, float]) -> Record:
    few, more = TIMED_STEPS
    a_step = max((taken[more] - taken[few]) / (more - few), 0.0)
    fixed = max(taken[few] - few * a_step, 0.0)
    return {
        "step_seconds": a_step,
        "fixed_seconds": fixed,
        "decode_seconds": {name: seconds for name, seconds in taken.items() if isinstance(name, str)},
        "check": {
            "steps": CHECKED_STEPS,
            "expected_seconds": fixed + CHECKED_STEPS * a_step,
            "measured_seconds": taken[CHECKED_STEPS],
        },
    }
