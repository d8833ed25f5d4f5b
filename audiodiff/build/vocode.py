"""Make audio files of recordings' mels, or of mels kept as files, by a trained vocoder."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff import data, prng
from audiodiff.build.choices import ConfigError
from audiodiff.build.model import MEL
from audiodiff.build.run import Run
from audiodiff.data.audio_files import EXTENSIONS
from audiodiff.data.normalisation import audible_gain_db, restore_level

BUCKET_SAMPLES = 4096
"""Lengths are padded to a multiple of this, so that files of many lengths compile few programs."""

MEL_SUFFIX = ".npy"


def vocode_files(
    run: Run,
    source: pathlib.Path,
    out: pathlib.Path,
    *,
    sampler: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> list[pathlib.Path]:
    """Vocode a file, or every file of a folder that is audio or an .npy of a log-mel; return what was written.

    A recording is mixed to mono, brought to the vocoder's rate and to the level of its training, and back to its own
    level afterwards; a log-mel [frame, band] is taken as it is. File i, by name, is drawn from (seed, i). Raises
    ConfigError for a run that is no vocoder, no file, and a log-mel that cannot be.
    """
    if run.frames is None:
        raise ConfigError(f"{run.workdir} holds no vocoder: name the workdir of a model told a mel")
    known = EXTENSIONS | {MEL_SUFFIX}
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in known) if source.is_dir() else [source]
    if not files:
        raise ConfigError(f"{source} holds no audio and no {MEL_SUFFIX} file: name another folder")
    written = []
    for index, path in enumerate(files):
        key = prng.stream(seed, "vocode")
        kept = path.relative_to(source) if source.is_dir() else pathlib.Path(path.name)
        target = out / kept.with_suffix(".wav")
        audio = _vocoded(run, path, jax.random.fold_in(key, index)[None], {"sampler": sampler, "steps": steps})
        data.write_audio(target, audio, run.facts.rate_hz, peak="scale")
        written.append(target)
        say(f"{index + 1} of {len(files)}: {target}, {len(audio) / run.facts.rate_hz:.2f} s")
    return written


def _vocoded(run: Run, path: pathlib.Path, keys: jax.Array, options: dict) -> np.ndarray:
    """Return the audio [time] that is made of one file."""
    frames = run.frames
    assert frames is not None
    if path.suffix.lower() == MEL_SUFFIX:
        try:
            mel = np.load(path)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read as a log-mel ({error}): save an array [frame, band]") from None
        if mel.ndim != 2 or mel.shape[-1] != frames.mel.bands or not len(mel):
            raise ConfigError(f"{path} has the shape {mel.shape}: the vocoder takes [frame, {frames.mel.bands}]")
        length, gain = len(mel) * frames.hop_samples, 0.0
        padded = _bucket(length)
        mel = np.pad(mel, ((0, frames.count(padded) - len(mel)), (0, 0)), mode="edge")
    else:
        audio = data.read_audio(path, rate_hz=run.facts.rate_hz, channels=1)[:, 0]
        length, gain = len(audio), audible_gain_db(audio, run.config["data"]["target_dbfs"])
        padded = _bucket(length)
        loud = np.pad(audio * 10 ** (gain / 20), (0, padded - length)).astype(np.float32)
        mel = np.asarray(frames(jnp.asarray(loud)[None]))[0]
    made = run.sample(keys, {MEL: mel}, length_samples=padded, **options)[0, :length]
    return restore_level(made, gain)


def _bucket(length_samples: int) -> int:
    return -(-length_samples // BUCKET_SAMPLES) * BUCKET_SAMPLES
