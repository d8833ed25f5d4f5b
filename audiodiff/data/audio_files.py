"""Read and write audio files so that nothing is lost in silence.

libsndfile reads a truncated file short without a word, clips what is beyond full scale, and writes NaN as a number.
Here each of these is an :class:`~audiodiff.data.sources.AudioError` that names the file, the value and the mend.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile
import soxr

from audiodiff.data.sources import AudioError

ROUNDING_SECONDS = 0.01
"""A manifest's times are rounded: a segment may reach this far past the end of its file and is then cut there."""

EXTENSIONS = {f".{name.lower()}" for name in soundfile.available_formats()} - {".raw"} | {".aif", ".oga", ".opus"}
"""File names that count as audio in a folder. A ``.raw`` file does not say its rate, so it cannot be read."""


@dataclass(frozen=True)
class AudioInfo:
    """Hold what a file's header says."""

    rate_hz: int
    channels: int
    frames: int
    subtype: str

    @property
    def duration_seconds(self) -> float:
        return self.frames / self.rate_hz


def audio_info(path: str | os.PathLike) -> AudioInfo:
    """Read a file's header; raise :class:`AudioError` where it is missing, empty, truncated or no audio."""
    path = Path(path)
    with _opened(path) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames, file.subtype)


def read_audio(
    path: str | os.PathLike,
    rate_hz: int | None = None,
    start_seconds: float = 0.0,
    duration_seconds: float | None = None,
    channels: int | None = None,
) -> np.ndarray:
    """Read a file, or a segment of it, as float32 [time, channel] at ``rate_hz`` (None: the file's own).

    Any format of libsndfile; integer samples are scaled to [-1, 1), float samples kept as they are. Resampling is
    soxr's HQ. ``channels`` = 1 takes the mean of all channels; more repeats those of a mono file.
    Raises :class:`AudioError`: missing, empty, unreadable, truncated, zero-length, NaN or inf, segment out of range.
    Truncation is seen in WAV, RF64, AIFF, FLAC, OGG, Opus, and in MP3 with a frame count; not in CAF, AU, W64, NIST.
    """
    path = Path(path)
    if rate_hz is not None and rate_hz < 1:
        raise ValueError(f"rate_hz is {rate_hz}; give the model's sample rate in Hz, at least 1")
    if start_seconds < 0 or (duration_seconds is not None and not duration_seconds > 0):
        raise AudioError(
            f"{path}: segment at {start_seconds} s of {duration_seconds} s; start at 0 or later and last more than 0"
        )
    with _opened(path) as file:
        native_hz = file.samplerate
        first, frames = _segment(path, file, start_seconds, duration_seconds)
        try:
            file.seek(first)
            audio = file.read(frames, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            raise AudioError(f"{path}: cannot be decoded ({_reason(error)}); fetch or convert the file again") from None
    if len(audio) < frames:
        raise AudioError(
            f"{path}: truncated, {first + len(audio)} frames decode of {first + frames} that the header promises; "
            f"fetch the file again"
        )
    if not np.isfinite(audio).all():
        bad = int(np.argmin(np.isfinite(audio).all(axis=1)))
        raise AudioError(
            f"{path}: sample {first + bad} is {audio[bad][~np.isfinite(audio[bad])][0]}; "
            f"audio must be finite, so write the file again"
        )
    audio = _with_channels(path, audio, channels)
    if rate_hz is not None and rate_hz != native_hz:
        audio = soxr.resample(audio, native_hz, rate_hz, quality="HQ").reshape(-1, audio.shape[1])
        if not len(audio):
            raise AudioError(f"{path}: {frames} frames at {native_hz} Hz are none at {rate_hz} Hz; remove the clip")
    return audio


def write_audio(
    path: str | os.PathLike,
    audio: np.ndarray,
    rate_hz: int,
    subtype: str | None = None,
    peak: Literal["error", "scale", "float"] = "error",
) -> float:
    """Write audio [time] or [time, channel] and return the gain applied to it in dB, 0 where it is written as it is.

    The format follows from the extension; ``subtype`` None means 16-bit PCM if it holds that. Nothing is ever clipped:
    where |x| exceeds 1 and ``subtype`` cannot hold it, ``peak`` says whether to raise (``error``), to scale the clip to
    a peak of 1 (``scale``), or to write floats (``float``, in WAV and its kind). NaN and inf are refused. A file is
    complete or absent: it is written aside, then renamed. Raises ValueError.
    """
    path, audio = Path(path), np.asarray(audio, np.float32)
    if peak not in ("error", "scale", "float"):
        raise ValueError(f"unknown peak policy {peak!r}; choose one of error, scale, float")
    if rate_hz < 1:
        raise ValueError(f"rate_hz is {rate_hz}; give the sample rate in Hz, at least 1")
    if audio.ndim not in (1, 2) or audio.size == 0:
        raise ValueError(f"audio for {path} has shape {audio.shape}; give [time] or [time, channel], not empty")
    if not np.isfinite(audio).all():
        raise ValueError(f"audio for {path} holds {int((~np.isfinite(audio)).sum())} NaN or inf; audio must be finite")
    container = {".aif": "AIFF", ".oga": "OGG", ".opus": "OGG"}.get(path.suffix.lower(), path.suffix[1:].upper())
    if container not in soundfile.available_formats():
        raise ValueError(f"cannot write {path.suffix or 'a file without extension'}: {path}; use .wav or .flac")
    if subtype is None:
        subtype = "PCM_16" if soundfile.check_format(container, "PCM_16") else soundfile.default_subtype(container)
    highest, gain_db = float(np.abs(audio).max()), 0.0
    if highest > 1 and subtype not in ("FLOAT", "DOUBLE"):
        if peak == "error":
            raise ValueError(
                f"audio for {path} peaks at {highest:.4g}, beyond the full scale of 1 of {subtype}; "
                f"give peak='scale' or peak='float'"
            )
        if peak == "scale":
            audio, gain_db = audio / np.float32(highest), -20 * math.log10(highest)
        else:
            subtype = "FLOAT"
    if not soundfile.check_format(container, subtype):
        choices = ", ".join(soundfile.available_subtypes(container))
        raise ValueError(f"{container} cannot hold {subtype}: {path}; choose one of {choices}")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        soundfile.write(aside, audio, rate_hz, subtype=subtype, format=container)
        os.replace(aside, path)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"cannot write {path} as {container} {subtype} at {rate_hz} Hz ({_reason(error)})") from None
    finally:
        aside.unlink(missing_ok=True)
    return gain_db


@contextlib.contextmanager
def _opened(path: Path):
    """Open a file for reading once its container is known to be whole."""
    if not path.is_file():
        raise AudioError(f"{path}: no such file; check the manifest, or the folder that its paths begin from")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: empty, 0 bytes; fetch the file again")
    if shortfall := _shortfall(path):
        raise AudioError(f"{path}: truncated, {shortfall}; fetch the file again")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise AudioError(
            f"{path}: not readable as audio ({_reason(error)}); give WAV, FLAC, OGG, MP3 or AIFF, with a rate above 0"
        ) from None
    with file:
        if file.frames < 1:
            raise AudioError(f"{path}: zero length, no samples; remove the file or fetch it again")
        yield file


def _segment(
    path: Path, file: soundfile.SoundFile, start_seconds: float, duration_seconds: float | None
) -> tuple[int, int]:
    """Return first frame and number of frames of a segment of an open file."""
    rate = file.samplerate
    first = round(start_seconds * rate)
    frames = file.frames - first if duration_seconds is None else round(duration_seconds * rate)
    over = first + frames - file.frames
    if first >= file.frames or over > ROUNDING_SECONDS * rate:
        end = "its end" if duration_seconds is None else f"{start_seconds + duration_seconds:g} s"
        raise AudioError(
            f"{path}: {start_seconds:g} s to {end} is asked of a file of {file.frames / rate:g} s; mend the manifest"
        )
    frames -= max(over, 0)
    if frames < 1:
        raise AudioError(f"{path}: zero length, {duration_seconds} s are no sample at {rate} Hz; mend the manifest")
    return first, frames


def _with_channels(path: Path, audio: np.ndarray, channels: int | None) -> np.ndarray:
    present = audio.shape[1]
    if channels is None or channels == present:
        return audio
    if channels == 1:
        return audio.mean(axis=1, keepdims=True)
    if present == 1:
        return np.repeat(audio, channels, axis=1)
    raise AudioError(f"{path}: has {present} channels and {channels} are asked; only 1 to N and N to 1 are converted")


def _shortfall(path: Path) -> str:
    """Say what is missing of a WAV, AIFF or OGG file, "" if nothing: libsndfile corrects such headers in silence."""
    size = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(4)
        if magic in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
            return _chunk_shortfall(file, size, big_endian=magic in (b"RIFX", b"FORM"))
        if magic == b"OggS":
            return _ogg_shortfall(file, size)
    return ""


def _chunk_shortfall(file: BinaryIO, size: int, big_endian: bool) -> str:
    """Walk the chunks (name, 32-bit size, content padded to even) to the samples; compare with the file's size."""
    order = ">" if big_endian else "<"
    file.seek(12)
    long_size = None
    while len(header := file.read(8)) == 8:
        name, length = header[:4], struct.unpack(f"{order}I", header[4:])[0]
        begin = file.tell()
        if name == b"ds64":  # RF64 keeps the 64-bit size of its data here
            long_size = struct.unpack("<Q", file.read(16)[8:])[0]
        if name in (b"data", b"SSND"):
            if length == 0xFFFFFFFF:  # written to a pipe: the size was never known
                length = long_size if long_size is not None else size - begin
            held = size - begin
            return f"its header promises {length} bytes of samples, the file holds {held}" if length > held else ""
        file.seek(begin + length + length % 2)
    return "no samples follow its header" if size < 4096 else ""


def _ogg_shortfall(file: BinaryIO, size: int) -> str:
    """Look for a whole last page with the end-of-stream flag (RFC 3533, section 6: flags at 5, segment table at 26)."""
    file.seek(max(size - 65_536, 0))  # no page is longer than 65,307 bytes
    tail = file.read()
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    if len(page) < 27 or not page[5] & 4:
        return "its last page does not end the stream"
    segments = page[27 : 27 + page[26]]
    missing = 27 + page[26] + sum(segments) - len(page)
    return f"its last page lacks {missing} bytes" if missing > 0 else ""


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", "") or str(error)
    return " ".join(text.split()).rstrip(". :") or "damaged content"
