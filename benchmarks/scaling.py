"""How time and memory grow with length, batch and attention kind, as exponents; what saves memory, and its price.

Memory is what the compiled program of a gradient asks for beside its arguments, by its own analysis: exact, and the
same on every run. Time is a forward and backward pass, taken in turn over the lengths.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import Reading, counted, fitted_exponent, in_turn, median_ratio, seconds

from audiodiff.networks.attention import Attention
from audiodiff.networks.dilated_stack import DilatedStack
from audiodiff.networks.functional import Functional
from audiodiff.networks.unet1d import UNet1d

POSITIONS = (1024, 2048, 4096, 8192)
SAMPLES = (8192, 16_384, 32_768, 65_536)
LINEAR, QUADRATIC = (0.9, 1.15), (1.8, 2.1)
WINDOW = 64
KINDS = {"full": QUADRATIC, "linear": LINEAR, "local": LINEAR, "hierarchical": (0.9, 1.5), "strided": (0.9, 1.6)}
"""Attention kind -> bounds of its memory's exponent, at a window of W = 64 where it has one.

Hierarchical attention has log2(T / W) levels, T log T: over these lengths 1.27. Strided attention costs T W + T^2 / W.
"""

UNET = UNet1d(channels=(32, 48, 64), attention_heads=(0, 0, 2), embedding=64)
NETWORKS: dict[str, Any] = {
    "DilatedStack": DilatedStack(residual_layers=6, residual_channels=16, dilation_cycle=6, embedding_features=32),
    "UNet1d without attention": UNET.clone(attention_heads=(0, 0, 0)),
    "UNet1d, linear attention": UNET.clone(attention="linear"),
    "UNet1d, local attention": UNET.clone(attention="local", window=64),
}
REMAT: dict[str, tuple[Any, int, int]] = {
    "UNet1d of 4 blocks a level": (UNET.clone(blocks=(4, 4, 4)), 8, 65_536),
    "DilatedStack of 30 layers": (DilatedStack(), 2, 16_384),
}
"""Network, batch and samples, large enough that activations outweigh all else."""

Program = Callable[..., Any]


def attention_gradient(kind: str, positions: int) -> tuple[Program, tuple[Any, ...]]:
    """Return the gradient of one attention layer of 2 heads of 32 over so many positions, and its arguments."""
    layer = Attention(2, 32, kind=kind, window=0 if kind in ("full", "linear") else WINDOW, rotary=True)  # type: ignore[arg-type]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, positions, 64)), jnp.float32)
    params = layer.init(jax.random.key(0), x)

    def loss(params: Any, x: Any) -> Any:
        y: Any = layer.apply(params, x)
        return jnp.sum(y**2)

    return jax.jit(jax.grad(loss, argnums=(0, 1))), (params, x)


def network_gradient(network: Any, batch: int, samples: int) -> tuple[Program, tuple[Any, ...]]:
    """Return the gradient of a network's loss, and the shapes of its arguments."""
    functional = Functional(network)
    x, level = jax.ShapeDtypeStruct((batch, samples, 1), jnp.float32), jax.ShapeDtypeStruct((batch,), jnp.float32)
    params = jax.eval_shape(lambda: functional.init(jax.random.key(0), jnp.zeros(x.shape), {}))
    return jax.jit(jax.grad(lambda p, x, t: jnp.sum(functional(p, x, t, {}) ** 2))), (params, x, level)


def temporary_bytes(program: Any, arguments: Sequence[Any]) -> int:
    """Return the memory in bytes that a compiled program needs beside its arguments and results."""
    return int(program.lower(*arguments).compile().memory_analysis().temp_size_in_bytes)


def bounded(name: str, sizes: Sequence[int], costs: Sequence[float], bounds: tuple[float, float]) -> Reading:
    """Return a fitted exponent between two bounds."""
    least, most = bounds
    return Reading(fitted_exponent(name, sizes, costs), at_least=least, at_most=most, more_is_better=False)


def rematerialised(name: str, network: Any, batch: int, samples: int, rounds: int) -> list[Reading]:
    """Compare memory and time of a gradient with ``remat`` to those without."""
    plain, remat = (network_gradient(network.clone(remat=on), batch, samples) for on in (False, True))
    note = f"gradient of {batch} x {samples:,}"
    return saving(name, "with remat to without", remat[0], plain[0], plain[1], rounds, note)


def saving(
    name: str, what: str, lean: Program, plain: Program, shapes: Sequence[Any], rounds: int, note: str
) -> list[Reading]:
    """Compare the memory and time of a program that is to need less to those of another."""
    saved = temporary_bytes(lean, shapes) / temporary_bytes(plain, shapes)
    given = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), shapes)
    programs = {"lean": lean, "plain": plain}
    times = in_turn(
        {of: functools.partial(seconds, functools.partial(run, *given)) for of, run in programs.items()}, rounds
    )
    memory = counted(f"{name}: memory {what}", saved, "x", note)
    time = median_ratio(f"{name}: time {what}", times["lean"], times["plain"], note)
    return [
        Reading(memory, "count", at_most=0.5, more_is_better=False),
        Reading(time, at_most=1.35, more_is_better=False),
    ]


def accumulated(rounds: int, batch: int = 8, samples: int = 16_384, parts: int = 4) -> list[Reading]:
    """Compare memory and time of a gradient that is summed over parts of the batch, in a loop, to the whole one's."""
    whole, shapes = network_gradient(UNET, batch, samples)

    def in_parts(params: Any, x: Any, level: Any) -> Any:
        def add(total: Any, part: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, whole(params, *part)), None

        split = (one.reshape(parts, -1, *one.shape[1:]) for one in (x, level))
        return jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), tuple(split))[0]

    name, note = f"UNet1d in {parts} microbatches", f"gradient of {batch} x {samples:,}"
    return saving(name, "to the whole batch", jax.jit(in_parts), whole, shapes, rounds, note)


def measure(rounds: int) -> list[Reading]:
    """Fit all exponents."""
    readings = []
    for kind, bounds in KINDS.items():
        programs = {positions: attention_gradient(kind, positions) for positions in POSITIONS}
        needed = [temporary_bytes(*programs[positions]) for positions in POSITIONS]
        readings.append(bounded(f"{kind} attention: memory by positions", POSITIONS, needed, bounds))
        timed = {
            str(n): functools.partial(seconds, functools.partial(run, *given)) for n, (run, given) in programs.items()
        }
        times = in_turn(timed, rounds)
        figure = fitted_exponent(
            f"{kind} attention: time by positions", POSITIONS, [np.median(times[str(n)]) for n in POSITIONS]
        )
        readings.append(Reading(figure, "speed"))
    for name, network in NETWORKS.items():
        needed = [temporary_bytes(*network_gradient(network, 1, samples)) for samples in SAMPLES]
        readings.append(bounded(f"{name}: memory by samples", SAMPLES, needed, LINEAR))
    batches = (1, 2, 4, 8)
    needed = [temporary_bytes(*network_gradient(UNET, batch, SAMPLES[0])) for batch in batches]
    readings.append(bounded("UNet1d: memory by batch", batches, needed, LINEAR))
    for name, (network, batch, samples) in REMAT.items():
        readings += rematerialised(name, network, batch, samples, rounds)
    return readings + accumulated(rounds)
