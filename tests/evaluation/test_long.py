"""Long audio of exact Denoisers: chunks by turns or in one program, told the time, decoded without a seam."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff import prng
from audiodiff.diffusion import grids, samplers
from audiodiff.diffusion.levels import LogNormal
from audiodiff.diffusion.parameterisations import X0
from audiodiff.evaluation.long import begin, generate_chunk, generate_chunks, generate_windowed
from audiodiff.objectives.diffusion import DiffusionObjective
from audiodiff.representations import Waveform

DEVIATION, HOP_SECONDS = 0.5, 2.0
GRID = grids.karras(10, 0.01, 300.0)
PLAIN = {"scale": 1.0, "sigma_low": 0.0, "sigma_high": float("inf"), "rescale": 0.0}


@dataclasses.dataclass(frozen=True)
class Timed:
    """Estimate x_0 of N(start_seconds, DEVIATION^2), on alpha = 1."""

    def encode(self, params, conditions, present=None):
        return {"global": params["gain"] * conditions["start_seconds"]}

    def __call__(self, params, scaled, c_noise, conditions):
        sigma = jnp.exp(4 * c_noise)[:, None, None]
        x, mean = scaled * jnp.sqrt(DEVIATION**2 + sigma**2), conditions["global"][:, None, None]
        return mean + DEVIATION**2 / (DEVIATION**2 + sigma**2) * (x - mean)


def make(start_seconds, *, overlap, preemphasis=0.0, window=256, count=6, one_program=False):
    """Return audio [batch, count * hop] from clips that begin at ``start_seconds``."""
    objective = DiffusionObjective(
        Timed(),
        LogNormal(),
        DEVIATION,
        4,
        Waveform(preemphasis=preemphasis),
        parameterisation=X0,
        conditions=("start_seconds",),
    )
    keys = prng.per_example(jax.random.key(0), jnp.arange(len(start_seconds)))
    arrays = objective, {"network": {"gain": jnp.float32(1)}}, keys, {"start_seconds": jnp.asarray(start_seconds)}
    arguments = *arrays, GRID, PLAIN
    choices = {"sampler": samplers.dpmpp_2m, "guided": False}
    progress = begin(objective, keys, GRID, window_samples=window, overlap_samples=overlap)
    if one_program:
        return np.asarray(generate_chunks(*arguments, progress, HOP_SECONDS, **choices, count=count))
    made = []
    for _ in range(count):
        audio, progress = generate_chunk(*arguments, progress, HOP_SECONDS, **choices)
        made.append(np.asarray(audio))
    return np.concatenate(made, axis=1)


@pytest.mark.parametrize("overlap", [0, 96])
def test_one_program_makes_what_chunks_by_turns_make(overlap):
    """Ledger row 98: the carry is all that a chunk leaves to the next."""
    turns, together = (make([0.0, 5.0], overlap=overlap, one_program=one) for one in (False, True))
    assert turns.shape == (2, 6 * (256 - overlap))
    np.testing.assert_allclose(together, turns, atol=1e-4)


def test_every_chunk_is_told_where_it_begins():
    """Ledger row 98: each hop is HOP_SECONDS further on."""
    means = make([0.0, 5.0], overlap=0).reshape(2, 6, -1).mean(axis=2)
    np.testing.assert_allclose(means, np.array([[0.0], [5.0]]) + HOP_SECONDS * np.arange(6), atol=0.15)


def test_decoding_goes_on_across_borders():
    """The filter of preemphasis is undone as if all had been one: filtered again, x is white at the borders too."""
    audio = make([3.0], overlap=96, preemphasis=0.9)[0]
    plain = make([3.0], overlap=96)[0]
    x = np.append(audio[0], audio[1:] - 0.9 * audio[:-1])
    np.testing.assert_allclose(x, plain, atol=2e-3)
    assert np.abs(audio[1:]).max() > 10


def test_memory_is_that_of_one_chunk_and_windows_need_more_for_more():
    """Ledger row 98: beside arguments and result, ten and a thousand chunks need the same but for one more result."""
    objective = DiffusionObjective(Timed(), LogNormal(), DEVIATION, 4, conditions=("start_seconds",))
    keys = prng.per_example(jax.random.key(0), jnp.arange(1))
    arguments = objective, {"network": {"gain": jnp.float32(1)}}, keys, {"start_seconds": jnp.zeros(1)}, GRID, PLAIN
    choices = {"sampler": samplers.dpmpp_2m, "guided": False}
    progress = begin(objective, keys, GRID, window_samples=256, overlap_samples=128)

    def temporary(lowered):
        return lowered.compile().memory_analysis().temp_size_in_bytes

    few, many = (
        temporary(generate_chunks.lower(*arguments, progress, 1.0, **choices, count=count)) for count in (10, 1000)
    )
    assert many - few <= 990 * 128 * 4
    sizes = {"window_samples": 256, "overlap_samples": 128}
    short, long = (
        temporary(generate_windowed.lower(*arguments, **choices, **sizes, length_samples=length))
        for length in (1280, 128000)
    )
    assert long - short > 3 * 126720 * 4


@pytest.mark.parametrize("together", [False, True])
def test_windows_have_the_moments_of_the_data(together):
    objective = DiffusionObjective(
        Timed(), LogNormal(), DEVIATION, 4, parameterisation=X0, conditions=("start_seconds",)
    )
    keys = prng.per_example(jax.random.key(0), jnp.arange(2))
    audio = generate_windowed(
        objective,
        {"network": {"gain": jnp.float32(1)}},
        keys,
        {"start_seconds": jnp.array([0.0, 5.0])},
        GRID,
        PLAIN,
        sampler=samplers.dpmpp_2m,
        guided=False,
        length_samples=1001,
        window_samples=256,
        overlap_samples=101,
        together=together,
    )
    assert audio.shape == (2, 1001)
    np.testing.assert_allclose(audio.mean(axis=1), [0, 5], atol=0.08)
    np.testing.assert_allclose(audio.std(axis=1), DEVIATION, rtol=0.1)
