"""Host side of the data: read, check, crop, condition, batch, measure and write; deterministic and resumable."""

from audiodiff.data.audio_files import AudioInfo, audio_info, read_audio, write_audio
from audiodiff.data.embedded import EmbeddedSounds, Truth
from audiodiff.data.layouts import LAYOUTS, detect_layout
from audiodiff.data.manifest import Clip, Manifest, ManifestSource, read_manifest, write_manifest
from audiodiff.data.normalisation import Preparation, level_dbfs, normalise_level, restore_level
from audiodiff.data.pipeline import TIMING, Batches, Fault, stack_condition
from audiodiff.data.sources import ArraySource, AudioError, ConditionInfo, InMemory, Source, Subset
from audiodiff.data.statistics import DataStatistics, measure

__all__ = [
    "LAYOUTS",
    "TIMING",
    "ArraySource",
    "AudioError",
    "AudioInfo",
    "Batches",
    "Clip",
    "ConditionInfo",
    "DataStatistics",
    "EmbeddedSounds",
    "Fault",
    "InMemory",
    "Manifest",
    "ManifestSource",
    "Preparation",
    "Source",
    "Subset",
    "Truth",
    "audio_info",
    "detect_layout",
    "level_dbfs",
    "measure",
    "normalise_level",
    "read_audio",
    "read_manifest",
    "restore_level",
    "stack_condition",
    "write_audio",
    "write_manifest",
]
