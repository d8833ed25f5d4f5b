"""Measure a data set once: what is in it, and the sigma_data that training is preconditioned by."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from audiodiff.data.audio_files import audio_info
from audiodiff.data.manifest import Manifest
from audiodiff.data.normalisation import Preparation, level_dbfs
from audiodiff.data.pipeline import Fault
from audiodiff.data.randomness import generator
from audiodiff.data.sources import AudioError, Source

QUANTILES = (0, 5, 50, 95, 99, 100)
FULL_SCALE, CLIPPED_RUN = 0.999, 3


@dataclass(frozen=True)
class DataStatistics:
    """Hold what was measured. Counts, hours, levels and durations are of the clips that can be used.

    ``sigma_data`` and ``mean`` are the standard deviation and mean over every entry of the array that diffuses, made
    by ``preparation``; quantiles are by percent (0, 5, 50, 95, 99, 100). Clipped clips are used all the same.
    """

    clips: int
    hours: float
    rate_hz: int
    channels: int
    sigma_data: float
    mean: float
    duration_seconds: dict[str, float]
    level_dbfs: dict[str, float]
    peak_dbfs: dict[str, float]
    clipped: tuple[str, ...] = ()
    silent: tuple[Fault, ...] = ()
    damaged: tuple[Fault, ...] = ()
    preparation: dict[str, Any] = field(default_factory=dict)
    file_formats: dict[str, int] = field(default_factory=dict)
    manifest_hash: str = ""

    def save(self, path: str | os.PathLike) -> None:
        """Write as JSON: complete or not at all."""
        path = Path(path)
        aside = path.with_name(f".{path.name}.partial")
        aside.write_text(
            json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )
        os.replace(aside, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> DataStatistics:
        """Read what :meth:`save` wrote; raise ValueError that names the file otherwise."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            for name in ("silent", "damaged"):
                values[name] = tuple(Fault(**fault) for fault in values[name])
            values["clipped"] = tuple(values["clipped"])
            return cls(**{each.name: values[each.name] for each in fields(cls)})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: no statistics of a data set ({error}); run experiments/prepare.py") from None


@dataclass(frozen=True)
class _Measured:
    """Hold what one clip contributes: a fault, or its figures and its example."""

    fault: Fault | None = None
    silent: bool = False
    seconds: float = 0.0
    level_dbfs: float = 0.0
    peak_dbfs: float = 0.0
    clipped: bool = False
    example: np.ndarray | None = None


def measure(
    source: Source,
    preparation: Preparation,
    encode: Callable[[np.ndarray], Any] | None = None,
    *,
    seed: int = 0,
    strict: bool = False,
    manifest_hash: str = "",
    file_formats: dict[str, int] | None = None,
    num_threads: int = 4,
    chunk: int = 64,
) -> DataStatistics:
    """Read every clip of a source once and measure it.

    sigma_data^2 = E[x^2] - E[x]^2 over all entries of x, the prepared (normalised, cropped, padded) audio, or
    ``encode`` of it: a Representation's encode on [batch, time] or [batch, time, channel].
    Clips that cannot be used are listed; :class:`AudioError` is raised at the first if ``strict``, or where none can.
    """
    chunk = min(chunk, len(source))
    clips: list[_Measured] = []
    total, square, entries = 0.0, 0.0, 0
    with ThreadPoolExecutor(num_threads) as pool:
        for begin in range(0, len(source), chunk):
            indices = range(begin, min(begin + chunk, len(source)))
            new = list(pool.map(lambda index: _measure_clip(source, preparation, seed, index), indices))
            if strict and (fault := next((one.fault for one in new if one.fault), None)):
                raise AudioError(f"{fault} (strict is set: unset it to skip such clips)")
            by_length: dict[int, list[np.ndarray]] = {}
            for one in new:
                if one.example is not None:
                    by_length.setdefault(len(one.example), []).append(one.example)
            for examples in by_length.values():
                # As many rows each time, so that what is compiled once per shape is compiled once per length.
                audio = np.zeros((chunk, *examples[0].shape), np.float32)
                audio[: len(examples)] = examples
                x = audio[..., 0] if source.channels == 1 else audio
                x = np.asarray(x if encode is None else encode(x), np.float64)[: len(examples)]
                total, square, entries = total + float(x.sum()), square + float(np.vdot(x, x)), entries + x.size
            clips += [_without_example(one) for one in new]
    used = [one for one in clips if one.fault is None]
    faults = [one.fault for one in clips if one.fault is not None]
    if not used:
        first = f"; the first says: {faults[0]}" if faults else ""
        raise AudioError(f"none of the {len(source)} clips can be used{first}; check the data set")
    mean = total / entries
    return DataStatistics(
        clips=len(used),
        hours=sum(one.seconds for one in used) / 3600,
        rate_hz=source.rate_hz,
        channels=source.channels,
        sigma_data=float(np.sqrt(max(square / entries - mean**2, 0.0))),
        mean=float(mean),
        duration_seconds=_quantiles([one.seconds for one in used]),
        level_dbfs=_quantiles([one.level_dbfs for one in used]),
        peak_dbfs=_quantiles([one.peak_dbfs for one in used]),
        clipped=tuple(source.describe(index) for index, one in enumerate(clips) if one.clipped),
        silent=tuple(one.fault for one in clips if one.fault is not None and one.silent),
        damaged=tuple(one.fault for one in clips if one.fault is not None and not one.silent),
        preparation=asdict(preparation) | {"bucket_samples": list(preparation.bucket_samples)},  # as JSON has it
        file_formats=dict(file_formats or {}),
        manifest_hash=manifest_hash,
    )


def file_formats(manifest: Manifest) -> Counter[tuple[int, int]]:
    """Count the (rate in Hz, channels) that the headers of a manifest's files name; a damaged file counts for none."""
    counts: Counter[tuple[int, int]] = Counter()
    for path in dict.fromkeys(clip.path for clip in manifest.clips):
        try:
            info = audio_info(manifest.root / path)
        except AudioError:
            continue
        counts[info.rate_hz, info.channels] += 1
    return counts


def is_clipped(audio: np.ndarray) -> bool:
    """Tell whether any channel of [time, channel] stays at full scale for three samples or more.

    Sound at the file's own rate is meant: resampling rounds the flat tops off.
    """
    full = np.abs(audio) >= FULL_SCALE
    if not full.any():
        return False
    runs = np.lib.stride_tricks.sliding_window_view(full, min(CLIPPED_RUN, len(full)), axis=0)
    return len(full) >= CLIPPED_RUN and bool(runs.all(axis=-1).any())


def _measure_clip(source: Source, preparation: Preparation, seed: int, index: int) -> _Measured:
    silent = False
    try:
        audio = source[index]["audio"]
        silent = level_dbfs(audio) < preparation.silence_dbfs
        rng = generator(seed, "statistics", index)
        whole = generator(seed, "measure whole", index).random() < preparation.whole_share
        example = preparation(audio, rng, -1 if whole else preparation.bucket(len(audio))).audio
    except AudioError as error:
        return _Measured(Fault(index, source.describe(index), str(error)), silent)
    return _Measured(
        seconds=len(audio) / source.rate_hz,
        level_dbfs=level_dbfs(audio),
        peak_dbfs=20 * float(np.log10(np.abs(audio).max())),
        clipped=is_clipped(audio),
        example=example,
    )


def _without_example(one: _Measured) -> _Measured:
    return _Measured(one.fault, one.silent, one.seconds, one.level_dbfs, one.peak_dbfs, one.clipped)


def _quantiles(values: list[float]) -> dict[str, float]:
    return {str(percent): float(np.percentile(values, percent)) for percent in QUANTILES}
