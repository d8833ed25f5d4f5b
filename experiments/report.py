"""Put the reports of several runs side by side: one page, every figure with its interval over runs.

    python experiments/report.py --out=runs/comparison/index.html \\
        --arms="wave=runs/a/report,runs/b/report,runs/c/report;dilated=runs/d/report,runs/e/report,runs/f/report"

An arm is a method and its reports are those of its runs, as experiments/evaluate.py writes them, one a seed. Writes
figures.json beside the page. Nothing is sampled or judged again.
"""

import command
from absl import flags

ARMS = flags.DEFINE_string("arms", None, "name=folder,folder,..;name=folder,..", required=True)
OUT = flags.DEFINE_string("out", None, "Page to write, ending in .html.", required=True)
TITLE = flags.DEFINE_string("title", "Comparison", "Title of the page.")
SUMMARY = flags.DEFINE_string("summary", "", "What was asked, in a sentence or two.")


def named_folders(text: str) -> dict[str, list[str]]:
    """Read ``wave=runs/a/report,runs/b/report;mel=runs/c/report``."""
    arms: dict[str, list[str]] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, folders = part.partition("=")
        listed = [folder.strip() for folder in folders.split(",") if folder.strip()]
        if not equals or not listed or name.strip() in arms:
            raise ValueError(f"--arms has {part!r}: write each arm once, as name=folder,folder")
        arms[name.strip()] = listed
    return arms


def main() -> None:
    """Read the reports and write the page."""
    from audiodiff.evaluation.comparison import write_comparison
    from audiodiff.evaluation.report import read_report

    arms = {name: [read_report(folder) for folder in folders] for name, folders in named_folders(ARMS.value).items()}
    path, compared = write_comparison(OUT.value, TITLE.value, SUMMARY.value, arms)
    for figure in compared:
        print(figure.name)
        for arm, value in figure.arms.items():
            difference = f"   difference {figure.differences[arm]}" if arm in figure.differences else ""
            print(f"{arm:>20}  {value}{difference}")
    print(f"comparison: {path}")


if __name__ == "__main__":
    command.run(main)
