"""Compute how far a stack of convolutions hears, in input positions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class ConvShape(NamedTuple):
    """Hold what the receptive field needs to know of a convolution."""

    kernel_size: int
    stride: int = 1
    dilation: int = 1


def receptive_field(layers: Iterable[ConvShape]) -> int:
    """Return the inputs that one output depends on, first to last: R = 1 + sum_l (k_l - 1) d_l prod_{i<l} s_i.

    Layers are listed from the input on. A tap of layer l moves by d_l of its own inputs, each of which is the product
    of the earlier strides apart. Causal or centred padding moves the field and does not change its size.
    """
    field, spacing = 1, 1
    for kernel_size, stride, dilation in layers:
        field += (kernel_size - 1) * dilation * spacing
        spacing *= stride
    return field


def cyclic_dilations(layers: int, cycle: int) -> tuple[int, ...]:
    """Return d_l = 2^(l mod cycle), l = 0 .. layers-1: the field doubles with each layer of a cycle (WaveNet)."""
    return tuple(2 ** (layer % cycle) for layer in range(layers))
