"""Whether data keep up: steps of the digits on FSDD beside steps on one batch that stays; files read a second."""

from __future__ import annotations

import functools
import itertools
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import soundfile
from measure import Reading, in_turn, median_ratio, median_speed, seconds
from sampling import CONDITIONS, SAMPLES, digits_model
from startup import fsdd

from audiodiff import prng
from audiodiff.build.data import make_data
from audiodiff.build.experiment import make_training_optimiser
from audiodiff.data.layouts import scan_folder
from audiodiff.data.manifest import ManifestSource
from audiodiff.data.normalisation import Preparation
from audiodiff.data.pipeline import Batches
from audiodiff.training import initialise, make_strategy
from audiodiff.training.prefetch import Prefetch
from audiodiff.training.state import init_state
from audiodiff.training.step import Constants, as_pytree, make_step
from audiodiff.types import Context

FILES, BATCH, RATE_HZ, STEPS = 400, 8, 8000, 10


def write_clips(folder: pathlib.Path) -> None:
    """Write noise as 16-bit WAV files of a quarter of a second to one."""
    rng = np.random.default_rng(0)
    for index in range(FILES):
        samples = int(rng.integers(SAMPLES // 4, SAMPLES))
        soundfile.write(folder / f"{index}.wav", 0.1 * rng.normal(size=samples), RATE_HZ, subtype="PCM_16")


def measure(rounds: int) -> list[Reading]:
    """Measure both. The first needs FSDD."""
    return beside_a_batch_that_stays(rounds) + alone(rounds)


def beside_a_batch_that_stays(rounds: int) -> list[Reading]:
    """Time steps of the digits' training as its loop takes them, clips of one length, with the loader and without."""
    if (root := fsdd()) is None:
        return []
    model, params, config = digits_model()
    sets = make_data({**config["data"], "root": str(root), "bucket_samples": ()})
    batches = Batches(sets.split("train"), sets.preparation, batch_size=2 * BATCH, seed=0)
    optimiser = make_training_optimiser(config)
    plan = make_strategy(devices=1, batch_size=2 * BATCH)
    state = initialise(plan, lambda params: init_state(params, optimiser.transform, {}), params)
    step = plan.compile(make_step(optimiser), state)
    constants = plan.place_constants(Constants(as_pytree(model.objective), prng.stream(0, "train")))
    held = {"state": plan.place(state)}
    resident = plan.place_batch(batches[0])

    def take(stream: Iterator[Any]) -> float:
        def once() -> None:
            held["state"], measured = step(held["state"], next(stream), constants)
            held["loss"] = measured["loss"]

        once()
        jax.block_until_ready(held)
        begin = time.perf_counter()
        for _ in range(STEPS):
            once()
        jax.block_until_ready(held)
        return time.perf_counter() - begin

    def loaded() -> float:
        with Prefetch(batches.iterate(0), plan.place_batch) as feed:
            return take(feed)

    times = in_turn({"loaded": loaded, "resident": lambda: take(itertools.repeat(resident))}, rounds)
    note = f"{1e3 * np.median(times['resident']) / STEPS:.0f} ms a step of {2 * BATCH} clips"
    ratio = median_ratio("loading: steps on FSDD to steps on one batch", times["loaded"], times["resident"], note)
    return [Reading(ratio, at_most=1.03, more_is_better=False)]


def alone(rounds: int) -> list[Reading]:
    """Time batches as the training loop draws them, from files, in turn with the gradient that they feed."""
    model, params, _ = digits_model()
    batch = {"audio": jnp.ones((BATCH, SAMPLES)), "draw": jnp.arange(BATCH), **CONDITIONS}

    @jax.jit
    def gradient(params):
        context = Context(jax.random.key(0), jnp.zeros((), jnp.int32), {}, None)
        return jax.grad(lambda p: jnp.mean(model.objective(p, context, batch)[0]))(params)

    with tempfile.TemporaryDirectory() as folder:
        write_clips(pathlib.Path(folder))
        source = ManifestSource(scan_folder(folder), RATE_HZ)
        stream = iter(Batches(source, Preparation(SAMPLES), batch_size=BATCH, seed=0).iterate())
        timed = {
            "batch": functools.partial(seconds, lambda: next(stream), calls=50),
            "step": functools.partial(seconds, lambda: gradient(params)),
        }
        times = in_turn(timed, rounds)
    share = median_ratio("loading: time of a batch to that of its step", times["batch"], times["step"])
    return [
        Reading(share, at_most=0.1, more_is_better=False),
        median_speed(
            "loading: audio read", BATCH * SAMPLES / RATE_HZ, times["batch"], "s/s", "one thread, WAV of 16 bit"
        ),
    ]
