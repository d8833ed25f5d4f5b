"""Build the layers every network is made of: dense, convolution, resampling, normalisation, modulation.

Arrays are [batch, time, channel], or [batch, frame, bin, channel] where it is said. Each layer is a pure function with
a thin Flax module around it; the function holds the form that XLA compiles well, the module the parameters. Parameters
are float32, computation is in ``dtype``.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.nn.initializers import Initializer, lecun_normal, ones, zeros

from audiodiff.networks.convolution import convolve
from audiodiff.types import Array

zero_init: Initializer = zeros
"""Initialise to zero: the last layer of a residual branch, so that the branch begins as the identity."""


def dense(x: Array, kernel: Array) -> Array:
    """Apply y = x W to the last axis of x [..., in], W [in, out].

    Every leading axis is merged first. The weight gradient then contracts one axis, which is one matrix product;
    contracting batch and time as two axes makes XLA's CPU backend transpose the whole activation
    (64 -> 128 on 4 x 15,872: forward and backward in 34 ms instead of 76 ms). Elsewhere the reshape is free.
    """
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def same_padding(length: int, kernel_size: int, dilation: int = 1, stride: int = 1) -> tuple[int, int]:
    """Return the zeros (before, after) that make a convolution return ceil(length / stride) positions."""
    span = (kernel_size - 1) * dilation + 1
    total = max((-(-length // stride) - 1) * stride + span - length, 0)
    return total // 2, total - total // 2


def conv1d(
    x: Array, kernel: Array, *, dilation: int = 1, stride: int = 1, causal: bool = False, groups: int = 1
) -> Array:
    """Correlate x [batch, time, in] with a kernel [tap, in / groups, out]: ceil(time / stride) positions come out.

    y[t] = sum_k x[stride t + dilation k - before] W[k], zeros outside. ``before`` centres the kernel, or, when
    causal, is the kernel's whole reach dilation (K - 1), so that y[t] sees nothing later than x[stride t].

    The form is XLA's own convolution on every backend, with the derivatives of
    :mod:`audiodiff.networks.convolution`; strided and grouped ones have JAX's. On the CPU (jax 0.10, float32) it was
    measured against a sum over taps of shifted products and one product with the shifted inputs side by side (saved or
    rematerialised). Milliseconds per core of 2, forward / forward and backward::

        64 -> 128, 3 taps, 4 x 15,872   native 28 / 106   taps 78 / 158   side by side 74 / 135
        192 -> 192, 3 taps, 32 x 256    native 12 / 37    taps 16 / 42    side by side 15 / 43

    Dilation costs nothing. One tap is a dense layer and is computed as one, for the sake of its weight gradient. Where
    a kernel outweighs what it is applied to, in the depths of a U-Net, one product with shifted inputs side by side
    wins, since its gradient reverses no kernel (512 -> 512, 4 x 64: 7.5 ms instead of 9.8 forward and backward). Not
    measured on GPU and TPU.
    """
    taps = kernel.shape[0]
    if taps == 1 and groups == 1:
        return dense(x[:, ::stride], kernel[0])
    padding = ((taps - 1) * dilation, 0) if causal else same_padding(x.shape[1], taps, dilation, stride)
    if x.shape[0] * x.shape[1] <= x.shape[2] and stride == groups == 1:
        padded = jnp.pad(x, ((0, 0), padding, (0, 0)))
        heard = [padded[:, tap * dilation : tap * dilation + x.shape[1]] for tap in range(taps)]
        return dense(jnp.concatenate(heard, axis=-1), kernel.reshape(-1, kernel.shape[-1]))
    if stride == groups == 1:
        return convolve(x, kernel, (padding,), dilation)
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride,),
        padding=[padding],
        rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=groups,
    )


def conv2d(x: Array, kernel: Array) -> Array:
    """Correlate x [batch, frame, bin, in] with a kernel [frame tap, bin tap, in, out]: as many positions come out.

    y[t, f] = sum_kl x[t + k - before, f + l - before'] W[k, l], zeros outside, centred as :func:`conv1d` is. A stride
    is taken by folding patches into channels first (:func:`audiodiff.networks.unet2d.to_patches`).
    """
    if kernel.shape[:2] == (1, 1):
        return dense(x, kernel[0, 0])
    return convolve(x, kernel, tuple(same_padding(x.shape[axis + 1], kernel.shape[axis]) for axis in (0, 1)))


def conv_transpose1d(x: Array, kernel: Array, *, stride: int, causal: bool = False) -> Array:
    """Spread x [batch, time, in] over a kernel [tap, in, out]: time * stride positions come out.

    y[stride t + k - before] += x[t] W[k], where ``before`` = (K - stride) // 2 centres the kernel and is 0 when causal.
    This is the transposed convolution, computed without one: each run of ``stride`` taps is a dense layer whose output
    is reshaped into time, and the runs are added with one position's offset. XLA's transposed convolution is as fast
    forward, but its backward pass is not (192 -> 96, stride 2, 32 x 256 on the CPU: 579 ms, this form 36 ms).

    Raises:
      ValueError: if the kernel is shorter than the stride, which would leave positions without any input.
    """
    taps, channels, features = kernel.shape
    if taps < stride:
        raise ValueError(f"A kernel of {taps} taps leaves holes at stride {stride}: use at least {stride} taps.")
    runs = -(-taps // stride)
    padded = jnp.pad(kernel, ((0, runs * stride - taps), (0, 0), (0, 0)))
    by_run = padded.reshape(runs, stride, channels, features).swapaxes(1, 2).reshape(runs, channels, stride * features)
    spread = sum(jnp.pad(dense(x, run), ((0, 0), (i, runs - 1 - i), (0, 0))) for i, run in enumerate(by_run))
    before = 0 if causal else (taps - stride) // 2
    y = jnp.asarray(spread).reshape(x.shape[0], (x.shape[1] + runs - 1) * stride, features)
    return lax.slice_in_dim(y, before, before + x.shape[1] * stride, axis=1)


def materialise(x: Array) -> Array:
    """Return x, computed once and kept, where XLA's CPU backend would compute it again for each of its readers.

    XLA fuses cheap sums into whatever reads them. Down a residual chain, x_l = x_0 + r_0 + ... + r_(l-1), layer l then
    reads l arrays instead of two, with strides: a training step of DiffWave BASE took 17.0 s without this function and
    4.8 s with it (2 cores, jax 0.10). That backend drops ``optimization_barrier`` before it fuses; what it cannot see
    through is a branch, here on a number above infinity. On other backends, which were not measured, this is x itself.
    """
    return lax.platform_dependent(x, cpu=lambda x: _branch(x, x), default=lambda x: x)


@jax.custom_jvp
def materialise_gradient(x: Array) -> Array:
    """Return x, whose gradient is a chain of sums that is kept as in :func:`materialise`; going forward costs nothing.

    For an array that many layers read: their contributions are added one by one as they come.
    """
    return x


@materialise_gradient.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    kept = lax.platform_dependent(x, tangent, cpu=_branch, default=lambda x, tangent: tangent)
    return materialise_gradient(x), kept


def _branch(witness: Array, x: Array) -> Array:
    """Return x by the only branch that is ever taken, which the compiler cannot know."""
    return lax.cond(_never(witness), jnp.negative, lambda x: x, x)


def _never(*witnesses: Array) -> Array:
    """Return False, which the compiler cannot know before it has computed every witness."""
    return jnp.asarray(sum(witness.ravel()[0] for witness in witnesses)) > jnp.inf


def rematerialise(module: nn.Module, *arguments: Any) -> Any:
    """Return module(*arguments); of it the arguments alone are kept, and the backward pass computes the rest again.

    ``module`` is a bound submodule of the caller. Its parameters and their names are those of a plain call.

    ``nn.remat`` promises the same, but rests on ``optimization_barrier``, which XLA's CPU backend drops: it merges the
    second computation with the first, and saves nothing. Nor is a branch in front of it enough, as in
    :func:`materialise`: what can be computed from what is at hand is computed at once, and kept after all. So the
    second computation waits for the cotangent, and the first for all of its arguments: on the CPU by a choice that
    depends on them, elsewhere by ``optimization_barrier``. Figures are in docs/performance.md, of the CPU alone.

    JAX refuses forward-mode derivatives of this (``jax.jvp``); without it a network takes the same parameters.
    """
    if module.is_initializing():
        return module(*arguments)
    alone, variables = module.unbind()

    @jax.custom_vjp
    def call(variables: Any, *arguments: Any) -> Any:
        return alone.apply(variables, *arguments)

    def forward(variables: Any, *arguments: Any) -> tuple[Any, Any]:
        y = alone.apply(variables, *_await(arguments, arguments))
        # A sum that is fused into whatever reads it would keep all that it sums up.
        return jax.tree.map(materialise, y), (variables, arguments)

    def backward(given: Any, cotangent: Any) -> Any:
        variables, arguments = given
        return jax.vjp(alone.apply, variables, *_await(cotangent, arguments))[1](cotangent)

    call.defvjp(forward, backward)
    return call(variables, *arguments)


def _await(known: Any, arrays: Any) -> Any:
    """Return the arrays, from which nothing is then computed before all of ``known`` is; see :func:`rematerialise`."""

    def choose(known: Any, arrays: Any) -> Any:
        never = _never(*jax.tree.leaves(known))
        return jax.tree.map(lambda array: jnp.where(never, jnp.zeros_like(array), array), arrays)

    return lax.platform_dependent(known, arrays, cpu=choose, default=lambda *both: lax.optimization_barrier(both)[1])


class Dense(nn.Module):
    """Apply a dense layer to the last axis: y = x W + b, with W [in, features]. See :func:`dense`."""

    features: int
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Initializer = lecun_normal()
    bias_init: Initializer = zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        y = dense(x.astype(self.dtype), kernel.astype(self.dtype))
        return (
            y + self.param("bias", self.bias_init, (self.features,), jnp.float32).astype(y.dtype)
            if self.use_bias
            else y
        )


class Conv1d(nn.Module):
    """Convolve [batch, time, in] in time with W [tap, in / groups, features], SAME or causal. See :func:`conv1d`."""

    features: int
    kernel_size: int = 3
    dilation: int = 1
    stride: int = 1
    causal: bool = False
    groups: int = 1
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Initializer = lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        if channels % self.groups or self.features % self.groups:
            raise ValueError(
                f"{self.groups} groups do not divide {channels} input and {self.features} output channels: "
                "choose a divisor of both."
            )
        shape = (self.kernel_size, channels // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(self.dtype)
        y = conv1d(
            x.astype(self.dtype),
            kernel,
            dilation=self.dilation,
            stride=self.stride,
            causal=self.causal,
            groups=self.groups,
        )
        return y + self.param("bias", zeros, (self.features,), jnp.float32).astype(y.dtype) if self.use_bias else y


class Conv2d(nn.Module):
    """Convolve [batch, frame, bin, in] over both axes with W [tap, tap, in, features], SAME. See :func:`conv2d`."""

    features: int
    kernel_size: int = 3
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Initializer = lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = conv2d(x.astype(self.dtype), kernel.astype(self.dtype))
        return y + self.param("bias", zeros, (self.features,), jnp.float32).astype(y.dtype) if self.use_bias else y


class Downsample(nn.Module):
    """Shorten time by ``stride`` with overlapping windows: a convolution of 2 * stride taps.

    [batch, time, in] -> [batch, ceil(time / stride), features]. Windows overlap by half, since patches cut side by side
    are heard as a buzz at the patch rate.
    """

    features: int
    stride: int
    causal: bool = False
    dtype: Any = jnp.float32
    kernel_init: Initializer = lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return Conv1d(
            self.features,
            2 * self.stride,
            stride=self.stride,
            causal=self.causal,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            name="conv",
        )(x)


class Upsample(nn.Module):
    """Lengthen time by ``stride`` with overlapping windows: a transposed convolution of 2 * stride taps.

    [batch, time, in] -> [batch, time * stride, features]. See :func:`conv_transpose1d` for how it is computed.
    """

    features: int
    stride: int
    causal: bool = False
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Initializer = lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        def init(key: Array, shape: tuple[int, int, int], dtype: Any) -> Array:
            # An output hears taps / stride = 2 positions, not all the taps: that is the fan-in to draw for.
            taps, channels, features = shape
            runs = self.kernel_init(key, (2, channels, taps // 2 * features), dtype)
            return runs.reshape(2, channels, taps // 2, features).swapaxes(1, 2).reshape(shape)

        kernel = self.param("kernel", init, (2 * self.stride, x.shape[-1], self.features), jnp.float32)
        y = conv_transpose1d(x.astype(self.dtype), kernel.astype(self.dtype), stride=self.stride, causal=self.causal)
        return y + self.param("bias", zeros, (self.features,), jnp.float32).astype(y.dtype) if self.use_bias else y


class RMSNorm(nn.Module):
    """Normalise every position by its root mean square over channels: y = g x / sqrt(mean_c x_c^2 + eps).

    No statistic crosses time, so the layer is causal, blind to padding and the same at every length
    (Zhang and Sennrich 2019, arXiv 1910.07467). Computed in float32.
    """

    dtype: Any = jnp.float32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", ones, (x.shape[-1],), jnp.float32)
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        inverse = lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + self.epsilon)
        return (wide * inverse * scale).astype(self.dtype)


class FiLM(nn.Module):
    """Modulate channels by a vector: y = (1 + scale(c)) x + shift(c), with x [batch, ..., channel], c [batch, dim].

    Both maps begin at zero, so the layer begins as the identity (Perez et al. 2018, arXiv 1709.07871).
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, vector: Array) -> Array:
        def over_positions(name: str) -> Array:
            y = Dense(x.shape[-1], dtype=self.dtype, kernel_init=zero_init, name=name)(vector)
            return y.reshape(y.shape[0], *(1,) * (x.ndim - 2), y.shape[-1])

        return x.astype(self.dtype) * (1 + over_positions("scale")) + over_positions("shift")
