"""Generate audio files from a trained model.

    python experiments/sample.py --workdir=runs/digits_cpu --out=samples --num=60
    python experiments/sample.py --workdir=runs/digits_cpu --out=samples --num=4 --conditions=digit=7,speaker=theo

Without --conditions all combinations of the labels come in turn. A file's name begins with its labels, 7_theo_0.wav;
samples.json says how each was made. Clip i depends on --seed and i alone, whatever --num and --batch are.
"""

import json
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
    import jax.numpy as jnp
    import numpy as np

    import audiodiff
    from audiodiff import prng
    from audiodiff.build.experiment import all_combinations
    from audiodiff.build.run import Run
    from audiodiff.data import write_audio

    run = audiodiff.load(WORKDIR.value)
    if not isinstance(run, Run):
        raise ValueError(f"{WORKDIR.value} holds a judge, which generates nothing: name the workdir of a model")
    fixed = dict(part.partition("=")[::2] for part in CONDITIONS.value.split(",") if part)
    run.encode_conditions({**{name: labels[0] for name, labels in run.vocabularies.items()}, **fixed})  # checks them
    combinations = all_combinations({n: (fixed[n],) if n in fixed else v for n, v in run.vocabularies.items()})

    out = pathlib.Path(OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    key = prng.stream(SEED.value, "sample")
    made = []
    for begin in range(0, NUM.value, BATCH.value):
        numbers = np.arange(begin, begin + min(BATCH.value, NUM.value))  # one shape, one compile
        labels = [combinations[i % len(combinations)] for i in numbers]
        conditions = {name: [one[name] for one in labels] for name in run.vocabularies}
        clips = run.sample(
            prng.per_example(key, jnp.asarray(numbers)),
            conditions,
            steps=STEPS.value,
            sampler=SAMPLER.value,
            guidance=GUIDANCE.value,
        )
        for i, one, clip in list(zip(numbers.tolist(), labels, clips, strict=True))[: NUM.value - begin]:
            take = i // len(combinations)
            name = "_".join((*one.values(), str(take))) + ".wav"
            gain = write_audio(out / name, clip, run.facts.rate_hz, peak="scale")
            made.append({"file": name, "conditions": one, "number": i, "seed": SEED.value, "gain": gain})
        print(f"{min(begin + BATCH.value, NUM.value)} of {NUM.value} clips", flush=True)
    settings = run.config["sampler"]
    record = {
        "workdir": str(run.workdir.name),
        "step": run.step,
        "weights_hash": run.weights_hash,
        "rate_hz": run.facts.rate_hz,
        "sampler": SAMPLER.value or settings["name"],
        "steps": STEPS.value or settings["steps"],
        "guidance": settings["guidance"] if GUIDANCE.value is None else GUIDANCE.value,
        "samples": made,
    }
    (out / "samples.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {NUM.value} clips and samples.json to {out}")


if __name__ == "__main__":
    command.run(main, needs=("workdir", "out"))
