from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.signal import lfilter

from audiodiff import dsp
from audiodiff.metrics.signal import si_sdr
from audiodiff.networks.autoencoder import Autoencode, Autoencoder
from audiodiff.objectives.reconstruction import ReconstructionObjective, si_sdr_db
from audiodiff.types import Context

SPECTRA = dsp.MultiResolutionSpec((dsp.StftSpec(64, 16), dsp.StftSpec(128, 32)), power_floor=1e-7)
CONTEXT = Context(jax.random.key(0), jnp.zeros((), jnp.int32))
RNG = np.random.default_rng(0)
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster


@dataclass(frozen=True)
class Fold:
    """Stand in for an autoencoder: samples side by side, times a weight, and back."""

    latent_channels: int = 4
    audio_channels: int = 1

    @property
    def network(self):
        return self

    def init(self, key, audio):
        return {"gain": jnp.ones(())}

    def encode(self, params, audio):
        return params["gain"] * audio.reshape(len(audio), -1, self.latent_channels)

    def decode(self, params, latent, length_samples):
        return latent.reshape(len(latent), -1, self.audio_channels)[:, :length_samples]


def voices(count=3, samples=512, seed=0):
    """Return clips of which the second half is silence."""
    clips = 0.1 * np.random.default_rng(seed).normal(size=(count, samples))
    clips[:, samples // 2 :] = 0
    return clips.astype(np.float32)


def batch_of(audio, draw=None):
    return {"audio": jnp.asarray(audio), "draw": jnp.arange(len(audio)) if draw is None else jnp.asarray(draw)}


def parameters(gain=1.0, mean=0.0, std=1.0, channels=4):
    latent = {"mean": jnp.full(channels, mean), "log_std": jnp.full(channels, np.log(std))}
    return {"network": {"gain": jnp.asarray(gain)}, "latent": latent}


@quick_jit
def run(objective, params, batch):
    return objective(params, CONTEXT, batch)


@quick_jit
def slope(objective, params, batch):
    return jax.grad(lambda params: objective(params, CONTEXT, batch)[0].mean())(params)


def test_si_sdr_is_that_of_the_metrics():
    target = voices() + 0.03
    estimate = -2.5 * target + 0.02 * RNG.normal(size=target.shape).astype(np.float32) + 1.0
    np.testing.assert_allclose(
        si_sdr_db(jnp.asarray(estimate), jnp.asarray(target)), si_sdr(estimate, target), atol=2e-3
    )
    assert np.isnan(si_sdr_db(jnp.asarray(target[0]), jnp.zeros(512)))


def test_what_comes_back_whole_costs_nothing_but_the_fit_of_the_latent():
    loss, measured = run(ReconstructionObjective(Fold(), SPECTRA, latent_noise=0.0), parameters(), batch_of(voices()))
    assert all(np.abs(measured[name]).max() < 1e-3 for name in ("distance", "l1", "latent_excess"))
    np.testing.assert_allclose(loss - measured["waveform"], np.square(voices()).mean(1) / 2, atol=1e-5)


def test_the_terms_are_weighed_and_each_is_a_share_of_the_clip():
    """At half the gain half the waveform is missing, whatever the clip's own level; the rest is dsp's distance."""
    audio = voices()
    objective = ReconstructionObjective(Fold(), SPECTRA, waveform_weight=3.0, latent_noise=0.0)
    loss, measured = run(objective, parameters(gain=0.5), batch_of(audio))
    np.testing.assert_allclose(measured["waveform"], 0.5, atol=1e-5)
    np.testing.assert_allclose(measured["l1"], np.abs(audio).mean(1) / 2, rtol=1e-5)
    expected = dsp.multi_resolution_stft_distance(audio / 2, audio, SPECTRA)
    np.testing.assert_allclose(measured["distance"], expected, rtol=1e-5)
    np.testing.assert_allclose(loss, expected + 1.5 + np.square(audio / 2).mean(1) / 2, rtol=1e-4)


def test_with_preemphasis_the_waveform_is_that_of_scipys_filter():
    audio = voices(1) + 0.05
    tone = 0.1 * np.cos(np.arange(512)[None] / 2).astype(np.float32)
    params = parameters()
    levelled = ReconstructionObjective(Fold(), SPECTRA, latent_noise=0.0, preemphasis=0.9)

    class Off(Fold):
        def decode(self, params, latent, length_samples):
            return super().decode(params, latent, length_samples) + tone[..., None]

    _, measured = run(dataclasses.replace(levelled, network=Off()), params, batch_of(audio))
    error, signal = (np.linalg.norm(lfilter([1, -0.9], [1], x)) for x in (tone, audio))
    np.testing.assert_allclose(measured["waveform"], error / signal, rtol=1e-4)


def test_noise_is_a_share_of_each_channels_own_deviation_and_the_examples_alone():
    audio, noisy = voices(4), ReconstructionObjective(Fold(), SPECTRA, latent_noise=0.25)
    _, measured = run(noisy, parameters(std=0.02), batch_of(audio))
    np.testing.assert_allclose(measured["l1"], 0.25 * 0.02 * np.sqrt(2 / np.pi), rtol=0.15)
    _, moved = run(noisy, parameters(std=0.02), batch_of(audio[::-1].copy(), draw=[3, 2, 1, 0]))
    np.testing.assert_allclose(moved["l1"][::-1], measured["l1"], rtol=1e-5)
    assert len(np.unique(np.round(measured["l1"], 8))) == 4


def test_the_fit_is_at_rest_at_the_mean_and_deviation_of_each_channel():
    audio = voices() * np.tile([1.0, 2.0, 3.0, 4.0], 128).astype(np.float32) + 0.1
    latent = audio.reshape(-1, 4)
    params = parameters()
    params["latent"] = {"mean": jnp.asarray(latent.mean(0)), "log_std": jnp.log(latent.std(0))}
    objective = ReconstructionObjective(Fold(), SPECTRA, latent_noise=0.0)
    _, measured = run(objective, params, batch_of(audio))
    np.testing.assert_allclose(np.square(measured["latent_std"]).mean(), 1.0, rtol=1e-4)
    for leaf in jax.tree.leaves(slope(objective, params, batch_of(audio))["latent"]):
        np.testing.assert_allclose(leaf, 0.0, atol=1e-5)
    wide = jax.tree.map(jnp.copy, params)
    wide["latent"]["log_std"] = wide["latent"]["log_std"] + 0.5
    assert np.all(slope(objective, wide, batch_of(audio))["latent"]["log_std"] > 0.1)


def test_the_fit_measures_the_latent_and_does_not_move_it():
    objective = ReconstructionObjective(Fold(), SPECTRA, latent_noise=0.0)
    near, far = (
        slope(objective, parameters(0.5, mean, std), batch_of(voices())) for mean, std in ((0.0, 1.0), (9.0, 0.1))
    )
    np.testing.assert_allclose(near["network"]["gain"], far["network"]["gain"], rtol=1e-5)


def test_a_latent_costs_where_it_exceeds_unit_scale_and_nowhere_else():
    audio = np.stack([np.full(512, 0.9), np.full(512, 2.0)]).astype(np.float32)
    _, measured = run(ReconstructionObjective(Fold(), SPECTRA, latent_noise=0.0), parameters(), batch_of(audio))
    np.testing.assert_allclose(measured["latent_excess"], [0.0, 3.0], rtol=1e-5)


def test_silence_has_finite_gradients_and_no_si_sdr():
    objective = ReconstructionObjective(Fold(), SPECTRA)
    silent = batch_of(np.zeros((2, 512), np.float32))
    loss, measured = run(objective, parameters(), silent)
    assert np.isfinite(loss).all() and np.isnan(measured["si_sdr_db"]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope(objective, parameters(), silent)))


def test_several_channels_are_measured_each_and_another_number_is_refused():
    stereo = np.stack([voices(), 0.1 * voices(seed=1)], axis=-1)
    objective = ReconstructionObjective(Fold(8, audio_channels=2), SPECTRA, latent_noise=0.0)
    _, measured = run(objective, parameters(0.5, channels=8), batch_of(stereo))
    by_channel = [dsp.multi_resolution_stft_distance(stereo[..., c] / 2, stereo[..., c], SPECTRA) for c in (0, 1)]
    np.testing.assert_allclose(measured["distance"], np.mean(by_channel, axis=0), rtol=1e-5)
    with pytest.raises(ValueError, match="the audio has 1 channels, the model 2"):
        objective.init(jax.random.key(0), batch_of(voices()))


def test_an_autoencoder_learns_two_tones_and_what_it_minimises_is_what_is_measured():
    """Of a clip 2:1, which random weights cannot give back: within 60 steps, unheard clips of the kind among them."""
    network = Autoencode(
        Autoencoder(
            factors=(16,), channels=(32,), encoder_blocks=(0,), decoder_blocks=(0,), latent_channels=8, scale=0.1
        )
    )
    objective = ReconstructionObjective(network, SPECTRA, waveform_weight=5.0)

    def tones(seed):
        rng, time = np.random.default_rng(seed), np.arange(256) / 8000
        phase = 2 * np.pi * (rng.uniform(200, 800, (8, 1)) * time + rng.uniform(size=(8, 1)))
        return batch_of((0.14 * np.sin(phase)).astype(np.float32))

    optimiser = optax.adam(1e-2)

    @quick_jit
    def step(params, state, batch):
        gradient = jax.grad(lambda params: objective(params, CONTEXT, batch)[0].mean())(params)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, updates), state

    params = quick_jit(objective.init)(jax.random.key(0), tones(0))
    state, before = optimiser.init(params), run(objective, params, tones(99))[1]
    for seed in range(60):
        params, state = step(params, state, tones(seed))
    after = run(objective, params, tones(99))[1]
    assert after["si_sdr_db"].mean() > 10 > 3 > before["si_sdr_db"].mean()
    assert after["waveform"].mean() < 0.5 * before["waveform"].mean()
