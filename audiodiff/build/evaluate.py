"""Evaluate samples of a run: read them back from their files, judge them, and write the report."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from audiodiff import data
from audiodiff.build.data import make_data
from audiodiff.build.run import Run, load
from audiodiff.build.samples import SAMPLES_FILE
from audiodiff.evaluation.judge import Judge
from audiodiff.evaluation.pictures import loss_by_level, loss_curves
from audiodiff.evaluation.report import AudioPair, FigureRow, Plot, Report, write_report
from audiodiff.evaluation.score import Clips, score
from audiodiff.training import read_metrics
from audiodiff.training.workdir import ENV_FILE, config_hash

PAIRS = 12
"""How many pairs of a real and a generated clip a report plays."""

MoreRows = Callable[[Run, Clips, Clips], Sequence[FigureRow]]
"""(run, generated clips, test clips) -> further figures of a report."""


def evaluate_samples(
    workdir: pathlib.Path,
    samples: pathlib.Path,
    judge_workdir: pathlib.Path,
    out: pathlib.Path | None = None,
    *,
    data_root: str = "",
    seed: int = 0,
    expected: Mapping[str, float] | None = None,
    more_rows: MoreRows | None = None,
    title: str = "",
) -> tuple[pathlib.Path, list[FigureRow]]:
    """Score the clips that ``samples.json`` lists and write the report; return its path and rows."""
    run, judge = load(workdir), load(judge_workdir)
    if not isinstance(run, Run):
        raise ValueError(f"{workdir} holds a judge and not a model: name the run that made the samples")
    if not isinstance(judge, Judge):
        raise ValueError(f"{judge_workdir} holds a model and not a judge: name the run of a judge")
    record, generated = read_samples(samples, run)
    settings = {**run.config["data"], **({"root": data_root} if data_root else {})}
    sets = make_data(settings)
    train, test = (read_clips(sets.split(settings[name]), sets.preparation) for name in ("train_split", "test_split"))
    key = jax.random.key(seed)
    rows = score(judge, generated, train, test, key, expected)
    if more_rows is not None:
        rows += more_rows(run, generated, test)
    report = Report(
        title=title or f"Samples of {workdir.name}",
        summary=_summary(record),
        facts=_facts(run, judge, record),
        figures=rows,
        pairs=_pairs(run, generated, test),
        plots=_plots(workdir),
        floor_name="test clips under noise at 0 dB",
    )
    folder = workdir / "report" if out is None else out
    return write_report(folder / "index.html", report), rows


def read_samples(folder: pathlib.Path, run: Run) -> tuple[dict[str, Any], Clips]:
    """Read clips from the files that samples.json names; raise ValueError where weights or rate are another run's."""
    path = folder / SAMPLES_FILE
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no samples.json: make samples with experiments/sample.py first")
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["rate_hz"] != run.facts.rate_hz:
        raise ValueError(f"{path} has clips at {record['rate_hz']} Hz and the run's are at {run.facts.rate_hz} Hz")
    audio = [data.read_audio(folder / one["file"], run.facts.rate_hz, channels=1)[:, 0] for one in record["samples"]]
    labels = {
        name: np.array([vocabulary.index(one["conditions"][name]) for one in record["samples"]])
        for name, vocabulary in run.vocabularies.items()
    }
    return record, Clips(np.stack(audio), labels, run.facts.rate_hz)


def read_clips(source: data.Source, preparation: data.Preparation) -> Clips:
    """Read a whole split as it is prepared for training, without what cannot be used."""
    batches = data.Batches(source, preparation, batch_size=1, seed=0, max_bad_share=1.0)
    batch = batches.examples(range(len(source)))
    good = batch["weight"] > 0
    audio = batch["audio"] if batch["audio"].ndim == 2 else batch["audio"].mean(-1)
    return Clips(audio[good], {name: batch[name][good] for name in source.conditions}, source.rate_hz)


def _summary(record: Mapping[str, Any]) -> str:
    return (
        f"{len(record['samples'])} clips, unselected, from {record['sampler']} with {record['steps']} steps "
        f"and guidance {record['guidance']:g}. Every figure carries its 95 % interval and the number of clips behind it."
    )


def _facts(run: Run, judge: Judge, record: Mapping[str, Any]) -> dict[str, str]:
    """List what was run: config, commit, data, device, budget."""
    starts = json.loads((run.workdir / ENV_FILE).read_text(encoding="utf-8"))
    env = starts[-1]
    lines = read_metrics(run.workdir)
    speed = [line["speed/steps_per_second"] for line in lines if line.get("speed/steps_per_second")]
    seconds = run.step / float(np.median(speed)) if speed else float("nan")
    parameters = sum(leaf.size for leaf in jax.tree.leaves(run.params))
    return {
        "config": f"{config_hash(run.config)}",
        "commit": f"{env.get('commit') or 'unknown'}" + ("" if env.get("clean_tree") else ", with uncommitted changes"),
        "data": f"{run.config['data']['name']}, manifest {run.facts.manifest_hash}",
        "device": ", ".join(dict.fromkeys(map(str, env.get("devices", ["unknown"])))),
        "budget": f"{run.step:,} steps of {run.config['training']['batch_size']}, about {seconds / 60:.1f} minutes",
        "parameters": f"{parameters:,}",
        "weights": run.weights_hash,
        "judge": judge.weights_hash,
        "samples": f"seed {record['seed']}, numbers 0 to {len(record['samples']) - 1}",
    }


def _pairs(run: Run, generated: Clips, test: Clips) -> list[AudioPair]:
    """Pick pairs of the same labels, evenly over what was generated: the first of each, not the best."""
    chosen = np.unique(np.linspace(0, len(generated.audio) - 1, PAIRS).astype(int))
    pairs = []
    for index in chosen:
        alike = np.all([test.labels[name] == values[index] for name, values in generated.labels.items()], axis=0)
        real = test.audio[np.flatnonzero(alike)[0]] if alike.any() else None
        words = [run.vocabularies[name][values[index]] for name, values in generated.labels.items()]
        pairs.append(AudioPair(" ".join(words), real, generated.audio[index], generated.rate_hz))
    return pairs


def _plots(workdir: pathlib.Path) -> list[Plot]:
    """Plot the loss of training and the held-out loss, whole and by noise level."""
    lines = read_metrics(workdir)

    def series(name: str) -> tuple[list[int], list[float]]:
        points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
        return [step for step, _ in points], [value for _, value in points]

    whole = {name: series(name) for name in ("train/mse", "held_out/mse") if series(name)[0]}
    levels = sorted({name for line in lines for name in line if name.startswith("held_out/noise/")}, key=_edge)
    plots = []
    if whole:
        picture = loss_curves(whole)
        plots.append(Plot("Loss", picture.png, "Training and held-out loss by step, the held-out one on fixed noise."))
    if levels:
        steps, _ = series(levels[0])
        by_level = np.array([series(name)[1] for name in levels]).T
        picture = loss_by_level(steps, by_level, [name.rsplit("/", 1)[1] for name in levels])
        plots.append(Plot("Held-out loss by noise level", picture.png, "By sigma over the data's own scale."))
    return plots


def _edge(name: str) -> float:
    return float(name.rsplit("/", 1)[1].split("-")[0])
