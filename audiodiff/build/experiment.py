"""Train what a config describes, in a workdir: data, facts, objective, optimiser, and what is looked at on the way."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff import data, prng
from audiodiff.build.choices import ConfigError, choose
from audiodiff.build.data import DataSets, make_data
from audiodiff.build.model import Facts, Model, make_judge, make_mel, make_model, make_representation, measure_facts
from audiodiff.build.run import Run
from audiodiff.build.samples import all_combinations
from audiodiff.evaluation.pictures import spectrogram
from audiodiff.objectives.classification import JudgeFeatures
from audiodiff.training import (
    Optimiser,
    Result,
    TrainState,
    Writer,
    constant_decay,
    evaluate_loss,
    make_optimiser,
    power_decay,
    prepare_workdir,
    train,
)
from audiodiff.types import PyTree

HELD_OUT_RATIOS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Levels sigma / (alpha sigma_data) of the held-out loss."""

STATISTICS_FILE = "statistics.json"


def run_experiment(
    config: Mapping[str, Any],
    workdir: pathlib.Path,
    *,
    overfit_batch: bool = False,
    max_minutes: float | None = None,
) -> Result:
    """Train the model or judge of a config (plain values) in ``workdir``, or go on where it stopped.

    With ``overfit_batch`` batch 0 is trained on alone, conditions always present: its loss must fall as docs/training.md says.
    Raises ConfigError, AudioError and the errors of ``training`` in one sentence each.
    """
    choose("task", config["task"], {"diffusion": None, "judge": None})
    sets = make_data(config["data"])
    folder = prepare_workdir(workdir, config)
    facts = _facts(config, sets, folder)
    batches = _batches(config, sets, config["data"]["train_split"])
    objective: Any
    evaluate: Callable[[TrainState, int, Writer], None]
    if config["task"] == "judge":
        objective = make_judge(config, facts)
        held_out = _fixed_batches(config, sets, config["data"]["held_out_split"])
        evaluate = HeldOut(objective, held_out, config["training"]["ema_choice"])
    else:
        model = make_model(config, facts)
        objective = model.objective
        held_out = _fixed_batches(config, sets, config["data"]["held_out_split"])
        losses = HeldOut(objective.fixed(HELD_OUT_RATIOS), held_out, config["training"]["ema_choice"])
        evaluate = Watch(losses, Samples(folder, config, model))
    settings = config["training"]
    return train(
        objective,
        make_training_optimiser(config),
        batches,
        workdir=folder,
        seed=config["seed"],
        total_steps=settings["total_steps"],
        strategy=settings["strategy"],
        devices=settings["devices"] or None,
        microbatches=settings["microbatches"],
        ema=make_averages(settings["ema"]),
        save_every=settings["save_every"],
        evaluate_every=settings["evaluate_every"],
        log_every=settings["log_every"],
        evaluate=evaluate,
        keep=settings["keep"],
        max_minutes=max_minutes,
        overfit_batch=overfit_batch,
        config=config,
    )


def make_training_optimiser(config: Mapping[str, Any]) -> Optimiser:
    """Build the optimiser of a config."""
    settings = dict(config["optimiser"])
    try:
        return make_optimiser(settings.pop("name"), total_steps=config["training"]["total_steps"], **settings)
    except TypeError as error:
        raise ConfigError(f"optimiser: {error}") from error


def make_averages(config: Mapping[str, Any]) -> dict[str, Any]:
    """Build the moving averages of the weights: {name: ("constant", decay) or ("power", relative length)}."""
    kinds: dict[str, Callable[[float], Any]] = {"constant": constant_decay, "power": power_decay}
    return {name: choose("ema kind", kind, kinds)(value) for name, (kind, value) in config.items()}


def _facts(config: Mapping[str, Any], sets: DataSets, folder: pathlib.Path) -> Facts:
    """Load the facts that the run was begun with, or measure and save them."""
    if (folder / "model.json").exists():
        facts = Facts.load(folder)
        if facts.manifest_hash != sets.manifest_hash:
            raise ConfigError(
                f"the data set's manifest is {sets.manifest_hash} and {folder} was trained on {facts.manifest_hash}: "
                "point data.root at the set it was trained on, or choose another --workdir"
            )
        return facts
    split = sets.split(config["data"]["train_split"])
    if config["task"] == "judge":
        encode: Any = JudgeFeatures(make_mel(config["mel"], split.rate_hz))
    else:
        encode = make_representation(config["representation"], split.channels).encode
    facts, statistics = measure_facts(split, sets.preparation, encode, sets.manifest_hash)
    statistics.save(folder / STATISTICS_FILE)
    facts.save(folder)
    return facts


def _batches(config: Mapping[str, Any], sets: DataSets, split: str, **changes: Any) -> data.Batches:
    settings = config["training"]
    arguments = {
        "batch_size": settings["batch_size"],
        "seed": config["seed"],
        "process_index": jax.process_index(),
        "process_count": jax.process_count(),
        "num_threads": settings["num_threads"],
        "strict": config["data"]["strict"],
    }
    return data.Batches(sets.split(split), sets.preparation, **{**arguments, **changes})


def _fixed_batches(config: Mapping[str, Any], sets: DataSets, split: str) -> list[dict[str, np.ndarray]]:
    """Make a few batches of held-out clips that are the same at every evaluation, every level seeing every clip."""
    batches = _batches(config, sets, split, process_index=0, process_count=1)
    size, clips = config["training"]["batch_size"], len(sets.split(split))
    repeats = len(HELD_OUT_RATIOS) if config["task"] == "diffusion" else 1
    order = np.arange(min(clips, config["training"]["held_out_clips"]))
    indices = np.repeat(np.linspace(0, clips - 1, len(order)).astype(int), repeats)
    made = []
    for begin in range(0, len(indices), size):
        part = indices[begin : begin + size]
        padded = np.concatenate([part, np.repeat(part[-1:], size - len(part))])
        batch = batches.examples(padded.tolist())
        # The number in this list decides noise and level; what fills up the last batch does not count.
        batch["draw"] = np.arange(begin, begin + size, dtype=np.int32)
        batch["weight"] = batch["weight"] * (np.arange(size) < len(part))
        made.append(batch)
    return made


@dataclass(frozen=True)
class HeldOut:
    """Measure an objective on fixed held-out batches with fixed noise, under the averaged weights."""

    objective: Any
    batches: list[dict[str, np.ndarray]]
    ema: str

    def __call__(self, state: TrainState, step: int, writer: Writer) -> None:
        key = prng.stream(0, "held out")
        figures = evaluate_loss(self.objective, averaged(state, self.ema), self.batches, key)
        writer.scalars(step, {f"held_out/{name}": value for name, value in figures.items()})


@dataclass(frozen=True)
class Samples:
    """Sample a few clips while training and write audio and spectrograms to the event file."""

    workdir: pathlib.Path
    config: Mapping[str, Any]
    model: Model

    def __call__(self, state: TrainState, step: int, writer: Writer) -> None:
        count = self.config["training"]["watch_clips"]
        if not count:
            return
        params = averaged(state, self.config["training"]["ema_choice"])
        run = Run(self.workdir, self.config, self.model, params, step)
        combinations = all_combinations(run.vocabularies)
        # Evenly spread over the combinations, the same ones with the same noise every time.
        chosen = [combinations[i * len(combinations) // count] for i in range(count)]
        conditions = {name: [one[name] for one in chosen] for name in run.vocabularies}
        key = prng.per_example(prng.stream(0, "watch"), jnp.arange(count))
        clips = run.sample(key, conditions)
        for index, (clip, labels) in enumerate(zip(clips, chosen, strict=True)):
            name = "_".join((*labels.values(), str(index)))
            mono = clip if clip.ndim == 1 else clip.mean(-1)
            writer.audio(step, f"samples/{name}", np.clip(clip, -1, 1).reshape(len(clip), -1), run.facts.rate_hz)
            writer.image(step, f"samples/{name}", spectrogram(mono, run.facts.rate_hz, title=name).pixels)


@dataclass(frozen=True)
class Watch:
    """Call several hooks one after the other."""

    first: Callable[[TrainState, int, Writer], None]
    second: Callable[[TrainState, int, Writer], None]

    def __call__(self, state: TrainState, step: int, writer: Writer) -> None:
        self.first(state, step, writer)
        self.second(state, step, writer)


def averaged(state: TrainState, ema: str) -> PyTree:
    """Return the moving average of that name, or the weights themselves for ""."""
    return state.ema[ema] if ema else state.params
