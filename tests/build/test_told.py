"""Stages are told coarser levels as their config says, what cannot be is told in one sentence, and two make a sound."""

from __future__ import annotations

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.build.choices import ConfigError
from audiodiff.build.experiment import run_experiment
from audiodiff.build.model import Facts, make_model, make_representation
from audiodiff.build.run import load_run
from audiodiff.build.samples import write_samples
from audiodiff.build.told import add_level, check_told, make_told, told_names, told_noise, told_sections, told_specs
from audiodiff.data import ConditionInfo
from audiodiff.hierarchy.levels import PooledMel, PyramidLevel
from audiodiff.hierarchy.pyramid import Pyramid
from audiodiff.hierarchy.told import AddLevel, Raise
from audiodiff.representations import Waveform

KEY = jax.random.key(7)
ASKED = {"sound": ["pluck", "kick"], "pitch": ["A2", "B3"]}
PYRAMID = {"name": "pyramid", "factors": (2, 2), "frame_samples": 64}
MEL = {"name": "pooled_mel", "mel": {"name": "librosa", "fft_samples": 128, "hop_samples": 32, "window_samples": 128}}
MEL["mel"] |= {"bands": 8}


def level(number, **options):
    return {**PYRAMID, "level": number, **options}


def sections(**told):
    return {"told": told, "conditions": ()}


def representation(config, channels=1):
    return make_representation(config, channels, 8000)


def levels(config):
    return make_told(config, 1, 8000, make_representation)


def refuse(told, x, said, others=()):
    config = sections(**told)
    with pytest.raises(ConfigError, match=said):
        check_told(levels(config), config, representation(x), others)


# --- sections


def test_a_section_is_completed_and_a_config_without_is_told_nothing():
    assert told_sections({}) == told_sections(sections()) == {}
    given = {"representation": level(0), "by": ["attention", "concat"], "noise": 0.5}  # a list, from JSON
    assert told_sections(sections(coarse=given))["coarse"] == {
        "representation": level(0),
        "by": ("attention", "concat"),
        "patch": 16,
        "noise": 0.5,
        "noise_at_sampling": 0.0,
    }
    assert told_names({}) == () and told_noise({}, {}) == ()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"nose": 1.0}, "told.coarse takes no 'nose'; it takes noise, "),
        ({"by": ("concatenate",)}, "unknown way in told.coarse.by 'concatenate'; choose one of concat, "),
        ({"by": ()}, r"told.coarse.by is \(\): give one of concat, attention, frames, global, or both of concat and"),
        ({"by": ("concat", "frames")}, r"told.coarse.by is \('concat', 'frames'\): give one of"),
        ({"by": ("global", "attention")}, r"told.coarse.by is \('global', 'attention'\): give one of"),
        ({"by": ("concat", "concat")}, r"told.coarse.by is \('concat', 'concat'\): give one of"),
        ({"by": ("concat", "attention", "concat")}, r"told.coarse.by is .*: give one of"),
        ({"representation": None}, "told.coarse says not what is told: give its representation"),
        ({"noise": 0.2, "noise_at_sampling": 0.3}, "noise_at_sampling is 0.3, and the model knows noise from 0 to "),
        ({"noise_at_sampling": 0.1}, "told.coarse.noise = 0: stay within, or train with more"),
        ({"noise": -1.0}, "and the model knows noise from 0 to told.coarse.noise = -1"),
    ],
)
def test_a_section_that_cannot_be_is_refused(section, said):
    given = {key: value for key, value in ({"representation": level(0)} | section).items() if value is not None}
    with pytest.raises(ConfigError, match=said):
        told_sections(sections(coarse=given))


# --- what stands beside x


@pytest.mark.parametrize(
    ("told", "x", "said"),
    [
        (level(0, frame_samples=128), level(1), r"is of Pyramid\(.*128.*\) and the model of Pyramid\(.*64"),
        (level(0, preemphasis=0.5), level(1), r"is of Waveform\(preemphasis=0.5.* give both the same wavefo"),
        (level(2), level(1), "told.coarse has the rate of level 2 and the model that of level 1, which is coarser"),
        (level(2), level(2, bands=(1,)), "told.coarse has the rate of level 2 and the model that of level 1"),
        (MEL, level(1), "told.coarse would stand PooledMel beside PyramidLevel: only levels of one pyramid do, choose"),
        (level(0), {"name": "waveform"}, "told.coarse would stand PyramidLevel beside Waveform: only le"),
        ({"name": "waveform"}, level(1), "told.coarse is a Waveform: tell a stage of a pyramid or a pooled_mel"),
    ],
)
def test_a_level_that_cannot_stand_beside_x_is_refused(told, x, said):
    for by in (("concat",), ("concat", "attention")):
        refuse({"coarse": {"representation": told, "by": by}}, x, said)


@pytest.mark.parametrize("told", [MEL, {**MEL, "pool_frames": 4}, level(0)])
def test_a_vector_of_many_positions_is_refused(told):
    refuse({"coarse": {"representation": told, "by": ("global",)}}, level(1), "told.coarse.by is global, one vector")


def test_a_level_by_the_name_of_another_condition_is_refused():
    told = {"sound": {"representation": level(0)}}
    refuse(told, level(1), "told would make a condition 'sound', and there is one already", ("sound", "pitch"))
    twice = {"a": {"representation": level(0), "noise": 1.0}, "a_noise": {"representation": level(0)}}
    refuse(twice, level(1), "told would make a condition 'a_noise', and there is one already")


@pytest.mark.parametrize(
    ("told", "by", "x"),
    [
        (level(0), ("concat",), level(0)),
        (level(0), ("concat", "attention"), level(2, bands=(1,))),
        (level(1), ("concat",), level(2, bands=(1,))),
        (MEL, ("frames",), level(2)),
        (MEL, ("attention",), {"name": "waveform"}),
        ({**MEL, "pool_frames": 0}, ("global",), {"name": "mdct", "frame_samples": 64}),
    ],
)
def test_what_can_be_is_described_to_the_network(told, by, x):
    config = sections(coarse={"representation": told, "by": by, "noise": 0.5, "patch": 4})
    made, model = levels(config), representation(x)
    check_told(made, config, model, ("sound",))
    spec, strength = told_specs(made, config, model, {"coarse": {"mean": 0.25, "std": 2.0}})
    assert (spec.name, spec.mean, spec.std) == ("coarse", 0.25, 2.0)
    assert (strength.name, strength.kind) == ("coarse_noise", "number")
    assert spec.kind == {"frames": "frames", "global": "vector"}.get(by[0], "signal")
    assert spec.size == made["coarse"].shape(1, 500)[-1]
    if spec.kind == "signal":
        assert spec.routes == by and spec.patch == 4
    if "concat" in by:
        raised = jax.eval_shape(spec.raised, jnp.zeros(made["coarse"].shape(2, 501)))
        assert raised.shape[:2] == model.shape(2, 501)[:2]
        assert isinstance(spec.raised, Raise) and hash(spec) == hash(dataclasses.replace(spec))
    assert told_names(config) == ("coarse", "coarse_noise")
    (noise,) = told_noise(config, {"coarse": {"mean": 0.25, "std": 2.0}})
    assert (noise.name, noise.mean, noise.std, noise.largest) == ("coarse", 0.25, 2.0, 0.5)


@pytest.mark.parametrize(
    ("x", "told", "added"),
    [
        (level(2, bands=(1,)), level(1), True),
        (level(2, bands=(1,)), level(0), False),
        (level(2, bands=(0,)), level(1), False),
        (level(2), level(1), False),
        (level(2, bands=(1,), preemphasis=0.5), level(1, preemphasis=0.5), True),
        ({"name": "waveform"}, level(1), False),
    ],
)
def test_the_level_below_is_added_to_its_details_and_to_nothing_else(x, told, added):
    config = sections(coarse={"representation": told, "by": ("attention",)})
    made = levels(config)
    finish = add_level(made, representation(x))
    assert finish == (AddLevel("coarse", made["coarse"]) if added else None)


def test_representations_of_levels_are_what_their_sections_say():
    one = representation(level(2, bands=[1], window="kbd", preemphasis=0.5), channels=2)
    assert one == PyramidLevel(Pyramid((2, 2), 64, "kbd"), 2, (1,), Waveform(preemphasis=0.5, channels=2))
    mel = representation({**MEL, "pool_frames": 3})
    assert isinstance(mel, PooledMel) and mel.pool_frames == 3 and mel.mel.bands == 8
    with pytest.raises(ConfigError, match="the data have 2 channels and a pooled log-mel is of one"):
        representation(MEL, channels=2)
    for wrong, said in (
        (level(3), "level 3 is not one of 0 to 2"),
        (level(1, factors=(3,)), "the levels are 3 times apart in all, and a frame has 64"),
        (level(1, bnads=(1,)), "takes no 'bnads'; it takes bands"),
    ):
        with pytest.raises(ConfigError, match=said):
            representation(wrong)


def test_the_model_has_its_levels_and_takes_their_conditions_last(config):
    facts = Facts(8000, 1, 501, 0.1, 0.0, {"sound": ConditionInfo("label", ("a", "b"))}, "0" * 16)
    config["conditions"], config["representation"] = ("sound",), level(2, bands=(1,))
    config["told"] = {"coarse": {"representation": level(1), "noise": 0.5}}
    objective = make_model(config, facts).objective
    assert objective.conditions == ("sound", "coarse", "coarse_noise")
    assert objective.kept == ("coarse", "coarse_noise")
    assert objective.finish == AddLevel("coarse", dict(objective.derived)["coarse"])
    with pytest.raises(ConfigError, match="a condition 'sound', and there is one already"):
        make_model(config | {"told": {"sound": {"representation": level(1)}}}, facts)
    with pytest.raises(ConfigError, match="'dilated_stack' does not hear 'coarse' by attention: use unet1d, or tell"):
        make_model(config | {"told": {"coarse": {"representation": level(1), "by": ("attention",)}}}, facts)


# --- a stage


LENGTH = 2001
"""Odd, and no multiple of a frame."""


@pytest.fixture(scope="module")
def stage_config(_configs):
    """Return the config of a stage of details, told the level below under noise, and a level of features."""
    config = copy.deepcopy(_configs["smoke"])
    config["data"]["length_samples"] = LENGTH
    config["training"] |= {"watch_clips": 2, "snapshot_every": 0}
    config["network"].pop("remat")
    config["representation"] = level(2, bands=(1,), preemphasis=0.5)
    config["told"] = {
        "coarse": {"representation": level(1, preemphasis=0.5), "noise": 0.5, "noise_at_sampling": 0.1},
        "voice": {"representation": {**MEL, "pool_frames": 0}, "by": ("global",)},
    }
    return config


@pytest.fixture(scope="module")
def stage(stage_config, tmp_path_factory):
    """Return a stage that was trained for two steps, evaluated, listened to, and loaded; its weights moved about."""
    folder = tmp_path_factory.mktemp("runs") / "stage"
    run_experiment(stage_config, folder)
    run = load_run(folder)
    leaves, tree = jax.tree.flatten(run.params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    moved = [leaf + 0.2 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return dataclasses.replace(run, params=jax.tree.unflatten(tree, moved))


def audio(count, length=LENGTH):
    return np.random.default_rng(0).normal(scale=0.1, size=(count, length)).astype(np.float32)


@pytest.fixture(scope="module")
def given(stage):
    """Return the arrays that the stage is told of two clips."""
    return {name: jax.jit(told)(audio(2)) for name, told in stage.levels.items()}


def test_a_stage_says_what_it_is_told_and_has_measured_it(stage):
    assert stage.conditions == ("sound", "pitch")
    assert list(stage.levels) == ["coarse", "voice"]
    assert set(stage.facts.told) == {"coarse", "voice"}
    assert stage.facts.told["coarse"]["std"] > 0 and stage.facts.told["voice"]["mean"] != 0


def test_what_a_stage_makes_has_the_level_that_it_was_told(stage):
    """Whatever the weights: details are orthogonal to the level. Of whole frames, so that no crop takes any of it."""
    clips = audio(2, length=2016)
    given = {name: jax.jit(told)(clips) for name, told in stage.levels.items()}
    made = stage.sample(KEY, ASKED | given, length_samples=2016)
    coarse = jax.jit(stage.levels["coarse"].level.decode, static_argnums=2)(given["coarse"], None, 2016)
    told = jax.jit(stage.levels["coarse"])(made)
    np.testing.assert_allclose(told, given["coarse"], atol=1e-5 * np.abs(given["coarse"]).max())
    assert np.abs(made - coarse).max() > 0.01, "and there are details"


def test_a_level_is_given_as_audio_or_as_its_array_alike(stage, given):
    both = stage.sample(KEY, ASKED | given)
    by_audio = stage.sample(KEY, ASKED | dict.fromkeys(given, audio(2)))
    np.testing.assert_allclose(by_audio, both, atol=1e-4 * np.abs(both).max())
    one = stage.encode_conditions({"sound": ASKED["sound"], "pitch": "A2"} | dict.fromkeys(given, audio(2)[0]))
    assert {len(value) for value in one.values()} == {2}, "one clip is for as many as the others ask"
    alone = stage.encode_conditions({"sound": "kick", "pitch": "A2"} | dict.fromkeys(given, audio(2)[0]))
    assert {len(value) for value in alone.values()} == {1}
    np.testing.assert_allclose(one["coarse"][1], alone["coarse"][0])


def test_swapping_the_coarse_level_or_the_noise_it_is_told_changes_the_details(stage, given):
    first = stage.sample(KEY, ASKED | given, decoded=False)
    assert first.shape == stage.model.objective.representation.shape(2, LENGTH)
    for change in (
        {"coarse": given["coarse"][::-1]},
        {"voice": given["voice"] + 3},
        {"coarse_noise": 0.4},
    ):
        other = stage.sample(KEY, ASKED | given | change, decoded=False)
        assert np.abs(other - first).reshape(2, -1).max(axis=1).min() > 1e-4 * np.abs(first).max(), set(change)
    as_the_config_says = stage.sample(KEY, ASKED | given | {"coarse_noise": 0.1}, decoded=False)
    np.testing.assert_array_equal(as_the_config_says, first)


def test_what_is_told_wrongly_is_refused(stage, given):
    def sample(**changes):
        asked = {name: value for name, value in (ASKED | given | changes).items() if value is not None}
        stage.sample(KEY, asked)

    shape = given["coarse"].shape[1:]
    for changes, said in (
        ({"coarse": None}, f"condition 'coarse' is missing: this stage is told a level .* audio of {LENGTH} samples"),
        (
            {"coarse": given["coarse"][:, 1:]},
            rf"'coarse' has the shape \(2, {shape[0] - 1}, 1\): give audio of {LENGTH}",
        ),
        ({"coarse": audio(2)[:, :-1]}, r"'coarse' has the shape \(2, 2000\): give audio of 2001 samples, or the array"),
        ({"coarse": "loud.wav"}, "condition 'coarse' is 'loud.wav': give audio of 2001 samples"),
        ({"coarse": audio(3)}, "condition 'pitch' has 2 values for 3 clips|condition 'sound' has 2 values for 3 clips"),
        ({"sound": None}, "condition 'sound' is missing"),
        ({"sound": None, "pitch": None}, "condition 'sound' is missing"),
        ({"coarse_noise": "some"}, "condition 'coarse_noise' is 'some': give a number"),
        ({"corse": audio(2)}, "unknown condition 'corse'; choose one of "),
    ):
        with pytest.raises(ConfigError, match=said):
            sample(**changes)


def test_a_level_lies_along_the_clip_and_no_chunk_hears_it(stage):
    """Of a stage at the rate of the clip; of any other the chunks are refused before."""
    objective = stage.model.objective
    whole = dataclasses.replace(objective, representation=Waveform())
    run = dataclasses.replace(stage, model=dataclasses.replace(stage.model, objective=whole))
    with pytest.raises(ConfigError, match="condition 'coarse' lies along the clip, which no chunk hears: take win"):
        run.sample_long(KEY, ASKED, seconds=1.0)


def test_files_of_a_stage_alone_are_refused_for_what_it_is_not_told(stage, tmp_path):
    for fixed in ({}, {"coarse": "clip.wav", "voice": "clip.wav"}):
        with pytest.raises(ConfigError, match="condition 'coarse' is "):
            write_samples(stage, tmp_path, count=1, fixed=fixed)
    assert not list(tmp_path.iterdir())


def test_two_stages_make_a_sound_that_has_the_coarse_one_in_it(stage):
    """The coarse stage, of the same pyramid, is sampled and told to the fine one as audio."""
    config = {**stage.config, "representation": level(1, preemphasis=0.5), "told": {}}
    model = make_model(config, stage.facts)
    batch = {"audio": audio(2), "sound": np.zeros(2, int), "pitch": np.zeros(2, int)}
    params = jax.jit(model.objective.init)(KEY, batch)
    coarse = dataclasses.replace(stage, config=config, model=model, params=params).sample(KEY, ASKED)
    assert coarse.shape == (2, LENGTH) and coarse.std() > 0.01
    fine = stage.sample(KEY, ASKED | {"coarse": coarse, "voice": coarse})
    tell = jax.jit(stage.levels["coarse"])
    # The crop of an odd clip takes off some of the last frame, which goes on in the first.
    inner = slice(32, 960)
    np.testing.assert_allclose(tell(fine)[:, inner], tell(coarse)[:, inner], atol=1e-5 * np.abs(coarse).max())
    assert np.abs(fine - coarse).max() > 0.01


def test_a_stage_of_features_is_sampled_as_it_is_and_cannot_be_listened_to(stage_config, tmp_path):
    """All that it is told is kept, and so it needs no null, and nothing is guided."""
    config = {**stage_config, "representation": {**MEL, "pool_frames": 4}, "conditions": ()}
    config["told"] = {"voice": stage_config["told"]["voice"]}
    config["objective"] = {**config["objective"], "drop_probability": 0.0}
    with pytest.raises(ConfigError, match="training.watch_clips is 2, and pooled log-mels have no way back to audio"):
        run_experiment(config, tmp_path / "mel")
    assert config["sampler"]["guidance"] != 1
    config["training"] = {**config["training"], "watch_clips": 0, "total_steps": 1, "held_out_clips": 0}
    run_experiment(config, tmp_path / "mel")
    run = load_run(tmp_path / "mel")
    asked = run.encode_conditions({"voice": audio(2)})
    assert not run.program(KEY, asked, run.settings())[1]["guided"]
    x = run.sample(KEY, {"voice": audio(2)}, decoded=False)
    assert x.shape == (2, 16, 8) and np.isfinite(x).all()
    assert abs(run.model.objective.representation.mean - run.facts.mean) == 0 != run.facts.mean


def test_a_loss_of_the_audio_is_for_models_of_all_of_it(config):
    facts = Facts(8000, 1, 512, 0.1, 0.0, {}, "")
    loss = config["objective"] | {"audio_loss": {"weight": 0.1, "fft_samples": (64,)}}
    own = config | {"conditions": (), "objective": loss}
    assert make_model(own | {"representation": level(2)}, facts).objective.audio_loss is not None
    for part in (level(1), level(2, bands=(1,))):
        with pytest.raises(
            ConfigError, match=r"audio_loss compares with the whole clip, and this stage makes level \d of 2"
        ):
            make_model(own | {"representation": part}, facts)


def test_a_stage_of_pooled_mels_is_held_to_the_mel_that_it_was_measured_in():
    made = representation(MEL)
    facts = Facts(8000, 1, 512, 1.0, -7.0, {}, "", mel=made.mel.to_dict())
    assert make_representation(MEL, 1, 8000, facts).mean == -7.0
    changed = {**MEL, "mel": MEL["mel"] | {"bands": 6}}
    with pytest.raises(ConfigError, match="has changed since the model was trained: bands is 6 and was 8"):
        make_representation(changed, 1, 8000, facts)
