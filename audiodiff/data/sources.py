"""Say what a data set is: clips by index, each an array of audio with its conditions.

A source is anything with a length, ``source[i] -> {"audio": float32 [time, channel], **conditions}``, a rate, a channel
count and a description of its conditions. Files, generated sounds and arrays in memory look alike from here on.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np

Kind = Literal["label", "number", "text", "array"]
KINDS: tuple[str, ...] = get_args(Kind)
Item = dict[str, Any]
"""One clip: ``audio`` float32 [time, channel]; a label is an int, a number a float, text and arrays are arrays."""


class AudioError(ValueError):
    """A clip cannot be used. The message names it, the value at fault, the limit and the mend."""


@dataclass(frozen=True)
class ConditionInfo:
    """Describe one condition.

    ``label``: one of ``vocabulary``, stored as its position there. ``number``: a float. ``text``: int32 [token], the
    UTF-8 bytes, so that any script fits. ``array``: float32 from an ``.npy`` file. ``shape`` is that of one value in a
    batch, where it is the same for all: (longest,) of a text, (size,) of a vector, (longest, size) of frames.
    """

    kind: Kind
    vocabulary: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown condition kind {self.kind!r}; choose one of {', '.join(KINDS)}")

    @property
    def longest(self) -> int | None:
        """How many entries of a sequence a batch holds, None where the condition is no sequence or says nothing."""
        is_sequence = self.kind == "text" or len(self.shape) > 1
        return self.shape[0] if is_sequence and self.shape else None

    def encode(self, value: str | float) -> int | float | np.ndarray:
        """Turn a value as people write it into the value that a batch carries."""
        if self.kind == "label":
            try:
                return self.vocabulary.index(str(value))
            except ValueError:
                near = difflib.get_close_matches(str(value), self.vocabulary, n=3, cutoff=0.0)
                known = f"it is none of the {len(self.vocabulary)} known ones, nearest {', '.join(near)}"
                raise ValueError(f"unknown label {value!r}; {known}") from None
        if self.kind == "number":
            return float(value)
        if self.kind == "text":
            return np.frombuffer(str(value).encode(), dtype=np.uint8).astype(np.int32)
        return np.load(str(value), allow_pickle=False).astype(np.float32)


class Source(Protocol):
    """Give clips by index. ``source[i]`` is deterministic and raises :class:`AudioError` for a clip that is no good."""

    @property
    def rate_hz(self) -> int: ...

    @property
    def channels(self) -> int: ...

    @property
    def conditions(self) -> Mapping[str, ConditionInfo]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Item: ...

    def describe(self, index: int) -> str:
        """Name clip ``index`` for a message."""
        ...


class ArraySource:
    """Serve clips that are already in memory.

    ``clips`` are arrays [time] or [time, channel] of any lengths, ``values`` a sequence per condition
    as a batch carries them (label ids, floats, arrays), described by ``conditions``.
    """

    def __init__(
        self,
        clips: Sequence[np.ndarray],
        rate_hz: int,
        conditions: Mapping[str, ConditionInfo] | None = None,
        values: Mapping[str, Sequence[Any]] | None = None,
    ):
        self._clips = [np.asarray(clip, np.float32).reshape(len(clip), -1) for clip in clips]
        self._values = dict(values or {})
        self.rate_hz = rate_hz
        self.channels = self._clips[0].shape[1] if self._clips else 1
        self.conditions = dict(conditions or {})
        if self._values.keys() != self.conditions.keys():
            raise ValueError(f"values are given for {sorted(self._values)} but described for {sorted(self.conditions)}")

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Item:
        return {"audio": self._clips[index], **{name: values[index] for name, values in self._values.items()}}

    def describe(self, index: int) -> str:
        return f"array {index}"


class Subset:
    """Serve chosen clips of a source, in the order given: a held-out part, or one batch to overfit."""

    def __init__(self, source: Source, indices: Sequence[int]):
        beyond = [index for index in indices if not 0 <= index < len(source)]
        if beyond:
            raise ValueError(f"clip {beyond[0]} is asked of {len(source)} clips; choose 0 to {len(source) - 1}")
        self._source, self._indices = source, tuple(int(index) for index in indices)
        self.rate_hz, self.channels, self.conditions = source.rate_hz, source.channels, source.conditions

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Item:
        return self._source[self._indices[index]]

    def describe(self, index: int) -> str:
        return self._source.describe(self._indices[index])


class InMemory:
    """Serve a source from memory after the first reading of each clip; a clip that is no good is remembered as such."""

    def __init__(self, source: Source):
        self._source = source
        self._items: dict[int, Item | AudioError] = {}
        self.rate_hz, self.channels, self.conditions = source.rate_hz, source.channels, source.conditions

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Item:
        # Two threads may both read a clip that is new; both get equal arrays, and setting one entry is atomic.
        item = self._items.get(index)
        if item is None:
            try:
                item = self._source[index]
            except AudioError as error:
                item = error
            self._items[index] = item
        if isinstance(item, AudioError):
            raise AudioError(str(item))
        return item

    def describe(self, index: int) -> str:
        return self._source.describe(index)
