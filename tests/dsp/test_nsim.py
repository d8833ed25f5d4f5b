"""Hold NSIM against ViSQOL's own figures, and against what a similarity must do."""

import functools

import jax
import numpy as np
import pytest
from jax.test_util import check_grads

from audiodiff import dsp
from audiodiff.dsp.nsim import nsim

unit = jax.jit(functools.partial(nsim, low=0.0, high=1.0))


def _patches(frames=30, bands=21):
    """Two patches that are alike, apart and partly flat."""
    m, k = np.mgrid[:frames, :bands]
    reference = np.maximum(0.5 + 0.4 * np.sin(0.9 * m + 0.05 * k * k), 0.3)
    return 0.8 * reference + 0.15 * np.cos(1.7 * m * k) ** 2, reference


# visqol-python 3.8.0, nsim.measure_patch_similarity(reference.T, degraded.T).similarity, for _patches() and for
# (1 - reference, reference).
VISQOL = {"degraded": 0.9117119145215898, "inverted": -0.6629957006182634}


@pytest.mark.parametrize("case", VISQOL)
def test_patches_score_as_in_visqol(case):
    """The stored figures of an independent implementation, whose patches are [band, frame]."""
    degraded, reference = _patches()
    other = degraded if case == "degraded" else 1 - reference
    with jax.enable_x64(True):
        assert float(unit(other, reference)) == pytest.approx(VISQOL[case], abs=1e-9)
    assert float(unit(other.astype(np.float32), reference.astype(np.float32))) == pytest.approx(VISQOL[case], abs=1e-3)


def test_equal_is_one_and_symmetric():
    degraded, reference = (x.astype(np.float32) for x in _patches())
    for x in (degraded, reference, 0 * reference, 0 * reference + 0.7):
        assert unit(x, x) == pytest.approx(1, abs=1e-5)
    assert unit(degraded, reference) == pytest.approx(float(unit(reference, degraded)), abs=1e-6)


def test_more_noise_is_less_similar_and_a_level_costs_little_beside_a_change_of_pattern():
    rng = np.random.default_rng(0)
    spec = dsp.MelSpec(rate_hz=8000, stft=dsp.StftSpec(256, 128), bands=32, fmax_hz=4000.0)
    t = np.arange(4000) / 8000
    clean = np.sin(2 * np.pi * (200 * t + 1500 * t**2)) * (1 + np.sin(2 * np.pi * 4 * t))
    noisy = [clean + deviation * rng.normal(size=4000) for deviation in (0.01, 0.1, 1)]
    mels = np.asarray(jax.jit(dsp.log_mel, static_argnums=1)(np.stack([clean, 0.8 * clean, *noisy]), spec))
    in_nepers = jax.jit(functools.partial(nsim, low=np.log(1e-5), high=np.log(10)))
    scores = np.asarray(in_nepers(mels, np.broadcast_to(mels[0], mels.shape)))
    assert scores[0] == pytest.approx(1, abs=1e-5)
    assert scores[1] > 0.95 > scores[2] > scores[3] > scores[4] > 0


def test_the_range_maps_any_logarithm_to_the_same_figure():
    degraded, reference = (x.astype(np.float32) for x in _patches())
    decibels = [100 * x - 100 for x in (degraded, reference)]
    in_decibels = jax.jit(functools.partial(nsim, low=-100.0, high=0.0))(*decibels)
    assert in_decibels == pytest.approx(float(unit(degraded, reference)), abs=1e-4)


def test_gradients_are_finite_where_both_are_flat_and_right_elsewhere():
    flat = np.zeros((1, 5, 6), np.float32)
    gradient = jax.jit(jax.grad(lambda d, r: unit(d, r).sum(), argnums=(0, 1)))
    for pair in ((flat, flat), (flat + 0.5, flat + 0.5), (flat - 1, flat + 0.5)):
        assert all(np.isfinite(g).all() for g in gradient(*pair))
    with jax.enable_x64(True):
        check_grads(unit, tuple(np.random.default_rng(1).uniform(0.1, 0.9, (2, 5, 6))), order=1, modes=["rev"])


@pytest.mark.parametrize(
    ("shapes", "limits", "message"),
    [
        (((4, 5), (4, 6)), (0.0, 1.0), r"shapes \(4, 5\) and \(4, 6\) cannot be compared"),
        (((5,), (5,)), (0.0, 1.0), r"both must be \[..., frame, band\]"),
        (((4, 5), (4, 5)), (1.0, 0.0), "low is 1.0 and high is 0.0; low < high must hold"),
    ],
)
def test_errors_name_value_limit_and_mend(shapes, limits, message):
    with pytest.raises(ValueError, match=message):
        nsim(*(np.zeros(shape) for shape in shapes), low=limits[0], high=limits[1])
