"""Hold every derivative of a convolution against JAX's own, and look at what the CPU is given in a loop."""

from __future__ import annotations

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from audiodiff.networks import convolution
from audiodiff.networks.convolution import convolve
from audiodiff.networks.layers import conv1d

CASES = {
    "same": ((13,), (3,), ((1, 1),), 1),
    "causal and dilated": ((13,), (3,), ((4, 0),), 2),
    "even": ((12,), (4,), ((1, 2),), 1),
    "longer than what it is applied to": ((3,), (5,), ((2, 2),), 1),
    "of no padding": ((9,), (3,), ((0, 0),), 3),
    "two axes": ((7, 6), (3, 5), ((1, 1), (2, 2)), 1),
}


@pytest.fixture(params=CASES)
def case(request, x64):
    """Return (options, JAX's convolution, x, kernel), in float64."""
    places, taps, padding, dilation = CASES[request.param]
    rng = np.random.default_rng(0)
    names = "HW"[: len(places)]

    def jax_has(x, kernel):
        axes = (f"N{names}C", f"{names}IO", f"N{names}C")
        strides, dilations = (1,) * len(places), (dilation,) * len(places)
        return lax.conv_general_dilated(x, kernel, strides, padding, rhs_dilation=dilations, dimension_numbers=axes)

    x, kernel = rng.normal(size=(2, *places, 3)), rng.normal(size=(*taps, 3, 4))
    return {"padding": padding, "dilation": dilation}, jax_has, jnp.asarray(x), jnp.asarray(kernel)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def bent(function):
    """Return a loss whose derivatives of every order are of the function's."""
    return lambda x, kernel: jnp.sum(jnp.sin(function(jnp.tanh(x), kernel**2)))


def gradient(function):
    return jax.grad(bent(function), (0, 1))


def forward_over_reverse(function):
    return lambda x, kernel: jax.jvp(gradient(function), (x, kernel), (jnp.cos(x), kernel))[1]


def reverse_over_reverse(function):
    return jax.grad(lambda *given: sum(jnp.sum(jnp.cos(part)) for part in gradient(function)(*given)), (0, 1))


DERIVATIVES = {
    "value": lambda function: function,
    "forward": lambda function: lambda x, kernel: jax.jvp(function, (x, kernel), (jnp.cos(x), jnp.sin(kernel)))[1],
    "reverse": gradient,
    "forward over reverse": forward_over_reverse,
    "reverse over reverse": reverse_over_reverse,
    "mapped over clips": lambda function: (
        lambda x, kernel: jax.vmap(gradient(function), (0, None))(jnp.stack([x, x + 1]), kernel)
    ),
    "mapped over kernels": lambda function: (
        lambda x, kernel: jax.vmap(gradient(function), (None, 0))(x, jnp.stack([kernel, kernel + 1]))
    ),
    "mapped over both": lambda function: (
        lambda x, kernel: jax.vmap(gradient(function))(jnp.stack([x, x + 1]), jnp.stack([kernel, kernel + 1]))
    ),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_every_derivative_is_that_of_jax(name, case):
    options, theirs, x, kernel = case
    ours = functools.partial(convolve, **options)
    made = jax.jit(DERIVATIVES[name](ours))(x, kernel)
    expected = jax.jit(DERIVATIVES[name](theirs))(x, kernel)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12), made, expected)


def test_what_other_backends_are_given_is_the_same(case):
    """Their forms are never taken here, but can be called."""
    options, theirs, x, kernel = case
    y = theirs(x, kernel)
    _, back = jax.vjp(theirs, x, kernel)
    by_input, by_kernel = back(y)
    for function in (convolution._by_input, functools.partial(convolution._by_input, cpu=True)):
        np.testing.assert_allclose(function(y, kernel, **options), by_input, rtol=1e-9, atol=1e-12)
    for function in (convolution._by_kernel, functools.partial(convolution._by_kernel, cpu=True)):
        np.testing.assert_allclose(function(x, y, **options), by_kernel, rtol=1e-9, atol=1e-12)


def test_without_jit_it_is_the_same(case):
    options, theirs, x, kernel = case
    ours = functools.partial(convolve, **options)
    with jax.disable_jit():
        for one, other in zip(gradient(ours)(x, kernel), gradient(theirs)(x, kernel), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("around", ["loop", "branch"])
def test_in_a_loop_or_a_branch_the_cpu_is_given_what_it_has_fast_code_for(around):
    """In one order of axes; JAX's own gradients come in three."""

    def orders(convolved):
        def loss(kernel, x):
            return jnp.sum(jnp.sin(convolved(jnp.sin(convolved(x, kernel)), kernel)))

        def looped(kernel, x, count):
            if around == "branch":
                return lax.cond(count > 0, jax.grad(loss), lambda kernel, x: kernel, kernel, x)
            return lax.while_loop(lambda c: c[0] < count, lambda c: (c[0] + 1, jax.grad(loss)(c[1], x)), (0, kernel))[1]

        text = jax.jit(looped).lower(jnp.ones((3, 4, 4)), jnp.ones((2, 16, 4)), 2).compile().as_text()
        return set(re.findall(r"dim_labels=(\S+?)[,\s]", text))

    def of_jax(x, kernel):
        return lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))

    assert orders(conv1d) == {"b0f_0io->b0f"} < orders(of_jax)
