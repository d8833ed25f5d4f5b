"""Compare models under one trainer, one budget and one set of metrics: the table, its curves and its ledger of errors.

    python experiments/compare.py --config=configs/compare_digits.py --workdir=runs/compare

The same command goes on where it stopped, and does nothing twice: results, small JSON files, are kept in --results
(default: experiments/results/NAME, NAME being the config's). In parts:

    --stage=calibrate   what a training step of each arm takes; on a quiet machine, once: it fixes the budgets in steps
    --stage=train       judge, vocoder and cells, on any machine, beside any other work
    --stage=evaluate    the trained cells without results
    --stage=speed       how long each arm takes to generate; on a quiet machine, once
    --stage=report      the page and its figures, of the results alone

With --cells=judge,vocoder or --cells=log_mel_0,log_mel_1 several processes share the table; judge and vocoder come
first. A result that is moved away is made anew. Runs may be trained on one machine and evaluated on another: --workdir
holds nothing that names a place.
"""

import pathlib

import command
from absl import flags

STAGES = ("calibrate", "train", "evaluate", "speed", "report")

CONFIG = command.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs.", required=True)
RESULTS = flags.DEFINE_string("results", None, "Folder of the results (default: experiments/results/NAME).")
OUT = flags.DEFINE_string("out", None, "Page to write, ending in .html (default: WORKDIR/report/index.html).")
STAGE = flags.DEFINE_enum("stage", "all", ("all", *STAGES), "What to do.")
CELLS = flags.DEFINE_list("cells", [], "Which cells, as judge,vocoder or log_mel_0,log_mel_1 (default: all).")
MAX_MINUTES = flags.DEFINE_float("max_minutes", None, "Save and stop a run after so many minutes; rerun to go on.")


def main() -> None:
    """Do the stages that are asked for."""
    from audiodiff.build.comparison_cells import Comparison, calibrate, evaluate, measure_speed, select, train

    config = command.plain(CONFIG.value)
    results = pathlib.Path(RESULTS.value or pathlib.Path("experiments", "results", config["name"]))
    workdir = pathlib.Path(WORKDIR.value).expanduser().resolve()
    comparison = Comparison(config, workdir, results)
    names = [name.strip() for name in CELLS.value]
    select(comparison, names)
    stages = STAGES if STAGE.value == "all" else (STAGE.value,)
    if "calibrate" in stages:
        for arm, cost in calibrate(comparison)["arms"].items():
            step = f"{cost['flops']:.4g} FLOP and {cost['seconds']:.3g} s a step"
            print(f"{arm:>20}  {cost['parameters']:,} parameters, {step}")
    if "train" in stages:
        train(comparison, names, max_minutes=MAX_MINUTES.value)
    if "evaluate" in stages:
        evaluate(comparison, names)
    if "speed" in stages:
        measure_speed(comparison)
    if "report" in stages:
        from audiodiff.build.comparison_report import write_report

        page = write_report(comparison, pathlib.Path(OUT.value) if OUT.value else workdir / "report" / "index.html")
        print(f"comparison: {page}")


if __name__ == "__main__":
    command.run(main)
