"""Map audio to the array that diffuses, and back."""

from audiodiff.representations.waveform import Waveform

__all__ = ["Waveform"]
