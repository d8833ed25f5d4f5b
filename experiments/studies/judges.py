"""Measure how well a judge tells the digits of a speaker that it has never heard, and whether it knows how well.

    python experiments/studies/judges.py --judge=runs/judge_digits --runs=runs/judges --out=experiments/results/judges

Asks: how far do accuracy and calibration of configs/judge_digits.py fall from speakers that it was trained on to one
that it was not? Six judges are trained as the judge of the official split is, in fewer steps, each without one speaker
(data.leave_out). Each hears all 500 clips of that speaker, and the official test clips of the other five. Clips of one
speaker are not independent, so pooled figures come twice: with the clip and with the speaker as the unit.

Every judge is an ordinary run in its own folder below --runs: a finished one is not trained again, a broken one goes
on. Twenty minutes of one busy CPU core, then two to measure.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

# The launch scripts' module command, which also finds configs/.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import command
import jax
import numpy as np
from absl import flags

from audiodiff.build.data import make_data
from audiodiff.build.evaluate import examine_judge, read_clips
from audiodiff.build.experiment import run_experiment
from audiodiff.build.run import load_judge
from audiodiff.metrics.classification import accuracy, expected_calibration_error
from audiodiff.metrics.intervals import Figure, mean_figure
from audiodiff.training import read_config
from audiodiff.training.workdir import environment, write_json
from configs import judge_digits

JUDGE = flags.DEFINE_string("judge", "runs/judge_digits", "Folder of the trained judge of the official split.")
RUNS = flags.DEFINE_string("runs", "runs/judges", "Folder of the runs that leave a speaker out.")
OUT = flags.DEFINE_string("out", "experiments/results/judges", "Folder for figures.json.")
STEPS = flags.DEFINE_integer("steps", 500, "Training steps of a run that leaves a speaker out.", lower_bound=1)


class Heard(NamedTuple):
    """Hold what a judge says of the digits of n clips: the true ones [n], and its probabilities [n, class]."""

    labels: np.ndarray
    probabilities: np.ndarray


def main() -> None:
    """Train what is not trained yet, measure, and write figures.json."""
    runs = pathlib.Path(RUNS.value)
    speakers = make_data(without()["data"]).split("all").conditions["speaker"].vocabulary
    for speaker in speakers:
        run_experiment(without(speaker), runs / speaker)
    unseen = [hear(runs / speaker, "left_out") for speaker in speakers]
    seen = [hear(runs / speaker, "test") for speaker in speakers]
    figures = pooled(unseen, seen)
    record = {
        "environment": environment(),
        "steps": STEPS.value,
        "official": examined(pathlib.Path(JUDGE.value)),
        "left_out": {speaker: examined(runs / speaker) for speaker in speakers},
        "unseen": {speaker: plain(digits(heard)) for speaker, heard in zip(speakers, unseen, strict=True)},
        "seen": {speaker: plain(digits(heard)) for speaker, heard in zip(speakers, seen, strict=True)},
        "pooled": plain(figures),
    }
    out = pathlib.Path(OUT.value) / "figures.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, record)
    for figure in figures:
        print(f"{figure.name:>27}  {figure}  {figure.note}")
    print(f"wrote {out}")


def without(speaker: str = "") -> dict[str, Any]:
    """Return the config of the official judge, but for the clips of a speaker and the number of steps."""
    config = judge_digits.get_config()
    config.training.total_steps = STEPS.value
    if speaker:
        config.data.leave_out = (f"speaker={speaker}",)
        config.data.test_split = "left_out"
    return command.plain(config)


def hear(workdir: pathlib.Path, split: str) -> Heard:
    """Let the judge of a run hear a split of its data."""
    sets = make_data(read_config(workdir)["data"])
    clips = read_clips(sets.split(split), sets.preparation)
    verdicts = load_judge(workdir)(clips.audio, clips.rate_hz)
    return Heard(clips.labels["digit"], verdicts.probabilities["digit"])


def examined(workdir: pathlib.Path) -> dict[str, Any]:
    """Return the examination of a run on its test split: all heads, what is rejected, and what is taken for what."""
    return json.loads(examine_judge(workdir)[0].read_text(encoding="utf-8"))


def digits(heard: Heard) -> list[Figure]:
    """Return accuracy, mean confidence and calibration error, with the clip as the unit."""
    calibration = expected_calibration_error(heard.probabilities, heard.labels, jax.random.key(0))
    return [
        accuracy(heard.labels, heard.probabilities.argmax(axis=1)),
        mean_figure("confidence", 100 * heard.probabilities.max(axis=1), unit="%"),
        dataclasses.replace(calibration, name="calibration error"),
    ]


def pooled(unseen: Sequence[Heard], seen: Sequence[Heard]) -> list[Figure]:
    """Return the figures of all speakers left out, with the clip as the unit and then with the speaker.

    Of speakers it is the mean over judges with Student's t interval, which may pass 100 %: unseen, seen, and the
    difference, paired by judge. Every speaker has as many clips, so the mean accuracy is the same by either unit. Not
    so the calibration error: over all clips, a judge too sure and one not sure enough cancel.
    """
    together = digits(Heard(*(np.concatenate(parts) for parts in zip(*unseen, strict=True))))
    figures = [dataclasses.replace(figure, name=f"unseen {figure.name}", note="over clips") for figure in together]
    of_unseen, of_seen = (
        np.array([[figure.value for figure in digits(heard)] for heard in group]) for group in (unseen, seen)
    )
    groups = {"unseen": (of_unseen, "%"), "seen": (of_seen, "%"), "change of": (of_unseen - of_seen, "points")}
    for group, (values, unit) in groups.items():
        for figure, column in zip(together, values.T, strict=True):
            figures.append(mean_figure(f"{group} {figure.name}", column, unit=unit, note="over judges, one a speaker"))
    return figures


def plain(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """Return figures as plain values."""
    return [figure.to_dict() for figure in figures]


if __name__ == "__main__":
    command.run(main)
