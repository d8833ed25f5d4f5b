from __future__ import annotations

import jax
import numpy as np

from audiodiff.dsp.mdct import MdctSpec
from audiodiff.representations import Mdct


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_energy_is_kept_and_no_number_is_redundant():
    """Between the first and last hop any x is the MDCT of its audio."""
    representation = Mdct(MdctSpec(32))
    audio, encode = noise(2, 160), jax.jit(representation.encode)
    np.testing.assert_allclose(np.square(encode(audio)).sum(), np.square(audio).sum(), rtol=1e-5)
    x = noise(*representation.shape(2, 160))
    again = encode(jax.jit(lambda x: representation.decode(x, None, 160))(x))
    np.testing.assert_allclose(again[:, 1:-1], x[:, 1:-1], atol=1e-5)


def test_compression_halves_the_range_in_decibels_and_keeps_signs():
    audio = noise(1, 160)
    plain, compressed = (jax.jit(Mdct(MdctSpec(32), exponent).encode) for exponent in (1.0, 0.5))
    np.testing.assert_allclose(compressed(1e-4 * audio), 1e-2 * compressed(audio), atol=1e-5)
    np.testing.assert_array_equal(np.sign(compressed(audio)), np.sign(plain(audio)))


def test_a_tone_is_in_the_bin_of_its_frequency():
    """Bin k of M is centred on (k + 1/2) / (2 M) of the rate."""
    tone = np.sin(2 * np.pi * (10.5 / 64) * np.arange(640))[None].astype(np.float32)
    x = jax.jit(Mdct(MdctSpec(64, "kbd")).encode)(tone)
    assert np.argmax(np.square(x).sum(axis=(0, 1, 3))) == 10


def test_holds_no_arrays():
    assert not jax.tree.leaves(Mdct(MdctSpec(32)))
