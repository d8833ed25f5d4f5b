"""Make audio of mels: of recordings, whose mel is taken and sound made anew, or of mels kept as .npy files.

    python experiments/vocode.py --workdir=runs/vocoder_unet --input=recordings --out=vocoded

The input is a file or a folder. A recording is mixed to mono, resampled to the vocoder's rate, and comes back at its
own level. A mel is [frame, band] in the vocoder's own convention, which lies in WORKDIR/model.json.
"""

import pathlib

import command
from absl import flags

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the vocoder's run.", required=True)
INPUT = flags.DEFINE_string("input", None, "File or folder: audio, or log-mels as .npy.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder to write to.", required=True)
STEPS = flags.DEFINE_integer("steps", None, "Steps of the sampler (default: the config's).", lower_bound=1)
SAMPLER = flags.DEFINE_string("sampler", None, "Sampler (default: the config's).")
SEED = flags.DEFINE_integer("seed", 0, "Seed of the noise; file i is drawn from (seed, i).")


def main() -> None:
    """Vocode every file that is named."""
    from audiodiff.build.run import load_run
    from audiodiff.build.vocode import vocode_files

    vocode_files(
        load_run(WORKDIR.value),
        pathlib.Path(INPUT.value),
        pathlib.Path(OUT.value),
        sampler=SAMPLER.value,
        steps=STEPS.value,
        seed=SEED.value,
    )


if __name__ == "__main__":
    command.run(main)
