"""What the machine can do at all: products of matrices, copies of memory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from measure import Reading, in_turn, median_speed, seconds


def matmul_flops(dtype: str = "float32", size: int = 2048, rounds: int = 9) -> Reading:
    """Measure the rate of a product of two square matrices, in GFLOP/s: what MFU is a share of."""
    a = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    times = in_turn({"matmul": lambda: seconds(lambda: product(a, a))}, rounds)["matmul"]
    return median_speed(f"matmul, {dtype}", 2 * size**3 / 1e9, times, "GFLOP/s", f"{size} cubed")


def measure(rounds: int) -> list[Reading]:
    """Measure both ceilings."""
    x = jnp.ones(64 * 2**20, jnp.float32)
    copy = jax.jit(jnp.negative)
    times = in_turn({"copy": lambda: seconds(lambda: copy(x))}, rounds)["copy"]
    moved = median_speed("memory, read and written", 2 * x.nbytes / 1e9, times, "GB/s", "256 MiB each way")
    return [matmul_flops(), moved]
