from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from audiodiff.objectives.verification import (
    EMBEDDING,
    SpeakerObjective,
    ge2e,
    normalised,
    nt_xent,
    prototypical,
    triplet,
)
from audiodiff.types import Context

LOSSES = {"nt_xent": nt_xent, "ge2e": ge2e, "prototypical": prototypical, "triplet": triplet}
SPEAKERS = np.array([2, 0, 2, 5, 0, 2, 5, 9])
"""Two to three clips of three speakers, and one of a fourth."""

every_loss = pytest.mark.parametrize("name", LOSSES)


def unit(count=8, dim=4, seed=0):
    """Return random unit vectors [count, dim]."""
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster


@functools.partial(quick_jit, static_argnames="name")
def value_and_gradient(name, embeddings, speakers, weight):
    def total(embeddings):
        losses = LOSSES[name](embeddings, speakers, weight)
        return jnp.sum(losses * weight), losses

    gradient, losses = jax.grad(total, has_aux=True)(embeddings)
    return losses, gradient


def losses_of(name, embeddings, speakers=SPEAKERS, weight=None):
    weight = np.ones(len(embeddings), np.float32) if weight is None else weight
    losses, gradient = value_and_gradient(name, embeddings, np.asarray(speakers), weight)
    return np.asarray(losses), np.asarray(gradient)


# --- against independent implementations


def test_nt_xent_of_pairs_is_torchs_cross_entropy_of_the_similarities():
    """As SimCLR's own code has it: row i of the cosines without i itself, the partner's place as the class."""
    torch = pytest.importorskip("torch")
    partner = np.array([4, 5, 6, 7, 0, 1, 2, 3])
    embeddings = 3 * unit()
    e = torch.tensor(embeddings)
    cosines = torch.nn.functional.cosine_similarity(e[:, None], e[None], dim=-1).fill_diagonal_(-torch.inf)
    theirs = torch.nn.functional.cross_entropy(cosines / 0.1, torch.tensor(partner), reduction="none")
    np.testing.assert_allclose(losses_of("nt_xent", embeddings, np.arange(8) % 4)[0], theirs, rtol=1e-4)


def test_nt_xent_of_several_positives_is_the_mean_over_pairs():
    """Of clip 0, whose positives are 2 and 5: the mean of two cross-entropies over the seven others."""
    torch = pytest.importorskip("torch")
    embeddings = unit()
    others = torch.tensor(embeddings[1:] @ embeddings[0] / np.float32(0.1)).expand(2, -1)
    theirs = torch.nn.functional.cross_entropy(others, torch.tensor([1, 4]))
    np.testing.assert_allclose(losses_of("nt_xent", embeddings)[0][0], theirs, rtol=1e-5)


def test_ge2e_is_torchs_cross_entropy_of_the_similarities_to_the_centroids():
    """Clip by clip, as the paper tells it: centroids in a list, that of the own speaker without the clip."""
    torch = pytest.importorskip("torch")
    embeddings, names = unit(), [0, 2, 5]
    speakers = np.array([2, 0, 2, 5, 0, 2, 5, 5])
    for i in range(len(speakers)):
        members = [[j for j in np.flatnonzero(speakers == one) if j != i] for one in names]
        centroids = torch.stack([torch.tensor(embeddings[each]).mean(0) for each in members])
        scores = 10 * torch.nn.functional.cosine_similarity(torch.tensor(embeddings[i])[None], centroids)
        theirs = torch.nn.functional.cross_entropy(scores, torch.tensor(names.index(speakers[i])))
        np.testing.assert_allclose(losses_of("ge2e", embeddings, speakers)[0][i], theirs, rtol=1e-4, atol=1e-6)


def test_prototypical_is_torchs_cross_entropy_of_squared_distances():
    """An episode: the even clips are the support, the odd ones the queries."""
    torch = pytest.importorskip("torch")
    embeddings = 2 * unit()
    speakers = np.array([3, 7, 7, 1, 1, 3, 3, 1])
    support, query = torch.tensor(embeddings[::2]), torch.tensor(embeddings[1::2])
    prototypes = torch.stack([support[speakers[::2] == one].mean(0) for one in (1, 3, 7)])
    target = torch.tensor([(1, 3, 7).index(one) for one in speakers[1::2]])
    theirs = torch.nn.functional.cross_entropy(-(torch.cdist(query, prototypes) ** 2), target, reduction="none")
    ours, _ = losses_of("prototypical", embeddings, speakers)
    np.testing.assert_allclose(ours[1::2], theirs, rtol=1e-4)
    assert not ours[::2].any()


def test_triplet_is_torchs_worst_triplet_of_each_anchor():
    torch = pytest.importorskip("torch")
    embeddings = unit()
    loss = torch.nn.TripletMarginLoss(margin=0.3, eps=0.0)
    worst = np.zeros(len(SPEAKERS))
    for a, p, n in itertools.permutations(range(len(SPEAKERS)), 3):
        if SPEAKERS[a] == SPEAKERS[p] != SPEAKERS[n]:
            worst[a] = max(worst[a], loss(*torch.tensor(embeddings[[a, p, n]])[:, None]).item())
    assert (worst > 0).sum() >= 5
    np.testing.assert_allclose(losses_of("triplet", embeddings)[0], worst, rtol=1e-4)


@pytest.mark.parametrize(("name", "chance"), [("nt_xent", math.log(7)), ("ge2e", math.log(4)), ("triplet", 0.3)])
def test_embeddings_that_are_all_alike_know_as_much_as_chance(name, chance):
    """Seven other clips, four speakers, and no distance but the margin; the lone clip has no loss."""
    losses, _ = losses_of(name, np.repeat(unit(1), 8, axis=0))
    np.testing.assert_allclose(losses, [chance] * 7 + [0], rtol=1e-3)


def test_prototypes_that_are_all_alike_know_as_much_as_chance():
    losses, _ = losses_of("prototypical", np.repeat(unit(1), 8, axis=0), np.array([1, 1, 2, 2, 2, 1, 1, 3]))
    np.testing.assert_allclose(losses, [0, math.log(2), 0, math.log(2), 0, math.log(2), 0, 0], rtol=1e-4)


# --- what must make no difference, and what must


@every_loss
def test_a_turn_of_the_space_changes_nothing(name):
    rotation = stats.special_ortho_group.rvs(4, random_state=1).astype(np.float32)
    np.testing.assert_allclose(losses_of(name, unit() @ rotation)[0], losses_of(name, unit())[0], rtol=1e-4, atol=1e-5)


@every_loss
def test_the_order_of_the_batch_and_the_names_of_speakers_change_nothing(name):
    order = np.array([4, 7, 0, 3, 6, 1, 2, 5])  # even places stay even, and so the support is the same
    losses, _ = losses_of(name, unit())
    permuted, _ = losses_of(name, unit()[order], 100 - SPEAKERS[order])
    np.testing.assert_allclose(permuted, losses[order], rtol=1e-4, atol=1e-6)


@every_loss
def test_what_has_weight_0_is_as_good_as_not_there(name):
    """Whatever it holds: losses and gradients of the rest are those of a batch without it."""
    weight = np.array([0, 1, 1, 0, 1, 1, 1, 1], np.float32)  # which leaves a clip of speaker 5 alone
    kept = weight > 0
    losses, gradient = losses_of(name, unit(), weight=weight)
    replaced = np.where(kept[:, None], unit(), unit(seed=1))
    other, other_gradient = losses_of(name, replaced, weight=weight)
    np.testing.assert_allclose(other[kept], losses[kept], rtol=1e-5)
    np.testing.assert_allclose(other_gradient, np.where(kept[:, None], gradient, 0), atol=1e-6)
    if name != "prototypical":  # whose support goes by the places in the batch
        fewer, fewer_gradient = losses_of(name, unit()[kept], SPEAKERS[kept])
        np.testing.assert_allclose(fewer, losses[kept], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(fewer_gradient, gradient[kept], rtol=1e-3, atol=1e-5)


@every_loss
@pytest.mark.parametrize(
    ("speakers", "weight"),
    [
        (np.arange(8), np.ones(8)),
        (np.zeros(8, int), np.ones(8)),
        (SPEAKERS, np.eye(8)[0]),
        (SPEAKERS, np.zeros(8)),
    ],
    ids=["all of different speakers", "all of one", "one that counts", "none that counts"],
)
def test_batches_that_teach_nothing_have_finite_gradients(name, speakers, weight):
    """Of two equal embeddings and a zero one too."""
    embeddings = unit()
    embeddings[4], embeddings[5] = embeddings[1], 0
    losses, gradient = losses_of(name, embeddings, speakers, weight.astype(np.float32))
    assert np.isfinite(losses).all() and np.isfinite(gradient).all()
    if len(set(speakers)) == 8 or weight.sum() < 2:
        np.testing.assert_allclose(losses, 0, atol=1e-6)
        np.testing.assert_allclose(gradient, 0, atol=1e-6)


@every_loss
def test_descent_parts_the_speakers(name):
    """Free embeddings, 200 steps down the gradient: then every clip is nearest to one of its own speaker."""
    speakers = np.array([0, 0, 1, 1, 2, 2, 0, 1])

    @quick_jit
    def descend(embeddings):
        def loss(e):
            return jnp.mean(LOSSES[name](normalised(e), speakers, jnp.ones(8)))

        return jax.lax.fori_loop(0, 200, lambda _, e: e - 0.3 * jax.grad(loss)(e), embeddings)

    def wrong(e):
        cosines = np.asarray(normalised(e) @ normalised(e).T) - 2 * np.eye(8)
        return np.sum(speakers[cosines.argmax(1)] != speakers)

    assert wrong(unit()) > 0 == wrong(descend(unit()))


# --- the objective


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Unheard:
    """Pass audio on as it is, where features belong."""

    def __call__(self, audio):
        return audio


@dataclasses.dataclass(frozen=True)
class FirstSamples:
    """A network whose embedding is the first samples of a clip."""

    def init(self, key, features):
        return {}

    def __call__(self, params, features):
        return {EMBEDDING: features[:, :4]}, features


def objective(**options):
    plain = {"noise_probability": 0.0, "max_shift_samples": 0, "loss": jax.tree_util.Partial(ge2e, scale=10.0)}
    return SpeakerObjective(FirstSamples(), Unheard(), **(plain | options))


@quick_jit
def run(objective, key, batch):
    return objective({"network": {}}, Context(key, 0), batch)


def batch(audio, speakers=SPEAKERS, weight=None):
    count = len(audio)
    weight = np.ones(count, np.float32) if weight is None else weight
    return {"audio": audio, "draw": np.arange(count, dtype=np.int32), "speaker": speakers, "weight": weight}


def test_the_objective_is_its_loss_on_unit_embeddings_without_what_does_not_count():
    weight = np.array([1, 1, 1, 0, 1, 1, 1, 1], np.float32)
    loss, _ = run(objective(), jax.random.key(0), batch(7 * unit(), weight=weight))
    np.testing.assert_allclose(loss, losses_of("ge2e", unit(), weight=weight)[0], rtol=1e-4, atol=1e-6)


def test_the_measurements_are_those_of_the_pairs():
    """By loops over the pairs that count; the lone clip has no other of its speaker."""
    audio, weight = unit(), np.array([1, 1, 1, 1, 1, 0, 1, 1], np.float32)
    _, measured = run(objective(), jax.random.key(0), batch(audio, weight=weight))
    for i in range(8):
        counted = [j for j in range(8) if j != i and weight[j]]
        alike = [audio[i] @ audio[j] for j in counted if SPEAKERS[i] == SPEAKERS[j]]
        unlike = [audio[i] @ audio[j] for j in counted if SPEAKERS[i] != SPEAKERS[j]]
        np.testing.assert_allclose(measured["cosine/same"][i], np.mean(alike) if alike else np.nan, rtol=1e-4)
        np.testing.assert_allclose(measured["cosine/other"][i], np.mean(unlike), rtol=1e-4)
        nearest = float(max(alike) > max(unlike)) if alike else np.nan
        np.testing.assert_equal(float(measured["nearest_is_own"][i]), nearest)


def test_another_strength_of_the_loss_compiles_nothing():
    run(objective(), jax.random.key(0), batch(unit()))
    compiled = run._cache_size()
    run(objective(loss=jax.tree_util.Partial(ge2e, scale=3.0)), jax.random.key(0), batch(unit()))
    assert run._cache_size() == compiled


def test_clips_are_shifted_and_half_of_them_noisy():
    click = np.zeros(2048, np.float32)
    click[0] = 1.0
    one = objective(noise_probability=0.5, max_shift_samples=9)
    keys = jax.random.split(jax.random.key(0), 400)
    made = np.asarray(quick_jit(jax.vmap(one._augment, in_axes=(0, None)))(keys, click))
    assert set(np.argmax(made, axis=1)) == set(range(10))
    straight = np.stack([np.roll(each, -np.argmax(each)) for each in made])
    power = np.mean((straight - click) ** 2, axis=1)
    noisy = power > 0
    assert stats.binomtest(int(noisy.sum()), len(made), 0.5).pvalue > 1e-4
    snr_db = 10 * np.log10(np.mean(click**2) / power[noisy])
    assert 9.5 < snr_db.min() < 15 < 35 < snr_db.max() < 40.5


def test_an_example_is_augmented_by_its_draw_alone():
    heard = objective(noise_probability=1.0, max_shift_samples=5)
    examples = batch(np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32))
    order = np.random.default_rng(1).permutation(8)
    loss, _ = run(heard, jax.random.key(0), examples)
    permuted, _ = run(heard, jax.random.key(0), {name: value[order] for name, value in examples.items()})
    np.testing.assert_allclose(permuted, loss[order], rtol=1e-4, atol=1e-6)
    assert (run(heard, jax.random.key(1), examples)[0] != loss).any()


def test_audio_of_several_channels_is_refused():
    with pytest.raises(ValueError, match=r"hears \[batch, time\] and the audio has the shape \(2, 64, 2\): mix it"):
        objective().init(jax.random.key(0), {"audio": np.zeros((2, 64, 2), np.float32)})
