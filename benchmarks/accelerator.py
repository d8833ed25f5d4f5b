"""What one accelerator makes of training in bfloat16, of sampling and of log-mels, beside its measured ceilings.

Each reading is given as soon as it is known, so that a run that is cut short keeps what came before. FLOPs are those of
the networks' products and convolutions, three forward passes a step: work done twice to save memory counts once.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mel
import networks
import numpy as np
from ceilings import copy_speed, matmul_flops
from measure import Reading, counted, in_turn, median_ratio, median_speed, median_time, queued, seconds
from sampling import RATE_HZ, SAMPLES, digits_model, labels_of, network_alone, sampler_of

from audiodiff import prng
from audiodiff.build.experiment import make_averages, make_training_optimiser
from audiodiff.training import initialise, make_strategy
from audiodiff.training.state import init_state
from audiodiff.training.step import Constants, as_pytree, make_step
from audiodiff.types import Context

SIZE, DIGITS, CLIPS, MEL_CLIPS = 8192, "gpu", (128, 1), 256
PEER_BATCH, PEER_RATES_HZ = 16, {"diffwave": 22_050, "unet": 48_000}
"""The table's batch of 4 leaves an accelerator idle. The U-Net has no rate of its own: any turns samples to seconds."""
ROUND_S = 0.5
"""How long a round of steps is to last."""


class Training(NamedTuple):
    """Hold a jitted step (state, *rest) -> (state, measured), its work, and whose it is."""

    name: str
    step: Any
    state: Any
    rest: tuple[Any, ...]
    flops: float
    audio_s: float
    rate_hz: int
    note: str


def measure(rounds: int) -> Iterator[Reading]:
    """Measure on one device of an accelerator; a CPU is too slow for these sizes."""
    if jax.default_backend() == "cpu":
        print("accelerator: there is none here, so nothing was measured", file=sys.stderr)
        return
    ceiling = matmul_flops("bfloat16", SIZE, calls=20)
    yield ceiling
    yield matmul_flops("float32", SIZE, calls=10)
    yield matmul_flops("float32", SIZE, calls=3, precision="highest")
    yield copy_speed(2048, calls=10)
    rate = 1e9 * ceiling.figure.value
    yield from tried(
        "training the digits", functools.partial(training, functools.partial(digits, DIGITS), rounds, rate)
    )
    for clips in CLIPS:
        yield from tried(f"sampling {clips}", functools.partial(sampling, DIGITS, clips, rounds))
    yield from tried("log-mel", lambda: [mel.speed(MEL_CLIPS, rounds, calls=10)])
    for name in networks.CASES:
        yield from tried(name, functools.partial(training, functools.partial(peer, name), rounds, rate))


def tried(name: str, part: Callable[[], Iterable[Reading]]) -> Iterator[Reading]:
    """Yield what a part measures; where the device refuses it, for want of memory say, tell so and go on."""
    try:
        yield from part()
    except jax.errors.JaxRuntimeError as error:
        print(f"accelerator: {name} was left out: {error}", file=sys.stderr)


def digits(arg: str) -> Training:
    """Return a config's step on its whole batch, clips of one length, with its optimiser and averages."""
    model, params, config = digits_model(arg)
    size, averages = config["training"]["batch_size"], make_averages(config["training"]["ema"])
    optimiser, plan = make_training_optimiser(config), make_strategy(devices=1, batch_size=size)
    audio = 0.1 * np.random.default_rng(0).normal(size=(size, SAMPLES)).astype(np.float32)
    weight, draw = np.ones(size, np.float32), np.arange(size, dtype=np.int32)
    labels = {name: np.asarray(label) for name, label in labels_of(size).items()}
    batch = plan.place_batch({"audio": audio, "draw": draw, "weight": weight, **labels})
    constants = plan.place_constants(Constants(as_pytree(model.objective), prng.stream(0, "train")))
    context = Context(constants.key, jnp.zeros((), jnp.int32), {}, None)
    forward = jax.make_jaxpr(lambda params: model.objective(params, context, batch)[0])(params)
    state = initialise(plan, lambda params: init_state(params, optimiser.transform, averages), params)
    step = plan.compile(make_step(optimiser, ema=averages), state)
    note, flops = f"{size} clips of {SAMPLES} samples, {config['dtype']}", 6 * networks.macs(forward.jaxpr)
    return Training(f"digits:{arg}", step, state, (batch, constants), flops, size * SAMPLES / RATE_HZ, RATE_HZ, note)


def peer(name: str) -> Training:
    """Return the step of a network of the peers' table, in bfloat16 and on a larger batch."""
    network, x, conditions = networks.CASES[name]
    repeat = functools.partial(jnp.tile, reps=(PEER_BATCH // len(x), 1, 1))
    x = repeat(x)
    forward, params, macs = networks.build(
        network.clone(dtype=jnp.bfloat16), x, {name: repeat(value) for name, value in conditions.items()}
    )
    step, state = networks.make_step(forward, params)
    rate_hz, note = PEER_RATES_HZ[name], f"{PEER_BATCH} clips of {x.shape[1]} samples, bfloat16"
    return Training(name, step, state, (x,), 6 * macs, x.size / rate_hz, rate_hz, note)


def training(make: Callable[[], Training], rounds: int, matmul_rate: float) -> Iterator[Reading]:
    """Time a step: MFU, seconds of audio a second, memory."""
    case, device = make(), jax.devices()[0]
    before = peak_bytes(device)
    begin = time.perf_counter()
    program = case.step.lower(case.state, *case.rest).compile()
    compile_s = time.perf_counter() - begin
    step = networks.keep_state(program, case.state, *case.rest)
    calls = max(1, min(50, round(ROUND_S / seconds(step))))
    times = in_turn({"step": functools.partial(queued, step, calls)}, rounds)["step"]
    median_s = float(np.median(times))
    yield median_time(f"{case.name}, step", times, case.note)
    share = counted(
        f"{case.name}, step: MFU", 100 * case.flops / median_s / matmul_rate, "%", f"{case.flops / 1e12:.3g} TFLOP"
    )
    yield Reading(share, "speed")
    yield median_speed(f"{case.name}, step: audio", case.audio_s, times, "s/s", f"of {case.rate_hz:,} Hz")
    yield Reading(counted(f"{case.name}, step: compilation", compile_s, "s"), "speed")
    if memory := program.memory_analysis():
        held = memory.argument_size_in_bytes
        work = memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
        note = f"{held / 1e9:.2g} GB of it state and batch"
        figure = counted(f"{case.name}, step: memory of the program", (held + work) / 1e9, "GB", note)
        yield Reading(figure, "count", more_is_better=False)
    if (after := peak_bytes(device)) > before:  # else an earlier case took more
        figure = counted(f"{case.name}, step: most memory in use", after / 1e9, "GB", "by the device's allocator")
        yield Reading(figure, "count", more_is_better=False)


def peak_bytes(device: Any) -> int:
    """Return the most memory that was in use on a device since the process began, 0 where it does not tell."""
    return int((device.memory_stats() or {}).get("peak_bytes_in_use", 0))


def sampling(arg: str, clips: int, rounds: int) -> Iterator[Reading]:
    """Time the config's own sampler, guided, in turn with its network alone on as many clips: two for each."""
    model, params, config = digits_model(arg)
    steps, name = config["sampler"]["steps"], f"digits:{arg}, {clips} clip{'s'[: clips > 1]} sampled"
    x = jnp.zeros((2 * clips, SAMPLES, 1))
    scale = config["sampler"]["guidance"]
    runs: dict[str, Callable[[], Any]] = {
        "sample": sampler_of(model, params, config, clips=clips, steps=steps, scale=scale),
        "network": lambda: network_alone(model.objective, params, x, evaluations=steps),
    }
    begin = time.perf_counter()
    jax.block_until_ready(runs["sample"]())
    first_s = time.perf_counter() - begin
    times = in_turn({of: functools.partial(seconds, run) for of, run in runs.items()}, rounds)
    audio_s, median_s = clips * SAMPLES / RATE_HZ, float(np.median(times["sample"]))
    note = f"{config['sampler']['name']}, {steps} steps, guided; real-time factor {median_s / audio_s:.3g}"
    yield median_speed(f"{name}: audio", audio_s, times["sample"], "s/s", note)
    note = f"{steps} evaluations, {1e3 * np.median(times['network']) / steps:.2f} ms each"
    ratio = median_ratio(f"{name}: whole sampler to its network alone", times["sample"], times["network"], note)
    yield Reading(ratio, more_is_better=False)
    yield Reading(counted(f"{name}: compilation", first_s - median_s, "s"), "speed")
