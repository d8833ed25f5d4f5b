"""Feed training: batch k is a pure function of (seed, k), on any number of hosts.

The stream of examples is shuffled anew every epoch and never stored. Example number ``draw`` of the stream is clip
``permutation(epoch)[draw mod n]`` of epoch ``draw div n``; batch k holds draws kB to (k+1)B - 1, and host p of P the
p-th part of it, so that the global batch is the same array in the same order whatever P. Resuming is ``iterate(k)``.
Where clips go by buckets of length, the order of an epoch is that of :func:`by_bucket`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from absl import flags

from audiodiff.data.normalisation import Example, Preparation
from audiodiff.data.randomness import generator
from audiodiff.data.sources import AudioError, ConditionInfo, Item, Source

Batch = dict[str, np.ndarray]
logger = logging.getLogger(__name__)

RESERVED = ("audio", "weight", "draw", "length", "gain_db", "index")
"""What every batch carries; no condition may take one of these names."""

START_SECONDS = "start_seconds"
TIMING: Mapping[str, Callable[[Example, int], float]] = {
    START_SECONDS: lambda example, rate_hz: example.start / rate_hz,
    "total_seconds": lambda example, rate_hz: example.total / rate_hz,
}
"""Conditions of what was cut out of a clip, ``(example, rate_hz) -> number``: where in the clip an example begins and
how long the clip is in all (Evans et al. 2024, Stable Audio). A source may name them and give no value."""


@dataclass(frozen=True)
class Fault:
    """Name a clip that was skipped, and why."""

    index: int
    clip: str
    reason: str

    def __str__(self) -> str:
        return self.reason if self.reason.startswith(self.clip) else f"{self.clip}: {self.reason}"


@functools.lru_cache(maxsize=4)
def permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of the clips in one epoch of the stream."""
    return generator(seed, "shuffle", epoch).permutation(size)


@functools.lru_cache(maxsize=4)
def by_bucket(buckets: tuple[int, ...], batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Return the batches of one epoch, [batch, batch_size] clips, such that lengths in a batch are much the same.

    ``buckets`` has the bucket of every clip. Clips are shuffled, then cut into batches bucket by bucket; what is left
    of a bucket goes up into the next, and what is left of the last, less than a batch, sits this epoch out. Then the
    batches are shuffled.
    """
    order = permutation(len(buckets), seed, epoch)
    bucket_of, left, batches = np.asarray(buckets)[order], order[:0], []
    for bucket in range(max(buckets) + 1):
        clips = np.concatenate([left, order[bucket_of == bucket]])
        whole = len(clips) // batch_size * batch_size
        batches.append(clips[:whole].reshape(-1, batch_size))
        left = clips[whole:]
    joined = np.concatenate(batches)
    return joined[generator(seed, "buckets", epoch).permutation(len(joined))]


@dataclass(frozen=True)
class _Loader:
    """Make batches of a source. Holds no state, so that threads and processes may share it."""

    source: Source
    preparation: Preparation
    batch_size: int
    seed: int
    shuffle: bool
    process_index: int
    process_count: int
    condition_lengths: Mapping[str, int]

    def __call__(self, k: int) -> tuple[Batch, list[Fault]]:
        """Load this host's part of batch k, with the clips that were skipped."""
        local = self.batch_size // self.process_count
        first = self.process_index * local
        draws = range(k * self.batch_size + first, k * self.batch_size + first + local)
        if not self.preparation.bucket_samples:
            return self.load([self._clip(draw) for draw in draws], draws, "prepare")
        count = len(self.source)
        if count < self.batch_size:
            raise ValueError(f"{count} clips make no batch of {self.batch_size} by bucket; give a smaller batch_size")
        epoch, position = divmod(k, count // self.batch_size)
        clips = by_bucket(self._buckets, self.batch_size, self.seed, epoch if self.shuffle else 0)[position].tolist()
        # Of the global batch: every host pads to the same length.
        bucket = max(self._buckets[clip] for clip in clips)
        if generator(self.seed, "whole", k).random() < self.preparation.whole_share:
            bucket = -1
        return self.load(clips[first : first + local], draws, "prepare", bucket)

    def _clip(self, draw: int) -> int:
        epoch, position = divmod(draw, len(self.source))
        return int(permutation(len(self.source), self.seed, epoch)[position]) if self.shuffle else position

    @functools.cached_property
    def _buckets(self) -> tuple[int, ...]:
        """The bucket of every clip. Reads them all once, which costs nothing more where they stay in memory."""

        def bucket(index: int) -> int:
            try:
                return self.preparation.bucket(len(self.source[index]["audio"]))
            except AudioError:
                return 0  # it is zeros in any bucket

        return tuple(bucket(index) for index in range(len(self.source)))

    def load(
        self, indices: Sequence[int], draws: Sequence[int], name: str, bucket: int = -1
    ) -> tuple[Batch, list[Fault]]:
        """Load clips by index, padded to one bucket; the crop of each comes from the stream ``name`` at its draw."""
        rows: list[tuple[Item, Example] | None] = []
        faults = []
        for index, draw in zip(indices, draws, strict=True):
            try:
                rows.append(self._example(index, generator(self.seed, name, draw), bucket))
            except AudioError as error:
                rows.append(None)
                faults.append(Fault(index, self.source.describe(index), str(error)))
        # A bad clip keeps its place, so that shapes and order stay: zeros with weight 0, and the conditions of the
        # source's first good clip, the same on every host.
        items, examples = zip(*(row or self._stand_in for row in rows), strict=True)
        weight = np.array([row is not None for row in rows], np.float32)
        length = self.preparation.lengths[bucket]
        audio = np.stack([example.audio[:length] for example in examples]) * weight[:, None, None]
        batch = {
            "audio": audio[..., 0] if self.source.channels == 1 else audio,
            "weight": weight,
            "draw": np.array(draws, np.int32),
            "index": np.array(indices, np.int32),
            "length": np.array([example.length for example in examples], np.int32) * weight.astype(np.int32),
            "gain_db": np.array([example.gain_db for example in examples], np.float32) * weight,
        }
        for condition, info in self.source.conditions.items():
            values = [
                item[condition] if condition in item else TIMING[condition](example, self.source.rate_hz)
                for item, example in zip(items, examples, strict=True)
            ]
            batch |= stack_condition(condition, info, values, self.condition_lengths.get(condition))
        return batch, faults

    def _example(self, index: int, rng: np.random.Generator, bucket: int = -1) -> tuple[Item, Example]:
        item = self.source[index]
        return item, self.preparation(item["audio"], rng, bucket)

    @functools.cached_property
    def _stand_in(self) -> tuple[Item, Example]:
        first = ""
        for index in range(len(self.source)):
            try:
                return self._example(index, generator(self.seed, "stand in", index))
            except AudioError as error:
                first = first or str(Fault(index, self.source.describe(index), str(error)))
        raise AudioError(
            f"none of the {len(self.source)} clips can be used; the first says: {first}; check the data set"
        )


def stack_condition(name: str, info: ConditionInfo, values: Sequence[Any], length: int | None) -> Batch:
    """Stack one condition over the batch: labels int32 [batch], numbers float32 [batch], text and arrays [batch, ...].

    With ``length``, sequences are cut or padded to it along their first axis, text with -1 and arrays with zeros, and
    ``{name}_length`` tells how much of each is its own. Without it they must all be of one shape.
    """
    if info.kind == "label":
        return {name: np.array(values, np.int32)}
    if info.kind == "number":
        return {name: np.array(values, np.float32)}
    if length is None:
        shapes = {np.shape(value) for value in values}
        if len(shapes) > 1:
            raise ValueError(
                f"condition {name!r} has arrays of shapes {sorted(shapes)} in one batch; "
                f"give condition_lengths={{{name!r}: N}} to cut or pad each to N"
            )
        return {name: np.stack(values)}
    cut, filler = [np.asarray(value)[:length] for value in values], -1 if info.kind == "text" else 0
    padded = [
        np.pad(value, [(0, length - len(value))] + [(0, 0)] * (value.ndim - 1), constant_values=filler) for value in cut
    ]
    return {name: np.stack(padded), f"{name}_length": np.array([len(value) for value in cut], np.int32)}


class Batches:
    """Give batches of a source by number: ``batches[k]``, or ``iterate(start)`` with loading ahead.

    A batch holds, for this host, ``audio`` float32 [batch, time] (or [batch, time, channel]), ``weight`` float32
    [batch] (0 for a clip that was skipped), ``draw`` int32 [batch] (its number in the shuffled stream), ``index`` int32
    [batch] (its number in the source), ``length`` int32 [batch] (samples that are the clip's), ``gain_db`` float32
    [batch] (see :func:`~audiodiff.data.normalisation.restore_level`), and each condition by its name.

    ``batch_size`` is that of the global batch, of which each of ``process_count`` hosts gets an equal part.
    A clip that cannot be used is skipped and named in ``faults``; ``strict`` raises instead, and so do more than
    ``max_bad_share`` of all clips. ``condition_lengths`` says to how many entries sequences are cut or padded, by
    condition (default: what the source says of it). ``num_threads`` read ahead up to ``prefetch`` batches;
    ``num_workers`` processes do so where decoding is the bottleneck (each imports the main module anew: guard it by
    ``__main__``).
    """

    def __init__(
        self,
        source: Source,
        preparation: Preparation,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        process_index: int = 0,
        process_count: int = 1,
        strict: bool = False,
        max_bad_share: float = 0.05,
        condition_lengths: Mapping[str, int] | None = None,
        num_threads: int = 1,
        prefetch: int = 4,
        num_workers: int = 0,
    ):
        if len(source) == 0:
            raise ValueError("the source holds no clips; check its folder, manifest and split")
        if batch_size < 1 or batch_size % process_count:
            raise ValueError(f"batch_size {batch_size} cannot be divided among {process_count} hosts; give a multiple")
        if not 0 <= process_index < process_count:
            raise ValueError(f"process_index {process_index} is not one of 0 to {process_count - 1}")
        if taken := [name for name in source.conditions if name in RESERVED]:
            raise ValueError(f"a condition may not be named {taken[0]!r}, which every batch has; rename it")
        lengths = {name: info.longest for name, info in source.conditions.items() if info.longest}
        lengths |= dict(condition_lengths or {})
        if unknown := [name for name in lengths if name not in source.conditions]:
            raise ValueError(f"condition_lengths names {unknown[0]!r}, which is none of {list(source.conditions)}")
        self._loader = _Loader(
            source, preparation, batch_size, seed, shuffle, process_index, process_count, lengths
        )  # fmt: skip
        self._strict, self._max_bad_share = strict, max_bad_share
        self._num_threads, self._prefetch, self._num_workers = num_threads, prefetch, num_workers
        self._faults: dict[int, Fault] = {}

    @property
    def source(self) -> Source:
        return self._loader.source

    @property
    def conditions(self) -> Mapping[str, ConditionInfo]:
        return self.source.conditions

    @property
    def global_batch_size(self) -> int:
        return self._loader.batch_size

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The clips skipped so far, each once, in the order of the source."""
        return tuple(self._faults[index] for index in sorted(self._faults))

    def __getitem__(self, k: int) -> Batch:
        """Return this host's part of batch k."""
        if not 0 <= k < self._horizon:
            raise IndexError(f"batch {k} is not among 0 to {self._horizon - 1}, beyond which draws overflow int32")
        return self._checked(*self._loader(k))

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """Yield batches ``start``, ``start + 1``, ... for ever, loading ahead of use."""
        import grain  # takes seconds, with jax in it: only who trains should wait for them

        reading = grain.ReadOptions(num_threads=self._num_threads, prefetch_buffer_size=self._prefetch)
        dataset = grain.MapDataset.range(start, self._horizon).map(self._loader).to_iter_dataset(reading)
        if self._num_workers:
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()  # grain reads absl flags before it starts its processes
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(self._num_workers, self._prefetch))
        for loaded in dataset:
            yield self._checked(*loaded)

    def examples(self, indices: Sequence[int]) -> Batch:
        """Return chosen clips in the order given, the same at every call: a fixed subset to evaluate on.

        Each clip has its own fixed crop, whatever else is chosen, and its index as ``draw``.
        """
        return self._checked(*self._loader.load(indices, indices, "examples"))

    @property
    def _horizon(self) -> int:
        return 2**31 // self.global_batch_size

    def _checked(self, batch: Batch, faults: list[Fault]) -> Batch:
        if faults and self._strict:
            raise AudioError(f"{faults[0]} (strict is set: unset it to skip such clips)")
        for fault in faults:
            if fault.index not in self._faults:
                logger.warning("skipping a clip, here and wherever it comes: %s", fault)
            self._faults[fault.index] = fault
        share = len(self._faults) / len(self.source)
        if share > self._max_bad_share:
            raise AudioError(
                f"{len(self._faults)} of {len(self.source)} clips cannot be used, more than max_bad_share = "
                f"{self._max_bad_share:g} allows; mend the set or raise the share. Among them {self.faults[-1]}"
            )
        return batch
