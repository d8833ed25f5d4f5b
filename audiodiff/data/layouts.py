"""Scan published data sets, or any folder of audio, into a :class:`~audiodiff.data.manifest.Manifest`.

One function per layout, ``scan(root) -> Manifest``; ``LAYOUTS`` names them. None opens an audio file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from audiodiff.data.audio_files import EXTENSIONS
from audiodiff.data.manifest import Clip, Manifest, from_clips

Root = str | os.PathLike


def scan_folder(root: Root) -> Manifest:
    """Take every audio file under a folder. Where all lie in sub-folders, the first sub-folder is their ``label``."""
    root = _existing(root, "audio files")
    paths = [path for path in _files(root, "**/*") if path.suffix.lower() in EXTENSIONS]
    if not paths:
        raise ValueError(f"{root}: no audio file in it or below; expected files as .wav, .flac, .ogg, .mp3 or .aiff")
    relative = [path.relative_to(root) for path in paths]
    labelled = all(len(path.parts) > 1 for path in relative)
    clips = [Clip(path.as_posix(), conditions={"label": path.parts[0]} if labelled else {}) for path in relative]
    return from_clips(root, clips, {"label": "label"} if labelled else {})


def scan_fsdd(root: Root, validation_indices: Iterable[int] = ()) -> Manifest:
    """Scan the Free Spoken Digit Dataset: ``{digit}_{speaker}_{index}.wav``, in ``root`` or in its ``recordings/``.

    Official split: index 0-4 is test, the rest train. ``validation_indices`` takes those of train out as
    validation, for every digit and speaker alike.
    """
    root = _existing(root, "FSDD's {digit}_{speaker}_{index}.wav")
    root = root / "recordings" if (root / "recordings").is_dir() else root
    validation = frozenset(validation_indices)
    if wrong := sorted(index for index in validation if index < 5):
        raise ValueError(f"validation index {wrong[0]} is of the official test split, 0 to 4; choose from 5 up")
    clips = []
    for path in _files(root, "*.wav"):
        if match := re.fullmatch(r"(\d)_([^_]+)_(\d+)", path.stem):
            digit, speaker, index = match[1], match[2], int(match[3])
            split = "test" if index < 5 else "validation" if index in validation else "train"
            clips.append(Clip(path.name, conditions={"digit": digit, "speaker": speaker}, split=split))
    if not clips:
        raise ValueError(f"{root}: no file is named like FSDD's {{digit}}_{{speaker}}_{{index}}.wav, as 7_theo_0.wav")
    return from_clips(root, clips, {"digit": "label", "speaker": "label"})


SC09_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def scan_speech_commands(root: Root, words: Iterable[str] = ()) -> Manifest:
    """Scan Speech Commands (Warden 2018): a folder per word with ``{speaker}_nohash_{take}.wav``.

    Official split: ``validation_list.txt`` and ``testing_list.txt`` name their clips, the rest is train. It keeps every
    speaker, the hash before ``_nohash_``, in one split.
    ``words`` keeps only those folders. ``_background_noise_`` is left out.
    """
    root = _existing(root, "Speech Commands' folder per word")
    wanted = tuple(words)
    held_out: dict[str, str] = {}
    for split, name in (("validation", "validation_list.txt"), ("test", "testing_list.txt")):
        held_out |= dict.fromkeys(_lines(root / name, "Speech Commands' official split"), split)
    clips = []
    for path in _files(root, "*/*.wav"):
        word, name = path.parent.name, f"{path.parent.name}/{path.name}"
        if not word.startswith("_") and (not wanted or word in wanted):
            speaker = path.stem.partition("_nohash_")[0]
            clips.append(Clip(name, conditions={"word": word, "speaker": speaker}, split=held_out.get(name, "train")))
    if not clips:
        raise ValueError(f"{root}: no .wav in folders named by {wanted or 'word'}; expected Speech Commands' layout")
    return from_clips(root, clips, {"word": "label", "speaker": "label"})


def scan_sc09(root: Root) -> Manifest:
    """Scan the ten digits of Speech Commands, the SC09 of the generative literature."""
    return scan_speech_commands(root, SC09_WORDS)


def scan_ljspeech(root: Root) -> Manifest:
    """Scan LJSpeech-1.1 (Ito and Johnson 2017): ``metadata.csv`` (id|transcript|normalised transcript) and ``wavs/``.

    It has no official split. The customary one, of NVIDIA's Tacotron 2 and its followers, is a random 12,500/100/500;
    its lists are not part of the data. Here 500 and 100 clips are chosen once for all as those whose id has the
    lowest SHA-256 (test, then validation; as great a share of a smaller set): anybody gets the same without a list.
    """
    root = _existing(root, "LJSpeech's metadata.csv and wavs/")
    rows = [line.split("|") for line in _lines(root / "metadata.csv", "LJSpeech's id|transcript|normalised transcript")]
    if bad := next((row for row in rows if len(row) not in (2, 3)), None):
        raise ValueError(f"{root / 'metadata.csv'}: {'|'.join(bad)[:60]!r} is not id|transcript|normalised transcript")
    split = split_by_hash([row[0] for row in rows], {"test": 500 / 13100, "validation": 100 / 13100})
    clips = [Clip(f"wavs/{row[0]}.wav", conditions={"text": row[-1] or row[1]}, split=split[row[0]]) for row in rows]
    if not clips:
        raise ValueError(f"{root / 'metadata.csv'}: empty; expected id|transcript|normalised transcript on each line")
    return from_clips(root, clips, {"text": "text"})


def scan_vctk(root: Root, microphone: str = "mic1") -> Manifest:
    """Scan VCTK (Yamagishi et al. 2019), 0.92 or 0.80.

    0.92 has ``wav48_silence_trimmed/{speaker}/{id}_{microphone}.flac``, 0.80 ``wav48/{speaker}/{id}.wav``. Conditions:
    speaker, the text of ``txt/{speaker}/{id}.txt`` (clips without one, as all of p315, are left out), and gender and
    accent where there is a ``speaker-info.txt`` ("unknown" for those it leaves out, as p280 in 0.80).
    It has no official split. Here 5 % of all clips are test and 5 % validation, those whose id has the lowest SHA-256;
    for unseen speakers, as is customary in voice cloning, hold some out whole by the ``speaker`` condition.
    """
    root = _existing(root, "VCTK's wav48_silence_trimmed/ or wav48/, and txt/")
    trimmed = (root / "wav48_silence_trimmed").is_dir()
    audio = root / ("wav48_silence_trimmed" if trimmed else "wav48")
    tail, extension = (f"_{microphone}", ".flac") if trimmed else ("", ".wav")
    texts = {path.stem: path for path in _files(root / "txt", "*/*.txt")}
    speakers = _vctk_speakers(root / "speaker-info.txt")
    found = {path.stem.removesuffix(tail): path for path in _files(audio, f"*/*{tail}{extension}")}
    split = split_by_hash(sorted(found), {"test": 0.05, "validation": 0.05})
    clips = []
    for name, path in found.items():
        speaker = path.parent.name
        if name in texts:
            text = texts[name].read_text(encoding="utf-8").strip()
            person = speakers.get(speaker, {"gender": "unknown", "accent": "unknown"}) if speakers else {}
            conditions = {"speaker": speaker, "text": text, **person}
            clips.append(Clip(path.relative_to(root).as_posix(), conditions=conditions, split=split[name]))
    if not clips:
        example = f"{audio.name}/p225/p225_001{tail}{extension}"
        raise ValueError(f"{root}: no clip with a transcript; expected such as {example} and txt/p225/p225_001.txt")
    more = {"gender": "label", "accent": "label"} if speakers else {}
    return from_clips(root, clips, {"speaker": "label", "text": "text", **more})


def _vctk_speakers(path: Path) -> dict[str, dict[str, str]]:
    """Read ``ID AGE GENDER ACCENTS REGION`` by columns; the id may lack its p."""
    if not path.is_file():
        return {}
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()[1:] if len(line.split()) >= 4]
    return {(row[0] if row[0][0].isalpha() else f"p{row[0]}"): {"gender": row[2], "accent": row[3]} for row in rows}


def split_by_hash(names: Iterable[str], shares: dict[str, float]) -> dict[str, str]:
    """Give each name a split, the same for anybody: names by their SHA-256 fill the shares, the rest is train."""
    ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    split = dict.fromkeys(ordered, "train")
    begin = 0
    for label, share in shares.items():
        end = begin + round(share * len(ordered))
        split |= dict.fromkeys(ordered[begin:end], label)
        begin = end
    return split


LAYOUTS: dict[str, Callable[[Root], Manifest]] = {
    "folder": scan_folder,
    "fsdd": scan_fsdd,
    "sc09": scan_sc09,
    "speech_commands": scan_speech_commands,
    "ljspeech": scan_ljspeech,
    "vctk": scan_vctk,
}


def detect_layout(root: Root) -> str:
    """Name the layout of a folder by its telling files; ``folder`` where none of them is there."""
    root = _existing(root, "audio files")
    if (root / "metadata.csv").is_file() and (root / "wavs").is_dir():
        return "ljspeech"
    if (root / "testing_list.txt").is_file():
        return "speech_commands"
    if (root / "wav48_silence_trimmed").is_dir() or (root / "wav48").is_dir():
        return "vctk"
    names = [path.stem for folder in (root, root / "recordings") for path in folder.glob("*.wav")]
    if names and all(re.fullmatch(r"\d_[^_]+_\d+", name) for name in names):
        return "fsdd"
    return "folder"


def _existing(root: Root, expected: str) -> Path:
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; expected {expected} there, so give the folder that holds them")
    if not any(root.iterdir()):
        raise ValueError(f"{root}: the folder is empty; expected {expected}")
    return root


def _files(folder: Path, pattern: str) -> list[Path]:
    """List files, leaving out hidden ones (resource forks, unfinished writes)."""
    return [path for path in folder.glob(pattern) if not path.name.startswith(".") and path.is_file()]


def _lines(path: Path, expected: str) -> list[str]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected {expected}")
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
