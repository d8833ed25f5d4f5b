"""List the clips of a data set: one record per clip, in a CSV or JSON-lines file that people can write by hand.

Columns: ``path`` (from the data's root folder), ``start_seconds`` and ``duration_seconds`` (either may be absent),
``split``, and one column ``kind:name`` per condition, as ``label:speaker``, ``number:f0_hz``, ``text:transcript``,
``array:embedding`` (the path of an ``.npy`` file). A JSON-lines manifest holds the same keys, one object per line,
and may begin with the line ``{"root": FOLDER}`` where it does not lie in the root folder itself.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audiodiff.data.audio_files import AudioInfo, audio_info, read_audio
from audiodiff.data.sources import KINDS, AudioError, ConditionInfo, Item

PLAIN = ("path", "start_seconds", "duration_seconds", "split")
Value = str | float


@dataclass(frozen=True)
class Clip:
    """Name one clip: a file or a segment of it, its conditions as people write them, and its split ("" = none)."""

    path: str
    start_seconds: float = 0.0
    duration_seconds: float | None = None
    conditions: Mapping[str, Value] = field(default_factory=dict)
    split: str = ""


@dataclass(frozen=True)
class Manifest:
    """Hold the clips of a data set, the folder that their paths begin from, and the kind of each condition.

    The order of ``kinds`` is the set's own order of its conditions.
    """

    root: Path
    clips: tuple[Clip, ...]
    kinds: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, kind in self.kinds.items():
            if kind not in KINDS:
                raise ValueError(f"condition {name!r} is of unknown kind {kind!r}; choose one of {', '.join(KINDS)}")
        for clip in self.clips:
            if clip.conditions.keys() != self.kinds.keys():
                lacking = sorted(self.kinds.keys() ^ clip.conditions.keys())
                raise ValueError(f"{clip.path}: condition {lacking[0]!r} is not given for all clips; give or drop it")

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(clip.split for clip in self.clips))

    @property
    def conditions(self) -> dict[str, ConditionInfo]:
        """Describe the conditions; labels are those of all splits, in natural order (2 before 10)."""
        return {
            name: ConditionInfo(kind, self._labels(name) if kind == "label" else ())  # type: ignore[arg-type]
            for name, kind in self.kinds.items()
        }

    def _labels(self, name: str) -> tuple[str, ...]:
        return tuple(sorted({str(clip.conditions[name]) for clip in self.clips}, key=natural))

    def select(self, split: str) -> tuple[Clip, ...]:
        """Return the clips of one split; ``""`` means all."""
        clips = tuple(clip for clip in self.clips if split in ("", clip.split))
        if not clips:
            raise ValueError(f"no clip of {self.root} is in split {split!r}; choose one of {sorted(self.splits)}")
        return clips

    @property
    def hash(self) -> str:
        """Return 16 hex digits that change with any clip, condition or split, but not with the folder's place."""
        lines = "\n".join(json.dumps(_row(self, clip), sort_keys=True) for clip in self.clips)
        return hashlib.sha256(lines.encode()).hexdigest()[:16]

    def stamp(self) -> str:
        """Return 16 hex digits that change with the size or time of any of the files, which are not read."""
        stamps = []
        for path in dict.fromkeys(clip.path for clip in self.clips):
            try:
                status = os.stat(self.root / path)
            except OSError:
                stamps.append(f"{path} is missing")
            else:
                stamps.append(f"{path} {status.st_size} {status.st_mtime_ns}")
        return hashlib.sha256("\n".join(stamps).encode()).hexdigest()[:16]


def natural(text: str) -> tuple[tuple[int, int | str], ...]:
    """Return a sort key that puts numbers in numeric order: a2 before a10."""
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text) if part)


def read_manifest(path: str | os.PathLike, root: str | os.PathLike | None = None) -> Manifest:
    """Read a manifest, ``.csv`` or ``.jsonl``.

    Relative paths begin from ``root``; by default from the root that the manifest names, or from its own folder.

    Raises ValueError that names file, line and column.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no manifest at {path}; write one with experiments/prepare.py --root=DIR --out=DIR")
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix == ".csv":
            rows = [(number, dict(row)) for number, row in enumerate(csv.DictReader(file), start=2)]
        elif path.suffix == ".jsonl":
            rows = [(number, _object(path, number, line)) for number, line in enumerate(file, start=1) if line.strip()]
        else:
            raise ValueError(f"{path}: a manifest is .csv or .jsonl, not {path.suffix!r}")
    stated = rows.pop(0)[1]["root"] if rows and rows[0][1].keys() == {"root"} else path.parent
    if not rows:
        raise ValueError(f"{path}: the manifest lists no clips")
    kinds: dict[str, str] = {}
    clips = []
    for number, row in rows:
        try:
            clips.append(_clip(row, kinds))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}, line {number}: {error.args[0] if error.args else error}") from None
    return Manifest(Path(stated if root is None else root), tuple(clips), kinds)


def write_manifest(path: str | os.PathLike, manifest: Manifest) -> None:
    """Write a manifest, ``.csv`` or ``.jsonl``; :func:`read_manifest` gives it back.

    A root folder elsewhere is named in its first line; CSV has no place for that, so give the root on reading it.
    """
    path = Path(path)
    rows = [_row(manifest, clip) for clip in manifest.clips]
    aside = path.with_name(f".{path.name}.partial")
    with aside.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            columns = (*PLAIN, *(f"{kind}:{name}" for name, kind in manifest.kinds.items()))
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        elif path.suffix == ".jsonl":
            if manifest.root.resolve() != path.parent.resolve():
                file.write(json.dumps({"root": str(manifest.root.resolve())}, ensure_ascii=False) + "\n")
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            raise ValueError(f"{path}: a manifest is .csv or .jsonl, not {path.suffix!r}")
    os.replace(aside, path)


def _row(manifest: Manifest, clip: Clip) -> dict[str, Value]:
    row: dict[str, Value] = {"path": clip.path}
    if clip.start_seconds:
        row["start_seconds"] = clip.start_seconds
    if clip.duration_seconds is not None:
        row["duration_seconds"] = clip.duration_seconds
    if clip.split:
        row["split"] = clip.split
    return row | {f"{kind}:{name}": clip.conditions[name] for name, kind in manifest.kinds.items()}


def _object(path: Path, number: int, line: str) -> dict:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {number}: not JSON ({error.msg}); write one object per line") from None
    if not isinstance(row, dict):
        raise ValueError(f"{path}, line {number}: holds {line.strip()[:40]!r}; write one object per line")
    return row


def _clip(row: Mapping, kinds: dict[str, str]) -> Clip:
    """Read one row; conditions new to ``kinds`` are added to it."""
    conditions: dict[str, Value] = {}
    for column, value in row.items():
        if column in PLAIN:
            continue
        kind, colon, name = str(column).partition(":")
        if not colon or kind not in KINDS or not name:
            raise ValueError(
                f"unknown column {column!r}; use {', '.join(PLAIN)}, or kind:name with a kind of {', '.join(KINDS)}"
            )
        if value is None or value == "":
            raise ValueError(f"column {column!r} is empty; give every clip a value, or drop the column")
        conditions[name] = _number(column, value) if kind == "number" else str(value)
        if kinds.setdefault(name, kind) != kind:
            raise ValueError(f"condition {name!r} is both {kinds[name]} and {kind}; name its kind once")
    if not row.get("path"):
        raise ValueError("column 'path' is missing or empty; name the audio file")
    start, duration = row.get("start_seconds"), row.get("duration_seconds")
    return Clip(
        path=str(row["path"]),
        start_seconds=_number("start_seconds", start) if start not in (None, "") else 0.0,
        duration_seconds=_number("duration_seconds", duration) if duration not in (None, "") else None,
        conditions=conditions,
        split=str(row.get("split") or ""),
    )


def _number(column: str, value: Value) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"column {column!r} holds {value!r}; give a number") from None


class ManifestSource:
    """Serve the clips of a manifest from their files, at one rate and channel count.

    ``split`` chooses clips; the label vocabularies are those of all splits, or ``conditions`` where given, as by a run
    that was trained on another manifest.
    """

    def __init__(
        self,
        manifest: Manifest,
        rate_hz: int,
        channels: int = 1,
        split: str = "",
        conditions: Mapping[str, ConditionInfo] | None = None,
    ):
        if rate_hz < 1:
            raise ValueError(f"rate_hz is {rate_hz}; give the model's sample rate in Hz, at least 1")
        if channels < 1:
            raise ValueError(f"channels is {channels}; give at least 1")
        self.manifest, self.rate_hz, self.channels = manifest, rate_hz, channels
        self.clips: Sequence[Clip] = manifest.select(split)
        self.conditions = dict(manifest.conditions if conditions is None else conditions)
        if absent := [name for name in self.conditions if name not in manifest.kinds]:
            raise ValueError(f"the manifest has no condition {absent[0]!r}; it has {list(manifest.kinds)}")

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Item:
        clip = self.clips[index]
        audio = read_audio(
            self._path(clip.path), self.rate_hz, clip.start_seconds, clip.duration_seconds, self.channels
        )  # fmt: skip
        return {"audio": audio} | {name: self._value(clip, name, info) for name, info in self.conditions.items()}

    def describe(self, index: int) -> str:
        clip = self.clips[index]
        return str(self._path(clip.path)) + (f" from {clip.start_seconds:g} s" if clip.start_seconds else "")

    def info(self, index: int) -> AudioInfo:
        """Read the header of a clip's file."""
        return audio_info(self._path(self.clips[index].path))

    def _path(self, path: str) -> Path:
        return self.manifest.root / path

    def _value(self, clip: Clip, name: str, info: ConditionInfo):
        value = clip.conditions[name]
        try:
            return info.encode(str(self._path(str(value))) if info.kind == "array" else value)
        except (ValueError, OSError) as error:
            raise AudioError(f"{self._path(clip.path)}: condition {name!r}: {error}") from None


def from_clips(root: str | os.PathLike, clips: Iterable[Clip], kinds: Mapping[str, str]) -> Manifest:
    """Build a manifest whose clips lie in natural order of their paths, the same on every file system."""
    ordered = sorted(clips, key=lambda clip: (natural(clip.path), clip.start_seconds))
    return Manifest(Path(root), tuple(ordered), dict(kinds))
