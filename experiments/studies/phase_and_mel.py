"""Ask what is lost with the phase of a spectrogram, and with the magnitudes between the bands of a mel spectrogram.

    python experiments/studies/phase_and_mel.py --judge=runs/judge_digits \
        --out=experiments/results/phase_and_mel/figures.json

Phase: the test clips of the Free Spoken Digit Dataset, resynthesised from their own STFT magnitudes with the correct,
a recovered, a zero and a random phase, at three lengths of window; the judge's accuracy and the distance to the
original. Mel: joined clips of 2.5 s (studies/metric_vs_perception.py) through mel spectrograms of 16 to 80 bands and
back; and, for one clip of each speaker, another waveform with the same log-mel. About four minutes on two CPU cores;
AUDIODIFF_DATA names the folder that holds fsdd/.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
import sys
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.signal
from jax.typing import ArrayLike
from metric_vs_perception import LENGTH_SAMPLES, MEL, RATE_HZ, entry, join, read, write

from audiodiff import dsp, prng
from audiodiff.dsp.mel_inversion import magnitude_from_mel
from audiodiff.dsp.phase_recovery import griffin_lim
from audiodiff.evaluation.judge import Judge
from audiodiff.evaluation.score import Clips
from audiodiff.metrics import signal
from audiodiff.metrics.classification import accuracy
from audiodiff.metrics.intervals import mean_figure, proportion_figure

WINDOWS = (64, 256, 1024)
"""Lengths of Hann windows, each at a hop of a quarter: 8, 32 and 128 ms."""
PHASES = ("correct", "recovered", "zero", "random")
ITERATIONS, MOMENTUM = 32, 0.99

BANDS = (16, 24, 32, 40, 48, 64, 80)
POWER_FLOOR = 1e-6
"""Of a log-spectral distance, 63 dB below the mean |X|^2 of these clips: a bin at zero is as far away as that."""
NON_NEGATIVE_STEPS, EQUAL_MEL_STEPS = 100, 400

RESOLUTIONS = dsp.MULTI_RESOLUTION_PRESETS["parallel_wavegan"]
BATCH = 50


def main() -> None:
    """Measure everything, print it, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", default="runs/judge_digits", help="workdir of the judge")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    judge, clips, facts = read(arguments.judge)
    key = prng.stream(arguments.seed, "phase and mel")
    joined = join(clips)
    first_of_speaker = joined.audio[np.unique(joined.speaker, return_index=True)[1]]
    figures = {
        "command": " ".join(["python", *sys.argv]),
        "seed": arguments.seed,
        **facts,
        "original": judged(judge, clips, clips.audio),
        "phase": {
            f"{window / RATE_HZ * 1000:g} ms": phases(judge, clips, dsp.StftSpec(window, window // 4), key)
            for window in WINDOWS
        },
        "mel": mel_counts(joined.audio, key),
        "equal mels": [equal_mels(clip, jax.random.fold_in(key, index)) for index, clip in enumerate(first_of_speaker)],
    }
    write(figures, arguments.out)


def judged(judge: Judge, clips: Clips, audio: np.ndarray) -> dict:
    """Return how often the judge takes audio [clip, time] for what the clips are, and how often it rejects it."""
    verdicts = judge(audio, clips.rate_hz)
    rejected = verdicts.rejected()
    return {
        **{head: entry(accuracy(clips.labels[head], verdicts.labels(head), head)) for head in verdicts.classes},
        "rejected": entry(proportion_figure("rejected", int(rejected.sum()), len(rejected))),
    }


def phases(judge: Judge, clips: Clips, spec: dsp.StftSpec, key: jax.Array) -> dict:
    """Return, per phase, what the judge says, the distance to the original, and how often it is the nearest of all."""
    found: dict[str, list[np.ndarray]] = {phase: [] for phase in PHASES}
    for start in range(0, len(clips.audio), BATCH):
        audio = clips.audio[start : start + BATCH]
        for phase, values in resynthesise(audio, spec, jax.random.fold_in(key, start)).items():
            found[phase].append(np.asarray(values))
    heard = {phase: np.concatenate(parts) for phase, parts in found.items()}
    terms = {phase: multi_resolution(audio, clips.audio) for phase, audio in heard.items()}
    distances = {phase: convergence + log_magnitude for phase, (convergence, log_magnitude) in terms.items()}
    nearest = np.argmin([distances[phase] for phase in PHASES], axis=0)
    return {
        phase: {
            **judged(judge, clips, heard[phase]),
            "multi-resolution STFT": entry(mean_figure("distance", distances[phase])),
            "spectral convergence": entry(mean_figure("convergence", terms[phase][0])),
            "nearest": entry(proportion_figure("nearest", int(np.sum(nearest == index)), len(nearest))),
        }
        for index, phase in enumerate(PHASES)
    }


@functools.partial(jax.jit, static_argnames="spec")
def resynthesise(audio: jax.Array, spec: dsp.StftSpec, key: jax.Array) -> dict[str, jax.Array]:
    """Return audio [clip, time] from its magnitudes alone, by phase; "correct" has its own."""
    spectrum, length = dsp.stft(audio, spec), audio.shape[-1]
    magnitude = dsp.magnitude(spectrum)
    starts = prng.stream(key, "recovery")
    return {
        "correct": griffin_lim(magnitude, spec, 0, length_samples=length, phase=jnp.angle(spectrum)).audio,
        "recovered": griffin_lim(
            magnitude, spec, ITERATIONS, length_samples=length, momentum=MOMENTUM, key=starts
        ).audio,
        "zero": griffin_lim(magnitude, spec, 0, length_samples=length).audio,
        "random": griffin_lim(magnitude, spec, 0, length_samples=length, key=prng.stream(key, "phase")).audio,
    }


def multi_resolution(estimate: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both terms of the multi-resolution STFT distance of clips [clip, time], [clip] each."""
    measure = jax.jit(lambda x, s: dsp.multi_resolution_stft_terms(x, s, RESOLUTIONS))
    parts = [
        measure(estimate[start : start + BATCH], target[start : start + BATCH])
        for start in range(0, len(target), BATCH)
    ]
    convergence, log_magnitude = (np.concatenate(term).astype(np.float64) for term in zip(*parts, strict=True))
    return convergence, log_magnitude


def mel_counts(audio: np.ndarray, key: jax.Array) -> dict:
    """Return, by number of bands, the log-spectral distance in dB of what comes back from a mel spectrogram.

    Of the magnitudes by the pseudo-inverse with negative values cut off, by non-negative least squares, and of audio
    that is made of the latter by phase recovery; and what each step to more bands wins.
    """
    magnitude = np.asarray(dsp.magnitude(dsp.stft(audio, MEL.stft)))
    recover = jax.jit(
        lambda m: griffin_lim(m, MEL.stft, ITERATIONS, length_samples=LENGTH_SAMPLES, momentum=MOMENTUM, key=key).audio
    )
    distances: dict[int, dict[str, np.ndarray]] = {}
    ranks = {}
    for bands in BANDS:
        spec = dataclasses.replace(MEL, bands=bands)
        mel = dsp.mel_spectrogram(audio, spec)
        non_negative = magnitude_from_mel(mel, spec, NON_NEGATIVE_STEPS)
        ranks[bands] = dsp.filterbank_rank(spec.filterbank())
        distances[bands] = {
            "pseudo-inverse": magnitude_distance(magnitude_from_mel(mel, spec, 0), magnitude),
            "non-negative": magnitude_distance(non_negative, magnitude),
            "audio": np.asarray(dsp.log_spectral_distance(recover(non_negative), audio, MEL.stft, POWER_FLOOR)),
        }
    full = recover(magnitude)
    return {
        "bands": {
            bands: {
                "rank": ranks[bands],
                "null space": MEL.stft.bins - ranks[bands],
                **{kind: entry(mean_figure(kind, values, unit="dB")) for kind, values in by_kind.items()},
            }
            for bands, by_kind in distances.items()
        },
        "audio of all bins": entry(
            mean_figure("audio", dsp.log_spectral_distance(full, audio, MEL.stft, POWER_FLOOR), unit="dB")
        ),
        "won by more bands": {
            f"{few} to {many}": {
                kind: entry(mean_figure(kind, distances[few][kind] - distances[many][kind], unit="dB"))
                for kind in distances[few]
            }
            for few, many in pairwise(BANDS)
        },
    }


def magnitude_distance(estimate: ArrayLike, target: ArrayLike) -> np.ndarray:
    """Return the log-spectral distance in dB of magnitudes [clip, frame, bin], [clip]."""
    x, s = (10 * np.log10(np.maximum(np.square(a, dtype=np.float64), POWER_FLOOR)) for a in (estimate, target))
    return np.sqrt(np.mean(np.square(x - s), axis=-1)).mean(axis=-1)


def equal_mels(audio: np.ndarray, key: jax.Array) -> dict:
    """Make another waveform with the log-mel of audio [time], and return how equal the one and how unlike the other is.

    First in the spectrogram: M (1 + u) with u in the null space of B diag(M), scaled to |u| <= 1, is a spectrogram of
    the same mel that is nowhere negative. A waveform of its own it need not have: from the audio that phase recovery
    makes of it, L-BFGS minimises the mean squared difference of the log-mels in dB. There is room: unknowns are the
    samples, equations frames times bands.
    """
    spec = dataclasses.replace(MEL, log="db")
    magnitude = np.asarray(dsp.magnitude(dsp.stft(audio, spec.stft)), np.float64)
    weighted = spec.filterbank() * magnitude[:, None, :]
    free = np.asarray(jax.random.normal(prng.stream(key, "null space"), magnitude.shape), np.float64)
    inside = free - np.einsum("mkb,mb->mk", np.linalg.pinv(weighted), np.einsum("mbk,mk->mb", weighted, free))
    other = magnitude * (1 + inside / np.abs(inside).max(axis=-1, keepdims=True))

    wanted = dsp.log_mel(audio, spec)
    start = griffin_lim(
        other, spec.stft, ITERATIONS, length_samples=len(audio), momentum=MOMENTUM, key=prng.stream(key, "recovery")
    ).audio

    @jax.jit
    @jax.value_and_grad
    def error(x: jax.Array) -> jax.Array:
        return jnp.square(dsp.log_mel(x, spec) - wanted).mean()

    def of_host(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = error(jnp.asarray(x, jnp.float32))
        return float(value), np.asarray(gradient, np.float64)

    options = {"maxiter": EQUAL_MEL_STEPS, "ftol": 0, "gtol": 0}
    found = scipy.optimize.minimize(
        of_host, np.asarray(start, np.float64), jac=True, method="L-BFGS-B", options=options
    )
    same = found.x.astype(np.float32)
    bank = spec.filterbank()
    mel_error = np.abs(other @ bank.T - magnitude @ bank.T).max() / (magnitude @ bank.T).max()
    differences = np.abs(np.asarray(dsp.log_mel(same, spec) - wanted))
    correlation = scipy.signal.correlate(same, audio) / np.linalg.norm(same) / np.linalg.norm(audio)
    return {
        "unknowns": len(audio),
        "equations": int(np.prod(wanted.shape)),
        "spectrogram, largest mel error": float(f"{mel_error:.2g}"),
        "spectrogram, LSD dB": round(float(magnitude_distance(other[None], magnitude[None])[0]), 2),
        "waveform, mean log-mel difference dB": round(float(differences.mean()), 4),
        "waveform, largest log-mel difference dB": round(float(differences.max()), 4),
        "waveform, before dB": round(float(np.abs(np.asarray(dsp.log_mel(start, spec) - wanted)).mean()), 4),
        "waveform, LSD dB": round(float(dsp.log_spectral_distance(same, audio, spec.stft, POWER_FLOOR)), 2),
        "waveform, SNR dB": round(float(signal.snr(same, audio)), 2),
        "waveform, largest cross-correlation at any delay and sign": round(float(np.abs(correlation).max()), 3),
    }


if __name__ == "__main__":
    main()
