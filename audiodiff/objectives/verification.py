"""Train a speaker encoder: embeddings near for clips of one speaker and far for clips of two.

The losses are pure functions of embeddings [batch, dim], integer speakers [batch] and weights [batch], one number per
example. A batch may hold any number of clips of each speaker. What has weight 0 is nobody's positive, negative or
centroid, and a loss is 0, with gradient 0, where the batch lacks what defines it: that is said of each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from audiodiff import prng
from audiodiff.networks.functional import Classify
from audiodiff.objectives.classification import JudgeFeatures
from audiodiff.types import Array, Context, PyTree

EMBEDDING = "embedding"
"""The name of the network's one head, whose "logits" are the embedding."""

Loss = Callable[[Array, Array, Array], Array]
"""``(embeddings [batch, dim], speakers [batch], weight [batch]) -> [batch]``."""


def nt_xent(embeddings: Array, speakers: Array, weight: Array, temperature: float | Array = 0.1) -> Array:
    """Return the normalised temperature-scaled cross-entropy (Chen et al. 2020, eq. 1), mean over positives.

    l_i = -mean_p ln( exp(cos(e_i, e_p) / T) / sum_{j != i} exp(cos(e_i, e_j) / T) ), p over the other clips of the
    speaker, as Khosla et al. 2020 (eq. 2) have it; with one positive it is NT-Xent. 0 for a clip without a positive.
    """
    unit = normalised(embeddings)
    others = (weight > 0) & ~jnp.eye(len(unit), dtype=bool)
    positive = others & _same(speakers)
    log_p = jax.nn.log_softmax(unit @ unit.T / temperature, axis=1, where=others)
    mean = jnp.sum(jnp.where(positive, log_p, 0.0), axis=1) / jnp.maximum(jnp.sum(positive, axis=1), 1)
    return -jnp.where(jnp.any(positive, axis=1), mean, 0.0)


def ge2e(embeddings: Array, speakers: Array, weight: Array, scale: float | Array = 10.0) -> Array:
    """Return the generalised end-to-end loss, its softmax form (Wan et al. 2018, eqs. 5, 6, 8 and 9).

    l_i = -S_i,own + ln sum_k exp(S_ik) with S_ik = w cos(e_i, c_k), over the speakers k of the batch; c_k is the mean
    of the speaker's unit embeddings, without e_i for its own. ``scale`` is w; the paper's bias b cancels here. 0 for a
    clip that has its speaker to itself.
    """
    unit = normalised(embeddings)
    counts = (weight > 0).astype(unit.dtype)
    member = _same(speakers) * counts
    total, size = member @ unit, jnp.sum(member, axis=1)
    rest = normalised(total - counts[:, None] * unit)
    own = scale * jnp.sum(unit * rest, axis=1)
    scores = jnp.where(_same(speakers), own[:, None], scale * unit @ normalised(total).T)
    return jnp.where(size > counts, _log_sum_over_speakers(scores, counts, size) - own, 0.0)


def prototypical(
    embeddings: Array, speakers: Array, weight: Array, scale: float | Array = 1.0, support: Array | None = None
) -> Array:
    """Return the loss of prototypical networks (Snell et al. 2017, eqs. 1 and 2).

    l_i = w d_i,own + ln sum_k exp(-w d_ik), d_ik = |e_i - c_k|^2, with c_k the mean of the support of speaker k.
    ``support`` is bool [batch], by default every other clip of the batch; ``scale`` is w, 1 in the paper and more for
    embeddings of length one. 0 for the support itself and for a clip whose speaker has none.
    """
    if support is None:
        support = jnp.arange(len(embeddings)) % 2 == 0
    counts = ((weight > 0) & support).astype(embeddings.dtype)
    member = _same(speakers) * counts
    size = jnp.sum(member, axis=1)
    prototypes = member @ embeddings / jnp.maximum(size, 1)[:, None]
    scores = -scale * jnp.sum(jnp.square(embeddings[:, None] - prototypes), axis=-1)
    loss = _log_sum_over_speakers(scores, counts, size) - jnp.diagonal(scores)
    return jnp.where(~support & (size > 0), loss, 0.0)


def triplet(embeddings: Array, speakers: Array, weight: Array, margin: float | Array = 0.3) -> Array:
    """Return the batch-hard triplet loss (Hermans et al. 2017, eq. 5) of every clip as anchor.

    l_i = max(0, m + max_p |e_i - e_p| - min_n |e_i - e_n|), p over the other clips of the speaker and n over those of
    other speakers. 0 for a clip that lacks either.
    """
    squared = jnp.sum(jnp.square(embeddings[:, None] - embeddings), axis=-1)
    distance = jnp.sqrt(jnp.maximum(squared, 1e-12))  # its slope at 0 is infinite
    counts = weight > 0
    positive = counts & _same(speakers) & ~jnp.eye(len(distance), dtype=bool)
    negative = counts & ~_same(speakers)
    farthest = jnp.max(jnp.where(positive, distance, 0.0), axis=1)
    nearest = jnp.min(jnp.where(negative, distance, jnp.inf), axis=1)
    both = jnp.any(positive, axis=1) & jnp.any(negative, axis=1)
    return jnp.where(both, jax.nn.relu(margin + farthest - jnp.where(both, nearest, 0.0)), 0.0)


def normalised(vectors: Array) -> Array:
    """Return vectors [..., dim] at length one; zero stays zero, with a finite gradient."""
    return vectors * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(vectors), axis=-1, keepdims=True), 1e-12))


def _same(speakers: Array) -> Array:
    """Return which clips [batch, batch] are of one speaker, each with itself included."""
    return speakers[:, None] == speakers


def _log_sum_over_speakers(scores: Array, counts: Array, size: Array) -> Array:
    """Return ln sum_k exp(score of speaker k) [batch], where column j of scores [batch, batch] is that of j's speaker.

    The ``size`` columns of a speaker share one term among them: how many speakers there are need not be known.
    """
    return logsumexp(scores, axis=1, b=counts / jnp.maximum(size, 1))


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["features", "loss"],
    meta_fields=["network", "condition", "noise_probability", "max_shift_samples"],
)
@dataclass(frozen=True)
class SpeakerObjective:
    """Minimise a loss between the clips of a batch, on unit embeddings of their log-mels.

    ``network`` has one head, EMBEDDING; ``loss`` is a pytree and callable; ``condition`` names the speakers in the
    batch. With ``noise_probability`` a clip gets white noise at 10 to 40 dB SNR, and all are rolled by up to
    ``max_shift_samples``. The loss depends on who else is in the batch: parts of it, as microbatches and pmap make
    them, are smaller batches to it.

    Measurements, between each clip and the others of its batch: "cosine/same" and "cosine/other", and
    "nearest_is_own", whether the most similar is of the same speaker. NaN where the batch has no such clip.
    """

    network: Classify
    features: JudgeFeatures
    loss: Loss
    condition: str = "speaker"
    noise_probability: float = 0.5
    max_shift_samples: int = 800

    def init(self, key: Array, batch: Mapping[str, Array]) -> PyTree:
        """Draw the network's parameters. Raises ValueError for audio of several channels."""
        shape = batch["audio"].shape
        if len(shape) != 2:
            raise ValueError(
                f"the speaker encoder hears [batch, time] and the audio has the shape {shape}: mix it to one channel"
            )
        return {"network": self.network.init(key, self.features(jnp.asarray(batch["audio"])))}

    def embed(self, params: PyTree, audio: Array) -> Array:
        """Return embeddings of length one, [batch, dim], for audio [batch, time]."""
        heads, _ = self.network(params["network"], self.features(audio))
        return normalised(heads[EMBEDDING].astype(jnp.float32))

    def __call__(self, params: PyTree, context: Context, batch: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Return the loss [batch] and its measurements, each [batch]."""
        keys = prng.per_example(prng.stream(context.key, "augment"), batch["draw"])
        embeddings = self.embed(params, jax.vmap(self._augment)(keys, batch["audio"]))
        speakers, weight = batch[self.condition], batch["weight"]
        return self.loss(embeddings, speakers, weight), _measure(embeddings, speakers, weight)

    def _augment(self, key: Array, audio: Array) -> Array:
        """Return one clip [time], shifted and perhaps noisy."""
        shift, noisy, snr, noise = (prng.stream(key, name) for name in ("shift", "noisy", "snr", "noise"))
        audio = jnp.roll(audio, jax.random.randint(shift, (), 0, self.max_shift_samples + 1))
        amplitude = 10 ** (-jax.random.uniform(snr, minval=10.0, maxval=40.0) / 20)
        amplitude *= jnp.sqrt(jnp.mean(jnp.square(audio))) * (jax.random.uniform(noisy) < self.noise_probability)
        return audio + amplitude * jax.random.normal(noise, audio.shape)


def _measure(embeddings: Array, speakers: Array, weight: Array) -> dict[str, Array]:
    """Return what is measured of a batch, [batch] each."""
    cosine = jax.lax.stop_gradient(embeddings @ embeddings.T)
    pairs = (weight > 0) & ~jnp.eye(len(cosine), dtype=bool)
    same = _same(speakers)
    nearest = jnp.argmax(jnp.where(pairs, cosine, -jnp.inf), axis=1)
    both = jnp.any(pairs & same, axis=1) & jnp.any(pairs & ~same, axis=1)
    own = jnp.take_along_axis(same, nearest[:, None], axis=1)[:, 0]
    return {
        "cosine/same": jnp.mean(cosine, axis=1, where=pairs & same),
        "cosine/other": jnp.mean(cosine, axis=1, where=pairs & ~same),
        "nearest_is_own": jnp.where(both, own, jnp.nan),
    }
