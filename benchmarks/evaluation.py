"""Whether an evaluation costs less than what it evaluates: 600 clips of a second, made in 20 steps, then scored.

The model is that of the digits, unguided, which is the cheaper way to make them; the judge is theirs too. Neither is
trained: weights do not change what a program costs. The clips that are scored, and the 2,700 and 300 real ones beside
them, are generated sounds.
"""

from __future__ import annotations

import functools
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from command import plain
from measure import Reading, in_turn, median_ratio, median_speed, seconds
from sampling import CONDITIONS, RATE_HZ, SAMPLES, digits_model, sampler_of

from audiodiff.build.model import Facts, judge_classes, make_judge
from audiodiff.data.embedded import EmbeddedSounds
from audiodiff.data.sources import ConditionInfo
from audiodiff.evaluation.judge import Judge
from audiodiff.evaluation.report import AudioPair, Report, write_report
from audiodiff.evaluation.score import Clips, score
from configs import judge_digits

CLIPS, BATCH, STEPS, PAIRS = 600, 60, 20, 12
TRAIN, TEST = 2700, 300
LABELS = {"digit": 10, "speaker": 6}


def untrained_judge() -> Judge:
    """Return the digits' judge with weights drawn anew."""
    infos = {name: ConditionInfo("label", tuple(map(str, range(size)))) for name, size in LABELS.items()}
    facts = Facts(RATE_HZ, 1, SAMPLES, 1.0, 0.0, infos, "")
    objective = make_judge(plain(judge_digits.get_config()), facts)
    params = objective.init(jax.random.key(0), {"audio": jnp.zeros((1, SAMPLES)), **CONDITIONS})
    return Judge(objective, params, {name: judge_classes(facts, name) for name in LABELS}, RATE_HZ, "untrained")


def sounds(count: int, seed: int) -> Clips:
    """Return so many generated sounds, labelled in turn."""
    source = EmbeddedSounds(count, seed, RATE_HZ, SAMPLES)
    audio = np.stack([source[index]["audio"][:, 0] for index in range(count)])
    return Clips(audio, {name: np.arange(count) % size for name, size in LABELS.items()}, RATE_HZ)


def evaluate(judge: Judge, generated: Clips, train: Clips, test: Clips, folder: pathlib.Path) -> None:
    """Score clips and write their report, as experiments/evaluate.py does."""
    rows = score(judge, generated, train, test, jax.random.key(0))
    pairs = [AudioPair(f"clip {i}", test.audio[i], generated.audio[i], RATE_HZ) for i in range(PAIRS)]
    write_report(folder / "index.html", Report("Evaluation", "", figures=rows, pairs=pairs))


def measure(rounds: int) -> list[Reading]:
    """Measure the ratio, and how many clips a second are evaluated."""
    model, params, config = digits_model()
    make = sampler_of(model, params, config, clips=BATCH, steps=STEPS, scale=1.0)
    generated, train, test = (sounds(count, seed) for seed, count in enumerate((CLIPS, TRAIN, TEST)))
    with tempfile.TemporaryDirectory() as folder:
        run = functools.partial(evaluate, untrained_judge(), generated, train, test, pathlib.Path(folder))
        times = in_turn({"make": functools.partial(seconds, make), "evaluate": functools.partial(seconds, run)}, rounds)
    making = times["make"] * (CLIPS / BATCH)
    note = f"{np.median(times['evaluate']):.1f} s against {np.median(making):.0f} s, of which {BATCH} clips were timed"
    ratio = median_ratio("evaluation of 600 clips to their generation in 20 steps", times["evaluate"], making, note)
    return [
        Reading(ratio, at_most=1.0, more_is_better=False),
        median_speed("clips evaluated", CLIPS, times["evaluate"], "/s"),
    ]
