"""Make the page of a listening test from folders of clips, and the plan beside it, which holds the key.

The plan says what each opaque id of the page stands for. What listeners send back knows ids only; it is analysed by
:mod:`audiodiff.build.listening_results`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import scipy  # its parts load when they are first used

from audiodiff import dsp, prng
from audiodiff.build.choices import ConfigError, choose
from audiodiff.build.samples import SAMPLES_FILE
from audiodiff.data import audio_info, read_audio
from audiodiff.data.audio_files import EXTENSIONS
from audiodiff.evaluation import page
from audiodiff.evaluation.listening_page import FORMAT, KINDS, ListeningTest, Trial, render_page
from audiodiff.training.workdir import config_hash

REFERENCE = "reference"
ANCHOR = "anchor at {} Hz"
BLOCK_S, SILENCE_LKFS, ENDS = 0.4, -70.0, 0.01
"""A block of BS.1770's gate and the level below which it hears nothing; the share of its peak at which a clip ends."""


@dataclass(frozen=True)
class Settings:
    """Say what a listening test compares: system -> folder of clips, matched by file name, and how much is asked.

    ``level_lkfs`` is the loudness of all stimuli, lowered for all where one of them would clip; ``anchors_hz`` are the
    cut-offs of MUSHRA's anchors, the highest of which is the mid-range one that screens assessors.
    """

    kind: str
    systems: Mapping[str, pathlib.Path]
    reference: pathlib.Path | None = None
    trials: int = 20
    seed: int = 0
    level_lkfs: float = -26.0
    anchors_hz: tuple[int, ...] = (3500, 7000)
    title: str = "A listening test"
    notice: str = ""


@dataclass(frozen=True)
class Sound:
    """Hold a clip [time, channel], its loudness and how that was measured."""

    audio: np.ndarray
    rate_hz: int
    loudness_lkfs: float
    measure: str

    @property
    def highest_lkfs(self) -> float:
        """The loudness at which the clip's peak is at full scale."""
        return self.loudness_lkfs - 20 * math.log10(np.abs(self.audio).max())


def write_test(out: pathlib.Path, settings: Settings) -> tuple[pathlib.Path, pathlib.Path]:
    """Write the page to ``out`` (.html) and its plan beside it; return both paths.

    Trial k is clip k // G in a drawn order, put to group k mod G: each system alone for opinion scores (the reference
    among them, if given), each pair of systems for A/B and ABX, one group of all for MUSHRA. Raises ConfigError for
    settings that cannot be, AudioError or ConfigError for a clip that cannot be used.
    """
    groups = _groups(settings)
    names = _clip_names(settings)
    most = len(groups) * len(names)
    if not 0 < settings.trials <= most or settings.trials % len(groups):
        raise ConfigError(
            f"{settings.trials} trials cannot be spread evenly over {len(groups)} comparisons of up to {len(names)} "
            f"clips each: give a multiple of {len(groups)} from {len(groups)} to {most}"
        )
    generator = np.random.default_rng(np.asarray(jax.random.key_data(prng.stream(settings.seed, "listening test"))))
    drawn = [names[i] for i in generator.permutation(len(names))[: settings.trials // len(groups)]]
    sounds = {clip: _sounds(settings, clip) for clip in drawn}
    _check_alike(sounds)
    level = min(settings.level_lkfs, *(sound.highest_lkfs for of in sounds.values() for sound in of.values()))
    ids = (f"{number:08x}" for number in generator.choice(16**8, settings.trials * (len(groups[0]) + 2), replace=False))
    stimuli: list[dict[str, Any]] = []
    wavs: dict[str, bytes] = {}

    def stimulus(clip: str, system: str) -> str:
        sound, id = sounds[clip][system], next(ids)
        gain_db = level - sound.loudness_lkfs
        wavs[id], _ = page.wav_bytes(sound.audio * 10 ** (gain_db / 20), sound.rate_hz)
        stimuli.append(
            {
                "id": id,
                "system": system,
                "clip": clip,
                "gain_db": gain_db,
                "loudness_lkfs": sound.loudness_lkfs,
                "measure": sound.measure,
                "sha256": hashlib.sha256(wavs[id]).hexdigest(),
            }
        )
        return id

    trials = []
    for clip, group in itertools.product(drawn, groups):
        rated = tuple(sorted(stimulus(clip, system) for system in group))  # sorted by what was drawn: no order is left
        opened = ""
        if settings.kind == "abx":
            opened = stimulus(clip, group[generator.integers(2)])  # a fair coin each time, or X could be counted out
        elif settings.kind == "mushra":
            opened = stimulus(clip, REFERENCE)
        trials.append(Trial(next(ids), rated, opened))
    plan: dict[str, Any] = {
        "format": FORMAT,
        "kind": settings.kind,
        "seed": settings.seed,
        "config": _config(settings, level),
        "stimuli": stimuli,
        "trials": [dataclasses.asdict(trial) for trial in trials],
    }
    plan = json.loads(json.dumps(plan))  # as it will be read: lists for tuples
    plan["hash"] = config_hash(plan)
    test = ListeningTest(settings.kind, plan["hash"], trials, wavs, settings.title, settings.notice)
    text = render_page(test)
    plan["page_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    beside = out.with_suffix(".plan.json")
    return page.write(out, text, {beside.name: page.strict_json(plan)}), beside


def _config(settings: Settings, level_lkfs: float) -> dict[str, Any]:
    """Return the settings as plain values, with the level that became of the one asked for."""
    folders = {system: str(folder) for system, folder in settings.systems.items()}
    return {
        "systems": folders,
        "reference": str(settings.reference) if settings.reference else None,
        "trials": settings.trials,
        "level_asked_lkfs": settings.level_lkfs,
        "level_lkfs": level_lkfs,
        "anchors_hz": list(settings.anchors_hz) if settings.kind == "mushra" else [],
        "title": settings.title,
        "notice": settings.notice,
    }


def loudness(audio: np.ndarray, rate_hz: int) -> tuple[float, str]:
    """Return the loudness of a clip [time, channel] in LKFS and the name of its measure; NaN for silence.

    Measured between the first and the last sample within 40 dB of the peak: a digit in a second of silence is as loud
    as the digit alone. There it is the gated loudness of BS.1770-4; what is shorter than its block of 400 ms has
    none, and its ungated level is taken.
    """
    peaks = np.abs(audio).max(axis=1)
    ends = np.flatnonzero(peaks > ENDS * peaks.max())
    if not ends.size:
        return math.nan, "none"
    sound = audio[ends[0] : ends[-1] + 1].T
    gains = dsp.CHANNEL_GAINS_5_0[: len(sound)]
    if sound.shape[1] >= round(BLOCK_S * rate_hz):
        return float(dsp.integrated_loudness_lkfs(sound, rate_hz, gains)), "integrated loudness"
    level = float(dsp.k_weighted_level_db(sound, rate_hz, gains))
    return level if level > SILENCE_LKFS else math.nan, "K-weighted level"


def anchor(audio: np.ndarray, rate_hz: int, cutoff_hz: int) -> np.ndarray:
    """Return a clip [time, channel] without what is above a cut-off, at its own rate and length, in phase with it.

    BS.1534-3's anchors pass 3.5 (7) kHz within 0.1 dB and lower 4 (8) kHz by 25 dB and 4.5 (9) kHz by 50. A Kaiser
    window's 60 dB from 8/7 of the cut-off does both. Raises ConfigError where the rate holds nothing above that.
    """
    if not 0 < cutoff_hz <= rate_hz * 7 / 16:
        raise ConfigError(
            f"an anchor at {cutoff_hz} Hz takes nothing from clips at {rate_hz} Hz: "
            f"give --anchors_hz from 1 to {rate_hz * 7 // 16}, 7/16 of the rate"
        )
    taps, beta = scipy.signal.kaiserord(60, 2 * (cutoff_hz / 7) / rate_hz)
    lowpass = scipy.signal.firwin(taps | 1, cutoff_hz * 15 / 14, window=("kaiser", beta), fs=rate_hz)
    return scipy.signal.fftconvolve(audio, lowpass[:, None], mode="same", axes=0)


def _groups(settings: Settings) -> list[tuple[str, ...]]:
    """Return the systems of each comparison, checked."""
    choose("kind of listening test", settings.kind, KINDS)
    systems, kind = tuple(settings.systems), settings.kind
    anchors = tuple(ANCHOR.format(cutoff) for cutoff in settings.anchors_hz)
    if taken := [name for name in systems if name in (REFERENCE, *anchors) or not name]:
        raise ConfigError(f"a system cannot be called {taken[0]!r}, which means another stimulus: rename it")
    if len(systems) < (least := 2 if kind in ("ab", "abx") else 1):
        raise ConfigError(
            f"{kind} compares at least {least} systems and got {len(systems)}: give --systems=a=DIR,b=DIR"
        )
    if kind == "mushra":
        if settings.reference is None or not anchors:
            raise ConfigError("mushra needs a reference and an anchor: give --reference=DIR and --anchors_hz")
        return [(REFERENCE, *systems, *anchors)]
    if kind == "mos":
        return [(system,) for system in (*systems, *([REFERENCE] if settings.reference else []))]
    if settings.reference is not None:
        raise ConfigError(f"{kind} compares systems alone: leave out --reference, or name its folder a system")
    return list(itertools.combinations(systems, 2))


def _clip_names(settings: Settings) -> list[str]:
    """Return the file names that all systems have; the reference may have more."""
    held = {system: set(_listed(folder)) for system, folder in settings.systems.items()}
    names = set().union(*held.values())
    if settings.reference is not None:
        held[REFERENCE] = set(_listed(settings.reference))
    for system, own in held.items():
        if missing := sorted(names - own):
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise ConfigError(
                f"{system} lacks {', '.join(missing[:5])}{more}: clips are matched by file name, give it the same names"
            )
    return sorted(names)


def _listed(folder: pathlib.Path) -> list[str]:
    """Return the names of a folder's clips: those of samples.json, where it is, else all that are audio files."""
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: give NAME=FOLDER of audio files")
    if (record := folder / SAMPLES_FILE).exists():
        try:
            names = [str(one["file"]) for one in json.loads(record.read_text(encoding="utf-8"))["samples"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{record} is damaged ({error!r}): restore it, or sample anew") from error
    else:
        names = [path.name for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS]
    if not names:
        raise ConfigError(f"{folder} holds no audio files: give a folder of clips")
    return names


def _sounds(settings: Settings, clip: str) -> dict[str, Sound]:
    """Read a clip of every system, and of the reference with its anchors."""
    folders = {**settings.systems, **({REFERENCE: settings.reference} if settings.reference else {})}
    sounds = {system: _sound(folder / clip) for system, folder in folders.items()}
    if settings.kind == "mushra":
        whole = sounds[REFERENCE]
        for cutoff in settings.anchors_hz:
            low = anchor(whole.audio, whole.rate_hz, cutoff)
            sounds[ANCHOR.format(cutoff)] = _measured(low, whole.rate_hz, f"the anchor at {cutoff} Hz of {clip}")
    return sounds


def _sound(path: pathlib.Path) -> Sound:
    rate_hz = audio_info(path).rate_hz
    return _measured(read_audio(path), rate_hz, str(path))


def _measured(audio: np.ndarray, rate_hz: int, what: str) -> Sound:
    if audio.shape[1] > 2:
        raise ConfigError(f"{what} has {audio.shape[1]} channels, which headphones do not: mix it to mono or stereo")
    level, measure = loudness(audio, rate_hz)
    if math.isnan(level):
        raise ConfigError(f"{what} is silent, below {SILENCE_LKFS:g} LKFS, and has no loudness to match: take it out")
    return Sound(audio, rate_hz, level, measure)


def _check_alike(sounds: Mapping[str, Mapping[str, Sound]]) -> None:
    """Raise ConfigError where clips differ in what a listener would tell them apart by."""
    found: dict[tuple[int, int], str] = {}
    for clip, of in sounds.items():
        for system, sound in of.items():
            found.setdefault((sound.rate_hz, sound.audio.shape[1]), f"{clip} of {system}")
    if len(found) > 1:
        each = " and ".join(f"{where} is at {rate} Hz with {n} channels" for (rate, n), where in found.items())
        raise ConfigError(f"{each}: convert them to one rate and number of channels")
