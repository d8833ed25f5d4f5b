"""Examine an autoencoder: how few numbers hold a clip, and what of the test clips comes back.

    python experiments/autoencoder.py --workdir=runs/autoencoder --judge=runs/judge_digits

Prints the ratio, the numbers for each second, and over the test clips SI-SDR and spectral distance of what comes back,
each with its interval; with a judge also its accuracy on clips before and after. Writes WORKDIR/examination.json, the
same with the hashes of the weights.
"""

import pathlib

import command
from absl import flags

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the autoencoder's run.", required=True)
JUDGE = flags.DEFINE_string("judge", None, "Folder of a judge of the same labels, if one is to listen.")
ROOT = flags.DEFINE_string("data_root", "", "Where the data set lies, if not where the run found it.")


def main() -> None:
    """Examine and write."""
    from audiodiff.build.evaluate import examine_autoencoder

    judge = pathlib.Path(JUDGE.value) if JUDGE.value else None
    path, record, figures = examine_autoencoder(pathlib.Path(WORKDIR.value), judge, data_root=ROOT.value)
    print(
        f"{record['ratio']} samples a position of {record['latent_channels']} channels: "
        f"{record['numbers_a_second']:g} numbers a second of {record['rate_hz']:,} samples, "
        f"{record['samples_a_number']:g} to 1; weights {record['weights_hash']}"
    )
    for figure in figures:
        print(f"{figure.name:>34}  {figure}")
    print(f"wrote {path}")


if __name__ == "__main__":
    command.run(main)
