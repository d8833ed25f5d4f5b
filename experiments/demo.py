"""Show that it learns: train on generated sounds, sample, judge, and write runs/demo/report/index.html.

    make demo        (or: python experiments/demo.py --workdir=runs/demo)

Stopped half-way, the same command goes on where it was. Under 10 minutes on 2 cores; --smoke takes seconds and learns nothing.
"""

import pathlib
import time

import command
from absl import flags

WORKDIR = flags.DEFINE_string("workdir", "runs/demo", "Folder of the demo.")
SMOKE = flags.DEFINE_bool("smoke", False, "Only show that every part runs.")

EXPECTED = {"accuracy sound": 90.0}
LARGEST_F0_ERROR_CENTS = 50.0


def main() -> None:
    """Train the model and its judge, sample two clips of every sound and pitch, score them, report."""
    import jax
    import numpy as np

    from audiodiff import dsp
    from audiodiff.build.evaluate import evaluate_samples
    from audiodiff.build.experiment import run_experiment
    from audiodiff.build.run import Run, load
    from audiodiff.build.samples import write_samples
    from audiodiff.data.embedded import PITCHES_HZ, TONAL
    from audiodiff.evaluation.report import FigureRow
    from audiodiff.evaluation.score import Clips
    from audiodiff.metrics.intervals import median_figure
    from configs import demo

    begin = time.monotonic()
    root = pathlib.Path(WORKDIR.value)
    print("1/4 training the judge of the twelve sounds", flush=True)
    run_experiment(command.plain(demo.get_config("judge_smoke" if SMOKE.value else "judge")), root / "judge")
    print("2/4 training the diffusion model on raw waveforms", flush=True)
    run_experiment(command.plain(demo.get_config("smoke" if SMOKE.value else "")), root / "model")

    print("3/4 sampling", flush=True)
    run = load(root / "model")
    assert isinstance(run, Run)
    write_samples(run, root / "samples", count=12 if SMOKE.value else 192, batch=12 if SMOKE.value else 48)

    def f0_row(run: Run, generated: Clips, test: Clips) -> list[FigureRow]:
        """Compare each tonal clip's median F0, by YIN, with the pitch that was asked, in cents."""

        def errors(clips: Clips) -> np.ndarray:
            sounds = np.array(run.vocabularies["sound"])[clips.labels["sound"]]
            tonal = np.isin(sounds, sorted(TONAL))
            f0_hz, _ = dsp.yin(clips.audio[tonal], clips.rate_hz, 70.0, 500.0, 512, 128)
            medians = np.array(
                [np.median(one[~np.isnan(one)]) if (~np.isnan(one)).any() else np.nan for one in np.asarray(f0_hz)]
            )
            return np.abs(1200 * np.log2(medians / np.array(PITCHES_HZ)[clips.labels["pitch"][tonal]]))

        name = "median F0 error of tonal sounds"
        figures = [median_figure(name, errors(clips), jax.random.key(0), unit="cents") for clips in (generated, test)]
        return [FigureRow(figures[0], None, figures[1], at_most=LARGEST_F0_ERROR_CENTS)]

    print("4/4 scoring", flush=True)
    path, rows = evaluate_samples(
        root / "model",
        root / "samples",
        root / "judge",
        root / "report",
        expected=EXPECTED,
        more_rows=f0_row,
        title="The demo: twelve generated sounds, learnt as raw waveforms",
    )
    for row in rows:
        expected = f"   expected {row.expected_text}" if row.passed is not None else ""
        print(f"{row.figure.name:>34}  {row.figure}{expected}")
    print(f"{(time.monotonic() - begin) / 60:.1f} minutes in all; report: {path.resolve()}")


if __name__ == "__main__":
    command.run(main)
