from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from audiodiff.diffusion.weightings import uncertainty_loss
from audiodiff.networks.uncertainty import init_log_variance, log_variance

LEVELS = np.linspace(-1.5, 1.5, 256).astype(np.float32)


def test_no_level_counts_for_more_at_first():
    u = log_variance(init_log_variance(jax.random.key(0)), LEVELS)
    assert u.dtype == jnp.float32
    np.testing.assert_array_equal(u, np.zeros(256))


def test_learns_the_logarithm_of_the_expected_loss_at_every_level():
    """The minimum of E[loss / e^u + u] is at u = ln E[loss]; losses over three decades, each of them noisy."""
    expected = 3 * np.sin(2 * LEVELS) - 1
    noise = np.random.default_rng(0).gamma(4.0, 1 / 4.0, size=(400, 256))
    losses = (np.exp(expected) * noise).astype(np.float32)
    optimiser = optax.adam(optax.cosine_decay_schedule(0.1, 400))

    @jax.jit
    def fit(params):
        def step(carry, loss):
            params, state = carry
            gradient = jax.grad(lambda p: jnp.mean(uncertainty_loss(loss, log_variance(p, LEVELS))))(params)
            updates, state = optimiser.update(gradient, state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimiser.init(params)), losses)[0][0]

    u = log_variance(fit(init_log_variance(jax.random.key(0))), LEVELS)
    np.testing.assert_allclose(u, expected, atol=0.25)
