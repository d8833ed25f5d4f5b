"""What every spectral representation must do: come back, count, differentiate, refuse, and diffuse."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.diffusion import samplers
from audiodiff.dsp import MelSpec, StftSpec
from audiodiff.dsp.mdct import MdctSpec
from audiodiff.evaluation.generate import generate
from audiodiff.evaluation.resynthesis import resynthesis
from audiodiff.objectives.diffusion import DiffusionObjective, FixedLevels
from audiodiff.representations import ComplexStft, GriffinLim, LogMel, Mdct, Waveform
from audiodiff.representations.spectral import power_law
from audiodiff.types import Context, Level

MEL = MelSpec(rate_hz=8000, stft=StftSpec(64, 16), bands=12, fmax_hz=4000.0)
QUICK = {"xla_backend_optimization_level": 0}  # compiles faster

EXACT = {
    "compressed STFT": ComplexStft(StftSpec(64, 16), 0.5),
    "odd STFT": ComplexStft(StftSpec(45, 20, window="hamming", padding="half_overlap"), 1.0),
    "MDCT": Mdct(MdctSpec(64)),
    "compressed odd MDCT": Mdct(MdctSpec(34, "kbd"), 0.3),
}
ALL = EXACT | {"log-mel": LogMel(MEL, GriffinLim(MEL, iterations=3), mean=-4.0)}


def by_name(representations):
    return pytest.mark.parametrize("representation", representations.values(), ids=representations.keys())


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@functools.partial(jax.jit, compiler_options=QUICK)
def encode(representation, audio):
    return representation.encode(audio)


@functools.partial(jax.jit, static_argnums=2, compiler_options=QUICK)
def decode(representation, x, length_samples):
    return representation.decode(x, None, length_samples)


# --- there and back


@pytest.mark.parametrize("length", [333, 7], ids=["no whole number of hops", "shorter than a frame"])
@by_name(EXACT)
def test_what_was_encoded_is_decoded(representation, length):
    audio = noise(2, length)
    x = encode(representation, audio)
    assert x.shape == representation.shape(2, length)
    back = decode(representation, x, length)
    assert back.shape == audio.shape
    np.testing.assert_allclose(back, audio, atol=1e-5 * np.abs(audio).max())


@by_name(EXACT)
def test_channels_are_transformed_apart_and_come_back(representation):
    audio, stereo = noise(2, 333), dataclasses.replace(representation, channels=2)
    both = encode(stereo, audio.T[None])
    np.testing.assert_allclose(both[0], np.concatenate(encode(representation, audio), axis=-1), atol=1e-5)
    np.testing.assert_allclose(decode(stereo, both, 333)[0], audio.T, atol=1e-4)


@by_name(EXACT)
def test_in_float64_what_comes_back_is_right_to_its_rounding(representation):
    audio = noise(20, 100).astype(np.float64)
    with jax.enable_x64(True):
        x = encode(representation, audio)
        back = np.asarray(decode(representation, x, 100))
    assert x.dtype == back.dtype == np.float64
    np.testing.assert_allclose(back, audio, atol=1e-10 * np.abs(audio).max())


@by_name(EXACT)
def test_a_longer_x_gives_the_beginning_of_its_audio(representation):
    audio = noise(2, 333)
    np.testing.assert_allclose(decode(representation, encode(representation, audio), 100), audio[:, :100], atol=1e-4)


def test_no_ceiling_is_measured_where_nothing_is_lost():
    assert resynthesis(ComplexStft(StftSpec(64, 16), channels=2), 2, noise(3, 333)) is None


# --- how many numbers


@by_name(ALL)
def test_numbers_a_sample_are_as_counted(representation):
    audio = noise(2, 333)
    assert representation.dimension_ratio(333) == encode(representation, audio).size / audio.size


def test_numbers_a_sample_of_long_clips_are_those_of_the_sizes():
    """An STFT has fft / hop times the samples but for its odd bin, an MDCT as many, HiFi-GAN's mel 80 / 256."""
    length = 2**20
    hifigan = MelSpec(rate_hz=22050, stft=StftSpec(1024, 256), bands=80, fmax_hz=8000.0)
    for representation, ratio in (
        (ComplexStft(StftSpec(512, 128), channels=2), 4),
        (Mdct(MdctSpec(512), channels=2), 1),
        (LogMel(hifigan, GriffinLim(hifigan)), 0.3125),
    ):
        assert representation.dimension_ratio(length) == pytest.approx(ratio, rel=5e-3)


# --- the power law


@pytest.mark.parametrize("exponent", [0.3, 0.5, 2.0])
def test_the_power_law_bends_magnitudes_and_keeps_phases(exponent):
    x = noise(100) + 1j * noise(100, seed=1)
    bent = np.asarray(power_law(x, exponent))
    np.testing.assert_allclose(np.abs(bent), np.abs(x) ** exponent, rtol=1e-5)
    np.testing.assert_allclose(np.angle(bent), np.angle(x), atol=1e-5)
    np.testing.assert_allclose(power_law(x.real, exponent), np.sign(x.real) * np.abs(x.real) ** exponent, rtol=1e-5)
    assert np.isnan(power_law(jnp.array(np.nan), exponent))


@pytest.mark.parametrize("exponent", [0.0, -0.5, 1.5, np.nan])
def test_a_power_that_does_not_compress_is_refused(exponent):
    for make in (lambda: ComplexStft(StftSpec(64, 16), exponent), lambda: Mdct(MdctSpec(64), exponent)):
        with pytest.raises(ValueError, match=r"exponent is .*; it must be above 0 and at most 1, such as 0\.5"):
            make()


# --- gradients


@by_name(ALL)
def test_gradients_are_those_of_finite_differences_and_finite_at_silence(representation):
    """Through decode along ten directions in float64, phase recovery and inversion of the mel included."""
    step = 1e-6
    with jax.enable_x64(True):
        weights = noise(100, seed=1).astype(np.float64)

        @functools.partial(jax.jit, compiler_options=QUICK)
        @functools.partial(jax.grad, argnums=(0, 1))
        def slopes(x, audio):
            return jnp.sin(representation.decode(x, None, 100)[0]) @ weights + jnp.sum(representation.encode(audio))

        audio = noise(20, 100).astype(np.float64)
        x = encode(representation, audio)
        gradient = slopes(x[:1], audio[:1])[0][0]
        directions = noise(10, *x.shape[1:], seed=2).astype(np.float64)
        ends = np.asarray(decode(representation, x[:1] + step * np.concatenate([directions, -directions]), 100))
        differences = (np.sin(ends[:10]) - np.sin(ends[10:])) @ weights / (2 * step)
        np.testing.assert_allclose(np.tensordot(directions, gradient, 3), differences, rtol=1e-5)

        silence = encode(representation, 0 * audio)
        for slope in slopes(silence[:1], 0 * audio[:1]):
            assert np.isfinite(slope).all()


# --- what is bad


@by_name(ALL)
def test_a_bad_sample_spoils_its_own_clip_alone(representation):
    audio = noise(2, 333)
    audio[1, 200] = np.nan
    x = encode(representation, audio)
    back = decode(representation, x, 333)
    assert np.isnan(x[1]).any() and np.isnan(back[1]).any()
    assert np.isfinite(x[0]).all() and np.isfinite(back[0]).all()


@pytest.mark.parametrize(
    ("shape", "channels", "message"),
    [
        ((2, 100), 2, "the audio has 1 channels, the model 2: mix or configure it so"),
        ((2, 100, 3), 1, "the audio has 3 channels, the model 1: mix or configure it so"),
        ((100,), 1, r"the audio has the shape \(100,\): give \[batch, time\] or \[batch, time, channel\]"),
        ((2, 0), 1, r"audio of shape \(2, 1, 0\) holds no samples"),
    ],
)
def test_other_audio_is_refused(shape, channels, message):
    for representation in (ComplexStft(StftSpec(64, 16), channels=channels), Mdct(MdctSpec(64), channels=channels)):
        with pytest.raises(ValueError, match=message):
            representation.encode(np.zeros(shape, np.float32))


@pytest.mark.parametrize("shape", [(1, 0, 33, 2), (1, 7, 33, 2), (1, 8, 32, 2), (1, 8, 33, 1), (1, 8, 66)])
def test_an_x_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"length_samples 100 needs \[batch, 8 or more, 33, 2\]: give x of this"):
        ComplexStft(StftSpec(64, 16)).decode(jnp.zeros(shape), None, 100)


@by_name(ALL)
def test_narrow_samples_and_narrow_x_are_widened(representation):
    x = jax.eval_shape(representation.encode, jnp.zeros((1, 64), "bfloat16"))
    audio = jax.eval_shape(lambda x: representation.decode(x, None, 64), jnp.zeros(x.shape, "bfloat16"))
    assert x.dtype == audio.dtype == np.float32


# --- diffusion


class Neighbours:
    """A network that hears of each number the one before it in frame and in bin: enough to have gradients."""

    def encode(self, params, conditions, present=None):
        return {}

    def __call__(self, params, x, noise_condition, conditions):
        first, second, third = params["weights"]
        heard = jnp.tanh(first * jnp.roll(x, 1, axis=1) + second * jnp.roll(x, 1, axis=2))
        return heard + third * noise_condition[:, None, None, None]


class Nothing(Neighbours):
    """The best network for white Gaussian data of standard deviation sigma_data."""

    def __call__(self, params, x, noise_condition, conditions):
        return jnp.zeros_like(x)


def objective(representation, network, sigma_data=0.5):
    return DiffusionObjective(network, FixedLevels((0.5,)), sigma_data, 2, representation, bands=3)


@functools.partial(jax.jit, static_argnames="length", compiler_options=QUICK)
def draw(objective, params, keys, grid, length):
    return generate(objective, params, keys, {}, grid, {}, sampler=samplers.euler, length_samples=length, guided=False)


def drawn(objective, params, count, length):
    sigma = np.append(np.geomspace(40.0, 0.01, 300), 0.0).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(draw(objective, params, keys, Level(np.ones_like(sigma), sigma), length))


@by_name({name: ALL[name] for name in ("compressed STFT", "log-mel")})
def test_the_same_objective_and_sampler_train_and_generate_all(representation):
    model = objective(representation, Neighbours())
    batch = {"audio": noise(2, 100), "draw": np.arange(2, dtype=np.int32)}
    params = {"network": {"weights": np.arange(1, 4, dtype=np.float32)}}

    @functools.partial(jax.jit, compiler_options=QUICK)
    def slope(model, params):
        def mean_loss(params):
            loss, measurements = model(params, Context(jax.random.key(1), jnp.zeros((), jnp.int32)), batch)
            return jnp.mean(loss), measurements

        return jax.grad(mean_loss, has_aux=True)(params)

    gradient, measurements = slope(model, params)
    weights = np.asarray(gradient["network"]["weights"])
    assert np.isfinite(weights).all() and (weights != 0).all()
    assert all(np.isfinite(measurements[f"band/{k}"]).all() for k in range(3))
    clips = drawn(model, params, 2, 100)
    assert clips.shape == (2, 100)
    assert np.isfinite(clips).all() and np.abs(clips[0] - clips[1]).max() > 0


@pytest.mark.parametrize("representation", [Waveform(), Mdct(MdctSpec(64))], ids=["waveform", "MDCT"])
def test_where_the_transform_is_orthonormal_white_data_are_generated_white(representation):
    """The sampler of an exact denoiser of N(0, s^2) must end there: in x and, the MDCT being a rotation, in audio."""
    clips = drawn(objective(representation, Nothing()), {"network": {}}, 4, 4096)
    power = np.abs(np.fft.rfft(clips)) ** 2 / 4096
    assert clips.std() == pytest.approx(0.5, rel=0.03)
    for band in np.array_split(power, 4, axis=1):
        assert band.mean() == pytest.approx(0.25, rel=0.1)
