from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.evaluation.resynthesis import resynthesis
from audiodiff.networks.autoencoder import Autoencode, Autoencoder
from audiodiff.representations import Latent

RNG = np.random.default_rng(0)
CODEC = Autoencode(
    Autoencoder(factors=(8, 2), channels=(24, 16), encoder_blocks=(0, 1), decoder_blocks=(0, 1), latent_channels=6)
)
AUDIO = (0.1 * RNG.normal(size=(2, 100))).astype(np.float32)
QUICK = {"xla_backend_optimization_level": 0}  # compiles faster
STATISTICS = {
    "mean": np.linspace(-2, 2, 6).astype(np.float32),
    "log_std": np.linspace(-1, 0.5, 6).astype(np.float32),
}


def weights(seed=0):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(CODEC.init, jax.random.key(0), AUDIO[..., None])
    return jax.tree.map(lambda leaf: (0.1 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)


LATENT = Latent(CODEC, {"network": weights(), "latent": STATISTICS})


@functools.partial(jax.jit, compiler_options=QUICK)
def there_and_back(latent):
    x = latent.encode(AUDIO)
    return x, latent.decode(x, None, 100)


@pytest.mark.parametrize("samples", [1, 16, 17, 100])
def test_the_shape_is_that_of_what_is_encoded(samples):
    x = jax.eval_shape(LATENT.encode, jax.ShapeDtypeStruct((3, samples), jnp.float32))
    assert x.shape == LATENT.shape(3, samples) == (3, -(-samples // 16), 6)
    audio = jax.eval_shape(lambda x: LATENT.decode(x, None, samples), x)
    assert audio.shape == (3, samples)
    assert LATENT.dimension_ratio(1600) == 6 / 16


def test_each_channel_is_standardised_by_its_own_statistics_which_decoding_undoes():
    plain = Latent(CODEC, {"network": weights(), "latent": {name: np.zeros(6, np.float32) for name in STATISTICS}})
    (x, audio), (raw, same) = there_and_back(LATENT), there_and_back(plain)
    np.testing.assert_allclose(x * np.exp(STATISTICS["log_std"]) + STATISTICS["mean"], raw, atol=1e-5)
    np.testing.assert_allclose(audio, same, atol=1e-5)
    assert np.abs(x - raw).min(axis=(0, 1)).min() > 1e-3 < np.ptp(audio)


def test_weights_are_leaves_and_others_compile_nothing():
    traces = []

    @functools.partial(jax.jit, compiler_options=QUICK)
    def encode(latent):
        traces.append(1)
        return latent.encode(AUDIO)

    first, second = (encode(Latent(CODEC, {"network": weights(seed), "latent": STATISTICS})) for seed in (0, 1))
    assert len(traces) == 1 and np.abs(first - second).max() > 1e-3
    assert len(jax.tree.leaves(LATENT)) == len(jax.tree.leaves(LATENT.params)) > 2


def test_what_is_lost_is_measured_as_that_of_any_representation():
    through = resynthesis(LATENT, 1, AUDIO)
    assert through is not None
    np.testing.assert_allclose(through(AUDIO), there_and_back(LATENT)[1], atol=1e-5)


def test_what_is_of_another_shape_is_refused():
    for shape in ((1, 6, 6), (1, 7, 5), (1, 7, 6, 1)):
        with pytest.raises(ValueError, match=r"length_samples 100 needs .batch, 7 or more, 6.: give x of this repr"):
            LATENT.decode(np.zeros(shape, np.float32), None, 100)
    with pytest.raises(ValueError, match="the audio has 2 channels, the model 1"):
        LATENT.encode(np.zeros((1, 100, 2), np.float32))
