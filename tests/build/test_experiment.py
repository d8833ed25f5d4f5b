"""An experiment begins, goes on and ends in its workdir, and what it cannot be leaves nothing behind."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from audiodiff.build import experiment
from audiodiff.build.choices import ConfigError
from audiodiff.build.data import make_data
from audiodiff.build.experiment import HELD_OUT_RATIOS, Samples, run_experiment
from audiodiff.build.replay import replay
from audiodiff.build.run import load_run
from audiodiff.data import AudioError, write_audio
from audiodiff.store import Store
from audiodiff.training import WorkdirError, read_config, read_metrics, restore_params
from audiodiff.training.replay import save_replay
from audiodiff.training.state import init_state


class Stop(Exception):
    """Stand in for a fault in the middle of a run."""


def test_a_run_writes_what_others_need(workdir, config):
    assert read_config(workdir) == json.loads(json.dumps(config))
    names = set().union(*read_metrics(workdir))
    assert {"train/mse", "held_out/mse", "held_out/noise/0.3-1"} <= names
    assert json.loads((workdir / "statistics.json").read_text())["clips"] == 24


def test_a_finished_run_has_nothing_to_do(workdir, config):
    before = (workdir / "metrics.jsonl").read_bytes()
    result = run_experiment(config, workdir)
    assert result.finished and "has finished its 2 steps: nothing to do" in result.message
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_a_workdir_of_another_config_is_refused_and_left_alone(workdir, config):
    files = {path: path.read_bytes() for path in workdir.glob("*.json")}
    config["optimiser"]["learning_rate"] = 0.5
    with pytest.raises(WorkdirError, match=r"belongs to another config: optimiser.learning_rate: 0.002 -> 0.5; take"):
        run_experiment(config, workdir)
    assert {path: path.read_bytes() for path in workdir.glob("*.json")} == files


def test_a_changed_manifest_is_refused(workdir, config, tmp_path, monkeypatch):
    copied = shutil.copytree(workdir, tmp_path / "run")
    sets = make_data(config["data"])
    monkeypatch.setattr(experiment, "make_data", lambda section: dataclasses.replace(sets, manifest_hash="another"))
    with pytest.raises(ConfigError, match="manifest is another and .* was trained on embedded-24: point data.root"):
        run_experiment(config, copied)
    assert (copied / "config.json").exists() and (copied / "model.json").exists()


@pytest.mark.parametrize(
    ("section", "change", "said"),
    [
        ("network", {"name": "unet"}, "unknown network 'unet'; choose one of unet1d, "),
        ("optimiser", {"name": "adam"}, "optimiser: optimiser='adam' is unknown"),
        ("optimiser", {"betas": 1}, "optimiser: .*'betas'"),
        ("training", {"ema_choice": "long"}, "unknown ema_choice 'long'; choose one of power, short"),
        ("training", {"ema": {"short": ("constnt", 0.9)}}, "unknown ema kind 'constnt'; choose one of constant, power"),
        ("training", {"microbatches": 3}, "microbatches=3 must divide the batch size 2"),
        ("data", {"held_out_split": "tset"}, "unknown split 'tset'; choose one of test, "),
        ("data", {"rate_hz": 0}, "rate_hz is 0"),
        ("sampler", {"name": "heunn"}, "unknown sampler 'heunn'; choose one of heun, "),
        ("sampler", {"options": {"etta": 1.0}}, "takes no 'etta'"),
        ("sampler", {"steps": 0}, "steps is 0 but a sampler needs at least 1"),
        ("sampler", {"grid": {"name": "karas"}}, "unknown grid 'karas'; choose one of karras, "),
        ("objective", {"drop_probability": 0.0}, "guidance is 1.5, and this model was trained with drop_probability 0"),
    ],
)
def test_what_fails_before_the_first_step_leaves_the_workdir_to_the_mended_config(
    config, tmp_path, section, change, said
):
    wrong = copy.deepcopy(config)
    wrong[section].update(change)
    with pytest.raises(ValueError, match=said):
        run_experiment(wrong, tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.json"))


def test_what_fails_after_it_keeps_the_workdir(config, tmp_path, monkeypatch):
    def fault(*arguments):
        raise Stop

    monkeypatch.setattr(experiment.HeldOut, "__call__", fault)
    with pytest.raises(Stop):
        run_experiment(config, tmp_path)
    assert read_config(tmp_path) == json.loads(json.dumps(config))


def test_snapshots_without_a_power_average_are_refused(config, tmp_path):
    del config["training"]["ema"]["power"]
    with pytest.raises(ConfigError, match="snapshot_every stores power-function averages and training.ema has none"):
        run_experiment(config, tmp_path / "run")


def test_an_unknown_task_is_told(config, tmp_path):
    with pytest.raises(ConfigError, match="unknown task 'juge'; choose one of judge, "):
        run_experiment({**config, "task": "juge"}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_overfitting_is_a_run_of_its_own_with_conditions_always_there(workdir, config):
    with pytest.raises(WorkdirError, match="overfit_batch: absent -> true"):
        run_experiment(config, workdir, overfit_batch=True)
    sets, facts = make_data(config["data"]), load_run(workdir).facts
    plain, _ = experiment.TASKS["diffusion"](config, sets, facts, workdir)
    overfit, _ = experiment.TASKS["diffusion"](experiment._for_one_batch(config), sets, facts, workdir)
    assert (plain.drop_probability, overfit.drop_probability) == (0.1, 0.0)


def test_one_batch_is_learnt_listened_to_and_can_be_sampled(config, tmp_path):
    """Through an evaluation with its samples, which a null that was never trained must not take part in."""
    config["training"].update({"total_steps": 40, "evaluate_every": 40, "save_every": 40, "watch_clips": 1})
    config["optimiser"]["learning_rate"] = 3e-3
    result = run_experiment(config, tmp_path / "run", overfit_batch=True)
    assert result.finished
    losses = [line["train/mse"] for line in read_metrics(tmp_path / "run") if line.get("train/mse") is not None]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    run = load_run(tmp_path / "run")
    assert run.settings()["guidance"] == 1 and run.sample(jax.random.key(0), {"sound": "ah", "pitch": "A2"}).any()


def test_a_run_begins_with_the_weights_of_another_as_far_as_they_fit(config, workdir, tmp_path, capsys):
    source = load_run(workdir)
    config["training"]["total_steps"] = 1
    config["optimiser"].update({"learning_rate": 1e-9, "warmup_steps": 0})
    result = run_experiment(config, tmp_path / "same", init_from=workdir)
    said = capsys.readouterr().out
    count = len(jax.tree.leaves(source.params))
    assert f"from {workdir}: {count} of {count} arrays of parameters were taken" in said and "begin anew" not in said
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), result.state.params, source.params)

    config["network"]["embedding_features"] = 24
    run_experiment(config, tmp_path / "other", init_from=workdir)
    said = capsys.readouterr().out
    assert "begin anew: " in said and "left there: " in said
    with pytest.raises(WorkdirError, match="init_from: "):
        run_experiment(config, tmp_path / "other")


def test_a_run_cannot_begin_with_what_is_not_there(config, judge_workdir, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run_experiment(config, tmp_path / "run", init_from=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="has no parameter of the name and shape of one here: it holds another net"):
        run_experiment(config, tmp_path / "run", init_from=judge_workdir)


def test_clips_that_cannot_be_used_are_told_when_training_begins(config, tmp_path, capsys):
    """Silent, truncated, empty and NaN files among good ones: trained without them, or stopped by ``strict``."""
    folder, rng = tmp_path / "set", np.random.default_rng(0)
    for index in range(8):
        write_audio(folder / f"{index}.wav", 0.1 * rng.standard_normal(2048), 8000, "FLOAT")
    write_audio(folder / "silent.wav", np.zeros(2048), 8000, "FLOAT")
    whole = (folder / "0.wav").read_bytes()
    (folder / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "nan.wav").write_bytes(whole[:-4] + np.float32(np.nan).tobytes())
    config["conditions"] = ()
    config["data"] = {key: value for key, value in config["data"].items() if key != "size"} | {
        "name": "folder",
        "root": str(folder),
        "conditions": (),
        "max_bad_share": 0.5,
        **dict.fromkeys(("train_split", "held_out_split", "test_split"), "all"),
    }
    assert run_experiment(config, tmp_path / "run").finished
    said = capsys.readouterr().out
    assert "4 of 12 clips are skipped, all listed in " in said and "statistics.json" in said
    listed = (tmp_path / "run" / "statistics.json").read_text()
    assert all(name in listed for name in ("silent.wav", "truncated.wav", "empty.wav", "nan.wav"))
    config["data"]["strict"] = True
    with pytest.raises(AudioError, match=r"strict is set: unset it to skip such clips"):
        run_experiment(config, tmp_path / "strict")


def test_a_second_run_measures_and_traces_nothing_that_the_first_kept(config, tmp_path, monkeypatch):
    def lines(name):
        run_experiment(config, tmp_path / name, store=Store(tmp_path / "store", config))
        return [
            {key: value for key, value in line.items() if not key.startswith("speed/")}
            for line in read_metrics(tmp_path / name)
        ]

    first = lines("first")
    monkeypatch.setattr(experiment, "_measure", None)
    monkeypatch.setattr(Store, "compile", None)
    assert lines("second") == first
    for name in ("statistics.json", "model.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_a_run_that_a_config_names_is_known_by_its_facts_and_its_step(workdir, tmp_path):
    copied = shutil.copytree(workdir, tmp_path / "run")
    named = {"representation": {"name": "latent", "workdir": str(copied)}, "several": (3, "", [str(copied)])}
    before = list(experiment._named_runs(named))
    assert len(before) == 4 and before[0].endswith("at step 2")
    shutil.copytree(copied / "checkpoints" / "2", copied / "checkpoints" / "3")
    assert list(experiment._named_runs(named)) != before


def test_every_held_out_clip_is_heard_at_every_level_and_what_fills_up_counts_for_nothing(config):
    config["training"]["batch_size"] = 4
    batches = experiment._held_out(config, make_data(config["data"]), repeats=len(HELD_OUT_RATIOS))
    rows = [
        (int(index), int(draw) % len(HELD_OUT_RATIOS))
        for batch in batches
        for index, draw, weight in zip(batch["index"], batch["draw"], batch["weight"], strict=True)
        if weight
    ]
    clips = {index for index, _ in rows}
    assert len(clips) == config["training"]["held_out_clips"] and {0, 191} <= clips, "from the first to the last"
    assert sorted(rows) == [(clip, level) for clip in sorted(clips) for level in range(len(HELD_OUT_RATIOS))]
    assert {batch["audio"].shape for batch in batches} == {(4, 2048)}


class Recorder:
    """Take what a hook writes."""

    def __init__(self):
        self.seen: list[tuple] = []

    def __getattr__(self, kind):
        return lambda step, name, *rest: self.seen.append((kind, name, *rest))


def test_the_clips_to_watch_are_named_turned_down_and_never_nan(run, config, monkeypatch):
    loud = np.array([[3.0, -1.5, 0.0, 0.0] * 512, [np.nan] * 2048], np.float32)
    monkeypatch.setattr("audiodiff.build.run.Run.sample", lambda self, keys, prompts: loud)
    config["training"]["watch_clips"] = 2
    hook = Samples(run.workdir, config, run.model, {"sound": np.array([0, 3]), "pitch": np.array([7, 0])})
    writer = Recorder()
    hook(init_state(run.params, optax.identity(), {"short": lambda n: n}), 0, writer)
    (audio, picture, text) = writer.seen
    assert audio[:2] == ("audio", "samples/ah_B3_0") and picture[:2] == ("image", "samples/ah_B3_0")
    np.testing.assert_allclose(audio[2], loud[0] / 3)
    assert text == ("text", "samples/pluck_A2_1", "This clip is not finite.")


def test_a_step_that_stopped_a_run_can_be_replayed(workdir, tmp_path):
    folder = tmp_path / "stopped"
    shutil.copytree(workdir, folder)
    config = read_config(folder)
    sets = make_data(config["data"])
    batch = experiment._batches(config, sets, "train")[0]
    params = jax.tree.map(jnp.asarray, restore_params(folder))
    state = init_state(params, optax.sgd(0.1), {})
    placed = {name: jnp.asarray(values) for name, values in batch.items()}
    save_replay(folder, state, placed, step=2, seed=0)
    assert "gradients: all finite" in replay(folder)
    broken = dataclasses.replace(state, params=jax.tree.map(lambda x: x * jnp.nan, params))
    save_replay(folder, broken, placed, step=3, seed=0)
    lines = replay(folder)
    assert any(line.startswith("parameters: not finite in ") for line in lines)
    assert f"losses: {len(batch['draw'])} not finite" in lines
    with pytest.raises(FloatingPointError, match="nan"):
        replay(folder, where=True)


def test_a_run_may_be_made_longer_where_its_learning_rate_has_no_end(config, tmp_path):
    """Two steps and one more, the same as three at once, for a schedule that does not know how many there will be."""
    config["optimiser"]["schedule"] = "constant"
    for steps in (2, 3):
        config["training"]["total_steps"] = steps
        assert run_experiment(config, tmp_path / "run").step == steps
    config["optimiser"]["schedule"] = "cosine"
    with pytest.raises(WorkdirError, match="optimiser.schedule"):
        run_experiment(config, tmp_path / "run")


def test_a_run_with_an_end_is_not_made_longer(workdir, config):
    config["training"]["total_steps"] = 3
    with pytest.raises(WorkdirError, match="training.total_steps: 2 -> 3"):
        run_experiment(config, workdir)


def test_a_log_mel_model_is_measured_in_its_mel_and_another_in_none(config):
    split = make_data(config["data"]).split("train")
    sizes = {"fft_samples": 256, "hop_samples": 128, "window_samples": 256, "bands": 20}
    log_mel = {"name": "log_mel", "mel": {"name": "librosa", **sizes}}
    encode, mel, _ = experiment._encoder({**config, "representation": log_mel}, split)
    assert mel.bands == 20 and mel.rate_hz == split.rate_hz
    assert encode(np.zeros((1, 2048), np.float32)).shape == (1, 17, 20, 1)
    assert experiment._encoder(config, split)[1] is None
