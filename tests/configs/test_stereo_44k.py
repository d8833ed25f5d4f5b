"""The stereo config reads any files as two channels of 44.1 kHz, trains on them and writes such."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from command import plain
from ml_collections import ConfigDict

from audiodiff.build.data import make_data
from audiodiff.build.experiment import run_experiment
from audiodiff.build.network import make_network
from audiodiff.build.run import load_run
from audiodiff.build.samples import write_samples
from audiodiff.data import Batches, write_audio
from configs import stereo_44k


@pytest.fixture
def root(tmp_path):
    """Write five stereo files with sound on the left alone, and a mono one of another rate."""
    for index in range(5):
        left = 0.5 * np.sin(2 * np.pi * 440 * (index + 1) * np.arange(9000) / 44_100)
        write_audio(tmp_path / "music" / f"{index}.flac", np.stack([left, 0 * left], axis=1), 44_100)
    write_audio(tmp_path / "music" / "mono.wav", 0.5 * np.sin(np.arange(5000) / 10), 22_050)
    return tmp_path / "music"


def test_the_network_hears_a_second_and_a_half_of_two_channels():
    config = plain(stereo_44k.get_config())
    assert (config["data"]["rate_hz"], config["data"]["channels"]) == (44_100, 2)
    length = config["data"]["length_samples"]
    assert length == 65_536 and length % np.prod(config["network"]["factors"]) == 0
    network = make_network(config["network"], audio_channels=2, dtype=config["dtype"])
    x = jax.ShapeDtypeStruct((1, length, 2), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), x, {})
    y = jax.eval_shape(network, params, x, jax.ShapeDtypeStruct((1,), jnp.float32), {})
    assert y.shape == x.shape and y.dtype == jnp.float32
    assert network.network.receptive_field() > length / 2


def test_it_runs_small(root, tmp_path):
    config = stereo_44k.get_config("smoke")
    config.data.root = str(root)
    config.data.length_samples = 8192
    config.data.held_out_share = 0.2
    sizes = {"factors": (64, 4), "channels": (8, 8), "blocks": (1, 1), "attention_heads": (0, 1), "embedding": 8}
    config.network = ConfigDict({"name": "unet1d", **sizes})
    config.training.update({"batch_size": 2, "total_steps": 2, "save_every": 2, "evaluate_every": 2, "devices": 1})
    config.optimiser.warmup_steps = 1
    config.training.update({"held_out_clips": 1, "num_threads": 1})
    config = plain(config)

    sets = make_data(config["data"])
    assert [len(sets.split(name)) for name in ("train", "validation")] == [5, 1]
    audio = Batches(sets.split("all"), sets.preparation, batch_size=6, seed=0, shuffle=False)[0]["audio"]
    assert audio.shape == (6, 8192, 2)
    energy = np.square(audio).mean(axis=1)
    assert np.all(energy[:5, 0] > 1e-3) and np.all(energy[:5, 1] < 1e-9), "the sides stay where they are"
    np.testing.assert_array_equal(audio[5, :, 0], audio[5, :, 1])

    assert run_experiment(config, tmp_path / "run").finished
    run = load_run(tmp_path / "run")
    assert run.facts.channels == 2
    write_samples(run, tmp_path / "samples", count=1, say=lambda line: None)
    audio, rate_hz = soundfile.read(tmp_path / "samples" / "0.wav")
    assert audio.shape == (8192, 2) and rate_hz == 44_100
    assert np.abs(audio[:, 0] - audio[:, 1]).max() > 1e-3
