"""Go from mel to waveform: what a vocoder hears of a mel, the priors it suggests, and the vocoder itself."""

from audiodiff.vocoders.diffusion_vocoder import DiffusionVocoder, check_mel, check_same_mel
from audiodiff.vocoders.mel_frames import MelFrames
from audiodiff.vocoders.priors import FrameEnergy, SpectralEnvelope

__all__ = ["DiffusionVocoder", "FrameEnergy", "MelFrames", "SpectralEnvelope", "check_mel", "check_same_mel"]
