"""Turn audio into log-mel spectrograms, with every detail of the convention held in one frozen value.

Two mel spectrograms of the same sizes can differ in scale, filter area, power, logarithm, floor, offset, range and
padding, and a vocoder trained on one turns the other into noise. So a :class:`MelSpec` carries all of it, is saved
with a model, and :func:`differing_fields` names what does not match.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from audiodiff.dsp.choices import check_choice
from audiodiff.dsp.precision import FULL, as_audio, floored, limited
from audiodiff.dsp.stft import StftSpec, magnitude, power, stft
from audiodiff.types import Array

MelScale = Literal["htk", "slaney"]
FilterNorm = Literal["none", "slaney"]
Log = Literal["none", "ln", "log10", "db"]
FloorRule = Literal["clip", "add"]

# Slaney's scale: 200/3 Hz per mel up to 1 kHz (15 mel), then 27 mel per factor of 6.4.
_SLANEY_HZ_PER_MEL = 200 / 3
_SLANEY_BREAK_HZ = 1000.0
_SLANEY_BREAK_MEL = _SLANEY_BREAK_HZ / _SLANEY_HZ_PER_MEL
_SLANEY_MEL_PER_E = 27 / math.log(6.4)


def hz_to_mel(frequency_hz: ArrayLike, scale: MelScale = "slaney") -> np.ndarray:
    """Convert Hz to mel, in float64 numpy.

    ``htk``: 2595 log10(1 + f / 700) (O'Shaughnessy, 1987; the HTK book). ``slaney``: f / (200 / 3) up to 1 kHz,
    15 + 27 ln(f / 1000) / ln 6.4 above (Slaney's Auditory Toolbox, 1998). Only the second is linear below 1 kHz:
    the slope of the first falls from 1.610 mel/Hz at 0 to 0.663 at 1 kHz.
    """
    check_choice("scale", scale, get_args(MelScale))
    f = np.asarray(frequency_hz, np.float64)
    if scale == "htk":
        return 2595 * np.log10(1 + f / 700)
    above = _SLANEY_BREAK_MEL + _SLANEY_MEL_PER_E * np.log(np.maximum(f, _SLANEY_BREAK_HZ) / _SLANEY_BREAK_HZ)
    return np.where(f < _SLANEY_BREAK_HZ, f / _SLANEY_HZ_PER_MEL, above)


def mel_to_hz(mel: ArrayLike, scale: MelScale = "slaney") -> np.ndarray:
    """Convert mel to Hz, the inverse of :func:`hz_to_mel`."""
    check_choice("scale", scale, get_args(MelScale))
    m = np.asarray(mel, np.float64)
    if scale == "htk":
        return 700 * (10 ** (m / 2595) - 1)
    above = _SLANEY_BREAK_HZ * np.exp((np.maximum(m, _SLANEY_BREAK_MEL) - _SLANEY_BREAK_MEL) / _SLANEY_MEL_PER_E)
    return np.where(m < _SLANEY_BREAK_MEL, m * _SLANEY_HZ_PER_MEL, above)


def mel_filterbank(
    rate_hz: int,
    fft_samples: int,
    bands: int,
    *,
    fmin_hz: float = 0.0,
    fmax_hz: float | None = None,
    scale: MelScale = "slaney",
    norm: FilterNorm = "slaney",
) -> np.ndarray:
    """Build triangular filters [band, bin], float64 and read-only, evaluated at the bins' centre frequencies.

    With f_0 .. f_{bands+1} equally spaced in mel from fmin_hz to fmax_hz (rate_hz / 2 where None), filter i rises
    from f_i to 1 at f_{i+1} and falls to f_{i+2}; ``norm="slaney"`` multiplies it by 2 / (f_{i+2} - f_i), which
    makes the areas equal. The defaults are librosa's; torchaudio's are ``htk`` and ``none``.

    Warns where a filter lies between two bins and is therefore empty: its log-mel is the floor, always.
    """
    fmax_hz = rate_hz / 2 if fmax_hz is None else fmax_hz
    _check_filterbank(rate_hz, bands, fmin_hz, fmax_hz, scale, norm)
    bank = _mel_filterbank(rate_hz, fft_samples, bands, float(fmin_hz), float(fmax_hz), scale, norm)
    empty = np.flatnonzero(bank.max(axis=1) == 0)
    if empty.size:
        warnings.warn(
            f"{empty.size} of {bands} mel filters hold no bin of an FFT of {fft_samples} samples at {rate_hz} Hz "
            f"(bands {', '.join(map(str, empty))}); take fewer bands, a longer FFT or a higher fmin_hz",
            stacklevel=2,
        )
    return bank


@functools.lru_cache(maxsize=32)
def _mel_filterbank(
    rate_hz: int, fft_samples: int, bands: int, fmin_hz: float, fmax_hz: float, scale: MelScale, norm: FilterNorm
) -> np.ndarray:
    bins_hz = np.arange(fft_samples // 2 + 1) * (rate_hz / fft_samples)
    edges_hz = mel_to_hz(np.linspace(hz_to_mel(fmin_hz, scale), hz_to_mel(fmax_hz, scale), bands + 2), scale)
    widths_hz = np.diff(edges_hz)[:, None]
    rising = (bins_hz - edges_hz[:-2, None]) / widths_hz[:-1]
    falling = (edges_hz[2:, None] - bins_hz) / widths_hz[1:]
    bank = np.maximum(0, np.minimum(rising, falling))
    if norm == "slaney":
        bank *= 2 / (edges_hz[2:] - edges_hz[:-2])[:, None]
    bank.setflags(write=False)
    return bank


def filterbank_rank(bank: np.ndarray) -> int:
    """Return the rank of a filterbank [band, bin]; below the number of bands, some bands are redundant.

    Low bands narrower than a bin see the same one or two bins as their neighbours: of 80 bands at 8 kHz with an
    FFT of 256 samples only 78 are independent, of 40 all are.
    """
    return int(np.linalg.matrix_rank(bank))


@dataclass(frozen=True, kw_only=True)
class MelSpec:
    """Hold one whole log-mel convention; frozen, hashable, plain values only, saved with a model as JSON.

    In the order of the computation:

    rate_hz         Sampling rate that the audio must have.
    stft            The :class:`StftSpec`, padding and frame count included.
    power           1: magnitudes sqrt(|X|^2 + power_epsilon) go into the filters. 2: |X|^2 + power_epsilon does.
    power_epsilon   0, or what HiFi-GAN adds below its square root.
    bands, fmin_hz, fmax_hz, scale, norm    The filters, see :func:`mel_filterbank`.
    floor, floor_rule    ``clip``: max(mel, floor). ``add``: mel + floor.
    log             ``ln``, ``log10``, ``db`` (20 / power times log10, so decibels either way) or ``none``.
    reference_db    Subtracted, in dB; only with ``log="db"``.
    top_db          None, or how far below its own clip's maximum a value may lie, in dB; only with ``log="db"``.
    unit_range      None, or (low, high): clipped to it and mapped to [0, 1].

    A log-mel holds bands / hop_samples numbers per sample of audio, 80 / 256 = 0.31 for HiFi-GAN: frame x band is
    3.2 times less than time, no more, and a second of 8 kHz speech (64 x 40 at a hop of 128) is less than a picture
    of 64 x 64. Raises ValueError for impossible values.
    """

    rate_hz: int
    stft: StftSpec
    bands: int
    fmax_hz: float
    fmin_hz: float = 0.0
    scale: MelScale = "slaney"
    norm: FilterNorm = "slaney"
    power: Literal[1, 2] = 1
    power_epsilon: float = 0.0
    floor: float = 1e-5
    floor_rule: FloorRule = "clip"
    log: Log = "ln"
    reference_db: float = 0.0
    top_db: float | None = None
    unit_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_filterbank(self.rate_hz, self.bands, self.fmin_hz, self.fmax_hz, self.scale, self.norm)
        check_choice("log", self.log, get_args(Log))
        check_choice("floor_rule", self.floor_rule, get_args(FloorRule))
        if self.power not in (1, 2):
            raise ValueError(f"power is {self.power}; it must be 1 (magnitude) or 2 (power)")
        if self.power_epsilon < 0:
            raise ValueError(f"power_epsilon is {self.power_epsilon}; it must be at least 0")
        if self.floor < 0 or (self.floor == 0 and self.log != "none"):
            raise ValueError(f"floor is {self.floor}, and silence has no logarithm; take a floor above 0, such as 1e-5")
        if self.log != "db" and (self.reference_db != 0 or self.top_db is not None):
            raise ValueError(f"reference_db and top_db are in dB, and log is {self.log!r}; set log='db' or drop them")
        if self.top_db is not None and self.top_db <= 0:
            raise ValueError(f"top_db is {self.top_db}; it must be above 0, such as 80, or None")
        if self.unit_range is not None and not self.unit_range[0] < self.unit_range[1]:
            raise ValueError(f"unit_range is {self.unit_range}; its first value must be below its second")

    def filterbank(self) -> np.ndarray:
        """Return the filters [band, bin] of this convention."""
        return mel_filterbank(
            self.rate_hz,
            self.stft.fft_samples,
            self.bands,
            fmin_hz=self.fmin_hz,
            fmax_hz=self.fmax_hz,
            scale=self.scale,
            norm=self.norm,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested values that survive JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MelSpec:
        """Rebuild a spec from :meth:`to_dict`, possibly by way of JSON. Unknown or missing names raise ValueError."""
        _check_fields(cls, values)
        _check_fields(StftSpec, values["stft"])
        unit_range = values.get("unit_range")
        return cls(
            **{
                **values,
                "stft": StftSpec(**values["stft"]),
                "unit_range": None if unit_range is None else (unit_range[0], unit_range[1]),
            }
        )


def differing_fields(ours: MelSpec, theirs: MelSpec) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which two conventions differ, name -> (ours, theirs); empty where they are equal.

    Fields of the STFT are named ``stft.hop_samples`` and so on, ready for an error that names both values.
    """
    left, right = _flat(ours.to_dict()), _flat(theirs.to_dict())
    return {name: (left[name], right[name]) for name in left if left[name] != right[name]}


def mel_spectrogram(audio: ArrayLike, spec: MelSpec) -> Array:
    """Return mel magnitudes or powers [..., frame, band] of audio [..., time], before any logarithm.

    A frame with a sample that is not finite is NaN. Raises ValueError for a clip without samples.
    """
    spectrum = stft(as_audio(audio), spec.stft)
    energy = magnitude(spectrum, spec.power_epsilon) if spec.power == 1 else power(spectrum) + spec.power_epsilon
    return jnp.matmul(energy, spec.filterbank().T.astype(energy.dtype), precision=FULL)


def compress(mel: Array, spec: MelSpec) -> Array:
    """Apply the floor, logarithm, reference and range of ``spec`` to mel magnitudes or powers [..., frame, band].

    ``top_db`` counts from the maximum of each clip's own [frame, band], whatever else is in the batch (librosa
    counts from the maximum of the whole array). A NaN stays NaN, and that maximum is of the other values.
    """
    mel = floored(mel, spec.floor) if spec.floor_rule == "clip" else mel + spec.floor
    match spec.log:
        case "none":
            value = mel
        case "ln":
            value = jnp.log(mel)
        case "log10":
            value = jnp.log10(mel)
        case "db":
            value = 20 / spec.power * jnp.log10(mel) - spec.reference_db
    if spec.top_db is not None:
        largest = value.max(axis=(-2, -1), keepdims=True, where=~jnp.isnan(value), initial=-jnp.inf)
        value = floored(value, largest - spec.top_db)
    if spec.unit_range is not None:
        low, high = spec.unit_range
        value = limited((value - low) / (high - low), 0, 1)
    return value


def log_mel(audio: ArrayLike, spec: MelSpec) -> Array:
    """Return the log-mel spectrogram [..., frame, band] of audio [..., time] at ``spec.rate_hz``, in [-1, 1].

    The gradient is finite everywhere, silence included: there it is 0 wherever the floor holds. A frame with a sample
    that is not finite is NaN, not silence. Raises ValueError for a clip without samples.
    """
    return compress(mel_spectrogram(audio, spec), spec)


def _check_filterbank(rate_hz: int, bands: int, fmin_hz: float, fmax_hz: float, scale: str, norm: str) -> None:
    check_choice("scale", scale, get_args(MelScale))
    check_choice("norm", norm, get_args(FilterNorm))
    if rate_hz <= 0:
        raise ValueError(f"rate_hz is {rate_hz}; it must be above 0, such as 22050")
    if bands < 1:
        raise ValueError(f"bands is {bands}; it must be at least 1, such as 80")
    if not 0 <= fmin_hz < fmax_hz:
        raise ValueError(f"fmin_hz is {fmin_hz} and fmax_hz is {fmax_hz}; 0 <= fmin_hz < fmax_hz must hold")
    if fmax_hz > rate_hz / 2:
        raise ValueError(f"fmax_hz is {fmax_hz}, above half of rate_hz {rate_hz}; lower it to at most {rate_hz / 2:g}")


def _check_fields(cls: type, values: Mapping[str, Any]) -> None:
    fields = dataclasses.fields(cls)
    known = {field.name for field in fields}
    unknown = sorted(set(values) - known)
    missing = sorted(f.name for f in fields if f.default is dataclasses.MISSING and f.name not in values)
    if unknown or missing:
        raise ValueError(
            f"these values make no {cls.__name__}: unknown {unknown}, missing {missing}; its fields are {sorted(known)}"
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


MEL_PRESETS: Mapping[str, MelSpec] = {
    # librosa 0.11: feature.melspectrogram and power_to_db, every argument at its default.
    "librosa": MelSpec(
        rate_hz=22050,
        stft=StftSpec(2048, 512, pad_end=False),
        bands=128,
        fmax_hz=11025.0,
        power=2,
        floor=1e-10,
        log="db",
        top_db=80.0,
    ),
    # torchaudio: transforms.MelSpectrogram and AmplitudeToDB, every argument at its default.
    "torchaudio": MelSpec(
        rate_hz=16000,
        stft=StftSpec(400, 200, pad_mode="reflect", pad_end=False),
        bands=128,
        fmax_hz=8000.0,
        scale="htk",
        norm="none",
        power=2,
        floor=1e-10,
        log="db",
    ),
    # jik876/hifi-gan meldataset.mel_spectrogram; also BigVGAN, Grad-TTS and (before its statistics) Matcha-TTS.
    "hifigan": MelSpec(
        rate_hz=22050,
        stft=StftSpec(1024, 256, padding="half_overlap", pad_mode="reflect", pad_end=False),
        bands=80,
        fmax_hz=8000.0,
        power_epsilon=1e-9,
    ),
    # NVIDIA/tacotron2 layers.TacotronSTFT; also WaveGlow and, but for its own framing, diffwave-sashimi.
    "tacotron2": MelSpec(
        rate_hz=22050,
        stft=StftSpec(1024, 256, pad_mode="reflect", pad_end=False),
        bands=80,
        fmax_hz=8000.0,
    ),
    # lmnt-com/diffwave and lmnt-com/wavegrad preprocess.transform, on torchaudio with normalized=True.
    "diffwave": MelSpec(
        rate_hz=22050,
        stft=StftSpec(1024, 256, pad_mode="reflect", pad_end=False, scaling="window_norm"),
        bands=80,
        fmin_hz=20.0,
        fmax_hz=11025.0,
        scale="htk",
        norm="none",
        log="db",
        reference_db=20.0,
        unit_range=(-100.0, 0.0),
    ),
}
"""Published conventions by name, each in parity with its source. ``dataclasses.replace`` makes variants."""
