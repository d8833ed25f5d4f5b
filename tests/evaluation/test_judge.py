from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff import dsp
from audiodiff.evaluation import judge as module
from audiodiff.evaluation.judge import Judge, Verdicts
from audiodiff.objectives.classification import REJECT, ClassificationObjective, JudgeFeatures

CLASSES = {"digit": ("0", "1", REJECT), "speaker": ("theo", REJECT)}


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Unheard:
    """Pass audio on as it is, where features belong."""

    def __call__(self, audio):
        return audio


@dataclasses.dataclass(frozen=True)
class FirstSamples:
    """A network whose logits are the first samples of a clip, and whose embedding is its mean times a weight."""

    def __call__(self, params, audio):
        return {"digit": audio[:, :3], "speaker": audio[:, 3:5]}, params["weight"] * audio.mean(axis=1, keepdims=True)


def judge(batch_size=2):
    objective = ClassificationObjective(FirstSamples(), Unheard(), (("digit", 3), ("speaker", 2)))
    return Judge(objective, {"network": {"weight": jnp.float32(2.0)}}, CLASSES, 8000, "0123", batch_size)


def clips(count, time=6):
    return np.random.default_rng(0).normal(size=(count, time)).astype(np.float32)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("count", [1, 4, 5])
def test_every_clip_has_its_own_verdict_whatever_the_batches(count):
    """A whole number of batches, one clip too many, and less than one batch."""
    audio = clips(count)
    verdicts = judge()(audio, 8000)
    np.testing.assert_allclose(verdicts.probabilities["digit"], softmax(audio[:, :3]), rtol=1e-5)
    np.testing.assert_allclose(verdicts.probabilities["speaker"], softmax(audio[:, 3:5]), rtol=1e-5)
    np.testing.assert_allclose(verdicts.embedding[:, 0], 2 * audio.mean(axis=1), atol=1e-6)


def test_a_last_batch_that_is_not_full_compiles_nothing():
    judge(4)(clips(8), 8000)
    compiled = module._classify._cache_size()
    judge(4)(clips(5), 8000)
    other = dataclasses.replace(judge(4), params={"network": {"weight": jnp.float32(9.0)}})
    assert other(clips(3), 8000).embedding.shape == (3, 1)
    assert module._classify._cache_size() == compiled


def test_labels_are_the_most_probable_and_any_head_rejects():
    digit = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.1, 0.2, 0.7]])
    speaker = np.array([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1], [0.3, 0.7]])
    verdicts = Verdicts(CLASSES, {"digit": digit, "speaker": speaker}, np.zeros((4, 1)))
    np.testing.assert_array_equal(verdicts.labels("digit"), [0, 1, 2, 2])
    np.testing.assert_array_equal(verdicts.rejected(), [False, True, True, True])


def test_verdicts_do_not_depend_on_the_level_of_the_clip():
    """With the features of a real judge."""
    mel = dataclasses.replace(dsp.MEL_PRESETS["librosa"], rate_hz=8000, fmax_hz=4000.0, bands=8)
    features = JudgeFeatures(mel, -30.0, 15.0)

    def linear(params, x):
        return {"digit": x.mean(axis=1)[:, :3], "speaker": x.mean(axis=1)[:, 3:5]}, x.mean(axis=1)

    heard = dataclasses.replace(judge(), objective=ClassificationObjective(linear, features, ()))
    audio = clips(2, 4096)
    loud, quiet = heard(audio, 8000), heard(audio / 50, 8000)
    np.testing.assert_allclose(loud.embedding, quiet.embedding, atol=1e-3)
    assert np.std(loud.embedding) > 0.01


@pytest.mark.parametrize(
    "audio, rate_hz, message",
    [
        (clips(2), 16000, "the clips have 16000 Hz and the judge listens at 8000 Hz: resample them first"),
        (clips(0), 8000, r"the clips have shape \(0, 6\): give at least one, as \[clip, time\]"),
        (clips(6)[0], 8000, r"the clips have shape \(6,\): give at least one"),
        (clips(2)[:, :0], 8000, r"the clips have shape \(2, 0\): give at least one"),
        (
            np.where(np.arange(6) == 2, np.nan, clips(3)),
            8000,
            "3 of 3 clips hold NaN or infinite samples, the first is",
        ),
        (
            np.where(np.arange(3)[:, None] == 1, np.inf, clips(3)),
            8000,
            "1 of 3 clips hold NaN or infinite samples, the first is clip 1: leave them out",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused(audio, rate_hz, message):
    with pytest.raises(ValueError, match=message):
        judge()(audio, rate_hz)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_judge_that_says_nothing_finite_is_no_judge(bad):
    """Not even where its classes look sound: of NaN the most probable one would be the first."""
    broken = dataclasses.replace(judge(), params={"network": {"weight": jnp.float32(bad)}})
    with pytest.raises(ValueError, match="NaN or infinity of 3 of 3 clips, the first is clip 0: look for damaged"):
        broken(clips(3), 8000)
    loud = clips(5)
    loud[3] = 3e38
    with pytest.raises(ValueError, match="of 1 of 5 clips, the first is clip 3"):
        judge()(loud, 8000)
