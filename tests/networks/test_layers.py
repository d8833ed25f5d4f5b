from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from audiodiff.networks import layers
from audiodiff.networks.conditions import ConditionSpec
from audiodiff.networks.dilated_stack import DilatedStack
from audiodiff.networks.functional import Functional
from audiodiff.networks.layers import materialise, materialise_gradient, rematerialise
from audiodiff.networks.unet1d import UNet1d

RNG = np.random.default_rng(0)
CASES = [  # kernel size, dilation, stride, causal, groups, time
    (1, 1, 1, False, 1, 11),
    (1, 1, 3, True, 1, 11),
    (3, 4, 1, True, 1, 13),
    (8, 1, 4, False, 1, 22),
    (4, 1, 2, True, 2, 12),
    (5, 2, 1, False, 2, 9),
]


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def value_and_pullback(function, cotangent, *arguments):
    """Return f(arguments) and the cotangent pulled back through f; compiled whole, which is quicker than op by op."""

    @jax.jit
    def run(cotangent, *arguments):
        value, pull = jax.vjp(function, *arguments)
        return value, pull(cotangent)

    return run(cotangent, *arguments)


def close(actual, expected, tolerance=2e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), actual, expected)


@pytest.mark.parametrize("size, dilation, stride, causal, groups, time", CASES)
def test_conv1d_and_its_gradients_equal_flax_with_the_same_parameters(size, dilation, stride, causal, groups, time):
    ours = layers.Conv1d(6, size, dilation, stride, causal, groups)
    theirs = nn.Conv(
        6,
        (size,),
        strides=(stride,),
        padding="CAUSAL" if causal else "SAME",
        kernel_dilation=(dilation,),
        feature_group_count=groups,
    )
    x = normal(2, time, 4)
    params = {"params": {"kernel": normal(size, 4 // groups, 6), "bias": normal(6)}}
    initial = jax.eval_shape(ours.init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, initial) == jax.tree.map(jnp.shape, params)
    cotangent = normal(2, -(-time // stride), 6)
    close(*(value_and_pullback(net.apply, cotangent, params, x) for net in (ours, theirs)))


@pytest.mark.oracle
@pytest.mark.parametrize("size, dilation, stride, causal, groups, time", CASES)
def test_conv1d_and_its_gradients_equal_torch(size, dilation, stride, causal, groups, time):
    torch = pytest.importorskip("torch")
    x, kernel = normal(2, time, 4), normal(size, 4 // groups, 6)
    cotangent = normal(2, -(-time // stride), 6)
    ours = value_and_pullback(
        lambda x, w: layers.conv1d(x, w, dilation=dilation, stride=stride, causal=causal, groups=groups),
        cotangent,
        x,
        kernel,
    )
    before = (size - 1) * dilation if causal else layers.same_padding(time, size, dilation, stride)[0]
    x_t = torch.tensor(np.asarray(x).transpose(0, 2, 1), requires_grad=True)
    w_t = torch.tensor(np.asarray(kernel).transpose(2, 1, 0), requires_grad=True)
    padded = torch.nn.functional.pad(x_t, (before, size * dilation + stride))
    y_t = torch.nn.functional.conv1d(padded, w_t, stride=stride, dilation=dilation, groups=groups)
    y_t = y_t[:, :, : cotangent.shape[1]]
    y_t.backward(torch.tensor(np.asarray(cotangent).transpose(0, 2, 1)))
    theirs = (y_t.detach().mT.numpy(), (x_t.grad.mT.numpy(), w_t.grad.permute(2, 1, 0).numpy()))
    close(ours, theirs)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_conv2d_and_its_gradients_equal_flax_with_the_same_parameters(size):
    ours, theirs = layers.Conv2d(6, size), nn.Conv(6, (size, size))
    x, params = normal(2, 5, 7, 4), {"params": {"kernel": normal(size, size, 4, 6), "bias": normal(6)}}
    assert jax.tree.map(jnp.shape, jax.eval_shape(ours.init, jax.random.key(0), x)) == jax.tree.map(jnp.shape, params)
    cotangent = normal(2, 5, 7, 6)
    close(*(value_and_pullback(net.apply, cotangent, params, x) for net in (ours, theirs)))


@pytest.mark.oracle
def test_conv2d_and_its_gradients_equal_torch():
    torch = pytest.importorskip("torch")
    x, kernel, cotangent = normal(2, 5, 7, 4), normal(3, 5, 4, 6), normal(2, 5, 7, 6)
    ours = value_and_pullback(layers.conv2d, cotangent, x, kernel)
    x_t = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2), requires_grad=True)
    w_t = torch.tensor(np.asarray(kernel).transpose(3, 2, 0, 1), requires_grad=True)
    y_t = torch.nn.functional.conv2d(x_t, w_t, padding="same")
    y_t.backward(torch.tensor(np.asarray(cotangent).transpose(0, 3, 1, 2)))
    theirs = (y_t.permute(0, 2, 3, 1), (x_t.grad.permute(0, 2, 3, 1), w_t.grad.permute(2, 3, 1, 0)))
    close(ours, jax.tree.map(lambda value: value.detach().numpy(), theirs))


@pytest.mark.oracle
@pytest.mark.parametrize(
    "size, stride, causal", [(4, 2, False), (8, 4, True), (5, 2, False), (32, 16, False), (3, 3, True)]
)
def test_conv_transpose1d_and_its_gradients_equal_torch(size, stride, causal):
    torch = pytest.importorskip("torch")
    x, kernel, cotangent = normal(2, 5, 3), normal(size, 3, 4), normal(2, 5 * stride, 4)
    ours = value_and_pullback(
        lambda x, w: layers.conv_transpose1d(x, w, stride=stride, causal=causal), cotangent, x, kernel
    )
    before = 0 if causal else (size - stride) // 2
    x_t = torch.tensor(np.asarray(x).transpose(0, 2, 1), requires_grad=True)
    w_t = torch.tensor(np.asarray(kernel).transpose(1, 2, 0), requires_grad=True)
    y_t = torch.nn.functional.conv_transpose1d(x_t, w_t, stride=stride)[:, :, before : before + 5 * stride]
    y_t.backward(torch.tensor(np.asarray(cotangent).transpose(0, 2, 1)))
    close(ours, (y_t.detach().mT.numpy(), (x_t.grad.mT.numpy(), w_t.grad.permute(2, 0, 1).numpy())))


def test_transposed_convolution_is_the_adjoint_of_the_strided_one():
    x, y, kernel = normal(2, 24, 3), normal(2, 6, 5), normal(8, 3, 5)
    down = layers.conv1d(x, kernel, stride=4)
    up = layers.conv_transpose1d(y, kernel.swapaxes(1, 2), stride=4)
    np.testing.assert_allclose(jnp.vdot(down, y), jnp.vdot(x, up), rtol=1e-4)


def test_a_kernel_shorter_than_the_stride_is_refused():
    with pytest.raises(ValueError, match="3 taps leaves holes at stride 4"):
        layers.conv_transpose1d(normal(1, 5, 2), normal(3, 2, 2), stride=4)


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="3 groups do not divide 4 input"):
        layers.Conv1d(6, groups=3).init(jax.random.key(0), normal(1, 5, 4))


@pytest.mark.parametrize("module", [layers.Downsample(4, 4), layers.Upsample(4, 4)])
def test_windows_overlap(module):
    """Every input is heard by more than one window, every window boundary is crossed."""
    x = normal(1, 16, 4)
    params = jax.jit(module.init)(jax.random.key(0), x)
    jacobian = jax.jit(jax.jacrev(lambda x: module.apply(params, x).sum(-1)))(x)
    jacobian = np.asarray(jacobian)[0, :, 0].any(-1)  # [out, in]
    assert (jacobian[:, 4:12].sum(axis=0) >= 2).all()


def test_resampling_keeps_the_scale_of_white_noise():
    """Variance 1 in gives variance about 1 out at initialisation, at a stride where a wrong fan-in would show."""
    x, stride = normal(4, 300, 32), 5
    for module in (layers.Downsample(48, stride), layers.Upsample(48, stride)):
        y, _ = jax.jit(module.init_with_output)(jax.random.key(1), x)
        assert y.shape[1] * stride == 300 if isinstance(module, layers.Downsample) else y.shape[1] == 300 * stride
        assert 0.8 < np.var(np.asarray(y)[:, 2:-2]) < 1.2


def test_rms_norm_has_unit_mean_square_at_every_position_and_ignores_the_others():
    x = 50 * normal(2, 7, 16)
    module = layers.RMSNorm()
    params = {"params": {"scale": jnp.ones(16)}}
    y = np.asarray(module.apply(params, x))
    np.testing.assert_allclose(np.mean(y**2, axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(module.apply(params, 3 * x), y, rtol=1e-5)
    shuffled = RNG.permutation(7)
    np.testing.assert_array_equal(module.apply(params, x[:, shuffled]), y[:, shuffled])
    silence = jax.grad(lambda x: module.apply(params, x).sum())(jnp.zeros_like(x))
    assert np.isfinite(silence).all()


def test_film_begins_as_the_identity_and_learns_from_its_vector():
    x, vector = normal(2, 5, 6), normal(2, 3)
    module = layers.FiLM()
    params = module.init(jax.random.key(0), x, vector)
    np.testing.assert_array_equal(module.apply(params, x, vector), x)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(module.apply(p, x, vector) ** 2)))(params)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
    "module", [layers.Dense(4), layers.Conv1d(4), layers.Conv2d(4), layers.Downsample(4, 2), layers.Upsample(4, 2)]
)
def test_computes_in_its_dtype_with_float32_parameters(module):
    module = module.clone(dtype=jnp.bfloat16)
    x = normal(2, 6, 5, 4) if isinstance(module, layers.Conv2d) else normal(2, 6, 4)
    y, params = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
    assert y.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


def test_dense_keeps_every_leading_axis():
    x, kernel = normal(2, 3, 5, 4), normal(4, 6)
    np.testing.assert_allclose(layers.dense(x, kernel), np.einsum("abci,io->abco", x, kernel), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("function", [materialise, materialise_gradient])
def test_what_is_materialised_and_its_derivatives_are_unchanged(function):
    x = jnp.asarray([[jnp.inf, 2.0], [jnp.nan, -3.0]])
    np.testing.assert_array_equal(jax.jit(function)(x), x)
    np.testing.assert_array_equal(jax.vmap(function)(x), x)

    def f(x):
        return jnp.sum(function(x) ** 3)

    y, t = jnp.asarray([2.0, -1.0]), jnp.asarray([1.0, 10.0])
    np.testing.assert_allclose(jax.jit(jax.grad(f))(y), [12.0, 3.0])
    np.testing.assert_allclose(jax.jvp(f, (y,), (t,))[1], 42.0)
    np.testing.assert_allclose(jax.jit(jax.hessian(f))(y), np.diag([12.0, -6.0]))


QUICK = {"xla_backend_optimization_level": 0}
"""Compile in less time, to the same buffers."""
FRAMES = ConditionSpec("mel", "frames", 4)
DEEP = {
    "UNet1d": UNet1d((4,), (8,), (2,), (1,), attention="linear", embedding=8, conditions=(FRAMES,)),
    "DilatedStack": DilatedStack(8, 8, 4, embedding_features=8, conditions=(FRAMES,)),
}


@functools.cache
def deep(name, remat):
    """Return the compiled loss and gradient of a deep network, and its parameters' shapes."""
    network, x, mel = Functional(DEEP[name].clone(remat=remat)), jnp.ones((2, 1024, 1)), {"mel": jnp.ones((2, 16, 4))}
    params = jax.eval_shape(network.init, jax.random.key(0), x, mel)

    def loss(params, x):
        y = network(params, x, jnp.zeros(2), network.encode(params, mel))
        return jnp.mean((y - 1) ** 2)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(params, x).compile(QUICK), params


@pytest.mark.parametrize("name", DEEP)
def test_a_network_that_rematerialises_has_the_same_parameters_outputs_and_gradients(name):
    (plain, params), (remat, again) = deep(name, False), deep(name, True)
    assert params == again
    values = (jax.tree.map(lambda leaf: normal(*leaf.shape) / 3, params), normal(2, 1024, 1))
    for e, a in zip(jax.tree.leaves(plain(*values)), jax.tree.leaves(remat(*values)), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5 * np.abs(e).max())


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="what a compiled program needs is its backend's affair")
@pytest.mark.parametrize("name", DEEP)
def test_a_network_that_rematerialises_needs_less_than_half_the_memory(name, monkeypatch):
    """And only while XLA can neither merge what is computed again with what was, nor compute it ahead."""

    def temporary_bytes(compiled):
        return compiled.memory_analysis().temp_size_in_bytes

    half = temporary_bytes(deep(name, False)[0]) / 2
    assert temporary_bytes(deep(name, True)[0]) < half
    monkeypatch.setattr(layers, "_await", lambda known, arrays: arrays)
    assert temporary_bytes(deep.__wrapped__(name, True)[0]) > half  # else XLA has learnt better, and the wait can go


@pytest.mark.parametrize("backend", ["this", "another"])
def test_what_is_rematerialised_can_be_mapped_and_differentiated_twice_but_not_forward(backend, monkeypatch):
    class Network(nn.Module):
        remat: bool

        @nn.compact
        def __call__(self, x):
            layer = layers.Dense(3, name="layer")
            return jnp.tanh(rematerialise(layer, x) if self.remat else layer(x))

    x = normal(2, 5, 4)
    params, again = (Network(remat).init(jax.random.key(0), x) for remat in (False, True))
    jax.tree.map(np.testing.assert_array_equal, params, again)
    if backend == "another":
        monkeypatch.setattr(layers.lax, "platform_dependent", lambda *arguments, cpu, default: default(*arguments))

    def transformed(remat, transform):
        return jax.jit(transform(lambda x: jnp.sum(Network(remat).apply(params, x) ** 2)))(x)

    for transform in (jax.hessian, lambda f: jax.jacrev(jax.grad(f)), lambda f: jax.vmap(jax.grad(f))):
        close(transformed(True, transform), transformed(False, transform))
    with pytest.raises(TypeError, match="forward-mode"):
        transformed(True, lambda f: lambda x: jax.jvp(f, (x,), (x,)))
