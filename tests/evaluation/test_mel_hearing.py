"""A judge that is given log-mels hears what it hears of their sound."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from audiodiff import dsp
from audiodiff.evaluation.judge import Judge
from audiodiff.evaluation.mel_hearing import MelFeatures, flat_mels, hear_mels
from audiodiff.networks.classifier import LogMelClassifier
from audiodiff.networks.functional import Classify
from audiodiff.objectives.classification import ClassificationObjective, JudgeFeatures

SPECS = {
    "db": dataclasses.replace(
        dsp.MEL_PRESETS["librosa"], rate_hz=8000, stft=dsp.StftSpec(512, 128), bands=40, fmax_hz=4000.0, floor=1e-4
    ),
    "ln": dataclasses.replace(
        dsp.MEL_PRESETS["hifigan"], rate_hz=8000, stft=dsp.StftSpec(512, 128), bands=40, fmax_hz=4000.0, power=2
    ),
}


def voiced(level: float, seconds: float) -> np.ndarray:
    """Return a gliding harmonic tone with a little hiss, silent after ``seconds``; [1, 4096] at 8 kHz."""
    time = np.arange(4096) / 8000
    phase = 2 * np.pi * (120 * time + 60 * time**2)
    tone = sum(np.sin(k * phase) / k for k in range(1, 15)) * np.sin(np.pi * np.minimum(time / seconds, 1.0))
    hiss = np.random.default_rng(0).standard_normal(4096) * 0.003
    return (level * (tone + hiss) * (time < seconds))[None].astype(np.float32)


@pytest.mark.parametrize("convention", list(SPECS))
@pytest.mark.parametrize("seconds", [0.5, 0.2])
def test_the_features_of_a_mel_are_those_of_its_sound(convention, seconds):
    """At any level of the sound; what the floor has swallowed at a low one does not come back."""
    spec = SPECS[convention]
    features = JudgeFeatures(spec, 0.0, 1.0)
    wanted = np.asarray(features(voiced(0.1, seconds)))
    for level in (0.07, 0.1, 0.2):
        heard = np.asarray(MelFeatures(features)(flat_mels(voiced(level, seconds), spec)))
        error = np.abs(heard - wanted)
        assert np.median(error) < 0.05 * wanted.std() and np.quantile(error, 0.9) < 0.25 * wanted.std()


def test_standardisation_is_the_judges_own():
    plain, own = JudgeFeatures(SPECS["ln"]), JudgeFeatures(SPECS["ln"], -3.0, 2.0)
    flat = flat_mels(voiced(0.1, 0.4), SPECS["ln"])
    np.testing.assert_allclose(MelFeatures(own)(flat), (MelFeatures(plain)(flat) + 3.0) / 2.0, atol=1e-5)


@pytest.fixture(scope="module")
def judge() -> Judge:
    network = Classify(LogMelClassifier((("digit", 3),), widths=(8,), features=8))
    objective = ClassificationObjective(network, JudgeFeatures(SPECS["ln"], -6.0, 3.0), (("digit", 3),))
    params = objective.init(jax.random.key(0), {"audio": np.zeros((1, 4096), np.float32)})
    return Judge(objective, params, {"digit": ("1", "2", "reject")}, 8000, "")


def test_its_verdicts_are_near_those_of_the_sound(judge):
    audio = np.concatenate([voiced(0.1, 0.5), voiced(0.3, 0.2)])
    of_sound = judge(audio, 8000)
    of_mel = hear_mels(judge, SPECS["ln"])(flat_mels(audio, SPECS["ln"]), 8000)
    apart = np.abs(of_sound.embedding[0] - of_sound.embedding[1]).max()
    assert np.abs(of_mel.embedding - of_sound.embedding).max() < 0.2 * apart


def test_a_mel_of_magnitudes_has_no_level_and_is_refused(judge):
    with pytest.raises(ValueError, match="has power 1, and no level can be read off it"):
        hear_mels(judge, dataclasses.replace(SPECS["ln"], power=1))


def test_a_mel_in_which_the_judge_does_not_hear_is_refused(judge):
    with pytest.raises(ValueError, match=r"does not hear in this mel: .*log is 'db' and not 'ln'"):
        hear_mels(judge, SPECS["db"])
