"""Generate audio files from a trained model.

    python experiments/sample.py --workdir=runs/digits_cpu --out=samples --num=60
    python experiments/sample.py --workdir=runs/digits_cpu --out=samples --num=4 --conditions=digit=7,speaker=theo

Without --conditions all combinations of the labels come in turn. A file's name begins with its labels, 7_theo_0.wav;
samples.json says how each was made. Clip i depends on --seed and i alone, whatever --num and --batch are.
"""

import pathlib

import command
from absl import flags

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
OUT = flags.DEFINE_string("out", None, "Folder to write to.")
NUM = flags.DEFINE_integer("num", 60, "How many clips.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", None, "Steps of the sampler (default: the config's).", lower_bound=1)
SAMPLER = flags.DEFINE_string("sampler", None, "Sampler (default: the config's).")
GUIDANCE = flags.DEFINE_float("guidance", None, "Guidance strength, 1 for none (default: the config's).")
SEED = flags.DEFINE_integer("seed", 0, "Seed; clip i is drawn from (seed, i).")
BATCH = flags.DEFINE_integer("batch", 60, "Clips at a time.", lower_bound=1)
CONDITIONS = flags.DEFINE_string("conditions", "", "Fixed labels, as digit=7,speaker=theo.")


def main() -> None:
    """Sample and write."""
    import audiodiff
    from audiodiff.build.run import Run
    from audiodiff.build.samples import write_samples

    run = audiodiff.load(WORKDIR.value)
    if not isinstance(run, Run):
        raise ValueError(f"{WORKDIR.value} holds a judge, which generates nothing: name the workdir of a model")
    path = write_samples(
        run,
        pathlib.Path(OUT.value),
        count=NUM.value,
        batch=BATCH.value,
        seed=SEED.value,
        fixed=dict(part.partition("=")[::2] for part in CONDITIONS.value.split(",") if part),
        steps=STEPS.value,
        sampler=SAMPLER.value,
        guidance=GUIDANCE.value,
    )
    print(f"wrote {NUM.value} clips and {path}")


if __name__ == "__main__":
    command.run(main, needs=("workdir", "out"))
