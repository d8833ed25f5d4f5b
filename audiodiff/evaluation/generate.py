"""Generate audio from a model: the whole sampler as one compiled program."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from audiodiff import prng
from audiodiff.diffusion.editing import Inpaint
from audiodiff.diffusion.guidance import Classifier, ClassifierFree
from audiodiff.diffusion.noise import initial_noise
from audiodiff.networks.functional import Classify
from audiodiff.objectives.classification import JudgeFeatures
from audiodiff.objectives.diffusion import DiffusionObjective
from audiodiff.types import Array, Conditions, Denoiser, Level, PyTree


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["features", "params", "labels", "scale"],
    meta_fields=["network"],
)
@dataclass(frozen=True)
class Guide:
    """Hold a judge of clean audio and what it is to hear: ``labels``, the index [batch] of a class by head.

    ``scale`` times the gradient of :meth:`log_probability` of the estimate of x_0 is added to the score: posterior
    sampling (Chung et al. 2023), which needs no classifier of noisy sound.
    """

    network: Classify
    features: JudgeFeatures
    params: PyTree
    labels: Mapping[str, Array]
    scale: Array | float = 1.0

    def log_probability(self, audio: Array) -> Array:
        """Return ln p(labels | audio) [batch], in nats: the sum over the heads that have a label.

        Of several channels, [batch, time, channel], the mean is heard.
        """
        logits, _ = self.network(self.params["network"], self.features(audio if audio.ndim == 2 else audio.mean(-1)))
        log_p = {name: jax.nn.log_softmax(logits[name].astype(jnp.float32)) for name in self.labels}
        picked = [jnp.take_along_axis(log_p[name], label[:, None], 1)[:, 0] for name, label in self.labels.items()]
        return jnp.sum(jnp.stack(picked), axis=0)

    def lead(self, denoise: Denoiser, decode: Callable[[Array], Array]) -> Classifier:
        """Return a Denoiser that follows this guide, which hears the estimates of x_0 as ``decode`` makes them."""

        def heard(guide: Guide, x0: Array, level: Level, conditions: Conditions) -> Array:
            return guide.log_probability(decode(x0))

        return Classifier(denoise, self, heard, self.scale, of_estimate=True)


@functools.partial(jax.jit, static_argnames=("sampler", "length_samples", "guided", "decoded"))
def generate(
    objective: DiffusionObjective,
    params: PyTree,
    keys: Array,
    conditions: Conditions,
    grid: Level,
    guidance: Mapping[str, Array | float],
    *,
    sampler: Callable[..., Any],
    length_samples: int,
    guided: bool,
    decoded: bool = True,
    known: tuple[Array, Array] | None = None,
    guide: Guide | None = None,
) -> Array:
    """Draw one clip for each of ``keys`` [batch]: audio [batch, time] (or [batch, time, channel]).

    ``conditions`` are raw, each [batch, ...], and ``grid`` the n + 1 levels. With ``guided`` the estimate is that of
    :class:`ClassifierFree` with the fields in ``guidance`` (scale, sigma_low, sigma_high, rescale); without, the null
    is left out, and half the work with it. A clip depends on its own key and conditions, the weights and the grid, not
    on what else is in the batch. ``known`` is (audio, keep), keep bool [batch, time]: there x_0 is that of the audio,
    and the rest is made to go with it (:class:`Inpaint`). A ``guide`` hears each estimate of x_0 decoded, known audio
    included, and what it says passes back through decoder and network (:class:`Classifier`). Without ``decoded`` it is
    the array x of the representation that is returned. Weights, keys, conditions, guidance, known audio, guide and the
    values of the grid are arguments, so that changing them compiles nothing; another sampler, number of steps, batch or
    length does.
    """
    denoise, encoded = model_under(objective, params, keys, conditions, guidance, guided)
    shape = objective.representation.shape(len(keys), length_samples)
    start, path = jax.vmap(jax.random.split, out_axes=1)(keys)
    first = Level(grid.alpha[0], grid.sigma[0])
    x = initial_noise(start, shape, first, sigma_data=objective.sigma_data)
    decode = functools.partial(objective.decode, raw=conditions, length_samples=length_samples)
    if known is not None:
        audio, keep = known
        inpaint = functools.partial(
            Inpaint, known=objective.encode(audio, conditions), mask=keep[..., None].astype(x.dtype)
        )
        denoise = inpaint(denoise)
        x = denoise.begin(x, first)
    if guide is not None:
        denoise = guide.lead(denoise, decode)
        denoise = denoise if known is None else inpaint(denoise)  # what is known is heard, and never moved
    x0 = sampler(denoise, x, grid, encoded, path)
    if not decoded:
        return objective.prior.colour(x0, conditions)
    return finished(objective, x0, conditions, length_samples)


def model_under(
    objective: DiffusionObjective,
    params: PyTree,
    keys: Array,
    conditions: Conditions,
    guidance: Mapping[str, Array | float],
    guided: bool,
    wrap: Callable[[Denoiser], Any] = lambda denoise: denoise,
) -> tuple[Any, dict[str, Array]]:
    """Return the Denoiser, guided where it is to be, and what it is told; guidance goes around the wrapped one."""
    told = objective.hide(conditions, jax.vmap(lambda key: prng.stream(key, "condition noise"))(keys))
    encoded = objective.network.encode(params["network"], told)
    denoise = wrap(objective.denoiser(params))
    if guided:
        denoise = ClassifierFree(denoise, objective.null(params, told), **guidance)
    return denoise, encoded


def finished(objective: DiffusionObjective, x0: Array, conditions: Conditions, length_samples: int) -> Array:
    """Return the audio of x_0, decoded and with what sampled audio still undergoes."""
    audio = objective.decode(x0, conditions, length_samples)
    return audio if objective.finish is None else objective.finish(audio, conditions)
