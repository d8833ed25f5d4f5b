"""Ask how much of speech a mel spectrogram keeps, by its number of bands: what can be told of it from both sides.

    python experiments/studies/mel_information.py --out=experiments/results/mel_information/figures.json

I(audio; mel) itself is infinite, as a mel is a function of its audio, so every figure here is a proxy of it. On the
Free Spoken Digit Dataset, its train split to learn from and its 300 test clips to measure on, for 16 to 80 bands:

rank            how many directions of the 257 bins the filters keep
reconstruction  how far what comes back is from the clip: pseudo-inverse, and phase recovery
probe           what a linear classifier makes of digit and speaker, and the information on them that it proves
channel         an upper bound on what the mel of a spectrum seen under white noise tells of it, beside all bins
components      the information between principal components of log-mel and of log spectrum, by two estimators

The estimators are first held against Gaussian pairs of known information. About three
minutes of CPU time; AUDIODIFF_DATA names the folder that holds fsdd/. scikit-learn
comes with the development extra.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import pathlib
import sys
from typing import Any, NamedTuple

# Run by path: configs/ is at the project's root.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import jax
import numpy as np
import optax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from audiodiff import dsp, prng
from audiodiff.build.data import make_data
from audiodiff.build.evaluate import read_clips
from audiodiff.evaluation.score import Clips
from audiodiff.metrics.classification import accuracy
from audiodiff.metrics.intervals import Figure, mean_figure
from audiodiff.metrics.mutual_information import ksg, neural_lower_bound
from configs import common

BANDS = (16, 24, 32, 40, 64, 80)
RATE_HZ = 8000
STFT = dsp.StftSpec(512, 128)
FLOOR, LOUD_DB = 1e-4, 40
ITERATIONS, MOMENTUM = 32, 0.99
RESOLUTIONS = dsp.MULTI_RESOLUTION_PRESETS["auraloss"]
BATCH = 50
HEADS = ("digit", "speaker")
SEGMENTS = 8
SNR_DB = (0, 20, 40)
"""Of white noise on a spectrum's magnitudes: their variance over that of the noise, both summed over bins."""
COMPONENTS, FRAMES, RESAMPLES = 2, 16, 5
GAUSSIANS = ((1, 0.0), (1, 0.9), (2, 0.7))
"""Dimensions of each variable and the correlation of their pairs, against which both estimators are held."""
SEEDS, PAIRS = 5, 2000
LEARNING_RATE, ROUNDS, ROUND_STEPS = 3e-3, 8, 40
BITS = 1 / math.log(2)


def main() -> None:
    """Measure everything, print it, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--clips", type=int, help="only every n-th clip of each split", default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    settings: dict[str, Any] = {**common.data(), "conditions": HEADS}
    sets = make_data(settings)
    train, test = (
        thinned(read_clips(sets.split(settings[f"{split}_split"]), sets.preparation), arguments.clips)
        for split in ("train", "test")
    )
    key = prng.stream(arguments.seed, "mel information")
    seen = spectra(train.audio, test.audio)
    record = {
        "command": " ".join(["python", *sys.argv]),
        "seed": arguments.seed,
        "data": f"{settings['name']}, manifest {sets.manifest_hash}",
        "clips": {"train": len(train.audio), "test": len(test.audio)},
        "estimators": estimators(prng.stream(key, "gaussians")),
        "bands": {bands: of_bands(bands, train, test, seen, key) for bands in BANDS},
        "all bins": of_all_bins(train, test, seen),
    }
    text = json.dumps(record, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


def thinned(clips: Clips, step: int) -> Clips:
    """Return every ``step``-th clip."""
    return Clips(clips.audio[::step], {name: label[::step] for name, label in clips.labels.items()}, clips.rate_hz)


def of_bands(bands: int, train: Clips, test: Clips, seen: Spectra, key: jax.Array) -> dict:
    """Return all that is measured of log-mels of so many bands."""
    spec = mel_spec(bands)
    bank = spec.filterbank()
    rank = dsp.filterbank_rank(bank)
    mels = {"train": log_mels(train.audio, spec), "test": log_mels(test.audio, spec)}
    return {
        "rank": rank,
        "null space": STFT.bins - rank,
        **reconstruction(test.audio, spec),
        "probe": probes(mels["train"], train.labels, mels["test"], test.labels),
        "channel": channel(bank, seen.sums),
        "components": shared(
            components(mels["train"], loud(seen.train), mels["test"]), seen, prng.stream(key, "components")
        ),
    }


def of_all_bins(train: Clips, test: Clips, seen: Spectra) -> dict:
    """Return the same of the magnitudes themselves, where it is defined: what all bands are to be compared with."""
    recovered = recover_in_batches(test.audio, lambda audio: dsp.magnitude(dsp.stft(audio, STFT)))
    return {
        "rank": STFT.bins,
        "null space": 0,
        **distances(recovered, test.audio),
        "probe": probes(seen.train, train.labels, seen.test, test.labels),
        "channel": channel(np.eye(STFT.bins), seen.sums),
    }


def mel_spec(bands: int) -> dsp.MelSpec:
    """Return the convention of all mels here."""
    return dsp.MelSpec(rate_hz=RATE_HZ, stft=STFT, bands=bands, fmax_hz=RATE_HZ / 2, floor=FLOOR)


# --- features


class Spectra(NamedTuple):
    """Hold log magnitudes of all bins [clip, frame, bin], and what is needed of them for every count of bands.

    ``sums`` are, by part of the train clips, the number of loud frames and the sums of their magnitudes and of the
    products of these; ``components`` the first principal components of the test clips [clip, frame, component].
    """

    train: np.ndarray
    test: np.ndarray
    sums: list[tuple[int, np.ndarray, np.ndarray]]
    components: np.ndarray


def spectra(train_audio: np.ndarray, test_audio: np.ndarray) -> Spectra:
    """Return the log magnitudes of both splits with what is needed of them."""
    train, test = log_spectra(train_audio), log_spectra(test_audio)
    sums = []
    for part in range(RESAMPLES):
        x = np.exp(train[part::RESAMPLES][loud(train[part::RESAMPLES])])
        sums.append((len(x), x.sum(axis=0, dtype=np.float64), (x.T @ x).astype(np.float64)))
    return Spectra(train, test, sums, components(train, loud(train), test))


def log_mels(audio: np.ndarray, spec: dsp.MelSpec) -> np.ndarray:
    """Return log-mels [clip, frame, band]."""
    return in_batches(jax.jit(functools.partial(dsp.log_mel, spec=spec)), audio)


def log_spectra(audio: np.ndarray) -> np.ndarray:
    """Return log magnitudes of all bins above the floor [clip, frame, bin]."""
    return in_batches(
        jax.jit(lambda x: jax.numpy.log(jax.numpy.maximum(dsp.magnitude(dsp.stft(x, STFT)), FLOOR))), audio
    )


def in_batches(function: Any, audio: np.ndarray) -> np.ndarray:
    """Return what a function makes of clips [clip, time], a batch at a time."""
    return np.concatenate([np.asarray(function(audio[i : i + BATCH])) for i in range(0, len(audio), BATCH)])


def sounding(audio_frames: np.ndarray) -> np.ndarray:
    """Return which frames [clip, frame] of log features [clip, frame, bin] are not all at the floor."""
    return audio_frames.max(axis=-1) > math.log(FLOOR) + 1e-3


def loud(log_magnitudes: np.ndarray) -> np.ndarray:
    """Return which frames [clip, frame] have a bin within LOUD_DB of the loudest of the clip: above every floor."""
    peak = log_magnitudes.max(axis=-1)
    return peak > peak.max(axis=-1, keepdims=True) - LOUD_DB / 20 * math.log(10)


# --- reconstruction


def reconstruction(audio: np.ndarray, spec: dsp.MelSpec) -> dict:
    """Return distances of audio [clip, time] by pseudo-inverse and phase recovery from its mel."""
    return distances(
        recover_in_batches(audio, lambda x: dsp.magnitude_from_mel(dsp.mel_spectrogram(x, spec), spec, 0)), audio
    )


def recover_in_batches(audio: np.ndarray, magnitudes: Any) -> np.ndarray:
    """Return audio [clip, time] made by fast Griffin-Lim from zero phase of magnitudes that are made of audio."""
    made = jax.jit(
        lambda x: (
            dsp.griffin_lim(magnitudes(x), STFT, ITERATIONS, momentum=MOMENTUM, length_samples=audio.shape[-1]).audio
        )
    )
    return in_batches(made, audio)


def distances(estimate: np.ndarray, target: np.ndarray) -> dict:
    """Return the log-spectral and the multi-resolution STFT distance, means over clips."""
    return {
        "LSD": entry(mean_figure("LSD", dsp.log_spectral_distance(estimate, target, STFT, FLOOR**2), unit="dB")),
        "multi-resolution STFT": entry(
            mean_figure("distance", dsp.multi_resolution_stft_distance(estimate, target, RESOLUTIONS))
        ),
    }


# --- probes


def probes(train: np.ndarray, train_labels: Any, test: np.ndarray, test_labels: Any) -> dict:
    """Return, by summary of time and by head, accuracy and proven information of a logistic regression.

    With q(label | features) the classifier, I(label; features) >= H(label) + E log q (Barber and Agakov 2003), in bits,
    here of the test labels' H, above which no I can be.
    """
    found: dict[str, dict] = {}
    for summary, features in {"mean and deviation": moments, f"{SEGMENTS} segments": segments}.items():
        x, y = features(train), features(test)
        found[summary] = {head: probe(x, train_labels[head], y, test_labels[head], head) for head in HEADS}
    return found


def probe(x: np.ndarray, labels: np.ndarray, y: np.ndarray, test_labels: np.ndarray, head: str) -> dict:
    """Fit on x [clip, feature], and measure on y."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300, tol=1e-3)).fit(x, labels)
    shares = np.bincount(test_labels) / len(test_labels)
    entropy = -float(np.sum(shares[shares > 0] * np.log2(shares[shares > 0])))
    said = model.predict_log_proba(y)[np.arange(len(y)), np.searchsorted(model.classes_, test_labels)] * BITS
    return {
        "accuracy": entry(accuracy(test_labels, model.predict(y), head)),
        "at least": entry(mean_figure(head, entropy + said, unit="bit")),
        "at most": round(entropy, 3),
    }


def moments(frames: np.ndarray) -> np.ndarray:
    """Return mean and standard deviation over the sounding frames [clip, 2 bin]."""
    keep = sounding(frames)[..., None]
    count = np.maximum(keep.sum(axis=1), 1)
    mean = np.sum(frames * keep, axis=1) / count
    spread = np.sqrt(np.sum(np.square(frames - mean[:, None]) * keep, axis=1) / count)
    return np.concatenate([mean, spread], axis=1)


def segments(frames: np.ndarray) -> np.ndarray:
    """Return the means of equal parts of the sounding frames, one after another [clip, SEGMENTS bin]."""
    found = []
    for clip, keep in zip(frames, sounding(frames), strict=True):
        heard = clip[: max(int(np.flatnonzero(keep).max(initial=0)) + 1, SEGMENTS)]
        found.append(np.concatenate([part.mean(axis=0) for part in np.array_split(heard, SEGMENTS)]))
    return np.stack(found)


# --- information of a frame


def channel(bank: np.ndarray, sums: list[tuple[int, np.ndarray, np.ndarray]]) -> dict:
    """Return the capacity of x -> B (x + n) for magnitudes of the covariance C, in bits a frame, by SNR.

    n is white noise of variance s^2 in each bin, x any spectrum of the covariance C::

        I(x; B (x + n)) <= 1/2 log det(B (C + s^2 I) B') - 1/2 log det(s^2 B B')

    with equality where x is Gaussian, which magnitudes are not: an upper bound under this noise. It does not change
    with any invertible mixing of the bands, and is never above that of B = I (data processing). Interval: jackknife
    over RESAMPLES parts of the clips.
    """

    def bits(left_out: int | None, snr_db: float) -> float:
        count, total, square = (sum(s[i] for j, s in enumerate(sums) if j != left_out) for i in range(3))
        covariance = square / count - np.outer(total, total) / count**2
        noise = np.trace(covariance) / len(covariance) * 10 ** (-snr_db / 10)
        # An orthonormal basis of the bands' span: redundant bands say nothing new, and would make a determinant 0.
        _, values, basis = np.linalg.svd(bank, full_matrices=False)
        basis = basis[values > 1e-6 * values[0]]
        return 0.5 * float(np.linalg.slogdet(np.eye(len(basis)) + basis @ covariance @ basis.T / noise)[1]) * BITS

    return {f"{snr_db} dB": entry(jackknifed(functools.partial(bits, snr_db=snr_db))) for snr_db in SNR_DB}


def jackknifed(of: Any) -> Figure:
    """Return of(None) with Student's interval from of(i), the value without part i, of RESAMPLES parts."""
    value = of(None)
    pseudo = [RESAMPLES * value - (RESAMPLES - 1) * of(i) for i in range(RESAMPLES)]
    interval = mean_figure("", pseudo)
    half = (interval.high - interval.low) / 2
    return Figure("capacity", value, value - half, value + half, RESAMPLES, "bit")


def shared(of_mel: np.ndarray, seen: Spectra, key: jax.Array) -> dict:
    """Return the information between components of log-mel and of log spectrum in frames of test clips, twice.

    A few components are a function of all, so their I is below that of the whole. RESAMPLES draws of frames; the
    interval of the first draw is over clips, that of the mean over draws, whose clips are the same.
    """
    keep, figures = loud(seen.test), []
    for draw in range(RESAMPLES):
        rng = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.fold_in(key, draw))))
        chosen = [(clip, f) for clip, row in enumerate(keep) for f in rng.permutation(np.flatnonzero(row))[:FRAMES]]
        clip, frame = np.array(chosen).T
        pair = of_mel[clip, frame], seen.components[clip, frame]
        figures.append(ksg(*pair, key, groups=clip))
        if draw == 0:
            lower = bound(*pair, key, groups=clip)
    draws = mean_figure("draws", [figure.value for figure in figures], unit="nat")
    return {"KSG": entry(figures[0]), "KSG, mean of draws": entry(draws), "neural": entry(lower)}


def components(train: np.ndarray, keep: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return the first principal components of frames of the test clips, by the covariance of kept train frames."""
    frames = train[keep].astype(np.float64)
    mean = frames.mean(axis=0)
    _, directions = np.linalg.eigh(np.cov(frames, rowvar=False))
    return (test.astype(np.float64) - mean) @ directions[:, ::-1][:, :COMPONENTS]


# --- estimators

bound = functools.partial(neural_lower_bound, optimiser=optax.adam(LEARNING_RATE), rounds=ROUNDS, steps=ROUND_STEPS)
"""(x, y, key, groups) -> Figure: the network's bound as it is trained everywhere here."""


def estimators(key: jax.Array) -> dict:
    """Return by Gaussian the error in nats, mean over seeds: the network's where it is used as it is here."""
    found = {}
    for dims, rho in GAUSSIANS:
        truth = -dims / 2 * math.log(1 - rho**2)
        errors: dict[str, list[float]] = {"KSG": [], "neural": []}
        for seed in range(SEEDS):
            one = jax.random.fold_in(key, seed)
            x, z = np.random.default_rng(np.asarray(jax.random.key_data(one))).normal(size=(2, PAIRS, dims))
            y = rho * x + math.sqrt(1 - rho**2) * z
            errors["KSG"].append(ksg(x, y, one).value - truth)
            if dims == COMPONENTS:
                errors["neural"].append(bound(x, y, one).value - truth)
        found[f"{dims} + {dims} dimensions, correlation {rho:g}"] = {
            "truth": round(truth, 3),
            **{name: entry(mean_figure(name, values, unit="nat")) for name, values in errors.items() if values},
        }
    return found


def entry(figure: Figure) -> dict:
    """Return a figure as JSON holds it here."""
    return {
        "value": round(figure.value, 4),
        "interval": [round(figure.low, 4), round(figure.high, 4)],
        "count": figure.count,
        **({"unit": figure.unit} if figure.unit else {}),
    }


if __name__ == "__main__":
    main()
