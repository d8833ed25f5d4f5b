"""Hold the objective against closed forms, by networks that are plain functions: exact ones, and ones that show."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from audiodiff.diffusion import weightings
from audiodiff.diffusion.levels import LogNormal, LogUniform, UniformTime
from audiodiff.diffusion.parameterisations import EDM, EPS, X0, V
from audiodiff.diffusion.processes import RectifiedFlow, VpCosine
from audiodiff.dsp import MultiResolutionSpec, StftSpec
from audiodiff.dsp.mdct import MdctSpec
from audiodiff.hierarchy.told import ConditionNoise
from audiodiff.objectives.diffusion import NOISE_EDGES, AudioLoss, DiffusionObjective
from audiodiff.representations import ComplexStft, Mdct
from audiodiff.types import Context, Level

RNG = np.random.default_rng(0)
MEAN, DEVIATION, SIGMA_DATA = 0.3, 0.6, 0.8
"""Of the data, which are Gaussian, and what the objective is told: it need not be right."""


class Stub:
    """A network without parameters, made of one function of (x, c_noise, encoded conditions)."""

    def __init__(self, function, encode=lambda conditions, present: dict(conditions)):
        self.function, self.encode_raw = function, encode

    def init(self, key, x, conditions):
        return {"key": jax.random.key_data(key)}

    def encode(self, params, conditions, present=None):
        return self.encode_raw(conditions, present)

    def __call__(self, params, x, noise_condition, conditions):
        return self.function(x, noise_condition[:, None, None], conditions)


def level_as_estimate(x, c_noise, conditions):
    """Say c_noise everywhere: with the x0 parameterisation and silence as data, the loss is its square."""
    return jnp.broadcast_to(c_noise, x.shape)


def wavy(x, c_noise, conditions):
    """Be some nonlinear function of all that a network is given."""
    return jnp.sin(3 * x + c_noise) + sum(jnp.cos(value)[:, None, None] for value in conditions.values())


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class OneLevel:
    alpha: float
    sigma: float

    def __call__(self, u):
        return Level(self.alpha + 0 * u, self.sigma + 0 * u)


def objective(function, **options):
    defaults = {"levels": LogUniform(0.1, 10.0), "sigma_data": SIGMA_DATA, "strata": 64, "drop_probability": 0.0}
    encode = options.pop("encode", None)
    return DiffusionObjective(Stub(function, *([encode] if encode else [])), **{**defaults, **options})


def showing_levels(**options):
    return objective(
        level_as_estimate, parameterisation=X0, weighting=weightings.Uniform(X0), sigma_data=1.0, **options
    )


def silence(count, time=4):
    return {"audio": np.zeros((count, time), np.float32), "draw": np.arange(count, dtype=np.int32)}


def sound(count, time=64):
    return silence(count) | {"audio": RNG.normal(MEAN, DEVIATION, (count, time)).astype(np.float32)}


@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # which compiles faster
def run(objective, params, key, batch):
    return objective(params, Context(key, jnp.zeros((), jnp.int32)), batch)


def call(objective, batch, seed=0, params=None):
    loss, measurements = run(objective, {"network": {}} if params is None else params, jax.random.key(seed), batch)
    return np.asarray(loss), {name: np.asarray(value) for name, value in measurements.items()}


# --- the loss


def optimum(name):
    """Return the best network for N(MEAN, DEVIATION^2): Karras et al. 2022, table 1, inverted around the exact D."""

    def network(scaled, c_noise, conditions):
        sigma = jnp.exp(4 * c_noise)
        x = scaled * jnp.sqrt(SIGMA_DATA**2 + sigma**2)
        x0 = MEAN + DEVIATION**2 / (DEVIATION**2 + sigma**2) * (x - MEAN)
        eps = (x - x0) / sigma
        if name == "edm":
            c_skip = SIGMA_DATA**2 / (sigma**2 + SIGMA_DATA**2)
            return (x0 - c_skip * x) / (sigma * SIGMA_DATA / jnp.sqrt(sigma**2 + SIGMA_DATA**2))
        return {"eps": eps, "x0": x0, "v": (eps - sigma * x0) / jnp.sqrt(1 + sigma**2)}[name]

    return network


def least_loss(sigma):
    """Return EDM's weight times the variance that x_t = x_0 + sigma eps leaves of x_0."""
    weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
    return weight * DEVIATION**2 * sigma**2 / (DEVIATION**2 + sigma**2)


@pytest.mark.parametrize("parameterisation", [EDM, EPS, X0, V], ids=lambda row: row.name)
def test_the_exact_network_has_the_least_possible_loss_at_every_level(parameterisation):
    ratios = (0.05, 0.3, 1.0, 4.0)
    exact = objective(optimum(parameterisation.name), parameterisation=parameterisation).fixed(ratios)
    loss, measurements = call(exact, sound(40, 4096))
    expected = least_loss(np.array(ratios) * SIGMA_DATA)
    np.testing.assert_allclose(loss.reshape(10, 4).mean(axis=0), expected, rtol=0.04)
    np.testing.assert_array_equal(measurements["mse"], loss)


@pytest.mark.parametrize(
    "levels, density",
    [
        (LogNormal(-0.4, 1.0), stats.norm(-0.4, 1.0)),
        (LogNormal(-0.4, 1.0, VpCosine()), stats.norm(-0.4, 1.0)),
        (UniformTime(RectifiedFlow(), 0.02, 0.9), None),
    ],
    ids=["EDM", "the same levels on another curve", "flow"],
)
def test_the_expected_loss_is_the_integral_over_the_levels(levels, density):
    """Independent of the scale in which the process writes x_t."""
    exact = objective(optimum("edm"), levels=levels, strata=64)
    if density is None:
        expected = integrate.quad(lambda t: least_loss(t / (1 - t)), 0.02, 0.9)[0] / 0.88
    else:
        expected = integrate.quad(lambda s: density.pdf(s) * least_loss(np.exp(s)), -6, 5)[0]
    loss, _ = call(exact, sound(64, 2048))
    np.testing.assert_allclose(loss.mean(), expected, rtol=0.03)


def test_data_as_they_were_said_to_be_cost_one_at_every_level():
    """With N(0, sigma_data^2) nothing is left to learn, F = 0, and EDM's weight makes that a loss of 1."""
    batch = sound(36, 4096)
    batch["audio"] = (batch["audio"] - MEAN) / DEVIATION * SIGMA_DATA
    loss, _ = call(objective(lambda x, c_noise, conditions: jnp.zeros_like(x)).fixed((0.01, 0.5, 20.0)), batch)
    np.testing.assert_allclose(loss.reshape(12, 3).mean(axis=0), 1, rtol=0.03)


# --- randomness


def test_an_example_costs_the_same_wherever_it_stands_in_whatever_batch():
    wave = objective(wavy, conditions=("pitch",), drop_probability=0.5, bands=2)
    batch = sound(8) | {"pitch": RNG.normal(size=8).astype(np.float32)}
    loss, measurements = call(wave, batch)
    assert len(set(loss.tolist())) == 8

    order = RNG.permutation(8)
    permuted, permuted_measurements = call(wave, {name: value[order] for name, value in batch.items()})
    np.testing.assert_allclose(permuted, loss[order], rtol=1e-6)
    for name, value in measurements.items():
        np.testing.assert_allclose(permuted_measurements[name], value[order], rtol=1e-6)

    halves = [call(wave, {name: value[part] for name, value in batch.items()})[0] for part in (slice(4), slice(4, 8))]
    np.testing.assert_allclose(np.concatenate(halves), loss, rtol=1e-6)


def test_another_draw_and_another_step_are_other_noise():
    wave, batch = objective(wavy, strata=1), sound(1)
    again, moved = batch | {"audio": batch["audio"].copy()}, batch | {"draw": np.array([1], np.int32)}
    costs = [float(call(wave, one, seed)[0][0]) for one, seed in ((batch, 0), (again, 0), (moved, 0), (batch, 1))]
    assert costs[0] == costs[1]
    assert len(set(costs)) == 3


def test_levels_are_one_to_a_stratum_of_the_global_batch():
    """Any 16 successive draws, in any order and split over devices, have one level in every sixteenth."""
    shown = showing_levels(levels=LogUniform(0.1, 10.0), strata=16)
    batch = silence(16)
    batch["draw"] = RNG.permutation(np.arange(37, 53, dtype=np.int32))
    positions = []
    for seed in range(5):
        loss, _ = call(shown, batch, seed)
        c_noise = np.sqrt(loss) * np.sign(batch["draw"] % 16 - 7.5)  # the sign is lost in the square
        u = (4 * c_noise - np.log(0.1)) / np.log(100)
        np.testing.assert_array_equal(np.floor(u * 16), batch["draw"] % 16)
        positions.append(float(u[0] * 16 % 1))
        np.testing.assert_allclose(u * 16 % 1, positions[-1], atol=1e-3)
    assert np.ptp(positions) > 0.1  # and the comb moves from step to step


# --- conditions


def flags(names):
    """Encode conditions as whether they are there; show them as the digits of a binary number."""

    def encode(conditions, present):
        return {name: jnp.where(present[name], conditions[name], 0.0) for name in names}

    def show(x, c_noise, conditions):
        value = sum(2.0**place * conditions[name] for place, name in enumerate(names))
        return jnp.broadcast_to(value[:, None, None], x.shape)

    return show, encode


def dropped(count, probability, together, seed=0):
    """Return which of two conditions were left in, as 0 .. 3 [count]."""
    show, encode = flags(("digit", "speaker"))
    shown = objective(
        show,
        encode=encode,
        parameterisation=X0,
        weighting=weightings.Uniform(X0),
        conditions=("digit", "speaker"),
        drop_probability=probability,
        drop_together=together,
    )
    batch = silence(count) | {"digit": np.ones(count, np.float32), "speaker": np.ones(count, np.float32)}
    return np.rint(np.sqrt(call(shown, batch, seed)[0])).astype(int)


@pytest.mark.parametrize("together, shares", [(True, [0.3, 0, 0, 0.7]), (False, [0.09, 0.21, 0.21, 0.49])])
def test_conditions_are_dropped_as_often_as_asked(together, shares):
    count = 4000
    counted = np.bincount(dropped(count, 0.3, together), minlength=4)
    for found, share in zip(counted, shares, strict=True):
        assert stats.binomtest(int(found), count, share).pvalue > 1e-4


@pytest.mark.parametrize("probability, left", [(0.0, 3), (1.0, 0)])
def test_never_and_always_are_what_they_say(probability, left):
    assert (dropped(200, probability, together=False) == left).all()


def test_a_condition_the_model_does_not_take_is_not_passed_on():
    seen = []
    model = objective(
        wavy, conditions=("pitch",), encode=lambda raw, present: seen.append((set(raw), set(present))) or {}
    )
    call(model, sound(2) | {"pitch": np.zeros(2), "digit": np.zeros(2)})
    assert seen == [({"pitch"}, {"pitch"})]


def telling(names, **options):
    """Return an objective that records what its network is told, and puts out nothing."""
    seen = []

    def encode(raw, present):
        jax.debug.callback(lambda *given: seen.append(given), dict(raw), dict(present))
        return {}

    model = objective(lambda x, c_noise, conditions: 0 * x, encode=encode, conditions=names, **options)

    def told(batch, seed=0):
        seen.clear()
        call(model, batch, seed)
        jax.effects_barrier()
        return tuple({name: np.asarray(value) for name, value in given.items()} for given in seen[-1])

    return model, told


@pytest.mark.parametrize("together", [True, False])
def test_what_is_kept_is_never_dropped_and_the_others_are_as_before(together):
    count = 200
    batch = silence(count) | {"digit": np.ones(count, np.float32), "coarse": np.ones(count, np.float32)}
    options = {"drop_probability": 0.5, "drop_together": together}
    _, told = telling(("digit", "coarse"), kept=("coarse",), **options)
    _, without = telling(("digit",), **options)
    present = told(batch)[1]
    assert set(present) == {"digit"}
    assert 0 < present["digit"].sum() < count
    np.testing.assert_array_equal(present["digit"], without(batch)[1]["digit"])


def test_the_null_keeps_what_is_kept():
    show = objective(wavy, conditions=("digit", "coarse"), kept=("coarse",), encode=lambda raw, present: present)
    present = show.null({"network": {}}, {"digit": jnp.zeros(3), "coarse": jnp.zeros((3, 5, 1))})
    assert {name: np.asarray(value).tolist() for name, value in present.items()} == {
        "digit": [False] * 3,
        "coarse": [True] * 3,
    }


HIDDEN = (ConditionNoise("coarse", 0.2, 0.5, 1.5), ConditionNoise("mel", 0.0, 1.0, 0.5))


def noisy():
    """Return an objective with two conditions under noise, made of the clip, and what tells what its network hears."""
    names = ("coarse", "coarse_noise", "mel", "mel_noise")
    derived = (("coarse", lambda audio: audio[:, ::2, None]), ("mel", lambda audio: audio[:, :7, None]))
    return telling(names, derived=derived, noise=HIDDEN, kept=names)


def test_strengths_are_drawn_per_example_within_their_bounds_and_told_with_the_noise_they_make():
    model, told = noisy()
    batch = sound(64)
    heard, present = told(batch)
    assert present == {}
    for noise in HIDDEN:
        strength = heard[noise.strength]
        assert strength.shape == (64,) and len(np.unique(strength)) == 64
        assert strength.min() >= 0 and 0.9 * noise.largest < strength.max() <= noise.largest
    clean = model.raw_conditions(batch)["coarse"]
    assert np.asarray(model.raw_conditions(batch)["coarse_noise"]).tolist() == [0.0] * 64
    # What was added is Gaussian of the deviation that the strength says.
    grown = np.sqrt(1 + heard["coarse_noise"] ** 2)[:, None, None]
    added = ((heard["coarse"] - 0.2) * grown - (clean - 0.2)) / (heard["coarse_noise"][:, None, None] * 0.5)
    assert stats.kstest(added.ravel(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(heard["coarse_noise"], heard["mel_noise"])[0, 1]) < 0.4, "each has its own"


def test_the_noise_of_a_condition_belongs_to_the_draw_and_not_to_the_batch():
    _, told = noisy()
    batch = sound(6)
    whole, again = told(batch)[0], told(batch)[0]
    picked = {name: value[[4, 1]] for name, value in batch.items()}
    part, other_step = told(picked)[0], told(batch, seed=1)[0]
    for name, value in whole.items():
        np.testing.assert_array_equal(again[name], value)
        np.testing.assert_allclose(part[name], value[[4, 1]], atol=1e-6)
        assert np.abs(other_step[name] - value).reshape(6, -1).max(axis=1).min() > 1e-4


def test_conditions_are_hidden_as_far_as_they_say_and_no_farther():
    """Of the same keys two conditions get noise of their own, and strength 0 none; sampling calls this directly."""
    model, _ = noisy()
    twice = np.tile(sound(1)["audio"], (3, 1))[:, :32, None]
    raw = {
        "coarse": twice,
        "mel": twice,
        "coarse_noise": jnp.array([0.0, 1.0, 1.0]),
        "mel_noise": jnp.array([0, 1, 0.5]),
    }
    hidden = model.hide(raw, jax.random.split(jax.random.key(0), 3))
    for name in ("coarse", "mel"):
        np.testing.assert_allclose(hidden[name][0], twice[0], atol=1e-6)
        assert np.abs(hidden[name][1:] - twice[1:]).max(axis=(1, 2)).min() > 0.1
        np.testing.assert_array_equal(hidden[name + "_noise"], raw[name + "_noise"])
    added = [np.ravel(hidden[noise.name][1] * np.sqrt(2) - twice[1]) for noise in HIDDEN]
    assert abs(np.corrcoef(*added)[0, 1]) < 0.6


# --- measurements


def finite_bins(measurements):
    """Return the values of the noise bins [bin, batch], from the cleanest to the noisiest."""
    return np.stack([value for name, value in measurements.items() if name.startswith("noise/")])


def test_every_loss_is_in_exactly_one_bin_of_its_noise():
    _, measurements = call(objective(wavy, levels=LogUniform(1e-4, 1e3)), sound(64))
    bins = finite_bins(measurements)
    assert bins.shape[0] == len(NOISE_EDGES) + 1
    np.testing.assert_array_equal(np.isfinite(bins).sum(axis=0), 1)
    np.testing.assert_array_equal(np.nansum(bins, axis=0), measurements["mse"])
    assert np.isfinite(bins).any(axis=1).all()


def test_bins_are_of_noise_over_data_whatever_the_scale_of_either():
    """Levels between the edges and on them, where rounding must not tell: the bin above, for any sigma_data."""
    edges, between = np.float32(NOISE_EDGES), (0.01, 0.05, 0.2, 0.6, 2.0, 9.0)
    candidates = np.random.default_rng(5).uniform(0.01, 1.0, 100).astype(np.float32)
    rounded_down = [float(one) for one in candidates if (edges * one / one < edges).sum() > 1]
    for sigma_data in (0.04, rounded_down[0]):
        fixed = objective(wavy, sigma_data=sigma_data).fixed((*between, *NOISE_EDGES))
        bins = finite_bins(call(fixed, sound(11, 8))[1])
        np.testing.assert_array_equal(np.argmax(np.isfinite(bins), axis=0), [0, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5])


def test_pure_noise_is_in_the_last_bin():
    nothing_left = objective(wavy, levels=OneLevel(0.0, 1.0))
    bins = finite_bins(call(nothing_left, sound(2))[1])
    assert np.isfinite(bins[-1]).all()
    assert np.isnan(bins[:-1]).all()


def lowpass(x, c_noise, conditions):
    spectrum = jnp.fft.rfft(x, axis=1)
    return jnp.fft.irfft(spectrum.at[:, spectrum.shape[1] // 2 :].set(0), x.shape[1], axis=1)


@pytest.mark.parametrize(
    "function, shares",
    [
        (lambda x, c_noise, conditions: jnp.zeros_like(x), [1, 1, 1, 1]),
        (lambda x, c_noise, conditions: x / 2, [0.25, 0.25, 0.25, 0.25]),
        (lowpass, [0, 0, 1, 1]),
    ],
    ids=["silence", "half of it", "low-pass"],
)
def test_bands_tell_where_the_error_lies_as_a_share_of_the_signal(function, shares):
    """The network sees x_0 itself, there being next to no noise, and the signal is louder in some bands than others."""
    network = objective(function, parameterisation=X0, sigma_data=1.0, levels=OneLevel(1.0, 1e-6), bands=4)
    batch = sound(3, 255)
    batch["audio"] = np.cumsum(batch["audio"] - MEAN, axis=1).astype(np.float32)
    measurements = call(network, batch)[1]
    for k, share in enumerate(shares):
        np.testing.assert_allclose(measurements[f"band/{k}"], np.full(3, share), atol=1e-3)
    assert np.isnan(call(network, silence(3, 255))[1]["band/0"]).all()


# --- options


def test_masked_padding_neither_counts_nor_dilutes():
    """The error is -x_0 here, so the loss is the power of the sound: of what is inside, or of all."""
    zero = objective(
        lambda x, c_noise, conditions: jnp.zeros_like(x), parameterisation=X0, weighting=weightings.Uniform(X0)
    )
    batch = sound(3, 50) | {"length": np.array([50, 20, 1], np.int32)}
    power = np.square(batch["audio"])
    np.testing.assert_allclose(call(zero, batch)[0], power.mean(axis=1), rtol=1e-5)
    masked = dataclasses.replace(zero, mask_padding=True)
    inside = [one[:length].mean() for one, length in zip(power, batch["length"], strict=True)]
    np.testing.assert_allclose(call(masked, batch)[0], inside, rtol=1e-5)
    louder = batch["audio"] + 9 * (np.arange(50) >= batch["length"][:, None]).astype(np.float32)
    np.testing.assert_allclose(call(masked, batch | {"audio": louder})[0], inside, rtol=1e-5)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Doubled:
    """A prior of twice the noise where the condition "gain" is 1, and of four times where it is 2."""

    def whiten(self, x, conditions):
        return x / 2 ** conditions["gain"][:, None, None]

    def colour(self, z, conditions):
        return z * 2 ** conditions["gain"][:, None, None]


def test_what_is_derived_from_the_clip_reaches_network_and_prior_and_the_loss_is_of_whitened_sound():
    """The network puts out its condition, the clip's own peak; the prior divides the clip by a power of two."""
    model = objective(
        lambda x, c_noise, conditions: jnp.broadcast_to(conditions["peak"][:, None, None], x.shape),
        parameterisation=X0,
        weighting=weightings.Uniform(X0),
        conditions=("gain", "peak"),
        derived=(("peak", lambda audio: jnp.abs(audio).max(axis=1)),),
        prior=Doubled(),
    )
    batch = sound(3, 50) | {"gain": np.array([0.0, 1.0, 2.0], np.float32)}
    audio = batch["audio"]
    whitened = audio / np.array([[1], [2], [4]])
    expected = np.square(whitened - np.abs(audio).max(1, keepdims=True)).mean(1)
    np.testing.assert_allclose(call(model, batch)[0], expected, rtol=1e-5)
    raw = model.raw_conditions(batch)
    np.testing.assert_allclose(model.decode(model.encode(audio, raw), raw, 50), audio, rtol=1e-6)


def test_the_audio_loss_is_of_the_decoded_estimate_and_counts_below_its_level_alone():
    """The estimate is the clip's tenth: 20 dB off at every frequency, whatever the noise."""
    loss = AudioLoss(0.5, 1.0, MultiResolutionSpec((StftSpec(32, 8),), power_floor=1e-12))
    for sigma, counts in ((0.5, 1.0), (2.0, 0.0)):
        model = objective(
            lambda x, c_noise, conditions: conditions["clip"][:, :, None] / 10,
            parameterisation=X0,
            sigma_data=1.0,
            levels=OneLevel(1.0, sigma),
            conditions=("clip",),
            derived=(("clip", lambda audio: audio),),
            audio_loss=loss,
        )
        without = dataclasses.replace(model, audio_loss=None)
        batch = sound(3, 200)
        (whole, measured), (alone, _) = call(model, batch), call(without, batch)
        # Spectral convergence of a tenth is 0.9, and the log-magnitudes are ln 10 apart.
        np.testing.assert_allclose(measured["audio"], np.full(3, counts * 0.5 * (0.9 + np.log(10))), rtol=1e-3)
        np.testing.assert_allclose(whole, alone + measured["audio"], rtol=1e-6)


# --- spectra, [batch, frame, bin, channel]


SPECTRA = {"STFT": ComplexStft(StftSpec(32, 8)), "MDCT": Mdct(MdctSpec(32))}


def silent_estimate(representation, **options):
    """Return the objective whose loss is the mean square of x_0."""
    return objective(
        lambda x, c_noise, conditions: jnp.zeros_like(x),
        parameterisation=X0,
        weighting=weightings.Uniform(X0),
        representation=representation,
        **options,
    )


@pytest.mark.parametrize("representation", SPECTRA.values(), ids=SPECTRA.keys())
def test_the_loss_of_a_clip_among_padding_is_that_of_the_clip_alone_where_padding_is_masked(representation):
    """And else that of the whole spectrogram, a mean over frames, bins and planes."""
    batch = sound(2, 100) | {"length": np.array([45, 45], np.int32)}
    batch["audio"][:, 45:] = 0
    alone = call(silent_estimate(representation), batch | {"audio": batch["audio"][:, :45]})[0]
    np.testing.assert_allclose(call(silent_estimate(representation, mask_padding=True), batch)[0], alone, rtol=1e-5)
    x0 = np.asarray(jax.jit(representation.encode)(batch["audio"]))
    np.testing.assert_allclose(
        call(silent_estimate(representation), batch)[0], np.square(x0).reshape(2, -1).mean(axis=1), rtol=1e-5
    )


def test_bands_of_a_spectrum_are_its_bins():
    """All that is above a quarter of the rate is lost, and half of the amplitude below."""

    def low_half(x, c_noise, conditions):
        return x / 2 * (jnp.arange(x.shape[2]) < 8)[:, None]

    model = objective(low_half, parameterisation=X0, sigma_data=1.0, levels=OneLevel(1.0, 1e-6), bands=4)
    model = dataclasses.replace(model, representation=SPECTRA["MDCT"])
    measurements = call(model, sound(2, 100))[1]
    for k, share in enumerate((0.25, 0.25, 1, 1)):
        np.testing.assert_allclose(measurements[f"band/{k}"], np.full(2, share), atol=1e-3)


# --- what is learnt, and what is fixed


def test_learned_uncertainty_begins_as_the_plain_loss_and_is_least_at_its_logarithm():
    plain = objective(wavy).fixed((0.5,))
    learned = dataclasses.replace(plain, learned_uncertainty=True)
    batch = sound(6)
    params = learned.init(jax.random.key(0), batch)
    assert set(params) == {"network", "uncertainty"}
    assert set(plain.init(jax.random.key(0), batch)) == {"network"}
    expected, _ = call(plain, batch)
    loss, measurements = call(learned, batch, params=params)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)

    def by_bias(bias):
        changed = params["uncertainty"]["output"] | {"bias": bias[None]}
        context = Context(jax.random.key(0), 0)
        return jnp.mean(learned({**params, "uncertainty": {"output": changed}}, context, batch)[0])

    slope = jax.jit(jax.grad(by_bias))
    best = float(np.log(expected.mean()))
    assert abs(slope(jnp.float32(best))) < 1e-5
    assert slope(jnp.float32(best - 1)) < -0.1 < 0.1 < slope(jnp.float32(best + 1))
    np.testing.assert_array_equal(measurements["mse"], expected)  # what is reported stays comparable


def test_fixed_levels_and_their_noise_are_the_same_at_every_call_and_nothing_is_dropped():
    ratios = (0.01, 0.3, 7.0)
    shown = dataclasses.replace(showing_levels(), sigma_data=0.25).fixed(ratios)
    loss, _ = call(shown, silence(9))
    sigma = np.exp(4 * np.sqrt(loss) * np.sign(np.log(np.array(ratios * 3) * 0.25)))
    np.testing.assert_allclose(sigma, np.array(ratios * 3) * 0.25, rtol=1e-3)
    wave = objective(wavy, drop_probability=1.0, conditions=("pitch",)).fixed(ratios)
    batch = sound(9) | {"pitch": np.arange(9, dtype=np.float32)}
    np.testing.assert_array_equal(call(wave, batch)[0], call(wave, batch)[0])
    assert wave.drop_probability == 0


def test_initial_parameters_depend_on_the_key_alone():
    plain = objective(wavy)
    one, same = (plain.init(jax.random.key(3), batch)["network"]["key"] for batch in (sound(2), silence(5)))
    np.testing.assert_array_equal(one, same)
    assert (np.asarray(plain.init(jax.random.key(4), sound(2))["network"]["key"]) != one).any()
