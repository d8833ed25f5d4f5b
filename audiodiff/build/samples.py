"""Write samples of a run as files, named by their conditions, with samples.json beside them."""

from __future__ import annotations

import functools
import itertools
import math
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from audiodiff import prng
from audiodiff.build.choices import ConfigError
from audiodiff.build.run import Run
from audiodiff.data import write_audio
from audiodiff.evaluation.judge import Judge
from audiodiff.training.workdir import config_hash, write_json

SAMPLES_FILE = "samples.json"


def combinations(choices: Mapping[str, tuple[str, ...]]) -> list[dict[str, str]]:
    """List every combination of the conditions' values, the first condition turning slowest."""
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def write_samples(
    run: Run,
    out: pathlib.Path,
    *,
    count: int,
    batch: int = 60,
    seed: int = 0,
    fixed: Mapping[str, str] | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    guide: Judge | None = None,
    guide_scale: float = 1.0,
    seconds: float | None = None,
    overlap_samples: int | None = None,
    say: Callable[[str], None] = print,
) -> pathlib.Path:
    """Generate ``count`` clips of all combinations of labels in turn, those in ``fixed`` held.

    Clip i is drawn from (seed, i) alone, and with ``seconds`` as long as that, in chunks that overlap by
    ``overlap_samples`` (:meth:`Run.sample_long`). A file is named by its values in the data set's order and its take,
    ``7_theo_0.wav``; one that exceeds full scale is scaled down to it, and the gain is noted. A ``guide`` leads as
    :meth:`Run.sample` says, and ``fixed`` may hold labels that it alone hears.
    Returns the path of samples.json, which says how each was made and is written last.
    Raises ConfigError for unknown conditions, labels or samplers, for a guide that does not fit or is to lead chunks,
    and for chunks that cannot be, ValueError for a clip that is not finite.
    """
    if guide and seconds is not None:
        raise ConfigError(f"a guide hears whole clips and {seconds:g} s are made in chunks: give seconds or a guide")
    if overlap_samples is not None and seconds is None:
        raise ConfigError(f"overlap_samples {overlap_samples} is of chunks, and none are made: give seconds too")
    turns = _turns(run, dict(fixed or {}), guide)
    draw: Callable[..., np.ndarray] = functools.partial(run.sample, guide=guide, guide_scale=guide_scale)
    if seconds is not None:
        draw = functools.partial(run.sample_long, seconds=seconds, overlap_samples=overlap_samples)
    draw = functools.partial(draw, sampler=sampler, steps=steps, guidance=guidance)
    made = write_clips(out, draw, turns, count, batch, seed, run.facts.rate_hz, say)
    settings = run.settings(sampler=sampler, steps=steps, guidance=guidance)
    settings["guidance_interval"] = [b if math.isfinite(b) else None for b in settings["guidance_interval"]]
    record = {
        "run": run.workdir.name,
        "config_hash": config_hash(run.config),
        "step": run.step,
        "weights_hash": run.weights_hash,
        "rate_hz": run.facts.rate_hz,
        "seed": seed,
        "sampler": settings,
        "guided_by": guide.weights_hash if guide else None,
        "guide_scale": guide_scale if guide else None,
        "seconds": seconds,
        "overlap_samples": overlap_samples,
        "samples": made,
    }
    write_json(out / SAMPLES_FILE, record)
    return out / SAMPLES_FILE


def write_clips(
    out: pathlib.Path,
    draw: Callable[..., np.ndarray],
    turns: Sequence[Mapping[str, str]],
    count: int,
    batch: int,
    seed: int,
    rate_hz: int,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Write ``count`` clips of ``draw(keys [batch], conditions)``, their conditions in turn; return what each is.

    Clip i is drawn from (seed, i) alone.
    """
    key, batch = prng.stream(seed, "sample"), min(batch, count)
    made: list[dict[str, Any]] = []
    for begin in range(0, count, batch):
        numbers = np.arange(begin, begin + batch)  # whole batches: one shape, one compile
        asked = [turns[int(number) % len(turns)] for number in numbers]
        conditions = {name: [one[name] for one in asked] for name in turns[0]}
        clips = draw(prng.per_example(key, jnp.asarray(numbers)), conditions)
        for number, values, clip in list(zip(numbers.tolist(), asked, clips, strict=True))[: count - begin]:
            name = file_name(values, number // len(turns))
            gain_db = write_audio(out / name, clip, rate_hz, peak="scale")
            made.append({"file": name, "conditions": values, "number": number, "gain_db": gain_db})
        say(f"{min(begin + batch, count)} of {count} clips")
    return made


def file_name(values: Mapping[str, str], take: int) -> str:
    """Name a clip by its conditions and take; what a file name cannot hold is written as %XX.

    >>> file_name({"digit": "7", "speaker": "theo"}, 0)
    '7_theo_0.wav'
    """
    safe = [re.sub(r"[^\w .+-]|^\.", lambda match: f"%{ord(match[0]):02X}", value[:40]) for value in values.values()]
    return "_".join((*safe, str(take))) + ".wav"


def _turns(run: Run, fixed: dict[str, str], guide: Judge | None) -> list[dict[str, str]]:
    """Return the combinations of values that come in turn, checked."""
    for name in run.conditions:
        if name not in fixed and name not in run.vocabularies:
            kind = run.facts.conditions[name].kind
            raise ConfigError(f"condition {name!r} is a {kind}, not one of a few labels: give it a value, as {name}=1")
    choices = {name: run.vocabularies.get(name, ()) for name in run.conditions}
    turns = combinations(choices | {name: (value,) for name, value in fixed.items()})
    run.encode_conditions(turns[0], guide=guide)
    return turns
