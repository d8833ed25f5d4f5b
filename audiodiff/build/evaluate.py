"""Evaluate samples of a run: read them back from their files, judge them, and write the report."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from audiodiff import data, dsp
from audiodiff.build.choices import ConfigError
from audiodiff.build.data import DataSets, make_data
from audiodiff.build.run import Run, check_labels, load_autoencoder, load_judge, load_run
from audiodiff.build.samples import SAMPLES_FILE
from audiodiff.evaluation.examine import examine
from audiodiff.evaluation.judge import Judge
from audiodiff.evaluation.pictures import Picture, loss_by_level, loss_curves
from audiodiff.evaluation.report import AudioPair, FigureRow, Plot, Report, write_report
from audiodiff.evaluation.resynthesis import resynthesis
from audiodiff.evaluation.score import Clips, score
from audiodiff.metrics.intervals import Figure, mean_figure, proportion_figure
from audiodiff.metrics.signal import si_sdr
from audiodiff.training import read_config, read_metrics
from audiodiff.training.workdir import ENV_FILE, config_hash, write_json

PAIRS = 12
"""How many pairs of a real and a generated clip a report plays."""

EXAMINATION_FILE = "examination.json"

MULTI_RESOLUTION = dsp.MultiResolutionSpec(
    tuple(dsp.StftSpec(size, size // 4) for size in (128, 256, 512)), power_floor=1e-7
)
"""How far apart an evaluation finds what goes through something and comes back."""

RECORDED = ("rate_hz", "weights_hash", "seed", "sampler", "samples")
"""What an evaluation needs of samples.json."""

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
    """Score the clips that samples.json lists and write the report; return its path and rows.

    ``out`` defaults to WORKDIR/report; ``data_root`` says where the data lie if not where the run found them.
    Raises ConfigError where run, samples, judge and data do not belong together, or the judge guided the samples.
    """
    run, judge = load_run(workdir), load_judge(judge_workdir)
    check_labels(run, judge)
    record, generated = read_samples(samples, run)
    check_guide(record, judge)
    settings, sets = _data_at(run.config, data_root)
    run.facts.check_data(sets.manifest_hash, run.workdir)
    sources = [sets.split(settings[name]) for name in ("train_split", "test_split")]
    train, test = (read_clips(source, sets.preparation) for source in sources)
    left_out = sum(map(len, sources)) - len(train.audio) - len(test.audio)
    lossy = resynthesis(run.model.objective.representation, run.facts.channels, test.audio)
    rows = score(judge, generated, train, test, jax.random.key(seed), expected, lossy)
    if more_rows is not None:
        rows += more_rows(run, generated, test)
    report = Report(
        title=title or f"Samples of {run.workdir.name}",
        summary=_summary(record),
        facts=_facts(run, judge, record) | ({"left out": f"{left_out} real clips cannot be used"} if left_out else {}),
        figures=rows,
        pairs=_pairs(run, generated, test),
        plots=_plots(run.workdir),
        floor_name="test clips under noise at 0 dB",
    )
    return write_report((out or run.workdir / "report") / "index.html", report), rows


def examine_judge(workdir: pathlib.Path, *, data_root: str = "", seed: int = 0) -> tuple[pathlib.Path, list[Figure]]:
    """Examine a judge on the test split of its own data and write WORKDIR/examination.json; return path and figures.

    The file also tells by head how many clips of each class were taken for which; what never happened is left out.
    """
    judge, config = load_judge(workdir), read_config(workdir)
    settings, sets = _data_at(config, data_root)
    clips = read_clips(sets.split(settings["test_split"]), sets.preparation)
    found = examine(judge, clips, jax.random.key(seed))
    record = {
        "weights_hash": judge.weights_hash,
        "config_hash": config_hash(config),
        "data": f"{settings['name']}, manifest {sets.manifest_hash}, split {settings['test_split']}",
        "seed": seed,
        "figures": [figure.to_dict() for figure in found.figures],
        "confusion": {head: _taken_for(counts, judge.classes[head]) for head, counts in found.confusion.items()},
    }
    write_json(workdir / EXAMINATION_FILE, record)
    return workdir / EXAMINATION_FILE, list(found.figures)


def examine_autoencoder(
    workdir: pathlib.Path, judge_workdir: pathlib.Path | None = None, *, data_root: str = ""
) -> tuple[pathlib.Path, dict[str, Any], list[Figure]]:
    """Send the test clips of an autoencoder's own data there and back, and write WORKDIR/examination.json.

    Returns its path, what it holds, and the figures: SI-SDR and multi-resolution STFT distance over the clips and, with
    a judge, its accuracy on clips as they are and on what came back. Raises ValueError for a judge at another rate.
    """
    codec, config = load_autoencoder(workdir), read_config(workdir)
    settings, sets = _data_at(config, data_root)
    # As they are: what varies them in training would be heard by the judge.
    plain = dataclasses.replace(sets.preparation, max_shift_samples=0, flip_polarity=False)
    clips = read_clips(sets.split(settings["test_split"]), plain)
    length = clips.audio.shape[1]
    back = codec.decode(codec.encode(clips.audio, clips.rate_hz), length)
    distance = dsp.multi_resolution_stft_distance(back, clips.audio, MULTI_RESOLUTION)
    figures = [
        mean_figure("SI-SDR", si_sdr(back, clips.audio), unit="dB"),
        mean_figure("multi-resolution STFT distance", np.asarray(distance)),
    ]
    record = {
        "weights_hash": codec.weights_hash,
        "config_hash": config_hash(config),
        "data": f"{settings['name']}, manifest {sets.manifest_hash}, split {settings['test_split']}",
        "rate_hz": codec.rate_hz,
        "ratio": codec.ratio,
        "latent_channels": codec.latent.shape(1, length)[-1],
        "numbers_a_second": codec.numbers_a_second,
        "samples_a_number": codec.rate_hz / codec.numbers_a_second,
    }
    if judge_workdir is not None:
        judge = load_judge(judge_workdir)
        for of, audio in (("clips as they are", clips.audio), ("what came back", back)):
            verdicts = judge(audio, clips.rate_hz)
            for head in judge.classes:
                right = int((verdicts.labels(head) == clips.labels[head]).sum())
                figures.append(proportion_figure(f"accuracy {head}, {of}", right, len(back)))
        record["judge"] = judge.weights_hash
    record["figures"] = [figure.to_dict() for figure in figures]
    write_json(workdir / EXAMINATION_FILE, record)
    return workdir / EXAMINATION_FILE, record, figures


def _taken_for(counts: np.ndarray, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Name the counts of a confusion matrix [class, taken for] that are not zero."""
    named = {
        label: {other: int(count) for other, count in zip(classes, row, strict=True) if count}
        for label, row in zip(classes, counts, strict=True)
    }
    return {label: row for label, row in named.items() if row}


def _data_at(config: Mapping[str, Any], root: str) -> tuple[dict[str, Any], DataSets]:
    """Return the data section and the data sets of a config, read from ``root`` if that is given."""
    settings = {**config["data"], **({"root": root} if root else {})}
    return settings, make_data(settings)


def check_guide(record: Mapping[str, Any], judge: Judge) -> None:
    """Raise ConfigError where a judge is to score what it guided itself: it would find its own word obeyed.

    It is known by the hash of its weights alone: the same judge trained on, or averaged otherwise, passes.
    """
    if (guide := record.get("guided_by")) == judge.weights_hash:
        raise ConfigError(
            f"the samples were guided by the judge with the weights {guide}, and the judge of them has the weights "
            f"{judge.weights_hash}: judge them with another judge, trained apart from it"
        )


def read_samples(folder: pathlib.Path, run: Run) -> tuple[dict[str, Any], Clips]:
    """Read samples.json and the clips it names, mixed to mono.

    Raises ConfigError where it is damaged or another run made the clips.
    """
    path = folder / SAMPLES_FILE
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no {SAMPLES_FILE}: make samples with experiments/sample.py first")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if missing := [name for name in RECORDED if name not in record]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        for name, own in (("rate_hz", run.facts.rate_hz), ("weights_hash", run.weights_hash)):
            if record[name] != own:
                raise ConfigError(
                    f"{path} was made with {name} {record[name]}, and {run.workdir} has {own}: "
                    "sample anew with this run"
                )
        _summary(record)  # reads what the report will need
        if not record["samples"]:
            raise ValueError("it lists no samples")
        files = [folder / one["file"] for one in record["samples"]]
        labels = {
            name: np.array([labels.index(one["conditions"][name]) for one in record["samples"]])
            for name, labels in run.vocabularies.items()
        }
    except ConfigError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is damaged ({error}): restore it, or sample anew with this run") from error
    audio = [_read_sample(file, run.facts.rate_hz) for file in files]
    for file, clip in zip(files, audio, strict=True):
        if len(clip) != len(audio[0]):
            raise ConfigError(
                f"{file} has {len(clip)} samples and {files[0]} has {len(audio[0])}: evaluate clips of one length"
            )
    return record, Clips(np.stack(audio), labels, run.facts.rate_hz)


def _read_sample(path: pathlib.Path, rate_hz: int) -> np.ndarray:
    """Read a clip, mixed to mono; raise ConfigError at another rate, which no run at ``rate_hz`` has made."""
    if (found := data.audio_info(path).rate_hz) != rate_hz:
        raise ConfigError(f"{path} is at {found} Hz and the samples were made at {rate_hz} Hz: sample anew")
    return data.read_audio(path, channels=1)[:, 0]


def read_clips(source: data.Source, preparation: data.Preparation) -> Clips:
    """Read a whole split as it is prepared for training, mixed to mono, without what cannot be used.

    As many are left out as the result has less than ``source``. Raises AudioError where none is left.
    """
    batches = data.Batches(source, preparation, batch_size=1, seed=0, max_bad_share=1.0)
    batch = batches.examples(range(len(source)))
    good = batch["weight"] > 0
    audio = batch["audio"] if batch["audio"].ndim == 2 else batch["audio"].mean(-1)
    labels = {name: batch[name][good] for name, info in source.conditions.items() if info.kind == "label"}
    return Clips(audio[good], labels, source.rate_hz)


def _summary(record: Mapping[str, Any]) -> str:
    sampler = record["sampler"]
    led = f", led by the judge {guide} at scale {record['guide_scale']:g}" if (guide := record.get("guided_by")) else ""
    return (
        f"{len(record['samples'])} clips, unselected, from {sampler['name']} with {sampler['steps']} steps "
        f"and guidance {sampler['guidance']:g}{led}. "
        "Every figure carries its 95 % interval and the number of clips behind it."
    )


def _facts(run: Run, judge: Judge, record: Mapping[str, Any]) -> dict[str, str]:
    """List what was run: config, commit, data, device, budget."""
    env = json.loads((run.workdir / ENV_FILE).read_text(encoding="utf-8"))[-1]
    lines = read_metrics(run.workdir)
    speeds = [line["speed/steps_per_second"] for line in lines if line.get("speed/steps_per_second")]
    minutes = f", about {run.step / float(np.median(speeds)) / 60:.1f} minutes" if speeds else ""
    return {
        "config": config_hash(run.config),
        "commit": f"{env.get('commit') or 'unknown'}" + ("" if env.get("clean_tree") else ", with uncommitted changes"),
        "data": f"{run.config['data']['name']}, manifest {run.facts.manifest_hash}",
        "device": ", ".join(dict.fromkeys(map(str, env.get("devices", ["unknown"])))),
        "budget": f"{run.step:,} steps of {run.config['training']['batch_size']}{minutes}",
        "parameters": f"{sum(leaf.size for leaf in jax.tree.leaves(run.params)):,}",
        "weights": run.weights_hash,
        "judge": judge.weights_hash,
        "clips": f"{len(record['samples'])}",
        "samples": f"seed {record['seed']}, numbers 0 to {len(record['samples']) - 1}",
    }


def _pairs(run: Run, generated: Clips, test: Clips) -> list[AudioPair]:
    """Pick pairs of the same labels, evenly over what was generated: the first of each, not the best."""
    pairs = []
    for index in np.unique(np.linspace(0, len(generated.audio) - 1, PAIRS).astype(int)):
        alike = np.ones(len(test.audio), bool)
        for name, values in generated.labels.items():
            alike &= test.labels[name] == values[index]
        real = test.audio[np.argmax(alike)] if alike.any() else None
        words = [run.vocabularies[name][values[index]] for name, values in generated.labels.items()]
        pairs.append(AudioPair(" ".join(words) or f"clip {index}", real, generated.audio[index], generated.rate_hz))
    return pairs


def _plots(workdir: pathlib.Path) -> list[Plot]:
    """Plot the loss of training and the held-out loss, whole and by noise level."""
    lines = read_metrics(workdir)

    def series(name: str) -> tuple[list[int], list[float]]:
        points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
        return [step for step, _ in points], [value for _, value in points]

    plots = []
    whole = {name: points for name in ("train/mse", "held_out/mse") if (points := series(name))[0]}
    if whole:
        picture = loss_curves(whole)
        plots.append(Plot("Loss", picture.png, "Training and held-out loss by step, the held-out one on fixed noise."))
    if by_level := held_out_by_level(lines):
        plots.append(Plot("Held-out loss by noise level", by_level.png, "By sigma over the data's own scale."))
    return plots


def held_out_by_level(lines: Sequence[Mapping[str, Any]]) -> Picture | None:
    """Draw the held-out loss of each noise level over the steps of a run's lines; None where there is none."""
    levels = sorted({name for line in lines for name in line if name.startswith("held_out/noise/")}, key=_lower_edge)
    if not levels:
        return None
    held_out = [line for line in lines if levels[0] in line]
    # A level that could not be measured is null in the file and a gap in the curve.
    values = [[np.nan if line.get(name) is None else line[name] for name in levels] for line in held_out]
    names = [name.rsplit("/", 1)[1] for name in levels]
    return loss_by_level([line["step"] for line in held_out], np.array(values), names)


def _lower_edge(name: str) -> float:
    return float(name.rsplit("/", 1)[1].split("-")[0])
