"""Convolve, with all derivatives in forms that every backend has fast code for, in loops and branches as well.

XLA's CPU backend has fast code for convolutions in one order of axes. It brings the gradients of others into that
order, but in the main program alone: in a loop or a branch a gradient took 50 times as long (128 -> 128, 3 taps,
16 x 256: 1,423 ms instead of 27, jax 0.10, two cores), and with it microbatches, a sampler that a judge leads, and a
stage behind a condition. So the derivatives are written here, on the CPU in that order. Elsewhere they are the forms
that JAX gives a convolution; neither was measured there.

A convolution y = F(x, W) is linear in both, and with the two products that its derivatives consist of

    F(x, W)[t] = sum_k x[t + d k - p] W[k]
    D(y, W)[t] = sum_k y[t - d k + p] W[k]^T    the cotangent of x
    G(x, y)[k] = sum_t x[t + d k - p]^T y[t]    the cotangent of W

it is closed: the transpose of each by either argument is one of the others. Three primitives that say so have forward,
reverse and mixed derivatives of any order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from audiodiff.types import Array

Padding = tuple[tuple[int, int], ...]
"""Zeros (before, after) of each axis."""


def convolve(x: Array, kernel: Array, padding: Padding, dilation: int = 1) -> Array:
    """Correlate x [batch, *place, in] with a kernel [*tap, in, out] over one or two axes, zeros outside."""
    return FORWARD.bind(x, kernel, padding=padding, dilation=dilation)


def _correlate(x: Array, kernel: Array, padding: Padding, orders: tuple[str, str, str], **options: Any) -> Array:
    """Call XLA's convolution; P stands for the axes of places and taps in the orders of x, kernel and result."""
    of_x, of_kernel, of_y = (order.replace("P", "HW"[: len(padding)]) for order in orders)
    options = {"window_strides": (1,) * len(padding)} | options
    return lax.conv_general_dilated(x, kernel, padding=padding, dimension_numbers=(of_x, of_kernel, of_y), **options)


FAST = ("NPC", "PIO", "NPC")
"""The orders that the CPU has fast code for."""


def _forward(x: Array, kernel: Array, *, padding: Padding, dilation: int) -> Array:
    return _correlate(x, kernel, padding, FAST, rhs_dilation=(dilation,) * len(padding))


def _by_input(y: Array, kernel: Array, *, padding: Padding, dilation: int, cpu: bool = False) -> Array:
    taps = kernel.shape[:-2]
    around = tuple(
        (dilation * (count - 1) - before, dilation * (count - 1) - after)
        for count, (before, after) in zip(taps, padding, strict=True)
    )
    kernel, orders = lax.rev(kernel, range(len(taps))), ("NPC", "POI", "NPC")
    if cpu:
        kernel, orders = kernel.swapaxes(-1, -2), FAST
    return _correlate(y, kernel, around, orders, rhs_dilation=(dilation,) * len(padding))


def _by_kernel(x: Array, y: Array, *, padding: Padding, dilation: int, cpu: bool = False) -> Array:
    strides, places = (dilation,) * len(padding), tuple(range(1, x.ndim - 1))
    if not cpu:
        return _correlate(x, y, padding, ("CPN", "IPO", "PNC"), window_strides=strides)
    x, y = x.transpose(x.ndim - 1, *places, 0), y.transpose(*places, 0, y.ndim - 1)
    kernel = _correlate(x, y, padding, FAST, window_strides=strides)
    return kernel.transpose(*places, 0, kernel.ndim - 1)


def _primitive(name: str, product: Callable[..., Array], cpu: Callable[..., Array]) -> Primitive:
    """Return a product as a primitive that is lowered to another form of it on the CPU."""
    primitive = Primitive(f"convolve_{name}")

    def shape(*arguments: Any, **options: Any) -> Any:
        made = jax.eval_shape(functools.partial(product, **options), *arguments)
        return jax.core.ShapedArray(made.shape, made.dtype)

    def batch(arguments: Any, axes: Any, **options: Any) -> tuple[Array, int]:
        first, second = axes
        if second is not None or primitive is BY_KERNEL:
            return jax.vmap(functools.partial(product, **options), in_axes=axes)(*arguments), 0
        x = jnp.moveaxis(arguments[0], first, 0)  # one kernel for all: it is a larger batch
        y = primitive.bind(lax.collapse(x, 0, 2), arguments[1], **options)
        return y.reshape(x.shape[0], x.shape[1], *y.shape[1:]), 0

    primitive.def_impl(product)
    primitive.def_abstract_eval(shape)
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, mlir.lower_fun(product, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(cpu, multiple_results=False), platform="cpu")
    return primitive


FORWARD = _primitive("forward", _forward, _forward)
BY_INPUT = _primitive("by_input", _by_input, functools.partial(_by_input, cpu=True))
BY_KERNEL = _primitive("by_kernel", _by_kernel, functools.partial(_by_kernel, cpu=True))

ad.defbilinear(
    FORWARD,
    lambda cotangent, x, kernel, **options: BY_INPUT.bind(cotangent, kernel, **options),
    lambda cotangent, x, kernel, **options: BY_KERNEL.bind(x, cotangent, **options),
)
ad.defbilinear(
    BY_INPUT,
    lambda cotangent, y, kernel, **options: FORWARD.bind(cotangent, kernel, **options),
    lambda cotangent, y, kernel, **options: BY_KERNEL.bind(cotangent, y, **options),
)
ad.defbilinear(
    BY_KERNEL,
    lambda cotangent, x, y, **options: BY_INPUT.bind(y, cotangent, **options),
    lambda cotangent, x, y, **options: FORWARD.bind(x, cotangent, **options),
)
