"""Ask what changes on recorded digits when errors are weighted by what masks them.

    python experiments/studies/perceptual_weighting.py --judge=runs/judge_digits \
        --out=experiments/results/perceptual_weighting/figures.json

Price: does noise under the masking threshold cost less than white noise of the same energy, and one and the same burst
less in the loudest place of a clip than in its quietest? Choice: a clip is described by few of its MDCT coefficients,
those that lower the plain squared error the most, or the one weighted by the masking threshold or by the threshold in
quiet; what do measures say that know nothing of the weights? No network was trained. About three minutes on two CPU
cores; AUDIODIFF_DATA names the folder that holds fsdd/.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import sys
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from metric_vs_perception import FULL_SCALE_DB_SPL, LENGTH_SAMPLES, MEL, RATE_HZ, Metric, entry, join, read, write
from phase_and_mel import BATCH, judged, multi_resolution

from audiodiff import dsp, prng
from audiodiff.dsp.mdct import MdctSpec, imdct, mdct
from audiodiff.evaluation.judge import Judge
from audiodiff.evaluation.score import Clips
from audiodiff.metrics import perceptual, signal
from audiodiff.metrics.intervals import mean_figure, median_figure, proportion_figure

MASKING = dsp.MaskingSpec(rate_hz=RATE_HZ, full_scale_db_spl=FULL_SCALE_DB_SPL, fft_samples=256, hop_samples=128)
MDCT = MdctSpec(256)
"""Its frames have their middles where those of MASKING have them."""

BELOW_DB = 6.0
BURST_SAMPLES, BURST_DB = 400, -15.0
"""50 ms of noise, at a level below the loudest 50 ms of the clip."""

SHARES_PERCENT = (1, 2, 5, 10)
WEIGHTS = ("plain", "masking", "quiet")


def main() -> None:
    """Measure everything, print it, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", default="runs/judge_digits", help="workdir of the judge")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    judge, clips, facts = read(arguments.judge)
    joined = join(clips).audio
    key = prng.stream(arguments.seed, "perceptual weighting")
    figures = {
        "command": " ".join(["python", *sys.argv]),
        "seed": arguments.seed,
        **facts,
        "noise under the threshold against white noise": price(joined, *equal_energies(joined, key), key),
        "a burst in the loudest against the quietest place": price(joined, *moved_burst(joined, key), key),
        "few coefficients": {
            f"{share} %": few_coefficients(judge, clips, joined, share / 100) for share in SHARES_PERCENT
        },
    }
    write(figures, arguments.out)


@jax.jit
def threshold(audio: jax.Array) -> jax.Array:
    """Return the masking threshold of audio [..., time] in dB SPL, [..., frame, band], masking in time included."""
    return dsp.temporal_masking_db_spl(dsp.masking_threshold_db_spl(audio, MASKING), MASKING)


def equal_energies(audio: np.ndarray, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return noise at least BELOW_DB under the threshold in every frame and band, and white noise of its energy."""
    weights = dsp.masking_weights(threshold(audio), MASKING)
    noise = jax.random.normal(prng.stream(key, "shaped"), weights.shape, jnp.complex64)
    shaped = dsp.istft(noise / jnp.sqrt(weights), MASKING.stft, audio.shape[-1])
    ratio_db = dsp.noise_to_mask_db(shaped, threshold(audio), MASKING).max(axis=(-2, -1))
    hidden = np.asarray(shaped * 10 ** ((-BELOW_DB - ratio_db[:, None]) / 20))
    white = np.asarray(jax.random.normal(prng.stream(key, "white"), audio.shape))
    return hidden, white * np.linalg.norm(hidden, axis=1, keepdims=True) / np.linalg.norm(white, axis=1, keepdims=True)


def moved_burst(audio: np.ndarray, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return one burst of noise a clip where the clip is loudest, and the same samples where it is quietest."""
    inside = audio[:, : LENGTH_SAMPLES - LENGTH_SAMPLES % BURST_SAMPLES - BURST_SAMPLES]  # no silence at the end
    power = np.square(inside).reshape(len(audio), -1, BURST_SAMPLES).mean(axis=-1)
    burst = np.asarray(jax.random.normal(key, (len(audio), BURST_SAMPLES))) * np.hanning(BURST_SAMPLES)
    level = np.sqrt(power.max(axis=1, keepdims=True)) * 10 ** (BURST_DB / 20)
    burst *= level / np.sqrt(np.mean(np.square(burst), axis=1, keepdims=True))
    placed = []
    for places in (power.argmax(axis=1), power.argmin(axis=1)):
        noise = np.zeros_like(audio)
        for clip, place in enumerate(places):
            noise[clip, place * BURST_SAMPLES : (place + 1) * BURST_SAMPLES] = burst[clip]
        placed.append(noise)
    return placed[0], placed[1]


def price(audio: np.ndarray, hidden: np.ndarray, bare: np.ndarray, key: jax.Array) -> dict:
    """Return, per distance, its median for either noise and the share of clips in which the hidden one costs less."""
    distances: dict[str, Metric] = {
        "masked distance": jax.jit(lambda x, s: dsp.masked_distance(x - s, threshold(s), MASKING)),
        "squared error": lambda x, s: np.mean(np.square(np.asarray(x, np.float64) - s), axis=-1),
        "complex STFT": jax.jit(lambda x, s: dsp.complex_stft_distance(x, s, MASKING.stft)),
        "LSD": jax.jit(lambda x, s: dsp.log_spectral_distance(x, s, MASKING.stft)),
        "mel L1": jax.jit(lambda x, s: dsp.mel_distance(x, s, MEL)),
        "-PESQ": lambda x, s: -perceptual.pesq(x, s, RATE_HZ, "nb"),
    }
    peak_db = [
        np.asarray(dsp.noise_to_mask_db(noise, threshold(audio), MASKING)).max(axis=(-2, -1))
        for noise in (hidden, bare)
    ]
    snr_db = signal.snr(audio + hidden, audio)
    result = {
        "SNR": entry(median_figure("SNR", snr_db, key, unit="dB")),
        "largest noise-to-mask, hidden": entry(median_figure("hidden", peak_db[0], key, unit="dB")),
        "largest noise-to-mask, bare": entry(median_figure("bare", peak_db[1], key, unit="dB")),
    }
    for name, distance in distances.items():
        low, high = (np.asarray(distance(audio + noise, audio), np.float64) for noise in (hidden, bare))
        # Equal energies are equal but for the rounding of float32.
        less = low < high * (1 - 1e-4) if name == "squared error" else low < high
        result[name] = {
            "hidden": entry(median_figure("hidden", low, key)),
            "bare": entry(median_figure("bare", high, key)),
            "hidden costs less": entry(proportion_figure("less", int(less.sum()), len(less))),
        }
    return result


def few_coefficients(judge: Judge, clips: Clips, joined: np.ndarray, share: float) -> dict:
    """Return what is measured of clips that keep a share of their coefficients, by the weights of the choice.

    The judge on the test clips; on the joined ones distances that know nothing of the weights, the masked distance,
    which does, and how much the choice by weights wins over the plain one in each, clip by clip.
    """
    test = {weights: kept(clips.audio, share, weights) for weights in WEIGHTS}
    speech = {weights: kept(joined, share, weights) for weights in WEIGHTS}
    found = {weights: measures(audio, joined) for weights, audio in speech.items()}
    return {
        weights: {
            **judged(judge, clips, test[weights]),
            **{name: entry(mean_figure(name, values)) for name, values in found[weights].items()},
            "more than plain": {
                name: entry(mean_figure(name, values - found["plain"][name])) for name, values in found[weights].items()
            },
        }
        for weights in WEIGHTS
    }


def kept(audio: np.ndarray, share: float, weights: str) -> np.ndarray:
    """Return audio [clip, time] with the share of its MDCT coefficients that are largest by the weights."""
    parts = [audio[start : start + BATCH] for start in range(0, len(audio), BATCH)]
    return np.concatenate([_kept(jnp.asarray(part), share, weights) for part in parts])


@functools.partial(jax.jit, static_argnames=("share", "weights"))
def _kept(audio: jax.Array, share: float, weights: str) -> jax.Array:
    """The MDCT is orthonormal: of all choices of as many, the largest weighted squares leave the least weighted error.

    A coefficient lies between two bins of the weights.
    """
    coefficients = mdct(audio, MDCT)
    energy = jnp.square(coefficients)
    if weights != "plain":
        level = threshold(audio) if weights == "masking" else jnp.asarray(MASKING.quiet_db_spl(), jnp.float32)
        of_bin = dsp.masking_weights(level, MASKING)
        energy = energy * (of_bin[..., :-1] + of_bin[..., 1:])
    flat = energy.reshape(len(audio), -1)
    # The silence that fills up a clip has no part in the count.
    count = jnp.round(share * jnp.sum(jnp.cumsum(jnp.abs(audio[:, ::-1]), axis=1) > 0, axis=1)).astype(int)
    least = jnp.take_along_axis(jnp.sort(flat, axis=1), flat.shape[1] - count[:, None], axis=1)
    return imdct(jnp.where(energy >= least[:, :, None], coefficients, 0), MDCT, audio.shape[-1])


def measures(audio: np.ndarray, target: np.ndarray) -> Mapping[str, np.ndarray]:
    """Return measures [clip] of audio [clip, time] against its target."""
    convergence, log_magnitude = multi_resolution(audio, target)
    return {
        "SNR": signal.snr(audio, target),
        "multi-resolution STFT": convergence + log_magnitude,
        "mel L1": np.asarray(dsp.mel_distance(audio, target, MEL), np.float64),
        "ESTOI": perceptual.stoi(audio, target, RATE_HZ, extended=True),
        "PESQ": perceptual.pesq(audio, target, RATE_HZ, "nb"),
        "masked distance": np.asarray(dsp.masked_distance(audio - target, threshold(target), MASKING), np.float64),
    }


if __name__ == "__main__":
    main()
