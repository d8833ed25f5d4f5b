"""A vocoder's frames stand where they should over the samples, whatever the length and the convention."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff import dsp
from audiodiff.vocoders import MelFrames

MEL = dsp.MelSpec(rate_hz=8000, stft=dsp.StftSpec(128, 32), bands=12, fmax_hz=4000.0)
PADDINGS = {
    "centred": MEL,
    "half overlap": dataclasses.replace(MEL, stft=dsp.StftSpec(128, 32, padding="half_overlap", pad_end=False)),
    "none": dataclasses.replace(MEL, stft=dsp.StftSpec(128, 32, padding="none", pad_end=False)),
}
AUDIO = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 640)).astype(np.float32)


@pytest.mark.parametrize("mel", PADDINGS.values(), ids=PADDINGS.keys())
def test_there_is_a_frame_for_every_hop_begun(mel):
    frames = MelFrames(mel)
    for length in (512, 513, 544, 600):
        assert frames(AUDIO[:, :length]).shape == (2, -(-length // 32), 12) == (2, frames.count(length), 12)


@pytest.mark.parametrize("mel", PADDINGS.values(), ids=PADDINGS.keys())
def test_a_frame_is_the_same_whatever_follows_it(mel):
    frames = MelFrames(mel)
    short, long = frames(AUDIO[:, :512]), frames(AUDIO)
    np.testing.assert_allclose(short[:, 2:10], long[:, 2:10], atol=1e-5)


def test_of_several_channels_the_mean_is_heard():
    stereo = np.stack([AUDIO, AUDIO[::-1]], axis=-1)
    np.testing.assert_allclose(MelFrames(MEL)(stereo), MelFrames(MEL)(stereo.mean(-1)), atol=1e-6)


def test_mels_that_cannot_be_are_refused():
    frames = MelFrames(MEL)
    with pytest.raises(ValueError, match="15 frames of 32 samples do not cover 512 samples: give 16 frames"):
        frames.fit(jnp.zeros((1, 15, 12)), 512)
    for shape in ((1, 16, 13), (1, 0, 12), (16, 12)):
        with pytest.raises(ValueError, match=r"the log-mel has the shape \(.*give \[batch, frame, 12\]"):
            frames.fit(jnp.zeros(shape), 512)
