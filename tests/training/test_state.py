from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from audiodiff.training.state import PowerDecay, constant_decay, init_state, power_exponent, update_ema


def averages(decay, values, start=0.0):
    """Return the average after each of ``values`` was a parameter in turn, by the code under test."""

    def push(ema, item):
        n, value = item
        ema = update_ema(ema, {"w": value}, n, {"e": decay})
        return ema, ema["e"]["w"]

    values = jnp.asarray(values, jnp.float32)
    start = {"e": {"w": jnp.broadcast_to(jnp.float32(start), values.shape[1:])}}
    return np.asarray(jax.lax.scan(push, start, (jnp.arange(len(values)), values))[1])


def test_power_average_has_the_length_it_is_named_for():
    # The definition of sigma_rel: the standard deviation of the averaging profile, relative to the training so far.
    steps = 2000
    for length in (0.05, 0.15):
        profile = averages(PowerDecay(length), np.eye(steps))[-1].astype(np.float64)
        assert profile.sum() == pytest.approx(1.0, abs=1e-5)  # nothing is left of the random start
        time = (np.arange(steps) + 0.5) / steps
        deviation = math.sqrt(profile @ time**2 - (profile @ time) ** 2)
        assert deviation == pytest.approx(length, rel=2e-2)


def test_power_exponents_of_the_paper():
    # EDM2, section 3.1: sigma_rel 0.05 and 0.10 are gamma 16.97 and 6.94.
    assert power_exponent(0.05) == pytest.approx(16.97, abs=5e-3)
    assert power_exponent(0.10) == pytest.approx(6.94, abs=5e-3)
    assert power_exponent(1 / math.sqrt(12)) == pytest.approx(0.0, abs=1e-6)  # the uniform average


def test_uniform_power_average_is_the_mean():
    values = np.random.default_rng(0).normal(size=50)
    running = averages(PowerDecay(1 / math.sqrt(12)), values, start=10.0)
    np.testing.assert_allclose(running, np.cumsum(values) / np.arange(1, 51), rtol=1e-4, atol=1e-5)


def test_constant_average_lags_a_ramp_by_its_length():
    decay = 0.9
    running = averages(constant_decay(decay), np.arange(400.0))
    assert running[-1] == pytest.approx(399 - decay / (1 - decay), rel=1e-4)  # closed form of the steady lag


def test_constant_average_forgets_its_start_early():
    # After ten updates the start weighs prod (1 + n) / (10 + n) = 10! 9! / 19!, not 0.9999^10 = 0.999.
    running = averages(constant_decay(0.9999), np.ones(10))
    assert 1 - running[-1] == pytest.approx(math.factorial(10) * math.factorial(9) / math.factorial(19), rel=1e-1)


def test_averages_start_as_parameters_in_memory_of_their_own():
    params = {"w": jnp.arange(3.0)}
    state = jax.jit(lambda p: init_state(p, optax.sgd(0.1), {"a": constant_decay(0.9), "b": PowerDecay(0.1)}))(params)
    assert sorted(state.ema) == ["a", "b"]
    np.testing.assert_array_equal(state.ema["b"]["w"], params["w"])
    pointers = {
        x.unsafe_buffer_pointer() for x in (params["w"], state.params["w"], *(e["w"] for e in state.ema.values()))
    }
    assert len(pointers) == 4


def test_bad_lengths_are_named():
    with pytest.raises(ValueError, match=r"decay=1\.0"):
        constant_decay(1.0)
    with pytest.raises(ValueError, match=r"length=0\.5"):
        PowerDecay(0.5)
