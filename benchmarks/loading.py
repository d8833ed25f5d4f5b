"""Whether data keep up: batches of short WAV files, read and prepared, beside the gradient of the digits' network."""

from __future__ import annotations

import functools
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import soundfile
from measure import Reading, in_turn, median_ratio, median_speed, seconds
from sampling import CONDITIONS, SAMPLES, digits_model

from audiodiff.data.layouts import scan_folder
from audiodiff.data.manifest import ManifestSource
from audiodiff.data.normalisation import Preparation
from audiodiff.data.pipeline import Batches
from audiodiff.training.step import Context

FILES, BATCH, RATE_HZ = 400, 8, 8000


def write_clips(folder: pathlib.Path) -> None:
    """Write noise as 16-bit WAV files of a quarter of a second to one."""
    rng = np.random.default_rng(0)
    for index in range(FILES):
        samples = int(rng.integers(SAMPLES // 4, SAMPLES))
        soundfile.write(folder / f"{index}.wav", 0.1 * rng.normal(size=samples), RATE_HZ, subtype="PCM_16")


def measure(rounds: int) -> list[Reading]:
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
