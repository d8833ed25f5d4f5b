"""Check guidance on mixtures, where class, density and gradient are known (ledger 28 and 29)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from audiodiff.diffusion import samplers
from audiodiff.diffusion.gaussians import Mixture
from audiodiff.diffusion.guidance import Classifier, ClassifierFree
from audiodiff.diffusion.parameterisations import SCORE, X0, convert
from audiodiff.diffusion.processes import Edm
from audiodiff.types import Level

LEVEL = Level(np.cos([0.3, 0.8, 1.3]), np.sin([0.3, 0.8, 1.3]))


def classes() -> Mixture:
    return Mixture(jnp.array([0.4, 0.6]), jnp.array([[-1.0, 0.2], [0.6, 0.0]]), jnp.array([0.25, 0.09]))


def asked(batch: int) -> dict[str, jax.Array]:
    """Ask for the second class."""
    return {"weights": jnp.tile(jnp.array([[0.0, 1.0]]), (batch, 1))}


def absent(batch: int) -> dict[str, jax.Array]:
    return {"weights": jnp.tile(classes().weights, (batch, 1))}


def points(batch: int = 3) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).standard_normal((batch, 2)))


# --- classifier-free


def test_one_is_the_condition_and_zero_is_none(x64):
    x = points()
    for scale, conditions in ((1.0, asked(3)), (0.0, absent(3))):
        got = ClassifierFree(classes(), absent(3), scale)(x, LEVEL, asked(3))
        np.testing.assert_allclose(got, classes()(x, LEVEL, conditions), rtol=1e-12)


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_the_guided_mean_is_that_of_the_guided_density(x64, scale):
    """Tweedie: the guided estimate has the score of p(x)^(1-w) p(x | class)^w, by autodiff of the closed densities."""
    x = points()
    guided = ClassifierFree(classes(), absent(3), scale)(x, LEVEL, asked(3))

    def log_density(x):
        return (1 - scale) * classes().log_density(x, LEVEL, absent(3)) + scale * classes().log_density(
            x, LEVEL, asked(3)
        )

    expected = jax.grad(lambda x: jnp.sum(log_density(x)))(x)
    np.testing.assert_allclose(convert(X0, SCORE, guided, x, LEVEL, 1.0), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_an_estimate_without_any_spread_has_gradients(rescale):
    """As that of a network which begins at zero: a guide around it differentiates through the spread."""

    def total(x):
        def nothing(x, level, conditions):
            return jnp.zeros_like(x) * conditions["weights"][:, :1]

        return jnp.sum(ClassifierFree(nothing, absent(3), 2.0, rescale=rescale)(x, LEVEL, asked(3)))

    assert np.isfinite(jax.grad(total)(points())).all()


def test_guided_samples_are_where_the_guided_ode_leads(x64):
    """Solve dx/dsigma = (x - D_w)/sigma with scipy in one dimension, and push samples past the mean of their class."""
    data = Mixture(jnp.array([0.5, 0.5]), jnp.array([[-1.0], [1.0]]), jnp.array([0.25, 0.25]))
    grid = Edm(0.05, 20.0).level(jnp.linspace(1.0, 0.0, 200))
    x = 20.0 * jnp.array([[-1.0], [0.1], [1.2]])
    given, none = (jnp.tile(jnp.array([row]), (3, 1)) for row in ([0.0, 1.0], [0.5, 0.5]))
    guided = ClassifierFree(data, {"weights": none}, 2.5)
    end = jax.jit(lambda d, x, g, c: samplers.heun(d, x, g, c))(guided, x, grid, {"weights": given})

    def slope(sigma, y):
        spread = 0.25 + sigma**2
        posterior = 1 / (1 + np.exp(-2 * y / spread))
        estimates = [m + 0.25 / spread * (y - m) for m in (-1.0, 1.0)]
        none = (1 - posterior) * estimates[0] + posterior * estimates[1]
        return (y - none - 2.5 * (estimates[1] - none)) / sigma

    solved = scipy.integrate.solve_ivp(slope, (20.0, 0.05), np.asarray(x)[:, 0], rtol=1e-9, atol=1e-9).y[:, -1]
    np.testing.assert_allclose(end[:, 0], solved, atol=2e-3)
    assert np.mean(solved) > 1.0


def test_it_is_one_call_on_a_doubled_batch():
    shapes = []

    def denoise(x_t, level, conditions):
        shapes.append((x_t.shape, level.alpha.shape, conditions["weights"].shape))
        return x_t

    ClassifierFree(denoise, absent(3), 2.0)(points(), Level(*map(jnp.asarray, LEVEL)), asked(3))
    assert shapes == [((6, 2), (6,), (6, 2))]


def test_guidance_acts_inside_its_interval_alone(x64):
    """sigma/alpha of the three levels is about 0.3, 1 and 4; zero SNR counts as infinitely noisy."""
    x = points()
    ratio = np.asarray(LEVEL.sigma / LEVEL.alpha)
    guide = ClassifierFree(classes(), absent(3), 3.0, sigma_low=ratio[0], sigma_high=ratio[1])
    got, plain = guide(x, LEVEL, asked(3)), classes()(x, LEVEL, asked(3))
    full = ClassifierFree(classes(), absent(3), 3.0)(x, LEVEL, asked(3))
    np.testing.assert_allclose(got[0], plain[0], rtol=1e-12)
    np.testing.assert_allclose(got[1], full[1], rtol=1e-12)
    np.testing.assert_allclose(got[2], plain[2], rtol=1e-12)
    silent = Level(jnp.zeros(3), jnp.ones(3))
    none = ClassifierFree(classes(), absent(3), 0.0)(x, silent, asked(3))
    np.testing.assert_allclose(none, classes()(x, silent, absent(3)), rtol=1e-12)


def test_rescale_restores_the_standard_deviation_of_each_example(x64):
    x, spread = points(), lambda x0: np.std(np.asarray(x0), axis=1)
    plain = classes()(x, LEVEL, asked(3))
    whole, half, none = (
        ClassifierFree(classes(), absent(3), 4.0, rescale=phi)(x, LEVEL, asked(3)) for phi in (1, 0.5, 0)
    )
    np.testing.assert_allclose(spread(whole), spread(plain), rtol=1e-9)
    np.testing.assert_allclose(half, (whole + none) / 2, rtol=1e-9)


def test_strength_may_differ_by_example_and_compiles_nothing_anew(x64):
    traced = []

    @jax.jit
    def call(guide, x, level, conditions):
        traced.append(1)
        return guide(x, level, conditions)

    x, level = points(), Level(*map(jnp.asarray, LEVEL))
    guide = ClassifierFree(classes(), absent(3), jnp.array([0.0, 1.0, 2.0]))
    got = call(guide, x, level, asked(3))
    for i, scale in enumerate((0.0, 1.0, 2.0)):
        np.testing.assert_allclose(got[i], dataclasses.replace(guide, scale=scale)(x, level, asked(3))[i], rtol=1e-12)
    call(dataclasses.replace(guide, scale=jnp.array([3.0, 4.0, 5.0])), x, level, asked(3))
    assert len(traced) == 1


def test_conditions_and_null_must_match():
    with pytest.raises(ValueError, match=r"\['digit'\] and null conditions \['weights'\] differ"):
        ClassifierFree(classes(), absent(3))(points(), LEVEL, {"digit": jnp.zeros(3)})


# --- classifier


def posterior_log_probability(params, x, level, conditions):
    """Return ln p(second class | x_t), by the classes' own parameters."""
    return jnp.log(Mixture(*params).responsibilities(x, level, {})[:, 1])


def test_the_exact_classifier_turns_the_unconditional_into_the_conditional(x64):
    """Bayes: grad ln p(x | y) = grad ln p(x) + grad ln p(y | x)."""
    data, x = classes(), points()
    params = (data.weights, data.means, data.variances)
    got = Classifier(data, params, posterior_log_probability, 1.0)(x, LEVEL, {})
    np.testing.assert_allclose(got, data(x, LEVEL, asked(3)), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("of_estimate", [False, True])
def test_the_gradient_is_that_of_finite_differences(x64, of_estimate):
    data, x, h = classes(), points(), 1e-5
    params, level = (data.weights, data.means + 0.1, data.variances), Level(*map(jnp.asarray, LEVEL))
    guide = Classifier(data, params, posterior_log_probability, 1.7, of_estimate)
    added = np.asarray(guide(x, level, {}) - data(x, level, {}))

    def judged(x):
        return posterior_log_probability(params, data(x, level, {}) if of_estimate else x, level, {})

    differences = [(judged(x + h * unit) - judged(x - h * unit)) / (2 * h) for unit in jnp.eye(2)]
    gain = 1.7 * np.asarray(level.sigma**2 / level.alpha)
    np.testing.assert_allclose(added, gain[:, None] * np.stack(differences, axis=1), rtol=1e-6, atol=1e-9)


def test_guidance_composes_and_its_leaves_are_numbers():
    guide = Classifier(
        ClassifierFree(classes(), absent(3), 2.0),
        (classes().weights, classes().means, classes().variances),
        posterior_log_probability,
        0.5,
    )
    call = jax.jit(lambda guide, x, level, conditions: guide(x, level, conditions))
    for level in (Level(*map(jnp.float32, LEVEL)), Level(jnp.zeros(3), jnp.ones(3))):
        assert np.all(np.isfinite(call(guide, points(), level, asked(3))))
