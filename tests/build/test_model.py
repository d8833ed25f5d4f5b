"""Facts are measured once, saved, and checked; models and judges are what the config and the facts say."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff import dsp
from audiodiff.build.choices import ConfigError
from audiodiff.build.model import (
    FACTS_FILE,
    Facts,
    judge_classes,
    make_judge,
    make_mel,
    make_model,
    make_representation,
    measure_facts,
)
from audiodiff.data import ArraySource, ConditionInfo, Preparation
from audiodiff.dsp.mdct import MdctSpec
from audiodiff.objectives.classification import REJECT
from audiodiff.representations import ComplexStft, GriffinLim, LogMel, Mdct
from audiodiff.types import Context

FACTS = Facts(
    rate_hz=8000,
    channels=1,
    length_samples=2048,
    sigma_data=0.05,
    mean=0.001,
    conditions={"sound": ConditionInfo("label", ("ah", "ee")), "level_dbfs": ConditionInfo("number")},
    manifest_hash="0123456789abcdef",
)


DAMAGED_MEL = json.dumps({**dataclasses.asdict(FACTS), "mel": {"rate_hz": 8000}})


def test_facts_come_back_as_they_were_saved(tmp_path):
    FACTS.save(tmp_path)
    assert Facts.load(tmp_path) == FACTS


@pytest.mark.parametrize("preset", ["librosa", "diffwave"])
def test_the_mel_of_a_judge_comes_back_as_it_was_saved(tmp_path, preset):
    facts = dataclasses.replace(FACTS, mel=make_mel({"name": preset}, FACTS.rate_hz).to_dict())
    facts.save(tmp_path)
    assert Facts.load(tmp_path) == facts


def test_a_trained_judge_has_its_mel_with_it_and_a_model_has_none(judge_workdir, workdir, judge_config):
    facts = Facts.load(judge_workdir)
    assert facts.mel == make_mel(judge_config["mel"], facts.rate_hz).to_dict()
    assert Facts.load(workdir).mel is None


def test_facts_of_before_mels_were_saved_are_read(tmp_path):
    FACTS.save(tmp_path)
    values = json.loads((tmp_path / FACTS_FILE).read_text())
    assert values.pop("mel") is None
    (tmp_path / FACTS_FILE).write_text(json.dumps(values))
    assert Facts.load(tmp_path) == FACTS


def test_lost_and_damaged_facts_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no model.json: no run was started there; train first"):
        Facts.load(tmp_path)
    for damage in ("{", "[]", json.dumps({"rate_hz": 8000}), json.dumps({"conditions": {}, "unknown": 1}), DAMAGED_MEL):
        (tmp_path / FACTS_FILE).write_text(damage)
        with pytest.raises(ConfigError, match=f"{FACTS_FILE} is damaged"):
            Facts.load(tmp_path)


def test_other_data_are_refused_by_their_hash(tmp_path):
    FACTS.check_data("0123456789abcdef", tmp_path)
    with pytest.raises(ConfigError, match="manifest is fedcba and .* was trained on 0123456789abcdef: point data.root"):
        FACTS.check_data("fedcba", tmp_path)


def test_sigma_data_is_of_the_array_that_diffuses():
    """One clip at full length and one at half, brought to one level; pre-emphasis is a difference of neighbours."""
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal(512), 3 * rng.standard_normal(256)]
    levelled = np.zeros((2, 512))
    for row, clip in zip(levelled, clips, strict=True):
        row[: len(clip)] = clip * 0.1 / np.sqrt(np.mean(clip**2))
    filtered = levelled - 0.9 * np.pad(levelled, [(0, 0), (1, 0)])[:, :-1]
    representation = make_representation({"name": "waveform", "preemphasis": 0.9}, channels=1, rate_hz=8000)
    source = ArraySource([clip[:, None] for clip in clips], 8000)
    facts, statistics = measure_facts(source, Preparation(512, -20.0, "start"), representation.encode, "hash")
    assert facts.sigma_data == pytest.approx(filtered.std(), rel=1e-5) == statistics.sigma_data
    assert (facts.rate_hz, facts.channels, facts.length_samples, facts.manifest_hash) == (8000, 1, 512, "hash")


LOG_MEL = {
    "name": "log_mel",
    "mel": {"name": "hifigan", "fft_samples": 128, "hop_samples": 64, "window_samples": 0, "bands": 16},
}
SPECTRAL = {
    "complex_stft": {"name": "complex_stft", "fft_samples": 128, "hop_samples": 64, "exponent": 0.4},
    "mdct": {"name": "mdct", "frame_samples": 128, "window": "kbd", "exponent": 0.6},
    "log_mel": LOG_MEL | {"inverter": {"name": "griffin_lim", "iterations": 2, "momentum": 0.5, "mel_iterations": 3}},
}


def test_a_log_mel_model_has_the_mean_of_its_data_taken_off_and_their_deviation_for_sigma_data():
    rng = np.random.default_rng(0)
    source = ArraySource([scale * rng.standard_normal((1024, 1)) for scale in (1, 3)], 8000)
    measured = make_representation(LOG_MEL, 1, 8000)
    facts, _ = measure_facts(source, Preparation(1024, None, "start"), measured.encode, "hash", mel=measured.mel)
    representation = make_representation(LOG_MEL, 1, 8000, facts)
    x = np.asarray(representation.encode(np.stack([source[index]["audio"][:, 0] for index in range(2)])))
    assert abs(x.mean()) < 1e-5 < 1 < abs(facts.mean)
    assert x.std() == pytest.approx(facts.sigma_data, rel=1e-5)


def test_a_log_mel_model_whose_mel_has_changed_is_refused(monkeypatch):
    facts = dataclasses.replace(FACTS, mel=make_mel(LOG_MEL["mel"], FACTS.rate_hz).to_dict())
    assert make_representation(LOG_MEL, 1, 8000, facts).mean == FACTS.mean
    monkeypatch.setitem(dsp.MEL_PRESETS, "hifigan", dataclasses.replace(dsp.MEL_PRESETS["hifigan"], scale="htk"))
    with pytest.raises(ConfigError, match="mel 'hifigan' has changed since the model was trained: scale is 'htk' and "):
        make_representation(LOG_MEL, 1, 8000, facts)


@pytest.mark.parametrize("name", SPECTRAL)
def test_a_spectral_model_takes_its_options_and_its_network_the_bins(config, name):
    config["representation"], config["conditions"] = SPECTRAL[name], ()
    objective = make_model(config, FACTS).objective
    made = objective.representation
    assert (
        made
        == {
            "complex_stft": ComplexStft(dsp.StftSpec(128, 64), 0.4),
            "mdct": Mdct(MdctSpec(128, "kbd"), 0.6),
            "log_mel": LogMel(made.mel, GriffinLim(made.mel, 2, 0.5, 3), FACTS.mean) if name == "log_mel" else None,
        }[name]
    )
    batch = {"audio": np.zeros((2, 2048), np.float32), "draw": np.zeros(2, np.int32)}
    params = jax.eval_shape(objective.init, jax.random.key(0), batch)
    loss, _ = jax.eval_shape(objective, params, Context(jax.random.key(0), jnp.zeros(())), batch)
    assert loss.shape == (2,)


def test_levels_of_training_are_in_units_of_the_facts(config):
    """The middle level of log_normal with mean ln 2 is twice the data's own scale, whatever it is."""
    config["objective"]["levels"] = {"name": "log_normal", "mean": float(np.log(2.0)), "std": 1.0}
    config["conditions"] = ("sound",)
    for sigma_data in (0.05, 3.0):
        model = make_model(config, dataclasses.replace(FACTS, sigma_data=sigma_data))
        middle = model.objective.levels(jnp.array([0.5]))
        np.testing.assert_allclose(middle.sigma / middle.alpha, 2 * sigma_data, rtol=1e-5)
        assert model.objective.sigma_data == pytest.approx(sigma_data)
        assert model.objective.conditions == ("sound",)


def test_a_judge_has_a_class_more_than_labels(judge_config):
    judge = make_judge(judge_config, FACTS)
    assert judge.heads == (("sound", 3),)
    assert judge_classes(FACTS, "sound") == ("ah", "ee", REJECT)


def test_a_judge_whose_mel_has_changed_is_refused(judge_config, monkeypatch):
    """As an edited preset would: each field that differs is named with both values."""
    own = make_mel(judge_config["mel"], FACTS.rate_hz)
    facts = dataclasses.replace(FACTS, mel=own.to_dict())
    assert make_judge(judge_config, facts).features.mel == own
    name = judge_config["mel"]["name"]
    monkeypatch.setitem(dsp.MEL_PRESETS, name, dataclasses.replace(dsp.MEL_PRESETS[name], scale="htk", norm="none"))
    with pytest.raises(ConfigError, match=f"'{name}' has changed .*: scale is 'htk' and was 'slaney', norm is 'none' "):
        make_judge(judge_config, facts)
    assert make_judge(judge_config, FACTS).features.mel.scale == "htk"  # of before mels were saved


@pytest.mark.parametrize(
    ("facts", "conditions", "said"),
    [
        (FACTS, ("level_dbfs",), "condition 'level_dbfs' is a number, and a judge tells labels apart"),
        (FACTS, ("sond",), "unknown condition 'sond'; choose one of sound, level_dbfs"),
        (dataclasses.replace(FACTS, channels=2), ("sound",), "the data have 2 channels and a judge listens to one"),
    ],
)
def test_what_no_judge_can_hear_is_told(judge_config, facts, conditions, said):
    with pytest.raises(ConfigError, match=said):
        make_judge({**judge_config, "conditions": conditions}, facts)


def test_what_no_model_can_be_is_told(config):
    with pytest.raises(ConfigError, match="unknown condition 'pitch'; choose one of "):
        make_model(config, FACTS)
    config["conditions"] = ()
    config["objective"]["drop_probabilty"] = 0.5
    with pytest.raises(ConfigError, match="objective takes no 'drop_probabilty'; it takes drop_probability, "):
        make_model(config, FACTS)
    with pytest.raises(ConfigError, match="unknown representation 'wavform'; choose one of waveform"):
        make_representation({"name": "wavform"}, channels=1, rate_hz=8000)
    with pytest.raises(ConfigError, match="representation 'complex_stft': window 'hann' of 64 samples leaves gaps"):
        make_representation({"name": "complex_stft", "fft_samples": 64, "hop_samples": 64}, channels=1, rate_hz=8000)
    with pytest.raises(ConfigError, match="representation 'log_mel'.*'mel'"):
        make_representation({"name": "log_mel"}, channels=1, rate_hz=8000)


def test_a_mel_preset_fits_the_rate_it_is_used_at():
    hifigan = make_mel({"name": "hifigan"}, 22_050)
    assert (hifigan.fmax_hz, hifigan.bands, hifigan.stft.hop_samples) == (8000.0, 80, 256)
    narrow = make_mel({"name": "hifigan", "hop_samples": 64, "bands": 20}, 8000)
    assert (narrow.rate_hz, narrow.fmax_hz, narrow.bands) == (8000, 4000.0, 20)
    assert (narrow.stft.hop_samples, narrow.stft.fft_samples) == (64, hifigan.stft.fft_samples)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"name": "hifigan", "hop_samples": 0}, "mel 'hifigan': .*hop_samples is 0"),
        ({"name": "hifigan", "bands": 0}, "mel 'hifigan': .*bands"),
        ({"name": "hifigan", "hop": 64}, "mel 'hifigan' takes no 'hop'; it takes hop_samples, "),
        ({"name": "hifgan"}, "unknown mel preset 'hifgan'; choose one of hifigan, "),
    ],
)
def test_an_impossible_mel_is_told(config, said):
    with pytest.raises(ConfigError, match=said):
        make_mel(config, 22_050)
