"""Signal processing in JAX, without parameters: on the last axis, jit-able, differentiable.

``[..., time] -> [..., frame, bin]``. Specs are frozen and hashable, windows and filterbanks are float64 constants of
the trace, arithmetic is at least float32, and float64 in gives float64 out::

    from audiodiff import dsp
    mel = dsp.log_mel(audio, dsp.MEL_PRESETS["hifigan"])
"""

from audiodiff.dsp.alignment import Alignment, dtw, euclidean_costs
from audiodiff.dsp.cepstra import dct, idct, lifter_weights, mfcc
from audiodiff.dsp.distances import (
    MULTI_RESOLUTION_PRESETS,
    MultiResolutionSpec,
    PhaseErrors,
    StftTerms,
    anti_wrap,
    band_log_spectral_distance,
    complex_stft_distance,
    log_spectral_distance,
    mel_distance,
    multi_resolution_stft_distance,
    multi_resolution_stft_terms,
    phase_errors,
    stft_phase_errors,
)
from audiodiff.dsp.filters import deemphasis, equalise, preemphasis
from audiodiff.dsp.fourier import alias_frequency_hz, half_spectrum_energy, sinc_interpolate, time_frequency_spread
from audiodiff.dsp.framing import fit_length, frame, overlap_add
from audiodiff.dsp.mel import (
    MEL_PRESETS,
    MelSpec,
    compress,
    differing_fields,
    filterbank_rank,
    hz_to_mel,
    log_mel,
    mel_filterbank,
    mel_spectrogram,
    mel_to_hz,
)
from audiodiff.dsp.pitch import yin
from audiodiff.dsp.resampling import resample
from audiodiff.dsp.stft import STFT_PRESETS, StftSpec, frame_count, istft, magnitude, power, stft, with_sizes
from audiodiff.dsp.windows import (
    WINDOWS,
    OverlapCheck,
    blackman,
    cola,
    gaussian,
    hamming,
    hann,
    nola,
    rectangular,
    window,
)

__all__ = [
    "MEL_PRESETS",
    "MULTI_RESOLUTION_PRESETS",
    "STFT_PRESETS",
    "WINDOWS",
    "Alignment",
    "MelSpec",
    "MultiResolutionSpec",
    "OverlapCheck",
    "PhaseErrors",
    "StftSpec",
    "StftTerms",
    "alias_frequency_hz",
    "anti_wrap",
    "band_log_spectral_distance",
    "blackman",
    "cola",
    "complex_stft_distance",
    "compress",
    "dct",
    "deemphasis",
    "differing_fields",
    "dtw",
    "equalise",
    "euclidean_costs",
    "filterbank_rank",
    "fit_length",
    "frame",
    "frame_count",
    "gaussian",
    "half_spectrum_energy",
    "hamming",
    "hann",
    "hz_to_mel",
    "idct",
    "istft",
    "lifter_weights",
    "log_mel",
    "log_spectral_distance",
    "magnitude",
    "mel_distance",
    "mel_filterbank",
    "mel_spectrogram",
    "mel_to_hz",
    "mfcc",
    "multi_resolution_stft_distance",
    "multi_resolution_stft_terms",
    "nola",
    "overlap_add",
    "phase_errors",
    "power",
    "preemphasis",
    "rectangular",
    "resample",
    "sinc_interpolate",
    "stft",
    "stft_phase_errors",
    "time_frequency_spread",
    "window",
    "with_sizes",
    "yin",
]
