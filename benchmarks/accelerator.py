"""What an accelerator makes of the digits' config for one: a training step in bfloat16, sampling, memory."""

from __future__ import annotations

import sys
import time
from typing import Any

import jax
import numpy as np
from ceilings import matmul_flops
from measure import Reading, counted, in_turn, median_speed, seconds
from sampling import RATE_HZ, SAMPLES, digits_model, sampler_of

from audiodiff import prng
from audiodiff.build.experiment import make_averages, make_training_optimiser
from audiodiff.training import make_strategy
from audiodiff.training.programs import Programs
from audiodiff.training.state import init_state
from audiodiff.training.step import Constants, as_pytree, make_step

SIZE, STEPS = 8192, 20


def measure(rounds: int) -> list[Reading]:
    """Measure on one device of an accelerator; a CPU is too slow for this size."""
    if jax.default_backend() == "cpu":
        print("accelerator: there is none here, so nothing was measured", file=sys.stderr)
        return []
    ceiling = matmul_flops("bfloat16", SIZE)
    return [ceiling, *training("gpu", rounds, 1e9 * ceiling.figure.value), *sampling("gpu", rounds)]


def training(arg: str, rounds: int, matmul_rate: float) -> list[Reading]:
    """Time steps of a config's whole batch, clips of one length: MFU, seconds of audio a second, memory."""
    model, params, config = digits_model(arg)
    batch_size, averages = config["training"]["batch_size"], make_averages(config["training"]["ema"])
    optimiser, plan = make_training_optimiser(config), make_strategy(devices=1, batch_size=batch_size)
    state = plan.init(lambda params: init_state(params, optimiser.transform, averages), params)
    programs = Programs(plan.compile(make_step(optimiser, ema=averages), state), samples_per_second=RATE_HZ)
    constants = plan.place_constants(Constants(as_pytree(model.objective), prng.stream(0, "train")))
    draw = np.arange(batch_size, dtype=np.int32)
    audio = 0.1 * np.random.default_rng(0).normal(size=(batch_size, SAMPLES)).astype(np.float32)
    labels = {"digit": draw % 10, "speaker": draw % 6}
    weight = np.ones(batch_size, np.float32)
    batch = plan.place_batch({"audio": audio, "draw": draw, "weight": weight, **labels})
    program = programs.compile(state, batch, constants)
    held: dict[str, Any] = {"state": state}

    def steps() -> float:
        begin = time.perf_counter()
        for _ in range(STEPS):
            held["state"], held["measured"] = program.run(held["state"], batch, constants)
        jax.block_until_ready(held)
        return (time.perf_counter() - begin) / STEPS

    times = in_turn({"step": steps}, rounds)["step"]
    note, cost, work = f"{batch_size} clips of {SAMPLES} samples, {config['dtype']}", program.cost, program.work
    share = cost.flops / float(np.median(times)) / matmul_rate
    return [
        median_speed("training: rate", cost.flops / 1e12, times, "TFLOP/s", note),
        Reading(counted("training: MFU, share of the measured matmul rate", 100 * share, "%", note), "speed"),
        median_speed("training: audio", work.audio_s, times, "s/s", note),
        Reading(counted("training: memory for state and batch", cost.state_bytes / 1e9, "GB", note), "count"),
        Reading(counted("training: memory while it works", cost.work_bytes / 1e9, "GB", note), "count"),
    ]


def sampling(arg: str, rounds: int) -> list[Reading]:
    """Time the config's own sampler on 64 clips, guided."""
    clips = 64
    model, params, config = digits_model(arg)
    draw = sampler_of(model, params, config, clips=clips, steps=config["sampler"]["steps"])
    times = in_turn({"sample": lambda: seconds(draw)}, rounds)["sample"]
    note = f"{config['sampler']['name']}, {config['sampler']['steps']} steps, guided, {clips} clips"
    return [median_speed("sampling: audio", clips * SAMPLES / RATE_HZ, times, "s/s", note)]
