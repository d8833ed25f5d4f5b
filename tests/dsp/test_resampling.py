"""Hold the resampler against closed forms, soxr and scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import soxr
from jax.test_util import check_grads

from audiodiff import dsp

resample = jax.jit(dsp.resample, static_argnums=(1, 2))
RATES = [(8000, 16000), (16000, 8000), (22050, 16000), (8000, 22050)]


def _tone(frequency_hz, rate_hz, samples):
    return np.cos(2 * np.pi * frequency_hz * np.arange(samples) / rate_hz + 0.4)


def _inside(y, rate_hz):
    """Drop 25 ms at both ends, where the clip's edges ring."""
    return y[..., rate_hz // 40 : -rate_hz // 40]


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9])
def test_pass_band_tones_are_the_same_tones_at_the_new_rate(rate_in, rate_out, fraction):
    frequency = fraction * min(rate_in, rate_out) / 2
    n = rate_in // 8
    with jax.enable_x64(True):
        y = np.asarray(resample(_tone(frequency, rate_in, n), rate_in, rate_out))
    expected = _tone(frequency, rate_out, len(y))
    assert np.abs(_inside(y - expected, rate_out)).max() < 10 ** (-90 / 20)


@pytest.mark.parametrize(("rate_in", "rate_out"), [(16000, 8000), (22050, 16000)])
@pytest.mark.parametrize("fraction", [1.0, 1.2])
def test_tones_above_the_new_half_rate_are_rejected(rate_in, rate_out, fraction):
    """They would appear at their alias; scipy's default lets the first through at -10 dB."""
    y = resample(_tone(fraction * rate_out / 2, rate_in, rate_in // 8).astype(np.float32), rate_in, rate_out)
    assert np.abs(_inside(y, rate_out)).max() < 10 ** (-90 / 20)


def test_images_of_a_low_tone_are_rejected():
    """Doubling the rate must not leave the mirror image of 3.5 kHz at 4.5 kHz."""
    n = 2000
    y = np.asarray(resample(_tone(3500, 8000, n).astype(np.float32), 8000, 16000))[500:-500]
    spectrum = np.abs(np.fft.rfft(y * scipy.signal.windows.blackmanharris(len(y))))
    hz = np.fft.rfftfreq(len(y), 1 / 16000)
    assert spectrum[hz > 4000].max() < 1e-4 * spectrum.max()


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
def test_band_limited_noise_equals_soxr_and_scipy(rate_in, rate_out):
    noise = np.random.default_rng(0).normal(size=4001)
    edge = 0.8 * min(rate_in, rate_out) / rate_in
    x = scipy.signal.sosfiltfilt(scipy.signal.cheby2(16, 110, edge, output="sos"), noise)
    with jax.enable_x64(True):
        ours = np.asarray(resample(x, rate_in, rate_out))
    theirs = soxr.resample(x, rate_in, rate_out, quality="VHQ")
    divisor = np.gcd(rate_in, rate_out)
    scipys = scipy.signal.resample_poly(x, rate_out // divisor, rate_in // divisor, window=("kaiser", 12.0))
    inside = slice(rate_out // 40, min(len(ours), len(theirs)) - rate_out // 40)
    scale = np.sqrt(np.mean(ours[inside] ** 2))
    assert np.abs(ours[inside] - theirs[inside]).max() < 1e-4 * scale
    # scipy's filter is short and half way down at the edge itself: looser, but an independent witness.
    assert np.sqrt(np.mean((ours[inside] - scipys[inside]) ** 2)) < 3e-2 * scale


@pytest.mark.parametrize("samples", [1, 2, 7, 100, 101])
@pytest.mark.parametrize(("rate_in", "rate_out"), [(3, 2), (2, 3), (1, 4), (4, 1), (5, 5)])
def test_length_is_the_ceiling_and_leading_axes_stay(samples, rate_in, rate_out):
    y = jax.eval_shape(lambda x: dsp.resample(x, rate_in, rate_out), jnp.zeros((2, 3, samples)))
    assert y.shape == (2, 3, int(np.ceil(samples * rate_out / rate_in)))


def test_constants_and_batches():
    x = np.stack([np.ones(400), np.random.default_rng(0).normal(size=400)]).astype(np.float32)
    y = resample(x, 2, 3)
    np.testing.assert_allclose(y[0, 250:350], 1, atol=1e-6)
    np.testing.assert_allclose(y[1], resample(x[1], 2, 3), atol=1e-6)
    np.testing.assert_array_equal(dsp.resample(x, 5, 5), x)


def test_gradient_equals_finite_differences():
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).normal(size=60))
        check_grads(jax.jit(lambda x: dsp.resample(x, 3, 2)), (x,), order=1, modes=["rev"])


def test_runs_without_jit():
    x = np.random.default_rng(0).normal(size=200).astype(np.float32)
    jitted = resample(x, 3, 2)
    with jax.disable_jit():
        np.testing.assert_allclose(dsp.resample(x, 3, 2), jitted, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 8000), "rate_in_hz is 0; it must be a positive whole number"),
        ((8000, -1), "rate_out_hz is -1; it must be a positive whole number"),
        ((8000.5, 16000), "rate_in_hz is 8000.5; it must be a positive whole number"),
        ((44101, 44100), "rate ratio of 44100/44101 needs .* resample by soxr on the host"),
    ],
)
def test_errors_name_value_and_mend(arguments, message):
    with pytest.raises(ValueError, match=message):
        dsp.resample(jnp.zeros(100), *arguments)


def test_filter_design_limits():
    with pytest.raises(ValueError, match="passband is 1.0; it must lie between 0 and 1"):
        dsp.resample(jnp.zeros(100), 2, 3, passband=1.0)
    with pytest.raises(ValueError, match="attenuation_db is 20; it must be at least 50"):
        dsp.resample(jnp.zeros(100), 2, 3, attenuation_db=20)
