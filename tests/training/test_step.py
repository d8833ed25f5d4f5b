from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_regression import LinearData, LinearRegression, assert_same

from audiodiff import prng
from audiodiff.training.optimisers import make_optimiser
from audiodiff.training.state import constant_decay, init_state
from audiodiff.training.step import Constants, as_pytree, make_step

SGD = make_optimiser("sgd", learning_rate=0.1, b1=0.0)
EMA = {"short": constant_decay(0.9)}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def setup(objective=LinearRegression(), optimiser=SGD, dtype=np.float32, microbatches=1, seed=0):  # noqa: B008
    data = LinearData(dtype=dtype)
    params = objective.init(prng.stream(seed, "init"), data[0])
    constants = Constants(as_pytree(objective), prng.stream(seed, "train"))
    step = jax.jit(make_step(optimiser, ema=EMA, microbatches=microbatches))
    return data, init_state(params, optimiser.transform, EMA), functools.partial(step, constants=constants)


def test_descends_to_the_weighted_least_squares_solution(x64):
    data, state, step = setup(LinearRegression(noise=0.0), dtype=np.float64)
    batch = data[0] | {"weight": np.array([1, 2, 0, 1, 0.5, 0, 3, 1.0])}
    batch["target"] = batch["target"] + np.random.default_rng(1).normal(size=8)  # no exact fit: the weights matter
    clean = dict(batch)
    batch["target"] = np.where(batch["weight"] > 0, batch["target"], np.nan)  # what a bad item holds must not matter
    for _ in range(3000):
        state, measured = step(state, batch)
    design = np.concatenate([clean["audio"], np.ones((8, 1))], axis=1)
    root = np.sqrt(clean["weight"])[:, None]
    solution = np.linalg.lstsq(root * design, root[:, 0] * clean["target"], rcond=None)[0]
    found = np.concatenate([state.params["w"][:, 0], state.params["b"]])
    np.testing.assert_allclose(found, solution, rtol=1e-6)
    error = (design @ solution - clean["target"]) ** 2
    np.testing.assert_allclose(measured["loss"], np.average(error, weights=clean["weight"]), rtol=1e-6)
    np.testing.assert_allclose(
        measured["absolute_error"], np.average(np.sqrt(error), weights=clean["weight"]), rtol=1e-6
    )
    even = np.arange(8) % 2 == 0  # the objective gives NaN for the others
    np.testing.assert_allclose(measured["even_loss"], np.average(error[even], weights=clean["weight"][even]), rtol=1e-6)
    assert measured["bad_examples"] == 2
    assert measured["gradient_norm"] < 1e-6


@pytest.mark.parametrize("microbatches", [2, 8])
def test_accumulation_equals_the_large_batch(x64, microbatches):
    adamw = make_optimiser("adamw", learning_rate=0.1)
    data, whole, step = setup(optimiser=adamw, dtype=np.float64)
    _, parts, step_by_parts = setup(optimiser=adamw, dtype=np.float64, microbatches=microbatches)
    for k in range(5):
        batch = data[k] | {"weight": np.array([1, 2, 0, 1, 0.5, 0, 3, 1.0])}
        whole, measured = step(whole, batch)
        parts, measured_by_parts = step_by_parts(parts, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), whole, parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), measured, measured_by_parts)


def test_a_non_finite_update_is_skipped_and_counted():
    optimiser = make_optimiser("adamw", learning_rate=0.1, warmup_steps=10)
    data, state, step = setup(optimiser=optimiser)
    state, _ = step(state, data[0])
    before = state
    poison = data[1]
    poison["target"][3] = np.nan
    for k in (1, 2):
        state, measured = step(state, poison)
        assert (state.skipped, state.skipped_in_a_row, state.step) == (k, k, k + 1)
    assert measured["skipped"] == 2 and not np.isfinite(measured["loss"]) and measured["update_norm"] == 0
    assert_same((before.params, before.ema, before.opt_state), (state.params, state.ema, state.opt_state))
    state, measured = step(state, data[3])
    assert (state.skipped, state.skipped_in_a_row) == (2, 0)
    assert float(measured["learning_rate"]) == pytest.approx(0.02)  # the second update, not the fourth step
    assert np.any(np.asarray(before.params["w"] != state.params["w"]))


def test_an_infinite_gradient_of_a_finite_loss_is_skipped():
    @dataclasses.dataclass(frozen=True)
    class Root(LinearRegression):
        def __call__(self, params, context, batch):
            return jnp.sqrt(jnp.abs(params["b"] * batch["target"])), {}

    data, state, step = setup(Root())
    after, measured = step(state, data[0])
    assert np.isfinite(measured["loss"]) and after.skipped == 1
    assert_same(state.params, after.params)


def test_a_batch_without_a_good_item_changes_nothing():
    data, state, step = setup()
    after, measured = step(state, data[0] | {"weight": np.zeros(8, np.float32)})
    assert_same(state.params, after.params)
    assert after.skipped == 1 and measured["bad_examples"] == 8


def test_noise_follows_seed_step_and_draw():
    data, state, step = setup()
    _, _, other_seed = setup(seed=1)
    batch = data[0]
    order = np.array([3, 1, 0, 2, 7, 6, 5, 4])
    first, measured = step(state, batch)
    shuffled, measured_shuffled = step(state, {name: x[order] for name, x in batch.items()})
    np.testing.assert_allclose(measured["absolute_error"], measured_shuffled["absolute_error"], rtol=1e-6)
    np.testing.assert_allclose(first.params["w"], shuffled.params["w"], rtol=1e-5)
    _, reseeded = other_seed(state, batch)
    _, later = step(dataclasses.replace(state, step=state.step + 1), batch)
    _, redrawn = step(state, batch | {"draw": batch["draw"] + 8})
    figures = [float(m["absolute_error"]) for m in (measured, reseeded, later, redrawn)]
    assert len(set(figures)) == 4


def test_arrays_of_the_objective_are_arguments_and_never_compile_again():
    @functools.partial(jax.tree_util.register_dataclass, data_fields=["target"], meta_fields=[])
    @dataclasses.dataclass(frozen=True)
    class Pull:
        target: Any

        def init(self, key, batch):
            return {"w": jnp.zeros(())}

        def __call__(self, params, context, batch):
            return (params["w"] - self.target + context.frozen) ** 2 * batch["weight"], {}

    batch, step = LinearData()[0], jax.jit(make_step(SGD))
    state = init_state({"w": jnp.zeros(())}, SGD.transform, {})
    for target, offset in ((1.0, 0.0), (5.0, 2.0)):
        constants = Constants(as_pytree(Pull(jnp.float32(target))), prng.stream(0, "train"), jnp.float32(offset))
        _, measured = step(state, batch, constants)
        assert measured["loss"] == (target - offset) ** 2
    assert step._cache_size() == 1


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda loss: (jnp.mean(loss), {}), r"shape \(\)"),
        (lambda loss: (loss, {"a": loss[:, None]}), r"'a' of shape \(8, 1\)"),
        (lambda loss: (loss, {"loss": loss}), "'loss', a name of the trainer's own"),
    ],
)
def test_what_an_objective_may_not_return(returned, words):
    @dataclasses.dataclass(frozen=True)
    class Wrong(LinearRegression):
        def __call__(self, params, context, batch):
            return returned(params["w"][0] * batch["target"])

    data, state, step = setup(Wrong())
    with pytest.raises(ValueError, match=words):
        step(state, data[0])


def test_an_objective_that_cannot_be_hashed_is_refused():
    @dataclasses.dataclass
    class Mutable:
        sizes: list

    with pytest.raises(TypeError, match="Mutable cannot be hashed"):
        as_pytree(Mutable([1]))
