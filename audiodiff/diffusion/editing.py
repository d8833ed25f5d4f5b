"""Sample what is missing around given audio: inpainting, and continuation as its special case."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from audiodiff.diffusion.noise import fold_in, standard_normal
from audiodiff.diffusion.processes import expand, mix, posterior, transition
from audiodiff.diffusion.samplers import Step, denoise_at, walk
from audiodiff.types import Array, Conditions, Denoiser, Level


@functools.partial(jax.tree_util.register_dataclass, data_fields=["denoise", "known", "mask"], meta_fields=[])
@dataclass(frozen=True)
class Inpaint:
    """Put the known signal where ``mask`` is 1 and the estimate of a Denoiser where it is 0.

    x_0 = mask known + (1 - mask) D: because every sampler moves x_t by its estimate of x_0, the known part then follows
    alpha known + sigma eps exactly and ends as given. ``known`` and ``mask`` broadcast to x_t [batch, ...]; a mask
    between 0 and 1 crossfades. Wrap this around guidance, not the reverse: guidance doubles the batch it passes on.
    """

    denoise: Denoiser
    known: Array
    mask: Array

    def __call__(self, x_t: Array, level: Level, conditions: Conditions) -> Array:
        return self.mask * self.known + (1 - self.mask) * self.denoise(x_t, level, conditions)

    def begin(self, x: Array, level: Level) -> Array:
        """Return the initial noise x [batch, ...] with the signal of the known part added, alpha mask known."""
        return x + expand(level.alpha, x) * self.mask * self.known


def continuation(prompt: Array, time: int) -> tuple[Array, Array]:
    """Return (known, mask), [batch, time, channel], that keep a prompt [batch, given, channel] and leave the rest open.

    Raises ValueError when the prompt does not leave anything open.
    """
    given = prompt.shape[1]
    if given >= time:
        raise ValueError(f"the prompt has {given} samples and the result {time}: shorten the prompt or ask for more")
    known = jnp.pad(prompt, ((0, 0), (0, time - given), (0, 0)))
    return known, (jnp.arange(time) < given).astype(prompt.dtype)[None, :, None]


def repaint(
    denoise: Inpaint,
    x: Array,
    grid: Level,
    conditions: Conditions,
    key: Array,
    *,
    repeats: int = 5,
    trajectory: bool = False,
) -> Array:
    """Sample an ``Inpaint`` by DDPM, taking each step ``repeats`` times (Lugmayr et al. 2022, algorithm 1, jumps of 1).

    Between two takes x_s is noised back to x_t by q(x_t | x_s), which lets the open part come to terms with the
    known one; a single take leaves seams. ``repeats`` n evaluations.
    """

    def rule(x: Array, memory: tuple[()], step: Step) -> tuple[Array, tuple[()], Array]:
        def draw(take: Array, half: int) -> Array:
            return standard_normal(fold_in(fold_in(key, step.number), 2 * take + half), x.shape, x.dtype)

        def down(x: Array, take: Array) -> tuple[Array, Array]:
            x0 = denoise_at(denoise, x, step.here, conditions)
            mean, variance = posterior(x, x0, step.here, step.there)
            return mean + jnp.sqrt(variance) * draw(take, 0), x0

        def down_and_up(take: Array, x: Array) -> Array:
            ratio, variance = transition(step.there, step.here)
            return mix(Level(ratio, jnp.sqrt(variance)), down(x, take)[0], draw(take, 1))

        x = jax.lax.fori_loop(0, repeats - 1, down_and_up, x)
        x, x0 = down(x, jnp.asarray(repeats - 1))
        return x, memory, x0

    if repeats < 1:
        raise ValueError(f"repeats is {repeats} but each step is taken at least once: pass 1 or more")
    return walk(rule, x, grid, (), trajectory=trajectory)
