"""A vocoder inverts mels: of any batch and length, the same for the same key, differentiable."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff import dsp
from audiodiff.diffusion import grids
from audiodiff.diffusion.denoiser import ModelDenoiser
from audiodiff.diffusion.priors import Standard
from audiodiff.diffusion.processes import Edm
from audiodiff.diffusion.samplers import dpmpp_2m
from audiodiff.networks.conditions import ConditionSpec
from audiodiff.networks.functional import Functional
from audiodiff.networks.unet1d import UNet1d
from audiodiff.representations import Waveform
from audiodiff.vocoders import DiffusionVocoder, FrameEnergy, MatchMel, MelFrames, check_mel, check_same_mel

MEL = dsp.MelSpec(rate_hz=8000, stft=dsp.StftSpec(64, 32), bands=8, fmax_hz=4000.0)
FRAMES = np.random.default_rng(0).normal(-3, 1, (2, 9, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def vocoder() -> DiffusionVocoder:
    """Return a vocoder of three steps with weights drawn so that everything it is told matters."""
    spec = ConditionSpec("mel", "frames", size=8, mean=-3.0, std=1.0)
    # Smooth throughout: over the kinks of a ReLU a difference quotient is no derivative.
    sizes = {"factors": (8,), "channels": (8,), "blocks": (1,), "attention_heads": (0,), "embedding": 16}
    network = Functional(UNet1d(conditions=(spec,), stem="random", **sizes))
    params = network.init(jax.random.key(0), jnp.zeros((1, 64, 1)), {"mel": jnp.zeros((1, 2, 8))})
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [leaf + 0.2 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    denoise = ModelDenoiser(jax.tree.unflatten(tree, moved), 0.1, network)
    grid = grids.karras(3, 0.005, 2.0, 7.0, Edm())
    return DiffusionVocoder(denoise, Waveform(), Standard(), grid, MelFrames(MEL), dpmpp_2m, MatchMel(MEL, 1))


@functools.partial(jax.jit, static_argnums=3)
def invert(vocoder, mel, key, length):
    return vocoder(mel, key, length)


def test_any_axes_before_and_any_length_come_back(vocoder):
    audio = invert(vocoder, FRAMES, jax.random.key(0), 270)
    assert audio.shape == (2, 270) and np.isfinite(audio).all() and np.std(audio) > 1e-3
    assert vocoder(jnp.asarray(FRAMES)[:, None], jax.random.key(0), 270).shape == (2, 1, 270)


def test_a_mel_alone_gives_one_sound_and_another_key_another(vocoder):
    mel = FRAMES[:1]
    fixed = invert(vocoder, mel, None, 270)
    np.testing.assert_array_equal(fixed, invert(vocoder, mel, None, 270))
    assert np.abs(fixed - invert(vocoder, mel, jax.random.key(5), 270)).max() > 1e-3


def test_the_gradient_by_the_mel_is_the_difference_quotient(vocoder):
    """Along the gradient, where rounding weighs least, by the five-point rule through three steps of the sampler."""
    mel, key = jnp.asarray(FRAMES[:1]), jax.random.key(0)
    weights = jax.random.normal(jax.random.key(1), (1, 270))

    def loss(mel):
        return jnp.sum(weights * vocoder(mel, key, 270))

    gradient = jax.jit(jax.grad(loss))(mel)
    size, step = float(jnp.linalg.norm(gradient)), 0.05
    at = jax.jit(lambda along: loss(mel + along * gradient / size))
    quotient = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)
    assert np.isfinite(gradient).all() and size > 0.1
    assert float(quotient) == pytest.approx(size, rel=1e-3)


def test_an_identity_covariance_is_the_plain_process_to_the_bit(vocoder):
    silent = jnp.full((1, 9, 8), float(dsp.log_mel(jnp.zeros(270), MEL).min()))
    adapted = dataclasses.replace(vocoder, prior=FrameEnergy(MEL, floor=1.0))
    np.testing.assert_array_equal(invert(adapted, silent, None, 270), invert(vocoder, silent, None, 270))
    louder = silent.at[:, 4].add(20.0)
    assert np.abs(invert(adapted, louder, None, 270) - invert(vocoder, louder, None, 270)).max() > 1e-3


def test_nan_stays_nan_in_the_frames_that_hear_it(vocoder):
    mel = FRAMES[:1].copy()
    mel[0, 4, 3] = np.nan
    assert np.isnan(invert(vocoder, mel, None, 270)).any()


def test_what_is_no_mel_of_the_vocoder_is_refused(vocoder):
    with pytest.raises(ValueError, match="9 frames of 32 samples do not cover 300 samples: give 10 frames"):
        vocoder(FRAMES, None, 300)
    for shape in ((0, 8), (9, 7), (8,)):
        with pytest.raises(ValueError, match=r"the log-mel has the shape .*: give \[\.\.\., frame, 8\], one frame or"):
            check_mel(np.zeros(shape), MEL)
    with pytest.raises(ValueError, match="2 frames of the log-mel hold NaN or infinite values: mend what made them"):
        check_mel(np.where(np.arange(9)[:, None] < 2, np.inf, np.zeros((9, 8))), MEL)
    other = dataclasses.replace(MEL, bands=10, stft=dataclasses.replace(MEL.stft, hop_samples=16))
    with pytest.raises(ValueError, match="stft.hop_samples is 16 and not 32, bands is 10 and not 8; make it in"):
        check_same_mel(other, MEL)
    check_same_mel(MEL, MEL)
