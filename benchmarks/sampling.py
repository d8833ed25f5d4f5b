"""What sampling costs beyond its network evaluations: samplers, guidance, overhead beside k-diffusion, throughput.

The network is that of the digits' config, with labels as conditions, on 8 clips of 8,192 samples.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from command import plain
from measure import Peer, Reading, beside_peers, counted, in_turn, median_ratio, median_speed, seconds

from audiodiff.build.model import Facts, Model, make_model
from audiodiff.build.process import make_grid
from audiodiff.build.sampler import make_sampler
from audiodiff.data.sources import ConditionInfo
from audiodiff.diffusion.grids import karras
from audiodiff.diffusion.noise import fold_in, initial_noise
from audiodiff.evaluation.generate import generate
from audiodiff.types import Array, Level, PyTree
from configs import digits_wave

CLIPS, STEPS, SAMPLES, RATE_HZ = 8, 10, 8192, 8000
EVALUATIONS = {"euler": STEPS, "heun": 2 * STEPS - 1, "dpmpp_2m": STEPS, "dpmpp_2m_sde": STEPS}
"""Sampler -> network evaluations of STEPS steps; Heun's last step, to the clean level, takes one."""


def labels_of(clips: int) -> dict[str, Array]:
    """Return the conditions of so many clips."""
    return {"digit": jnp.arange(clips) % 10, "speaker": jnp.arange(clips) % 6}


CONDITIONS = labels_of(CLIPS)


@functools.cache
def digits_model(arg: str = "cpu") -> tuple[Model, PyTree, dict[str, Any]]:
    """Return the digits' model of that size, weights drawn anew, and its config."""
    config = plain(digits_wave.get_config(arg))
    labels = {"digit": 10, "speaker": 6}
    infos = {n: ConditionInfo("label", tuple(str(i) for i in range(size))) for n, size in labels.items()}
    model = make_model(config, Facts(RATE_HZ, 1, SAMPLES, 0.1, 0.0, infos, ""))
    batch = {"audio": jnp.zeros((CLIPS, SAMPLES)), **CONDITIONS}
    # As one program: operation by operation, an accelerator compiles hundreds.
    return model, jax.jit(lambda key: model.objective.init(key, batch))(jax.random.key(0)), config


def sampler_of(
    model: Model,
    params: PyTree,
    config: Mapping[str, Any],
    *,
    clips: int,
    steps: int,
    name: str = "",
    scale: float = 2.0,
) -> Callable[[], Array]:
    """Return a whole sampler, prior noise to audio, of the config or the one named; guided unless ``scale`` is 1."""
    grid = make_grid(config["sampler"]["grid"], model.process, model.facts.sigma_data, steps)
    keys = jax.random.split(jax.random.key(0), clips)
    conditions = labels_of(clips)
    guidance = {"scale": scale, "sigma_low": 0.0, "sigma_high": jnp.inf, "rescale": 0.0}
    sampler = make_sampler({"name": name or config["sampler"]["name"]})
    options = {"sampler": sampler, "length_samples": SAMPLES, "guided": scale != 1.0}
    return lambda: generate(model.objective, params, keys, conditions, grid, guidance, **options)


@functools.partial(jax.jit, static_argnames=("objective", "evaluations"))
def network_alone(objective: Any, params: PyTree, x: Array, *, evaluations: int) -> Array:
    """Evaluate the network so many times in one program, and nothing else."""
    encoded = objective.network.encode(params["network"], labels_of(len(x)))

    def body(x: Array, level: Array) -> tuple[Array, None]:
        return objective.network(params["network"], x, jnp.full(len(x), level), encoded), None

    return jax.lax.scan(body, x, jnp.linspace(1.0, -1.0, evaluations))[0]


def own_work(name: str) -> Callable[[], Array]:
    """Return the sampler on a network that costs nothing, from prior noise on."""
    model, _, config = digits_model()
    grid = make_grid(config["sampler"]["grid"], model.process, model.facts.sigma_data, STEPS)
    keys = jax.random.split(jax.random.key(0), CLIPS)
    sampler = make_sampler({"name": name})

    @jax.jit
    def run(keys: Array, grid: Level) -> Array:
        first = Level(grid.alpha[0], grid.sigma[0])
        x = initial_noise(fold_in(keys, 0), (CLIPS, SAMPLES, 1), first, sigma_data=model.facts.sigma_data)
        return _run(sampler, x, grid, fold_in(keys, 1))

    return functools.partial(run, keys, grid)


def overhead(rounds: int) -> list[Reading]:
    """Compare samplers, prior noise to audio, with their network evaluations alone; and guidance with none.

    A run of half a second differs by 8 % from the next, and the bar is 3 %: held against it is what a sampler costs
    beside a network that costs nothing, as a share of the network's time. Whole samplers are told without a bar.
    """
    model, params, config = digits_model()
    objective = model.objective
    x = jnp.zeros((CLIPS, SAMPLES, 1))
    sampler = functools.partial(sampler_of, model, params, config, clips=CLIPS, steps=STEPS)

    def alone(evaluations: int) -> Callable[[], Array]:
        return lambda: network_alone(objective, params, x, evaluations=evaluations)

    runs = {name: sampler(name=name, scale=1.0) for name in EVALUATIONS} | {"guided": sampler(name="dpmpp_2m")}
    runs |= {f"{count} evaluations": alone(count) for count in sorted(set(EVALUATIONS.values()))}
    runs |= {f"{name}: own": own_work(name) for name in EVALUATIONS}
    times = in_turn({name: functools.partial(seconds, run) for name, run in runs.items()}, 3 * rounds)
    readings = []
    for name, count in EVALUATIONS.items():
        own, network, whole = times[f"{name}: own"], times[f"{count} evaluations"], times[name]
        note = f"its own: {1e3 * np.median(own) / count:.2f} ms of {1e3 * np.median(network) / count:.1f} an evaluation"
        figure = median_ratio(f"{name}: network and own work to network alone", network + own, network, note)
        readings.append(Reading(figure, at_most=1.03, more_is_better=False))
        figure = median_ratio(f"{name}: whole sampler to its network alone", whole, network, f"{count} evaluations")
        readings.append(Reading(figure, more_is_better=False))
    guided = median_ratio("guidance: guided sample to unguided", times["guided"], times["dpmpp_2m"])
    audio_seconds = CLIPS * SAMPLES / RATE_HZ
    latency = times["dpmpp_2m"] / audio_seconds
    return [
        *readings,
        Reading(guided, at_most=2.1, more_is_better=False),
        median_speed("audio made, dpmpp_2m, 10 steps", audio_seconds, times["dpmpp_2m"], "s/s"),
        Reading(counted("real-time factor, p50", float(np.quantile(latency, 0.5)), "", "time / audio"), "speed"),
        Reading(counted("real-time factor, p95", float(np.quantile(latency, 0.95)), "", "time / audio"), "speed"),
    ]


def against_k_diffusion(rounds: int) -> list[Reading]:
    """Compare samplers on a denoiser that costs nothing: 50 steps, 4 x 16,384, so that only the sampler is timed."""
    x = 80.0 * jnp.asarray(np.random.default_rng(0).normal(size=(4, 16_384, 1)), jnp.float32)
    grid = karras(50, 0.01, 80.0)
    readings = []
    with Peer() as peer:
        for name in ("euler", "heun", "dpmpp_2m"):
            run = jax.jit(functools.partial(_run, make_sampler({"name": name})))
            timed: dict[str, Callable[[], float]] = {
                "ours": functools.partial(seconds, functools.partial(run, x, grid), calls=5),
                "theirs": functools.partial(peer.seconds, f"sampler_{name}", calls=5),
            }
            times = in_turn(timed, 2 * rounds)
            theirs, ours = (2e4 * np.median(times[side]) for side in ("theirs", "ours"))
            note = f"a step: k-diffusion {theirs:.0f} us, ours {ours:.0f} us"
            figure = median_ratio(f"{name}: times as fast as k-diffusion", times["theirs"], times["ours"], note)
            readings.append(Reading(figure))
    return readings


def _run(sampler: Callable[..., Array], x: Array, grid: Level, keys: Array | None = None) -> Array:
    return sampler(lambda x, level, conditions: 0.5 * x, x, grid, {}, keys)


def measure(rounds: int) -> list[Reading]:
    """Measure all of the above."""
    return overhead(rounds) + (against_k_diffusion(rounds) if beside_peers() else [])
