"""Build data: sources by name, their splits and conditions, and how a clip becomes an example."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from audiodiff import data
from audiodiff.build.choices import ConfigError, Table, call, choose
from audiodiff.build.conditions import shaped
from audiodiff.data import layouts
from audiodiff.data.sources import Item

DATA_VARIABLE = "AUDIODIFF_DATA"
"""The environment variable that names the folder where data sets lie, each in a folder of its own."""

PREPARATION = (
    *("length_samples", "bucket_samples", "whole_share", "target_dbfs", "crop", "max_shift_samples", "flip_polarity"),
    "margin_samples",
)
COMMON = (
    *("name", "root", "rate_hz", "channels", "conditions", "condition_lengths", "in_memory", "strict", "max_bad_share"),
    *("train_split", "held_out_split", "test_split", "leave_out"),
    *PREPARATION,
)
"""The keys that every data set has; what else a config gives are options of its own."""

LEFT_OUT = "left_out"
"""The split of what data.leave_out takes out of all others."""


@dataclass(frozen=True)
class DataSets:
    """Hold the splits of a data set by name, how a clip becomes an example, and the hash of its manifest.

    ``stamp`` looks at the files and returns what changes when they do.
    """

    splits: Mapping[str, data.Source]
    preparation: data.Preparation
    manifest_hash: str
    stamp: Callable[[], str]

    def split(self, name: str) -> data.Source:
        """Return one split; raise ConfigError that lists the others."""
        return choose("split", name, self.splits)


def _with_held_out(scan: Callable[..., data.Manifest]) -> Callable[..., data.Manifest]:
    """Let a scan of files without splits hold a share of them out, as "validation", the same for anybody."""

    def scanned(root: pathlib.Path, held_out_share: float = 0.0) -> data.Manifest:
        manifest = scan(root)
        if not held_out_share:
            return manifest
        if any(manifest.splits):
            raise ValueError(f"the set has splits of its own, {', '.join(manifest.splits)}: drop held_out_share")
        split = layouts.split_by_hash({clip.path for clip in manifest.clips}, {"validation": held_out_share})
        if set(split.values()) != {"train", "validation"}:
            raise ValueError(f"held_out_share {held_out_share} leaves one part of {len(split)} files empty: change it")
        clips = tuple(dataclasses.replace(clip, split=split[clip.path]) for clip in manifest.clips)
        return dataclasses.replace(manifest, clips=clips)

    return scanned


LAYOUTS: Table[data.Manifest] = {
    "folder": (_with_held_out(layouts.scan_folder), ("held_out_share",)),
    "manifest": (_with_held_out(data.read_manifest), ("held_out_share",)),
    "fsdd": (layouts.scan_fsdd, ("validation_indices",)),
    "sc09": (layouts.scan_sc09, ()),
    "speech_commands": (layouts.scan_speech_commands, ("words",)),
    "ljspeech": (layouts.scan_ljspeech, ()),
    "vctk": (layouts.scan_vctk, ("microphone",)),
}
"""Data sets of files, ``(root, **options) -> manifest``."""

FOLDERS = {
    "fsdd": "fsdd",
    "sc09": "speech_commands",
    "speech_commands": "speech_commands",
    "ljspeech": "LJSpeech-1.1",
    "vctk": "VCTK-Corpus-0.92",
}
"""Where a set lies below the folder that AUDIODIFF_DATA names, when a config gives no root."""

GENERATED: Table[data.Source] = {"embedded": (data.EmbeddedSounds, ("sounds",))}
"""Data sets without files, ``(size, seed, rate_hz, length_samples, **options) -> source``: clips by seed and index."""

HELD_OUT_SIZES = {"validation": 192, "test": 192}
"""How many clips a generated set holds out."""

DERIVED: dict[str, tuple[data.ConditionInfo, Callable[[np.ndarray, int], Any]]] = {
    "level_dbfs": (data.ConditionInfo("number"), lambda audio, rate_hz: data.level_dbfs(audio)),
}
"""Conditions that any clip has: what they are, and ``(audio [time, channel], rate_hz) -> value`` of the clip itself."""


def any_clip() -> dict[str, data.ConditionInfo]:
    """Return the conditions that any clip has: those of DERIVED, and those of the crop, which its preparation knows."""
    own = {name: info for name, (info, _) in DERIVED.items()}
    return own | dict.fromkeys(data.TIMING, data.ConditionInfo("number"))


def make_data(config: Mapping[str, Any]) -> DataSets:
    """Build a data set and its preparation.

    A generated set makes ``size`` clips to train on, and others of the same kind as validation and test, each of
    ``clip_samples``, by default as long as an example. The rest read ``root``, or the customary folder below the one
    that AUDIODIFF_DATA names; the split "all" is the whole set.

    ``leave_out`` names labels as "speaker=theo": clips that carry any of them are in the split "left_out" and in no
    other, "all" included. The vocabularies keep all labels, so that class indices stay, and the hash tells what was
    left out. Raises ConfigError for what the set does not have.
    """
    # A run of before a key was there has none of it: what it says nothing of is the default.
    prepared = {key: config[key] for key in PREPARATION if key in config}
    preparation = call("data", data.Preparation, prepared, PREPARATION)
    choose("data", config["name"], {**LAYOUTS, **GENERATED})
    own = {key: value for key, value in config.items() if key == "name" or key not in COMMON}
    splits, digest, stamp = (_generate if config["name"] in GENERATED else _scan)(config, own)
    splits = {split: _with_conditions(source, config["conditions"]) for split, source in splits.items()}
    if config["in_memory"]:
        splits = {split: data.InMemory(source) for split, source in splits.items()}
    return DataSets(splits, preparation, digest, stamp)


def _generate(
    config: Mapping[str, Any], own: Mapping[str, Any]
) -> tuple[dict[str, data.Source], str, Callable[[], str]]:
    """Return the splits of a generated set, and the hash of what they are, which is all that can change."""
    name, size = config["name"], own.get("size")
    if config.get("leave_out"):
        raise ConfigError(f"data {name!r} is made and not recorded, so nothing can be left out: drop data.leave_out")
    if not isinstance(size, int) or size < 1:
        raise ConfigError(f"data {name!r} has data.size {size}: give the number of clips to train on, at least 1")
    function, allowed = GENERATED[name]
    made = {"rate_hz": config["rate_hz"], "length_samples": own.get("clip_samples", config["length_samples"])}
    choices = {key: value for key, value in own.items() if key not in ("size", "clip_samples")}
    splits = {
        split: call("data", function, choices, allowed, size=count, seed=seed, **made)
        for seed, (split, count) in enumerate({"train": size, **HELD_OUT_SIZES}.items())
    }
    if splits["train"].channels != config["channels"]:
        raise ConfigError(
            f"data {name!r} has {splits['train'].channels} channel(s), data.channels {config['channels']}"
        )
    return splits, f"{name}-{size}", lambda: ""


def _scan(config: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[dict[str, data.Source], str, Callable[[], str]]:
    """Return the splits of a set of files, with the hash of its manifest and what looks at the files."""
    function, allowed = LAYOUTS[config["name"]]
    manifest = call("data", function, own, allowed, root=_root(config))
    for name in config["conditions"]:
        choose("condition", name, {**manifest.conditions, **any_clip()})
    kept = {
        name: shaped(name, info, manifest, config)
        for name, info in manifest.conditions.items()
        if name in config["conditions"]
    }
    rate_hz, channels = config["rate_hz"], config["channels"]
    manifest = _leave_out(manifest, config.get("leave_out", ()))
    rest = dataclasses.replace(manifest, clips=tuple(clip for clip in manifest.clips if clip.split != LEFT_OUT))
    if not rest.clips:
        raise ConfigError(f"data.leave_out leaves nothing of {len(manifest.clips)} clips: leave less out")
    splits = {
        split or "all": data.ManifestSource(rest if split != LEFT_OUT else manifest, rate_hz, channels, split, kept)
        for split in ("", *filter(None, manifest.splits))
    }
    return dict(splits), manifest.hash, manifest.stamp


def _leave_out(manifest: data.Manifest, named: Iterable[str]) -> data.Manifest:
    """Move the clips that carry any of the labels, each as "condition=label", into the split LEFT_OUT."""
    labels = {name: info.vocabulary for name, info in manifest.conditions.items() if info.kind == "label"}
    pairs = set()
    for one in named:
        name, equals, label = one.partition("=")
        if not equals:
            raise ConfigError(f"data.leave_out has {one!r}: write it as condition=label, such as speaker=theo")
        choose(f"{name} in data.leave_out", label, dict.fromkeys(choose("condition in data.leave_out", name, labels)))
        pairs.add((name, label))
    clips = tuple(
        dataclasses.replace(clip, split=LEFT_OUT) if pairs & clip.conditions.items() else clip
        for clip in manifest.clips
    )
    return dataclasses.replace(manifest, clips=clips)


def _root(config: Mapping[str, Any]) -> pathlib.Path:
    """Return data.root, or the customary folder below AUDIODIFF_DATA."""
    root, folder = config["root"], FOLDERS.get(config["name"])
    if not root:
        base = os.environ.get(DATA_VARIABLE)
        if not folder or not base:
            or_set = f", or set {DATA_VARIABLE} to the folder that holds {folder}/" if folder else ""
            raise ConfigError(f"data {config['name']!r} has no root: give --config.data.root=DIR{or_set}")
        root = os.path.join(base, folder)
    return pathlib.Path(root).expanduser()


def _with_conditions(source: data.Source, names: tuple[str, ...]) -> data.Source:
    for name in names:
        choose("condition", name, {**source.conditions, **any_clip()})
    derived = tuple(name for name in names if name not in source.conditions)
    return _Derived(source, derived) if derived else source


class _Derived:
    """Serve a source whose clips carry derived conditions too."""

    def __init__(self, source: data.Source, names: tuple[str, ...]):
        self._source, self._names = source, [name for name in names if name in DERIVED]
        self.rate_hz, self.channels = source.rate_hz, source.channels
        self.conditions = {**source.conditions, **{name: any_clip()[name] for name in names}}

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Item:
        item = self._source[index]
        return {**item, **{name: DERIVED[name][1](item["audio"], self.rate_hz) for name in self._names}}

    def describe(self, index: int) -> str:
        return self._source.describe(index)
