"""Train a denoiser: corrupt at a drawn level, estimate x_0, weigh the squared error."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff import dsp, prng
from audiodiff.diffusion.denoiser import ModelDenoiser
from audiodiff.diffusion.levels import LevelDistribution, stratified_uniform
from audiodiff.diffusion.parameterisations import EDM, Parameterisation, noise_condition
from audiodiff.diffusion.priors import Prior, Standard
from audiodiff.diffusion.processes import Curve, Edm, corrupt, expand
from audiodiff.diffusion.weightings import Edm as EdmWeighting
from audiodiff.diffusion.weightings import Weighting, uncertainty_loss
from audiodiff.hierarchy.told import ConditionNoise
from audiodiff.networks.functional import Functional
from audiodiff.networks.uncertainty import init_log_variance, log_variance
from audiodiff.representations.waveform import Waveform
from audiodiff.types import Array, Conditions, Context, Level, PyTree, Representation

NOISE_EDGES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Edges of the bins of sigma / (alpha sigma_data) by which the loss is reported; an edge belongs to the bin above."""


@functools.partial(jax.tree_util.register_dataclass, data_fields=["process"], meta_fields=["ratios"])
@dataclass(frozen=True)
class FixedLevels:
    """Take the k-th of n ratios sigma / alpha for u in [k/n, (k + 1)/n), k = 0 .. n-1: levels of a held-out loss."""

    ratios: tuple[float, ...]
    process: Curve = field(default_factory=Edm)

    def __call__(self, u: Array) -> Level:
        ratio = jnp.asarray(self.ratios, jnp.float32)[jnp.floor(u * len(self.ratios)).astype(jnp.int32)]
        return self.process.on_curve(Level(jnp.ones_like(ratio), ratio))


@functools.partial(jax.tree_util.register_dataclass, data_fields=["weight", "largest_ratio"], meta_fields=["distance"])
@dataclass(frozen=True)
class AudioLoss:
    """Add ``weight`` times the distance of the decoded estimate of x_0 to the clip, where it is an estimate of it.

    That is where sigma / (alpha sigma_data) is at most ``largest_ratio``: under more noise the estimate is a mean of
    many clips, and sounds like none of them. Through a log-mel's vocoder it fine-tunes the pair end to end.
    """

    weight: float | Array
    largest_ratio: float | Array
    distance: dsp.MultiResolutionSpec

    def __call__(self, estimate: Array, audio: Array, ratio: Array) -> Array:
        """Return the loss [batch] for audio [batch, time] or [batch, time, channel], at ratios [batch]."""
        ours, theirs = (x if x.ndim == 2 else jnp.moveaxis(x, 2, 1) for x in (estimate, audio))
        distance = dsp.multi_resolution_stft_distance(ours, theirs, self.distance).reshape(len(audio), -1).mean(axis=-1)
        return jnp.where(ratio <= self.largest_ratio, self.weight * distance, 0.0)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["representation", "levels", "sigma_data", "prior", "audio_loss"],
    meta_fields=[
        "network",
        "conditions",
        "derived",
        "noise",
        "kept",
        "finish",
        "strata",
        "parameterisation",
        "weighting",
        "drop_probability",
        "drop_together",
        "learned_uncertainty",
        "mask_padding",
        "bands",
    ],
)
@dataclass(frozen=True)
class DiffusionObjective:
    """Minimise E[w(level) |D(alpha x_0 + sigma eps, level) - x_0|^2], the mean over entries, one number per example.

    ``levels`` maps uniform numbers to levels; they are stratified over ``strata``, the global batch. Each of
    ``conditions`` is replaced by its learned null with ``drop_probability``, all of them at once where
    ``drop_together`` (what guidance with one null needs) or each by itself. Those in ``derived``, (name, function of
    the audio), are made of the clip itself, as a vocoder's mel is or what a coarser stage makes; the others come with
    the batch. Those in ``kept`` are never dropped, so that guidance is not towards them. Each of ``noise`` hides a
    condition under noise and is a condition itself, which tells how much: in training it is drawn.
    x_0 is the representation of the audio, whitened by the ``prior``. ``finish``, of audio and raw conditions, is what
    sampled audio still undergoes; training knows nothing of it.
    ``learned_uncertainty`` divides the loss by its own expectation at the level, learnt (EDM2): loss / e^u + u.
    Padding is data, silence that is learnt, unless ``mask_padding``: then the mean is over the samples, or frames, that
    a clip of batch["length"] samples has by itself. ``audio_loss`` is added as it says.

    Measurements: "mse" (weighted, before uncertainty); "audio", the audio loss if there is one; "noise/<bin>", the mse
    of examples whose sigma / (alpha sigma_data) lies in the bin; and "band/<k>" for ``bands`` equal bands, the lowest
    first: the energy of the error as a share of the signal's own in that band. Bands divide the frequencies of x
    [batch, time, channel] up to half the rate, or the bins of x [batch, frame, bin, channel].
    """

    network: Functional
    levels: LevelDistribution
    sigma_data: float | Array
    strata: int
    representation: Representation = field(default_factory=Waveform)
    conditions: tuple[str, ...] = ()
    derived: tuple[tuple[str, Callable[[Array], Array]], ...] = ()
    noise: tuple[ConditionNoise, ...] = ()
    kept: tuple[str, ...] = ()
    prior: Prior = field(default_factory=Standard)
    audio_loss: AudioLoss | None = None
    finish: Callable[[Array, Conditions], Array] | None = None
    parameterisation: Parameterisation = EDM
    weighting: Weighting = field(default_factory=EdmWeighting)
    drop_probability: float = 0.1
    drop_together: bool = True
    learned_uncertainty: bool = False
    mask_padding: bool = False
    bands: int = 0

    def init(self, key: Array, batch: Mapping[str, Array]) -> PyTree:
        """Draw the parameters: {"network": ...}, and "uncertainty" where it is learnt."""
        batch = {name: jnp.asarray(value) for name, value in batch.items()}
        raw = self.raw_conditions(batch)
        x = self.encode(batch["audio"], raw)
        params = {"network": self.network.init(prng.stream(key, "network"), x, raw)}
        if self.learned_uncertainty:
            params["uncertainty"] = init_log_variance(prng.stream(key, "uncertainty"))
        return params

    def raw_conditions(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Return the conditions of a batch: what it carries, and what is derived from its audio, without any noise."""
        derived = dict(self.derived)
        silent = {noise.strength: jnp.zeros(len(batch["audio"])) for noise in self.noise}
        made = {name: function(batch["audio"]) for name, function in derived.items()} | silent
        return {name: made[name] if name in made else batch[name] for name in self.conditions}

    def hide(self, raw: Conditions, keys: Array) -> dict[str, Array]:
        """Return raw conditions under the noise that they tell of, drawn from keys [batch]."""
        hidden = dict(raw)
        for noise in self.noise:
            own = jax.vmap(lambda key, name=noise.name: prng.stream(key, name))(keys)
            hidden[noise.name] = noise(own, raw[noise.name], raw[noise.strength])
        return hidden

    def null(self, params: PyTree, raw: Conditions) -> dict[str, Array]:
        """Return what raw conditions are encoded to with none present, but for those that are kept."""
        batch = len(next(iter(raw.values())))
        present = {name: jnp.full(batch, name in self.kept) for name in raw}
        return self.network.encode(params["network"], raw, present)

    def encode(self, audio: Array, raw: Conditions) -> Array:
        """Return x_0 of audio: its representation, whitened by the prior under raw conditions."""
        return self.prior.whiten(self.representation.encode(audio), raw)

    def decode(self, x0: Array, raw: Conditions, length_samples: int, key: Array | None = None) -> Array:
        """Return the audio of x_0, coloured by the prior under raw conditions, through the representation."""
        return self.representation.decode(self.prior.colour(x0, raw), key, length_samples)

    def denoiser(self, params: PyTree) -> ModelDenoiser:
        """Return the Denoiser that these parameters make."""
        return ModelDenoiser(params["network"], self.sigma_data, self.network, self.parameterisation)

    def __call__(self, params: PyTree, context: Context, batch: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Return the loss [batch] and its measurements, each [batch] with NaN where one is not defined."""
        loss, measured, _ = self.with_estimate(params, context, batch, self.raw_conditions(batch))
        return loss, measured

    def with_estimate(
        self, params: PyTree, context: Context, batch: Mapping[str, Array], raw: Conditions
    ) -> tuple[Array, dict[str, Array], Array]:
        """Return the loss, its measurements, and the estimate of x_0 [batch, ...] whose error they tell.

        ``raw`` are the conditions: those of :meth:`raw_conditions`, or some of another's making.
        """
        x0 = self.encode(batch["audio"], raw)
        draw = batch["draw"]

        def keys(name: str) -> Array:
            return prng.per_example(prng.stream(context.key, name), draw)

        level = self.levels(stratified_uniform(prng.stream(context.key, "level"), draw, self.strata))
        x_t, _ = corrupt(keys("noise"), x0, level)
        strengths = {noise.strength: noise.draw(keys(noise.strength)) for noise in self.noise}
        told = self.hide({**raw, **strengths}, keys("condition noise"))
        encoded = self.network.encode(params["network"], told, self._present(keys("drop")))
        estimate = self.denoiser(params)(x_t, level, encoded)
        error = estimate - x0

        squared = jnp.square(error)
        if self.mask_padding:
            own = self._positions(batch["length"], batch["audio"].shape[1])
            inside = jnp.arange(x0.shape[1]) < own[:, None]
            squared = squared * expand(inside, x0) * expand(x0.shape[1] / own, x0)
        mse = jnp.mean(squared, axis=range(1, x0.ndim)) * self.weighting(level, self.sigma_data)
        loss = mse
        if self.learned_uncertainty:
            loss = uncertainty_loss(mse, log_variance(params["uncertainty"], noise_condition(level)))
        measured = {"mse": mse, **self._by_noise(mse, level), **self._by_band(error, x0)}
        if self.audio_loss is not None:
            audio = batch["audio"]
            heard = self.decode(estimate, raw, audio.shape[1], prng.stream(context.key, "decode"))
            measured["audio"] = self.audio_loss(heard, audio, level.sigma / (level.alpha * self.sigma_data))
            loss = loss + measured["audio"]
        return loss, measured, estimate

    def fixed(self, ratios: tuple[float, ...]) -> DiffusionObjective:
        """Return the same objective at fixed ratios sigma / (alpha sigma_data), with every condition present.

        The example of draw i gets ratio i modulo their number. With the same draws and key the noise is the same at
        every call, so that losses of one held-out set compare along a run. Not to be called under jit.
        """
        scaled = FixedLevels(tuple(float(np.float32(ratio) * np.float32(self.sigma_data)) for ratio in ratios))
        return dataclasses.replace(self, levels=scaled, strata=len(ratios), drop_probability=0.0)

    def _present(self, keys: Array) -> dict[str, Array]:
        """Draw which conditions are there, bool [batch] by name."""

        def keep(name: str) -> Array:
            drawn = keys if self.drop_together else jax.vmap(lambda key: prng.stream(key, name))(keys)
            return jax.vmap(jax.random.uniform)(drawn) >= self.drop_probability

        return {name: keep(name) for name in self.conditions if name not in self.kept}

    def _positions(self, length: Array, longest: int) -> Array:
        """Return how many positions along axis 1 clips of ``length`` [batch] samples have, 1 to ``longest`` samples.

        As many as a sampler makes for such a clip: frames that reach past its end count where its end needs them.
        """
        by_length = [self.representation.shape(1, samples)[1] for samples in range(1, longest + 1)]
        return jnp.asarray(by_length)[jnp.clip(length, 1, longest) - 1]

    def _by_noise(self, mse: Array, level: Level) -> dict[str, Array]:
        """Put each loss [batch] into the one bin of its noise, infinite noise into the last; NaN in the others."""
        ratio = level.sigma / (level.alpha * self.sigma_data)
        # Fixed levels stand on the edges, and rounding must not scatter them over two bins.
        bin_index = jnp.searchsorted(jnp.asarray(NOISE_EDGES), ratio * (1 + 1e-5), side="right")
        edges = (0.0, *NOISE_EDGES, math.inf)
        return {
            f"noise/{low:g}-{high:g}": jnp.where(bin_index == index, mse, jnp.nan)
            for index, (low, high) in enumerate(itertools.pairwise(edges))
        }

    def _by_band(self, error: Array, x0: Array) -> dict[str, Array]:
        """Return the error's energy over the signal's [batch] in each band; NaN where the signal has none."""
        if not self.bands:
            return {}

        def energy(x: Array) -> Array:
            x = jax.lax.stop_gradient(x)
            spectrum = jnp.fft.rfft(x, axis=1) if x.ndim == 3 else jnp.moveaxis(x, 2, 1)
            power = jnp.sum(jnp.square(jnp.abs(spectrum)), axis=range(2, x.ndim))
            parts = jnp.array_split(power, self.bands, axis=1)
            return jnp.stack([jnp.sum(part, axis=1) for part in parts], axis=1)

        signal = energy(x0)
        share = jnp.where(signal > 0, energy(error) / signal, jnp.nan)
        return {f"band/{k}": share[:, k] for k in range(self.bands)}
