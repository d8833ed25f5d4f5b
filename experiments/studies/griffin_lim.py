"""Measure how near Griffin and Lim's algorithm comes to spoken digits, from linear magnitudes and from mels.

    python experiments/studies/griffin_lim.py --out=experiments/results/griffin_lim/figures.json

Asks: how do the plain algorithm and the fast one (momentum 0.99) converge over 0, 8, 32 and 64 iterations from zero
phase, and what does a log-mel of 16 to 80 bands cost in addition? On the 300 test clips of FSDD, each cut to a
multiple of 2,048 samples, so that less of it is padding; FFT 512, hop 128, 8 kHz. Under three minutes of CPU time.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from audiodiff import dsp
from audiodiff.build.data import make_data
from audiodiff.build.evaluate import read_clips
from audiodiff.dsp.mel_inversion import expand, magnitude_from_mel
from audiodiff.dsp.phase_recovery import griffin_lim
from audiodiff.metrics.intervals import Figure, mean_figure
from configs import common

SPEC = dsp.StftSpec(512, 128)
ITERATIONS = (0, 8, 32, 64)
MOMENTA = {"plain": 0.0, "fast": 0.99}
BANDS = (16, 24, 32, 40, 64, 80)
CUT_SAMPLES = 2048
RESOLUTIONS = dsp.MULTI_RESOLUTION_PRESETS["auraloss"]

Magnitudes = Callable[[np.ndarray], jax.Array]


def main() -> None:
    """Measure everything, print it, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--clips", type=int, help="only the first so many clips")
    arguments = parser.parse_args()
    settings: dict[str, Any] = dict(common.data())
    sets = make_data(settings)
    clips = read_clips(sets.split(settings["test_split"]), sets.preparation)
    groups = by_length(clips.audio[: arguments.clips])
    figures = measure("linear", groups, linear, ITERATIONS, tuple(MOMENTA))
    for bands in BANDS:
        spec = dsp.MelSpec(rate_hz=clips.rate_hz, stft=SPEC, bands=bands, fmax_hz=clips.rate_hz / 2)
        whole = bands in (40, 80)
        refined, plain = (functools.partial(from_log_mel, spec=spec, iterations=count) for count in (16, 0))
        figures += measure(
            f"mel {bands}", groups, refined, ITERATIONS if whole else (32,), tuple(MOMENTA) if whole else ("fast",)
        )
        figures += measure(f"mel {bands}, pseudo-inverse alone", groups, plain, (32,), ("fast",))
    record = {
        "data": f"{settings['name']}, manifest {sets.manifest_hash}, split {settings['test_split']}",
        "stft": {"fft_samples": SPEC.fft_samples, "hop_samples": SPEC.hop_samples, "window": SPEC.window},
        "start": "zero phase",
        "figures": [figure.to_dict() for figure in figures],
    }
    print("\n".join(f"{figure.name}: {figure}" for figure in figures))
    text = json.dumps(record, indent=2)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


def by_length(audio: np.ndarray) -> list[np.ndarray]:
    """Group clips [clip, time] by their sounding length in whole cuts, and cut each group to it."""
    last = np.array([np.flatnonzero(clip)[-1] + 1 for clip in audio])
    lengths = np.minimum(-(-last // CUT_SAMPLES) * CUT_SAMPLES, audio.shape[1])
    return [audio[lengths == length, :length] for length in np.unique(lengths)]


def linear(audio: np.ndarray) -> jax.Array:
    """Return the magnitudes themselves."""
    return dsp.magnitude(dsp.stft(audio, SPEC))


def from_log_mel(audio: np.ndarray, spec: dsp.MelSpec, iterations: int) -> jax.Array:
    """Return the magnitudes that are estimated from a log-mel."""
    return magnitude_from_mel(expand(dsp.log_mel(audio, spec), spec), spec, iterations)


def measure(
    name: str, groups: list[np.ndarray], magnitudes: Magnitudes, steps: tuple[int, ...], algorithms: tuple[str, ...]
) -> list[Figure]:
    """Return three figures for each algorithm and count of iterations, means over clips."""
    targets = [magnitudes(audio) for audio in groups]
    figures = []
    for algorithm, count in itertools.product(algorithms, steps):
        convergences, distances = [], []
        for target, audio in zip(targets, groups, strict=True):
            found = recover(target, SPEC, count, momentum=MOMENTA[algorithm], length_samples=audio.shape[-1])
            convergences.append(found.convergence[:, -1])
            distances.append(distances_of(found.audio, audio))
        lsd, multi_resolution = (np.concatenate(values) for values in zip(*distances, strict=True))
        title = f"{name}, {algorithm}, {count} iterations"
        figures += [
            mean_figure(f"{title}: spectral convergence", np.concatenate(convergences)),
            mean_figure(f"{title}: log-spectral distance", lsd, unit="dB"),
            mean_figure(f"{title}: multi-resolution STFT distance", multi_resolution),
        ]
    return figures


recover = jax.jit(griffin_lim, static_argnums=(1, 2), static_argnames=("momentum", "length_samples"))


@jax.jit
def distances_of(audio: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the log-spectral distance and the multi-resolution STFT distance of every clip."""
    return (
        dsp.log_spectral_distance(audio, target, SPEC),
        dsp.multi_resolution_stft_distance(audio, target, RESOLUTIONS),
    )


if __name__ == "__main__":
    main()
