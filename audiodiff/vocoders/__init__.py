"""Go from mel to waveform: what a vocoder hears of a mel, the priors it suggests, and the vocoder itself."""

from audiodiff.vocoders.diffusion_vocoder import DiffusionVocoder, check_mel, check_same_mel
from audiodiff.vocoders.mel_frames import MEL, MatchMel, MelFrames
from audiodiff.vocoders.priors import FrameEnergy, SpectralEnvelope

__all__ = [
    "MEL",
    "DiffusionVocoder",
    "FrameEnergy",
    "MatchMel",
    "MelFrames",
    "SpectralEnvelope",
    "check_mel",
    "check_same_mel",
]
