"""Build data: sources by name, their splits, and how a clip becomes an example."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from audiodiff import data
from audiodiff.build.choices import ConfigError, call, choose
from audiodiff.data.layouts import scan_folder, scan_fsdd, scan_ljspeech, scan_sc09, scan_speech_commands, scan_vctk
from audiodiff.data.manifest import Manifest, ManifestSource, read_manifest

DATA_VARIABLE = "AUDIODIFF_DATA"
"""The environment variable that names the folder where data sets lie, each in a folder of its own."""


@dataclass(frozen=True)
class DataSets:
    """Hold the splits of a data set by name, how a clip becomes an example, and the hash of its manifest."""

    splits: Mapping[str, data.Source]
    preparation: data.Preparation
    manifest_hash: str

    def split(self, name: str) -> data.Source:
        """Return one split; raise ConfigError that lists the others."""
        return choose("split", name, self.splits)


SCANNERS: dict[str, tuple[Callable[..., Manifest], tuple[str, ...], str]] = {
    "folder": (scan_folder, (), ""),
    "fsdd": (scan_fsdd, ("validation_indices",), "fsdd"),
    "sc09": (scan_sc09, (), "speech_commands"),
    "speech_commands": (scan_speech_commands, ("words",), "speech_commands"),
    "ljspeech": (scan_ljspeech, (), "LJSpeech-1.1"),
    "vctk": (scan_vctk, ("microphone",), "VCTK-Corpus-0.92"),
    "manifest": (read_manifest, (), ""),
}
"""Layout -> (scanner, its options, its customary folder below AUDIODIFF_DATA)."""

COMMON = (
    "name",
    "root",
    "rate_hz",
    "channels",
    "length_samples",
    "target_dbfs",
    "crop",
    "max_shift_samples",
    "flip_polarity",
    "conditions",
    "in_memory",
    "train_split",
    "held_out_split",
    "test_split",
    "strict",
)


def make_data(config: Mapping[str, Any]) -> DataSets:
    """Build a data set and its preparation.

    ``embedded`` is generated: ``size`` clips to train on, and others of the same kind as validation and test. The rest read
    ``root``, or the customary folder below the one that AUDIODIFF_DATA names.
    """
    preparation = call(
        "preparation",
        data.Preparation,
        {key: config[key] for key in ("length_samples", "target_dbfs", "crop", "max_shift_samples", "flip_polarity")},
        ("length_samples", "target_dbfs", "crop", "max_shift_samples", "flip_polarity"),
    )
    given = {key: value for key, value in config.items() if key not in COMMON}
    splits: dict[str, data.Source]
    if config["name"] == "embedded":
        size = given.pop("size")
        lengths = {"rate_hz": config["rate_hz"], "length_samples": config["length_samples"]}
        splits = {
            name: call("data", data.EmbeddedSounds, given, ("sounds",), size=count, seed=seed, **lengths)
            for seed, (name, count) in enumerate({"train": size, "validation": 192, "test": 192}.items())
        }
        digest = f"embedded-{size}"
    else:
        scanner, allowed, folder = choose("data", config["name"], {**SCANNERS, "embedded": SCANNERS["folder"]})
        manifest = call("data", scanner, {"name": config["name"], **given}, allowed, **_where(config, folder))
        rate, channels = config["rate_hz"], config["channels"]
        splits = {
            split or "all": ManifestSource(manifest, rate, channels, split, _wanted(manifest, config["conditions"]))
            for split in ("", *filter(None, manifest.splits))
        }
        digest = manifest.hash
    if config["in_memory"]:
        splits = {name: data.InMemory(source) for name, source in splits.items()}
    return DataSets(splits, preparation, digest)


def _wanted(manifest: Manifest, names: tuple[str, ...]) -> dict[str, data.ConditionInfo]:
    return {name: choose("condition", name, manifest.conditions) for name in names}


def _where(config: Mapping[str, Any], folder: str) -> dict[str, pathlib.Path]:
    """Return the scanner's place argument: data.root, or the customary folder below AUDIODIFF_DATA."""
    root = config["root"]
    if not root:
        base = os.environ.get(DATA_VARIABLE)
        if not folder or not base:
            raise ConfigError(
                f"data {config['name']!r} has no root: give --config.data.root=DIR"
                + (f", or set {DATA_VARIABLE} to the folder that holds {folder}/" if folder else "")
            )
        root = os.path.join(base, folder)
    return {"path" if config["name"] == "manifest" else "root": pathlib.Path(root).expanduser()}
