"""Bad audio gives no number that looks real: NaN and infinity go through every measure, and no audio is an error.

A compiled maximum can leave out a NaN (:func:`audiodiff.dsp.precision.floored`), so all is compiled here, into a sum.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff import dsp
from audiodiff.dsp import loudness, masking
from audiodiff.dsp.precision import floored, limited

RATE, TIME, HOP = 8000, 4000, 250
STFT = dsp.StftSpec(500, HOP)
MEL = dsp.MelSpec(rate_hz=RATE, stft=STFT, bands=20, fmax_hz=4000.0)
EAR = dsp.MaskingSpec(rate_hz=RATE, full_scale_db_spl=90.0, fft_samples=512, hop_samples=HOP)
RESOLUTIONS = dsp.MultiResolutionSpec((STFT, dsp.StftSpec(240, 100)), power_floor=1e-8)
PITCH = (RATE, 100.0, 500.0, 500, HOP)


def _masker(audio):
    return masking.masking_threshold_db_spl(audio, EAR)


def _mel(**changes):
    spec = dsp.MelSpec.from_dict({**MEL.to_dict(), **changes})
    return lambda audio: dsp.log_mel(audio, spec)


ANALYSES = {
    "mel.mel_spectrogram": lambda x: dsp.mel_spectrogram(x, MEL),
    "mel.compress": lambda x: dsp.compress(x[..., None], MEL),
    "mel.log_mel": _mel(),
    "mel.log_mel, plain": _mel(log="none", floor=0.0, power=2),
    "mel.log_mel, added floor": _mel(floor_rule="add", log="log10"),
    "mel.log_mel, top_db": _mel(log="db", top_db=40.0),
    "mel.log_mel, range": _mel(log="db", unit_range=(-100.0, 0.0)),
    "cepstra.dct": lambda x: dsp.dct(x.reshape(3, -1, 20)),
    "cepstra.idct": lambda x: dsp.idct(x.reshape(3, -1, 20)),
    "cepstra.mfcc": lambda x: dsp.mfcc(dsp.log_mel(x, MEL), 8),
    "filters.preemphasis": dsp.preemphasis,
    "filters.deemphasis": dsp.deemphasis,
    "filters.equalise": lambda x: dsp.equalise(x, (0.0, 3.0)),
    "pitch.cumulative_mean_normalised_difference": lambda x: dsp.cumulative_mean_normalised_difference(x, 80),
    "autocorrelation.normalised_autocorrelation": lambda x: dsp.normalised_autocorrelation(x, 80),
    "loudness.k_weight": lambda x: loudness.k_weight(x, RATE),
    "loudness.integrated_loudness_lkfs": lambda x: loudness.integrated_loudness_lkfs(x, RATE),
    "loudness.k_weighted_level_db": lambda x: loudness.k_weighted_level_db(x, RATE),
    "loudness.phon_to_sone": lambda x: loudness.phon_to_sone(x),
    "loudness.sone_to_phon": lambda x: loudness.sone_to_phon(jnp.abs(x)),
    "loudness.specific_loudness": lambda x: loudness.specific_loudness(x, np.float32(-1.0)),
    "loudness.zwicker_loudness_sone": lambda x: loudness.zwicker_loudness_sone(x, EAR),
    "masking.bark_power": lambda x: masking.bark_power(x, EAR),
    "masking.level_db_spl": lambda x: masking.level_db_spl(jnp.square(x), EAR),
    "masking.tonality": lambda x: masking.tonality(x, EAR),
    "masking.masking_threshold_db_spl": _masker,
    "masking.threshold_of_bands_db_spl": lambda x: masking.threshold_of_bands_db_spl(
        masking.bark_power(x, EAR), jnp.zeros(()), EAR
    ),
    "masking.temporal_masking_db_spl": lambda x: masking.temporal_masking_db_spl(_masker(x), EAR),
    "masking.masking_weights": lambda x: masking.masking_weights(_masker(x), EAR),
}
"""Measures of one clip."""

TRACKS: dict[str, Callable] = {
    "pitch.yin": dsp.yin,
    "pyin.pyin": dsp.pyin,
    "autocorrelation.autocorrelation_pitch": dsp.autocorrelation_pitch,
}

DISTANCES = {
    "distances.log_spectral_distance": lambda x, s: dsp.log_spectral_distance(x, s, STFT),
    "distances.band_log_spectral_distance": lambda x, s: dsp.band_log_spectral_distance(
        x, s, STFT, RATE, (0.0, 1000.0, 4000.0)
    ),
    "distances.multi_resolution_stft_terms": lambda x, s: jnp.stack(
        dsp.multi_resolution_stft_terms(x, s, RESOLUTIONS), axis=-1
    ),
    "distances.multi_resolution_stft_distance": lambda x, s: dsp.multi_resolution_stft_distance(x, s, RESOLUTIONS),
    "distances.mel_distance": lambda x, s: dsp.mel_distance(x, s, MEL),
    "distances.complex_stft_distance": lambda x, s: dsp.complex_stft_distance(x, s, STFT),
    "distances.stft_phase_errors": lambda x, s: jnp.stack(dsp.stft_phase_errors(x, s, STFT), axis=-1),
    "distances.phase_errors": lambda x, s: jnp.stack(dsp.phase_errors(x[..., None], s[..., None])[::2], axis=-1),
    "nsim.nsim": lambda x, s: 1 - dsp.nsim(dsp.log_mel(x, MEL), dsp.log_mel(s, MEL), low=-11.5, high=2.3),
    "masking.masked_distance": lambda x, s: dsp.masked_distance(x - s, _masker(s), EAR),
    "masking.noise_to_mask_db": lambda x, s: dsp.noise_to_mask_db(x - s, _masker(s), EAR),
}
SILENCE_HAS_NONE = {"distances.stft_phase_errors"}
IN_DB = {"masking.noise_to_mask_db"}

NO_MEASURE = {
    "alignment.dtw": "refuses what is not finite or empty: tests/dsp/test_alignment.py",
    "alignment.euclidean_costs": "NaN goes through to dtw: below",
    "cepstra.lifter_weights": "takes sizes",
    "distances.anti_wrap": "arithmetic",
    "distances.phase": "with stft_phase_errors",
    "loudness.k_weighting": "takes a rate",
    "masking.spreading_db": "a constant of the model",
    "masking.spreading_matrix": "a constant of the model",
    "mel.differing_fields": "takes specs",
    "mel.filterbank_rank": "takes filters",
    "mel.hz_to_mel": "a scale",
    "mel.mel_to_hz": "a scale",
    "mel.mel_filterbank": "takes sizes",
    "pitch.centred_frames": "cuts",
    "pitch.lag_range": "takes a range",
    "pitch.two_periods": "takes a range",
    "pitch.neighbours": "cuts",
    "pitch.vertex": "part of the estimators",
}
MODULES = (
    *("alignment", "autocorrelation", "cepstra", "distances", "filters", "loudness", "masking", "mel"),
    *("nsim", "pitch", "pyin"),
)


def _noise(seed, *shape):
    return np.random.default_rng(seed).normal(scale=0.1, size=shape).astype(np.float32)


def test_every_public_function_is_declared():
    public = {
        f"{name}.{function.__name__}"
        for name in MODULES
        for _, function in inspect.getmembers(importlib.import_module(f"audiodiff.dsp.{name}"), inspect.isfunction)
        if function.__module__ == f"audiodiff.dsp.{name}" and not function.__name__.startswith("_")
    }
    declared = {name.partition(",")[0] for name in [*ANALYSES, *TRACKS, *DISTANCES, *NO_MEASURE]}
    assert not public - declared, "say in a table what a bad input gives"


@pytest.mark.parametrize("name", ANALYSES)
def test_a_bad_sample_goes_through_an_analysis(name):
    """Clips that are sound, with a NaN and with infinity: the mean of all that is measured of each."""
    audio = _noise(0, 3, TIME)
    audio[1, TIME // 2], audio[2, TIME // 2] = np.nan, np.inf
    means = np.asarray(jax.jit(lambda x: ANALYSES[name](x).reshape(3, -1).mean(axis=1))(audio))
    assert np.isfinite(means[0]) and np.isnan(means[1]) and not np.isfinite(means[2])


@pytest.mark.parametrize("name", DISTANCES)
def test_a_bad_sample_goes_through_a_distance_and_silence_is_as_documented(name):
    """Silence is as far from a sound as the floors are and at 0 from silence, or has NaN, the phase of nothing."""
    x, s = _noise(1, 8, TIME), _noise(2, 8, TIME)
    x[1, 700], x[2, 700], s[3, 700] = np.nan, np.inf, np.nan
    x[4], s[5] = 0, 0
    x[6], s[6], s[7] = 0, 0, x[7]
    found = np.asarray(jax.jit(lambda x, s: DISTANCES[name](x, s).reshape(8, -1).mean(axis=1))(x, s))
    unlike, silent, equal, alike = found[0], found[[4, 5]], found[7], found[[6, 7]]
    assert np.isnan(found[1:4]).all() and np.isfinite([unlike, equal]).all()
    if name in SILENCE_HAS_NONE:
        assert np.isnan(found[4:7]).all() and unlike > equal
    else:
        assert np.isfinite(silent).all() and min(unlike, *silent) > max(alike) + 1e-3
    if name not in IN_DB:
        np.testing.assert_allclose(equal, 0, atol=1e-4)


@pytest.mark.parametrize("name", TRACKS)
def test_audio_with_a_nan_is_not_taken_for_unvoiced(name):
    """F0 is NaN for both; the second output is a number in an unvoiced frame, and NaN where a bad sample is heard."""
    audio = np.sin(2 * np.pi * 200 / RATE * np.arange(TIME), dtype=np.float32)
    clips = np.stack([audio, 0 * audio, audio, audio])
    clips[2, TIME // 2], clips[3, TIME // 2] = np.nan, np.inf
    f0, second = map(np.asarray, jax.jit(lambda x: TRACKS[name](x, *PITCH))(clips))
    middles = HOP * np.arange(f0.shape[1])
    hears = np.abs(middles - TIME // 2 - 0.5) < STFT.fft_samples / 2
    inside = (middles >= HOP) & (middles <= TIME - HOP)
    np.testing.assert_allclose(f0[0, inside], 200, rtol=5e-3)
    assert np.isnan(f0[1]).all() and np.isfinite(second[:2]).all()
    if name == "autocorrelation.autocorrelation_pitch":  # all frames share the clip's mean and peak
        hears[:] = True
    assert np.isnan(f0[2:, hears]).all() and np.isnan(second[2:, hears]).all()
    assert np.isfinite(second[2:, ~hears]).all()
    np.testing.assert_allclose(f0[2:, inside & ~hears], 200, rtol=5e-3)


def test_a_nan_in_a_masker_reaches_the_frames_that_it_could_mask():
    """Beyond a duration of masking the threshold stays as it is."""
    spec = masking.MaskingSpec(
        rate_hz=RATE, full_scale_db_spl=90.0, fft_samples=512, hop_samples=HOP, forward_s=0.1, backward_s=0.04
    )
    threshold = np.full((40, spec.bands), 60, np.float32)
    threshold[20] = np.nan
    lasting = np.asarray(jax.jit(lambda x: masking.temporal_masking_db_spl(x, spec))(threshold))
    before, after = int(0.04 * RATE / HOP), int(0.1 * RATE / HOP)
    bad = np.isnan(lasting).any(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(bad), np.arange(20 - before, 20 + after + 1))
    np.testing.assert_allclose(lasting[~bad], 60, rtol=1e-6)


EMPTY = {
    "mel": lambda x: dsp.log_mel(x, MEL),
    "bark": lambda x: masking.bark_power(x, EAR),
    "tonality": lambda x: masking.tonality(x, EAR),
    "sones": lambda x: dsp.zwicker_loudness_sone(x, EAR),
    "level": lambda x: dsp.k_weighted_level_db(x, RATE),
    "loudness": lambda x: dsp.integrated_loudness_lkfs(x, RATE),
    "yin": lambda x: dsp.yin(x, *PITCH),
    "pyin": lambda x: dsp.pyin(x, *PITCH),
    "autocorrelation": lambda x: dsp.autocorrelation_pitch(x, *PITCH),
    "equalise": lambda x: dsp.equalise(x, (0.0, 3.0)),
}


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("shape", [(0,), (2, 0), ()])
def test_no_audio_is_no_silence(name, shape):
    with pytest.raises(ValueError, match="holds no samples"):
        EMPTY[name](np.zeros(shape, np.float32))


@pytest.mark.parametrize("name", DISTANCES)
def test_what_has_no_distance_is_refused(name):
    shapes = [((), ()), ((0,), (0,)), ((TIME,), (TIME - HOP,))]
    if name == "distances.phase_errors":  # of no frames it is NaN, as of none that count
        del shapes[1]
    if name.startswith("masking"):  # of an error, which has the target's length
        del shapes[2]
    for estimate, target in shapes:
        with pytest.raises(ValueError, match="cannot be compared|holds no samples"):
            jax.eval_shape(DISTANCES[name], jnp.zeros(estimate), jnp.zeros(target))


def test_too_short_and_what_does_not_match_is_refused():
    for measure in (dsp.masked_distance, dsp.noise_to_mask_db):
        with pytest.raises(ValueError, match="frames and bands and the threshold"):
            jax.eval_shape(lambda x, s, of=measure: of(x, _masker(s), EAR), jnp.zeros(TIME), jnp.zeros(TIME - HOP))
    with pytest.raises(ValueError, match="a clip of 1 samples is shorter than one gating block"):
        dsp.integrated_loudness_lkfs(np.ones(1), RATE)
    for shapes in (((3, 0), (3, 0)), ((3,), (3,)), ((3, 2), (3, 1))):
        with pytest.raises(ValueError, match="with at least one feature"):
            dsp.euclidean_costs(*map(np.zeros, shapes))
    costs = dsp.euclidean_costs(np.array([[1.0], [np.nan]]), np.ones((2, 1)))
    assert np.isnan(costs[1]).all()
    with pytest.raises(ValueError, match="2 of 4 costs are not finite"):
        dsp.dtw(costs)


def test_a_floor_keeps_nan_and_has_no_gradient():
    x = jnp.array([-1.0, 0.0, 0.5, 1.0, 2.0, jnp.nan])
    np.testing.assert_array_equal(jax.jit(floored)(x, 0.0), [0, 0, 0.5, 1, 2, np.nan])
    np.testing.assert_array_equal(jax.jit(limited)(x, 0.0, 1.0), [0, 0, 0.5, 1, 1, np.nan])
    slopes = [jax.vmap(jax.grad(f))(x[:-1]) for f in (lambda x: floored(x, 0.0), lambda x: limited(x, 0.0, 1.0))]
    np.testing.assert_array_equal(slopes, [[0, 0, 1, 1, 1], [0, 0, 1, 0, 0]])
