"""Texts, vectors and frames of a manifest reach the network, in training and in sampling, or it is said why not."""

from __future__ import annotations

import copy
import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import plain
from ml_collections import ConfigDict

from audiodiff.build.choices import ConfigError
from audiodiff.build.experiment import run_experiment
from audiodiff.build.run import Run, load_run
from audiodiff.build.samples import write_samples
from audiodiff.data import write_audio
from configs import common

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Write six clips with a text, a vector of 3 and 4 to 8 frames of 2 each, and their manifest."""
    folder, rng = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    lines = ["path,split,text:words,array:voice,array:mel"]
    for index in range(6):
        write_audio(folder / f"{index}.wav", 0.1 * rng.standard_normal(512), 8000, "FLOAT")
        np.save(folder / f"voice{index}.npy", rng.standard_normal(3))
        np.save(folder / f"mel{index}.npy", rng.standard_normal((4 + index % 5, 2)))
        split = "train" if index < 4 else "test"
        lines.append(f"{index}.wav,{split},{'né ' * (index + 1)},voice{index}.npy,mel{index}.npy")
    (folder / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def make_config(folder: pathlib.Path) -> ConfigDict:
    config = common.diffusion()
    names = ("words", "voice", "mel")
    config.conditions = names
    lengths = ConfigDict({"words": 10, "mel": 8})
    config.data.update({"name": "manifest", "root": str(folder / "manifest.csv"), "conditions": names})
    config.data.update({"length_samples": 512, "condition_lengths": lengths, "held_out_split": "test"})
    sizes = {"factors": (8, 2), "channels": (8, 8), "blocks": (1, 1), "attention_heads": (0, 1), "embedding": 8}
    config.network = ConfigDict({"name": "unet1d", "stem": "random", **sizes})
    config.optimiser.warmup_steps = 0
    config.training.update({"batch_size": 2, "total_steps": 2, "held_out_clips": 2, "watch_clips": 1, "devices": 1})
    config.training.update({"save_every": 2, "evaluate_every": 2, "log_every": 1})
    config.sampler.steps = 2
    return config


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory) -> Run:
    """Train for two steps, then move all weights: two steps hardly let a condition make a difference."""
    workdir = tmp_path_factory.mktemp("runs") / "model"
    run_experiment(plain(make_config(folder)), workdir)
    run = load_run(workdir)
    leaves, tree = jax.tree.flatten(run.params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    moved = [leaf + 0.2 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return dataclasses.replace(run, params=jax.tree.unflatten(tree, moved))


def asked(folder: pathlib.Path) -> dict:
    return {"words": "né", "voice": str(folder / "voice0.npy"), "mel": np.load(folder / "mel0.npy")}


def test_every_kind_of_condition_makes_a_difference(run, folder):
    same = run.sample(KEY, asked(folder))
    np.testing.assert_array_equal(run.sample(KEY, asked(folder)), same)
    others = {"words": "ne", "voice": np.load(folder / "voice1.npy"), "mel": str(folder / "mel1.npy")}
    for name, other in others.items():
        assert np.abs(run.sample(KEY, asked(folder) | {name: other}) - same).max() > 1e-5, name


def test_several_values_stand_in_a_list_and_a_text_ends_where_it_ends(run):
    encoded = run.encode_conditions(
        {"words": ["né", "abc"], "voice": np.zeros(3), "mel": [np.ones((2, 2)), np.ones((8, 2))]}
    )
    assert {name: value.shape for name, value in encoded.items()} == {
        "words": (2, 10),
        "voice": (2, 3),
        "mel": (2, 8, 2),
    }
    np.testing.assert_array_equal(encoded["words"][0], [*"né".encode(), *[-1] * 7])
    np.testing.assert_array_equal(jnp.sum(encoded["mel"], axis=(1, 2)), [4, 16])


def test_samples_are_written_with_conditions_that_are_held(run, folder, tmp_path):
    path = write_samples(
        run,
        tmp_path,
        count=1,
        fixed={k: str(v) for k, v in asked(folder).items() if k != "mel"} | {"mel": str(folder / "mel0.npy")},
    )
    assert path.exists() and len(list(tmp_path.glob("né_*.wav"))) == 1
    with pytest.raises(ConfigError, match="condition 'words' is a text, not one of a few labels: give it a value"):
        write_samples(run, tmp_path, count=1)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("words", "much too long a text", r"condition 'words' has shape \(20,\): the model takes at most \(10,\)"),
        ("voice", np.zeros(4), r"condition 'voice' has shape \(4,\): the model takes \(3,\)"),
        ("mel", np.zeros((4, 3)), r"condition 'mel' has shape \(4, 3\): the model takes at most \(8, 2\)"),
        ("mel", "nowhere.npy", "condition 'mel': .*nowhere.npy"),
    ],
)
def test_what_does_not_fit_is_told(run, folder, name, value, said):
    with pytest.raises(ConfigError, match=said):
        run.sample(KEY, asked(folder) | {name: value})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"condition_lengths": {}}, r"condition 'words' is a sequence: say with data.condition_lengths.words=N"),
        ({"max_shift_samples": 5}, "the frames of condition 'mel' are not cropped, shifted or cut with the audio"),
    ],
)
def test_what_would_not_line_up_is_told(folder, tmp_path, changes, said):
    config = copy.deepcopy(plain(make_config(folder)))
    config["data"].update(changes)
    with pytest.raises(ConfigError, match=said):
        run_experiment(config, tmp_path / "run")
