"""Hold diffusion vocoders against Griffin and Lim's algorithm, by number of steps, on speech they have not heard.

    python experiments/studies/vocoders.py --out=experiments/results/vocoders/figures.json \\
        --runs="unet=runs/vocoder_unet;priorgrad=runs/v_priorgrad_0,runs/v_priorgrad_1,runs/v_priorgrad_2"

Asks: of the official test clips of FSDD, each vocoded from its 40-band log-mel and then joined by speaker to pieces of
2 s, what do PESQ-nb, STOI, MCD and the multi-resolution STFT distance say, for 1 to 200 steps? How many steps are
enough (DiffWave's claim of six)? An arm of several runs has Student's interval over them; of one, that over pieces.
Differences from the fast Griffin-Lim are paired by piece. "Matchings" are rounds of dsp.match_mel at the end, which
Griffin-Lim is given too, in a line of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import pathlib
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from audiodiff import dsp
from audiodiff.build.data import make_data
from audiodiff.build.evaluate import read_clips
from audiodiff.build.model import make_mel
from audiodiff.build.run import Run, load_run
from audiodiff.evaluation.apart import in_batches
from audiodiff.metrics import perceptual
from audiodiff.metrics.intervals import Figure, mean_figure
from audiodiff.metrics.signal import mel_cepstral_distortion
from audiodiff.representations import GriffinLim
from audiodiff.training import read_config
from audiodiff.training.workdir import config_hash
from configs import vocoder_digits

PIECE_SAMPLES = 16_000
BATCH = 30
GRIFFIN_LIM: dict[str, dict[str, Any]] = {
    "griffin-lim plain": {"momentum": 0.0, "rounds": 0},
    "griffin-lim fast": {"momentum": 0.99, "rounds": 0},
    "griffin-lim fast, 4 matchings": {"momentum": 0.99, "rounds": 4},
}
RESOLUTIONS = dsp.MULTI_RESOLUTION_PRESETS["auraloss"]
# Its own analysis, not the vocoder's: 25 ms windows, a hop of 5 ms, cepstra of order 24.
MCD_MEL = dsp.MelSpec(rate_hz=8000, stft=dsp.StftSpec(256, 40, 200), bands=32, fmax_hz=4000.0)
REFERENCE = "griffin-lim fast"

SAMPLED: dict[tuple[str, int, str | None], np.ndarray] = {}
"""What was sampled last, before it is matched."""


def main() -> None:
    """Vocode, measure, print, and write everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default="", help="name=workdir,workdir;name=workdir")
    parser.add_argument("--steps", default="1,2,3,6,12,25,50", help="numbers of steps")
    parser.add_argument("--matchings", default="0,4", help="numbers of rounds of matching the mel at the end")
    parser.add_argument("--samplers", default="", help="samplers to try with 6 steps, beside the config's")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--split", default="test", help="split of the data set; what is tuned is tuned on validation")
    parser.add_argument("--clips", type=int, help="only the first so many clips")
    arguments = parser.parse_args()
    arms = {
        name: [load_run(folder) for folder in folders.split(",")]
        for name, _, folders in (part.partition("=") for part in arguments.runs.split(";") if part)
    }
    clips, lengths, speakers, rate_hz = some_clips(arguments.split, arguments.clips)
    join = functools.partial(perceptual.joined, lengths_samples=lengths, speakers=speakers, piece_samples=PIECE_SAMPLES)
    target = join(clips)
    mel = make_mel(vocoder_digits.get_config().mel.to_dict(), rate_hz)
    titles: dict[str, list[Callable[[], np.ndarray]]] = {
        name: [functools.partial(griffin_lim, clips, mel, **chosen)] for name, chosen in GRIFFIN_LIM.items()
    }
    steps, matchings = ([int(number) for number in text.split(",")] for text in (arguments.steps, arguments.matchings))
    for name, runs in arms.items():
        samplers = [("", count) for count in steps] + [(one, 6) for one in arguments.samplers.split(",") if one]
        for (sampler, count), rounds in itertools.product(samplers, matchings):
            title = f"{name}, {count} steps{' of ' * bool(sampler)}{sampler}, {rounds} matchings"
            vocode = functools.partial(vocoded, clips, mel, count, sampler or None, rounds)
            titles[title] = [functools.partial(vocode, number, run) for number, run in enumerate(runs)]
    measured: dict[str, list[dict[str, np.ndarray]]] = {}
    for title, makers in titles.items():
        measured[title] = [measure(join(make()), target, rate_hz) for make in makers]
        print(title, {key: round(float(value.mean()), 4) for key, value in measured[title][0].items()}, flush=True)
    record: dict[str, Any] = {
        "data": f"fsdd, {len(clips)} clips of the split {arguments.split}, in {len(target)} pieces of {PIECE_SAMPLES}",
        "runs": {name: [described(run) for run in runs] for name, runs in arms.items()},
        "figures": {title: figures(values) for title, values in measured.items()},
        "differences": {
            title: differences(values, measured[REFERENCE][0])
            for title, values in measured.items()
            if title not in GRIFFIN_LIM
        },
        "from 6 steps": {
            title: differences(values, measured[six][0])
            for title, values in measured.items()
            if (six := re.sub(r" \d+ steps.*?, ", " 6 steps, ", title)) in measured and six != title
        },
    }
    for title, values in record["figures"].items():
        print(title, "; ".join(f"{name} {Figure.from_dict(value)}" for name, value in values.items()))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def some_clips(split: str, count: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return clips [clip, time] of a split with their sounding lengths, speakers and rate."""
    settings: dict[str, Any] = vocoder_digits.get_config().data.to_dict()
    settings |= {"crop": "start", "length_samples": 8192, "conditions": ("digit", "speaker")}
    sets = make_data(settings)
    clips = read_clips(sets.split(split), sets.preparation)
    audio = clips.audio[:count]
    lengths = np.array([np.flatnonzero(clip)[-1] + 1 for clip in audio])
    return audio, lengths, clips.labels["speaker"][:count], clips.rate_hz


def griffin_lim(clips: np.ndarray, mel: dsp.MelSpec, momentum: float, rounds: int) -> np.ndarray:
    """Return the clips made anew from their log-mels by 32 iterations of Griffin and Lim, and matched to them."""

    @jax.jit
    def invert(part: jax.Array) -> jax.Array:
        told = dsp.log_mel(part, mel)
        return dsp.match_mel(GriffinLim(mel, 32, momentum)(told, None, part.shape[1]), told, mel, rounds)

    return in_batches(invert, clips, BATCH)


def vocoded(
    clips: np.ndarray, mel: dsp.MelSpec, steps: int, sampler: str | None, rounds: int, number: int, run: Run
) -> np.ndarray:
    """Return the clips made anew from their log-mels by a run, and matched to them."""
    if (at := (run.weights_hash, steps, sampler)) not in SAMPLED:
        vocoder = run.vocoder(steps=steps, sampler=sampler, match_mel=0)
        call = jax.jit(lambda vocoder, told: vocoder(told, jax.random.key(number), clips.shape[1]))
        SAMPLED.clear()  # only the last is asked for again, with other rounds
        SAMPLED[at] = in_batches(lambda part: call(vocoder, dsp.log_mel(part, mel)), clips, BATCH)
    match = jax.jit(lambda part: dsp.match_mel(part[:, 0], dsp.log_mel(part[:, 1], mel), mel, rounds))
    return in_batches(match, np.stack([SAMPLED[at], clips], axis=1), BATCH)


def measure(estimate: np.ndarray, target: np.ndarray, rate_hz: int) -> dict[str, np.ndarray]:
    """Return each measure of each piece [piece]."""
    return {
        "PESQ-nb": perceptual.pesq(estimate, target, rate_hz, "nb"),
        "STOI": perceptual.stoi(estimate, target, rate_hz),
        "MCD": mel_cepstral_distortion(estimate, target, MCD_MEL),
        "MR-STFT": np.asarray(dsp.multi_resolution_stft_distance(estimate, target, RESOLUTIONS)),
        "log-mel MAE": np.abs(
            np.asarray(dsp.log_mel(estimate, MCD_MEL)) - np.asarray(dsp.log_mel(target, MCD_MEL))
        ).mean(axis=(1, 2)),
    }


def figures(runs: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Return every measure as a figure, over runs where there are several and else over pieces."""
    return {name: over([run[name] for run in runs], name).to_dict() for name in runs[0]}


def differences(runs: list[dict[str, np.ndarray]], reference: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return what every measure is above the reference's, by piece, and over runs where there are several."""
    return {name: over([run[name] - reference[name] for run in runs], name).to_dict() for name in runs[0]}


def over(values: list[np.ndarray], name: str) -> Figure:
    """Return a mean with its interval, over the means of runs where there are several, and else over pieces."""
    if len(values) > 1:
        return mean_figure(name, [float(np.nanmean(run)) for run in values], note=f"over {len(values)} runs")
    return dataclasses.replace(mean_figure(name, values[0]), note="one run, over pieces")


def described(run: Run) -> dict[str, Any]:
    """Return what a run was."""
    config = read_config(run.workdir)
    return {
        "config": config_hash(config),
        "weights": run.weights_hash,
        "seed": config["seed"],
        "steps": run.step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(run.params)),
    }


if __name__ == "__main__":
    main()
