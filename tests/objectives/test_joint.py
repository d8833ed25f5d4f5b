"""Hold a joint run against its stages alone, and what stages make of a clip against the clip itself."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff import dsp, prng
from audiodiff.diffusion.levels import LogUniform
from audiodiff.hierarchy.levels import PooledMel, PyramidLevel
from audiodiff.hierarchy.pyramid import Pyramid
from audiodiff.hierarchy.told import AddLevel, ConditionNoise, Told
from audiodiff.objectives.diffusion import DiffusionObjective
from audiodiff.objectives.joint import JointObjective, Stage
from audiodiff.training import make_optimiser, rest_without_gradient
from audiodiff.training.state import init_state
from audiodiff.training.step import Constants, make_step
from audiodiff.types import Context

TIME, BATCH = 64, 8
PYRAMID = Pyramid((2, 2), frame_samples=16)
MEL = dsp.MelSpec(rate_hz=8000, stft=dsp.StftSpec(32, 16), bands=4, fmax_hz=4000.0, floor=1e-3)
LOW, MIDDLE, FINE = PyramidLevel(PYRAMID, 0), PyramidLevel(PYRAMID, 1, (1,)), PyramidLevel(PYRAMID, 2, (1,))
WHOLE = PyramidLevel(PYRAMID, 1)
SPECTRUM = PooledMel(MEL, 2, mean=-1.5)
"""As its own stage has it, less its mean; to others it is told with."""


class Wavy:
    """A network of three parameters that hears all that it is told, in a function whose name a program shows."""

    def init(self, key, x, conditions):
        return {"weight": jax.random.normal(key, (2, 1)), "told": jnp.ones(1)}

    def encode(self, params, conditions, present=None):
        return conditions

    def __call__(self, params, x, noise_condition, conditions):
        told = [jnp.mean(jnp.square(value).reshape(len(value), -1), axis=1) for value in conditions.values()]
        heard = jnp.sin(params["told"] * sum(told, jnp.zeros(len(x))))  # however large, a change is heard
        inside = params["weight"][0] * x + params["weight"][1] * (noise_condition + heard)[:, None, None]
        return jax.scipy.special.erf(inside)


NETWORK = Wavy()


LEVELS, NEARLY_NONE = LogUniform(0.1, 10.0), LogUniform(1e-6, 1.0001e-6)


def model(representation, told=(), levels=LEVELS, **options):
    """Return an objective; ``told`` are (name, level)."""
    return DiffusionObjective(
        NETWORK,
        levels,
        sigma_data=0.5,
        strata=BATCH,
        representation=representation,
        conditions=tuple(name for name, _ in told) + tuple(noise.strength for noise in options.get("noise", ())),
        derived=tuple((name, Told(level)) for name, level in told),
        drop_probability=0.0,
        **options,
    )


def two(spans=((0, None), (0, None)), weights=(1.0, 1.0), **options):
    """Return a stage of the lowest level and one of what lies above it."""
    noise = (ConditionNoise("low", 0.0, 0.5, 1.0),)
    coarse = Stage("low", model(LOW), spans[0], weights[0])
    fine = Stage("fine", model(MIDDLE, (("low", LOW),), noise=noise), spans[1], weights[1], (("low", ("low",)),))
    return JointObjective((coarse, fine), **options)


def batch_of(count=BATCH, seed=0):
    audio = np.random.default_rng(seed).normal(0, 0.5, (count, TIME)).astype(np.float32)
    return {"audio": audio, "draw": np.arange(count, dtype=np.int32), "weight": np.ones(count, np.float32)}


BATCHED = batch_of()
KEY = jax.random.key(3)


compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # which compiles faster


def gradients_of(objective, params, key, step, batch):
    """Return (losses, measurements) and the gradients of the sum of the losses."""

    def summed(params):
        loss, measured = objective(params, Context(key, step), batch)
        return jnp.sum(loss), (loss, measured)

    gradients, (loss, measured) = jax.grad(summed, has_aux=True)(params)
    return loss, measured, gradients


_gradients_of = compiled(gradients_of)
_losses_of = compiled(lambda objective, params, step, batch: objective(params, Context(KEY, step), batch))
_init = compiled(lambda objective, key: objective.init(key, BATCHED))
SEED = jax.random.key(0)


def run(objective, step=0):
    """Return losses, measurements and gradients of a step."""
    return jax.device_get(_gradients_of(objective, _init(objective, SEED), KEY, jnp.int32(step), BATCHED))


def costs(objective, step=0, batch=None):
    """Return the measurements of a step."""
    params = _init(objective, SEED)
    return jax.device_get(_losses_of(objective, params, jnp.int32(step), BATCHED if batch is None else batch))[1]


def sizes(gradients):
    return {name: max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(part)) for name, part in gradients.items()}


# --- together


def test_stages_are_drawn_and_cost_as_each_does_alone():
    joint = two(weights=(1.0, 0.25))
    loss, measured, gradients = run(joint)
    params = _init(joint, SEED)
    expected, names = 0.0, set()
    for stage in joint.stages:
        alone = _init(stage.objective, prng.stream(SEED, stage.name))
        jax.tree.map(np.testing.assert_array_equal, params[stage.name], alone)
        key = prng.stream(KEY, stage.name)
        losses, figures, own = jax.device_get(_gradients_of(stage.objective, alone, key, jnp.int32(0), BATCHED))
        expected = expected + stage.weight * losses
        weighed = jax.tree.map(lambda g, stage=stage: stage.weight * g, own)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-5), gradients[stage.name], weighed)
        for name, value in figures.items():
            np.testing.assert_allclose(measured[f"{stage.name}/{name}"], value, rtol=1e-5)
        names |= {f"{stage.name}/{name}" for name in figures}
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert set(measured) == names


def test_a_held_out_loss_is_of_all_stages_at_fixed_levels_and_of_the_clip():
    late = costs(two(((0, 5), (5, None)), own_share=1.0).fixed((0.1, 1.0)), step=3)
    assert np.isfinite([late["low/mse"], late["fine/mse"]]).all()
    for name, value in costs(two().fixed((0.1, 1.0))).items():
        np.testing.assert_array_equal(late[name], value)


# --- one after another


@pytest.mark.parametrize(("step", "running"), [(0, {"low"}), (1, {"low"}), (2, {"low", "fine"}), (4, {"fine"})])
def test_a_stage_outside_its_span_has_no_measurement_and_no_gradient(step, running):
    loss, measured, gradients = run(two(((0, 3), (2, None))), step)
    assert {name.split("/")[0] for name, value in measured.items() if np.isfinite(value).any()} == running
    assert {name for name, size in sizes(gradients).items() if size > 0} == running
    np.testing.assert_allclose(loss, sum(measured[f"{name}/mse"] for name in running), rtol=1e-6)


def operations(jaxpr, within=False):
    """Yield (name, whether a conditional stands around it) of all operations of a program."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name, within
        inside = within or equation.primitive.name == "cond"
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            closed = getattr(inner, "jaxpr", inner)
            if hasattr(closed, "eqns"):
                yield from operations(closed, inside)


def test_a_stage_outside_its_span_is_behind_a_branch_and_not_merely_unheard():
    """In the program of the gradients: its network is in conditionals alone, which the compiler leaves branches."""
    late, always = two(((0, None), (2, None))), two()
    arguments = _init(late, SEED), KEY, jnp.int32(0), BATCHED
    program = jax.make_jaxpr(functools.partial(gradients_of, late))(*arguments)
    assert sorted(within for name, within in operations(program.jaxpr) if name == "erf") == [False, True]
    assert _gradients_of.lower(late, *arguments).compile().as_text().count(" conditional(") == 2  # there and back
    program = jax.make_jaxpr(functools.partial(gradients_of, always))(*arguments)
    assert "cond" not in {name for name, _ in operations(program.jaxpr)}


def trained(joint, optimiser, steps=4):
    """Return which stages' parameters each step changes in any bit."""
    state = init_state(_init(joint, SEED), optimiser.transform, {})
    step = compiled(make_step(optimiser))
    moved = []
    for _ in range(steps):
        before = jax.device_get(state.params)
        state, _ = step(state, BATCHED, Constants(joint, jax.random.key(1)))
        same = jax.tree.map(lambda old, new: old.tobytes() == new.tobytes(), before, jax.device_get(state.params))
        moved.append({name for name, part in same.items() if not all(jax.tree.leaves(part))})
    return moved


def test_parameters_stay_bit_for_bit_until_their_stage_begins():
    optimiser = make_optimiser("adamw", learning_rate=0.1)
    assert trained(two(((0, None), (2, None))), optimiser) == [{"low"}] * 2 + [{"low", "fine"}] * 2


def test_parameters_stay_outside_the_span_where_the_optimiser_rests():
    spans, optimiser = ((0, 2), (2, None)), make_optimiser("adamw", learning_rate=0.1, weight_decay=0.1)
    assert trained(two(spans), optimiser) == [{"low", "fine"}] * 4  # by weight decay and momentum
    resting = optimiser._replace(transform=rest_without_gradient(optimiser.transform))
    assert trained(two(spans), resting) == [{"low"}] * 2 + [{"fine"}] * 2


# --- told what coarser stages make


def chain(told_by, **options):
    """Return stages that make a clip exactly, for they are trained with hardly any noise, and one that is told of them.

    ``told_by`` are stages by name: the middle one makes what the lowest lacks, and is completed by it.
    """
    stages = {
        "low": Stage("low", model(LOW, levels=NEARLY_NONE)),
        "middle": Stage(
            "middle",
            model(MIDDLE, (("low", LOW),), NEARLY_NONE, finish=AddLevel("low", Told(LOW))),
            sources=(("low", ("low",)),),
        ),
        "bands": Stage("bands", model(MIDDLE, levels=NEARLY_NONE)),
        "spectrum": Stage("spectrum", model(SPECTRUM, levels=NEARLY_NONE)),
    }
    made = {"low": LOW, "middle": WHOLE, "bands": WHOLE, "spectrum": dataclasses.replace(SPECTRUM, mean=0.0)}
    sources = {"low": ("low",), "middle": ("middle",), "bands": ("low", "bands"), "spectrum": ("spectrum",)}
    hearer = Stage(
        "fine",
        model(FINE, tuple((name, made[name]) for name in told_by)),
        sources=tuple((name, sources[name]) for name in told_by),
    )
    needed = {source for name in told_by for source in sources[name]} | ({"low"} if "middle" in told_by else set())
    return JointObjective((*(stage for name, stage in stages.items() if name in needed), hearer), **options)


@pytest.mark.parametrize("told_by", ["low", "middle", "bands", "spectrum"])
def test_what_stages_make_with_hardly_any_noise_is_what_a_clip_would_tell(told_by):
    """By each way: as the array that a stage makes, as completed audio, as a sum, and with its mean put back."""
    clip, own = costs(chain((told_by,))), costs(chain((told_by,), own_share=1.0))
    np.testing.assert_allclose(own["fine/mse"], clip["fine/mse"], rtol=1e-4)


def test_what_is_told_is_the_estimate_of_this_very_step():
    joint = two(own_share=1.0)
    params = _init(joint, SEED)

    @compiled
    def by_hand(joint, params):
        (coarse, fine), step = (stage.objective for stage in joint.stages), jnp.int32(0)
        *_, estimate = coarse.with_estimate(params["low"], Context(prng.stream(KEY, "low"), step), BATCHED, {})
        told = fine.raw_conditions(BATCHED) | {"low": estimate}
        return fine.with_estimate(params["fine"], Context(prng.stream(KEY, "fine"), step), BATCHED, told)[0]

    own, clip = costs(joint), costs(two())
    np.testing.assert_allclose(own["fine/mse"], by_hand(joint, params), rtol=1e-5)
    assert np.abs(own["fine/mse"] - clip["fine/mse"]).min() > 1e-5
    np.testing.assert_allclose(own["low/mse"], clip["low/mse"], rtol=1e-5)


def test_a_share_of_the_examples_is_told_so_and_each_by_its_draw():
    many = batch_of(400) | {"draw": np.arange(400, dtype=np.int32) + 70}
    none, every, some = (costs(two(own_share=share), batch=many)["fine/mse"] for share in (0.0, 1.0, 0.3))
    by_others = np.isclose(some, every, rtol=1e-5)
    np.testing.assert_allclose(some, np.where(by_others, every, none), rtol=1e-5)
    assert 0.2 < by_others.mean() < 0.4

    order = np.random.default_rng(1).permutation(400)
    permuted = costs(two(own_share=0.3), batch={name: value[order] for name, value in many.items()})["fine/mse"]
    np.testing.assert_allclose(permuted, some[order], rtol=1e-5)


@pytest.mark.parametrize("through", [False, True])
def test_the_finer_loss_reaches_coarser_stages_only_if_it_is_let_through(through):
    """All of them: the finest is told of the middle one, which is told of the lowest and completed by it."""
    *coarse, fine = chain(("middle",)).stages
    noisy = [
        dataclasses.replace(stage, objective=dataclasses.replace(stage.objective, levels=LEVELS), weight=0.0)
        for stage in coarse
    ]
    joint = JointObjective((*noisy, fine), own_share=1.0, through=through)
    reached = {name for name, size in sizes(run(joint)[2]).items() if size}
    assert reached == ({"low", "middle", "fine"} if through else {"fine"})


def test_a_stage_that_has_ended_still_tells_and_learns_nothing():
    ended = two(((0, 2), (2, None)), own_share=1.0, through=True)
    loss, measured, gradients = run(ended, 3)
    np.testing.assert_allclose(measured["fine/mse"], costs(two(own_share=1.0))["fine/mse"], rtol=1e-5)
    np.testing.assert_allclose(loss, measured["fine/mse"], rtol=1e-6)
    assert np.isnan(measured["low/mse"]).all() and sizes(gradients)["low"] == 0 < sizes(gradients)["fine"]
    assert sizes(run(ended, 1)[2])["fine"] == 0 < sizes(run(ended, 1)[2])["low"]


# --- what cannot be


@pytest.mark.parametrize("span", [(-1, None), (3, 3), (3, 2)])
def test_a_span_of_no_step_is_refused(span):
    with pytest.raises(
        ValueError, match=r"the span of stage 'low' is \(.*\): give \(begin, end\), 0 or more and beyond"
    ):
        two((span, (0, None)))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="own_share is .*: it is a share of the examples, give 0 to 1"):
        two(own_share=share)
