from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.evaluation import speaker as module
from audiodiff.evaluation.speaker import SpeakerEncoder
from audiodiff.objectives.verification import EMBEDDING, SpeakerObjective, ge2e


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Unheard:
    """Pass audio on as it is, where features belong."""

    def __call__(self, audio):
        return audio


@dataclasses.dataclass(frozen=True)
class FirstSamples:
    """A network whose embedding is the first samples of a clip, plus a bias."""

    def __call__(self, params, audio):
        return {EMBEDDING: audio[:, :3] + params["bias"]}, audio


def encoder(batch_size=2, bias=0.0):
    objective = SpeakerObjective(FirstSamples(), Unheard(), jax.tree_util.Partial(ge2e))
    return SpeakerEncoder(objective, {"network": {"bias": jnp.float32(bias)}}, 8000, "0123", batch_size)


def clips(count):
    return np.random.default_rng(0).normal(size=(count, 6)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 4, 5])
def test_every_clip_has_its_own_direction_whatever_the_batches(count):
    audio = clips(count)
    first = audio[:, :3] / np.linalg.norm(audio[:, :3], axis=1, keepdims=True)
    np.testing.assert_allclose(encoder()(audio, 8000), first, rtol=1e-5)


def test_a_last_batch_that_is_not_full_and_other_weights_compile_nothing():
    encoder(4)(clips(8), 8000)
    compiled = module._embed._cache_size()
    assert np.abs(encoder(4, bias=1.0)(clips(5), 8000) - encoder(4)(clips(5), 8000)).max() > 0.1
    assert module._embed._cache_size() == compiled


@pytest.mark.parametrize(
    ("audio", "rate_hz", "message"),
    [
        (clips(2), 16000, "the clips have 16000 Hz and the speaker encoder listens at 8000 Hz: resample them first"),
        (clips(0), 8000, r"the clips have shape \(0, 6\): give at least one, as \[clip, time\]"),
        (np.full((2, 6), np.nan), 8000, "2 of 2 clips hold NaN or infinite samples, the first is clip 0"),
    ],
)
def test_what_cannot_be_heard_is_refused(audio, rate_hz, message):
    with pytest.raises(ValueError, match=message):
        encoder()(audio, rate_hz)
