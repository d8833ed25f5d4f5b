"""Predict by published models what listeners would say of speech and audio: STOI and ESTOI, PESQ, ViSQOL.

Each is computed by its own package, imported when it is first called: ``pip install 'audiodiff[metrics]'``. On the
last axis and clip by clip on the host, [..., time] -> [...] in float64. A clip on which a metric is not defined is NaN
and :func:`~audiodiff.metrics.intervals.mean_figure` counts it; ``undefined="raise"`` makes it an error that says why.
That is a sample that is not finite, too short a clip, and silence (or a constant) on either side: each model brings
both clips to one level, and silence has none. The packages themselves give numbers for many of these that look real.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from audiodiff.dsp.choices import check_choice

Undefined = Literal["nan", "raise"]
PesqMode = Literal["nb", "wb"]
VisqolMode = Literal["speech", "audio"]

# 31 frames of 256 samples at 10 kHz, one every 128; below 8 kHz the upper bands would hold what the resampler leaks.
_STOI_SECONDS, _STOI_LEAST_HZ = 0.4096, 8000

# ITU's code tells at most 50 utterances apart and overwrites its own memory after them: a wrong number, or a crash. An
# utterance and its pause last at least 97 windows of 4 ms, so that 50 of them fill 19.4 s.
_PESQ_SECONDS, _PESQ_MOST_SECONDS = 0.25, 19.0
_PESQ_RATES_HZ = {"nb": (8000, 16000), "wb": (16000,)}

# One patch of 20 frames after 9 others, and of 30 after 15; a frame is 80 ms long and comes every 20 ms.
_VISQOL_SECONDS = {"speech": 0.64, "audio": 0.96}
_VISQOL_RATES_HZ = {"speech": (16000,), "audio": (48000,)}

_TOO_SHORT = "join clips of one speaker (audiodiff.metrics.perceptual.joined)"


def stoi(
    estimate: ArrayLike, target: ArrayLike, rate_hz: int, extended: bool = False, undefined: Undefined = "nan"
) -> np.ndarray:
    """Return the short-time objective intelligibility of speech, 1 at best (Taal et al., 2011), by pystoi.

    Both clips are brought to 10 kHz, frames in which the target is 40 dB or more below its loudest are taken out of
    both, and the envelopes of 15 third-octave bands from 150 Hz are correlated over every 30 frames (384 ms).
    ``extended`` is ESTOI (Jensen and Taal, 2016), which also sees masking that fluctuates. At 8 kHz the highest band,
    3.4 to 4.3 kHz, is cut off at 4.

    Undefined with fewer than 31 active frames, 0.41 s; for pystoi that is 1e-5, and silence is 0. Raises ValueError
    for unequal shapes and a rate below 8 kHz, ImportError without pystoi.
    """
    if not (rate_hz >= _STOI_LEAST_HZ and rate_hz == int(rate_hz)):
        raise ValueError(
            f"rate_hz is {rate_hz}; STOI takes whole rates from {_STOI_LEAST_HZ} Hz, as its bands reach up to 4.3 kHz"
        )
    package = _package("pystoi", "pystoi")

    def measure(x: np.ndarray, s: np.ndarray) -> float:
        _check_length(s, rate_hz, _STOI_SECONDS)
        try:
            with warnings.catch_warnings(), _same_noise():
                warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
                return package.stoi(s, x, int(rate_hz), extended=extended)
        except RuntimeWarning:
            raise _NotDefined(
                f"fewer than 31 of its frames, {_STOI_SECONDS:.2g} s, come within 40 dB of its loudest; {_TOO_SHORT}"
            ) from None

    return _by_clip("STOI", measure, estimate, target, rate_hz, undefined)


def pesq(
    estimate: ArrayLike, target: ArrayLike, rate_hz: int, mode: PesqMode, undefined: Undefined = "nan"
) -> np.ndarray:
    """Return the perceptual evaluation of speech quality as a MOS-LQO, by ITU's code in the package pesq.

    ``mode`` "nb" is narrow band (P.862, mapped by P.862.1; 8 or 16 kHz), equal clips having 4.549; "wb" is wide band
    (P.862.2; 16 kHz) with 4.644. The two are different scales, and below 0 dB of SNR more noise can score higher.

    Undefined below 0.25 s, and where ITU's detector finds no 0.2 s of continuous speech in the target. Raises
    ValueError for unequal shapes, another rate, and clips of more than 19 s, in which there could be more utterances
    than that code has room for; ImportError without pesq.
    """
    check_choice("mode", mode, get_args(PesqMode))
    _check_rate(f"PESQ in mode {mode!r}", rate_hz, _PESQ_RATES_HZ[mode])
    package = _package("pesq", "pesq")

    def measure(x: np.ndarray, s: np.ndarray) -> float:
        if len(s) > _PESQ_MOST_SECONDS * rate_hz:
            raise ValueError(
                f"a clip of {len(s) / rate_hz:g} s is too long for PESQ, which overruns its table of 50 utterances; "
                f"cut both clips alike into pieces of at most {_PESQ_MOST_SECONDS:g} s"
            )
        _check_length(s, rate_hz, _PESQ_SECONDS)
        try:
            return package.pesq(int(rate_hz), s, x, mode)
        except package.NoUtterancesError:
            raise _NotDefined(f"no 0.2 s of continuous speech are found in the target; {_TOO_SHORT}") from None

    return _by_clip("PESQ", measure, estimate, target, rate_hz, undefined)


def visqol(
    estimate: ArrayLike, target: ArrayLike, rate_hz: int, mode: VisqolMode, undefined: Undefined = "nan"
) -> np.ndarray:
    """Return the virtual speech quality objective listener's MOS-LQO (Chinen et al., 2020), by visqol-python.

    ``mode`` "speech" takes 16 kHz and maps through the deep lattice of ViSQOL 3.3, "audio" takes 48 kHz and a support
    vector regression; equal clips have 4.3 to 4.8 and 4.732. Levels count: a band below an RMS of 3.2e-5 is not heard,
    -90 dB when full scale is 1. Where numba is installed the first call compiles, for 10 s and more.

    Undefined below 0.64 s (speech) and 0.96 s (audio), and where nothing of the estimate is heard; ViSQOL has two
    such clips for equal. Raises ValueError for unequal shapes and another rate; ImportError without visqol-python, in
    mode "speech" also without its extra [lattice], for which it would put another scale.
    """
    check_choice("mode", mode, get_args(VisqolMode))
    _check_rate(f"ViSQOL in mode {mode!r}", rate_hz, _VISQOL_RATES_HZ[mode])
    package = _package("visqol", "visqol-python[lattice]")
    if mode == "speech":
        _package("ai_edge_litert.interpreter", "visqol-python[lattice]")
    model = package.VisqolApi()
    model.create(mode=mode, use_lattice_model=mode == "speech")

    def measure(x: np.ndarray, s: np.ndarray) -> float:
        _check_length(s, rate_hz, _VISQOL_SECONDS[mode])
        heard = model.measure_from_arrays(s, x, int(rate_hz))
        if not np.any(heard.fvdegenergy):
            raise _NotDefined("nothing of the estimate is above ViSQOL's absolute floor; raise both clips by one gain")
        return heard.moslqo

    return _by_clip("ViSQOL", measure, estimate, target, rate_hz, undefined)


def joined(
    clips: ArrayLike, lengths_samples: ArrayLike, speakers: Iterable[Hashable], piece_samples: int
) -> np.ndarray:
    """Lay the clips [clip, time] of each speaker end to end and cut them into pieces [piece, piece_samples].

    For metrics that ask for more speech than one clip holds. The first ``lengths_samples[i]`` samples of clip i
    count, the rest is padding. Clips keep their order, and what is left of a speaker after the last whole piece is
    dropped. The cuts depend on lengths and speakers alone: estimates and targets that are joined alike are pairs.

    Raises ValueError for other than one length and one speaker a clip, a length outside 0 to time, and pieces of no
    samples.
    """
    audio, lengths, names = np.asarray(clips), np.asarray(lengths_samples), list(speakers)
    if audio.ndim != 2 or not len(audio) == lengths.size == len(names) > 0:
        raise ValueError(
            f"clips of shape {audio.shape} have {lengths.size} lengths and {len(names)} speakers; "
            "give [clip, time] with one of each a clip"
        )
    outside = (lengths < 0) | (lengths > audio.shape[1])
    if outside.any():
        raise ValueError(f"a length is {lengths[outside][0]}; it must be from 0 to {audio.shape[1]}, the padded clip's")
    if piece_samples < 1:
        raise ValueError(f"piece_samples is {piece_samples}; it must be at least 1")
    pieces = []
    for speaker in dict.fromkeys(names):
        own = [clip[:length] for clip, length, name in zip(audio, lengths, names, strict=True) if name == speaker]
        speech = np.concatenate(own)
        whole = len(speech) // piece_samples
        pieces.append(speech[: whole * piece_samples].reshape(whole, piece_samples))
    return np.concatenate(pieces)


class _NotDefined(Exception):
    """Say why a metric is not defined on a clip, and what mends it."""


def _by_clip(
    metric: str,
    measure: Callable[[np.ndarray, np.ndarray], Any],
    estimate: ArrayLike,
    target: ArrayLike,
    rate_hz: int,
    undefined: Undefined,
) -> np.ndarray:
    check_choice("undefined", undefined, get_args(Undefined))
    x, s = np.asarray(estimate, np.float64), np.asarray(target, np.float64)
    if x.shape != s.shape or s.ndim == 0 or s.shape[-1] == 0:
        raise ValueError(
            f"an estimate of shape {x.shape} cannot be compared with a target of shape {s.shape}; give both "
            "[..., time] of one length, at least 1, and aligned"
        )
    values = np.full(s.shape[:-1], math.nan)
    for clip in np.ndindex(values.shape):
        try:
            _check_sound(x[clip], s[clip])
            values[clip] = measure(x[clip], s[clip])
        except _NotDefined as why:
            if undefined == "raise":
                which = f"clip {list(clip)}" if clip else "the clip"
                raise ValueError(
                    f"{metric} is not defined on {which} of {s.shape[-1] / rate_hz:.3g} s: {why}, or pass "
                    "undefined='nan' to get NaN for it"
                ) from None
    return values


def _check_sound(x: np.ndarray, s: np.ndarray) -> None:
    for name, clip in (("estimate", x), ("target", s)):
        if not np.isfinite(clip).all():
            raise _NotDefined(f"a sample of the {name} is not finite; repair or drop it")
        if np.ptp(clip) == 0:
            raise _NotDefined(f"the {name} is silent; drop it")


def _check_length(clip: np.ndarray, rate_hz: int, least_seconds: float) -> None:
    if len(clip) < least_seconds * rate_hz:
        raise _NotDefined(f"it is shorter than {least_seconds:.2g} s; {_TOO_SHORT}")


def _check_rate(metric: str, rate_hz: int, valid_hz: tuple[int, ...]) -> None:
    if rate_hz not in valid_hz:
        raise ValueError(
            f"rate_hz is {rate_hz}; {metric} takes {' or '.join(map(str, valid_hz))} Hz: bring both clips there "
            "before, by audiodiff.dsp.resample"
        )


def _package(module: str, distribution: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this metric needs the package {distribution}, and {module} cannot be imported: "
            "pip install 'audiodiff[metrics]'"
        ) from error


@contextlib.contextmanager
def _same_noise() -> Iterator[None]:
    """Let ESTOI draw the same noise each time, and leave numpy's global generator as it was.

    pystoi adds noise of 1e-16 so that nothing is divided by zero. Where an estimate falls silent for long, that noise
    is all there is to be correlated, and scores differ in the third digit from call to call.
    """
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)
