"""Bad input gives an error or a declared value, never a number that looks real: every public metric says which.

A metric that is in no table fails the first test: declare what it does with each bad input before it is used.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import types
from collections.abc import Callable

import jax
import numpy as np
import optax
import pytest

from audiodiff import dsp, metrics
from audiodiff.metrics import (
    classification,
    correlation,
    distributions,
    inception,
    intervals,
    listening,
    mutual_information,
    neighbours,
    perceptual,
    pitch_errors,
    pitch_tracks,
    seams,
    signal,
    verification,
)

KEY = jax.random.key(0)
NAN, INF, UNKNOWN = math.nan, math.inf, (-math.inf, math.inf)
MEASURED = "a number as of any other input"
TIME = 2000
MEL = dsp.MelSpec(rate_hz=8000, stft=dsp.StftSpec(256, 64), bands=32, fmax_hz=4000.0, floor=1e-7)


def _noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(scale=0.1, size=shape)


def _with(values, bad, at=-1):
    spoilt = values.copy()
    spoilt[at] = bad
    return spoilt


# Two clips.

X, S = _noise(TIME, seed=1), _noise(TIME, seed=2)
PAIRS = {
    "NaN in the estimate": (_with(X, NAN), S),
    "NaN in the target": (X, _with(S, NAN)),
    "infinity": (_with(X, INF), S),
    "silent estimate": (0 * X, S),
    "silent target": (X, 0 * S),
    "both silent": (0 * X, 0 * S),
    "one sample": (S[:1] / 2, S[:1]),
    "different lengths": (X[:-1], S),
    "another number of clips": (X[None], S),
    "empty": (X[:0], S[:0]),
    "no time axis": (X[0], S[0]),
}
_SHAPES = {
    "different lengths": "crop or pad both to one length",
    "another number of clips": "crop or pad both to one length",
    "empty": "holds no samples",
    "no time axis": "holds no samples",
}
_SIGNAL = {case: NAN for case in PAIRS if case not in _SHAPES} | _SHAPES
_HEARD = {
    "NaN in the estimate": "a sample of the estimate is not finite",
    "NaN in the target": "a sample of the target is not finite",
    "infinity": "a sample of the estimate is not finite",
    "silent estimate": "the estimate is silent",
    "silent target": "the target is silent",
    "both silent": "is silent",
    "one sample": "is silent",
    **dict.fromkeys(_SHAPES, "cannot be compared"),
}
OF_PAIRS: dict[str, tuple[Callable, dict]] = {
    "signal.snr": (signal.snr, _SIGNAL | {"silent estimate": 0.0, "one sample": 20 * math.log10(2)}),
    "signal.segmental_snr": (
        lambda x, s: signal.segmental_snr(x, s, 200),
        _SIGNAL | {"silent estimate": 0.0, "one sample": "holds no frame of 200"},
    ),
    "signal.si_sdr": (signal.si_sdr, _SIGNAL),
    "signal.si_sdr, means kept": (lambda x, s: signal.si_sdr(x, s, zero_mean=False), _SIGNAL | {"one sample": INF}),
    "signal.mel_cepstral_distortion": (
        lambda x, s: signal.mel_cepstral_distortion(x, s, MEL),
        _SIGNAL | {"one sample": "shorter than the window of 256 samples"},
    ),
    "signal.mel_cepstral_distortion, aligned": (
        lambda x, s: signal.mel_cepstral_distortion(x, s, MEL, aligned=True),
        _SIGNAL | {"one sample": "shorter than the window of 256 samples", "different lengths": MEASURED},
    ),
    "perceptual.stoi": (lambda x, s: perceptual.stoi(x, s, 16_000, undefined="raise"), _HEARD),
    "perceptual.pesq": (lambda x, s: perceptual.pesq(x, s, 16_000, "wb", undefined="raise"), _HEARD),
    "perceptual.visqol": (lambda x, s: perceptual.visqol(x, s, 16_000, "speech", undefined="raise"), _HEARD),
}

# Two sequences of cepstra [frame, coefficient], or two contours of F0 [frame].

C, D = _noise(6, 5, seed=3), _noise(6, 5, seed=4)
CEPSTRA = {
    "NaN": (_with(C, NAN), D),
    "infinity in both": (_with(C, INF), _with(D, INF)),
    "different lengths": (C[:-1], D),
    "other coefficients": (C[:, :-1], D),
    "empty": (C[:0], D[:0]),
    "a level alone": (C[:, :1], D[:, :1]),
    "one axis": (C[0], D[0]),
}
_CEPSTRA = {
    "NaN": NAN,
    "infinity in both": NAN,
    **dict.fromkeys(["different lengths", "other coefficients", "empty", "one axis"], "cannot be compared frame by"),
    "a level alone": "levels alone",
}
F0, G0 = 200 + _noise(8, seed=5), 200 + _noise(8, seed=6)
CONTOURS = {
    "infinity": (_with(F0, INF), G0),
    "unvoiced estimate": (NAN * F0, G0),
    "unvoiced reference": (F0, 0 * G0),
    "both unvoiced": (NAN * F0, 0 * G0),
    "different lengths": (F0[:-1], G0),
    "empty": (F0[:0], G0[:0]),
    "no frame axis": (F0[0], G0[0]),
}
_CONTOUR = {
    "infinity": "1 of 8 frames of the estimate have an infinite F0",
    **dict.fromkeys(["unvoiced estimate", "unvoiced reference", "both unvoiced", "empty"], NAN),
    **dict.fromkeys(["different lengths", "no frame axis"], "cannot be compared frame by frame"),
}
OF_SEQUENCES: dict[str, tuple[Callable, dict, dict]] = {
    "signal.cepstral_distortion": (signal.cepstral_distortion, CEPSTRA, _CEPSTRA),
    "signal.squared_mfcc_distance": (
        signal.squared_mfcc_distance,
        CEPSTRA | {"a level alone": (_with(C, NAN)[:, :1], D[:, :1])},
        _CEPSTRA | {"a level alone": NAN},
    ),
    "signal.aligned_cepstral_distortion": (
        signal.aligned_cepstral_distortion,
        CEPSTRA,
        {
            "NaN": NAN,
            "infinity in both": NAN,
            "different lengths": MEASURED,
            "empty": "hold no path",
            **dict.fromkeys(["other coefficients", "a level alone", "one axis"], "have no distances"),
        },
    ),
    "pitch_errors.cents": (pitch_errors.cents, CONTOURS, _CONTOUR),
    "pitch_errors.clip_cents_error": (pitch_errors.clip_cents_error, CONTOURS, _CONTOUR),
    "pitch_errors.f0_error": (lambda f, g: pitch_errors.f0_error(f, g, KEY), CONTOURS, _CONTOUR),
    "pitch_errors.paired_contours": (lambda f, g: sum(pitch_errors.paired_contours(f, g)), CONTOURS, _CONTOUR),
    "pitch_errors.voicing": (
        pitch_errors.voicing,
        CONTOURS,
        _CONTOUR
        | {
            "unvoiced estimate": (0, 0, 8, 0),
            "unvoiced reference": (0, 8, 0, 0),
            "both unvoiced": (0, 0, 0, 8),
            "empty": (0, 0, 0, 0),
        },
    ),
    "pitch_tracks.track": (
        lambda f, g: pitch_tracks.track(f, g > 0),
        {"NaN": (NAN * F0, G0), "different lengths": (F0[:-1], G0), "empty": (F0[:0], G0[:0])},
        {"NaN": NAN, "different lengths": "make no track", "empty": NAN},
    ),
    "pitch_tracks.track_errors": (lambda f, g: pitch_tracks.track_errors(f, g).rmse_cents, CONTOURS, _CONTOUR),
    "pitch_tracks.track_errors, voicing": (
        lambda f, g: pitch_tracks.track_errors(f, g).voicing_error,
        CONTOURS,
        _CONTOUR | {"unvoiced estimate": 1.0, "unvoiced reference": 1.0, "both unvoiced": 0.0},
    ),
    "pitch_tracks.track_figures": (
        lambda f, g: pitch_tracks.track_figures(f, g)["gross_pitch_error"],
        {case: pair for case, pair in CONTOURS.items() if case != "no frame axis"},
        _CONTOUR,
    ),
    "pitch_tracks.periodicity_rmse": (
        pitch_tracks.periodicity_rmse,
        {
            "NaN": (_with(F0 / 400, NAN), G0 / 400),
            "infinity": (_with(F0 / 400, INF), G0 / 400),
            "different lengths": (F0[:-1], G0),
            "empty": (F0[:0], G0[:0]),
        },
        {
            "NaN": NAN,
            "infinity": "a periodicity of the estimate is inf",
            "different lengths": "cannot be compared frame by frame",
            "empty": NAN,
        },
    ),
}

# Two sets of clips, as features [clip, dim].

REAL, MADE = _noise(40, 3, seed=7), _noise(40, 3, seed=8)
SETS = {
    "NaN in a clip": (REAL, _with(MADE, NAN)),
    "infinity": (_with(REAL, INF), MADE),
    "one clip": (REAL, MADE[:1]),
    "one clip of the reference": (REAL[:1], MADE),
    "other dimensions": (REAL, MADE[:, :2]),
    "empty": (REAL, MADE[:0]),
    "no dimensions": (REAL[:, :0], MADE[:, :0]),
    "one axis": (REAL, MADE[0]),
}
_SET = {
    "NaN in a clip": "1 of 40 .* features are not finite, the first at 39",
    "infinity": "1 of 40 .* features are not finite",
    "one clip": "too few",
    "one clip of the reference": "too few",
    "other dimensions": "features of . and . dimensions",
    **dict.fromkeys(["empty", "no dimensions", "one axis"], "give a filled array"),
}
_NEIGHBOURS = _SET | {
    "one clip": "5 neighbours asked of 0 references",
    "one clip of the reference": "5 neighbours asked of 0 references",
}
_PAIRED = _SET | {
    "NaN in a clip": "1 of 40 items of y are not finite",
    "infinity": "1 of 40 items of x are not finite",
    "other dimensions": MEASURED,
    **dict.fromkeys(["one clip", "one clip of the reference", "empty", "no dimensions", "one axis"], "hold no pairs"),
}
OF_SETS: dict[str, tuple[Callable, dict]] = {
    "distributions.frechet_distance": (distributions.frechet_distance, _SET),
    "distributions.frechet_figure": (distributions.frechet_figure, _SET),
    "distributions.extrapolate_frechet_distance": (
        lambda x, y: distributions.extrapolate_frechet_distance(KEY, x, y),
        _SET,
    ),
    "distributions.extrapolated_frechet_figure": (
        lambda x, y: distributions.extrapolated_frechet_figure(KEY, x, y),
        _SET,
    ),
    "distributions.kernel_distance": (distributions.kernel_distance, _SET),
    "mutual_information.ksg": (lambda x, y: mutual_information.ksg(x, y, KEY, 2).value, _PAIRED),
    "mutual_information.neural_lower_bound": (
        lambda x, y: mutual_information.neural_lower_bound(x, y, KEY, optax.sgd(0.1), rounds=1, steps=1).value,
        _PAIRED,
    ),
    "neighbours.nearest": (
        lambda x, y: neighbours.nearest(x, y, 5)[0],
        _SET | {"one clip": "5 neighbours asked of 1", "one clip of the reference": MEASURED},
    ),
    "neighbours.neighbourhood": (neighbours.neighbourhood, _NEIGHBOURS),
    "neighbours.nearest_neighbour_ratio": (lambda x, y: neighbours.nearest_neighbour_ratio(y, x, REAL), _SET),
    "neighbours.nearest_neighbour_ratio, held out": (
        lambda x, y: neighbours.nearest_neighbour_ratio(REAL, x, y),
        _SET,
    ),
    "inception.different_bins": (
        lambda x, y: inception.different_bins(KEY, x, y, 5),
        _SET
        | {"one clip": "1 generated clips cannot fill 5 bins", "one clip of the reference": "5 bins of 1 different"},
    ),
}

# One array or two, each with what it gives.

P = np.full((6, 2), 0.5)
LABELS = np.arange(6) % 2
_ROWS, _FILLED = "rows of probabilities are not non-negative", "give a filled array"
_PROBABILITIES = [(_with(P, NAN), _ROWS), (P[:1], "of 1 clip: .* at least 2"), (P[:0], _FILLED), (P[0], _FILLED)]
_APART = "do not belong together"
NO_TRIAL = verification.Trials(np.zeros(0), np.zeros(0, bool), np.zeros((0, 2), int))
NAN_TRIAL = verification.Trials(np.array([NAN, 1]), np.array([True, False]), np.array([[0, 1], [0, 2]]))
ONE_KIND = verification.Trials(np.array([0.0, 1]), np.array([True, True]), np.array([[0, 1], [0, 2]]))
OF_ARRAYS: dict[str, tuple[Callable, list]] = {
    "inception.inception_score": (lambda p: inception.inception_score(p, KEY), _PROBABILITIES),
    "inception.modified_inception_score": (lambda p: inception.modified_inception_score(p, KEY), _PROBABILITIES),
    "inception.am_score": (lambda p: inception.am_score(p, P[0], KEY), _PROBABILITIES),
    "inception.am_score, train": (
        lambda train: inception.am_score(P, train, KEY),
        [([NAN, 1], _ROWS), ([1.0], "does not belong"), ([], "give a filled")],
    ),
    "classification.accuracy": (
        lambda p: classification.accuracy(LABELS, p),
        [
            (_with(1.0 * LABELS, NAN), "1 of 6 pairs of label and prediction hold NaN"),
            (LABELS.astype(str), "never equal"),
            (LABELS[:-1], "must both be"),
            (P, "must both be"),
        ],
    ),
    "classification.accuracy, of nothing": (lambda p: classification.accuracy(p, p), [([], NAN)]),
    "classification.confusion_matrix": (
        lambda p: classification.confusion_matrix(LABELS, p, 2),
        [
            (_with(1.0 * LABELS, NAN), "hold NaN"),
            (LABELS + 0.5, "give integers from 0 to 1"),
            (LABELS - 1, "labels run from -1 to 1"),
            (LABELS[:-1], "must both be"),
        ],
    ),
    "classification.confusion_matrix, of nothing": (
        lambda p: classification.confusion_matrix(p, p, 2),
        [([], np.zeros((2, 2)))],
    ),
    "classification.reliability": (
        lambda p: classification.reliability(p, LABELS).accuracy,
        [(_with(P, NAN), "without NaN"), (P[:-1], _APART), (P[0], _APART), (P[:, :0], _APART)],
    ),
    "classification.expected_calibration_error": (
        lambda p: classification.expected_calibration_error(p, LABELS[: len(p)], KEY),
        [(_with(P, NAN), "without NaN"), (P[:0], NAN), (P[0], _APART), (P[:, :0], _APART)],
    ),
    "classification.expected_calibration_error, labels": (
        lambda labels: classification.expected_calibration_error(P, labels, KEY),
        [(LABELS + 1, "labels run from 1 to 2"), (_with(1.0 * LABELS, NAN), "give integers"), (LABELS[:-1], _APART)],
    ),
    "correlation.rank_correlation": (
        lambda x, y: correlation.rank_correlation(x, y, KEY, resamples=9),
        [
            ((NAN * F0, G0), NAN),
            ((F0[:1], G0[:1]), NAN),
            ((F0[:0], G0[:0]), NAN),
            ((0 * F0, G0), NAN),
            ((F0[:-1], G0), "no pairs to rank"),
            ((F0[0], G0[0]), "no pairs to rank"),
        ],
    ),
    "intervals.mean_interval": (
        intervals.mean_interval,
        [
            (_with(F0, NAN), "1 of 8 values are not finite"),
            (_with(F0, INF), "1 of 8 values are not finite"),
            (F0[:1], UNKNOWN),
            (F0[:0], UNKNOWN),
        ],
    ),
    "intervals.mean_figure": (
        lambda x: intervals.mean_figure("mean", x),
        [([NAN, INF], NAN), ([], NAN), ([2.0, NAN], 2.0)],
    ),
    "intervals.median_figure": (
        lambda x: intervals.median_figure("median", x, KEY),
        [([NAN, INF], NAN), ([], NAN), ([2.0, NAN], 2.0)],
    ),
    "intervals.bootstrap_interval": (
        lambda x: intervals.bootstrap_interval(KEY, np.mean, x, resamples=99),
        [(_with(F0, NAN), UNKNOWN), (_with(F0, INF), "not finite on"), (F0[:1], UNKNOWN), (F0[:0], UNKNOWN)],
    ),
    "intervals.bootstrap_interval, unpaired": (
        lambda x, y: intervals.bootstrap_interval(KEY, np.dot, x, y, resamples=99),
        [((F0[:-1], G0), "cannot be paired")],
    ),
    "intervals.bootstrap_interval_of_means": (
        lambda x: intervals.bootstrap_interval_of_means(KEY, lambda means: means[..., 0], x, resamples=99),
        [(_with(C, NAN), UNKNOWN), (_with(C, INF), "not finite on"), (C[:1], UNKNOWN)],
    ),
    "intervals.wilson_interval": (
        intervals.wilson_interval,
        [((NAN, 3), "nan successes"), ((4, 3), "4 successes in 3"), ((0, 0), (0, 1))],
    ),
    "intervals.proportion_figure": (
        lambda hits, count: intervals.proportion_figure("share", hits, count),
        [((NAN, 3), "nan successes"), ((0, 0), NAN)],
    ),
    "listening.mean_opinion_score": (
        listening.mean_opinion_score,
        [
            (np.full((2, 2), NAN), NAN),
            ([[INF, 1], [2, 3]], "1 scores are off the scale"),
            (np.zeros((0, 3)), "give a filled array"),
            (F0, "give a filled array"),
        ],
    ),
    "listening.ab_test": (
        lambda *counts: listening.ab_test(*counts, ties="drop"),
        [((NAN, 1, 1), "no counts of trials"), ((0, 0, 0), "no counts of trials"), ((1.5, 0, 0), "no counts of")],
    ),
    "listening.sign_test": (
        lambda x: listening.sign_test(x, ties="drop"),
        [([1, NAN], "must be .pair. and finite"), ([], "no counts of trials"), (C, "must be .pair.")],
    ),
    "listening.bradley_terry": (
        listening.bradley_terry,
        [
            ([[0, NAN], [1, 0]], "finite and from 0"),
            ([[0, INF], [1, 0]], "finite and from 0"),
            ([[0.0]], "2 or more"),
            (np.zeros((0, 0)), "2 or more"),
            (C, "give .system, system."),
        ],
    ),
    "listening.mushra_screening": (
        listening.mushra_screening,
        [
            (([[NAN]], [[50.0]]), "no assessor all NaN"),
            (([[INF]], [[50.0]]), "off the scale"),
            (([[99.0]], [[50.0, 2]]), "give one shape"),
            ((np.zeros((0, 1)),) * 2, "give a filled array"),
        ],
    ),
    "listening.compare_systems": (
        listening.compare_systems,
        [(_with(C, NAN), "give finite"), (C[:1], "2 or more each"), (C[:0], "2 or more each"), (C[0], "give finite")],
    ),
    "listening.holm": (listening.holm, [([NAN, 1], "no probabilities"), ([2.0], "no probabilities"), ([], [])]),
    "neighbours.expected_coverage": (
        lambda real, made: neighbours.expected_coverage(real, made, 5),
        [((0, 9), "0 real"), ((5, 9), "5 real"), ((9, 0), "0 generated")],
    ),
    "neighbours.as_features": (
        lambda x: neighbours.as_features(x, "real"),
        [(_with(C, NAN), "1 of 6 real features"), (C[:0], "give a filled array"), (F0, "give a filled array")],
    ),
    "neighbours.check_same_dim": (neighbours.check_same_dim, [((C, C[:, :2]), "5 and 2 dimensions")]),
    "neighbours.nearest_neighbour_ratio, copies": (
        lambda x: neighbours.nearest_neighbour_ratio(REAL, REAL, x),
        [(np.zeros((9, 3)), "half or more of the 9 held-out clips have a copy")],
    ),
    "perceptual.joined": (
        lambda clips: perceptual.joined(clips, [3] * len(clips), "ab", 2),
        [(np.zeros((2, 2)), "a length is 3"), (np.zeros((1, 4)), "1 lengths and 2"), (np.zeros((0, 4)), "0 lengths")],
    ),
    "signal.mel_cepstra": (
        lambda x: signal.mel_cepstra(x, MEL)[-1],
        [(_with(X, NAN), NAN), (_with(X, INF), NAN), (X[:255], "shorter than the window"), (X[:0], "shorter than")],
    ),
    "verification.all_trials": (
        lambda x, who: verification.all_trials(x, who).scores,
        [
            ((_with(C, NAN), LABELS), "1 of 6 embeddings are zero or not finite"),
            ((_with(C, 0), LABELS), "1 of 6 embeddings are zero or not finite"),
            ((C[:-1], LABELS), _APART),
            ((C[0], LABELS), _APART),
            ((C[:1], LABELS[:1]), []),
            ((C[:0], LABELS[:0]), []),
        ],
    ),
    "verification.enrolment_trials": (
        lambda x, y: verification.enrolment_trials(x, LABELS[: len(x)], y, LABELS).scores,
        [
            ((_with(C, NAN), C), "1 of 6 embeddings are zero or not finite"),
            ((C, _with(C, 0)), "1 of 6 embeddings are zero or not finite"),
            ((C, C[:-1]), _APART),
            ((C, C[:, :-1]), "mismatch"),
            ((C[:0], C), []),
        ],
    ),
    "verification.detection_errors": (
        lambda trials: verification.detection_errors(trials).false_accept,
        [((NO_TRIAL,), "at least one"), ((NAN_TRIAL,), "1 of 2 scores are NaN"), ((ONE_KIND,), NAN)],
    ),
    "verification.crossing": (
        lambda trials: verification.crossing(verification.detection_errors(trials)),
        [((ONE_KIND,), NAN)],
    ),
    "verification.equal_error_rate": (
        lambda trials: verification.equal_error_rate(trials, KEY),
        [((NO_TRIAL,), "at least one"), ((NAN_TRIAL,), "1 of 2 scores are NaN"), ((ONE_KIND,), NAN)],
    ),
    "seams.spectral_flux_db": (
        lambda x: seams.spectral_flux_db(x, 256, 64),
        [
            (_with(X, NAN), NAN),
            (_with(X, INF), NAN),
            (0 * X, 0.0),
            (X[:300], "no two frames"),
            (X[:0], "no two frames"),
        ],
    ),
    "seams.seam_flux": (
        lambda x, borders: seams.seam_flux(x, borders, 8000).near,
        [
            ((_with(X, NAN), [1000]), "1 of 1 clips are not finite"),
            ((0 * X, [1000]), 0.0),
            ((X, [5000]), "the border at sample 5000 of 2000"),
            ((X, [NAN]), "the border at sample nan"),
            ((X[:100], [50]), "no two frames"),
        ],
    ),
    "seams.seam_figure": (
        lambda near, interior: seams.seam_figure("seam", seams.SeamFlux(near, interior), KEY),
        [((X[:0], X[:0]), NAN), ((X[:1], 0 * X[:1]), NAN)],
    ),
}
NO_METRIC = {
    "intervals.normal_quantile": "takes a probability: tests/metrics/test_intervals.py",
    "neighbours.distances_in_parts": "takes what as_features returned",
}


def test_every_public_metric_is_declared():
    public = set()
    for found in pkgutil.iter_modules(metrics.__path__):
        module = importlib.import_module(f"audiodiff.metrics.{found.name}")
        public |= {
            f"{found.name}.{name}"
            for name, function in inspect.getmembers(module, inspect.isfunction)
            if function.__module__ == module.__name__ and not name.startswith("_")
        }
    tables = (OF_PAIRS, OF_SEQUENCES, OF_SETS, OF_ARRAYS, NO_METRIC)
    declared = {name.partition(",")[0] for table in tables for name in table}
    assert public == declared, "declare in a table what each bad input gives"


def _rows():
    """Yield every metric with the arguments and the outcome of each of its cases."""
    tables = {name: (metric, PAIRS, gives) for name, (metric, gives) in OF_PAIRS.items()} | OF_SEQUENCES
    tables |= {name: (metric, SETS, gives) for name, (metric, gives) in OF_SETS.items()}
    for name, (metric, cases, gives) in tables.items():
        for case, arguments in cases.items():
            yield pytest.param(metric, arguments, gives[case], id=f"{name}: {case}")
    for name, (metric, cases) in OF_ARRAYS.items():
        for i, (given, gives) in enumerate(cases):
            arguments = given if type(given) is tuple else (given,)
            yield pytest.param(metric, arguments, gives, id=f"{name}: {i}")


@pytest.fixture
def _no_packages(monkeypatch):
    """Stand in for the packages of perceptual metrics, which would give a number for all of it."""

    def some_number(*_, **__):
        return 3.0

    model = types.SimpleNamespace(create=some_number, measure_from_arrays=some_number)
    package = types.SimpleNamespace(stoi=some_number, pesq=some_number, VisqolApi=lambda: model)
    monkeypatch.setattr(perceptual, "_package", lambda *_: package)


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.usefixtures("_no_packages")
@pytest.mark.parametrize(("metric", "arguments", "gives"), list(_rows()))
def test_a_bad_input_gives_what_is_declared(metric, arguments, gives):
    if isinstance(gives, str) and gives != MEASURED:
        with pytest.raises(ValueError, match=gives):
            metric(*arguments)
        return
    found = metric(*arguments)
    if isinstance(found, intervals.Figure):
        assert math.isnan(found.value) or found.count == np.isfinite(arguments[0]).sum()
        found = found.value
    if isinstance(gives, str):
        assert np.isfinite(found).all()
    else:
        np.testing.assert_allclose(found, np.broadcast_to(gives, np.shape(found)), atol=1e-12)
