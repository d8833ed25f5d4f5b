"""Train a judge: a classifier of log-mels with one head a condition, and a class for what is no such sound at all."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from audiodiff import dsp, prng
from audiodiff.networks.functional import Classify
from audiodiff.types import Array, Context, PyTree

REJECT = "reject"
"""The name of the last class of every head: noise, silence, and speech whose phase is lost."""


@functools.partial(jax.tree_util.register_dataclass, data_fields=["mean", "std"], meta_fields=["mel", "level_dbfs"])
@dataclass(frozen=True)
class JudgeFeatures:
    """Turn audio [batch, time] into standardised log-mels [batch, frame, band], the same at any level.

    Every clip is brought to the RMS ``level_dbfs`` first: level is no evidence. Below -100 dBFS the gain grows no more,
    so silence stays silence. ``mean`` and ``std`` are one number each, measured on the training data.
    """

    mel: dsp.MelSpec
    mean: float | Array = 0.0
    std: float | Array = 1.0
    level_dbfs: float = -20.0

    def __call__(self, audio: Array) -> Array:
        power = jnp.mean(jnp.square(audio), axis=-1, keepdims=True)
        audio = audio * 10 ** (self.level_dbfs / 20) * jax.lax.rsqrt(jnp.maximum(power, 1e-10))
        return (dsp.log_mel(audio, self.mel) - self.mean) / self.std


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["features"],
    meta_fields=["network", "heads", "reject_probability", "noise_probability", "max_shift_samples"],
)
@dataclass(frozen=True)
class ClassificationObjective:
    """Minimise the mean over heads of the cross-entropy -ln p(label | audio), one number per example.

    ``heads`` are (condition, classes), the last class being REJECT. With ``reject_probability`` an example is replaced
    by something to be rejected, in equal parts white noise, silence (noise at -100 dBFS and far less), the clip with
    random phases, and the clip under noise as loud as itself or up to 10 dB louder. With ``noise_probability`` the
    others get noise at 10 to 40 dB SNR. All clips are rolled by up to ``max_shift_samples``.

    Measurements: "accuracy/<head>", NaN on what is to be rejected, and "accuracy/reject", NaN on the rest: the share
    of heads that do reject it.
    """

    network: Classify
    features: JudgeFeatures
    heads: tuple[tuple[str, int], ...]
    reject_probability: float = 0.2
    noise_probability: float = 0.5
    max_shift_samples: int = 800

    def init(self, key: Array, batch: Mapping[str, Array]) -> PyTree:
        """Draw the classifier's parameters. Raises ValueError for audio of several channels."""
        shape = batch["audio"].shape
        if len(shape) != 2:
            raise ValueError(
                f"the judge hears [batch, time] and the audio has the shape {shape}: mix it to one channel"
            )
        return {"network": self.network.init(key, self.features(jnp.asarray(batch["audio"])))}

    def __call__(self, params: PyTree, context: Context, batch: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Return the loss [batch] and its measurements, each [batch]."""
        keys = prng.per_example(prng.stream(context.key, "augment"), batch["draw"])
        audio, rejected = jax.vmap(self._augment)(keys, batch["audio"])
        logits, _ = self.network(params["network"], self.features(audio))
        losses, rights = {}, {}
        for name, classes in self.heads:
            label = jnp.where(rejected, classes - 1, batch[name])
            log_p = jax.nn.log_softmax(logits[name].astype(jnp.float32))
            losses[name] = -jnp.take_along_axis(log_p, label[:, None], axis=1)[:, 0]
            rights[name] = (jnp.argmax(log_p, axis=1) == label).astype(jnp.float32)
        measurements = {f"accuracy/{name}": jnp.where(rejected, jnp.nan, right) for name, right in rights.items()}
        measurements[f"accuracy/{REJECT}"] = jnp.where(rejected, _mean(rights), jnp.nan)
        return _mean(losses), measurements

    def _augment(self, key: Array, audio: Array) -> tuple[Array, Array]:
        """Return one clip [time] augmented, and whether it is to be rejected."""

        def named(name: str) -> Array:
            return prng.stream(key, name)

        audio = jnp.roll(audio, jax.random.randint(named("shift"), (), 0, self.max_shift_samples + 1))
        white = jax.random.normal(named("noise"), audio.shape)
        noise = white * jnp.sqrt(jnp.mean(jnp.square(audio)))
        snr_db = jax.random.uniform(named("snr"), minval=10.0, maxval=40.0)
        noisy = jax.random.uniform(named("noisy")) < self.noise_probability
        kept = audio + noise * jnp.where(noisy, 10 ** (-snr_db / 20), 0.0)

        # The features raise -100 dBFS to full level: only what is far below it looks like silence to the classifier.
        silence_db = jax.random.uniform(named("silence"), minval=-200.0, maxval=-100.0)
        excess_db = jax.random.uniform(named("drowned"), minval=0.0, maxval=10.0)
        refused = jnp.stack(
            [
                noise,
                white * 10 ** (silence_db / 20),
                random_phase(named("phase"), audio),
                audio + noise * 10 ** (excess_db / 20),
            ]
        )
        kind = jax.random.randint(named("kind"), (), 0, len(refused))
        rejected = jax.random.uniform(named("reject")) < self.reject_probability
        return jnp.where(rejected, refused[kind], kept), rejected


def random_phase(key: Array, audio: Array) -> Array:
    """Return audio [time] with its own magnitudes and uniform phases: the same long-term spectrum, no event in it.

    The phases are those of white noise, which are real where they must be: at 0 Hz and at half the rate.
    """
    phase = jnp.sign(jnp.fft.rfft(jax.random.normal(key, audio.shape)))  # z / |z|
    return jnp.fft.irfft(jnp.abs(jnp.fft.rfft(audio)) * phase, audio.shape[-1])


def _mean(by_head: Mapping[str, Array]) -> Array:
    """Return the mean over heads of arrays [batch]."""
    return jnp.mean(jnp.stack(list(by_head.values())), axis=0)
