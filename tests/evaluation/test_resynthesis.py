from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.evaluation.resynthesis import BATCH, resynthesis
from audiodiff.representations import Waveform

CLIPS = np.random.default_rng(0).uniform(-1, 1, (BATCH + 3, 40)).astype(np.float32)


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["steps"])
@dataclass(frozen=True)
class Rounded:
    """Keep audio to whole steps: what is lost is known, and a second time nothing more."""

    steps: int

    def encode(self, audio, key=None):
        return jnp.round(audio * self.steps)

    def decode(self, x, key, length_samples):
        return x / self.steps


@pytest.mark.parametrize("channels", [1, 2])
def test_nothing_is_resynthesised_where_nothing_is_lost(channels):
    assert resynthesis(Waveform(0.9, channels=channels), channels, CLIPS) is None


@pytest.mark.parametrize("channels", [1, 2])
def test_every_clip_goes_through_once(channels):
    through = resynthesis(Rounded(8), channels, CLIPS[:5])
    once = through(CLIPS)
    assert 0.9 / 16 < np.abs(once - CLIPS).max() <= 1 / 16
    np.testing.assert_array_equal(through(once), once)
