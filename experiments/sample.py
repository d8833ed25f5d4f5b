"""Generate audio files from a trained model.

    python experiments/sample.py --workdir=runs/digits_cpu --out=samples --num=60
    python experiments/sample.py --workdir=runs/digits_cpu --out=samples --num=4 --conditions=digit=7,speaker=theo
    python experiments/sample.py --workdir=runs/digits_cpu --out=guided --guide=runs/judge_digits --guide_scale=2
    python experiments/sample.py --workdir=runs/sustained_16k_gpu --out=minutes --num=1 --seconds=60

Without --conditions all combinations of the labels come in turn. A file's name begins with its labels, 7_theo_0.wav;
samples.json says how each was made. Clip i depends on --seed and i alone, whatever --num and --batch are. With
--guide a judge leads towards the labels, and experiments/evaluate.py takes any judge but that one. With --seconds a
clip is as long as that, made in chunks of the length of training, each the continuation of the one before.
"""

import pathlib

import command
from absl import flags

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder to write to.", required=True)
NUM = flags.DEFINE_integer("num", 60, "How many clips.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", None, "Steps of the sampler (default: the config's).", lower_bound=1)
SAMPLER = flags.DEFINE_string("sampler", None, "Sampler (default: the config's).")
GUIDANCE = flags.DEFINE_float("guidance", None, "Guidance strength, 1 for none (default: the config's).")
GUIDE = flags.DEFINE_string("guide", None, "Folder of a judge that leads towards the labels (default: none does).")
GUIDE_SCALE = flags.DEFINE_float("guide_scale", None, "How strongly the judge leads (default: 1); 0 is not at all.")
SECONDS = flags.DEFINE_float("seconds", None, "Length of the clips (default: that of training).", lower_bound=0)
OVERLAP = flags.DEFINE_integer("overlap_samples", None, "Samples that two chunks share (default: half a chunk).")
SEED = flags.DEFINE_integer("seed", 0, "Seed; clip i is drawn from (seed, i).")
BATCH = flags.DEFINE_integer("batch", 60, "Clips at a time.", lower_bound=1)
EMA = flags.DEFINE_string(
    "ema", "default", "Moving average of the weights: a name, none, or a length such as 0.1 made of snapshots."
)
CONDITIONS = flags.DEFINE_string("conditions", "", "Values to hold, as digit=7,speaker=theo.")


def average(text: str) -> str | float | None:
    """Read default, a name, none or a relative length."""
    try:
        return float(text)
    except ValueError:
        return None if text == "none" else text


def main() -> None:
    """Sample and write."""
    from audiodiff.build.run import load_judge, load_run
    from audiodiff.build.samples import write_samples

    path = write_samples(
        load_run(WORKDIR.value, ema=average(EMA.value)),
        pathlib.Path(OUT.value),
        count=NUM.value,
        batch=BATCH.value,
        seed=SEED.value,
        fixed=command.pairs("conditions", CONDITIONS.value),
        sampler=SAMPLER.value,
        steps=STEPS.value,
        guidance=GUIDANCE.value,
        guide=load_judge(GUIDE.value) if GUIDE.value else None,
        guide_scale=1.0 if GUIDE_SCALE.value is None else GUIDE_SCALE.value,
        seconds=SECONDS.value,
        overlap_samples=OVERLAP.value,
    )
    print(f"wrote {NUM.value} clips and {path}")


if __name__ == "__main__":
    command.run(main)
