"""What the machine can do at all: products of matrices, copies of memory."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from measure import Reading, in_turn, median_speed, queued


def matmul_flops(
    dtype: str = "float32", size: int = 2048, rounds: int = 9, *, calls: int = 1, precision: str | None = None
) -> Reading:
    """Measure the rate of a product of two square matrices, in GFLOP/s: what MFU is a share of.

    Of random numbers: an accelerator that multiplies ones takes less power and so runs faster.
    """
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = functools.partial(jax.jit(functools.partial(jnp.matmul, precision=precision)), a, a)
    times = in_turn({"matmul": lambda: queued(product, calls)}, rounds)["matmul"]
    name = f"matmul, {dtype}" + (f", {precision} precision" if precision else "")
    return median_speed(name, 2 * size**3 / 1e9, times, "GFLOP/s", f"{size} cubed")


def copy_speed(mebibytes: int = 256, rounds: int = 9, *, calls: int = 1) -> Reading:
    """Measure the rate at which memory is read and written by a negation, in GB/s."""
    x = jnp.ones(mebibytes * 2**20 // 4, jnp.float32)
    copy = functools.partial(jax.jit(jnp.negative), x)
    times = in_turn({"copy": lambda: queued(copy, calls)}, rounds)["copy"]
    return median_speed("memory, read and written", 2 * x.nbytes / 1e9, times, "GB/s", f"{mebibytes} MiB each way")


def measure(rounds: int) -> list[Reading]:
    """Measure both ceilings."""
    return [matmul_flops(), copy_speed(rounds=rounds)]
