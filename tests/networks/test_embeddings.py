from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff.networks import embeddings


def test_step_features_are_diffwaves_formula():
    """64 sines, then 64 cosines, of t 10^(4 i / 63), within float32's rounding of angles up to 10^4 t."""
    steps = np.array([0, 1, 7, 49])
    features = np.asarray(embeddings.step_features(jnp.asarray(steps)))
    assert features.shape == (4, 128)
    for row, step in zip(features, steps, strict=True):
        for i in range(64):
            angle = step * 10 ** (4 * i / 63)
            tolerance = 1e-6 + angle * 2.0**-23
            np.testing.assert_allclose([row[i], row[64 + i]], [np.sin(angle), np.cos(angle)], atol=tolerance)


def test_level_features_tell_levels_apart_over_the_whole_range():
    """Distance grows with the level at first, and no two levels of the range look alike."""
    c_noise = jnp.linspace(-2.3, 2.3, 400)
    features = np.asarray(embeddings.level_features(c_noise))
    assert features.shape == (400, 128)
    distance = np.linalg.norm(features[:, None] - features[None], axis=-1)
    assert (np.diff(distance[0, :4]) > 0).all()
    assert (distance + 9 * np.eye(400)).min() > 0.2
    far = np.abs(np.subtract.outer(np.arange(400), np.arange(400))) > 20
    assert distance[far].min() > 3


def test_positions_shift_by_a_rotation():
    """The inner product of two positions depends on their difference alone, which attention can use."""
    features = np.asarray(embeddings.position_features(50, 16))
    gram = features @ features.T
    for offset in (0, 1, 9):
        np.testing.assert_allclose(np.diagonal(gram, offset), gram[0, offset], atol=1e-4)
    assert embeddings.position_features(5, 7).shape == (5, 7)


def test_noise_embedding_has_diffwaves_size_and_hears_the_level():
    module = embeddings.NoiseEmbedding(512, embeddings.step_features)
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(2))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 128 * 512 + 512 + 512 * 512 + 512
    small = embeddings.NoiseEmbedding(16)
    y, _ = jax.jit(small.init_with_output)(jax.random.key(0), jnp.linspace(-2, 2, 9))
    assert np.linalg.matrix_rank(np.asarray(y, np.float64), tol=1e-4) == 9
