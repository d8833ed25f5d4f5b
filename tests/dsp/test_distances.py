"""Hold spectral distances against torch, auraloss and the properties that define them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from audiodiff import dsp
from audiodiff.dsp import distances

TIME = 2000
SPEC = dsp.StftSpec(256, 64)
BLOCKS = dsp.StftSpec(200, 200, window="rectangular", padding="none")  # frames that share no sample
MEL = dsp.MelSpec(rate_hz=8000, stft=SPEC, bands=32, fmax_hz=4000.0)
SMALL = distances.MultiResolutionSpec((SPEC, dsp.StftSpec(128, 30, 60)), power_floor=1e-8)
FRAMES = distances.MultiResolutionSpec(SMALL.stfts, 1e-8, "frame")
EDGES_HZ = (0.0, 1000.0, 4000.0)
OCTAVES = functools.partial(distances.band_log_spectral_distance, spec=SPEC, rate_hz=8000, edges_hz=EDGES_HZ)

DISTANCES = {
    name: jax.jit(function)
    for name, function in {
        "log-spectral": functools.partial(distances.log_spectral_distance, spec=SPEC),
        "by band": lambda x, y: OCTAVES(x, y).sum(axis=-1),
        "multi-resolution": functools.partial(distances.multi_resolution_stft_distance, spec=SMALL),
        "multi-resolution by frames": functools.partial(distances.multi_resolution_stft_distance, spec=FRAMES),
        "mel": functools.partial(distances.mel_distance, spec=MEL),
        "complex": functools.partial(distances.complex_stft_distance, spec=SPEC),
        "phase": lambda x, y: sum(distances.stft_phase_errors(x, y, SPEC)),
    }.items()
}
every_distance = pytest.mark.parametrize("name", DISTANCES)
phase_errors = jax.jit(functools.partial(distances.stft_phase_errors, spec=SPEC))
log_spectral_distance = jax.jit(distances.log_spectral_distance, static_argnums=2)
stft_terms = jax.jit(distances.multi_resolution_stft_terms, static_argnums=2)


def _noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(scale=0.1, size=shape).astype(np.float32)


@every_distance
def test_equal_clips_are_at_zero_and_gradients_are_finite_there_and_at_silence(name):
    """Ledger rows 83, 84 and 86: silence of either or both, or squares that vanish; a phase of nothing is NaN."""
    x, y = _noise(2, TIME)
    quiet, zero = 1e-22 * x, 0 * x
    estimates, targets = np.stack([x, x, zero, zero, x, quiet, x]), np.stack([x, y, zero, x, zero, zero, quiet])

    def total(z):
        values = DISTANCES[name](z, targets)
        return jnp.nansum(values), values

    (_, values), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(estimates)
    assert values.shape == (7,) and values[1] > 0.05
    assert np.isfinite(gradient).all() and np.abs(gradient[1]).max() > 1e-4
    if name == "phase":
        np.testing.assert_allclose(values[0], 0, atol=1e-5)
        assert np.isnan(values[2:]).all() and not gradient[2:].any()
    else:
        np.testing.assert_allclose(values[np.array([0, 2])], 0, atol=1e-5)
        assert (values[3:5] > 0.05).all()


@every_distance
def test_a_bad_sample_makes_its_own_clip_not_a_number(name):
    x = _noise(3, TIME)
    y = x + 0.1 * _noise(3, TIME, seed=1)
    x[1, 700] = np.nan
    y[2, 0] = np.inf
    np.testing.assert_array_equal(np.isnan(DISTANCES[name](x, y)), [False, True, True])


@every_distance
def test_unequal_and_empty_clips_are_refused(name):
    with pytest.raises(ValueError, match=r"shape \(2000,\) cannot be compared with a target of shape \(1999,\)"):
        DISTANCES[name](np.ones(2000), np.ones(1999))
    with pytest.raises(ValueError, match=r"\(2, 0\); give both \[..., time\] of one length, at least 1"):
        DISTANCES[name](np.ones((2, 0)), np.ones((2, 0)))


@pytest.mark.parametrize("gain", [0.01, 0.5, 3.0])
def test_log_spectral_distance_of_a_gain(gain):
    """Ledger row 83: 20 |log10 g|, whichever clip is the louder."""
    x = _noise(2, TIME)
    distance = DISTANCES["log-spectral"]
    np.testing.assert_allclose(distance(gain * x, x), 20 * abs(np.log10(gain)), rtol=1e-4)
    np.testing.assert_array_equal(distance(gain * x, x), distance(x, gain * x))
    with jax.enable_x64(True):
        x = x[0].astype(np.float64)
        exact = log_spectral_distance(gain * x, x, BLOCKS)
        assert exact.dtype == np.float64
        np.testing.assert_allclose(exact, 20 * abs(np.log10(gain)), rtol=1e-12)


def test_log_spectral_distance_is_a_mean_over_frames_of_roots_over_bins():
    """Ledger row 83: gains of 6 and 20 dB by frame, and of 10 dB in a tenth of the bins."""
    x = _noise(400)
    by_frame = x * np.repeat(10 ** (np.array([6, -20]) / 20), 200)
    assert log_spectral_distance(by_frame, x, BLOCKS) == pytest.approx(13, rel=1e-4)
    gains = np.ones(101)
    gains[:10] = 10 ** (10 / 20)
    by_bin = np.fft.irfft(np.fft.rfft(x.reshape(2, 200)) * gains).reshape(400)
    expected = np.sqrt(10 / 101 * 10**2)
    assert log_spectral_distance(by_bin, x, BLOCKS) == pytest.approx(expected, rel=1e-4)
    bands = distances.band_log_spectral_distance(by_bin, x, BLOCKS, 8000, (0.0, 400.0, 2000.0, 4000.0))
    np.testing.assert_allclose(bands, [10, 0, 0], atol=1e-3)  # bins come every 40 Hz, so the tenth bin is outside


def test_one_band_over_everything_is_the_whole_distance():
    x, y = _noise(2, 3, TIME)
    whole = jax.jit(functools.partial(OCTAVES, edges_hz=(0.0, 4000.0)))(x, y)
    np.testing.assert_allclose(whole, DISTANCES["log-spectral"](x, y)[:, None], rtol=1e-5)
    low = scipy.signal.lfilter(*scipy.signal.butter(8, 0.125), x).astype(np.float32)  # keeps what is below 500 Hz
    bands = jax.jit(OCTAVES)(low, x)
    assert bands.shape == (3, 2) and (bands[:, 1] > 2 * bands[:, 0]).all()


def _auraloss_terms(x, y, power_floor):
    """Return (spectral convergence, log magnitude) of one clip, by auraloss with windows of the clips' precision."""
    import torch
    from auraloss.freq import MultiResolutionSTFTLoss

    x, y = torch.from_numpy(x), torch.from_numpy(y)
    losses = MultiResolutionSTFTLoss(eps=power_floor, output="full")
    for loss in losses.stft_losses:
        loss.window = torch.hann_window(loss.win_length, dtype=x.dtype)
    _, convergence, log_magnitude, *_ = losses(x[None, None], y[None, None])
    return np.mean(convergence), np.mean(log_magnitude)


def _terms_by_frames(x, y):
    """Return the same as the loss of the vocoder does: by torch, each frame converging by itself."""
    import torch

    terms = []
    for fft, hop, samples in ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)):
        window = torch.hann_window(samples, dtype=torch.float64)
        spectra = (torch.stft(torch.from_numpy(z), fft, hop, samples, window, return_complex=True) for z in (x, y))
        a, b = (spectrum.abs().clamp(min=1e-7**0.5) for spectrum in spectra)
        ratio = torch.linalg.vector_norm(b - a, dim=0) / torch.linalg.vector_norm(b, dim=0)
        terms.append((ratio.mean().item(), torch.nn.functional.l1_loss(a.log(), b.log()).item()))
    return np.mean(terms, axis=0)


PUBLISHED = {
    "auraloss": functools.partial(_auraloss_terms, power_floor=1e-8),
    "parallel_wavegan": functools.partial(_auraloss_terms, power_floor=1e-7),
    "parallel_wavegan_frames": _terms_by_frames,
}


@pytest.mark.oracle
@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_multi_resolution_distances(preset):
    """Ledger row 84: each clip of a batch by itself, silence inside and a level where the floors matter."""
    y = _noise(2, 4000).astype(np.float64)
    x = y + 0.5 * _noise(2, 4000, seed=1)
    x[:, 2000:], y[1, 500:2500] = 1e-5 * x[:, 2000:], 0
    with jax.enable_x64(True):
        ours = stft_terms(x, y, distances.MULTI_RESOLUTION_PRESETS[preset])
    theirs = [PUBLISHED[preset](a, b) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(np.stack(ours, axis=-1), theirs, rtol=1e-9)


@pytest.mark.oracle
def test_float32_keeps_four_digits_of_auraloss():
    """Ledger row 84: sines far above the noise of the arithmetic, with silence inside."""
    t = np.arange(4000)
    target = np.sin(0.1 * t) + 0.5 * np.sin(0.731 * t + 1)
    target[1500:2500] = 0
    estimate = 0.8 * np.sin(0.1 * t + 0.3) + 0.5 * np.cos(1.7 * t)
    distance = jax.jit(distances.multi_resolution_stft_distance, static_argnums=2)
    ours = distance(estimate.astype(np.float32), target.astype(np.float32), AURALOSS)
    np.testing.assert_allclose(ours, sum(PUBLISHED["auraloss"](estimate, target)), rtol=1e-4)


@pytest.mark.parametrize("spec", [SMALL, FRAMES])
def test_multi_resolution_terms_of_a_gain_and_of_nothing(spec):
    """Ledger row 84: |1 - g| and |ln g|; a silent estimate is at 1, so the distance is not symmetric."""
    x = _noise(2, TIME)
    for gain in (0.25, 3.0):
        terms = stft_terms(gain * x, x, spec)
        np.testing.assert_allclose(terms.spectral_convergence, abs(1 - gain), rtol=1e-4)
        np.testing.assert_allclose(terms.log_magnitude, abs(np.log(gain)), rtol=1e-3)
    silent = stft_terms(0 * x, x, spec)
    np.testing.assert_allclose(silent.spectral_convergence, 1, rtol=1e-3)
    swapped = stft_terms(x, 0 * x, spec)
    assert (swapped.spectral_convergence > 100).all()
    np.testing.assert_allclose(swapped.log_magnitude, silent.log_magnitude, rtol=1e-5)


def test_frames_weigh_alike_only_where_convergence_is_by_frame():
    """Ledger row 84: an error of half its level in a quiet half."""
    x = _noise(400) * np.repeat([1, 0.01], 200)
    wrong = x * np.repeat([1, 1.5], 200)
    by_clip, by_frame = (
        stft_terms(wrong, x, distances.MultiResolutionSpec((BLOCKS,), 1e-12, convergence)).spectral_convergence
        for convergence in ("clip", "frame")
    )
    assert by_frame == pytest.approx(0.25, rel=1e-3) and by_clip < 0.01


def test_mel_distance_of_a_gain():
    x = _noise(2, TIME)
    np.testing.assert_allclose(DISTANCES["mel"](2 * x, x), np.log(2), rtol=1e-4)


@pytest.mark.parametrize("turns", [0, 1, -3, 1000])
def test_anti_wrapping(turns):
    """Ledger row 86."""
    angles = np.array([0, 0.5, -2.0, np.pi, -np.pi, 3.5])
    with jax.enable_x64(True):
        distance = distances.anti_wrap(angles + 2 * np.pi * turns)
    np.testing.assert_allclose(distance, [0, 0.5, 2, np.pi, np.pi, 2 * np.pi - 3.5], atol=1e-10)


def test_phase_errors_of_known_differences():
    """Ledger row 86: a sign, a delay of d samples, a tone off by d radians a hop, and phases that share nothing."""
    bins, frames = 129, 400
    target = np.random.default_rng(0).uniform(-np.pi, np.pi, (frames, bins))
    unrelated = np.random.default_rng(1).uniform(-np.pi, np.pi, (frames, bins))
    k, m = np.arange(bins), np.arange(frames)[:, None]
    estimates = np.stack([target + np.pi, target - 2 * np.pi * k / 256, target + 0.3 * m + 0 * k, unrelated])
    wrapped = np.angle(np.exp(1j * estimates))
    errors = np.stack(distances.phase_errors(wrapped, np.broadcast_to(target, estimates.shape)), axis=-1)
    np.testing.assert_allclose(errors[0], [np.pi, 0, 0], atol=1e-4)
    np.testing.assert_allclose(errors[1], [np.pi / 2, 2 * np.pi / 256, 0], atol=1e-4)
    np.testing.assert_allclose(errors[2], [np.pi / 2, 0, 0.3], atol=0.01)
    np.testing.assert_allclose(errors[3], np.pi / 2, rtol=0.01)


def test_uncounted_phases_play_no_part_and_nothing_counted_is_not_a_number():
    target = np.zeros((5, 4))
    estimate = np.zeros((5, 4))
    estimate[2, 1], estimate[4, 3] = 3, 1
    counted = np.ones((5, 4), bool)
    counted[2, 1] = False
    errors = distances.phase_errors(estimate, target, counted)
    np.testing.assert_allclose(errors, [1 / 19, 1 / 13, 1 / 14], rtol=1e-6)  # of 15 and 16 steps two touch the hole
    assert np.isnan(distances.phase_errors(estimate, target, np.zeros((5, 4), bool))).all()
    single = distances.phase_errors(estimate[:1], target[:1])
    np.testing.assert_array_equal(np.isnan(single), [False, False, True])


def test_phase_of_a_spectrum_is_its_angle_and_goes_through_zero():
    spectrum = np.array([1 + 1j, -2, 0, -1j, 1e-18j], np.complex64)
    np.testing.assert_allclose(distances.phase(jnp.asarray(spectrum)), np.angle(spectrum), rtol=1e-6)


def test_sign_delay_and_random_phase_are_told_apart():
    """Ledger row 86: what each distance sees of three changes that keep every magnitude of the whole clip's DFT."""
    rng = np.random.default_rng(3)
    x = scipy.signal.lfilter([1], [1, -0.9], rng.normal(scale=0.1, size=8000))  # most power where a delay turns little
    spectrum = np.fft.rfft(x)
    random = np.fft.irfft(np.abs(spectrum) * np.exp(2j * np.pi * rng.uniform(size=len(spectrum))), len(x))
    estimates = np.stack([-x, np.roll(x, 1), random]).astype(np.float32)
    targets = np.broadcast_to(x, estimates.shape).astype(np.float32)
    sign, delay, shuffled = range(3)

    lsd = DISTANCES["log-spectral"](estimates, targets)
    assert lsd[sign] < 1e-4 and 0.1 < lsd[delay] < lsd[shuffled] / 2  # magnitudes see no sign, and little of a delay
    complex_l1 = DISTANCES["complex"](estimates, targets)
    silence = DISTANCES["complex"](0 * targets, targets)
    np.testing.assert_allclose(complex_l1[sign], 2 * silence[sign], rtol=1e-5)
    assert 0.1 * silence[delay] < complex_l1[delay] < complex_l1[shuffled] < complex_l1[sign]

    errors = phase_errors(estimates, targets)
    np.testing.assert_allclose([error[sign] for error in errors], [np.pi, 0, 0], atol=1e-3)
    # A delay turns bins by 0 to pi, pi / 2 in the mean; its steps from bin to bin and from frame to frame are small.
    # Steps of unrelated phases are nearer than pi / 2: a window correlates neighbours, and puts both near one slope.
    np.testing.assert_allclose(errors.instantaneous_phase[1:], np.pi / 2, rtol=0.03)
    for steps in errors[1:]:
        assert steps[sign] < steps[delay] < 0.2 and 1 < steps[shuffled] < np.pi / 2


@every_distance
def test_distances_need_no_jit(name):
    x, y = _noise(2, TIME)
    with jax.disable_jit():
        plain = DISTANCES[name](x, y)
    np.testing.assert_allclose(plain, DISTANCES[name](x, y), rtol=1e-4)


TIGHT = dataclasses.replace(BLOCKS, pad_end=False)
AURALOSS = distances.MULTI_RESOLUTION_PRESETS["auraloss"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: distances.log_spectral_distance(x, x, TIGHT), "a clip of 150 samples holds no frame of 200"),
        (lambda x: distances.multi_resolution_stft_distance(x, x, AURALOSS), "150 samples is too short for 512 samp"),
        (lambda x: distances.log_spectral_distance(x, x, SPEC, 0.0), "floor is 0.0; silence has no logarithm"),
        (lambda x: distances.band_log_spectral_distance(x, x, SPEC, 8000, (0.0, 5000.0)), "from 0 to 4000 Hz"),
        (lambda x: distances.band_log_spectral_distance(x, x, SPEC, 8000, (500.0, 100.0)), "two or more rising freq"),
        (lambda x: distances.band_log_spectral_distance(x, x, SPEC, 8000, (100.0, 110.0)), "a bin comes every 31.25"),
        (lambda x: distances.phase_errors(x, x), r"of \(150,\), \(150,\) and \(150,\) cannot be compared; give one"),
        (lambda x: distances.phase_errors(np.ones((2, 3)), np.ones((2, 4))), r"\(2, 3\), \(2, 4\) and"),
        (lambda x: distances.MultiResolutionSpec((), 1e-8), "stfts is empty"),
        (lambda x: distances.MultiResolutionSpec((SPEC,), 0.0), "power_floor is 0.0"),
        (lambda x: distances.MultiResolutionSpec((SPEC,), 1e-8, "batch"), "convergence is 'batch'; choose one of"),
    ],
)
def test_errors_name_value_and_limit(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones(150, np.float32))
