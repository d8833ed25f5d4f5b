from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from audiodiff import dsp
from audiodiff.objectives.classification import REJECT, ClassificationObjective, JudgeFeatures, random_phase
from audiodiff.types import Context

MEL = dataclasses.replace(
    dsp.MEL_PRESETS["librosa"],
    rate_hz=8000,
    stft=dsp.with_sizes(dsp.MEL_PRESETS["librosa"].stft, fft_samples=256, hop_samples=128, window_samples=256),
    bands=16,
    fmax_hz=4000.0,
)
FEATURES = JudgeFeatures(MEL, -30.0, 15.0)
TIME = 2048


def speech(count, seed=0, level=0.1):
    """Return clips that are loud in the middle and dull, far from white noise."""
    white = np.random.default_rng(seed).normal(size=(count, TIME))
    clips = np.cumsum(white, axis=1) * np.hanning(TIME)
    return (level * clips / clips.std(axis=1, keepdims=True)).astype(np.float32)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Unheard:
    """Pass audio on as it is, where features belong."""

    def __call__(self, audio):
        return audio


class Always:
    """A network that finds every clip to be of the same classes: {head: (class, classes)}."""

    def __init__(self, **answers):
        self.answers = answers

    def init(self, key, features):
        return {}

    def __call__(self, params, features):
        rows = jnp.ones((features.shape[0], 1))
        return {name: rows * 3 * jax.nn.one_hot(one, size) for name, (one, size) in self.answers.items()}, features


class Knows:
    """A network that knows the clips by heart, and that whatever is none of them is class 3."""

    def __init__(self, clips):
        self.clips = clips

    def __call__(self, params, audio):
        distance = jnp.abs(audio[:, None] - self.clips).max(axis=2)
        label = jnp.where(distance.min(axis=1) < 1e-3, jnp.argmin(distance, axis=1), 3)
        return {"digit": 50 * jax.nn.one_hot(label, 4)}, audio


class Hears(Always):
    """A network whose logits are the first four samples."""

    def __call__(self, params, features):
        return {"digit": features[:, :4]}, features


def objective(network, heads, **options):
    return ClassificationObjective(network, options.pop("features", Unheard()), heads, **options)


@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # which compiles faster
def run(objective, key, batch):
    return objective({"network": {}}, Context(key, 0), batch)


def call(objective, batch, seed=0):
    loss, measurements = run(objective, jax.random.key(seed), batch)
    return np.asarray(loss), {name: np.asarray(value) for name, value in measurements.items()}


def batch(audio, **labels):
    return {"audio": audio, "draw": np.arange(len(audio), dtype=np.int32), **labels}


# --- features


@pytest.mark.parametrize("gain_db", [-60, -20, 20, 40])
def test_level_is_no_evidence(gain_db):
    clips = speech(2)
    np.testing.assert_allclose(FEATURES(clips * 10 ** (gain_db / 20)), FEATURES(clips), atol=1e-3)


def test_features_are_the_standardised_log_mel_of_the_clip_at_its_level():
    clip = speech(1)
    clip *= 0.1 / np.sqrt(np.mean(clip**2))  # -20 dBFS
    plain = JudgeFeatures(MEL)
    np.testing.assert_allclose(plain(clip), dsp.log_mel(clip, MEL), atol=1e-3)
    np.testing.assert_allclose(FEATURES(clip), (np.asarray(plain(clip)) + 30) / 15, atol=1e-4)


def test_silence_stays_silence_and_has_a_gradient():
    silence = np.zeros((1, TIME), np.float32)
    assert np.ptp(FEATURES(silence)) == 0
    assert FEATURES(silence).max() < FEATURES(speech(1)).mean() - 1
    assert np.isfinite(jax.grad(lambda x: FEATURES(x).sum())(silence)).all()


def test_statistics_are_leaves_and_the_convention_is_static():
    assert jax.tree.leaves(FEATURES) == [-30.0, 15.0]
    assert jax.tree.structure(FEATURES) != jax.tree.structure(dataclasses.replace(FEATURES, level_dbfs=-23.0))


# --- what is minimised


def test_the_loss_is_the_mean_cross_entropy_over_heads():
    """Logits 3 for one class and 0 for the rest, against two labels: one right, one wrong."""
    always = objective(Always(digit=(1, 4), speaker=(0, 3)), (("digit", 4), ("speaker", 3)), reject_probability=0.0)
    loss, measurements = call(always, batch(speech(2), digit=np.array([1, 2]), speaker=np.array([0, 0])))
    digit, speaker = math.log(math.exp(3) + 3), math.log(math.exp(3) + 2)
    np.testing.assert_allclose(loss, [(digit - 3 + speaker - 3) / 2, (digit + speaker - 3) / 2], rtol=1e-5)
    np.testing.assert_array_equal(measurements["accuracy/digit"], [1, 0])
    np.testing.assert_array_equal(measurements["accuracy/speaker"], [1, 1])
    assert np.isnan(measurements[f"accuracy/{REJECT}"]).all()


def test_a_network_that_knows_is_always_right():
    """Labels follow their clips, and what is to be rejected has the last class of the head."""
    clips, label = speech(3), np.arange(150) % 3
    knows = objective(Knows(clips), (("digit", 4),), reject_probability=0.4, noise_probability=0.0, max_shift_samples=0)
    loss, measurements = call(knows, batch(clips[label], digit=label))
    kept, rejected = measurements["accuracy/digit"], measurements[f"accuracy/{REJECT}"]
    np.testing.assert_array_equal(np.isfinite(kept), np.isnan(rejected))
    assert np.nanmin(kept) == np.nanmin(rejected) == 1
    assert loss.max() < 1e-6


def test_rejection_is_measured_over_all_heads():
    two = objective(Always(digit=(3, 4), speaker=(0, 3)), (("digit", 4), ("speaker", 3)), reject_probability=1.0)
    _, measurements = call(two, batch(speech(4), digit=np.zeros(4, int), speaker=np.zeros(4, int)))
    np.testing.assert_array_equal(measurements[f"accuracy/{REJECT}"], [0.5] * 4)
    assert np.isnan(measurements["accuracy/digit"]).all()


@pytest.mark.parametrize("probability", [0.0, 0.2, 1.0])
def test_as_many_are_rejected_as_asked(probability):
    count = 3000
    always = objective(Always(digit=(0, 4)), (("digit", 4),), reject_probability=probability, max_shift_samples=2)
    audio = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    _, measurements = call(always, batch(audio, digit=np.zeros(count, int)))
    rejected = int(np.isfinite(measurements[f"accuracy/{REJECT}"]).sum())
    assert stats.binomtest(rejected, count, probability).pvalue > 1e-4


def test_an_example_is_augmented_by_its_draw_alone():
    heard = objective(Hears(), (("digit", 4),), reject_probability=0.5)
    examples = batch(speech(8), digit=np.zeros(8, int))
    order = np.random.default_rng(1).permutation(8)
    loss, _ = call(heard, examples)
    assert len(set(loss.tolist())) == 8
    permuted, _ = call(heard, {name: value[order] for name, value in examples.items()})
    np.testing.assert_allclose(permuted, loss[order], rtol=1e-5)
    assert (call(heard, examples, seed=1)[0] != loss).any()


# --- augmentation


def augmented(audio, count=400, **options):
    """Return ``count`` augmentations of one clip [time]."""
    one = objective(None, (("digit", 4),), **options)
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.jit(jax.vmap(one._augment, in_axes=(0, None)))(keys, audio)[0])


def test_what_is_rejected_is_noise_silence_lost_phase_and_drowned_speech_in_equal_parts():
    clip = speech(1)[0]
    made = augmented(clip, reject_probability=1.0, max_shift_samples=0)
    rms, own = np.sqrt(np.mean(made**2, axis=1)), np.sqrt(np.mean(clip**2))
    magnitude = np.abs(np.fft.rfft(made, axis=1))
    silent = rms < 1.1e-5
    phase_lost = np.abs(magnitude - np.abs(np.fft.rfft(clip))).max(axis=1) < 1e-3 * magnitude.max()
    similarity = made @ clip / (np.maximum(rms, 1e-12) * own * TIME)
    drowned = ~silent & ~phase_lost & (similarity > 0.2)
    noise = ~silent & ~phase_lost & ~drowned
    kinds = np.array([noise.sum(), silent.sum(), phase_lost.sum(), drowned.sum()])
    assert stats.chisquare(kinds).pvalue > 1e-4

    np.testing.assert_allclose(rms[noise], own, rtol=0.1)
    assert np.abs(made[phase_lost] - clip).max(axis=1).min() > 0.1 * np.abs(clip).max()
    snr_db = -10 * np.log10(np.mean((made[drowned] - clip) ** 2, axis=1) / own**2)
    assert -10.5 < snr_db.min() < -8 < -2 < snr_db.max() < 0.5


def test_silence_to_be_rejected_goes_down_to_what_the_features_take_for_digital_silence():
    made = augmented(speech(1)[0], reject_probability=1.0)
    silent = made[np.sqrt(np.mean(made**2, axis=1)) < 1.1e-5]
    nothing = np.asarray(FEATURES(np.zeros((1, TIME), np.float32)))
    distance = np.abs(np.asarray(FEATURES(silent)) - nothing).max(axis=(1, 2))
    assert 0.05 < np.mean(distance < 1e-3) < 0.95


def test_what_is_kept_is_shifted_and_half_of_it_noisy():
    click = np.zeros(TIME, np.float32)
    click[0] = 1.0
    made = augmented(click, reject_probability=0.0, noise_probability=0.5, max_shift_samples=9)
    assert set(np.argmax(made, axis=1)) == set(range(10))
    straight = np.stack([np.roll(one, -np.argmax(one)) for one in made])
    power = np.mean((straight - click) ** 2, axis=1)
    noisy = power > 0
    assert stats.binomtest(int(noisy.sum()), len(made), 0.5).pvalue > 1e-4
    snr_db = 10 * np.log10(np.mean(click**2) / power[noisy])
    assert 9.5 < snr_db.min() < 15 < 35 < snr_db.max() < 40.5


@pytest.mark.parametrize("time", [256, 255])
def test_random_phase_keeps_every_magnitude_and_draws_every_phase(time):
    clip = speech(1)[0, 500 : 500 + time]
    made = np.asarray(jax.vmap(random_phase, in_axes=(0, None))(jax.random.split(jax.random.key(0), 500), clip))
    spectrum = np.fft.rfft(made, axis=1)
    own = np.abs(np.fft.rfft(clip))
    np.testing.assert_allclose(np.abs(spectrum), np.broadcast_to(own, spectrum.shape), atol=1e-4 * own.max())
    inner = spectrum[:, 1 : (time - 1) // 2]
    phase = np.angle(inner[:, own[1 : (time - 1) // 2] > 1e-3 * own.max()])
    assert stats.kstest(phase[:, ::7].ravel() / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-4


def test_audio_of_several_channels_is_refused():
    with pytest.raises(ValueError, match=r"hears \[batch, time\] and the audio has the shape \(2, 64, 2\): mix it"):
        objective(Always(), ()).init(jax.random.key(0), batch(np.zeros((2, 64, 2), np.float32)))
