"""A trained run speaks for itself from Python: the same key gives the same clip, and what is wrong is said."""

from __future__ import annotations

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import audiodiff
from audiodiff import dsp, prng
from audiodiff.build.choices import ConfigError
from audiodiff.build.data import make_data
from audiodiff.build.process import make_grid
from audiodiff.build.run import check_labels, hash_weights, load, load_judge, load_run
from audiodiff.data import ConditionInfo
from audiodiff.data.embedded import PITCHES, SOUNDS
from audiodiff.diffusion.likelihood import bits_per_dimension, log_likelihood
from audiodiff.representations import Mdct
from audiodiff.training import CheckpointError, WorkdirError

KEY = jax.random.key(7)
ASKED = {"sound": ["pluck", "kick"], "pitch": ["A2", "B3"]}


@pytest.fixture(scope="module")
def clips(lively) -> np.ndarray:
    return lively.sample(KEY, ASKED)


def test_a_run_knows_what_it_was_trained_on(run):
    assert run.step == 2 and run.facts.rate_hz == 8000
    assert run.vocabularies == {"sound": SOUNDS, "pitch": PITCHES}


def test_the_same_key_is_the_same_clip_and_another_key_another(lively, clips):
    assert clips.shape == (2, 2048) and clips.dtype == np.float32 and np.isfinite(clips).all()
    np.testing.assert_array_equal(lively.sample(KEY, ASKED), clips)
    other = lively.sample(jax.random.key(8), ASKED)
    assert np.abs(other - clips).max(axis=1).min() > 1e-3


def test_clips_of_one_key_differ_from_each_other(lively):
    same = lively.sample(KEY, {"sound": ["pluck", "pluck"], "pitch": "A2"})
    assert np.abs(same[0] - same[1]).max() > 1e-3


def test_a_label_is_its_index_and_one_value_is_for_all(lively, clips):
    """By name, by index, as an array, or once for both clips: the same audio."""
    indices = {"sound": np.array([SOUNDS.index("pluck"), SOUNDS.index("kick")]), "pitch": [0, 7]}
    np.testing.assert_array_equal(lively.sample(KEY, indices), clips)
    twice = lively.sample(KEY, {"sound": ["pluck", "pluck"], "pitch": ["A2", "A2"]})
    np.testing.assert_array_equal(lively.sample(KEY, {"sound": ["pluck", "pluck"], "pitch": "A2"}), twice)
    np.testing.assert_array_equal(twice[0], clips[0])
    assert np.abs(twice[1] - clips[1]).max() > 1e-4, "another sound of the same noise"


def test_one_key_a_clip_is_what_one_key_derives(lively, clips):
    keys = prng.per_example(KEY, jnp.arange(2))
    np.testing.assert_array_equal(lively.sample(keys, ASKED), clips)
    np.testing.assert_array_equal(lively.sample(keys, {"sound": "kick", "pitch": "B3"})[1], clips[1])
    swapped = lively.sample(keys[::-1], {name: values[::-1] for name, values in ASKED.items()})
    np.testing.assert_allclose(swapped[::-1], clips, atol=1e-5 * np.abs(clips).max())


def test_the_config_decides_unless_something_else_is_asked(lively, clips):
    np.testing.assert_array_equal(lively.sample(KEY, ASKED, steps=3, sampler="dpmpp_2m", guidance=1.5), clips)
    for change in ({"steps": 2}, {"sampler": "euler"}, {"guidance": 8.0}):
        assert np.abs(lively.sample(KEY, ASKED, **change) - clips).max() > 1e-6, change


def test_options_belong_to_the_sampler_of_the_config(run):
    config = {**run.config, "sampler": {**run.config["sampler"], "name": "ddim", "options": {"eta": 1.0}}}
    own = dataclasses.replace(run, config=config)
    assert own.settings()["options"] == own.settings(sampler="ddim")["options"] == {"eta": 1.0}
    assert own.settings(sampler="heun", steps=5) | {"grid": 0} == {
        **config["sampler"],
        "name": "heun",
        "options": {},
        "steps": 5,
        "grid": 0,
    }


def test_another_length_may_be_asked(run):
    assert run.sample(KEY, {"sound": "ah", "pitch": "A2"}, length_samples=1000).shape == (1, 1000)


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({"sound": "pluk", "pitch": "A2"}, "unknown value of condition 'sound' 'pluk'; choose one of pluck, "),
        ({"sound": 12, "pitch": "A2"}, "condition 'sound' is 12: its labels have the indices 0 to 11"),
        ({"sound": -1, "pitch": "A2"}, "condition 'sound' is -1: its labels have the indices 0 to 11"),
        ({"sound": "pluck"}, "condition 'pitch' is missing; this model takes sound, pitch"),
        ({"sound": "pluck", "picth": "A2"}, "unknown condition 'picth'; choose one of pitch, sound"),
        ({"sound": ["pluck"] * 3, "pitch": ["A2"] * 2}, "condition 'pitch' has 2 values for 3 clips: give 1 or 3"),
    ],
)
def test_wrong_conditions_are_told(run, conditions, said):
    with pytest.raises(ConfigError, match=said):
        run.sample(KEY, conditions)


def test_wrong_settings_are_told(run):
    with pytest.raises(ConfigError, match="unknown sampler 'hein'; choose one of heun, "):
        run.sample(KEY, ASKED, sampler="hein")
    with pytest.raises(ConfigError, match="steps is 0 but a sampler needs at least 1"):
        run.sample(KEY, ASKED, steps=0)
    with pytest.raises(ConfigError, match="length_samples is 0: give at least 1"):
        run.sample(KEY, ASKED, length_samples=0)
    with pytest.raises(ConfigError, match="condition 'sound' has 2 values for 3 clips"):
        run.sample(jax.random.split(KEY, 3), ASKED)


def test_guidance_needs_an_unconditional_estimate(run):
    objective = dataclasses.replace(run.model.objective, drop_probability=0.0)
    certain = dataclasses.replace(run, model=dataclasses.replace(run.model, objective=objective))
    with pytest.raises(ConfigError, match="guidance is 1.5, and this model was trained with drop_probability 0"):
        certain.sample(KEY, ASKED)


def test_numbers_are_conditions_too(run):
    facts = dataclasses.replace(run.facts, conditions={"level_dbfs": ConditionInfo("number")})
    objective = dataclasses.replace(run.model.objective, conditions=("level_dbfs",))
    model = dataclasses.replace(run.model, facts=facts, objective=objective)
    loud = dataclasses.replace(run, model=model)
    values = loud.encode_conditions({"level_dbfs": ["-20", -30.5]})["level_dbfs"]
    np.testing.assert_allclose(values, [-20, -30.5])
    assert loud.vocabularies == {} and loud.conditions == ("level_dbfs",)
    with pytest.raises(ConfigError, match="condition 'level_dbfs' is 'loud': give a number"):
        loud.encode_conditions({"level_dbfs": "loud"})


def test_names_come_in_the_order_of_the_data_set(run):
    objective = dataclasses.replace(run.model.objective, conditions=("pitch", "sound"))
    turned = dataclasses.replace(run, model=dataclasses.replace(run.model, objective=objective))
    assert list(turned.vocabularies) == ["sound", "pitch"]


def test_averaged_weights_are_loaded_unless_others_are_asked(workdir, run):
    assert audiodiff.load(workdir).weights_hash == run.weights_hash == load(workdir, ema="short").weights_hash
    assert load(workdir, ema=None).weights_hash != run.weights_hash
    # A stored length is the stored average; another is made of the snapshots.
    assert load(workdir, ema=0.1).weights_hash == load(workdir, ema="power").weights_hash
    assert load(workdir, ema=0.2).weights_hash != load(workdir, ema=0.1).weights_hash


def test_what_cannot_be_loaded_is_told(workdir, judge_workdir, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no config.json: it is not the folder of a run"):
        load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint of step 1: the newest is of step 2"):
        load(workdir, step=1)
    with pytest.raises(CheckpointError, match="holds no moving average 'long': it holds power, short"):
        load(workdir, ema="long")
    with pytest.raises(ConfigError, match="holds a judge, which generates nothing"):
        load_run(judge_workdir)
    with pytest.raises(ConfigError, match="holds a model, which judges nothing"):
        load_judge(workdir)
    begun = tmp_path / "begun"
    shutil.copytree(workdir, begun, ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(FileNotFoundError, match="holds no checkpoint: train there first"):
        load(begun)
    (begun / "config.json").write_text("{")
    with pytest.raises(WorkdirError, match="config.json is damaged"):
        load(begun)


def test_a_judge_names_its_classes(judge_workdir):
    judge = load_judge(judge_workdir)
    assert judge.classes == {"sound": (*SOUNDS, "reject")} and judge.rate_hz == 8000
    assert load_judge(judge_workdir).weights_hash == judge.weights_hash


def test_the_hash_is_of_the_weights_and_their_places():
    one = {"a": {"kernel": np.zeros(3, np.float32)}, "b": np.ones(2, np.float32)}
    same = {"b": jnp.ones(2), "a": {"kernel": jnp.zeros(3)}}
    assert hash_weights(one) == hash_weights(same) and len(hash_weights(one)) == 16
    assert hash_weights({**one, "b": np.array([1, 1 + 1e-7], np.float32)}) != hash_weights(one)
    assert hash_weights({"a": one["a"], "c": one["b"]}) != hash_weights(one)


def test_what_is_kept_comes_back_untouched_and_the_rest_goes_with_it(lively, clips):
    keep = np.ones(2048, bool)
    keep[600:1400] = False
    known = 0.01 * clips + 0.003 * np.random.default_rng(0).normal(size=clips.shape).astype(np.float32)
    made = lively.sample(KEY, ASKED, known=(known, keep))
    np.testing.assert_array_equal(made[:, keep], known[:, keep])
    assert np.abs(made - known)[:, ~keep].max(axis=1).min() > 1e-4, "the hole is filled anew"
    # Another surrounding, another filling: of the same key it can differ by what is kept alone.
    other = lively.sample(KEY, ASKED, known=(known[:, ::-1], keep))
    assert np.abs(other - made)[:, ~keep].max(axis=1).min() > 1e-5
    louder = lively.sample(KEY, ASKED, known=(4 * known, keep))
    np.testing.assert_allclose(louder, 4 * made, rtol=2e-3, atol=1e-4)


def test_a_prompt_is_continued(lively):
    prompt = np.random.default_rng(0).normal(size=(1, 500)).astype(np.float32) * 0.02
    made = lively.continue_audio(KEY, prompt, ASKED, length_samples=900)
    assert made.shape == (2, 900) and np.isfinite(made).all()
    np.testing.assert_array_equal(made[:, :500], np.repeat(prompt, 2, axis=0))
    assert np.abs(made[0, 500:] - made[1, 500:]).max() > 1e-4


def test_known_audio_is_for_models_of_waveforms(run):
    objective = dataclasses.replace(run.model.objective, representation=Mdct(dsp.MdctSpec(64)))
    spectral = dataclasses.replace(run, model=dataclasses.replace(run.model, objective=objective))
    with pytest.raises(ConfigError, match="sample by sample, and this model is of spectra"):
        spectral.sample(KEY, ASKED, known=(np.zeros((1, 2048)), np.ones(2048, bool)))


def test_known_audio_that_cannot_be_is_a_clear_error(lively):
    keep = np.arange(2048) < 10
    with pytest.raises(ConfigError, match=r"known audio has shape \(2, 100\).*give \(2, 2048\) and \(2048,\)"):
        lively.sample(KEY, ASKED, known=(np.zeros((2, 100)), keep))
    with pytest.raises(ConfigError, match="holds NaN"):
        lively.sample(KEY, ASKED, known=(np.full((2, 2048), np.nan), keep))
    with pytest.raises(ConfigError, match="the prompt has 2048 samples and the result 2048: shorten it"):
        lively.continue_audio(KEY, np.zeros((1, 2048)), ASKED)


def test_the_bits_per_dimension_of_a_trained_model_are_finite(run):
    """Of 64 samples from the middle of a held-out clip, as steps of 16 bit."""
    sets, objective, settings = make_data(run.config["data"]), run.model.objective, run.settings()
    clip = sets.split("test")[0]["audio"]
    audio = sets.preparation(clip, np.random.default_rng(0)).audio[None, 512:576, 0]
    assert audio.std() > 0.01
    bits = bits_per_dimension(
        log_likelihood(
            objective.denoiser(run.params),
            objective.representation.encode(jnp.asarray(audio)),
            make_grid(settings["grid"], run.model.process, run.facts.sigma_data, 8),
            objective.network.encode(run.params["network"], run.encode_conditions({"sound": "ah", "pitch": "A2"})),
            KEY,
            sigma_data=run.facts.sigma_data,
        ),
        dimensions=64,
        bin_width=2.0**-15,
    )
    assert bits.shape == (1,) and np.isfinite(bits).all()


# --- led by a judge


@pytest.fixture(scope="module")
def judge(judge_workdir):
    return load_judge(judge_workdir)


def test_a_guide_hears_its_labels_the_more_the_harder_it_leads(lively, judge):
    """By its own ear, whatever model and judge are; in steps that are short enough to follow it."""
    labels = [SOUNDS.index(sound) for sound in ASKED["sound"]]

    def heard(scale):
        clips = lively.sample(KEY, ASKED, steps=20, guide=judge, guide_scale=scale)
        return np.log(judge(clips, 8000).probabilities["sound"][[0, 1], labels])

    rising = np.stack([heard(scale) for scale in (0.0, 10.0, 30.0)])
    assert np.diff(rising, axis=0).min() > 0.01, rising


def test_a_guide_may_be_told_what_the_model_cannot(run, judge, monkeypatch):
    objective = dataclasses.replace(run.model.objective, conditions=("pitch",))
    deaf = dataclasses.replace(run, model=dataclasses.replace(run.model, objective=objective))
    seen = {}

    def generate(objective, params, keys, conditions, *arguments, **options):
        seen.update(options, conditions=conditions)
        return np.zeros((len(keys), 2048))

    monkeypatch.setattr("audiodiff.build.run.generate", generate)
    assert deaf.sample(KEY, ASKED, guide=judge, guide_scale=2.5).shape == (2, 2048)
    assert list(seen["conditions"]) == ["pitch"] and list(seen["guide"].labels) == ["sound"]
    assert [SOUNDS[label] for label in seen["guide"].labels["sound"]] == ASKED["sound"]
    assert seen["guide"].scale == 2.5
    with pytest.raises(ConfigError, match="unknown condition 'sound'; choose one of pitch"):
        deaf.sample(KEY, ASKED)
    with pytest.raises(ConfigError, match="the guide hears sound, and the conditions name none of these"):
        deaf.sample(KEY, {"pitch": "A2"}, guide=judge)
    with pytest.raises(ConfigError, match="unknown value of condition 'sound' 'reject'"):
        deaf.sample(KEY, {"pitch": "A2", "sound": "reject"}, guide=judge)


def test_a_judge_of_other_labels_or_rate_is_refused(run, judge):
    check_labels(run, judge)
    turned = dataclasses.replace(judge, classes={"sound": (*SOUNDS[::-1], "reject")})
    with pytest.raises(ConfigError, match="the labels of 'sound' are ah, .* in the run and fall, .* in the judge"):
        check_labels(run, turned)
    with pytest.raises(ConfigError, match="the run is at 8000 Hz and the judge at 16000 Hz"):
        run.sample(KEY, ASKED, guide=dataclasses.replace(judge, rate_hz=16_000))


@pytest.mark.parametrize("mode", ["chunks", "windowed", "together"])
def test_long_audio_has_any_length_and_a_clip_does_not_hear_its_batch(lively, mode):
    """Ledger row 98: float32, as many samples as the seconds ask, and in chunks whatever is to follow."""
    made = lively.sample_long(KEY, ASKED, seconds=0.5004, mode=mode)
    assert made.shape == (2, 4003)
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    keys, turned = prng.per_example(KEY, jnp.arange(2))[::-1], {name: values[::-1] for name, values in ASKED.items()}
    np.testing.assert_allclose(lively.sample_long(keys, turned, seconds=0.5004, mode=mode), made[::-1], atol=2e-5)
    if mode == "chunks":
        np.testing.assert_array_equal(lively.sample_long(KEY, ASKED, seconds=0.9)[:, :4003], made)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seconds": 0.2}, r"0.2 s are 1600 samples, and a window has 2048: ask for at least 0.256 s"),
        ({"seconds": 1, "overlap_samples": 2048}, "overlap_samples is 2048 and the model was trained at 2048: give 0"),
        ({"seconds": 1, "overlap_samples": -1}, "overlap_samples is -1"),
        ({"seconds": 1, "mode": "chunk"}, "unknown mode 'chunk'; choose one of chunks"),
        (
            {"seconds": 1, "sampler": "adaptive"},
            "chunks share the grid of their levels, and the adaptive sampler has none",
        ),
    ],
)
def test_long_audio_that_cannot_be_is_refused(run, options, said):
    with pytest.raises(ConfigError, match=said):
        run.sample_long(KEY, ASKED, **options)


def test_spectra_are_made_long_by_windows_alone(run):
    objective = dataclasses.replace(run.model.objective, representation=Mdct(dsp.MdctSpec(64)))
    spectral = dataclasses.replace(run, model=dataclasses.replace(run.model, objective=objective))
    with pytest.raises(ConfigError, match="chunks are cut sample by sample.*take the mode windowed"):
        spectral.sample_long(KEY, ASKED, seconds=1)
