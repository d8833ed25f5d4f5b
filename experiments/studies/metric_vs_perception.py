"""Ask which metrics put degradations in the order of their audibility, where that order is known by construction.

    python experiments/studies/metric_vs_perception.py --judge=runs/judge_digits \
        --out=experiments/results/metric_vs_perception/figures.json

Words of the Free Spoken Digit Dataset, joined by speaker to clips of 2.5 s, are degraded in ways that are inaudible by
construction (the sign turned, a delay, noise 20 dB below the speech in each of its own frequencies) and in ways that
are audible and grow (white noise, clipping, a low-pass). A metric is wrong where it puts an inaudible one below an
audible one of the same clip. Nobody listened, and no model of ``dsp.masking`` made a degradation: it is judged too.
About four minutes on two CPU cores; AUDIODIFF_DATA names the folder that holds fsdd/.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal
from jax.typing import ArrayLike
from scipy import stats

from audiodiff import dsp, prng
from audiodiff.build.data import make_data
from audiodiff.build.evaluate import read_clips
from audiodiff.build.run import load_judge
from audiodiff.evaluation.judge import Judge
from audiodiff.evaluation.score import Clips, with_noise
from audiodiff.metrics import perceptual, signal
from audiodiff.metrics.correlation import rank_correlation
from audiodiff.metrics.intervals import Figure, mean_figure
from audiodiff.training import read_config

RATE_HZ = 8000
LENGTH_SAMPLES, FADE_SAMPLES, END_SAMPLES = 20_000, 80, 200
"""A joined clip, its fade-out, and the silence behind it that a delay may push out."""

FULL_SCALE_DB_SPL = 96.0
SHAPED_SNR_DB = 20.0
FAMILIES = ("white noise", "clipping", "low-pass")

QUIET_HZ = (20, 50, 100, 200, 400, 800, 1000, 1250, 1600, 2000, 2500, 3150, 4000)
QUIET_DB_SPL = (78.5, 44.0, 26.5, 14.4, 6.2, 2.2, 2.4, 3.5, 1.7, -1.3, -4.2, -6.0, -5.4)
"""The hearing threshold of ISO 226:2003, table 1."""

MEL = dsp.MelSpec(rate_hz=RATE_HZ, stft=dsp.StftSpec(512, 128), bands=40, fmax_hz=4000.0, floor=1e-4)
MASKING = dsp.MaskingSpec(rate_hz=RATE_HZ, full_scale_db_spl=FULL_SCALE_DB_SPL, fft_samples=256, hop_samples=64)

Metric = Callable[[np.ndarray, np.ndarray], ArrayLike]
"""(estimate, target), both [clip, time] -> a distance [clip]: the larger, the worse."""


@dataclass(frozen=True)
class Joined:
    """Hold clips [clip, time] of words joined by speaker, and where the whole words are, (start, stop) each."""

    audio: np.ndarray
    speaker: np.ndarray
    words: list[list[tuple[int, int]]]


@dataclass(frozen=True)
class Degraded:
    """Hold degraded clips [clip, time]; level 0 is inaudible, and the levels of one family rise with audibility."""

    family: str
    level: int
    audio: np.ndarray


def main() -> None:
    """Degrade, measure, rank, print, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", default="runs/judge_digits", help="workdir of the judge")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    judge, clips, facts = read(arguments.judge)
    joined = join(clips)
    key = prng.stream(arguments.seed, "metric against perception")
    degraded = degrade(joined, prng.stream(key, "degradations"))
    distances = {
        name: np.stack([np.asarray(metric(x.audio, joined.audio), np.float64) for x in degraded.values()], axis=1)
        for name, metric in metrics(judge, joined).items()
    }
    figures = {
        "command": " ".join(["python", *sys.argv]),
        "seed": arguments.seed,
        **facts,
        "clips": len(joined.audio),
        "ceiling": ceiling(degraded),
        "metrics": {name: agreement(values, degraded, key) for name, values in distances.items()},
        "medians": {
            # Strict JSON has no infinity, which is the SI-SDR of a clip whose sign is turned.
            name: {one: round(x, 4) if np.isfinite(x) else None for one, x in zip(degraded, middle, strict=True)}
            for name, values in distances.items()
            for middle in [np.median(values, axis=0).tolist()]
        },
    }
    write(figures, arguments.out)


def read(judge_workdir: str) -> tuple[Judge, Clips, dict]:
    """Return the judge, the test clips of its data set, and what goes with every figure of them."""
    judge, config = load_judge(judge_workdir), read_config(pathlib.Path(judge_workdir))
    sets = make_data(config["data"])
    clips = read_clips(sets.split(config["data"]["test_split"]), sets.preparation)
    return judge, clips, {"judge": judge.weights_hash, "manifest": sets.manifest_hash}


def write(figures: Mapping, out: pathlib.Path | None) -> None:
    """Print figures as JSON, and write them if there is somewhere to."""
    text = json.dumps(figures, indent=2)
    print(text)
    if out:
        out.write_text(text + "\n", encoding="utf-8")


def join(clips: Clips) -> Joined:
    """Join words of one speaker without the silence that fills up a clip: as many clips a speaker as takes a digit."""
    audio, speakers, words = [], [], []
    for speaker in np.unique(clips.labels["speaker"]):
        by_digit = [
            np.flatnonzero((clips.labels["speaker"] == speaker) & (clips.labels["digit"] == digit))
            for digit in np.unique(clips.labels["digit"])
        ]
        for take in range(min(map(len, by_digit))):
            order = np.roll(np.arange(len(by_digit)), -2 * take)  # so that the takes differ in their words
            parts = [np.trim_zeros(clips.audio[by_digit[digit][take]], "b") for digit in order]
            ends = np.cumsum([len(part) for part in parts])
            joined = np.concatenate(parts)[: LENGTH_SAMPLES - END_SAMPLES]
            joined[-FADE_SAMPLES:] *= np.linspace(1, 0, FADE_SAMPLES)
            audio.append(np.pad(joined, (0, LENGTH_SAMPLES - len(joined))))
            speakers.append(int(speaker))
            words.append([(int(a), int(b)) for a, b in zip([0, *ends], ends, strict=False) if b <= len(joined)])
    return Joined(np.stack(audio).astype(np.float32), np.array(speakers), words)


def degrade(joined: Joined, key: jax.Array) -> dict[str, Degraded]:
    """Return all degradations by name, the inaudible ones first."""
    audio = joined.audio
    rms = np.sqrt(np.mean(np.square(audio), axis=1, keepdims=True))
    inaudible = {
        "sign turned": -audio,
        "delay 1 ms": delayed(audio, 8),
        "delay 5 ms": delayed(audio, 40),
        "delay 20 ms": delayed(audio, 160),
        "gain -0.5 dB": audio * 10 ** (-0.5 / 20),
        "all-pass": all_pass(audio),
        "noise below hearing": audio + noise_below_hearing(prng.stream(key, "quiet"), audio.shape),
        f"shaped noise, {SHAPED_SNR_DB:g} dB": audio + shaped_noise(prng.stream(key, "shaped"), audio, SHAPED_SNR_DB),
    }
    degraded = {name: Degraded("inaudible", 0, values.astype(np.float32)) for name, values in inaudible.items()}
    for level, (snr_db, height, cutoff_hz) in enumerate([(20, 2, 2500), (10, 1, 1500), (0, 0.5, 750)], 1):
        noisy = with_noise(prng.stream(key, f"white {level}"), audio, snr_db)
        degraded[f"white noise, {snr_db} dB"] = Degraded("white noise", level, _exact_snr(noisy, audio, snr_db))
        clipped = np.clip(audio, -height * rms, height * rms)
        degraded[f"clipped at {height:g} RMS"] = Degraded("clipping", level, clipped)
        filtered = scipy.signal.sosfiltfilt(scipy.signal.butter(4, cutoff_hz, fs=RATE_HZ, output="sos"), audio)
        degraded[f"low-pass {cutoff_hz} Hz"] = Degraded("low-pass", level, filtered.astype(np.float32))
    return degraded


def delayed(audio: np.ndarray, samples: int) -> np.ndarray:
    """Return audio [clip, time] later, silence in front: alone and without the original, it is the same sound."""
    return np.pad(audio, ((0, 0), (samples, 0)))[:, : audio.shape[1]]


def all_pass(audio: np.ndarray) -> np.ndarray:
    """Return audio through four first-order all-pass filters, (a + z^-1) / (1 + a z^-1) with a = 0.4.

    Their group delay runs from 0.2 ms at 0 Hz to 1.2 ms at 4 kHz, within the 1 to 3 ms by which frequencies of 0.5 to
    4 kHz may be late before clicks sound different (Blauert and Laws, 1978).
    """
    for _ in range(4):
        audio = scipy.signal.lfilter([0.4, 1], [1, 0.4], audio)
    return audio


def noise_below_hearing(key: jax.Array, shape: tuple[int, ...]) -> np.ndarray:
    """Return noise 10 dB below the hearing threshold in each ERB, full scale played at FULL_SCALE_DB_SPL."""
    frequency_hz = np.fft.rfftfreq(shape[-1], 1 / RATE_HZ)
    # The table stands in rising order; below its first entry nothing is added.
    level_db = np.interp(frequency_hz, QUIET_HZ, QUIET_DB_SPL) - 10 - FULL_SCALE_DB_SPL
    density = np.where(frequency_hz < QUIET_HZ[0], 0, 10 ** (level_db / 10) / 2 / dsp.erb_hz(frequency_hz))
    white = np.asarray(jax.random.normal(key, shape))
    return np.fft.irfft(np.fft.rfft(white) * np.sqrt(density * RATE_HZ / 2), shape[-1])


def shaped_noise(key: jax.Array, audio: np.ndarray, snr_db: float) -> np.ndarray:
    """Return noise with the speech's own spectrum in windows of 16 ms, at an SNR over the whole clip.

    Each bin of the STFT is multiplied by complex Gaussian noise. The masking of MPEG-1 (ISO 11172-3, model 1) reaches
    to 11 dB below a tone and to 5 dB below a noise of the same critical band up to 4 kHz: 20 dB are 9 more than that.
    """
    spec = dsp.StftSpec(128, 32)
    spectrum = dsp.stft(audio, spec)
    noise = np.asarray(
        dsp.istft(spectrum * jax.random.normal(key, spectrum.shape, spectrum.dtype), spec, LENGTH_SAMPLES)
    )
    return _exact_snr(audio + noise, audio, snr_db) - audio


def _exact_snr(noisy: np.ndarray, audio: np.ndarray, snr_db: float) -> np.ndarray:
    """Scale the noise of each clip so that its energy is the same, whatever its shape: SNR cannot tell them apart."""
    noise = np.asarray(noisy, np.float64) - audio
    gain = np.linalg.norm(audio, axis=1) / np.linalg.norm(noise, axis=1) * 10 ** (-snr_db / 20)
    return (audio + noise * gain[:, None]).astype(np.float32)


def metrics(judge: Judge, joined: Joined) -> dict[str, Metric]:
    """Return the metrics under test by name, similarities with their sign turned."""
    resolutions = dsp.MULTI_RESOLUTION_PRESETS["parallel_wavegan"]

    def nsim(x: np.ndarray, s: np.ndarray) -> jax.Array:
        # The floor of MEL, and 60 dB above it.
        return dsp.nsim(dsp.log_mel(x, MEL), dsp.log_mel(s, MEL), low=np.log(1e-4), high=np.log(1e-1))

    def masked(x: np.ndarray, s: np.ndarray) -> jax.Array:
        threshold = dsp.temporal_masking_db_spl(dsp.masking_threshold_db_spl(s, MASKING), MASKING)
        return dsp.masked_distance(x - s, threshold, MASKING)

    def noise_to_mask(x: np.ndarray, s: np.ndarray) -> jax.Array:
        ratio_db = dsp.noise_to_mask_db(x - s, dsp.masking_threshold_db_spl(s, MASKING), MASKING)
        return 10 * jnp.log10(jnp.mean(10 ** (ratio_db / 10), axis=(-2, -1)))

    def embedding(x: np.ndarray, s: np.ndarray) -> np.ndarray:
        return np.linalg.norm(embed(judge, joined, x) - embed(judge, joined, s), axis=1)

    jitted: dict[str, Metric] = {
        "LSD": lambda x, s: dsp.log_spectral_distance(x, s, dsp.StftSpec(256, 64)),
        "multi-resolution STFT": lambda x, s: dsp.multi_resolution_stft_distance(x, s, resolutions),
        "complex STFT": lambda x, s: dsp.complex_stft_distance(x, s, dsp.StftSpec(256, 64)),
        "mel L1": lambda x, s: dsp.mel_distance(x, s, MEL),
        "NSIM": lambda x, s: -nsim(x, s),
        "masked distance": masked,
        "noise-to-mask ratio": noise_to_mask,
    }
    return {
        "SNR": lambda x, s: -signal.snr(x, s),
        "segmental SNR": lambda x, s: -signal.segmental_snr(x, s, 200),
        "SI-SDR": lambda x, s: -signal.si_sdr(x, s),
        **{name: jax.jit(metric) for name, metric in jitted.items()},
        "mel-cepstral distortion": lambda x, s: signal.mel_cepstral_distortion(x, s, MEL),
        "judge's embedding": embedding,
        "STOI": lambda x, s: -perceptual.stoi(x, s, RATE_HZ),
        "ESTOI": lambda x, s: -perceptual.stoi(x, s, RATE_HZ, extended=True),
        "PESQ": lambda x, s: -perceptual.pesq(x, s, RATE_HZ, "nb"),
        "ViSQOL": lambda x, s: -perceptual.visqol(_wide(x), _wide(s), 16000, "speech"),
    }


def _wide(audio: np.ndarray) -> jax.Array:
    return dsp.resample(audio, RATE_HZ, 16000)


def embed(judge: Judge, joined: Joined, audio: np.ndarray) -> np.ndarray:
    """Return the judge's mean embedding of the words in each clip [clip, dim], each word alone as it was trained."""
    words = [audio[clip, a:b] for clip, spans in enumerate(joined.words) for a, b in spans]
    padded = np.stack([np.pad(word, (0, 8192 - len(word))) for word in words])
    counts = np.array([len(spans) for spans in joined.words])
    starts = np.cumsum(counts) - counts
    return np.add.reduceat(judge(padded, RATE_HZ).embedding, starts, axis=0) / counts[:, None]


def agreement(distances: np.ndarray, degraded: Mapping[str, Degraded], key: jax.Array) -> dict:
    """Return how far distances [clip, degradation] follow the constructed order, with intervals over clips."""
    # Equal energies are equal SNRs but for float32.
    distances = np.round(distances, 4)
    level = np.array([one.level for one in degraded.values()])
    members = {name: _members(degraded, name) for name in FAMILIES}
    quiet, heard = np.flatnonzero(level == 0), np.flatnonzero(level)
    in_clip = {
        method: np.mean([_by_clip(distances[:, items], level[items], method) for items in members.values()], axis=0)
        for method in ("spearman", "kendall")
    }
    wrong = _wrong(distances[:, quiet, None], distances[:, None, heard])
    steps = [
        _wrong(distances[:, items[i]], distances[:, items[j]])
        for items in (np.intersect1d(items, heard) for items in members.values())
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    names = list(degraded)
    return {
        "spearman in a clip": entry(mean_figure("spearman in a clip", in_clip["spearman"])),
        "kendall in a clip": entry(mean_figure("kendall in a clip", in_clip["kendall"])),
        **{
            f"spearman over clips, {name}": entry(
                rank_correlation(
                    distances[:, items], np.broadcast_to(level[items], (len(distances), len(items))), key, name=name
                )
            )
            for name, items in members.items()
        },
        "inaudible put below audible": entry(mean_figure("wrong", 100 * wrong.mean(axis=(1, 2)), unit="%")),
        "wrong steps in a family": entry(mean_figure("steps", 100 * np.mean(steps, axis=0), unit="%")),
        "put below audible": {
            names[item]: entry(mean_figure("wrong", 100 * wrong[:, i].mean(axis=1), unit="%"))
            for i, item in enumerate(quiet)
        },
    }


def ceiling(degraded: Mapping[str, Degraded]) -> dict[str, float]:
    """Return the correlations of a metric without an error that tells the inaudible ones apart, as any number does."""
    items = _members(degraded, FAMILIES[0])
    level = [one.level for one in degraded.values()]
    known = [level[item] for item in items]
    return {
        "spearman": round(float(stats.spearmanr(known, range(len(known))).statistic), 3),
        "kendall": round(float(stats.kendalltau(known, range(len(known))).statistic), 3),
    }


def _members(degraded: Mapping[str, Degraded], family: str) -> np.ndarray:
    """Return the indices of the inaudible degradations and of one family."""
    return np.flatnonzero([one.family in ("inaudible", family) for one in degraded.values()])


def _by_clip(distances: np.ndarray, level: np.ndarray, method: str) -> np.ndarray:
    correlate = stats.spearmanr if method == "spearman" else stats.kendalltau
    return np.array([correlate(row, level).statistic for row in distances])


def _wrong(should_be_less: np.ndarray, than: np.ndarray) -> np.ndarray:
    """Return 1 where two distances stand in the wrong order, a half where they are equal, NaN where one is."""
    wrong = (should_be_less > than) + 0.5 * (should_be_less == than)
    return np.where(np.isnan(should_be_less) | np.isnan(than), np.nan, wrong)


def entry(figure: Figure) -> dict:
    """Return the plain values of a figure, rounded for reading."""
    return {
        key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in figure.to_dict().items()
    }


if __name__ == "__main__":
    main()
