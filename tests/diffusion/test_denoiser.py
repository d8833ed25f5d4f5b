"""Check that a network becomes the Denoiser that its parameterisation says."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.diffusion import parameterisations as table
from audiodiff.diffusion.denoiser import ModelDenoiser
from audiodiff.diffusion.gaussians import Gaussian
from audiodiff.diffusion.parameterisations import PARAMETERISATIONS, X0
from audiodiff.diffusion.processes import VpCosine
from audiodiff.types import Level

SIGMA_DATA = 0.5


@pytest.mark.parametrize("row", PARAMETERISATIONS.values(), ids=PARAMETERISATIONS.keys())
def test_a_network_that_puts_out_the_exact_target_gives_the_exact_denoiser(x64, row):
    data = Gaussian(jnp.array([0.4, -0.1]), jnp.array([0.2, 1.0]))
    level = VpCosine().level(jnp.array([0.1, 0.5, 0.9]))
    x_t = jnp.asarray(np.random.default_rng(0).standard_normal((3, 2)))

    def network(params, x, noise_condition, conditions):
        """See only what a network sees: scaled input and c_noise, which tell level and x_t up to their scale."""
        ratio = jnp.exp(4 * noise_condition)[:, None]
        unit = Level(1 / jnp.sqrt(params**2 + ratio[:, 0] ** 2), ratio[:, 0] / jnp.sqrt(params**2 + ratio[:, 0] ** 2))
        return table.convert(X0, row, data(x, unit, conditions), x, unit, params)

    got = ModelDenoiser(SIGMA_DATA, SIGMA_DATA, network, row)(x_t, level, {})
    np.testing.assert_allclose(got, data(x_t, level, {}), rtol=1e-9)


def test_another_checkpoint_compiles_nothing_anew():
    traced = []

    def network(params, x, noise_condition, conditions):
        traced.append(x.shape)
        return params * x

    call = jax.jit(lambda denoise, x, level: denoise(x, level, {}))
    level, x = VpCosine().level(jnp.array([0.5])), jnp.ones((1, 4))
    outputs = [call(ModelDenoiser(jnp.float32(scale), 0.5, network), x, level) for scale in (1.0, 2.0)]
    assert len(traced) == 1
    assert not np.allclose(*outputs)


def test_dtype_of_the_network_does_not_leak():
    denoise = ModelDenoiser((), 0.5, lambda params, x, noise_condition, conditions: x.astype(jnp.bfloat16))
    x0 = denoise(jnp.ones((2, 3)), VpCosine().level(jnp.array([0.2, 0.4])), {})
    assert x0.dtype == jnp.float32 and x0.shape == (2, 3)
