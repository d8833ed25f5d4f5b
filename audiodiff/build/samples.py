"""Write samples of a run as files, named by their conditions, with samples.json beside them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np

from audiodiff import prng
from audiodiff.build.run import Run
from audiodiff.data import write_audio

SAMPLES_FILE = "samples.json"


def all_combinations(vocabularies: Mapping[str, tuple[str, ...]]) -> list[dict[str, str]]:
    """List every combination of labels, the first condition turning slowest."""
    combinations: list[dict[str, str]] = [{}]
    for name, labels in vocabularies.items():
        combinations = [{**one, name: label} for one in combinations for label in labels]
    return combinations


def write_samples(
    run: Run,
    out: pathlib.Path,
    *,
    count: int,
    batch: int = 60,
    seed: int = 0,
    fixed: Mapping[str, str] | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    guidance: float | None = None,
    say: Callable[[str], None] = print,
) -> pathlib.Path:
    """Generate ``count`` clips of all combinations of labels in turn, those in ``fixed`` held; return samples.json's path.

    Clip i is drawn from (seed, i) alone. A file is named by its labels in the data set's order and its take,
    ``7_theo_0.wav``; one that exceeds full scale is scaled down to it, and the gain is noted.
    Raises ConfigError for unknown conditions, labels or samplers.
    """
    held = dict(fixed or {})
    run.encode_conditions({**{name: labels[0] for name, labels in run.vocabularies.items()}, **held})
    choices = {name: (held[name],) if name in held else labels for name, labels in run.vocabularies.items()}
    combinations = all_combinations(choices)
    out.mkdir(parents=True, exist_ok=True)
    key = prng.stream(seed, "sample")
    batch = min(batch, count)
    made = []
    for begin in range(0, count, batch):
        # Always whole batches: one shape, one compile.
        numbers = np.arange(begin, begin + batch)
        labels = [combinations[i % len(combinations)] for i in numbers]
        conditions = {name: [one[name] for one in labels] for name in choices}
        clips = run.sample(
            prng.per_example(key, jnp.asarray(numbers)), conditions, steps=steps, sampler=sampler, guidance=guidance
        )
        for i, one, clip in list(zip(numbers.tolist(), labels, clips, strict=True))[: count - begin]:
            name = "_".join((*one.values(), str(i // len(combinations)))) + ".wav"
            gain_db = write_audio(out / name, clip, run.facts.rate_hz, peak="scale")
            made.append({"file": name, "conditions": one, "number": i, "gain_db": gain_db})
        say(f"{min(begin + batch, count)} of {count} clips")
    settings = run.config["sampler"]
    record = {
        "run": run.workdir.name,
        "step": run.step,
        "weights_hash": run.weights_hash,
        "rate_hz": run.facts.rate_hz,
        "seed": seed,
        "sampler": sampler or settings["name"],
        "steps": steps or settings["steps"],
        "guidance": settings["guidance"] if guidance is None else guidance,
        "samples": made,
    }
    path = out / SAMPLES_FILE
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path
