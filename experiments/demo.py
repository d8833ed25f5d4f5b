"""Show that it learns: train on generated sounds, sample, judge, and write runs/demo/report/index.html.

    make demo        (or: python experiments/demo.py --workdir=runs/demo)

Stopped half-way, the same command goes on where it was. --smoke takes seconds and learns nothing.
"""

from __future__ import annotations

import pathlib
import time

import command
import jax
import numpy as np
from absl import flags

from audiodiff import dsp
from audiodiff.build.evaluate import evaluate_samples
from audiodiff.build.experiment import run_experiment
from audiodiff.build.run import Run, load_run
from audiodiff.build.samples import write_samples
from audiodiff.data.embedded import PITCHES_HZ, TONAL
from audiodiff.evaluation.report import FigureRow
from audiodiff.evaluation.score import Clips
from audiodiff.metrics.intervals import median_figure
from configs import demo

WORKDIR = flags.DEFINE_string("workdir", "runs/demo", "Folder of the demo.")
SMOKE = flags.DEFINE_bool("smoke", False, "Only show that every part runs.")

EXPECTED = {"accuracy sound": 90.0}
"""What the judge should say, in %: the share of clips taken for the sound that was asked."""
LARGEST_F0_ERROR_CENTS = 50.0
NO_F0_CENTS = 1200.0
"""The error of a tonal clip in which no F0 is heard: an octave. Left out, such clips would let a model pass that is
hardly ever voiced; so far above the bound, the median passes only if most of the clips are voiced and right."""


def main() -> None:
    """Train the model and its judge, sample two clips of every sound and pitch, score them, report."""
    begin, root, size = time.monotonic(), pathlib.Path(WORKDIR.value), "smoke" if SMOKE.value else ""
    print("1/4 training the judge of the twelve sounds", flush=True)
    run_experiment(command.plain(demo.get_config("judge_smoke" if size else "judge")), root / "judge")
    print("2/4 training the diffusion model on raw waveforms", flush=True)
    run_experiment(command.plain(demo.get_config(size)), root / "model")
    print("3/4 sampling", flush=True)
    write_samples(load_run(root / "model"), root / "samples", count=12 if size else 192, batch=12 if size else 48)
    print("4/4 scoring", flush=True)
    path, rows = evaluate_samples(
        root / "model",
        root / "samples",
        root / "judge",
        root / "report",
        expected=EXPECTED,
        more_rows=f0_rows,
        title="The demo: twelve generated sounds, learnt as raw waveforms",
    )
    for row in rows:
        expected = f"   expected {row.expected_text}" if row.passed is not None else ""
        print(f"{row.figure.name:>34}  {row.figure}{expected}")
    print(f"{(time.monotonic() - begin) / 60:.1f} minutes in all; report: {path.resolve()}")


def f0_rows(run: Run, generated: Clips, test: Clips) -> list[FigureRow]:
    """Compare the median F0 of each tonal clip, by YIN, with the pitch that was asked, in cents."""
    ours, real = (
        median_figure("median F0 error of tonal sounds", f0_errors_cents(run, clips), jax.random.key(0), unit="cents")
        for clips in (generated, test)
    )
    return [FigureRow(ours, None, real, at_most=LARGEST_F0_ERROR_CENTS)]


def f0_errors_cents(run: Run, clips: Clips) -> np.ndarray:
    """Return |cents| between each tonal clip's median F0 and its pitch, [clip]; NO_F0_CENTS where no F0 is heard."""
    sounds = np.array(run.vocabularies["sound"])[clips.labels["sound"]]
    tonal = np.isin(sounds, sorted(TONAL))
    f0_hz, _ = dsp.yin(clips.audio[tonal], clips.rate_hz, 70.0, 500.0, 512, 128)
    voiced = [one[~np.isnan(one)] for one in np.asarray(f0_hz)]
    median_hz = np.array([np.median(one) if one.size else np.nan for one in voiced])
    errors = np.abs(1200 * np.log2(median_hz / np.array(PITCHES_HZ)[clips.labels["pitch"][tonal]]))
    return np.where(np.isnan(errors), NO_F0_CENTS, errors)


if __name__ == "__main__":
    command.run(main)
