"""Score generated clips by a judge, beside real and noisy test clips, and write a report.

    python experiments/evaluate.py --workdir=runs/digits_cpu --samples=runs/digits_cpu/samples --judge=runs/judge_digits

Writes figures.json and index.html to --out (default: WORKDIR/report), and prints the figures. With
--expect="accuracy digit=80,accuracy speaker=80" it says beside them which of these percentages are met.
"""

import pathlib

import command
from absl import flags

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run that made the samples.", required=True)
SAMPLES = flags.DEFINE_string(
    "samples", None, "Folder of samples.json, as experiments/sample.py writes it.", required=True
)
JUDGE = flags.DEFINE_string("judge", None, "Folder of the judge's run.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder of the report (default: WORKDIR/report).")
ROOT = flags.DEFINE_string("data_root", "", "Where the data set lies, if not where the run found it.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of subsets and of the noisy clips.")
EXPECT = flags.DEFINE_string(
    "expect", "", "Least figures in percent (rejected: most), as accuracy digit=80,accuracy speaker=80."
)


def expectations(text: str) -> dict[str, float]:
    """Read ``accuracy digit=80,accuracy speaker=80``."""
    expected = {}
    for name, _, value in (part.partition("=") for part in text.split(",") if part.strip()):
        try:
            percent = float(value)
        except ValueError:
            percent = float("nan")
        if not 0 <= percent <= 100:
            raise ValueError(
                f"--expect gives {name.strip()!r} the value {value.strip()!r}, not a number from 0 to 100: "
                "write it as accuracy digit=80,accuracy speaker=80"
            )
        expected[name.strip()] = percent
    return expected


def main() -> None:
    """Evaluate and report."""
    from audiodiff.build.evaluate import evaluate_samples

    expected = expectations(EXPECT.value)
    path, rows = evaluate_samples(
        pathlib.Path(WORKDIR.value),
        pathlib.Path(SAMPLES.value),
        pathlib.Path(JUDGE.value),
        pathlib.Path(OUT.value) if OUT.value else None,
        data_root=ROOT.value,
        seed=SEED.value,
        expected=expected,
    )
    for row in rows:
        real = f"   real: {row.ceiling}" if row.ceiling else ""
        verdict = f"   expected {row.expected_text}: {'met' if row.passed else 'NOT met'}" if row.expected_text else ""
        print(f"{row.figure.name:>20}  {row.figure}{real}{verdict}")
    print(f"report: {path}")


if __name__ == "__main__":
    command.run(main)
