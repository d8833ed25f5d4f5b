"""Train a cascade, sample from it, or bring given audio to its full rate.

    python experiments/cascade.py --config=configs/cascade_digits.py:two --workdir=runs/two [--stages=low,fine]
    python experiments/cascade.py --workdir=runs/two --out=samples --num=60 [--steps=low=10,fine=4]
    python experiments/cascade.py --workdir=runs/two --out=wide --given=low=narrow.wav --conditions=digit=7

The first trains, and goes on where it stopped; stages may be trained by several processes side by side. The second
samples. The third gives a recording in place of what a stage makes, and the finer stages make the rest: bandwidth
extension. Without --conditions all combinations of the labels come in turn.
"""

import pathlib

import command
from absl import flags

CONFIG = command.define_config(required=False)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the cascade.", required=True)
STAGES = flags.DEFINE_list("stages", [], "Which stages to train (default: all, from the coarsest).")
MAX_MINUTES = flags.DEFINE_float("max_minutes", None, "Save and stop a stage after so many minutes; rerun to go on.")
OUT = flags.DEFINE_string("out", None, "Folder to write samples to.")
NUM = flags.DEFINE_integer("num", 60, "How many clips.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch", 60, "Clips at a time.", lower_bound=1)
STEPS = flags.DEFINE_string("steps", "", "Steps of the sampler by stage, as low=10,fine=4 (default: the configs').")
CONDITIONS = flags.DEFINE_string("conditions", "", "Values to hold, as digit=7,speaker=theo.")
GIVEN = flags.DEFINE_string("given", "", "Recordings in place of stages, as low=narrow.wav.")
SEED = flags.DEFINE_integer("seed", 0, "Seed; clip i is drawn from (seed, i).")


def main() -> None:
    """Train where there is a config, and sample where there is a folder to write to."""
    from audiodiff.build.cascade import train_cascade
    from audiodiff.build.cascade_samples import write_cascade_samples

    workdir = pathlib.Path(WORKDIR.value)
    if CONFIG.value is None and OUT.value is None:
        raise ValueError("nothing to do: give --config to train, --out to sample, or both")
    if CONFIG.value is not None:
        train_cascade(command.plain(CONFIG.value), workdir, tuple(STAGES.value), max_minutes=MAX_MINUTES.value)
    if OUT.value is not None:
        path = write_cascade_samples(
            workdir,
            pathlib.Path(OUT.value),
            count=NUM.value,
            batch=BATCH.value,
            seed=SEED.value,
            fixed=command.pairs("conditions", CONDITIONS.value),
            steps={stage: int(count) for stage, count in command.pairs("steps", STEPS.value).items()},
            given=command.pairs("given", GIVEN.value),
        )
        print(f"wrote {NUM.value} clips and {path}")


if __name__ == "__main__":
    command.run(main)
