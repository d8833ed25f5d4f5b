"""Scan a data set, report what is in it, and write its manifest and statistics.

    python experiments/prepare.py --root=DIR --out=DIR [--layout=auto] [--rate_hz=N] [--strict]

``OUT/manifest.jsonl`` lists the clips that can be used, their paths from ``--root``; ``OUT/statistics.json`` holds what
was measured, with the list of those that cannot: silent, damaged.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from absl import app, flags

from audiodiff.data import AudioError, DataStatistics, Manifest, ManifestSource, Preparation, measure, write_manifest
from audiodiff.data.layouts import LAYOUTS, detect_layout
from audiodiff.data.statistics import file_formats

ROOT = flags.DEFINE_string("root", None, "Folder of the data set.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder to write manifest.jsonl and statistics.json into.", required=True)
LAYOUT = flags.DEFINE_enum("layout", "auto", ["auto", *LAYOUTS], "How the folder is laid out.")
RATE_HZ = flags.DEFINE_integer("rate_hz", None, "Rate of the model; default: the set's most frequent.", lower_bound=1)
CHANNELS = flags.DEFINE_integer("channels", 1, "Channels of the model.", lower_bound=1)
LENGTH = flags.DEFINE_integer("length_samples", None, "Example length for sigma_data; default: 1 s.", lower_bound=1)
TARGET_DBFS = flags.DEFINE_float("target_dbfs", -20.0, "RMS level that each clip is brought to for sigma_data.")
STRICT = flags.DEFINE_bool("strict", False, "Stop at the first clip that cannot be used, instead of listing it.")
LISTED = 20


def prepare(
    root: str,
    out: str,
    layout: str = "auto",
    rate_hz: int | None = None,
    channels: int = 1,
    length_samples: int | None = None,
    target_dbfs: float = -20.0,
    strict: bool = False,
) -> tuple[Manifest, DataStatistics]:
    """Scan, measure and write; return what was written. Raises ValueError and OSError."""
    layout = detect_layout(root) if layout == "auto" else layout
    manifest = LAYOUTS[layout](root)
    print(f"{root}: layout {layout}, {len(manifest.clips)} clips; reading them all", flush=True)
    formats = file_formats(manifest)
    # Where no header can be read, the reading below says why; any rate serves to come there.
    rate_hz = rate_hz or max(formats, key=lambda each: formats[each], default=(8000, 1))[0]
    source = ManifestSource(manifest, rate_hz, channels)
    statistics = measure(
        source,
        Preparation(length_samples or rate_hz, target_dbfs),
        strict=strict,
        file_formats={f"{rate} Hz, {count} channel(s)": files for (rate, count), files in sorted(formats.items())},
    )
    unusable = {fault.index for fault in (*statistics.silent, *statistics.damaged)}
    usable = tuple(clip for index, clip in enumerate(manifest.clips) if index not in unusable)
    manifest = dataclasses.replace(manifest, clips=usable)
    statistics = dataclasses.replace(statistics, manifest_hash=manifest.hash)
    Path(out).mkdir(parents=True, exist_ok=True)
    write_manifest(Path(out) / "manifest.jsonl", manifest)
    statistics.save(Path(out) / "statistics.json")
    return manifest, statistics


def report(manifest: Manifest, statistics: DataStatistics) -> str:
    """Say in lines of text what was found."""
    splits = {split or "no split": len(manifest.select(split)) for split in manifest.splits}
    rows = {
        "clips": f"{statistics.clips} ({', '.join(f'{count} {split}' for split, count in splits.items())})",
        "hours": f"{statistics.hours:.4f}",
        "files": ", ".join(f"{count} at {name}" for name, count in statistics.file_formats.items()),
        "read at": f"{statistics.rate_hz} Hz, {statistics.channels} channel(s)",
        "duration [s]": _quantiles(statistics.duration_seconds, ".3f"),
        "level [dBFS]": _quantiles(statistics.level_dbfs, ".1f"),
        "peak [dBFS]": _quantiles(statistics.peak_dbfs, ".1f"),
        "conditions": ", ".join(
            f"{name} ({f'{len(info.vocabulary)} labels' if info.kind == 'label' else info.kind})"
            for name, info in manifest.conditions.items()
        )
        or "none",
        "sigma_data": f"{statistics.sigma_data:.5f} over {statistics.preparation['length_samples']} samples, "
        f"at {statistics.preparation['target_dbfs']:g} dBFS",
        "clipped": _listed(statistics.clipped),
        "silent": _listed([str(fault) for fault in statistics.silent]),
        "damaged": _listed([str(fault) for fault in statistics.damaged]),
    }
    return "\n".join(f"{name:>13}  {value}" for name, value in rows.items())


def _quantiles(values: dict[str, float], form: str) -> str:
    return ", ".join(f"{percent} %: {value:{form}}" for percent, value in values.items())


def _listed(names) -> str:
    lines = [str(len(names)), *names[:LISTED]]
    if len(names) > LISTED:
        lines.append(f"and {len(names) - LISTED} more, in statistics.json")
    return f"\n{'':15}".join(lines)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        sys.exit(f"prepare: unknown argument {argv[1]!r}; give --root=DIR --out=DIR")
    try:
        manifest, statistics = prepare(
            ROOT.value,
            OUT.value,
            LAYOUT.value,
            RATE_HZ.value,
            CHANNELS.value,
            LENGTH.value,
            TARGET_DBFS.value,
            STRICT.value,
        )
    except (AudioError, ValueError, OSError) as error:
        sys.exit(f"prepare: {error}")
    print(report(manifest, statistics))
    print(f"wrote {Path(OUT.value) / 'manifest.jsonl'} and {Path(OUT.value) / 'statistics.json'}")


if __name__ == "__main__":
    app.run(main)
