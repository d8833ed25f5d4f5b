"""Measure how often a speaker encoder errs on pairs of clips, of speakers that it was trained on and of others.

    python experiments/studies/speaker_encoder.py --runs=runs/speaker_encoders --out=experiments/results/speaker_encoder

Asks: which loss of configs/speaker_encoder.py is best on clips held out of the training ones (indices 5 to 9); what is
the equal error rate over all pairs of the official test clips, whose speakers are those of training; what is it over
pairs of two speakers that training never heard, for three pairs of speakers, so that each is left out once; and do the
intervals hold the truth as often as they say, on Gaussian speakers? Beside each rate stands that of mean and standard
deviation of the log-mel, which nobody trained.

Every encoder is an ordinary run in its own folder below --runs: a finished one is not trained again, a broken one goes
on. Eight trainings of about a minute of 2 cores, then some minutes to measure.
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

# The launch scripts' module command, which also finds configs/.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import command
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from audiodiff import prng
from audiodiff.build.data import LEFT_OUT, make_data
from audiodiff.build.evaluate import read_clips
from audiodiff.build.experiment import run_experiment
from audiodiff.build.run import load_speaker_encoder
from audiodiff.metrics.intervals import proportion_figure
from audiodiff.metrics.verification import Trials, all_trials, crossing, detection_errors, equal_error_rate
from audiodiff.training import read_config
from audiodiff.training.workdir import config_hash, environment, write_json
from configs import speaker_encoder

RUNS = flags.DEFINE_string("runs", "runs/speaker_encoders", "Folder of the runs.")
OUT = flags.DEFINE_string("out", "experiments/results/speaker_encoder", "Folder for figures.json.")
STEPS = flags.DEFINE_integer("steps", 300, "Training steps of every run.", lower_bound=1)
COMPARE = flags.DEFINE_bool("compare", True, "Compare the losses too, by four trainings more.")
REPETITIONS = flags.DEFINE_integer("repetitions", 100, "Synthetic test sets per coverage.", lower_bound=1)

LOSSES: dict[str, dict[str, float]] = {
    "nt_xent": {"temperature": 0.1},
    "ge2e": {"scale": 10.0},
    "prototypical": {"scale": 5.0},
    "triplet": {"margin": 0.3},
}
"""The losses that are compared, with their options."""

VALIDATION = (5, 6, 7, 8, 9)
"""Indices of the recordings that are held out of training where the losses are compared."""

LEFT_OUT_PAIRS = (("george", "jackson"), ("lucas", "nicolas"), ("theo", "yweweler"))

RESAMPLES = 500
"""Bootstrap resamples of a rate; half a million trials make one a matter of 20 ms."""

DESIGNS = {
    "6 speakers x 10 clips, far apart": (6, 10, 0.5),
    "6 speakers x 10 clips, near": (6, 10, 1.0),
    "2 speakers x 30 clips": (2, 30, 0.7),
}
"""Name -> speakers, clips of each, standard deviation of a clip about its speaker, whose own is 1; 8 dimensions."""


def main() -> None:
    """Train what is not trained yet, measure, print, and write figures.json."""
    runs, figures, encoders = pathlib.Path(RUNS.value), {}, {}

    def measure(name: str, folder: str, split: str, **changes: Any) -> Trials:
        trials, untrained, encoders[name] = train_and_compare(runs / folder, split, **changes)
        figures[name] = rate(name, trials)
        figures[f"{name}, untrained"] = rate(f"{name}, untrained", untrained)
        return trials

    measure("official test clips", "official", "test")
    folds = [
        measure(
            f"left out: {' and '.join(pair)}",
            "without_" + "_".join(pair),
            LEFT_OUT,
            leave_out=tuple(f"speaker={one}" for one in pair),
        )
        for pair in LEFT_OUT_PAIRS
    ]
    figures["left out, pooled"] = rate("left out, pooled", pooled(folds))
    for loss in LOSSES if COMPARE.value else ():
        measure(f"validation, {loss}", f"validation_{loss}", "validation", loss=loss, validation_indices=VALIDATION)
    record = {
        "command": "python experiments/studies/speaker_encoder.py",
        "environment": environment(),
        "figures_percent": figures,
        "encoders": encoders,
        "interval_coverage_percent": {name: coverage(*design) for name, design in DESIGNS.items()},
        "coverage_repetitions": REPETITIONS.value,
    }
    out = pathlib.Path(OUT.value) / "figures.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, record)
    print(f"wrote {out}")


def train_and_compare(
    workdir: pathlib.Path, split: str, *, loss: str = "", **data: Any
) -> tuple[Trials, Trials, dict[str, str]]:
    """Train an encoder with changed data keys; return all trials of a split, those of its log-mels, and its hashes."""
    config = speaker_encoder.get_config()
    config.training.total_steps = config.training.save_every = config.training.evaluate_every = STEPS.value
    plain = command.plain(config)
    plain["data"] |= data
    if loss:
        plain["objective"]["loss"] = {"name": loss, **LOSSES[loss]}
    run_experiment(plain, workdir)
    encoder = load_speaker_encoder(workdir)
    sets = make_data(plain["data"])
    clips = read_clips(sets.split(split), sets.preparation)
    speakers = clips.labels["speaker"]
    bands = [np.asarray(encoder.objective.features(jnp.asarray(part))) for part in np.array_split(clips.audio, 10)]
    statistics = np.concatenate([np.concatenate([x.mean(axis=1), x.std(axis=1)], axis=1) for x in bands])
    statistics = (statistics - statistics.mean(axis=0)) / statistics.std(axis=0)
    hashes = {"config_hash": config_hash(read_config(workdir)), "weights_hash": encoder.weights_hash}
    return all_trials(encoder(clips.audio, clips.rate_hz), speakers), all_trials(statistics, speakers), hashes


def rate(name: str, trials: Trials) -> dict[str, Any]:
    """Return the equal error rate as plain values, and print it."""
    figure = equal_error_rate(trials, prng.stream(0, name), name, resamples=RESAMPLES)
    print(f"{name:>45}  {figure}  {figure.note}", flush=True)
    return figure.to_dict()


def pooled(folds: list[Trials]) -> Trials:
    """Put the trials of several sets of clips together, at one threshold for all; no clip is in two sets."""
    before = np.cumsum([0, *(trials.clips.max() + 1 for trials in folds)])
    return Trials(
        np.concatenate([trials.scores for trials in folds]),
        np.concatenate([trials.same for trials in folds]),
        np.concatenate([trials.clips + first for trials, first in zip(folds, before[:-1], strict=True)]),
    )


def coverage(speakers: int, clips: int, spread: float) -> dict[str, Any]:
    """Return how often the interval holds the rate of 200 more clips of each of the same Gaussian speakers."""
    generator, held = np.random.default_rng(0), 0
    for number in range(REPETITIONS.value):
        means = generator.normal(size=(speakers, 8))

        def trials(count: int, means: np.ndarray = means) -> Trials:
            noise = generator.normal(size=(count, *means.shape))
            return all_trials((means + spread * noise).reshape(-1, 8), np.tile(np.arange(speakers), count))

        key = jax.random.key(number)
        truth = 100 * crossing(detection_errors(trials(200)))
        figure = equal_error_rate(trials(clips), key, resamples=RESAMPLES)
        held += figure.low <= truth <= figure.high
    return proportion_figure("interval holds the truth", held, REPETITIONS.value).to_dict()


if __name__ == "__main__":
    command.run(main)
