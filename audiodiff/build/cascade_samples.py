"""Write samples of a cascade as files, named by their conditions, with samples.json beside them."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from audiodiff import data
from audiodiff.build.cascade import Cascade, load_cascade
from audiodiff.build.choices import ConfigError, choose
from audiodiff.build.samples import SAMPLES_FILE, combinations, write_clips
from audiodiff.data.normalisation import audible_gain_db
from audiodiff.training.workdir import write_json
from audiodiff.types import Array


def write_cascade_samples(
    workdir: pathlib.Path,
    out: pathlib.Path,
    *,
    count: int,
    batch: int = 60,
    seed: int = 0,
    fixed: Mapping[str, str] | None = None,
    steps: Mapping[str, int] | None = None,
    given: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> pathlib.Path:
    """Generate ``count`` clips of all combinations of labels in turn, those in ``fixed`` held.

    Clip i is drawn from (seed, i) alone. ``given`` has the paths of recordings that stand in for stages: they are
    brought to the cascade's rate, level and length, so that only what is in the band of the stage is heard of them.
    Returns the path of samples.json, which is written last. Raises ConfigError for unknown stages and conditions, and
    for recordings longer than the cascade's clips.
    """
    cascade = load_cascade(workdir)
    for stage in (*(steps or {}), *(given or {})):
        choose("stage", stage, cascade.runs)
    turns = _turns(cascade, dict(fixed or {}))
    recorded = {stage: _recording(cascade, pathlib.Path(path)) for stage, path in (given or {}).items()}

    def draw(keys: Array, conditions: Mapping[str, list[str]]) -> np.ndarray:
        told = {stage: np.repeat(audio[None], len(keys), axis=0) for stage, audio in recorded.items()}
        return cascade.sample(keys, conditions, steps=steps, given=told)

    made = write_clips(out, draw, turns, count, batch, seed, cascade.last.facts.rate_hz, say)
    record = {
        "stages": {stage: {"step": run.step, "weights_hash": run.weights_hash} for stage, run in cascade.runs.items()},
        "rate_hz": cascade.last.facts.rate_hz,
        "seed": seed,
        "steps": dict(steps or {}),
        "given": dict(given or {}),
        "samples": made,
    }
    write_json(out / SAMPLES_FILE, record)
    return out / SAMPLES_FILE


def _turns(cascade: Cascade, fixed: dict[str, str]) -> list[dict[str, str]]:
    """Return the combinations of labels that come in turn, over the conditions of all stages."""
    choices: dict[str, tuple[str, ...]] = {}
    for run in cascade.runs.values():
        choices |= {name: run.vocabularies.get(name, ()) for name in run.conditions}
    for name, value in fixed.items():
        known = choose("condition", name, choices)
        if known:
            choose(f"value of condition {name!r}", value, dict.fromkeys(known))
    if missing := [name for name, values in choices.items() if not values and name not in fixed]:
        raise ConfigError(f"condition {missing[0]!r} is not one of a few labels: give it a value, as {missing[0]}=1")
    return combinations(choices | {name: (value,) for name, value in fixed.items()})


def _recording(cascade: Cascade, path: pathlib.Path) -> np.ndarray:
    """Return a recording as the stages know sound: at their rate, level and length."""
    facts = cascade.last.facts
    audio = data.read_audio(path, facts.rate_hz, channels=facts.channels)
    if len(audio) > facts.length_samples:
        raise ConfigError(f"{path} has {len(audio)} samples and the cascade's clips {facts.length_samples}: cut it")
    target = cascade.last.config["data"]["target_dbfs"]
    scaled = audio * 10 ** (audible_gain_db(audio, target) / 20)
    padded = np.pad(scaled, ((0, facts.length_samples - len(audio)), (0, 0))).astype(np.float32)
    return padded[:, 0] if facts.channels == 1 else padded
