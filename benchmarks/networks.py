"""The networks of two peers, by their own packages and by ours: forward pass and training step, float32.

DiffWave BASE on 4 x 15,872 samples with an 80-band mel, and audio-diffusion-pytorch's U-Net on 4 x 16,384 by the table
of its README at 40M parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ceilings import matmul_flops
from measure import Peer, Reading, counted, in_turn, median_ratio, median_speed, seconds

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
        elif equation.primitive.name == "conv_general_dilated":
            total += out.size * np.prod(equation.invars[1].aval.shape[:2])
        elif equation.primitive.name == "cond":  # the costliest branch
            total += max(macs(branch.jaxpr) for branch in equation.params["branches"])
        else:
            inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
            total += macs(getattr(inner, "jaxpr", inner)) * equation.params.get("length", 1) if inner else 0.0
    return total


def build(name: str) -> tuple[Callable[..., Array], PyTree, float]:
    """Return the forward pass (params, x) -> y of a case, its parameters, and how many multiplications it takes."""
    network, x, conditions = CASES[name]
    functional = Functional(network)
    params = functional.init(jax.random.key(0), x, conditions)
    noise = jnp.array([3.0, 10.0, 20.0, 40.0])

    def forward(params: PyTree, x: Array) -> Array:
        return functional(params, x, noise, functional.encode(params, conditions))

    return forward, params, macs(jax.make_jaxpr(forward)(params, x).jaxpr)


def make_step(forward: Callable[..., Array], params: PyTree, x: Array) -> Callable[[], Array]:
    """Return a function that takes one step of Adam on the mean absolute error, and keeps the state."""
    adam = optax.adam(2e-4)

    def step(params: PyTree, state: PyTree) -> tuple[PyTree, PyTree, Array]:
        loss, gradients = jax.value_and_grad(lambda p: jnp.mean(jnp.abs(forward(p, x) - x)))(params)
        updates, state = adam.update(gradients, state)
        return optax.apply_updates(params, updates), state, loss

    compiled = jax.jit(step, donate_argnums=(0, 1))
    held: list[Any] = [params, adam.init(params)]

    def go() -> Array:
        held[0], held[1], loss = compiled(*held)
        return loss

    return go


def measure(rounds: int) -> list[Reading]:
    """Compare both networks with their packages, in turn."""
    readings = []
    ceiling = matmul_flops().figure.value
    for name, (_, x, _) in CASES.items():
        forward, params, multiplications = build(name)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        compiled = jax.jit(forward)
        step = make_step(forward, jax.tree.map(jnp.copy, params), x)
        with Peer() as peer:
            theirs = peer.ask(f"facts {name}")
            timed: Mapping[str, Callable[[], float]] = {
                "forward": functools.partial(seconds, functools.partial(compiled, params, x)),
                "their forward": functools.partial(peer.seconds, f"{name}_forward"),
                "step": functools.partial(seconds, step),
                "their step": functools.partial(peer.seconds, f"{name}_step"),
            }
            times = in_turn(timed, rounds)
        package = PACKAGES[name]
        for what, cost in (("forward", 1), ("step", 3)):
            note = f"{package}: {np.median(times[f'their {what}']):.3f} s, ours {np.median(times[what]):.3f} s"
            speedup = median_ratio(f"{name}, {what}: times as fast", times[f"their {what}"], times[what], note)
            rate = median_speed(f"{name}, {what}: rate", cost * 2 * multiplications / 1e9, times[what], "GFLOP/s")
            share = 100 * rate.figure.value / ceiling
            readings += [
                Reading(speedup, at_least=1.2),
                rate,
                Reading(counted(f"{name}, {what}: share of the matmul rate", share, "%"), "speed"),
            ]
        for what, ours in (("parameters", parameters), ("macs", multiplications)):
            if what in theirs:
                figure = counted(f"{name}: {what}, ours to theirs", ours / theirs[what], "x", f"{ours:.4g}")
                readings.append(Reading(figure, "count", at_least=0.95, at_most=1.05))
    return readings
