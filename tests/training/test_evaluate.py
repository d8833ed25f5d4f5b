from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_regression import LinearData, LinearRegression

from audiodiff.training import evaluate_loss, make_strategy
from audiodiff.training.parallel import _measure

PARAMS = {"w": jnp.array([[1.0], [-1.0], [0.5]]), "b": jnp.array([0.25])}
KEY = jax.random.key(3)


def split(batches, size):
    """Cut batches into smaller ones with the same draws."""
    return [{name: x[i : i + size] for name, x in batch.items()} for batch in batches for i in range(0, 8, size)]


def test_means_are_over_all_examples_by_weight():
    batches = [LinearData()[k] for k in range(3)]
    batches[1]["weight"] = np.array([0, 0, 0, 0, 0, 0, 0, 2], np.float32)
    figures = evaluate_loss(LinearRegression(noise=0.0), PARAMS, batches, KEY)
    x, y, w = (np.concatenate([b[name] for b in batches]) for name in ("audio", "target", "weight"))
    error = x @ np.array([1.0, -1.0, 0.5]) + 0.25 - y
    assert figures["loss"] == pytest.approx(np.average(error**2, weights=w), rel=1e-5)
    assert figures["absolute_error"] == pytest.approx(np.average(np.abs(error), weights=w), rel=1e-5)
    even = np.concatenate([b["draw"] for b in batches]) % 2 == 0
    assert figures["even_loss"] == pytest.approx(np.average(error[even] ** 2, weights=w[even]), rel=1e-5)


def test_noise_is_fixed_by_key_and_draw_whatever_the_batch_size_and_devices():
    batches, objective = [LinearData()[k] for k in range(2)], LinearRegression(noise=2.0)
    figures = evaluate_loss(objective, PARAMS, batches, KEY)
    assert figures == evaluate_loss(objective, PARAMS, batches, KEY)
    assert figures["loss"] != evaluate_loss(objective, PARAMS, batches, jax.random.key(4))["loss"]
    assert figures == pytest.approx(evaluate_loss(objective, PARAMS, split(batches, 4), KEY), rel=1e-5)
    strategy = make_strategy("jit", devices=4, batch_size=8)
    placed = jax.device_put(PARAMS, strategy.replicated)
    assert figures == pytest.approx(evaluate_loss(objective, placed, batches, KEY, strategy=strategy), rel=1e-5)


def test_new_parameters_do_not_compile_again():
    batches, objective = [LinearData()[0]], LinearRegression(noise=0.5)
    evaluate_loss(objective, PARAMS, batches, KEY)
    before = _measure._cache_size()
    evaluate_loss(objective, jax.tree.map(lambda p: 2 * p, PARAMS), batches, jax.random.key(9))
    assert _measure._cache_size() == before


def test_an_empty_list_is_an_error():
    with pytest.raises(ValueError, match="no batch to evaluate on"):
        evaluate_loss(LinearRegression(), PARAMS, [], KEY)
