"""Ask whether the borders of a minute of sound, made by a model of half a second, can be measured.

    python experiments/studies/long_audio.py --workdir=runs/sustained_16k_gpu \
        --out=experiments/results/long_audio/figures.json

Sustained sounds that neither begin nor end (configs/sustained_16k.py), one piece a sound, sampled for a minute in
chunks of 8,192 samples of which half overlaps, and otherwise: a quarter, nothing, and all windows at once. The spectral
flux, how much the log spectrum changes from one frame of 16 ms to that 4 ms later, is taken within 10 ms of
the borders and over the sound around them: 100 % is no seam. A border is where a chunk begins; with an overlap also the
middle of the fade, where the new chunk takes over, and its end. Recordings of the set, joined nowhere, show what 100 %
is worth. Then what the compiled programs need beside arguments and result, by length. A picture stands beside the JSON.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

# Run by path: configs/ is at the project's root.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff import dsp, prng
from audiodiff.build.data import make_data
from audiodiff.build.run import Run, load_run
from audiodiff.data.embedded import PITCHES, PITCHES_HZ
from audiodiff.evaluation.long import begin, generate_chunk, generate_chunks, generate_windowed
from audiodiff.evaluation.pictures import spectrogram_grid
from audiodiff.metrics.intervals import median_figure
from audiodiff.metrics.seams import seam_figure, seam_flux
from audiodiff.training import read_config
from audiodiff.training.workdir import config_hash, environment, write_json

ASKED = {"ah": "A2", "ee": "Db3", "oo": "F3", "organ": "A3", "brass": "B3"}
"""The pieces: a sound, and a pitch of its own."""
BAR_PERCENT = 5.0
SHOWN_SECONDS = 0.6
FRAME_SAMPLES, HOP_SAMPLES = 1024, 512
"""Of the F0 tracks: 64 ms hold seven periods of the lowest pitch."""


def main() -> None:
    """Sample, measure, print, and write it as JSON and as a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", default="runs/sustained_16k_gpu", help="workdir of the model")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSON file to write; the picture beside it")
    parser.add_argument("--sounds", nargs="+", choices=ASKED, default=list(ASKED), help="one piece each")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the pieces of which half overlaps")
    parser.add_argument("--others_seconds", type=float, default=60.0, help="length of those made otherwise")
    parser.add_argument("--memory_seconds", type=float, nargs="+", default=[10.0, 30.0, 60.0])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run = load_run(arguments.workdir)
    window = run.facts.length_samples
    key = prng.stream(arguments.seed, "long audio")
    asked = {"sound": arguments.sounds, "pitch": [ASKED[sound] for sound in arguments.sounds]}
    plans = {
        "chunks, half overlaps": ("chunks", window // 2, arguments.seconds),
        "chunks, nothing overlaps": ("chunks", 0, arguments.others_seconds),
        "chunks, a quarter overlaps": ("chunks", window // 4, arguments.others_seconds),
        "windows at once, half overlaps": ("windowed", window // 2, arguments.others_seconds),
    }
    pieces, found = {}, {}
    for name, (mode, overlap, seconds) in plans.items():
        start = time.monotonic()
        pieces[name] = run.sample_long(
            prng.stream(key, "pieces"), asked, seconds=seconds, overlap_samples=overlap, mode=mode
        )
        took = time.monotonic() - start
        found[name] = {
            "seconds": seconds,
            "overlap_samples": overlap,
            "took_seconds": round(took, 1),
            "flux_percent": of_borders(pieces[name], run, overlap, key),
            **of_sound(pieces[name], run, asked, key),
        }
        print(name, found[name], flush=True)
    environs = environment()
    config = read_config(run.workdir)
    record = {
        "command": " ".join(["python", *sys.argv]),
        "commit": environs["commit"] + ("" if environs["clean_tree"] else ", with uncommitted changes"),
        "devices": environs["devices"],
        "seed": arguments.seed,
        "run": {"config": config_hash(config), "weights": run.weights_hash, "steps": run.step},
        "sampler": {"name": config["sampler"]["name"], **{k: config["sampler"][k] for k in ("steps", "guidance")}},
        "asked": asked,
        "pieces": found,
        "recordings, no borders": recordings(config, run, key),
        "temporary_bytes": temporary_bytes(run, window // 2, arguments.memory_seconds),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out, record)
    arguments.out.with_name("borders.png").write_bytes(picture(pieces, run, asked))
    print(f"wrote {arguments.out}")


def of_borders(pieces: np.ndarray, run: Run, overlap: int, key: jax.Array) -> dict[str, Any]:
    """Return the flux at the borders of pieces [piece, time] in % of that around them, by what is called a border."""
    hop = run.facts.length_samples - overlap
    places = {"where a chunk begins": 0, "middle of the fade": overlap // 2, "end of the fade": overlap}
    places = places if overlap else {"where a chunk begins": 0}
    figures = {}
    for name, offset in places.items():
        borders = np.arange(hop + offset, pieces.shape[1] - hop // 2, hop)
        figure = seam_figure(name, seam_flux(pieces, borders, run.facts.rate_hz), key)
        within = abs(figure.value - 100) <= BAR_PERCENT
        figures[name] = {**figure.to_dict(), f"within {BAR_PERCENT:g} %": bool(within)}
    return figures


def of_sound(pieces: np.ndarray, run: Run, asked: Mapping[str, list[str]], key: jax.Array) -> dict[str, Any]:
    """Return how far F0 is from what was asked, and what changes from the first to the last quarter of the pieces."""
    truth = dict(zip(PITCHES, PITCHES_HZ, strict=True))
    wanted = np.array([truth[pitch] for pitch in asked["pitch"]])
    cents = 1200 * np.log2(f0_hz(pieces, run.facts.rate_hz) / wanted[:, None])
    quarter = cents.shape[1] // 4
    level = [10 * np.log10(np.mean(np.square(part), axis=1)) for part in np.array_split(pieces, 4, axis=1)]
    deviation = np.nanmedian(np.abs(cents), axis=1)
    drift = np.nanmedian(cents[:, -quarter:], axis=1) - np.nanmedian(cents[:, :quarter], axis=1)
    return {
        "f0_off_cents": median_figure("F0 off", deviation, key, unit="cents").to_dict(),
        "voiced_percent": round(100 * float(np.isfinite(cents).mean()), 1),
        "drift_cents": [round(float(value), 1) if np.isfinite(value) else None for value in drift],
        "drift_db": [round(float(value), 2) for value in level[-1] - level[0]],
    }


def f0_hz(pieces: np.ndarray, rate_hz: int) -> np.ndarray:
    """Return F0 tracks [piece, frame], NaN where there is none, ten seconds at a time."""
    parts = np.array_split(pieces, max(1, pieces.shape[1] // (10 * rate_hz)), axis=1)
    shortest = min(part.shape[1] for part in parts)
    track = jax.jit(lambda part: dsp.autocorrelation_pitch(part, rate_hz, 80.0, 350.0, FRAME_SAMPLES, HOP_SAMPLES)[0])
    return np.concatenate([np.asarray(track(jnp.asarray(part[:, :shortest]))) for part in parts], axis=1)


def recordings(config: Mapping[str, Any], run: Run, key: jax.Array) -> dict[str, Any]:
    """Return the same flux of recordings of the set, at places where nothing was joined."""
    source = make_data({**config["data"], "in_memory": False}).split("validation")
    margin, window = config["data"]["margin_samples"], run.facts.length_samples
    clips = np.stack([source[index]["audio"][margin:-margin, 0] for index in range(40)])
    borders = np.arange(window // 2, clips.shape[1] - window // 4, window // 2)
    return seam_figure("recordings", seam_flux(clips, borders, run.facts.rate_hz), key).to_dict()


def temporary_bytes(run: Run, overlap: int, lengths_seconds: Sequence[float]) -> dict[str, Any]:
    """Return what the compiled programs of one clip need beside arguments and result, by the seconds they make."""
    window, rate = run.facts.length_samples, run.facts.rate_hz
    hop = window - overlap
    asked = run.encode_conditions(dict.fromkeys(run.conditions, 0), 1)
    arguments, choices = run.program(jax.random.key(0), asked, run.settings())
    objective, _, keys, _, grid, _ = arguments
    progress = begin(objective, keys, grid, window_samples=window, overlap_samples=overlap)
    sizes = {"window_samples": window, "overlap_samples": overlap}

    def of(lowered: Any) -> int:
        return int(lowered.compile().memory_analysis().temp_size_in_bytes)

    by_length: dict[str, Any] = {
        "chunk by chunk, any length": of(generate_chunk.lower(*arguments, progress, hop / rate, **choices)),
        "chunks in one program": {},
        "windows one after the other": {},
        "windows together": {},
    }
    for seconds in lengths_seconds:
        length, name = round(seconds * rate), f"{seconds:g} s"
        counted = {**choices, "count": -(-length // hop)}
        by_length["chunks in one program"][name] = of(
            generate_chunks.lower(*arguments, progress, hop / rate, **counted)
        )
        for mode, together in (("windows one after the other", False), ("windows together", True)):
            lowered = generate_windowed.lower(*arguments, **choices, **sizes, length_samples=length, together=together)
            by_length[mode][name] = of(lowered)
        print(name, by_length, flush=True)
    return by_length


def picture(pieces: Mapping[str, np.ndarray], run: Run, asked: Mapping[str, list[str]]) -> bytes:
    """Return spectrograms of the same second and a bit of every piece, with an overlap and without."""
    count = round(SHOWN_SECONDS * run.facts.rate_hz)
    with_overlap, without = pieces["chunks, half overlaps"], pieces["chunks, nothing overlaps"]
    middle = without.shape[1] // 2
    start = middle - middle % run.facts.length_samples - count // 2  # both have a border in the middle of the picture
    rows = [
        (sound, with_overlap[index, start : start + count], without[index, start : start + count])
        for index, sound in enumerate(asked["sound"])
    ]
    return spectrogram_grid(rows, run.facts.rate_hz, columns=("half overlaps", "nothing overlaps")).png


if __name__ == "__main__":
    main()
