"""Hold mel scales and filters against published tables, and each preset against its source."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from audiodiff import dsp

SAMPLES = 6001  # odd, and no multiple of any preset's hop


log_mel = jax.jit(dsp.log_mel, static_argnums=1)


def _chirp(rate_hz, samples=SAMPLES):
    """A rising tone with two partials, silent for its first sixth: it crosses every band and meets the floor."""
    t = np.arange(samples) / rate_hz
    phase = 2 * np.pi * (100 * t + 5000 * t**2)
    return np.where(np.arange(samples) < samples // 6, 0, 0.4 * np.sin(phase) + 0.1 * np.sin(2.7 * phase))


def small_spec(**changes):
    spec = dsp.MelSpec(rate_hz=8000, stft=dsp.StftSpec(64, 16), bands=8, fmax_hz=4000.0)
    return dataclasses.replace(spec, **changes)


# Scales


@pytest.mark.parametrize(
    ("scale", "frequencies_hz", "mels"),
    [
        ("htk", (100, 440, 700, 1000, 4000, 8000), (150.4891, 549.6387, 781.1728, 999.9855, 2146.0645, 2840.0230)),
        ("slaney", (100, 440, 700, 1000, 4000, 8000), (1.5, 6.6, 10.5, 15, 35.16376, 45.24564)),
    ],
)
def test_mel_scales_match_the_table(scale, frequencies_hz, mels):
    """Ledger row 9, definitions 2.2 to the digits given."""
    digits = 4 if scale == "htk" else 5
    np.testing.assert_allclose(dsp.hz_to_mel(frequencies_hz, scale), mels, atol=0.5001 * 10.0**-digits)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_mel_scales_invert(scale):
    """Ledger row 9."""
    hz = np.concatenate([np.linspace(0, 24000, 999), [1000 - 1e-9, 1000, 1000 + 1e-9]])
    np.testing.assert_allclose(dsp.mel_to_hz(dsp.hz_to_mel(hz, scale), scale), hz, atol=1e-9)
    assert (np.diff(dsp.hz_to_mel(np.sort(hz), scale)) > 0).all()


def test_only_slaney_is_linear_below_one_kilohertz():
    """Ledger row 9: exact for Slaney; the HTK slope falls from 1.610 to 0.663 mel/Hz."""
    hz = np.linspace(0, 1000, 101)
    np.testing.assert_allclose(np.diff(dsp.hz_to_mel(hz, "slaney"), 2), 0, atol=1e-12)
    slope = [(dsp.hz_to_mel(f + 1e-3, "htk") - dsp.hz_to_mel(f, "htk")) / 1e-3 for f in (0, 1000)]
    np.testing.assert_allclose(slope, [1.610, 0.663], atol=5e-4)


# Filters


@pytest.mark.filterwarnings("ignore:.*mel filters hold no bin")
@pytest.mark.parametrize(
    ("rate", "fft", "bands", "fmax", "scale", "norm", "total"),
    [
        (22050, 1024, 80, 8000, "slaney", "none", 363.598867),
        (22050, 1024, 80, 8000, "slaney", "slaney", 3.71368820),
        (8000, 256, 80, 4000, "slaney", "none", 125.594087),
        (8000, 256, 80, 4000, "slaney", "slaney", 2.55848675),
        (8000, 256, 40, 4000, "slaney", "none", 123.366818),
        (8000, 256, 32, 4000, "slaney", "none", 122.296496),
        (8000, 256, 32, 4000, "slaney", "slaney", 1.02337233),
        (8000, 512, 64, 4000, "htk", "none", 250.896189),
    ],
)
def test_filterbank_sums(rate, fft, bands, fmax, scale, norm, total):
    """Ledger row 10, definitions 2.2."""
    bank = dsp.mel_filterbank(rate, fft, bands, fmax_hz=fmax, scale=scale, norm=norm)
    assert bank.shape == (bands, fft // 2 + 1)
    assert bank.sum() == pytest.approx(total, rel=1e-5 / total if total > 1 else 1e-5)
    assert bank.min() == 0


def test_filterbank_maxima():
    """Definitions 2.2."""
    assert dsp.mel_filterbank(22050, 1024, 80, fmax_hz=8000).max() == pytest.approx(0.02649254, abs=1e-8)
    assert dsp.mel_filterbank(8000, 256, 80).max() == pytest.approx(0.03435336, abs=1e-8)


@pytest.mark.parametrize(
    ("fft", "bands", "scale", "rank"), [(256, 80, "slaney", 78), (256, 40, "slaney", 40), (256, 64, "htk", 62)]
)
@pytest.mark.filterwarnings("ignore:.*mel filters hold no bin")
def test_filterbank_rank(fft, bands, scale, rank):
    """Ledger row 10: at 8 kHz an FFT of 256 samples carries 40 bands and not 80."""
    assert dsp.filterbank_rank(dsp.mel_filterbank(8000, fft, bands, scale=scale, norm="none")) == rank


@pytest.mark.oracle
@pytest.mark.parametrize("htk", [True, False])
@pytest.mark.parametrize("norm", ["none", "slaney"])
@pytest.mark.parametrize(
    ("rate", "fft", "bands", "fmin", "fmax"), [(22050, 1024, 80, 0, 8000), (16000, 401, 20, 55, 7600)]
)
def test_filterbank_equals_librosa(htk, norm, rate, fft, bands, fmin, fmax):
    """Ledger row 10."""
    librosa = pytest.importorskip("librosa")
    theirs = librosa.filters.mel(
        sr=rate, n_fft=fft, n_mels=bands, fmin=fmin, fmax=fmax, htk=htk, dtype=np.float64,
        norm=None if norm == "none" else norm,
    )  # fmt: skip
    ours = dsp.mel_filterbank(rate, fft, bands, fmin_hz=fmin, fmax_hz=fmax, scale="htk" if htk else "slaney", norm=norm)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_empty_filters_are_named_each_time():
    """Ledger row 10."""
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"4 of 128 mel filters hold no bin .* \(bands 0, 3, 6, 13\); take fewer"):
            bank = dsp.mel_filterbank(16000, 400, 128, scale="htk", norm="none")
    assert (np.flatnonzero(bank.sum(axis=1) == 0) == [0, 3, 6, 13]).all()


# Presets, each against its source


def _librosa_source(librosa, torch, x):
    return librosa.power_to_db(librosa.feature.melspectrogram(y=x, sr=22050)).T


def _torchaudio_source(librosa, torch, x):
    """Transcribed from torchaudio's MelSpectrogram() and AmplitudeToDB(), which have no build for this CPU."""
    spectrum = torch.stft(
        torch.from_numpy(x), 400, 200, window=torch.hann_window(400, dtype=torch.float64), return_complex=True
    )
    bank = librosa.filters.mel(sr=16000, n_fft=400, n_mels=128, htk=True, norm=None, dtype=np.float64)
    return 10 * np.log10(np.maximum(bank @ spectrum.abs().numpy() ** 2, 1e-10)).T


def _hifigan_source(librosa, torch, x):
    """Transcribed from jik876/hifi-gan meldataset.mel_spectrogram."""
    y = torch.nn.functional.pad(torch.from_numpy(x)[None, None], (384, 384), mode="reflect")[0]
    window = torch.hann_window(1024, dtype=torch.float64)
    spectrum = torch.view_as_real(torch.stft(y, 1024, 256, 1024, window, center=False, return_complex=True))
    magnitude = torch.sqrt(spectrum.pow(2).sum(-1) + 1e-9)
    bank = librosa.filters.mel(sr=22050, n_fft=1024, n_mels=80, fmin=0, fmax=8000, dtype=np.float64)
    return torch.log(torch.clamp(torch.from_numpy(bank) @ magnitude, min=1e-5))[0].T.numpy()


def _tacotron2_source(librosa, torch, x):
    """Transcribed from NVIDIA/tacotron2 stft.STFT.transform and layers.TacotronSTFT: a convolution, not an FFT."""
    basis = np.fft.fft(np.eye(1024))[:513] * np.hanning(1025)[:-1]
    kernel = torch.from_numpy(np.concatenate([basis.real, basis.imag]))[:, None]
    y = torch.nn.functional.pad(torch.from_numpy(x)[None, None], (512, 512), mode="reflect")
    real, imaginary = torch.nn.functional.conv1d(y, kernel, stride=256)[0].split(513)
    magnitude = torch.sqrt(real**2 + imaginary**2).numpy()
    bank = librosa.filters.mel(sr=22050, n_fft=1024, n_mels=80, fmin=0, fmax=8000, dtype=np.float64)
    return np.log(np.clip(bank @ magnitude, 1e-5, None)).T


def _diffwave_source(librosa, torch, x):
    """Transcribed from lmnt-com/diffwave preprocess.transform, with torchaudio's normalized=True written out."""
    window = torch.hann_window(1024, dtype=torch.float64)
    spectrum = torch.stft(torch.from_numpy(x), 1024, 256, window=window, return_complex=True)
    magnitude = (spectrum / window.pow(2).sum().sqrt()).abs().numpy()
    bank = librosa.filters.mel(
        sr=22050, n_fft=1024, n_mels=80, fmin=20, fmax=11025, htk=True, norm=None, dtype=np.float64
    )
    decibels = 20 * np.log10(np.clip(bank @ magnitude, 1e-5, None)) - 20
    return np.clip((decibels + 100) / 100, 0, 1).T


SOURCES = {
    "librosa": _librosa_source,
    "torchaudio": _torchaudio_source,
    "hifigan": _hifigan_source,
    "tacotron2": _tacotron2_source,
    "diffwave": _diffwave_source,
}

# What the sources above give for the chirp at the preset's rate: (frame, band, value), a few of each.
STORED = {
    "librosa": [
        (1, 64, -16.05902),
        (4, 39, 22.69482),
        (4, 43, 21.03418),
        (6, 53, 22.51564),
        (6, 57, 19.34454),
        (10, 71, 22.49205),
        (10, 75, 14.30680),
    ],
    "torchaudio": [
        (1, 64, -100.00000),
        (10, 54, 29.42079),
        (10, 58, 5.15308),
        (15, 68, 30.12612),
        (15, 72, -9.12227),
        (29, 93, 30.91581),
        (29, 97, -19.34840),
    ],
    "hifigan": [
        (1, 40, -11.51293),
        (7, 25, 0.75591),
        (7, 29, -0.67196),
        (11, 35, 0.71827),
        (11, 39, -2.12800),
        (21, 51, 0.60486),
        (21, 55, -6.95371),
    ],
    "tacotron2": [
        (1, 40, -11.51293),
        (8, 27, 0.68077),
        (8, 31, -1.37687),
        (12, 36, 0.65893),
        (12, 40, -2.28359),
        (22, 51, 0.61646),
        (22, 55, -3.11949),
    ],
    "diffwave": [
        (1, 40, 0.00000),
        (8, 25, 0.95281),
        (8, 29, 0.56106),
        (12, 31, 0.97268),
        (12, 35, 0.58939),
        (22, 44, 1.00000),
        (22, 48, 0.65726),
    ],
}


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:.*mel filters hold no bin", "ignore:Empty filters")
@pytest.mark.parametrize("name", dsp.MEL_PRESETS)
def test_preset_equals_its_source(name):
    librosa, torch = pytest.importorskip("librosa"), pytest.importorskip("torch")
    spec = dsp.MEL_PRESETS[name]
    x = _chirp(spec.rate_hz)
    theirs = SOURCES[name](librosa, torch, x)
    with jax.enable_x64(True):
        wide = log_mel(x, spec)
        narrow = log_mel(x.astype(np.float32), spec)
    assert wide.shape == theirs.shape
    np.testing.assert_allclose(wide, theirs, atol=1e-5)
    # In float32 the rounding of loud bins shows 70 dB below them, so the lowest third of the range is left out.
    audible = theirs > theirs.min() + np.ptp(theirs) / 3
    np.testing.assert_allclose(narrow[audible], theirs[audible], atol=1e-3 if spec.log == "ln" else 1e-2)


@pytest.mark.filterwarnings("ignore:.*mel filters hold no bin")
@pytest.mark.parametrize("name", dsp.MEL_PRESETS)
def test_preset_equals_its_stored_values(name):
    """The same where no oracle is installed."""
    spec = dsp.MEL_PRESETS[name]
    with jax.enable_x64(True):
        ours = np.asarray(log_mel(_chirp(spec.rate_hz), spec))
    for frame, band, value in STORED[name]:
        assert ours[frame, band] == pytest.approx(value, abs=2e-3), (frame, band)


# Log-mel


@pytest.mark.filterwarnings("ignore:.*mel filters hold no bin")
@pytest.mark.parametrize(
    ("name", "floor"),
    [
        ("librosa", -100.0),
        ("torchaudio", -100.0),
        ("hifigan", -11.512925),
        ("tacotron2", -11.512925),
        ("diffwave", 0.0),
    ],
)
def test_silence_is_the_floor_with_finite_gradients(name, floor):
    """Ledger row 11: the bottom of the dynamic range, and nothing below it."""
    spec = dsp.MEL_PRESETS[name]
    silence = jnp.zeros((2, 4096))
    value = log_mel(silence, spec)
    assert value.shape == (2, dsp.frame_count(4096, spec.stft), spec.bands)
    np.testing.assert_allclose(value, floor, rtol=1e-6)
    assert np.isfinite(jax.jit(jax.grad(lambda x: dsp.log_mel(x, spec).sum()))(silence)).all()


def test_top_db_counts_from_each_clips_own_maximum():
    """Ledger row 11: the dynamic range of a loud clip does not cut a quiet neighbour's."""
    spec = small_spec(power=2, floor=1e-20, log="db", top_db=60.0)
    x = np.stack([_chirp(8000, 1200), 1e-3 * _chirp(8000, 1200)]).astype(np.float32)
    both = log_mel(x, spec)
    np.testing.assert_allclose(both.max(axis=(1, 2)) - both.min(axis=(1, 2)), 60, atol=1e-3)
    np.testing.assert_allclose(both[1], log_mel(x[1], spec), atol=1e-3)


def test_every_field_of_the_compression_does_what_it_says():
    mel = jnp.asarray([[1e-8, 1e-2, 1.0, 100.0]])
    of = lambda **changes: np.asarray(dsp.compress(mel, small_spec(**changes)))[0]  # noqa: E731
    np.testing.assert_allclose(of(floor=1e-4, log="log10"), [-4, -2, 0, 2], atol=1e-5)
    np.testing.assert_allclose(of(floor=1e-4, log="ln"), np.log(10) * np.array([-4, -2, 0, 2]), atol=1e-5)
    np.testing.assert_allclose(of(floor=1.0, floor_rule="add", log="none"), [1, 1.01, 2, 101], rtol=1e-6)
    np.testing.assert_allclose(of(floor=1e-4, log="db", reference_db=20.0), [-100, -60, -20, 20], atol=1e-4)
    np.testing.assert_allclose(of(floor=1e-4, log="db", power=2), [-40, -20, 0, 20], atol=1e-4)
    np.testing.assert_allclose(of(floor=1e-4, log="db", top_db=50.0), [-10, -10, 0, 40], atol=1e-4)
    np.testing.assert_allclose(of(log="log10", unit_range=(-4.0, 0.0)), [0, 0.5, 1, 1], atol=1e-6)


def test_levels_are_decibels_for_magnitude_and_power():
    x = _chirp(8000, 800)[200:].astype(np.float32)
    for power in (1, 2):
        spec = small_spec(power=power, floor=1e-12, log="db")
        louder = np.asarray(log_mel(16 * x, spec) - log_mel(x, spec))  # a power of two: the same rounding
        np.testing.assert_allclose(louder, 24.0824, atol=1e-3)


def test_dimensions_counted_against_the_source_text():
    """Ledger row 11: T F is 0.31 N, not far below it, and smaller than an image, not far above it."""
    spec = dsp.MEL_PRESETS["hifigan"]
    second = spec.rate_hz - spec.rate_hz % spec.stft.hop_samples
    values = dsp.frame_count(second, spec.stft) * spec.bands
    assert values / second == pytest.approx(0.3125) and "80 / 256 = 0.31" in dsp.MelSpec.__doc__
    digit = dsp.StftSpec(256, 128)
    frames = dsp.frame_count(8000, digit)
    assert frames == 64 and "64 x 40" in dsp.MelSpec.__doc__
    assert frames * 40 < 64 * 64 < 256 * 256 * 3


def test_gradient_equals_finite_differences():
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).normal(size=100))
        check_grads(jax.jit(lambda x: dsp.log_mel(x, small_spec())), (x,), order=1, modes=["rev"])


def test_jit_with_a_static_spec_and_disabled_jit_agree():
    x = _chirp(8000, 800).astype(np.float32)
    jitted = log_mel(x, small_spec())
    with jax.disable_jit():
        np.testing.assert_allclose(dsp.log_mel(x, small_spec()), jitted, atol=1e-3)


# The spec as a value


@pytest.mark.parametrize("name", dsp.MEL_PRESETS)
def test_spec_survives_json(name):
    spec = dsp.MEL_PRESETS[name]
    back = dsp.MelSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert back == spec and hash(back) == hash(spec)


def test_differing_fields_are_named_with_both_values():
    ours = dsp.MEL_PRESETS["hifigan"]
    assert dsp.differing_fields(ours, ours) == {}
    other = dataclasses.replace(ours, fmax_hz=11025.0, stft=dataclasses.replace(ours.stft, hop_samples=300))
    assert dsp.differing_fields(ours, other) == {"fmax_hz": (8000.0, 11025.0), "stft.hop_samples": (256, 300)}
    assert set(dsp.differing_fields(ours, dsp.MEL_PRESETS["tacotron2"])) == {"power_epsilon", "stft.padding"}


def test_from_dict_refuses_unknown_and_missing_fields():
    values = dsp.MEL_PRESETS["hifigan"].to_dict()
    with pytest.raises(ValueError, match=r"make no MelSpec: unknown \['hop'\], missing \[\]; its fields are"):
        dsp.MelSpec.from_dict({**values, "hop": 256})
    with pytest.raises(ValueError, match=r"make no StftSpec: unknown \[\], missing \['fft_samples'\]"):
        dsp.MelSpec.from_dict({**values, "stft": {"hop_samples": 256}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate_hz": 0}, "rate_hz is 0; it must be above 0"),
        ({"bands": 0}, "bands is 0; it must be at least 1"),
        ({"fmax_hz": 5000.0}, "fmax_hz is 5000.0, above half of rate_hz 8000; lower it to at most 4000"),
        ({"fmin_hz": 4000.0}, "fmin_hz is 4000.0 and fmax_hz is 4000.0; 0 <= fmin_hz < fmax_hz must hold"),
        ({"scale": "htc"}, "scale is 'htc'; choose one of htk, slaney"),
        ({"norm": "slany"}, "norm is 'slany'; choose one of slaney, none"),
        ({"log": "log"}, "log is 'log'; choose one of log10, "),
        ({"power": 3}, "power is 3; it must be 1 .* or 2"),
        ({"power_epsilon": -1.0}, "power_epsilon is -1.0; it must be at least 0"),
        ({"floor": 0.0}, "floor is 0.0, and silence has no logarithm"),
        ({"top_db": 80.0}, "top_db are in dB, and log is 'ln'; set log='db'"),
        ({"log": "db", "top_db": -80.0}, "top_db is -80.0; it must be above 0"),
        ({"unit_range": (0.0, -1.0)}, r"unit_range is \(0.0, -1.0\); its first value must be below"),
    ],
)
def test_errors_name_value_limit_and_mend(changes, message):
    with pytest.raises(ValueError, match=message):
        small_spec(**changes)
