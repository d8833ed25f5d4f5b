from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from audiodiff.training.optimisers import OPTIMISERS, make_optimiser, make_schedule, rest_without_gradient


def rates(schedule, counts):
    return np.array([float(schedule(n)) for n in counts])


def test_warm_up_then_cosine_meets_its_landmarks():
    rate = make_schedule(2.0, schedule="cosine", warmup_steps=10, total_steps=110, end_factor=0.1)
    np.testing.assert_allclose(rates(rate, [0, 4, 9]), [0.2, 1.0, 2.0], rtol=1e-6)  # a straight line up to the peak
    np.testing.assert_allclose(rates(rate, [10, 60, 110, 500]), [2.0, 1.1, 0.2, 0.2], rtol=1e-6)
    assert np.all(np.diff(rates(rate, range(10, 111))) <= 0)


def test_cosine_and_linear_agree_with_optax():
    counts = [0, 1, 37, 63, 100]
    ours = make_schedule(0.3, schedule="cosine", total_steps=100, end_factor=0.2)
    np.testing.assert_allclose(
        rates(ours, counts), rates(optax.cosine_decay_schedule(0.3, 100, 0.2), counts), rtol=1e-5
    )
    ours = make_schedule(0.3, schedule="linear", total_steps=100)
    np.testing.assert_allclose(rates(ours, counts), rates(optax.linear_schedule(0.3, 0.0, 100), counts), atol=1e-7)


def test_inverse_sqrt_halves_when_time_quadruples():
    rate = make_schedule(1.0, schedule="inverse_sqrt", warmup_steps=100)
    assert float(rate(100)) == pytest.approx(1.0)  # continuous at the end of the warm-up
    np.testing.assert_allclose(rates(rate, [4000]) / rates(rate, [1000]), 0.5, rtol=1e-5)
    later = make_schedule(1.0, schedule="inverse_sqrt", warmup_steps=10, reference_steps=1000)
    np.testing.assert_allclose(rates(later, [10, 1000, 4000]), [1.0, 1.0, 0.5], rtol=1e-5)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_each_optimiser_descends_a_quadratic(name):
    optimiser = make_optimiser(name, learning_rate=0.05, clip_norm=10.0, b1=0.5)
    target = jax.random.normal(jax.random.key(0), (2, 3, 4))

    def loss(params):
        return jnp.sum((params["kernel"] - target) ** 2) + jnp.sum((params["bias"] - 1.0) ** 2)

    params = {"kernel": jnp.zeros_like(target), "bias": jnp.zeros(4)}

    def descend(carry, _):
        params, state = carry
        updates, state = optimiser.transform.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    (end, _), _ = jax.lax.scan(descend, (params, optimiser.transform.init(params)), length=200)
    assert float(loss(end)) < 0.05 * float(loss(params))


def test_muon_flattens_a_convolution_kernel_and_makes_its_update_orthogonal():
    optimiser = make_optimiser("muon", learning_rate=1.0, b1=0.0)
    params = {"kernel": jnp.zeros((3, 5, 4)), "bias": jnp.zeros(4)}
    gradients = jax.tree.map(lambda p: jax.random.normal(jax.random.key(1), p.shape), params)
    updates, _ = optimiser.transform.update(gradients, optimiser.transform.init(params), params)
    values = np.linalg.svd(np.reshape(updates["kernel"], (15, 4)), compute_uv=False)
    raw = np.linalg.svd(np.reshape(gradients["kernel"], (15, 4)), compute_uv=False)
    assert values.max() / values.min() < 1.8 < raw.max() / raw.min()  # five Newton-Schulz steps land in 0.7 to 1.2
    np.testing.assert_allclose(updates["bias"], -np.sign(gradients["bias"]), rtol=1e-3)  # Adam's first step


@pytest.mark.parametrize("name", OPTIMISERS)
def test_weight_decay_shrinks_kernels_and_spares_biases(name):
    optimiser = make_optimiser(name, learning_rate=0.1, weight_decay=0.5, b1=0.0)
    params = {"kernel": jnp.ones((3, 3)), "bias": jnp.ones(3)}
    updates, _ = optimiser.transform.update(
        jax.tree.map(jnp.zeros_like, params), optimiser.transform.init(params), params
    )
    np.testing.assert_allclose(updates["kernel"], -0.05, rtol=1e-5)  # lr * decay, decoupled from the gradient
    np.testing.assert_array_equal(updates["bias"], 0.0)


def test_gradients_are_clipped_to_the_norm():
    optimiser = make_optimiser("sgd", learning_rate=1.0, clip_norm=0.5, b1=0.0)
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    updates, _ = optimiser.transform.update(
        {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}, optimiser.transform.init(params), params
    )
    np.testing.assert_allclose(updates["a"], [-0.3, 0.0], rtol=1e-6)
    np.testing.assert_allclose(updates["b"], [-0.4], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "adam"}, "choose one of adamw, "),
        ({"schedule": "cosin"}, "choose one of cosine, "),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"warmup_steps": -1}, "warmup_steps=-1"),
        ({"schedule": "cosine"}, "total_steps"),
        ({"schedule": "linear", "warmup_steps": 10, "total_steps": 10}, "above warmup_steps=10"),
        ({"clip_norm": 0.0}, "clip_norm=0.0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"b2": 1.0}, "b2=1.0"),
        ({"end_factor": 2.0}, "end_factor=2.0"),
    ],
)
def test_bad_values_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        make_optimiser(**({"name": "adamw", "learning_rate": 0.1} | arguments))


PARAMS = {"encoder": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "head": {"kernel": jnp.ones((2, 2))}}


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_frozen_parameters_stay_and_do_not_count_for_the_clipped_norm(name):
    """The others move as if the frozen ones did not exist, whatever gradient and weight decay these have."""
    options = {"learning_rate": 0.1, "weight_decay": 0.1, "clip_norm": 1.0}
    gradients = jax.tree.map(lambda p: jnp.full_like(p, 3.0), PARAMS)

    def update(transform, params, gradients):
        return transform.update(gradients, transform.init(params), params)[0]

    moved = update(make_optimiser(name, frozen=("encoder/*",), **options).transform, PARAMS, gradients)
    alone = update(make_optimiser(name, **options).transform, {"head": PARAMS["head"]}, {"head": gradients["head"]})
    assert not any(jnp.any(leaf) for leaf in jax.tree.leaves(moved["encoder"]))
    np.testing.assert_allclose(moved["head"]["kernel"], alone["head"]["kernel"], rtol=1e-6)


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        (("encodr/*",), r"frozen 'encodr/\*' matches no parameter; the nearest are encoder/"),
        (("*",), r"frozen \* leaves no parameter to train"),
    ],
)
def test_what_cannot_be_frozen_is_told(patterns, words):
    transform = make_optimiser("adamw", learning_rate=0.1, frozen=patterns).transform
    with pytest.raises(ValueError, match=words):
        transform.init(PARAMS)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_part_without_gradient_rests_whatever_momentum_and_decay_would_do(name):
    plain = make_optimiser(name, learning_rate=0.1, weight_decay=0.5, clip_norm=1.0).transform
    resting = rest_without_gradient(plain)
    params = {part: {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)} for part in ("first", "second")}
    moving = jax.tree.map(jnp.ones_like, params)
    halted = moving | {"first": jax.tree.map(jnp.zeros_like, moving["first"])}
    barely = jax.tree.map(jnp.zeros_like, moving)
    barely["first"]["bias"] = jnp.array([0.0, 0.0, 1e-3])
    states = {transform: transform.init(params) for transform in (plain, resting)}
    for gradients, rests in ((moving, []), (halted, ["first"]), (barely, ["second"])):
        updates = {}
        for transform, state in states.items():
            updates[transform], states[transform] = transform.update(gradients, state, params)
        expected = {
            part: jax.tree.map(jnp.zeros_like, update) if part in rests else update
            for part, update in updates[plain].items()
        }
        jax.tree.map(np.testing.assert_array_equal, updates[resting], expected)
        assert all(np.any(leaf != 0) for part in rests for leaf in [updates[plain][part]["kernel"]])
    jax.tree.map(np.testing.assert_array_equal, states[plain], states[resting])
