"""Train what a config describes, in a workdir: data, facts, objective, optimiser, and what is looked at on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# While Grain is imported it replaces Python's own import: not in the thread that reads ahead, beside all others.
import grain  # noqa: F401
import jax
import jax.numpy as jnp
import numpy as np

from audiodiff import data, dsp, prng
from audiodiff.build.choices import ConfigError, choose
from audiodiff.build.data import DataSets, make_data
from audiodiff.build.joint import TASK as JOINT
from audiodiff.build.joint import make_joint_objective, make_models, member_config
from audiodiff.build.latent import hash_weights
from audiodiff.build.model import (
    FACTS_FILE,
    MEL,
    Facts,
    Model,
    make_derived,
    make_mel,
    make_model,
    make_prior,
    make_representation,
    measure_facts,
)
from audiodiff.build.objective import make_autoencoder_objective, make_objective
from audiodiff.build.process import make_grid
from audiodiff.build.run import Run
from audiodiff.build.sampler import check_guidance, make_sampler
from audiodiff.build.told import make_told
from audiodiff.hierarchy.levels import PooledMel
from audiodiff.networks.functional import Functional
from audiodiff.objectives.classification import JudgeFeatures
from audiodiff.representations import Latent, LogMel, Waveform
from audiodiff.store import NOTHING_KEPT, Store
from audiodiff.training import (
    MAY_CHANGE,
    MAY_CHANGE_WITHOUT_AN_END,
    WITH_AN_END,
    Optimiser,
    PowerDecay,
    Result,
    TrainState,
    Writer,
    constant_decay,
    evaluate_loss,
    latest_step,
    leader_first,
    make_optimiser,
    prepare_workdir,
    read_config,
    read_metrics,
    rest_without_gradient,
    restore_params,
    train,
    whole,
)
from audiodiff.training.state import Decay
from audiodiff.training.workdir import CONFIG_FILE, ENV_FILE
from audiodiff.types import Objective, PyTree

HELD_OUT_RATIOS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Levels sigma / (alpha sigma_data) of the held-out loss."""

STATISTICS_FILE = "statistics.json"

AVERAGES: dict[str, Callable[[float], Decay]] = {"constant": constant_decay, "power": PowerDecay}

Hook = Callable[[TrainState, int, Writer], None]
"""Look at the state before a step, and write what is seen."""


def run_experiment(
    config: Mapping[str, Any],
    workdir: pathlib.Path,
    *,
    overfit_batch: bool = False,
    init_from: pathlib.Path | None = None,
    max_minutes: float | None = None,
    profile_steps: tuple[int, int] | None = None,
    store: Store = NOTHING_KEPT,
) -> Result:
    """Train what a config (plain values) describes, a model, a judge or another, in ``workdir``, or go on.

    With ``overfit_batch`` batch 0 is trained on alone, conditions always present: its loss must fall as
    docs/training.md says. With ``init_from`` a new run begins with the (averaged) weights of another, as far as names
    and shapes are the same, and says which. Either is another run than the same config without, and wants a workdir of
    its own. ``store`` keeps programs and facts for the next start.

    Raises ConfigError, AudioError and the errors of ``training``, in one sentence each.
    """
    if overfit_batch:
        config = _for_one_batch(config)
    if init_from is not None:
        config = {**config, "init_from": str(init_from.expanduser().resolve())}
    make_task = choose("task", config["task"], TASKS)
    settings = config["training"]
    averages = make_averages(settings["ema"])
    if settings["snapshot_every"] and not any(isinstance(decay, PowerDecay) for decay in averages.values()):
        raise ConfigError(
            "training.snapshot_every stores power-function averages and training.ema has none: add one, as "
            '{"long": ("power", 0.1)}, or set it to 0'
        )
    choose("ema_choice", settings["ema_choice"], {**averages, "": None})
    optimiser = make_training_optimiser(config)
    with claimed(workdir, config, _may_change(config)) as folder:
        sets = make_data(config["data"])
        with leader_first("facts"):
            facts = _all_facts(config, sets, folder, store)
        store.made_of([config, facts, *_named_runs(config)])
        objective, evaluate = make_task(config, sets, facts, folder)
        if jax.process_index() == 0:
            _say_all(facts, objective, folder)
        batches = _batches(config, sets, config["data"]["train_split"])
        return train(
            objective,
            optimiser,
            batches,
            params=None if init_from is None else _warm_start(objective, config, batches, folder),
            workdir=folder,
            seed=config["seed"],
            total_steps=settings["total_steps"],
            strategy=settings["strategy"],
            devices=settings["devices"] or None,
            fsdp=settings["fsdp"] or None,
            microbatches=settings["microbatches"],
            ema=averages,
            save_every=settings["save_every"],
            evaluate_every=settings["evaluate_every"],
            log_every=settings["log_every"],
            evaluate=evaluate,
            keep=settings["keep"],
            snapshot_every=settings["snapshot_every"] or None,
            max_minutes=max_minutes,
            overfit_batch=overfit_batch,
            samples_per_second=batches.source.rate_hz * batches.source.channels,
            profile_steps=profile_steps,
            wandb=settings["wandb"],
            config=config,
            may_change=_may_change(config),
            store=store,
        )


def _named_runs(config: Any) -> Iterator[str]:
    """Yield the state of each run whose workdir a config names, such as a latent's or a vocoder's."""
    if isinstance(config, Mapping):
        config = tuple(config.values())
    if isinstance(config, (tuple, list)):
        for value in config:
            yield from _named_runs(value)
    elif isinstance(config, str) and config:
        for name in (CONFIG_FILE, FACTS_FILE):
            if os.path.isfile(path := os.path.join(os.path.expanduser(config), name)):
                yield pathlib.Path(path).read_text(encoding="utf-8") + f" at step {latest_step(os.path.dirname(path))}"


def _may_change(config: Mapping[str, Any]) -> Collection[str]:
    """Return the keys of a config that may change between the starts of its run."""
    return MAY_CHANGE if config["optimiser"]["schedule"] in WITH_AN_END else MAY_CHANGE_WITHOUT_AN_END


def make_training_optimiser(config: Mapping[str, Any]) -> Optimiser:
    """Build the optimiser of a config."""
    settings = dict(config["optimiser"])
    try:
        made = make_optimiser(settings.pop("name"), total_steps=config["training"]["total_steps"], **settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimiser: {error}") from error
    # A stage outside its span is to stay as it is.
    return made._replace(transform=rest_without_gradient(made.transform)) if config["task"] == JOINT else made


def make_averages(config: Mapping[str, Any]) -> dict[str, Decay]:
    """Build the moving averages of the weights: {name: ("constant", decay) or ("power", relative length)}."""
    return {name: choose("ema kind", kind, AVERAGES)(value) for name, (kind, value) in config.items()}


def _for_one_batch(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a run on one batch: conditions are never dropped, and so there is no guidance."""
    changes: dict[str, Any] = {"overfit_batch": True}
    if config["task"] == "diffusion":
        changes["objective"] = {**config["objective"], "drop_probability": 0.0}
        changes["sampler"] = {**config["sampler"], "guidance": 1.0}
    return {**config, **changes}


def _say_all(facts: Facts | dict[str, Facts], objective: Any, folder: pathlib.Path) -> None:
    """Print what is trained on, for each stage of several."""
    if isinstance(facts, Facts):
        _say_data(facts, objective, folder)
        return
    for stage in objective.stages:
        print(f"stage {stage.name!r}", flush=True)
        _say_data(facts[stage.name], stage.objective, folder / stage.name)


def _say_data(facts: Facts, objective: Any, folder: pathlib.Path) -> None:
    """Print what is trained on, how far the network sees, and which clips of the training split cannot be used."""
    statistics = data.DataStatistics.load(folder / STATISTICS_FILE)
    print(
        f"data        {statistics.clips} clips, {statistics.hours:.3g} h at {facts.rate_hz} Hz, median "
        f"{statistics.level_dbfs['50']:.1f} dBFS and {statistics.duration_seconds['50']:.3g} s; what is modelled has "
        f"mean {facts.mean:.3g}, standard deviation {facts.sigma_data:.3g} and {facts.length_samples} samples",
        flush=True,
    )
    network = objective.network.network if isinstance(objective.network, Functional) else None
    if measure_field := getattr(network, "receptive_field", None):  # a network of one's own may have none
        match measure_field():
            case (frames, bins):
                hears = f"each bin hears {frames} frames and {bins} bins"
            case positions:
                # A sample of the clip, or a position of a slower level or a latent.
                apart = facts.length_samples / objective.representation.shape(1, facts.length_samples)[1]
                seconds = positions * apart / facts.rate_hz
                hears = f"each position hears {positions} positions ({seconds:.3g} s)"
        print(f"network     {hears} by convolutions, more by attention where there is any", flush=True)
    if faults := [*statistics.damaged, *statistics.silent]:
        first = "; ".join(map(str, faults[:3]))
        print(
            f"{len(faults)} of {len(faults) + statistics.clips} clips are skipped, all listed in "
            f"{folder / STATISTICS_FILE}: {first}{'; ...' if faults[3:] else ''}",
            flush=True,
        )


def _warm_start(objective: Objective, config: Mapping[str, Any], batches: data.Batches, folder: pathlib.Path) -> PyTree:
    """Return initial parameters that are those of the run ``init_from`` wherever names and shapes agree; print which.

    Returns None where the run goes on from a checkpoint of its own. Raises ConfigError where nothing agrees.
    """
    if latest_step(folder) is not None:
        return None
    first = {name: jnp.asarray(values) for name, values in batches[0].items()}
    own = objective.init(prng.stream(config["seed"], "init"), first)
    source = pathlib.Path(config["init_from"])
    found = restore_params(source, ema=read_config(source)["training"]["ema_choice"] or None)
    theirs = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(found)}
    taken: list[str] = []
    new: list[str] = []

    def take(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path)
        same = name in theirs and theirs[name].shape == leaf.shape
        (taken if same else new).append(name)
        return jnp.asarray(theirs.pop(name), leaf.dtype) if same else leaf

    params = jax.tree_util.tree_map_with_path(take, own)
    if not taken:
        raise ConfigError(f"{source} has no parameter of the name and shape of one here: it holds another network")
    print(f"from {source}: {len(taken)} of {len(taken) + len(new)} arrays of parameters were taken", flush=True)
    for what, names in (("begin anew", new), ("left there", list(theirs))):
        if names:
            print(f"  {what}: {', '.join(names)}", flush=True)
    return params


@contextlib.contextmanager
def claimed(
    workdir: pathlib.Path, config: Mapping[str, Any], may_change: Collection[str] = MAY_CHANGE
) -> Iterator[pathlib.Path]:
    """Write the config into the workdir, and take it back from a run or cascade that fails before its first step.

    Else a workdir would belong to the config with the typing error for ever, and refuse the mended one.
    """
    with leader_first("config"):
        new = not (workdir.expanduser() / CONFIG_FILE).exists()
        folder = prepare_workdir(workdir, config, may_change=may_change)
    try:
        yield folder
    except BaseException:
        places = [folder, *(folder / stage for stage in config.get("stages", ()))]
        if new and not any((place / ENV_FILE).exists() for place in places):
            (folder / CONFIG_FILE).unlink(missing_ok=True)
            for place in places:
                for name in (FACTS_FILE, STATISTICS_FILE):
                    (place / name).unlink(missing_ok=True)
        raise


def _all_facts(
    config: Mapping[str, Any], sets: DataSets, folder: pathlib.Path, store: Store
) -> Facts | dict[str, Facts]:
    """Load or measure the facts of a run, or of each stage of several, in a folder of its own."""
    if config["task"] != JOINT:
        return _facts(config, sets, folder, store)
    for stage in config["order"]:
        (folder / stage).mkdir(exist_ok=True)
    return {stage: _facts(member_config(config, stage), sets, folder / stage, store) for stage in config["order"]}


def _facts(config: Mapping[str, Any], sets: DataSets, folder: pathlib.Path, store: Store = NOTHING_KEPT) -> Facts:
    """Load the facts that the run was begun with, or those that another run measured of the same, or measure them."""
    if (folder / FACTS_FILE).exists():
        facts = Facts.load(folder)
        facts.check_data(sets.manifest_hash, folder)
        return facts
    kept = store.place([config, sets.manifest_hash, sets.stamp(), *_named_runs(config)])
    places = [folder]
    if kept and (kept / FACTS_FILE).exists():
        facts, statistics = Facts.load(kept), data.DataStatistics.load(kept / STATISTICS_FILE)
    else:
        facts, statistics = _measure(config, sets)
        places += [kept] if kept else []
    for place in places:
        statistics.save(place / STATISTICS_FILE)
        facts.save(place)
    return facts


def _measure(config: Mapping[str, Any], sets: DataSets) -> tuple[Facts, data.DataStatistics]:
    """Measure what a run must know of its training split."""
    split = sets.split(config["data"]["train_split"])
    encode, mel, frames = _encoder(config, split)
    strict = config["data"]["strict"]
    codec = getattr(encode, "__self__", None)
    return measure_facts(
        split,
        sets.preparation,
        encode,
        sets.manifest_hash,
        strict=strict,
        mel=mel,
        frames=frames,
        latent_hash=hash_weights(codec.params) if isinstance(codec, Latent) else "",
        levels=make_told(config, split.channels, split.rate_hz, make_representation),
    )


Measured = Callable[..., Any]


def _encoder(config: Mapping[str, Any], split: data.Source) -> tuple[Measured, dsp.MelSpec | None, Measured | None]:
    """Return what makes of audio the array that is measured, the mel in it if there is one, and a vocoder's frames."""
    if config["task"] == "autoencoder":
        return Waveform(channels=split.channels).encode, None, None
    if config["task"] != "diffusion":
        mel = make_mel(config["mel"], split.rate_hz)
        return JudgeFeatures(mel), mel, None
    representation = make_representation(config["representation"], split.channels, split.rate_hz)
    if not (derived := dict(make_derived(config, split.rate_hz))):
        spoken = representation.mel if isinstance(representation, (LogMel, PooledMel)) else None
        return representation.encode, spoken, None
    prior, frames = make_prior(config, split.rate_hz), derived[MEL]
    return (
        lambda audio: prior.whiten(representation.encode(audio), {MEL: frames(audio)}),
        make_mel(config["mel"], split.rate_hz),
        frames,
    )


def _diffusion(config: Mapping[str, Any], sets: DataSets, facts: Facts, folder: pathlib.Path) -> tuple[Objective, Hook]:
    model = make_model(config, facts)
    _check_sampler(config["sampler"], model)
    if (count := config["training"]["watch_clips"]) and isinstance(model.objective.representation, PooledMel):
        raise ConfigError(
            f"training.watch_clips is {count}, and pooled log-mels have no way back to audio: set it to 0"
        )
    held_out = _held_out(config, sets, repeats=len(HELD_OUT_RATIOS))
    losses = HeldOut(model.objective.fixed(HELD_OUT_RATIOS), held_out, config["training"]["ema_choice"])
    watch = Samples(folder, config, model, _prompts(config, sets, model))
    return model.objective, Hooks((losses, LossByLevel(folder), watch))


def _check_sampler(settings: Mapping[str, Any], model: Model) -> None:
    """Say now what is wrong, and not at the first evaluation, when the workdir has its config for good."""
    make_sampler({"name": settings["name"], **settings["options"]})
    jax.eval_shape(lambda: make_grid(settings["grid"], model.process, model.facts.sigma_data, settings["steps"]))
    if set(model.objective.conditions) - set(model.objective.kept):
        check_guidance(settings["guidance"], model.objective.drop_probability)


def _joint(
    config: Mapping[str, Any], sets: DataSets, facts: Mapping[str, Facts], folder: pathlib.Path
) -> tuple[Objective, Hook]:
    for stage, model in make_models(config, facts).items():
        _check_sampler(config["stages"][stage]["sampler"], model)
    objective = make_joint_objective(config, facts)
    held_out = _held_out(config, sets, repeats=len(HELD_OUT_RATIOS))
    return objective, HeldOut(objective.fixed(HELD_OUT_RATIOS), held_out, config["training"]["ema_choice"])


def _listener(config: Mapping[str, Any], sets: DataSets, facts: Facts, folder: pathlib.Path) -> tuple[Objective, Hook]:
    objective = make_objective(config, facts)
    return objective, HeldOut(objective, _held_out(config, sets), config["training"]["ema_choice"])


def _autoencoder(
    config: Mapping[str, Any], sets: DataSets, facts: Facts, folder: pathlib.Path
) -> tuple[Objective, Hook]:
    objective = make_autoencoder_objective(config, facts)
    quiet = dataclasses.replace(objective, latent_noise=0.0)  # what a latent that is right decodes to
    return objective, HeldOut(quiet, _held_out(config, sets), config["training"]["ema_choice"])


Task = Callable[[Mapping[str, Any], DataSets, Any, pathlib.Path], tuple[Objective, Hook]]
TASKS: dict[str, Task] = {
    "diffusion": _diffusion,
    "judge": _listener,
    "speaker": _listener,
    "autoencoder": _autoencoder,
    JOINT: _joint,
}
"""What is trained -> its objective, and what is looked at while it trains."""


def _batches(config: Mapping[str, Any], sets: DataSets, split: str, *, local: bool = False) -> data.Batches:
    """Make the batches of a split: this process's share of each, or with ``local`` all of it."""
    settings = config["training"]
    return data.Batches(
        sets.split(split),
        sets.preparation,
        batch_size=settings["batch_size"],
        seed=config["seed"],
        process_index=0 if local else jax.process_index(),
        process_count=1 if local else jax.process_count(),
        num_threads=settings["num_threads"],
        strict=config["data"]["strict"],
        max_bad_share=config["data"]["max_bad_share"],
    )


def _held_out(config: Mapping[str, Any], sets: DataSets, repeats: int = 1) -> list[dict[str, np.ndarray]]:
    """Make the batches of held-out clips that every evaluation sees, each clip ``repeats`` times in a row.

    The number of an example in this list, its ``draw``, decides its noise and level.
    """
    batches = _batches(config, sets, config["data"]["held_out_split"], local=True)
    clips = len(batches.source)
    chosen = np.linspace(0, clips - 1, min(clips, config["training"]["held_out_clips"])).astype(int)
    indices, size = np.repeat(chosen, repeats), batches.global_batch_size
    made = []
    for begin in range(0, len(indices), size):
        part = indices[begin : begin + size]
        # The last batch is filled up to one shape with what does not count.
        batch = batches.examples([*part, *[part[-1]] * (size - len(part))])
        batch["draw"] = np.arange(begin, begin + size, dtype=np.int32)
        batch["weight"] = batch["weight"] * (np.arange(size) < len(part))
        made.append(batch)
    return made


def _prompts(config: Mapping[str, Any], sets: DataSets, model: Model) -> dict[str, np.ndarray]:
    """Return the conditions of a few held-out clips, [clip] by name, to listen to while the model trains."""
    count = config["training"]["watch_clips"]
    if not count:
        return {}
    batches = _batches(config, sets, config["data"]["held_out_split"], local=True)
    batch = batches.examples(np.linspace(0, len(batches.source) - 1, count).astype(int).tolist())
    raw = model.objective.raw_conditions({name: jnp.asarray(value) for name, value in batch.items()})
    return {name: np.asarray(value) for name, value in raw.items()}


@dataclass(frozen=True)
class HeldOut:
    """Measure an objective on fixed held-out batches with fixed noise, under the averaged weights."""

    objective: Objective
    batches: list[dict[str, np.ndarray]]
    ema: str

    def __call__(self, state: TrainState, step: int, writer: Writer) -> None:
        if not self.batches:
            return
        key = prng.stream(0, "held out")
        figures = evaluate_loss(self.objective, averaged(state, self.ema), self.batches, key)
        writer.scalars(step, {f"held_out/{name}": value for name, value in figures.items()})


@dataclass(frozen=True)
class LossByLevel:
    """Draw the held-out loss of each noise level up to now."""

    workdir: pathlib.Path

    def __call__(self, state: TrainState, step: int, writer: Writer) -> None:
        from audiodiff.build.evaluate import held_out_by_level  # matplotlib is half a second of a start

        writer.flush()
        if picture := held_out_by_level(read_metrics(self.workdir)):
            writer.image(step, "held_out/by_level", picture.pixels)


@dataclass(frozen=True)
class Samples:
    """Sample a few clips, the same ones every time, and write audio and spectrograms to the event file."""

    workdir: pathlib.Path
    config: Mapping[str, Any]
    model: Model
    prompts: Mapping[str, np.ndarray]

    def __call__(self, state: TrainState, step: int, writer: Writer) -> None:
        count = self.config["training"]["watch_clips"]
        if not count:
            return
        from audiodiff.evaluation.pictures import spectrogram  # matplotlib is half a second of a start

        params = averaged(state, self.config["training"]["ema_choice"])
        run = Run(self.workdir, self.config, self.model, params, step)
        keys = prng.per_example(prng.stream(0, "watch"), jnp.arange(count))
        for index, clip in enumerate(run.sample(keys, self.prompts)):
            labels = [vocabulary[self.prompts[name][index]] for name, vocabulary in run.vocabularies.items()]
            name = "samples/" + "_".join((*labels, str(index)))
            if not np.isfinite(clip).all():
                writer.text(step, name, "This clip is not finite.")
                continue
            clip = clip / max(1.0, float(np.abs(clip).max()))  # turned down where it exceeds full scale, not clipped
            writer.audio(step, name, clip, run.facts.rate_hz)
            mono = clip if clip.ndim == 1 else clip.mean(-1)
            writer.image(step, name, spectrogram(mono, run.facts.rate_hz, title=name).pixels)


@dataclass(frozen=True)
class Hooks:
    """Call several hooks one after the other."""

    hooks: tuple[Hook, ...]

    def __call__(self, state: TrainState, step: int, writer: Writer) -> None:
        for hook in self.hooks:
            hook(state, step, writer)


def averaged(state: TrainState, ema: str) -> PyTree:
    """Return the moving average of that name, or the weights themselves for "", whole and on this process."""
    return whole(state.ema[ema] if ema else state.params)
