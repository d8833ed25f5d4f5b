"""Generation taken apart is generation: x is decoded in parts, and timed in turn."""

from __future__ import annotations

import numpy as np
import pytest

from audiodiff import dsp
from audiodiff.evaluation import apart
from audiodiff.evaluation.apart import decode, median_seconds
from audiodiff.representations import ComplexStft, Waveform


@pytest.fixture
def stft() -> ComplexStft:
    return ComplexStft(dsp.StftSpec(64, 32), 0.5, 1)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_parts_of_any_size_decode_to_the_audio_that_was_encoded(stft, batch):
    """Five clips in parts of two leave one over, whose companion must not appear."""
    audio = np.random.default_rng(0).uniform(-0.3, 0.3, (5, 320)).astype(np.float32)
    back = decode(stft, np.asarray(stft.encode(audio)), 320, batch)
    assert back.shape == audio.shape
    np.testing.assert_allclose(back, audio, atol=1e-5)


def test_parts_share_one_program():
    before = apart._decode._cache_size()
    decode(Waveform(), np.zeros((7, 16, 1), np.float32), 16, 3)
    assert apart._decode._cache_size() == before + 1


def test_calls_take_turns_and_the_first_of_each_is_not_counted(monkeypatch):
    """A clock that each call moves on: the first call by 100 s, as compiling does, later ones by 1, 5 and 2 s."""
    now, order = [0.0], []
    monkeypatch.setattr(apart.time, "perf_counter", lambda: now[0])

    def call(name, steps):
        left = iter(steps)

        def run():
            order.append(name)
            now[0] += next(left)

        return run

    assert median_seconds([call("a", [100, 1, 5, 2]), call("b", [100, 7, 9, 8])], 3) == [2, 8]
    assert "".join(order) == "abababab"
