"""Say before the first step what is trained and how fast the machine can be."""

from __future__ import annotations

import functools
import time

import jax
import jax.numpy as jnp

from audiodiff.types import PyTree

PEAK_FLOPS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
}
"""Dense bfloat16 multiply-adds, counted as two, a second and device, by the makers' data sheets (SXM boards)."""


@functools.cache
def matmul_rate(devices: int) -> tuple[float, str]:
    """Return the FLOP/s that ``devices`` can multiply matrices at, and where that is known from.

    Of known accelerators by their data sheet, so that the share of it is MFU (Chowdhery et al. 2022,
    arXiv:2204.02311, appendix B); of others by float32 products of 1024 x 1024, the best of three. Virtual devices of
    a CPU share its cores: there it is the machine's.
    """
    device = jax.devices()[0]
    for kind in sorted(PEAK_FLOPS, key=len, reverse=True):
        if device.device_kind.startswith(kind):
            return devices * PEAK_FLOPS[kind], f"data sheet of {kind}, bfloat16"
    size = 1024
    x = jax.device_put(jnp.ones((size, size), jnp.float32), jax.local_devices()[0])
    (x @ x).block_until_ready()
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        (x @ x).block_until_ready()
        seconds.append(time.perf_counter() - begin)
    many = 1 if device.platform == "cpu" else devices
    return many * 2 * size**3 / min(seconds), "measured, float32"


def parameter_table(params: PyTree, rows: int = 40) -> str:
    """Return a table of the parameters by module: as deep as ``rows`` lines allow, with numbers and arrays."""
    leaves = [
        (jax.tree_util.keystr(path, simple=True, separator="/").split("/"), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]
    depth = max((len(path) for path, _ in leaves), default=0)
    while depth > 1 and len({tuple(path[:depth]) for path, _ in leaves}) > rows:
        depth -= 1
    groups: dict[str, list[int]] = {}
    for path, leaf in leaves:
        groups.setdefault("/".join(path[:depth]), []).append(leaf.size)
    width = max(map(len, groups), default=0)
    lines = [f"  {name:<{width}}  {sum(sizes):>13,}  {len(sizes):>4} arrays" for name, sizes in groups.items()]
    total = sum(map(sum, groups.values()))
    return "\n".join([*lines, f"  {'all':<{width}}  {total:>13,}  {len(leaves):>4} arrays"])


def quantity(value: float, unit: str) -> str:
    """Write a number with a metric prefix and three digits.

    >>> quantity(1.315e11, "FLOP")
    '132 GFLOP'
    """
    for prefix, factor in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
