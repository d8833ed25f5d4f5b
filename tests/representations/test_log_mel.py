from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff import dsp
from audiodiff.evaluation.resynthesis import resynthesis
from audiodiff.representations import GriffinLim, LogMel
from audiodiff.types import Array

QUICK = {"xla_backend_optimization_level": 0}  # compiles faster
MEL = dsp.MelSpec(rate_hz=8000, stft=dsp.StftSpec(128, 32), bands=24, fmax_hz=4000.0)


def harmonics(seconds=0.5):
    """Return one clip [1, time] of a gliding voice-like tone over a little noise."""
    t = np.arange(int(8000 * seconds)) / 8000
    phase = 2 * np.pi * (120 * t + 40 * t**2)
    voice = sum(np.sin(k * phase) / k for k in range(1, 20))
    return (0.1 * voice + 1e-3 * np.random.default_rng(0).normal(size=t.size)).astype(np.float32)[None]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["gain"], meta_fields=[])
@dataclass(frozen=True)
class Hold:
    """Invert by holding the loudest band of each frame, times a weight: enough to see what it was given."""

    gain: Array | float

    def __call__(self, log_mel, key, length_samples):
        shift = 0.0 if key is None else jax.random.normal(key)
        return jnp.repeat(self.gain * log_mel.max(axis=-1) + shift, 32, axis=-1)[..., :length_samples]


def test_the_inverter_is_given_the_log_mel_itself_and_its_weights_can_be_trained():
    audio = harmonics()
    stereo = np.stack([audio, 2 * audio], axis=-1)
    representation = LogMel(MEL, Hold(1.0), mean=-3.0, channels=2)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(representation):
        x = representation.encode(stereo)
        back, drawn = (representation.decode(x, key, 4000) for key in (None, jax.random.key(0)))
        slope = jax.grad(lambda model: jnp.sum(model.decode(x, None, 4000)))(representation)
        return x, back, drawn, slope, dsp.log_mel(stereo[..., 1], MEL)

    x, back, drawn, slope, expected = run(representation)
    assert x.shape == representation.shape(1, 4000) == (1, 126, 24, 2)
    np.testing.assert_allclose(x[..., 1], expected + 3.0, atol=1e-5)
    np.testing.assert_allclose(back[0, ::32, 1], expected[0, :125].max(axis=-1), atol=1e-5)
    assert np.ptp(drawn - back) < 1e-4 < 0.1 < np.abs(drawn - back).max()
    np.testing.assert_allclose(slope.inverter.gain, back.sum(), rtol=1e-4)


def test_another_mean_is_another_x_of_the_same_audio_and_compiles_nothing():
    audio, traces = harmonics(), []

    @functools.partial(jax.jit, compiler_options=QUICK)
    def there_and_back(representation):
        traces.append(1)
        x = representation.encode(audio)
        return x, representation.decode(x, None, 4000)

    (x, back), (moved, same) = (there_and_back(LogMel(MEL, Hold(1.0), mean)) for mean in (-3.0, -4.5))
    np.testing.assert_allclose(moved - x, 1.5, atol=1e-5)
    np.testing.assert_allclose(same, back, atol=1e-5)
    assert len(traces) == 1


def test_the_ceiling_is_measured_and_rises_with_the_bands():
    """By the log-spectral distance of what comes back, in dB."""
    audio = harmonics()

    def lost_db(bands):
        spec = dataclasses.replace(MEL, bands=bands)
        through = resynthesis(LogMel(spec, GriffinLim(spec)), 1, audio)
        return float(distance_db(through(audio), audio)[0])

    distance_db = jax.jit(functools.partial(dsp.log_spectral_distance, spec=dsp.StftSpec(256, 64)))
    assert lost_db(10) > lost_db(40) + 1 > 2


def test_a_clip_that_makes_no_frame_is_refused():
    """HiFi-GAN's framing drops what does not fill a frame."""
    spec = dataclasses.replace(MEL, stft=dsp.StftSpec(128, 32, padding="half_overlap", pad_end=False))
    with pytest.raises(ValueError, match="a clip of 31 samples holds no frame .* pad it to at least 32 samples"):
        LogMel(spec, GriffinLim(spec)).encode(np.zeros((1, 31), np.float32))
