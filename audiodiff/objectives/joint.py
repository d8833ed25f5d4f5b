"""Train the stages of a cascade in one run: together or one after another, told of the clip or of coarser stages."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from audiodiff import prng
from audiodiff.diffusion.processes import expand
from audiodiff.hierarchy.told import Told, is_own, taken_off
from audiodiff.objectives.diffusion import DiffusionObjective
from audiodiff.types import Array, Conditions, Context, PyTree

LEARN, REST, LEND = 0, 1, 2
"""What a stage does in a step: it is trained, nothing at all, or its estimate is told to another and no more."""

Made = dict[str, Array]
"""What a stage has made of the clips, as others are told it: its "array", or its "audio"."""


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["objective"], meta_fields=["name", "span", "weight", "sources"]
)
@dataclass(frozen=True)
class Stage:
    """Hold one of the models that are trained in one run.

    ``span`` = (begin, end): it is trained in the steps begin <= step < end, to the last where end is None. ``weight``
    multiplies its loss. ``sources`` says who makes each level that it is told, (condition, names of coarser stages): of
    several the audio is added up.

    Raises ValueError for a span of no step.
    """

    name: str
    objective: DiffusionObjective
    span: tuple[int, int | None] = (0, None)
    weight: float = 1.0
    sources: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self) -> None:
        begin, end = self.span
        if begin < 0 or (end is not None and end <= begin):
            raise ValueError(
                f"the span of stage {self.name!r} is {self.span}: give (begin, end), 0 or more and beyond it, end None "
                "for the end of the run"
            )

    def learns(self, step: Array) -> Array:
        """Return whether the stage is trained at a step, a bool scalar."""
        begin, end = self.span
        begun = step >= begin
        return begun if end is None else begun & (step < end)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["stages"], meta_fields=["own_share", "through"])
@dataclass(frozen=True)
class JointObjective:
    """Minimise the weighted sum of the losses of several stages, from the coarsest, each within its span of steps.

    Parameters are {stage: those of its objective}, and measurements are named "<stage>/<its own name>". A stage draws
    from the stream of its name of the context's key: what it sees at a key and a draw is what it sees alone under
    ``prng.stream(key, name)``. A stage outside its span is not run, its measurements are NaN and its gradients exactly
    0; momentum and weight decay would move it all the same, which
    :func:`audiodiff.training.rest_without_gradient` keeps them from.

    For ``own_share`` of the examples a stage is told what coarser stages make, in place of the clip: their estimates of
    x_0 in this very step, by one call of the network at the level that each has drawn, brought to audio as samples are
    and to the level from there. At much noise these are means of many clips, which is blurrier than any sample. With
    ``through`` the finer loss reaches the parameters of the coarser stage by that way, while that one is trained
    itself. A coarser stage outside its span is then run without gradients.

    Raises ValueError for a share that is none.
    """

    stages: tuple[Stage, ...]
    own_share: float = 0.0
    through: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.own_share <= 1:
            raise ValueError(f"own_share is {self.own_share}: it is a share of the examples, give 0 to 1")

    def init(self, key: Array, batch: Mapping[str, Array]) -> PyTree:
        """Draw the parameters of every stage from the stream of its name."""
        return {stage.name: stage.objective.init(prng.stream(key, stage.name), batch) for stage in self.stages}

    def __call__(self, params: PyTree, context: Context, batch: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Return the loss [batch] and the measurements of all, each [batch] with NaN where one is not defined."""
        turns = self._turns(context.step)
        total = jnp.zeros(len(batch["audio"]))
        measured: dict[str, Array] = {}
        made: dict[str, Made] = {}
        for stage in self.stages:
            loss, figures, made[stage.name] = self._run(stage, turns[stage.name], params, made, context, batch)
            total = total + stage.weight * loss
            measured |= {f"{stage.name}/{name}": value for name, value in figures.items()}
        return total, measured

    def fixed(self, ratios: tuple[float, ...]) -> JointObjective:
        """Return the same stages as :meth:`DiffusionObjective.fixed` has them, all of them, told of the clip alone."""
        fixed = [
            dataclasses.replace(stage, objective=stage.objective.fixed(ratios), span=(0, None)) for stage in self.stages
        ]
        return JointObjective(tuple(fixed))

    def _turns(self, step: Array) -> dict[str, Array]:
        """Return what each stage does at a step, an index of LEARN, REST and LEND."""
        turns: dict[str, Array] = {}
        for stage in reversed(self.stages):  # who is told runs after who tells, and is asked before
            asked = [turns[hearer.name] != REST for hearer, _ in self._heard_by(stage)]
            idle = jnp.where(functools.reduce(jnp.logical_or, asked), LEND, REST) if asked else REST
            turns[stage.name] = jnp.where(stage.learns(step), LEARN, idle)
        return turns

    def _run(
        self,
        stage: Stage,
        turn: Array,
        params: PyTree,
        made: Mapping[str, Made],
        context: Context,
        batch: Mapping[str, Array],
    ) -> tuple[Array, dict[str, Array], Made]:
        """Return the loss of a stage, its measurements and what it makes, by what its turn is."""
        key = prng.stream(context.key, stage.name)

        def learn(own: PyTree) -> tuple[Array, dict[str, Array], Made]:
            raw = self._raw_conditions(stage, made, key, batch)
            loss, figures, estimate = stage.objective.with_estimate(own, context._replace(key=key), batch, raw)
            return loss, figures, self._make(stage, estimate, raw, batch["audio"].shape[1], key)

        if stage.span == (0, None):
            return learn(params[stage.name])
        loss, figures, makes = jax.eval_shape(learn, params[stage.name])
        nothing = (
            jnp.zeros(loss.shape, loss.dtype),
            {name: jnp.full(v.shape, jnp.nan, v.dtype) for name, v in figures.items()},
        )

        def rest(own: PyTree) -> tuple[Array, dict[str, Array], Made]:
            return *nothing, {name: jnp.zeros(value.shape, value.dtype) for name, value in makes.items()}

        def lend(own: PyTree) -> tuple[Array, dict[str, Array], Made]:
            return *nothing, learn(jax.lax.stop_gradient(own))[2]

        # A conditional, so that a stage which is not run costs nothing.
        return jax.lax.switch(turn, (learn, rest, lend) if makes else (learn, rest), params[stage.name])

    def _raw_conditions(
        self, stage: Stage, made: Mapping[str, Made], key: Array, batch: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Return the raw conditions of a stage: of the clip, and for its share of the examples of what others made."""
        raw = stage.objective.raw_conditions(batch)
        if not self.own_share:
            return raw
        uniform: Callable[[Array], Array] = jax.vmap(jax.random.uniform)
        drawn = uniform(prng.per_example(prng.stream(key, "own"), batch["draw"])) < self.own_share
        for level, told, sources in _levels(stage):
            own = self._of_others(told, sources, made)
            own = own if self.through else jax.lax.stop_gradient(own)
            raw[level] = jnp.where(expand(drawn, own), own, raw[level])
        return raw

    def _of_others(self, told: Told, sources: tuple[str, ...], made: Mapping[str, Made]) -> Array:
        """Return a level as the stages that it is of have made it."""
        if self._is_own(sources, told):
            return told.of(made[sources[0]]["array"])
        return told(functools.reduce(jnp.add, [made[source]["audio"] for source in sources]))

    def _make(self, stage: Stage, estimate: Array, raw: Conditions, length_samples: int, key: Array) -> Made:
        """Return what others are told of a stage's estimate of x_0."""
        ways = {"array" if self._is_own(sources, told) else "audio" for _, (_, told, sources) in self._heard_by(stage)}
        objective, made = stage.objective, {}
        if "array" in ways:
            x = objective.prior.colour(estimate, raw)
            made["array"] = x + taken_off(objective.representation)
        if "audio" in ways:
            audio = objective.decode(estimate, raw, length_samples, prng.stream(key, "decode"))
            made["audio"] = audio if objective.finish is None else objective.finish(audio, raw)
        return made

    def _heard_by(self, stage: Stage) -> list[tuple[Stage, tuple[str, Told, tuple[str, ...]]]]:
        """Return the stages that are told what a stage makes, each with what it is told."""
        hearers = self.stages if self.own_share else ()
        return [(hearer, level) for hearer in hearers for level in _levels(hearer) if stage.name in level[2]]

    def _is_own(self, sources: tuple[str, ...], told: Told) -> bool:
        """Return whether what is told is the very array that one stage makes."""
        return is_own(told, [stage.objective.representation for stage in self.stages if stage.name in sources])


def _levels(stage: Stage) -> list[tuple[str, Told, tuple[str, ...]]]:
    """Return the levels that a stage is told: the name of each, what makes it of audio, and the stages it is of."""
    derived = dict(stage.objective.derived)
    levels = []
    for level, sources in stage.sources:
        told = derived[level]
        assert isinstance(told, Told)
        levels.append((level, told, sources))
    return levels
