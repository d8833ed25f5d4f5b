"""Track F0 by probabilistic YIN: many thresholds at once, and the likeliest path through their candidates.

:func:`audiodiff.dsp.pitch.yin` decides frame by frame and with one threshold; it is the cheaper, differentiable one.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy  # its parts load when they are first used
from jax.typing import ArrayLike

from audiodiff.dsp.pitch import centred_frames, cumulative_mean_normalised_difference, neighbours, two_periods, vertex
from audiodiff.dsp.precision import as_audio, limited
from audiodiff.types import Array

# The prior of pYIN over thresholds, the decay of its prior over troughs, and the share of belief that the lowest
# trough keeps where none is below a threshold: Mauch and Dixon's program, as in librosa 0.11.
_THRESHOLDS, _BETA, _BOLTZMANN, _NO_TROUGH = 100, (2, 18), 2.0, 0.01
# The logarithm of a probability of 0, about that of float64's least normal number. Not -inf: where every path is
# impossible, the one that is so in the fewest frames must still win.
_NEVER = -700.0


def pyin(
    audio: ArrayLike,
    rate_hz: float,
    fmin_hz: float,
    fmax_hz: float,
    frame_samples: int,
    hop_samples: int,
    max_transition_rate: float = 35.92,
    switch_prob: float = 0.01,
    resolution_semitones: float = 0.1,
) -> tuple[Array, Array]:
    """Track F0 by pYIN (Mauch and Dixon, 2014): returns f0_hz [..., frame], voiced_probability [..., frame].

    1. troughs of d' (:func:`cumulative_mean_normalised_difference`), placed by a parabola
    2. P(trough) = sum_s P(s) exp(-2 k) / sum_{i < n} exp(-2 i) over thresholds s = 0.01, 0.02, .. 1: the trough is
       the k-th of the n below s, P(s) the mass of Beta(2, 18) in the 0.01 below s. Where n = 0 the lowest trough
       gets 0.01 P(s) and the rest of the belief is "unvoiced"
    3. the likeliest path (Viterbi) over pitch bins x {voiced, unvoiced}, all states alike at the start: a bin is
       observed with the probability of the troughs in it, each unvoiced one with (1 - voiced_probability) / bins.
       Pitch moves by a triangular law, max_transition_rate octaves per second wide with half of it to either
       side; voicing changes with switch_prob per frame

    f0_hz is the centre of the path's bin, fmin_hz 2^(bin / (12 n)) with n = ceil(1 / resolution_semitones), so it is
    quantised to 10 cents by default; NaN where the path is unvoiced. voiced_probability is the belief of step 2,
    before any path.
    Frame m is centred on sample m hop_samples (zeros beyond the ends): there are 1 + time // hop_samples. The path
    knows the whole clip, and padding is part of it. Not differentiable: the result is a choice among bins. A frame with
    a sample that is not finite has NaN for both, where an unvoiced one has a probability; the path sees it as unvoiced.

    Steps 2 and 3 with these defaults are librosa's. Its step 1 differs (0.11): its d takes the samples after a frame
    as zeros, and so is never 0 for a periodic frame, and it takes a d' that falls to an end of the range for a trough.

    Raises ValueError where 0 < fmin_hz < fmax_hz <= rate_hz / 4 fails, a frame is shorter than two periods,
    switch_prob is not in (0, 1), resolution_semitones is not in (0, 1], a clip has no samples, or max_transition_rate
    is too low for the hop: it is counted in whole semitones per frame, and at none the path would keep one pitch for
    the whole clip.
    """
    shortest, lags = two_periods(rate_hz, fmin_hz, fmax_hz, frame_samples)
    per_octave, reach = _grid(rate_hz, hop_samples, max_transition_rate, switch_prob, resolution_semitones)
    x = as_audio(audio)
    d = cumulative_mean_normalised_difference(centred_frames(x, frame_samples, hop_samples), lags)

    bins = int(np.floor(per_octave * np.log2(fmax_hz / fmin_hz))) + 1
    around = d[..., shortest - 1 :]  # with a neighbour at either end
    side, _ = vertex(around)
    place = per_octave * jnp.log2(rate_hz / ((shortest + jnp.arange(side.shape[-1]) + side) * fmin_hz))
    pitch = _into_bins(_trough_probabilities(around), jnp.round(place).astype(int), bins)
    voiced_probability = limited(pitch.sum(axis=-1), 0, 1)
    unvoiced = jnp.broadcast_to((1 - voiced_probability[..., None]) / bins, pitch.shape)
    observed = jnp.stack([_log(pitch), _log(unvoiced)], axis=-2)

    path = _viterbi(observed, reach, switch_prob)
    f0_hz = fmin_hz * 2 ** ((path % bins).astype(x.dtype) / per_octave)
    bad = jnp.isnan(d[..., -1])  # no trough was found there
    return jnp.where((path < bins) & ~bad, f0_hz, jnp.nan), jnp.where(bad, jnp.nan, voiced_probability)


def _trough_probabilities(d: Array) -> Array:
    """Return the probability that each inner lag of d' [..., lag + 2] is the period, [..., lag]; 0 but in troughs."""
    left, middle, right = neighbours(d)
    trough = (middle < left) & (middle <= right)
    depth = jnp.where(trough, middle, jnp.inf)
    lowest = trough & (jnp.arange(middle.shape[-1]) == jnp.argmin(depth, axis=-1, keepdims=True))
    edges = np.linspace(0, 1, _THRESHOLDS + 1)
    prior = np.diff(scipy.stats.beta.cdf(edges, *_BETA))

    def add(total: Array, threshold_and_prior: tuple[Array, Array]) -> tuple[Array, None]:
        threshold, belief = threshold_and_prior
        below = depth < threshold
        rank = jnp.cumsum(below, axis=-1) - 1
        count = below.sum(axis=-1, keepdims=True)
        weight = jnp.exp(-_BOLTZMANN * rank) * (-jnp.expm1(-_BOLTZMANN))
        share = jnp.where(below, weight / -jnp.expm1(-_BOLTZMANN * jnp.maximum(count, 1)), 0)
        return total + belief * jnp.where(count > 0, share, _NO_TROUGH * lowest), None

    constants = jnp.asarray(edges[1:], d.dtype), jnp.asarray(prior, d.dtype)
    return jax.lax.scan(add, jnp.zeros_like(middle), constants)[0]


def _into_bins(probability: Array, place: Array, bins: int) -> Array:
    """Add up probabilities [..., lag] in pitch bins [..., bins]. A place below the first goes there, above the last
    nowhere, as in librosa: the parabola may move the longest period out of range, and a shorter one is out of it.
    """
    flat = probability.reshape(-1, probability.shape[-1])
    rows = jnp.arange(flat.shape[0])[:, None]
    columns = jnp.maximum(place, 0).reshape(flat.shape)
    total = jnp.zeros((flat.shape[0], bins), flat.dtype).at[rows, columns].add(flat, mode="drop")
    return total.reshape(*probability.shape[:-1], bins)


def _pitch_law(bins: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Return log weights of a move by -reach .. reach bins, [2 reach + 1], and the log of their sum from each [bins].

    A triangle that would be 0 one bin beyond the reach. At the ends of the range fewer moves share the sum of 1.
    """
    triangle = 1 - np.abs(np.arange(-reach, reach + 1)) / (reach + 1)
    sums = np.convolve(np.ones(bins), triangle)[reach : reach + bins]
    return np.log(triangle), np.log(sums)


def _viterbi(observed: Array, reach: int, switch_prob: float) -> Array:
    """Return the likeliest states [..., frame] given log-likelihoods [..., frame, voicing, bin]; voicing bins + bin.

    A step factors into a change of voicing and then one of pitch, of which only those within reach are compared:
    2 bins (2 reach + 1) sums where the whole transition matrix has 4 bins^2.
    """
    bins = observed.shape[-1]
    moves, sums = (jnp.asarray(law, observed.dtype) for law in _pitch_law(bins, reach))
    stay, change = float(np.log1p(-switch_prob)), float(np.log(switch_prob))
    within_reach = np.arange(bins)[:, None] + np.arange(2 * reach + 1)
    margin = [(0, 0)] * (observed.ndim - 2) + [(reach, reach)]
    steps = jnp.moveaxis(observed, -3, 0)

    def forward(value: Array, seen: Array) -> tuple[Array, Array]:
        same, other = value + stay, value[..., ::-1, :] + change
        left = jnp.pad(jnp.maximum(same, other) - sums, margin, constant_values=-jnp.inf)
        arrived = left[..., within_reach] + moves  # [..., voicing, to, move]
        source = jnp.argmax(arrived, axis=-1) + jnp.arange(bins) - reach
        switched = jnp.take_along_axis(other > same, source, axis=-1)
        value = jnp.max(arrived, axis=-1) + seen
        # Only differences count, and a sum over a long clip would leave no digits for them.
        value = value - value.max(axis=(-2, -1), keepdims=True)
        return value, (jnp.arange(2)[:, None] ^ switched) * bins + source

    def flat(states: Array) -> Array:
        return states.reshape(*states.shape[:-2], 2 * bins)

    def back(state: Array, source: Array) -> tuple[Array, Array]:
        state = jnp.take_along_axis(flat(source), state[..., None], axis=-1)[..., 0]
        return state, state

    value, sources = jax.lax.scan(forward, steps[0], steps[1:])
    last = jnp.argmax(flat(value), axis=-1)
    _, before = jax.lax.scan(back, last, sources, reverse=True)
    return jnp.moveaxis(jnp.concatenate([before, last[None]]), 0, -1)


def _log(probability: Array) -> Array:
    possible = probability > 0
    return jnp.where(possible, jnp.log(jnp.where(possible, probability, 1)), _NEVER)


def _grid(
    rate_hz: float, hop_samples: int, max_transition_rate: float, switch_prob: float, resolution_semitones: float
) -> tuple[int, int]:
    """Return the pitch bins per octave, and how many of them the path may move by to either side."""
    if not 0 < switch_prob < 1:
        raise ValueError(f"switch_prob is {switch_prob}; it must be between 0 and 1, such as 0.01")
    if not 0 < resolution_semitones <= 1:
        raise ValueError(f"resolution_semitones is {resolution_semitones}; it must be in (0, 1], such as 0.1")
    if hop_samples < 1:
        raise ValueError(f"hop_samples is {hop_samples}; it must be at least 1")
    per_semitone = math.ceil(1 / resolution_semitones)
    reach = round(max_transition_rate * 12 * hop_samples / rate_hz) * per_semitone // 2
    if reach < 1:
        least = 2 / per_semitone if per_semitone < 2 else 1
        raise ValueError(
            f"max_transition_rate is {max_transition_rate} octaves per second, less than a bin per hop of "
            f"{hop_samples} samples; take at least {least * rate_hz / (12 * hop_samples):.4g}, or a longer hop"
        )
    return 12 * per_semitone, reach
