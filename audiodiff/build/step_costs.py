"""Measure what a training step of each of several configs takes: FLOPs by its program, seconds by the clock."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from audiodiff import data, prng
from audiodiff.build.choices import ConfigError
from audiodiff.build.data import DataSets
from audiodiff.build.experiment import make_averages, make_training_optimiser
from audiodiff.build.model import Facts, Model, make_model
from audiodiff.evaluation.apart import lower, median_seconds
from audiodiff.hierarchy.levels import PooledMel
from audiodiff.training import initialise, make_strategy
from audiodiff.training.programs import Programs
from audiodiff.training.state import init_state
from audiodiff.training.step import Constants, as_pytree, make_step
from audiodiff.types import Level, PyTree


class StepCost(NamedTuple):
    """Hold what a training step takes, and the parameters that it trains."""

    parameters: int
    flops: float
    seconds: float


def untrained(config: Mapping[str, Any], sets: DataSets) -> tuple[Model, PyTree]:
    """Return the model of a config with its first parameters, as if its data had mean 0 and standard deviation 1.

    What it costs is that of the trained one. Raises ConfigError for a model that is told a mel.
    """
    model = _model(config, sets)
    return model, model.objective.init(prng.stream(config["seed"], "init"), _batch(config, sets, 1))


def _model(config: Mapping[str, Any], sets: DataSets) -> Model:
    split = sets.split(config["data"]["train_split"])
    length = config["data"]["length_samples"]
    return make_model(config, Facts(split.rate_hz, split.channels, length, 1.0, 0.0, split.conditions, ""))


def count_parameters(config: Mapping[str, Any], sets: DataSets) -> int:
    """Return how many numbers a config trains, without making any."""
    return sum(leaf.size for leaf in jax.tree.leaves(_shapes(config, sets)[1]))


def step_costs(
    configs: Mapping[str, Mapping[str, Any]], sets: DataSets, rounds: int, steps_a_turn: int
) -> dict[str, StepCost]:
    """Return what a training step of each config takes, its time the median over ``rounds`` of ``steps_a_turn`` steps.

    The configs take turns, so that whatever slows the machine down slows them all. FLOPs are those that the compiler
    counts in the program before it rewrites it (:func:`audiodiff.training.programs.program_cost`).
    Raises ConfigError where the compiler counts none, or batches have several shapes and a step no one cost.
    """
    steppers = {name: _Stepper(config, sets, steps_a_turn) for name, config in configs.items()}
    seconds = median_seconds(list(steppers.values()), rounds)
    return {
        name: StepCost(stepper.parameters, stepper.flops, taken / steps_a_turn)
        for (name, stepper), taken in zip(steppers.items(), seconds, strict=True)
    }


class Flops(NamedTuple):
    """Hold what the compiler counts in a model's programs, and the parameters that it trains.

    ``step`` is a training step of a batch, ``evaluation`` one of the network without guidance and ``decoding`` the way
    back to audio (0 where there is none), both of one clip.
    """

    parameters: int
    step: float
    evaluation: float
    decoding: float


def count_flops(config: Mapping[str, Any], sets: DataSets) -> Flops:
    """Return what training and sampling a config's model take, compiling nothing; NaN where nothing is counted."""
    settings, (model, params) = config["training"], _shapes(config, sets)
    objective, length = model.objective, config["data"]["length_samples"]
    optimiser, averages = make_training_optimiser(config), make_averages(settings["ema"])
    state = jax.eval_shape(lambda given: init_state(given, optimiser.transform, averages), params)
    constants = Constants(as_pytree(objective), prng.stream(config["seed"], "train"), None)
    step = make_step(optimiser, ema=averages)
    batch = {name: jnp.asarray(value) for name, value in _batch(config, sets, 1).items()}
    encoded = jax.eval_shape(objective.network.encode, params["network"], objective.raw_conditions(batch))
    x = jax.ShapeDtypeStruct(objective.representation.shape(1, length), jnp.float32)
    level = jax.eval_shape(lambda: Level(jnp.ones(1), jnp.ones(1)))
    programs = [
        lower(step, state, _batch(config, sets, settings["batch_size"]), constants),
        lower(lambda params, *given: objective.denoiser(params)(*given), params, x, level, encoded),
    ]
    goes_back = not isinstance(objective.representation, PooledMel)
    if goes_back:
        programs.append(lower(lambda x: objective.representation.decode(x, None, length), x))
    counted = [float((one.cost_analysis() or {}).get("flops", math.nan)) for one in programs]
    return Flops(sum(leaf.size for leaf in jax.tree.leaves(params)), *counted, *([] if goes_back else [0.0]))


def _shapes(config: Mapping[str, Any], sets: DataSets) -> tuple[Model, PyTree]:
    """Return an untrained model, and the shapes of its parameters."""
    model = _model(config, sets)
    key, batch = prng.stream(config["seed"], "init"), _batch(config, sets, 1)
    return model, jax.eval_shape(lambda: model.objective.init(key, batch))


class _Stepper:
    """Take a few training steps at each call, on one batch."""

    def __init__(self, config: Mapping[str, Any], sets: DataSets, steps: int) -> None:
        if sets.preparation.bucket_samples:
            raise ConfigError("data.bucket_samples makes batches of several lengths, whose steps cost unlike: drop it")
        model, params = untrained(config, sets)
        settings = config["training"]
        optimiser, averages = make_training_optimiser(config), make_averages(settings["ema"])
        plan = make_strategy(batch_size=settings["batch_size"], devices=settings["devices"] or None)
        state = initialise(plan, lambda given: init_state(given, optimiser.transform, averages), params)
        self._batch = plan.place_batch(_batch(config, sets, settings["batch_size"]))
        constants = Constants(as_pytree(model.objective), prng.stream(config["seed"], "train"), None)
        self._constants = plan.place_constants(constants)
        step = plan.compile(make_step(optimiser, ema=averages, gather=plan.gather), state)
        self._state, self._steps = plan.place(state), steps
        self._program = Programs(step, copies=plan.copies).compile(self._state, self._batch, self._constants)
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        self.flops = self._program.cost.flops
        if not (math.isfinite(self.flops) and self.flops > 0):
            raise ConfigError(f"the compiler counts {self.flops} FLOPs in a step: calibrate on another kind of device")

    def __call__(self) -> None:
        for _ in range(self._steps):
            self._state, measured = self._program.run(self._state, self._batch, self._constants)
        jax.block_until_ready(measured)


def _batch(config: Mapping[str, Any], sets: DataSets, size: int) -> dict[str, Any]:
    split = sets.split(config["data"]["train_split"])
    return dict(data.Batches(split, sets.preparation, batch_size=size, seed=0)[0])
