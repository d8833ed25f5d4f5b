from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.networks.autoencoder import Autoencode, Autoencoder

RNG = np.random.default_rng(0)
NETWORK = Autoencoder(
    factors=(8, 2), channels=(24, 16), encoder_blocks=(1, 1), decoder_blocks=(1, 1), latent_channels=6
)
AUDIO = RNG.normal(size=(2, 160, 1)).astype(np.float32)
QUICK = {"xla_backend_optimization_level": 0}  # compiles faster


@functools.cache
def moved():
    """Return parameters of NETWORK none of which is zero, so that every branch is heard."""
    shapes = jax.eval_shape(Autoencode(NETWORK).init, jax.random.key(0), AUDIO)
    return jax.tree.map(lambda leaf: (0.1 * RNG.normal(size=leaf.shape)).astype(np.float32), shapes)


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def init(codec):
    return codec.init(jax.random.key(0), AUDIO)


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def encode(codec, params, audio):
    return codec.encode(params, audio)


@functools.partial(jax.jit, static_argnums=(0, 3), compiler_options=QUICK)
def decode(codec, params, latent, length):
    return codec.decode(params, latent, length)


@pytest.mark.parametrize("samples", [1, 15, 16, 17])
def test_any_length_comes_back_at_its_length_and_a_position_stands_for_ratio_samples(samples):
    codec = Autoencode(NETWORK)
    audio = jax.ShapeDtypeStruct((3, samples, 1), jnp.float32)
    latent = jax.eval_shape(codec.encode, moved(), audio)
    assert latent.shape == (3, -(-samples // 16), 6) and codec.ratio == 16
    assert jax.eval_shape(functools.partial(codec.decode, length_samples=samples), moved(), latent).shape == audio.shape


def test_padding_is_silence_and_is_cropped():
    codec, short = Autoencode(NETWORK), AUDIO[:, :150]
    padded = np.pad(short, ((0, 0), (0, 10), (0, 0)))
    latent = encode(codec, moved(), short)
    np.testing.assert_allclose(latent, encode(codec, moved(), padded), atol=1e-5)
    whole = decode(codec, moved(), latent, 160)
    np.testing.assert_array_equal(decode(codec, moved(), latent, 150), whole[:, :150])


def test_with_a_latent_as_wide_as_its_frame_it_begins_as_nearly_the_identity():
    """Stem and head are then a nearly tight frame and its adjoint over the redundancy; a mirror lies between."""
    wide = Autoencode(
        Autoencoder(factors=(16,), channels=(64,), encoder_blocks=(1,), decoder_blocks=(1,), latent_channels=64)
    )
    params = init(wide)
    mirror, _ = np.linalg.qr(RNG.normal(size=(64, 64)))
    params["to_latent"]["kernel"], params["from_latent"]["kernel"] = (
        jnp.asarray(m, jnp.float32) for m in (mirror, mirror.T)
    )
    # SiLU branches begin at zero, so that nothing but the linear path is heard.
    back = decode(wide, params, encode(wide, params, AUDIO), 160)
    inside = np.s_[:, 32:-32]
    error = np.linalg.norm(back[inside] - AUDIO[inside]) / np.linalg.norm(AUDIO[inside])
    assert error < 0.1  # most of it at 0 Hz and half the rate, where cosine and sine are not apart


def test_it_begins_linear_and_is_not_once_trained():
    codec = Autoencode(NETWORK)
    for params, linear in ((init(codec), True), (moved(), False)):
        z, twice = (encode(codec, params, g * AUDIO) for g in (1, 2))
        silence = encode(codec, params, 0 * AUDIO)
        assert np.allclose(twice - silence, 2 * (z - silence), atol=1e-4) == linear


def test_a_shift_by_the_ratio_moves_the_latent_by_one_position():
    codec, audio = Autoencode(NETWORK), RNG.normal(size=(1, 400, 1)).astype(np.float32)
    z, later = (encode(codec, moved(), np.roll(audio, shift, axis=1)) for shift in (0, 16))
    np.testing.assert_allclose(later[:, 9:-8], z[:, 8:-9], atol=1e-5)  # away from the ends, which hear zeros
    assert np.abs(np.diff(z[:, 8:-8], axis=1)).max() > 0.1


def test_the_scale_is_that_of_the_audio_and_the_latent_does_not_know_it():
    loud = Autoencode(NETWORK.clone(scale=3.0))
    z = encode(Autoencode(NETWORK), moved(), AUDIO)
    np.testing.assert_allclose(encode(loud, moved(), 3 * AUDIO), z, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        decode(loud, moved(), z, 160), 3 * decode(Autoencode(NETWORK), moved(), z, 160), rtol=1e-4, atol=1e-5
    )


def test_channels_of_audio_are_its_own():
    stereo = Autoencode(NETWORK.clone(audio_channels=2, latent_channels=12))
    params = jax.eval_shape(stereo.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 2), jnp.float32))
    latent = jax.ShapeDtypeStruct((1, 2, 12), jnp.float32)
    assert jax.eval_shape(functools.partial(stereo.decode, length_samples=20), params, latent).shape == (1, 20, 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": (24,)}, "the levels of an Autoencoder disagree: .*one entry a level"),
        ({"factors": (8, 0)}, "factors is .8, 0.: give at least one number, each at least 1"),
        ({"overlap": 2}, "overlap is 2: a centred kernel spans an odd number"),
        ({"latent_channels": 0}, "latent_channels is 0: it must be above 0"),
        ({"scale": 0.0}, "scale is 0.0: it must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        NETWORK.clone(**options)
