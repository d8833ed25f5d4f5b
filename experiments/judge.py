"""Examine a judge on the test clips of its data set, and on noise, silence and clips without their phase.

Is it right, is it as sure as it is right (the calibration error), and does it refuse what is no such sound?

    python experiments/judge.py --workdir=runs/judge_digits

Prints the figures and writes WORKDIR/examination.json: the same with the hash of the judge's weights, and how many
clips of each class were taken for which. A judge trained without some labels (data.leave_out) is examined on their
clips where its config says data.test_split=left_out.
"""

import pathlib

import command
from absl import flags

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the judge's run.", required=True)
ROOT = flags.DEFINE_string("data_root", "", "Where the data set lies, if not where the run found it.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of noise and phases.")


def main() -> None:
    """Examine and write."""
    from audiodiff.build.evaluate import examine_judge

    path, figures = examine_judge(pathlib.Path(WORKDIR.value), data_root=ROOT.value, seed=SEED.value)
    for figure in figures:
        print(f"{figure.name:>26}  {figure}")
    print(f"wrote {path}")


if __name__ == "__main__":
    command.run(main)
