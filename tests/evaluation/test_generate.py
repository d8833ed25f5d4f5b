"""Hold generation against Gaussians, whose samples, guided, led by a judge and not, have known moments."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import scipy.special

from audiodiff import dsp, prng
from audiodiff.diffusion import grids, samplers
from audiodiff.diffusion.levels import LogNormal
from audiodiff.diffusion.parameterisations import X0
from audiodiff.evaluation.generate import Guide, generate
from audiodiff.networks.classifier import LogMelClassifier
from audiodiff.networks.functional import Classify
from audiodiff.objectives.classification import JudgeFeatures
from audiodiff.objectives.diffusion import DiffusionObjective
from audiodiff.representations import Waveform

DEVIATION, NULL_MEAN = 0.5, -0.2
GRID = grids.karras(20, 0.01, 300.0)
PLAIN = {"scale": 1.0, "sigma_low": 0.0, "sigma_high": float("inf"), "rescale": 0.0}
HEUN = samplers.heun


@dataclasses.dataclass(frozen=True)
class Exact:
    """Estimate x_0 of N(mean of the label, DEVIATION^2), on alpha = 1: parameters are the means by label."""

    def encode(self, params, conditions, present=None):
        mean = params["means"][conditions["label"]]
        keep = jnp.ones(mean.shape, bool) if present is None else present["label"]
        return {"global": jnp.where(keep, mean, NULL_MEAN)}

    def __call__(self, params, scaled, c_noise, conditions):
        sigma = jnp.exp(4 * c_noise)[:, None, None]
        x, mean = scaled * jnp.sqrt(DEVIATION**2 + sigma**2), conditions["global"][:, None, None]
        return mean + DEVIATION**2 / (DEVIATION**2 + sigma**2) * (x - mean)


OBJECTIVE = DiffusionObjective(Exact(), LogNormal(), DEVIATION, 4, parameterisation=X0, conditions=("label",))
PARAMS = {"network": {"means": jnp.array([0.0, 1.0, -3.0])}}


def keys(count, seed=0):
    return prng.per_example(jax.random.key(seed), jnp.arange(count))


def sample(keys, labels, guidance=PLAIN, *, objective=OBJECTIVE, params=PARAMS, grid=GRID, **options):
    settings = {"sampler": HEUN, "length_samples": 2048, "guided": False, **options}
    conditions = {"label": jnp.asarray(labels)}
    return np.asarray(generate(objective, params, keys, conditions, grid, guidance, **settings))


ALL = [0, 1, 2]


@pytest.mark.parametrize("sampler", [HEUN, samplers.dpmpp_2m_sde], ids=["heun", "dpmpp_2m_sde"])
def test_samples_of_an_exact_denoiser_have_the_mean_and_deviation_of_the_data(sampler):
    audio = sample(keys(3), ALL, sampler=sampler, grid=grids.karras(80, 0.01, 300.0))
    assert audio.shape == (3, 2048)
    np.testing.assert_allclose(audio.mean(axis=1), [0, 1, -3], atol=5 * DEVIATION / 2048**0.5)
    np.testing.assert_allclose(audio.std(axis=1), DEVIATION, rtol=0.06)


def test_a_clip_is_the_same_alone_and_in_any_batch():
    """Noise on the way included."""
    make = functools.partial(sample, sampler=samplers.dpmpp_2m_sde, length_samples=100)
    labels, order = np.array([0, 1, 2, 1]), np.array([2, 0, 3, 1])
    together = make(keys(4), labels)
    np.testing.assert_allclose(make(keys(4)[order], labels[order]), together[order], atol=1e-5)
    np.testing.assert_allclose(make(keys(4)[2:3], labels[2:3])[0], together[2], atol=1e-5)
    assert np.abs(np.corrcoef(together)[np.triu_indices(4, 1)]).max() < 0.5


def test_guidance_of_one_equals_no_guidance_and_acts_inside_its_interval_alone():
    unguided = sample(keys(3), ALL)
    np.testing.assert_allclose(sample(keys(3), ALL, guided=True), unguided, atol=1e-5)
    outside = PLAIN | {"scale": 5.0, "sigma_low": 1e3}
    np.testing.assert_allclose(sample(keys(3), ALL, outside, guided=True), unguided, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 2.5])
def test_guidance_moves_the_mean_away_from_the_null_by_its_scale(scale):
    """Between Gaussians of one deviation the guided estimate is that of the mean null + w (mean - null), exactly."""
    audio = sample(keys(3), ALL, PLAIN | {"scale": scale}, guided=True)
    expected = NULL_MEAN + scale * (np.array([0.0, 1.0, -3.0]) - NULL_MEAN)
    np.testing.assert_allclose(audio.mean(axis=1), expected, atol=0.06)
    np.testing.assert_allclose(audio.std(axis=1), DEVIATION, rtol=0.1)


def test_only_shapes_steps_and_samplers_compile_anew():
    """Weights, keys, labels, sigma_data, guidance and levels are arguments: one program serves them all."""
    make = functools.partial(sample, guided=True)
    make(keys(3), ALL)
    compiled = generate._cache_size()
    make(keys(3, seed=7), [2, 0, 0])
    make(keys(3), ALL, PLAIN | {"scale": 3.0, "sigma_high": 2.0, "rescale": 0.7})
    make(keys(3), ALL, params={"network": {"means": jnp.array([5.0, 6.0, 7.0])}})
    make(keys(3), ALL, grid=grids.karras(20, 0.1, 5.0))
    make(keys(3), ALL, objective=dataclasses.replace(OBJECTIVE, sigma_data=0.3))
    make(keys(3), ALL, objective=dataclasses.replace(OBJECTIVE, network=Exact()))  # an equal network, loaded again
    assert generate._cache_size() == compiled
    make(keys(3), ALL, grid=grids.karras(3, 0.1, 5.0))
    assert generate._cache_size() == compiled + 1


def test_what_was_sampled_is_decoded_by_the_representation():
    emphasised = dataclasses.replace(OBJECTIVE, representation=Waveform(preemphasis=0.9))
    x, audio = (sample(keys(3), ALL, objective=one) for one in (OBJECTIVE, emphasised))
    np.testing.assert_allclose(audio, scipy.signal.lfilter([1], [1, -0.9], x), atol=1e-3)


def test_several_channels_stay_a_last_axis():
    stereo = dataclasses.replace(OBJECTIVE, representation=Waveform(channels=2))
    audio = sample(keys(2), [0, 1], objective=stereo, length_samples=300)
    assert audio.shape == (2, 300, 2)
    assert abs(np.corrcoef(audio[0].T)[0, 1]) < 0.5


ENCODED: list[str] = []


@dataclasses.dataclass(frozen=True)
class Counted(Exact):
    """Note every time that the compiled program encodes conditions."""

    def encode(self, params, conditions, present=None):
        jax.debug.callback(lambda: ENCODED.append("once"))
        return super().encode(params, conditions, present)


@dataclasses.dataclass(frozen=True)
class AtEveryStep(Exact):
    """Encode conditions anew whenever the network is called."""

    def encode(self, params, conditions, present=None):
        keep = jnp.ones(conditions["label"].shape, bool) if present is None else present["label"]
        return {"label": conditions["label"], "keep": keep}

    def __call__(self, params, scaled, c_noise, conditions):
        encoded = super().encode(params, conditions, {"label": conditions["keep"]})
        return super().__call__(params, scaled, c_noise, encoded)


@pytest.mark.parametrize("steps", [3, 9])
def test_conditions_are_encoded_once_a_sample_and_give_what_encoding_at_every_step_gives(steps):
    settings = {"grid": grids.karras(steps, 0.01, 300.0), "guided": True, "guidance": PLAIN | {"scale": 2.0}}
    ENCODED.clear()
    once = sample(keys(3), ALL, objective=dataclasses.replace(OBJECTIVE, network=Counted()), **settings)
    jax.effects_barrier()
    assert len(ENCODED) == 2  # the condition and the null, whatever the number of steps
    anew = sample(keys(3), ALL, objective=dataclasses.replace(OBJECTIVE, network=AtEveryStep()), **settings)
    # Two programs round apart, and the sampler carries it on; another condition is whole units away.
    np.testing.assert_allclose(once, anew, rtol=1e-3, atol=2e-3)


# --- led by a judge


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Unheard:
    """Pass audio on as it is, where features belong."""

    def __call__(self, audio):
        return audio


@dataclasses.dataclass(frozen=True)
class Leaning:
    """Hear label 0 with ln p = slope f(audio) - 1e6, so unlikely that nothing bends the line; 1 is certain."""

    hears: Callable[[jax.Array], jax.Array]

    def __call__(self, params, audio):
        leaning = params["slope"] * self.hears(audio) - 1e6
        return {"label": jnp.stack([leaning, jnp.zeros_like(leaning)], axis=1)}, audio


def total(audio):
    return audio.sum(axis=1)


def halves(audio):
    first, second = jnp.split(audio, 2, axis=1)
    return first.sum(axis=1) * second.sum(axis=1)


def leaning(slope, scale, hears=total, labels=(0, 0, 1)):
    params = {"network": {"slope": jnp.float32(slope)}}
    return Guide(Leaning(hears), Unheard(), params, {"label": jnp.array(labels)}, scale)


TILTED = functools.partial(
    sample,
    keys(3),
    ALL,
    PLAIN | {"scale": 2.5},
    guided=True,
    objective=dataclasses.replace(OBJECTIVE, representation=Waveform(preemphasis=0.9)),
)


def test_a_judge_tilts_a_gaussian_by_its_own_slope():
    """p(x) exp(s g x) of N(m, d^2) is N(m + s d^2 g, d^2): every sample moves by s d^2 g, through the decoder's filter.

    Around classifier-free guidance, and for those clips alone whose label is not certain as it is.
    """
    slope, scale, time = 0.02, 3.0, 2048
    moved = TILTED(guide=leaning(slope, scale)) - TILTED()

    def deemphasis(x):
        return scipy.signal.lfilter([1], [1, -0.9], x)

    gradient = deemphasis(np.full(time, slope))[::-1]  # of a sum of filtered samples: the filter run backwards
    expected = deemphasis(scale * DEVIATION**2 * gradient)
    np.testing.assert_allclose(moved[:2], np.stack([expected, expected]), rtol=0.01, atol=1e-3)
    np.testing.assert_allclose(moved[2], 0, atol=1e-4)


def test_a_judge_at_scale_zero_changes_nothing_and_no_weight_scale_or_label_compiles_anew():
    plain = TILTED()
    compiled = generate._cache_size()
    np.testing.assert_allclose(TILTED(guide=leaning(0.02, 0.0)), plain, atol=1e-5)
    assert generate._cache_size() <= compiled + 1
    compiled = generate._cache_size()
    for guide in (leaning(0.02, 2.0), leaning(0.5, 0.0), leaning(0.02, 0.0, labels=(1, 0, 0))):
        TILTED(guide=guide)
    assert generate._cache_size() == compiled


def test_a_judge_hears_what_is_known_and_moves_only_the_rest():
    """Of the product of two halves the slope along the second is the sum of the first, which is known."""
    time, scale = 64, 0.2
    known, keep = jnp.full((3, time), 0.25), jnp.broadcast_to(jnp.arange(time) < time // 2, (3, time))
    make = functools.partial(sample, keys(3), ALL, length_samples=time, known=(known, keep))
    plain, led = make(), make(guide=leaning(0.5, scale, halves, labels=(0, 0, 0)))
    np.testing.assert_allclose(led[:, : time // 2], plain[:, : time // 2], atol=1e-5)
    expected = scale * DEVIATION**2 * 0.5 * 0.25 * time / 2
    np.testing.assert_allclose((led - plain)[:, time // 2 :], expected, rtol=0.01)


@dataclasses.dataclass(frozen=True)
class FirstSamples:
    """Return the first samples of a clip as the logits of two heads."""

    def __call__(self, params, audio):
        return {"digit": audio[:, :3], "speaker": audio[:, 3:5]}, audio


@pytest.mark.parametrize("channels", [1, 2])
def test_the_probability_of_several_heads_is_their_product_and_others_do_not_count(channels):
    audio = np.random.default_rng(0).normal(size=(2, 8, channels)).astype(np.float32)
    logits = audio.mean(axis=2)
    digit, speaker = scipy.special.softmax(logits[:, :3], 1), scipy.special.softmax(logits[:, 3:5], 1)
    given = audio if channels > 1 else audio[..., 0]
    both = Guide(FirstSamples(), Unheard(), {"network": {}}, {"digit": jnp.array([2, 0]), "speaker": jnp.array([0, 1])})
    one = dataclasses.replace(both, labels={"digit": both.labels["digit"]})
    picked = digit[[0, 1], [2, 0]]
    np.testing.assert_allclose(np.exp(one.log_probability(jnp.asarray(given))), picked, rtol=1e-5)
    np.testing.assert_allclose(
        np.exp(both.log_probability(jnp.asarray(given))), picked * speaker[[0, 1], [0, 1]], rtol=1e-5
    )


def test_the_gradient_of_what_a_judge_hears_is_finite_in_silence_and_near_it():
    """Through level, log-mel and network: all zeros, denormal, below and above the bound of the gain, half a clip."""
    mel = dataclasses.replace(dsp.MEL_PRESETS["librosa"], rate_hz=8000, fmax_hz=4000.0, bands=8)
    network = Classify(LogMelClassifier((("label", 3),), widths=(8,), features=8))
    features = JudgeFeatures(mel, -30.0, 15.0)
    noise = np.random.default_rng(0).normal(size=4096)
    audio = np.stack([0 * noise, 1e-40 * noise, 1e-20 * noise, 1e-6 * noise, 0.1 * noise * (np.arange(4096) < 2048)])
    audio = jnp.asarray(audio, jnp.float32)
    drawn = jax.jit(lambda audio: network.init(jax.random.key(0), features(audio)))(audio)
    params = {"network": jax.tree.map(lambda leaf: leaf + 0.1, drawn)}  # what begins as zero would hide what follows
    guide = Guide(network, features, params, {"label": jnp.zeros(len(audio), int)})
    gradient = np.asarray(jax.jit(jax.grad(lambda audio: guide.log_probability(audio).sum()))(audio))
    assert np.isfinite(gradient).all()
    assert not gradient[0].any() and np.abs(gradient[3:]).max(axis=1).min() > 1e-6
