"""Cascades assembled of stages: who hears whom, whose truth replaces whose sound, and which stages are no one sound."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import audiodiff
from audiodiff import prng
from audiodiff.build.cascade import assemble, load_cascade, train_cascade
from audiodiff.build.cascade_samples import write_cascade_samples
from audiodiff.build.choices import ConfigError
from audiodiff.build.data import make_data
from audiodiff.build.run import Run, load_run
from audiodiff.build.stages import check_order, sources_of, stage_config
from audiodiff.build.step_costs import untrained
from audiodiff.data import write_audio
from audiodiff.hierarchy.levels import PyramidLevel

LENGTH = 2048
KEYS = prng.per_example(jax.random.key(3), jnp.arange(2))
ASKED = {"sound": ["kick", "ah"], "pitch": ["A2", "B3"]}
SOUND = np.random.default_rng(0).uniform(-0.3, 0.3, (2, LENGTH)).astype(np.float32)
MEL = {"name": "librosa", "fft_samples": 256, "hop_samples": 128, "window_samples": 256, "bands": 8}


UNET = {"name": "unet1d", "factors": (8, 2), "channels": (12, 16), "blocks": (0, 0), "attention_heads": (0, 2)}


def level(number, bands=(), factors=(4,), **options):
    return {"name": "pyramid", "factors": factors, "level": number, "bands": bands, "frame_samples": 64, **options}


def pooled(frames):
    return {"name": "pooled_mel", "mel": MEL, "pool_frames": frames}


def told(representation, by=("concat",), noise=0.0):
    return {"representation": representation, "by": by, "noise": noise}


STAGES = {
    "two": {"low": (level(0), {}), "fine": (level(1, (1, 2, 3)), {"low": told(level(0), noise=0.5)})},
    "three": {
        "low": (level(0, factors=(2, 2)), {}),
        "middle": (level(1, (1,), (2, 2)), {"low": told(level(0, factors=(2, 2)))}),
        "fine": (level(2, (), (2, 2)), {"middle": told(level(1, factors=(2, 2)))}),
    },
    "bands": {
        "low": (level(0), {}),
        **{f"band{n}": (level(1, (n,)), {"low": told(level(0))} if n > 1 else {}) for n in (1, 2, 3)},
    },
    "features": {
        "utterance": (pooled(0), {}),
        "frames": (pooled(1), {"utterance": told(pooled(0), ("global",))}),
        "samples": (level(1), {"frames": told(pooled(1), ("frames",))}),
    },
}


@pytest.fixture
def cascade_config(config):
    """Return what makes the config of a cascade by its name: tiny stages of the demo's kind."""

    def make(name):
        stages = {}
        for stage, (representation, levels) in STAGES[name].items():
            one = {key: value for key, value in copy.deepcopy(config).items() if key != "data"}
            one["sampler"] |= {"steps": 2, "guidance": 1.0}
            stages[stage] = one | {"representation": representation, "told": copy.deepcopy(levels)}
        made = {"task": "cascade", "data": config["data"], "stages": stages, "order": tuple(stages)}
        return made | ({"output": tuple(stages)} if name == "bands" else {})

    return make


@functools.lru_cache(maxsize=1)
def _data(text):
    return make_data(json.loads(text))


def lively_run(config, stage, folder="nowhere"):
    """Return the run of a stage that was not trained, with weights under which all it is told makes a difference."""
    own = stage_config(config, stage)
    model, params = untrained(own, _data(json.dumps(own["data"])))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [leaf + 0.2 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return Run(folder, own, model, jax.tree.unflatten(tree, moved), 0)


@pytest.fixture
def lively_cascade(cascade_config):
    def make(name):
        config = cascade_config(name)
        return assemble(config, {stage: lively_run(config, stage) for stage in config["order"]})

    return make


# --- who hears whom


@pytest.mark.parametrize("name", STAGES)
def test_a_cascade_is_its_stages_one_after_the_other(lively_cascade, name):
    """By hand: each stage draws from a stream of its own and is told what is in the audio, or the array, before it."""
    cascade = lively_cascade(name)
    made = {}
    for stage, run in cascade.runs.items():
        keys = jnp.stack([prng.stream(key, stage) for key in KEYS])
        heard = {which: made[which] for which in run.levels}
        representation = run.model.objective.representation
        made[stage] = run.sample(keys, ASKED | heard, decoded=isinstance(representation, PyramidLevel))
    expected = sum(made[stage] for stage in cascade.output)
    np.testing.assert_allclose(cascade.sample(KEYS, ASKED), expected, atol=1e-5)
    assert expected.shape == (2, LENGTH) and np.abs(expected).max() > 1e-3


def test_details_leave_what_was_made_before_as_it_is(lively_cascade):
    cascade = lively_cascade("three")
    made = cascade.make(KEYS, ASKED)
    low, middle = cascade.runs["middle"].levels["low"], cascade.runs["fine"].levels["middle"]
    np.testing.assert_allclose(low(made["middle"]), made["low"], atol=1e-6)
    # The finest stage makes its whole level anew.
    assert np.abs(middle(made["fine"]) - middle(made["middle"])).max() > 1e-3


@pytest.mark.parametrize("name", ["two", "features"])
def test_the_truth_in_place_of_a_stage_is_what_the_others_hear(lively_cascade, name):
    cascade = lively_cascade(name)
    stage = cascade.config["order"][-2]
    alone = cascade.make(KEYS, ASKED)
    swapped = cascade.make(KEYS, ASKED, given={stage: SOUND})
    last = cascade.config["order"][-1]
    assert np.abs(swapped[last] - alone[last]).max() > 1e-3
    heard = cascade.runs[last].levels[stage]
    by_hand = cascade.last.sample(
        jnp.stack([prng.stream(key, last) for key in KEYS]), ASKED | {stage: np.asarray(heard(SOUND))}
    )
    np.testing.assert_allclose(swapped[last], by_hand, atol=1e-5)
    if name == "two":
        np.testing.assert_allclose(heard(swapped[last]), heard(SOUND), atol=1e-5)


def test_each_clip_depends_on_its_own_key_and_condition_alone(lively_cascade):
    cascade = lively_cascade("two")
    both = cascade.sample(jax.random.key(3), ASKED)
    one = cascade.sample(KEYS[1:], {name: values[1] for name, values in ASKED.items()})
    np.testing.assert_allclose(both[1:], one, atol=1e-5)
    other = cascade.sample(KEYS, ASKED | {"sound": ["kick", "kick"]})
    np.testing.assert_allclose(other[0], both[0], atol=1e-5)
    assert np.abs(other[1] - both[1]).max() > 1e-4


def test_steps_and_strengths_are_those_of_their_stage(lively_cascade):
    cascade = lively_cascade("two")
    plain = cascade.make(KEYS, ASKED)
    more = cascade.make(KEYS, ASKED, steps={"fine": 3})
    noisier = cascade.make(KEYS, ASKED | {"low_noise": 0.4})
    for changed in (more, noisier):
        np.testing.assert_array_equal(changed["low"], plain["low"])
        assert np.abs(changed["fine"] - plain["fine"]).max() > 1e-4


def test_bands_side_by_side_add_up_and_each_keeps_to_its_own(lively_cascade):
    cascade = lively_cascade("bands")
    made = cascade.make(KEYS, ASKED)
    pyramid = cascade.runs["low"].model.objective.representation.pyramid
    for number, stage in enumerate(cascade.config["order"]):
        split = PyramidLevel(pyramid, 1, (0, 1, 2, 3)).encode(jnp.asarray(made[stage]))
        energy = np.square(split).sum((0, 1))
        assert energy[number] > 0.999 * energy.sum(), stage


# --- which stages are no one sound


def test_the_order_must_name_each_stage_once_and_the_told_after_the_tellers(cascade_config):
    config = cascade_config("two")
    with pytest.raises(ConfigError, match=r"order is \('fine',\) and the stages are .*: name each once"):
        check_order(config | {"order": ("fine",)})
    with pytest.raises(ConfigError, match="'fine' is told of 'low', which comes not before it in order"):
        check_order(config | {"order": ("fine", "low")})
    with pytest.raises(ConfigError, match="unknown stage, told as 'low' 'lo'; choose one of low, "):
        sources_of(config | {"sources": {"low": ("lo",)}}, "low")
    with pytest.raises(ConfigError, match="unknown stage in output 'fin'; choose one of fine"):
        check_order(config | {"output": ("fin",)})
    with pytest.raises(ConfigError, match="unknown stage 'fin'; choose one of fine"):
        train_cascade(config, None, ("fin",))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate_hz": 16000}, "stage 'low' was trained with rate_hz 8000 and stage 'fine' with 16000: train both on"),
        ({"length_samples": 4096}, "'low' was trained with length_samples 2048 and stage 'fine' with 4096"),
    ],
)
def test_stages_of_other_rates_or_lengths_are_refused_by_both(cascade_config, change, said):
    config = cascade_config("two")
    runs = {stage: lively_run(config, stage) for stage in config["order"]}
    model = runs["fine"].model
    facts = dataclasses.replace(model.facts, **change)
    runs["fine"] = dataclasses.replace(runs["fine"], model=dataclasses.replace(model, facts=facts))
    with pytest.raises(ConfigError, match=said):
        assemble(config, runs)


@pytest.mark.parametrize(
    ("representation", "said"),
    [
        (
            level(0, factors=(2, 2)),
            r"'fine' was trained to be told 'low' of the pyramid .*\(4,\).* trained on .*\(2, 2\)",
        ),
        (level(0, preemphasis=0.9), "told 'low' of the waveform .*preemphasis=0.0.* was trained on .*preemphasis=0.9"),
        (level(1), "told 'low' of the level 0, and stage 'low' was trained on 1: train one of them anew"),
        ({"name": "waveform"}, "trained to be told PyramidLevel.* as 'low', and stage 'low' makes Waveform"),
    ],
)
def test_a_stage_that_was_trained_on_another_pyramid_is_refused(cascade_config, representation, said):
    config = cascade_config("two")
    runs = {"fine": lively_run(config, "fine")}
    config["stages"]["low"]["representation"] = representation
    runs["low"] = lively_run(config, "low")
    with pytest.raises(ConfigError, match=said):
        assemble(config, runs)


def test_a_level_must_be_made_with_all_of_its_bands(cascade_config):
    """Of bands side by side a finer stage may be told the sum, if all that make it are named."""
    config = cascade_config("bands")
    finer = copy.deepcopy(config["stages"]["low"])
    finer |= {"representation": level(1), "told": {"all": told(level(1))}}
    config["stages"]["finer"] = finer
    config |= {"order": (*config["order"], "finer"), "output": ("finer",)}
    every = ("low", "band1", "band2", "band3")
    runs = {stage: lively_run(config, stage) for stage in config["order"]}
    with pytest.raises(
        ConfigError, match="to be told 'all' with its bands all, and low, band1 make no band 2: name all"
    ):
        assemble(config | {"sources": {"all": ("low", "band1")}}, runs)
    cascade = assemble(config | {"sources": {"all": every}}, runs)
    made = cascade.make(KEYS, ASKED)
    by_hand = runs["finer"].sample(
        jnp.stack([prng.stream(key, "finer") for key in KEYS]), ASKED | {"all": sum(made[stage] for stage in every)}
    )
    np.testing.assert_allclose(made["finer"], by_hand, atol=1e-5)


def test_a_config_with_a_typing_error_does_not_own_the_folder(cascade_config, tmp_path):
    config = cascade_config("two")
    wrong = copy.deepcopy(config)
    wrong["stages"]["low"]["optimiser"]["name"] = "adamm"
    with pytest.raises(ConfigError, match="adamm"):
        train_cascade(wrong, tmp_path / "cascade")
    assert not (tmp_path / "cascade" / "config.json").exists()
    with pytest.raises(ConfigError, match="of a diffusion and no cascade: train it by experiments/train.py"):
        train_cascade(stage_config(config, "low"), tmp_path / "other")


def test_windows_of_what_cannot_be_cut_are_refused(cascade_config):
    config = cascade_config("two")
    with pytest.raises(
        ConfigError, match="overlap_samples is 3, less than a position of this model: give 0 or at least 4"
    ):
        lively_run(config, "low").sample_long(KEYS, ASKED, seconds=0.5, mode="windowed", overlap_samples=3)
    config["stages"]["fine"] |= {"told": {"low": told(level(0), ("attention",))}, "network": UNET}
    with pytest.raises(
        ConfigError, match="level 'low' is attended to as a whole, and a window would not find its place"
    ):
        lively_run(config, "fine").sample_long(KEYS, ASKED | {"low": SOUND}, seconds=0.5, mode="windowed")


def test_unknown_stages_are_told_when_sampling(lively_cascade):
    cascade = lively_cascade("two")
    with pytest.raises(ConfigError, match="unknown stage in given 'lo'; choose one of low, fine"):
        cascade.sample(KEYS, ASKED, given={"lo": SOUND})
    with pytest.raises(ConfigError, match=r"condition 'low' has the shape \(2, 100\): give audio of 2048 samples"):
        cascade.sample(KEYS, ASKED, given={"low": SOUND[:, :100]})


# --- trained and written


@pytest.fixture(scope="module")
def folder(tmp_path_factory, _configs):
    """Train the two stages of a cascade for two steps each; return its folder."""
    config = copy.deepcopy(_configs["smoke"])
    shared = {key: value for key, value in config.items() if key != "data"}
    shared["sampler"] |= {"steps": 1, "guidance": 1.0}
    stages = {
        stage: copy.deepcopy(shared) | {"representation": representation, "told": levels}
        for stage, (representation, levels) in STAGES["two"].items()
    }
    folder = tmp_path_factory.mktemp("runs") / "cascade"
    train_cascade({"task": "cascade", "data": config["data"], "stages": stages, "order": ("low", "fine")}, folder)
    return folder


def test_a_trained_cascade_loads_samples_and_is_written(folder, tmp_path):
    path = write_cascade_samples(folder, tmp_path / "out", count=3, batch=2, steps={"low": 2}, say=lambda _: None)
    record = json.loads(path.read_text())
    assert [one["file"] for one in record["samples"]] == ["ah_A2_0.wav", "ah_B2_0.wav", "ah_Db3_0.wav"]
    assert list(record["stages"]) == ["low", "fine"] and record["stages"]["fine"]["step"] == 2


def test_a_recording_stands_in_for_a_stage(folder, tmp_path):
    """Bandwidth extension: below the first band's edge the result is the recording, at the cascade's level."""
    narrow = np.sin(2 * np.pi * 300 / 8000 * np.arange(LENGTH)).astype(np.float32)
    write_audio(tmp_path / "narrow.wav", narrow * 0.01, 8000)
    cascade = load_cascade(folder)
    write_cascade_samples(
        folder,
        tmp_path / "wide",
        count=1,
        given={"low": str(tmp_path / "narrow.wav")},
        fixed={"sound": "ah", "pitch": "A2"},
        say=lambda _: None,
    )
    import soundfile

    wide, _ = soundfile.read(tmp_path / "wide" / "ah_A2_0.wav", dtype="float32")
    heard = cascade.runs["fine"].levels["low"]
    low, expected = (
        np.asarray(heard(jnp.asarray(audio)[None]))[0, :, 0] for audio in (wide, narrow * 0.1 * np.sqrt(2))
    )
    assert np.corrcoef(low, expected)[0, 1] > 0.999
    np.testing.assert_allclose(low, expected, atol=0.02 * np.abs(expected).max())
    write_audio(tmp_path / "long.wav", np.ones(LENGTH + 1) * 0.1, 8000)
    with pytest.raises(ConfigError, match=rf"has {LENGTH + 1} samples and the cascade's clips {LENGTH}: cut it"):
        write_cascade_samples(folder, tmp_path, count=1, given={"low": str(tmp_path / "long.wav")}, say=lambda _: None)


def test_a_missing_stage_is_named_with_the_way_to_train_it(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "cascade")
    shutil.rmtree(tmp_path / "cascade" / "fine" / "checkpoints")
    with pytest.raises(
        FileNotFoundError, match="stage 'fine' has no checkpoint .*experiments/cascade.py --stages=fine"
    ):
        load_cascade(tmp_path / "cascade")
    cascade = load_cascade(tmp_path / "cascade", runs={"fine": folder / "fine"})
    assert cascade.runs["fine"].workdir == folder / "fine"


def test_a_cascade_is_loaded_as_what_it_is_and_is_no_single_run(folder):
    assert audiodiff.load(folder).config["order"] == ["low", "fine"]
    with pytest.raises(ConfigError, match="holds a cascade: load it by audiodiff.load, and sample it by experiments/"):
        load_run(folder)


def test_a_folder_of_another_kind_is_refused(workdir):
    with pytest.raises(ConfigError, match="holds a diffusion and no cascade"):
        load_cascade(workdir)
