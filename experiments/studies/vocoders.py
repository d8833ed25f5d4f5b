"""Hold diffusion vocoders against Griffin and Lim's algorithm, by number of steps, on speech they have not heard.

    python experiments/studies/vocoders.py --out=experiments/results/vocoders/figures.json \\
        --runs="unet=runs/vocoder_unet;priorgrad=runs/v_priorgrad_0,runs/v_priorgrad_1,runs/v_priorgrad_2"

Asks: of the official test clips of FSDD, each vocoded from its 40-band log-mel and then joined by speaker to pieces of
2 s, what do PESQ-nb, STOI, MCD and the multi-resolution STFT distance say, for 1 to 200 steps? How many steps are
enough (DiffWave's claim of six)? An arm of several runs has Student's interval over them; of one, that over pieces.
Differences from Griffin-Lim are paired by piece.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from audiodiff import dsp
from audiodiff.build.data import make_data
from audiodiff.build.evaluate import read_clips
from audiodiff.build.model import make_mel
from audiodiff.build.run import Run, load_run
from audiodiff.data import read_audio, write_audio
from audiodiff.metrics import perceptual
from audiodiff.metrics.intervals import Figure, mean_figure
from audiodiff.metrics.signal import mel_cepstral_distortion
from audiodiff.representations import GriffinLim
from audiodiff.training import read_config
from audiodiff.training.workdir import config_hash
from configs import vocoder_digits

PIECE_SAMPLES = 16_000
BATCH = 30
STEPS = (1, 2, 3, 6, 12, 25, 50, 200)
GRIFFIN_LIM = {"griffin-lim plain": 0.0, "griffin-lim fast": 0.99}
RESOLUTIONS = dsp.MULTI_RESOLUTION_PRESETS["auraloss"]
# Its own analysis, not the vocoder's: 25 ms windows, a hop of 5 ms, cepstra of order 24.
MCD_MEL = dsp.MelSpec(rate_hz=8000, stft=dsp.StftSpec(256, 40, 200), bands=32, fmax_hz=4000.0)
REFERENCE = "griffin-lim fast"

Vocode = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Vocode, measure, print, and write everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default="", help="name=workdir,workdir;name=workdir")
    parser.add_argument("--steps", default=",".join(map(str, STEPS)), help="numbers of steps, as 1,6,50")
    parser.add_argument("--samplers", default="", help="samplers to try beside the config's, of the first arm")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--audio", type=pathlib.Path, help="folder to keep what was vocoded in, and to take it from")
    parser.add_argument("--sample_only", action="store_true", help="vocode, keep, and measure nothing")
    parser.add_argument("--clips", type=int, help="only the first so many clips")
    arguments = parser.parse_args()
    arms = {
        name: [load_run(folder) for folder in folders.split(",")]
        for name, _, folders in (part.partition("=") for part in arguments.runs.split(";") if part)
    }
    clips, lengths, speakers, rate_hz = test_clips(arguments.clips)
    join = functools.partial(perceptual.joined, lengths_samples=lengths, speakers=speakers, piece_samples=PIECE_SAMPLES)
    target = join(clips)
    mel = make_mel(vocoder_digits.get_config().mel.to_dict(), rate_hz)
    keep = Keep(arguments.audio)
    titles: dict[str, list[Callable[[], np.ndarray]]] = {
        name: [functools.partial(griffin_lim, clips, mel, momentum)] for name, momentum in GRIFFIN_LIM.items()
    }
    first = next(iter(arms), "")
    for name, runs in arms.items():
        settings = [(f"{name}, {count} steps", {"steps": count}) for count in map(int, arguments.steps.split(","))]
        if name == first:
            settings += [
                (f"{name}, 6 steps of {sampler}", {"steps": 6, "sampler": sampler})
                for sampler in filter(None, arguments.samplers.split(","))
            ]
        for title, chosen in settings:
            titles[title] = [functools.partial(vocoded, run, clips, **chosen) for run in runs]
    measured: dict[str, list[dict[str, np.ndarray]]] = {}
    for title, makers in titles.items():
        made = [
            keep(f"{title}, {number}", lambda make=make: join(make()), rate_hz) for number, make in enumerate(makers)
        ]
        if not arguments.sample_only:
            measured[title] = [measure(speech, target, rate_hz) for speech in made]
            print(title, {key: round(float(value.mean()), 4) for key, value in measured[title][0].items()}, flush=True)
    if arguments.sample_only:
        return
    record = {
        "data": f"fsdd, official test clips, {len(clips)}, joined to {len(target)} pieces of {PIECE_SAMPLES} samples",
        "runs": {name: [described(run) for run in runs] for name, runs in arms.items()},
        "figures": {title: figures(values) for title, values in measured.items()},
        "differences": {
            title: differences(values, measured[REFERENCE][0])
            for title, values in measured.items()
            if title not in GRIFFIN_LIM
        },
    }
    for title, values in record["figures"].items():
        print(title, "; ".join(f"{name} {Figure.from_dict(value)}" for name, value in values.items()))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class Keep:
    """Keep joined speech [piece, time] as FLAC files in a folder, if there is one, and make what is not there yet."""

    folder: pathlib.Path | None

    def __call__(self, title: str, make: Callable[[], np.ndarray], rate_hz: int) -> np.ndarray:
        """Return the speech of that title."""
        path = self.folder and self.folder / f"{title.replace(', ', '_').replace(' ', '-')}.flac"
        if path is None:
            return make()
        if not path.exists():
            write_audio(path, make().ravel(), rate_hz, peak="scale")
        return read_audio(path)[:, 0].reshape(-1, PIECE_SAMPLES)


def test_clips(count: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return the test clips [clip, time] with their sounding lengths, speakers and rate."""
    settings: dict[str, Any] = vocoder_digits.get_config().data.to_dict()
    settings |= {"crop": "start", "length_samples": 8192, "conditions": ("digit", "speaker")}
    sets = make_data(settings)
    clips = read_clips(sets.split(settings["test_split"]), sets.preparation)
    audio = clips.audio[:count]
    lengths = np.array([np.flatnonzero(clip)[-1] + 1 for clip in audio])
    return audio, lengths, clips.labels["speaker"][:count], clips.rate_hz


def griffin_lim(clips: np.ndarray, mel: dsp.MelSpec, momentum: float) -> np.ndarray:
    """Return the clips made anew from their log-mels by 32 iterations of Griffin and Lim."""
    inverter = jax.jit(GriffinLim(mel, 32, momentum), static_argnums=2)
    return batched(lambda part: inverter(dsp.log_mel(part, mel), None, part.shape[1]), clips)


def vocoded(run: Run, clips: np.ndarray, **settings: Any) -> np.ndarray:
    """Return the clips made anew from their log-mels by a run."""
    vocoder = run.vocoder(**settings)
    call = jax.jit(lambda vocoder, mel, key: vocoder(mel, key, clips.shape[1]))
    return batched(lambda part: call(vocoder, dsp.log_mel(part, vocoder.frames.mel), jax.random.key(1)), clips)


def batched(vocode: Callable[[jax.Array], jax.Array], clips: np.ndarray) -> np.ndarray:
    """Apply a function of clips [batch, time] to all of them, in batches of one shape."""
    padded = np.concatenate([clips, np.repeat(clips[-1:], -len(clips) % BATCH, axis=0)])
    parts = [np.asarray(vocode(jnp.asarray(padded[at : at + BATCH]))) for at in range(0, len(padded), BATCH)]
    return np.concatenate(parts)[: len(clips)]


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
