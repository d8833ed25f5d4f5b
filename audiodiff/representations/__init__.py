"""Map audio to the array that diffuses, and back."""

from audiodiff.representations.complex_stft import ComplexStft
from audiodiff.representations.latent import Latent
from audiodiff.representations.log_mel import GriffinLim, Inverter, LogMel
from audiodiff.representations.mdct import Mdct
from audiodiff.representations.waveform import Waveform

__all__ = ["ComplexStft", "GriffinLim", "Inverter", "Latent", "LogMel", "Mdct", "Waveform"]
