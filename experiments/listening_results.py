"""Analyse the files that the listeners of one test saved, and write a report.

    python experiments/listening_results.py --plan=runs/listen/page.plan.json --results=runs/listen/results \\
        --out=runs/listen/report

Writes index.html, figures.json and listening.json to --out, and prints the figures and tests.
"""

import pathlib

import command
from absl import flags

PLAN = flags.DEFINE_string("plan", None, "Plan that experiments/listen.py wrote beside the page.", required=True)
RESULTS = flags.DEFINE_string("results", None, "Folder of the listeners' files.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder of the report.", required=True)


def main() -> None:
    """Analyse and report."""
    from audiodiff.build.listening_results import write_analysis

    path, found = write_analysis(pathlib.Path(PLAN.value), pathlib.Path(RESULTS.value), pathlib.Path(OUT.value))
    for row in found.rows:
        print(f"{row.figure.name:>30}  {row.figure}")
    print("\n".join(found.sentences))
    print(f"report: {path}")


if __name__ == "__main__":
    command.run(main)
