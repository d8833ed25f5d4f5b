"""Nothing is computed below float32, and float64 stays float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff import dsp
from audiodiff.dsp.precision import at_least_float32

SPEC = dsp.StftSpec(32, 8)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.int16])
def test_narrow_types_become_float32(dtype):
    assert at_least_float32(jnp.ones(4, dtype)).dtype == jnp.float32
    assert jax.eval_shape(lambda x: dsp.stft(x, SPEC), jnp.ones(64, dtype)).dtype == jnp.complex64


FUNCTIONS = {
    "stft": lambda x: dsp.istft(dsp.stft(x, SPEC), SPEC, 64),
    "log_mel": lambda x: dsp.log_mel(x, dsp.MelSpec(rate_hz=8000, stft=SPEC, bands=4, fmax_hz=4000.0)),
    "mfcc": lambda x: dsp.mfcc(x.reshape(4, 16), 5, lifter=22),
    "dct": lambda x: dsp.idct(dsp.dct(x)),
    "preemphasis": lambda x: dsp.deemphasis(dsp.preemphasis(x)),
    "resample": lambda x: dsp.resample(x, 3, 2),
    "yin": lambda x: dsp.yin(x, 8000, 800, 2000, 32, 16)[1],
    "energy": lambda x: dsp.half_spectrum_energy(x, 126),
    "sinc": lambda x: dsp.sinc_interpolate(x, np.array([0.5])),
    "spread": lambda x: dsp.time_frequency_spread(x, 1.0)[1],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64_stays_float64_and_float32_float32(name):
    x = np.sin(np.arange(64.0))
    with jax.enable_x64(True):
        function = jax.jit(FUNCTIONS[name])
        wide, narrow = function(x), function(x.astype(np.float32))
        assert (wide.dtype, narrow.dtype) == (jnp.float64, jnp.float32)
    # In float32 the constants must not have widened anything either, nor lost more than rounding.
    np.testing.assert_allclose(narrow, wide, rtol=1e-3, atol=1e-4)


def test_complex_audio_is_refused():
    with pytest.raises(ValueError, match="audio must be real, and this array is complex64"):
        dsp.stft(jnp.ones(64, jnp.complex64), SPEC)
