"""The networks of two peers, by their own packages and by ours: forward pass and training step, float32.

DiffWave BASE on 4 x 15,872 samples with an 80-band mel, and audio-diffusion-pytorch's U-Net on 4 x 16,384 by the table
of its README at 40M parameters.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ceilings import matmul_flops
from measure import Peer, Reading, beside_peers, counted, in_turn, median_ratio, median_speed, seconds

from audiodiff.networks.conditions import ConditionSpec
from audiodiff.networks.dilated_stack import BASE, DilatedStack
from audiodiff.networks.embeddings import step_features
from audiodiff.networks.functional import Functional
from audiodiff.networks.unet1d import UNet1d
from audiodiff.types import Array, PyTree

SIZES: dict[str, Any] = {**BASE}
DIFFWAVE = DilatedStack(
    **SIZES, conditions=(ConditionSpec("mel", "frames", 80),), upsample=(16, 16), encode_noise=step_features
)
# A level of ours has one block on the way down and two on the way up, which read a skip each; a level of a-unet has two
# and two, which read none. Resampling kernels are as long as their stride, as there.
UNET = UNet1d(
    factors=(1, 4, 4, 4, 2, 2, 2),
    channels=(8, 32, 64, 128, 256, 512, 512),
    blocks=(0, 1, 1, 1, 1, 1, 1),
    attention_heads=(0, 0, 0, 0, 0, 8, 8),
    stem="random",
    overlap=1,
    embedding=1024,
)


def normal(*shape: int) -> Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


CASES: dict[str, tuple[Any, Array, dict[str, Array]]] = {
    "diffwave": (DIFFWAVE, normal(4, 15_872, 1), {"mel": normal(4, 62, 80)}),
    "unet": (UNET, normal(4, 16_384, 1), {}),
}
PACKAGES = {"diffwave": "diffwave", "unet": "audio-diffusion-pytorch"}


def macs(jaxpr: Any) -> float:
    """Count the multiplications of products and convolutions in a jaxpr, those of what it calls included."""
    total = 0.0
    for equation in jaxpr.eqns:
        out = equation.outvars[0].aval
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += out.size * np.prod([equation.invars[0].aval.shape[axis] for axis in contracted])
        elif equation.primitive.name in ("conv_general_dilated", "convolve_forward"):
            total += out.size * np.prod(equation.invars[1].aval.shape[:-1])
        elif equation.primitive.name == "cond":  # the costliest branch
            total += max(macs(branch.jaxpr) for branch in equation.params["branches"])
        else:
            inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
            total += macs(getattr(inner, "jaxpr", inner)) * equation.params.get("length", 1) if inner else 0.0
    return total


def build(network: Any, x: Array, conditions: dict[str, Array]) -> tuple[Callable[..., Array], PyTree, float]:
    """Return the forward pass (params, x) -> y of a case, its parameters, and how many multiplications it takes."""
    functional = Functional(network)
    params = jax.jit(lambda key: functional.init(key, x, conditions))(jax.random.key(0))
    noise = jnp.resize(jnp.array([3.0, 10.0, 20.0, 40.0]), (len(x),))

    def forward(params: PyTree, x: Array) -> Array:
        return functional(params, x, noise, functional.encode(params, conditions))

    return forward, params, macs(jax.make_jaxpr(forward)(params, x).jaxpr)


def make_step(forward: Callable[..., Array], params: PyTree) -> tuple[Any, PyTree]:
    """Return (state, x) -> (state, loss), a jitted step of Adam on the mean absolute error, and its first state."""
    adam = optax.adam(2e-4)

    def step(state: tuple[PyTree, PyTree], x: Array) -> tuple[tuple[PyTree, PyTree], Array]:
        params, moments = state
        loss, gradients = jax.value_and_grad(lambda p: jnp.mean(jnp.abs(forward(p, x) - x)))(params)
        updates, moments = adam.update(gradients, moments)
        return (optax.apply_updates(params, updates), moments), loss

    return jax.jit(step, donate_argnums=0), (params, adam.init(params))


def keep_state(step: Callable[..., tuple[Any, Any]], state: Any, *rest: Any) -> Callable[[], Any]:
    """Return a function that takes one step after another from the state and returns what each measured."""
    held = [state]

    def go() -> Any:
        held[0], measured = step(held[0], *rest)
        return measured

    return go


def measure(rounds: int) -> list[Reading]:
    """Compare both networks with their packages, in turn."""
    readings = []
    compared = beside_peers()
    ceiling = matmul_flops().figure.value
    for name, case in CASES.items():
        forward, params, multiplications = build(*case)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        ours: dict[str, Callable[[], Any]] = {
            "forward": functools.partial(jax.jit(forward), params, case[1]),
            "step": keep_state(*make_step(forward, jax.tree.map(jnp.copy, params)), case[1]),
        }
        timed: dict[str, Callable[[], float]] = {}
        with contextlib.ExitStack() as stack:
            peer = stack.enter_context(Peer()) if compared else None
            for what, run in ours.items():
                timed[what] = functools.partial(seconds, run)
                if peer:
                    timed[f"their {what}"] = functools.partial(peer.seconds, f"{name}_{what}")
            theirs = peer.ask(f"facts {name}") if peer else {}
            times = in_turn(timed, rounds)
        package = PACKAGES[name]
        for what, cost in (("forward", 1), ("step", 3)):
            if compared:
                note = f"{package}: {np.median(times[f'their {what}']):.3f} s, ours {np.median(times[what]):.3f} s"
                speedup = median_ratio(f"{name}, {what}: times as fast", times[f"their {what}"], times[what], note)
                readings.append(Reading(speedup, at_least=1.2))
            rate = median_speed(f"{name}, {what}: rate", cost * 2 * multiplications / 1e9, times[what], "GFLOP/s")
            share = 100 * rate.figure.value / ceiling
            readings += [
                rate,
                Reading(counted(f"{name}, {what}: share of the matmul rate", share, "%"), "speed"),
            ]
        for what, count in (("parameters", parameters), ("macs", multiplications)):
            if what in theirs:
                figure = counted(f"{name}: {what}, ours to theirs", count / theirs[what], "x", f"{count:.4g}")
                readings.append(Reading(figure, "count", at_least=0.95, at_most=1.05))
    return readings
