from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.networks.layers import conv1d
from audiodiff.networks.receptive_field import ConvShape, cyclic_dilations, receptive_field


def cyclic(layers: int, cycle: int, kernel_size: int = 3) -> list[ConvShape]:
    return [ConvShape(kernel_size, dilation=dilation) for dilation in cyclic_dilations(layers, cycle)]


CONFIGURATIONS = {
    "one": [ConvShape(3)],
    "pointwise": [ConvShape(1)] * 4,
    "plain": [ConvShape(3)] * 5,
    "even kernel": [ConvShape(4), ConvShape(2)],
    "dilated": [ConvShape(3, dilation=7), ConvShape(5, dilation=3)],
    "cycles": cyclic(8, 4),
    "strided": [ConvShape(4, stride=2)] * 3,
    "stem and dilations": [ConvShape(16, stride=8), *cyclic(4, 4)],
    "mixed": [ConvShape(7, stride=4), ConvShape(3, dilation=2), ConvShape(4, stride=2), ConvShape(3, 1, 4)],
    "DiffWave vocoder": cyclic(30, 10),
    "DiffWave SC09": cyclic(36, 12),
}
PUBLISHED = {"DiffWave vocoder": 6139, "DiffWave SC09": 24571}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_formula_equals_the_support_of_the_gradient(name, causal):
    """The gradient of one output, through positive kernels so that nothing cancels, is nonzero on exactly the field."""
    layers = CONFIGURATIONS[name]
    field = receptive_field(layers)
    time = 2 * field + 64

    def middle(x):
        for layer in layers:
            kernel = jnp.full((layer.kernel_size, 1, 1), 1 / layer.kernel_size)
            x = conv1d(x, kernel, dilation=layer.dilation, stride=layer.stride, causal=causal)
        # Causal outputs hear only what came before, centred ones both sides.
        return x[0, -1 if causal else x.shape[1] // 2, 0]

    gradient = np.asarray(jax.jit(jax.grad(middle))(jnp.zeros((1, time, 1))))[0, :, 0]
    heard = np.flatnonzero(gradient)
    assert heard[-1] - heard[0] + 1 == field
    assert len(heard) == field or any(layer.dilation > 1 for layer in layers)  # dilated layers alone may leave gaps
    assert field == PUBLISHED.get(name, field)


def test_dilation_by_powers_of_two_doubles_the_field_within_a_cycle_and_adds_across_cycles():
    fields = [receptive_field(cyclic(layers, 10)) for layers in range(1, 31)]
    steps = np.diff([1, *fields])
    np.testing.assert_array_equal(steps.reshape(3, 10), [2.0 ** np.arange(1, 11)] * 3)


def test_exponential_dilation_hears_more_per_parameter_than_linear_dilation():
    """At equal layers, so equal parameters: 2^L against L^2 against L positions, from seven layers on."""
    for layers in range(7, 13):
        exponential = receptive_field(cyclic(layers, layers))
        linear = receptive_field([ConvShape(3, dilation=layer + 1) for layer in range(layers)])
        plain = receptive_field([ConvShape(3)] * layers)
        assert (exponential, linear, plain) == (2 ** (layers + 1) - 1, layers * (layers + 1) + 1, 2 * layers + 1)
        assert exponential > 4 * linear > 4 * plain
