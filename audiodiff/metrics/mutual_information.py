"""Estimate from pairs how much one variable says of another, in nats: by neighbours, and from below by a network.

I(x; y) = E log p(x, y) / (p(x) p(y)) does not change under a rising map of any column. So every column is first put at
the normal quantiles of its ranks, and outliers and units have no say. Both estimators want densities: a variable
that is a function of the other has infinite information, of which they find as much as their samples can tell.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import scipy  # its parts load when they are first used
from numpy.typing import ArrayLike

from audiodiff.metrics.intervals import Figure, mean_interval, normal_quantile
from audiodiff.types import Array, PyTree

PARTS = 10
"""Of how many parts the interval of :func:`ksg` is."""
MOST_TIES = 0.01
"""Share of items that may equal another one: rounding makes a few, a floor or a label makes many."""
FOLDS, LEAST_OF_FOLD = 3, 10
LARGEST_RATIO = 6.0
"""Bound of the critic's |T| in nats: a few large exp(T) would make the bound's mean of anything."""
SHIFTS, BATCH_SHIFTS = 8, 4
"""How many partners from p(x) p(y) every x has, in a bound and in a step of training."""
FORGETTING = 0.01


class Optimiser(Protocol):
    """Any pair of functions as optax makes them, such as ``optax.adam(3e-3)``."""

    init: Callable[..., Any]
    update: Callable[..., tuple[Any, Any]]


class _Pairs(NamedTuple):
    """Hold paired variables [item, dim] as normal scores, the group of each item [item], and how many groups."""

    x: np.ndarray
    y: np.ndarray
    group: np.ndarray
    groups: int


def ksg(
    x: ArrayLike,
    y: ArrayLike,
    key: jax.Array,
    neighbours: int = 3,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    name: str = "mutual information",
) -> Figure:
    """Return the first estimator of Kraskov, Stoegbauer and Grassberger (2004, eq. 8) of I(x; y), in nats.

    x and y are [item] or [item, dim]. With e_i the distance of item i to its k-th neighbour in (x, y), by the maximum
    norm, and n_x and n_y how many others are nearer than e_i in x alone and in y alone::

        psi(k) + psi(N) - mean_i [psi(n_x + 1) + psi(n_y + 1)]

    Unbiased where x and y are independent; below the truth where they are strongly dependent in several dimensions
    (3 + 3 Gaussian ones of 0.67 nat: by 0.04 from 2,000 items), above it by 0.01 in one. It may fall below 0.

    The variance is B / N: the interval is Student's of the estimates of ten parts of the items by ``key`` (Holmes and
    Nemenman 2019), about the estimate of all. Items of a group, as frames of one clip, stay in one part; neighbours
    of the same group count as any other, so few groups look too informative.

    Raises ValueError for shapes without pairs, values that are not finite, a constant column, more than 1 % of items
    that equal another in x or in y, and fewer items or groups than ten parts need.
    """
    if neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}; it must be at least 1, such as 3")
    pairs = _pairs(x, y, groups, PARTS, PARTS * (neighbours + 2))
    value = _ksg(pairs.x, pairs.y, neighbours)
    part = _parts(key, pairs, PARTS)
    if (smallest := int(np.bincount(part, minlength=PARTS).min())) < neighbours + 2:
        raise ValueError(
            f"a part of the items holds {smallest} of {len(part)}, too few for {neighbours} neighbours: give more "
            "groups, or groups of more even sizes"
        )
    of_parts = [_ksg(pairs.x[part == p], pairs.y[part == p], neighbours) for p in range(PARTS)]
    low, high = mean_interval(of_parts, confidence)
    half = (high - low) / 2
    return Figure(name, value, value - half, value + half, len(part), "nat", f"KSG, {neighbours} neighbours")


def _ksg(x: np.ndarray, y: np.ndarray, neighbours: int) -> float:
    both = np.hstack([x, y])
    reach = scipy.spatial.cKDTree(both).query(both, neighbours + 1, p=np.inf)[0][:, -1]
    # Each item counts itself, which is the + 1 of the formula; "nearer than" is the next smaller number or below.
    inside = [
        scipy.spatial.cKDTree(one).query_ball_point(one, np.nextafter(reach, 0), p=np.inf, return_length=True)
        for one in (x, y)
    ]
    near = np.mean(scipy.special.digamma(inside[0]) + scipy.special.digamma(inside[1]))
    return float(scipy.special.digamma(neighbours) + scipy.special.digamma(len(both)) - near)


def neural_lower_bound(
    x: ArrayLike,
    y: ArrayLike,
    key: jax.Array,
    optimiser: Optimiser,
    groups: ArrayLike | None = None,
    *,
    hidden: int = 32,
    rounds: int = 20,
    steps: int = 60,
    batch: int = 128,
    confidence: float = 0.95,
    name: str = "mutual information",
) -> Figure:
    """Return a lower bound of I(x; y) in nats by a small network T(x, y) that has not seen the items it is held by.

    A third of the items trains T by the bound of Donsker and Varadhan with its gradient corrected for the bias of
    minibatches, exp(T) over its moving average in the place of over its batch's mean (Belghazi et al. 2018, MINE)::

        I >= E_{p(x, y)} T - log E_{p(x) p(y)} exp(T)

    Another third says after which of ``rounds`` of ``steps`` to stop, and the last gives the figure, in turns. There
    the bound is that of Nguyen, Wainwright and Jordan (2010) with the training set's c = log E exp(T)::

        I >= E_{p(x, y)} [T - c] + 1 - E_{p(x) p(y)} exp(T - c)

    Looser by the second order of the error of c, it is a mean over items: below I in expectation whatever T is, and
    with an interval of the mean over groups (items where none are given). What T has not learnt is missing: 0.04 nat
    of 0.80 from 2,000 pairs of a normal x and x^2 under noise of variance 1/4. T is limited to +-6.

    Raises ValueError as :func:`ksg` does, for under 30 items or 3 groups, and for sizes below 1.
    """
    for size, given in {"hidden": hidden, "rounds": rounds, "steps": steps, "batch": batch}.items():
        if given < 1:
            raise ValueError(f"{size} is {given}; it must be at least 1")
    pairs = _pairs(x, y, groups, FOLDS, FOLDS * LEAST_OF_FOLD)
    fold = _parts(key, pairs, FOLDS)
    parts = [np.flatnonzero(fold == f) for f in range(FOLDS)]
    if (smallest := min(map(len, parts))) < LEAST_OF_FOLD:
        raise ValueError(f"a third of the groups holds {smallest} items, below {LEAST_OF_FOLD}: give more groups")
    # In the order of their groups neighbours would be partners; equal sizes let the turns be trained at once.
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    even = np.stack([generator.permutation(part)[:smallest] for part in parts])
    xs, ys = jnp.asarray(pairs.x, jnp.float32), jnp.asarray(pairs.y, jnp.float32)
    held, checked, learnt = (np.roll(even, turn, axis=0) for turn in range(FOLDS))
    start = _critics(generator, pairs.x.shape[1] + pairs.y.shape[1], hidden)
    # Which items a step sees is drawn here: a generator inside the loop would take most of the time to compile it.
    batches = generator.integers(smallest, size=(FOLDS, rounds, steps, 1 + BATCH_SHIFTS, batch))
    train = jax.vmap(functools.partial(_train, optimiser))
    critics, offsets = train(start, jnp.asarray(batches), xs[learnt], ys[learnt], xs[checked], ys[checked])
    terms = jax.vmap(_bound_terms)(critics, offsets, xs[held], ys[held])
    return _mean_over_groups(name, np.asarray(terms, np.float64).ravel(), pairs.group[held].ravel(), confidence)


def _train(
    optimiser: Optimiser, start: PyTree, batches: Array, x: Array, y: Array, checked_x: Array, checked_y: Array
) -> tuple[PyTree, Array]:
    """Return the critic of the best round on what it did not learn from, and its c = log E exp(T).

    batches [round, step, 1 + BATCH_SHIFTS, item] are the items of a step, then their partners from p(x) p(y).
    """

    def step(state: tuple, items: Array) -> tuple[tuple, None]:
        params, optimiser_state, average = state
        i, j = items[0], items[1:]

        def loss(params: PyTree) -> tuple[Array, Array]:
            mean = jnp.exp(_ratio(params, x[i], y[j])).mean()
            fresh = jax.lax.stop_gradient(mean)
            new = jnp.where(average == 0, fresh, (1 - FORGETTING) * average + FORGETTING * fresh)
            return mean / new - _ratio(params, x[i], y[i]).mean(), new

        gradient, average = jax.grad(loss, has_aux=True)(params)
        updates, optimiser_state = optimiser.update(gradient, optimiser_state, params)
        return (jax.tree.map(jnp.add, params, updates), optimiser_state, average), None

    def round_of_steps(state: tuple, items: Array) -> tuple[tuple, tuple]:
        state, _ = jax.lax.scan(step, state, items)
        offset = jax.nn.logsumexp(_ratio(state[0], x, y[_partners(len(x))])) - math.log(SHIFTS * len(x))
        return state, (state[0], offset, _bound_terms(state[0], offset, checked_x, checked_y).mean())

    state = (start, optimiser.init(start), jnp.zeros(()))
    _, (critics, offsets, bounds) = jax.lax.scan(round_of_steps, state, batches)
    best = jnp.argmax(bounds)
    return jax.tree.map(lambda leaf: leaf[best], critics), offsets[best]


def _critics(generator: np.random.Generator, dim: int, hidden: int) -> PyTree:
    """Return FOLDS networks of two hidden layers, each layer a matrix with its bias as last row, 0 to begin with."""
    sizes = (dim, hidden, hidden, 1)
    return [
        jnp.asarray(np.pad(generator.normal(scale=a**-0.5, size=(FOLDS, a, b)), ((0, 0), (0, 1), (0, 0))), jnp.float32)
        for a, b in zip(sizes, sizes[1:], strict=False)
    ]


def _ratio(params: PyTree, x: Array, y: Array) -> Array:
    """Return T(x, y) of x [item, dim] and y [..., item, dim], bounded smoothly."""
    h = jnp.concatenate([jnp.broadcast_to(x, (*y.shape[:-1], x.shape[-1])), y], axis=-1)
    for layer in params[:-1]:
        h = jax.nn.softplus(h @ layer[:-1] + layer[-1])
    h = h @ params[-1][:-1] + params[-1][-1]
    return LARGEST_RATIO * jnp.tanh(h[..., 0] / LARGEST_RATIO)


def _bound_terms(params: PyTree, offset: Array, x: Array, y: Array) -> Array:
    """Return T - c + 1 - mean exp(T - c) of each item [item], the mean over its partners."""
    apart = jnp.exp(_ratio(params, x, y[_partners(len(x))]) - offset)
    return _ratio(params, x, y) - offset + 1 - apart.mean(axis=0)


def _partners(count: int) -> np.ndarray:
    """Return for each item SHIFTS others [shift, item], so that every item is a partner as often as any other."""
    return (np.arange(count) + np.linspace(1, count - 1, SHIFTS).astype(int)[:, None]) % count


def _mean_over_groups(name: str, terms: np.ndarray, group: np.ndarray, confidence: float) -> Figure:
    """Return the mean of terms [item] with Student's interval for items that depend on each other in a group."""
    normal_quantile(confidence)
    value, (names, member) = float(terms.mean()), np.unique(group, return_inverse=True)
    sums = np.bincount(member, terms - value)
    error = math.sqrt(len(names) / (len(names) - 1) * np.sum(sums**2)) / len(terms)
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, len(names) - 1)) * error
    note = f"neural lower bound, {len(names)} groups"
    return Figure(name, value, value - half, value + half, len(terms), "nat", note)


def _parts(key: jax.Array, pairs: _Pairs, parts: int) -> np.ndarray:
    """Deal the groups out to parts at random, as many to each; return the part of each item [item]."""
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    return (generator.permutation(pairs.groups) % parts)[pairs.group]


def _pairs(x: ArrayLike, y: ArrayLike, groups: ArrayLike | None, least_groups: int, least_items: int) -> _Pairs:
    """Return what can be estimated from, or refuse it."""
    given = [np.asarray(one, np.float64) for one in (x, y)]
    u, v = (one[:, None] if one.ndim == 1 else one for one in given)
    group = np.arange(len(u)) if groups is None and u.ndim else np.asarray(groups)
    if u.ndim != 2 or v.ndim != 2 or 0 in u.shape[1:] + v.shape[1:] or not len(u) == len(v) == group.size:
        shapes = " and ".join(f"{name} {one.shape}" for name, one in zip("xy", given, strict=True))
        raise ValueError(f"{shapes} in groups {group.shape} hold no pairs: give [item] or [item, dim], as many of each")
    _, member = np.unique(group, return_inverse=True)
    count = int(member.max(initial=-1)) + 1
    if len(u) < least_items or count < least_groups:
        raise ValueError(
            f"{len(u)} items in {count} groups are too few: give at least {least_items} items in {least_groups} groups"
        )
    return _Pairs(_scores("x", u), _scores("y", v), member.ravel(), count)


def _scores(name: str, values: np.ndarray) -> np.ndarray:
    """Return the normal quantiles of the ranks of each column, or refuse values that have no density."""
    count = len(values)
    if bad := int(np.sum(~np.isfinite(values).all(axis=1))):
        raise ValueError(f"{bad} of {count} items of {name} are not finite: leave them out of both variables")
    constant = np.flatnonzero(np.ptp(values, axis=0) == 0)
    if constant.size:
        raise ValueError(f"column {constant[0]} of {name} is constant and says nothing: drop it")
    _, repeats = np.unique(values, axis=0, return_counts=True)
    if (tied := int(repeats[repeats > 1].sum())) > MOST_TIES * count:
        raise ValueError(
            f"{tied} of {count} items of {name} equal another one, above {MOST_TIES:.0%}: it is no continuous "
            "variable; leave out what lies at a floor, or add noise below its resolution"
        )
    return scipy.stats.norm.ppf((scipy.stats.rankdata(values, axis=0) - 0.5) / count)
