"""A model diffuses in the latent of a trained autoencoder, which stays as it is; another than was meant is refused."""

from __future__ import annotations

import copy
import json
import pathlib
import re
import shutil
from typing import Any

import jax
import numpy as np
import pytest
from command import plain

import audiodiff
from audiodiff.build.choices import ConfigError
from audiodiff.build.comparison_cells import Bench, Comparison, measure_ceiling
from audiodiff.build.data import make_data
from audiodiff.build.evaluate import examine_autoencoder, read_clips
from audiodiff.build.experiment import run_experiment
from audiodiff.build.latent import hash_weights
from audiodiff.build.model import Facts, make_representation
from audiodiff.build.run import load_autoencoder, load_judge, load_run
from audiodiff.build.step_costs import count_parameters
from audiodiff.evaluation.codec import Codec
from audiodiff.metrics.signal import si_sdr
from audiodiff.representations import Latent
from audiodiff.training import read_metrics, restore_params
from configs import autoencoder_digits, compare_digits

AUDIO = (0.1 * np.random.default_rng(0).normal(size=(3, 2048))).astype(np.float32)


@pytest.fixture(scope="module")
def codec_config(_configs) -> dict[str, Any]:
    """Return the config of an autoencoder of generated sounds that is trained for two steps."""
    config = plain(autoencoder_digits.get_config("smoke"))
    for section in ("data", "training"):
        config[section] = copy.deepcopy(_configs["smoke"][section])
    config["optimiser"]["warmup_steps"] = 0
    config["network"].update({"factors": (16, 2), "channels": (8, 8), "latent_channels": 4})
    return config


@pytest.fixture(scope="module")
def codec_workdir(codec_config, tmp_path_factory) -> pathlib.Path:
    """Return the workdir of that autoencoder, trained."""
    folder = tmp_path_factory.mktemp("runs") / "codec"
    run_experiment(codec_config, folder)
    return folder


def in_latent(_configs, folder: pathlib.Path) -> dict[str, Any]:
    """Return the config of a tiny model in the latent of the autoencoder in ``folder``."""
    config = copy.deepcopy(_configs["smoke"])
    config["representation"] = {"name": "latent", "workdir": str(folder)}
    config["training"]["watch_clips"] = 0
    return config


@pytest.fixture(scope="module")
def latent_workdir(_configs, codec_workdir, tmp_path_factory) -> pathlib.Path:
    """Return the workdir of a model in the latent that was trained for two steps."""
    folder = tmp_path_factory.mktemp("runs") / "model"
    run_experiment(in_latent(_configs, codec_workdir), folder)
    return folder


def test_an_autoencoder_is_trained_by_the_one_trainer_and_loaded_with_its_weights(codec_workdir):
    codec = audiodiff.load(codec_workdir)
    assert isinstance(codec, Codec) and codec.ratio == 32 and codec.numbers_a_second == 8000 / 32 * 4
    assert codec.weights_hash == hash_weights(codec.latent.params) == load_autoencoder(codec_workdir).weights_hash
    assert codec.latent.network.network.scale == np.float32(Facts.load(codec_workdir).sigma_data)
    latents = codec.encode(AUDIO, 8000)
    assert latents.shape == (3, 64, 4) and codec.decode(latents, 2000).shape == (3, 2000)
    np.testing.assert_allclose(codec.encode(AUDIO[:1], 8000), latents[:1], atol=1e-5)
    with pytest.raises(ValueError, match="the clips have 16000 Hz and the autoencoder listens at 8000 Hz"):
        codec.encode(AUDIO, 16000)


def test_held_out_clips_are_measured_without_the_noise_of_training(codec_workdir, codec_config):
    lines = read_metrics(codec_workdir)
    names = set().union(*lines)
    assert {"train/si_sdr_db", "train/latent_std", "held_out/si_sdr_db", "held_out/distance"} <= names


def test_a_model_in_the_latent_trains_and_what_it_makes_is_audio_of_the_length_asked(latent_workdir, codec_workdir):
    run = load_run(latent_workdir)
    assert isinstance(run.model.objective.representation, Latent)
    assert run.facts.latent_hash == load_autoencoder(codec_workdir).weights_hash
    audio = run.sample(jax.random.key(0), {"sound": ["ah", "ee"], "pitch": "A2"}, length_samples=1990, steps=2)
    assert audio.shape == (2, 1990) and np.isfinite(audio).all() and np.ptp(audio, axis=1).min() > 1e-4
    with pytest.raises(ConfigError, match="known audio is kept sample by sample, and this model is of positions"):
        run.sample(jax.random.key(0), {"sound": "ah", "pitch": "A2"}, known=(AUDIO[:1], np.arange(2048) < 99))


def test_the_model_was_measured_on_what_it_diffuses(latent_workdir, codec_workdir, config):
    codec, facts = load_autoencoder(codec_workdir), Facts.load(latent_workdir)
    sets = make_data(config["data"])
    latents = codec.encode(read_clips(sets.split("train"), sets.preparation).audio, 8000)
    np.testing.assert_allclose((facts.sigma_data, facts.mean), (latents.std(), latents.mean()), rtol=1e-3, atol=1e-4)


def test_the_autoencoder_is_not_trained_along(latent_workdir, codec_workdir):
    run, codec = load_run(latent_workdir), load_autoencoder(codec_workdir)
    trained = restore_params(latent_workdir, ema=None)
    names = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(trained)}
    assert not any(re.search("to_latent|from_latent|log_std", name) for name in names)
    jax.tree.map(np.testing.assert_array_equal, run.model.objective.representation.params, codec.latent.params)


def test_another_autoencoder_in_the_same_folder_is_told_by_both_hashes(
    _configs, codec_config, codec_workdir, latent_workdir, tmp_path
):
    """Whether the config names the hash or not: the run's facts do."""
    meant = load_autoencoder(codec_workdir).weights_hash
    run_experiment({**codec_config, "seed": 1}, tmp_path / "codec")
    other = load_autoencoder(tmp_path / "codec").weights_hash
    section = {"name": "latent", "workdir": str(tmp_path / "codec")}
    with pytest.raises(ConfigError, match=f"representation.hash is {meant} and the autoencoder in .* weights {other}"):
        make_representation({**section, "hash": meant}, 1, 8000)
    assert hash_weights(make_representation({**section, "hash": other}, 1, 8000).params) == other
    with pytest.raises(ConfigError, match=f"the model was trained in the latent of {meant} and .* weights {other}"):
        make_representation(section, 1, 8000, Facts.load(latent_workdir))


def test_an_autoencoder_of_other_audio_or_none_at_all_is_refused(codec_workdir, workdir, tmp_path):
    def made(folder, channels=1, rate_hz=8000):
        return make_representation({"name": "latent", "workdir": str(folder)}, channels, rate_hz)

    with pytest.raises(ConfigError, match="has rate_hz 8000 and the data have 16000: .* or set data.rate_hz=8000"):
        made(codec_workdir, rate_hz=16000)
    with pytest.raises(ConfigError, match="has channels 1 and the data have 2: train one on such data"):
        made(codec_workdir, channels=2)
    with pytest.raises(ConfigError, match="holds a run of the task 'diffusion' and no autoencoder: train one with"):
        made(workdir)
    with pytest.raises(FileNotFoundError, match="nowhere holds no config.json: it is not the folder of a run"):
        made(tmp_path / "nowhere")
    with pytest.raises(
        ConfigError, match="holds a waveform autoencoder, which generates nothing: name the workdir of a model"
    ):
        load_run(codec_workdir)


def test_a_model_whose_autoencoder_is_gone_is_refused_and_its_workdir_is_left_to_the_mended_config(
    _configs, codec_workdir, tmp_path
):
    with pytest.raises(FileNotFoundError, match="gone holds no config.json"):
        run_experiment(in_latent(_configs, tmp_path / "gone"), tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.json"))
    shutil.copytree(codec_workdir, tmp_path / "gone")
    assert run_experiment(in_latent(_configs, tmp_path / "gone"), tmp_path / "run").finished


def test_what_comes_back_of_the_test_clips_is_measured_with_the_ratio(codec_workdir, judge_workdir, config):
    path, record, figures = examine_autoencoder(codec_workdir, judge_workdir)
    assert json.loads(path.read_text()) == record
    assert (record["ratio"], record["latent_channels"], record["samples_a_number"]) == (32, 4, 8.0)
    codec, judge = load_autoencoder(codec_workdir), load_judge(judge_workdir)
    assert (record["weights_hash"], record["judge"]) == (codec.weights_hash, judge.weights_hash)
    assert [figure.name for figure in figures][:3] == [
        "SI-SDR",
        "multi-resolution STFT distance",
        "accuracy sound, clips as they are",
    ]
    sets = make_data(config["data"])
    clips = read_clips(sets.split("test"), sets.preparation).audio
    back = codec.decode(codec.encode(clips, 8000), clips.shape[1])
    np.testing.assert_allclose(figures[0].value, si_sdr(back, clips).mean(), rtol=1e-4)


def test_a_latent_is_an_arm_of_a_comparison(_configs, codec_workdir, judge_workdir, tmp_path):
    """Its ceiling is measured as that of any representation, and the parameters counted are those that are trained."""
    config = plain(compare_digits.get_config("smoke"))
    arm = in_latent(_configs, codec_workdir)
    config.update(data=arm.pop("data"), order=("latent",), arms={"latent": arm}, generation_batch=4, clips=20)
    comparison = Comparison(config, tmp_path / "runs", tmp_path / "results")
    comparison.workdir.mkdir()
    (comparison.workdir / "judge").symlink_to(judge_workdir)
    record = measure_ceiling(comparison, "latent", Bench.load(comparison))
    assert {figure["name"] for figure in record["inverter"]["exact"]} >= {"multi-resolution STFT distance"}
    small = comparison.training("latent") | {"representation": {"name": "waveform"}}
    counts = [count_parameters(one, comparison.sets) for one in (comparison.training("latent"), small)]
    assert 0 < counts[0] - counts[1] < 200  # wider by three channels in and out, and no autoencoder
