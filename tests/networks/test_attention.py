from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiodiff.networks import attention
from audiodiff.networks.attention import Attention
from audiodiff.networks.layers import Dense, FiLM

RNG = np.random.default_rng(0)
TIME, DIM = 37, 8
WINDOWED = {
    "local": attention.local_attention,
    "strided": attention.strided_attention,
    "hierarchical": attention.hierarchical_attention,
}
KINDS = ("full", *WINDOWED, "linear")
full_attention = jax.jit(attention.full_attention, static_argnames="causal")


def draw(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def qkv(time: int = TIME) -> tuple[jax.Array, jax.Array, jax.Array]:
    return draw(2, 3, time, DIM), draw(2, 3, time, DIM), draw(2, 3, time, DIM)


def key_mask() -> np.ndarray:
    mask = RNG.random((2, 1, TIME)) < 0.7
    mask[0, 0, 9:21] = False
    return mask


def explicit(q, k, v, weights):
    """Average by a dense matrix of pair weights in float64; a query with nothing to see gets zero."""
    q, k, v = (np.asarray(a, np.float64) for a in (q, k, v))
    terms = np.exp(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])) * weights
    return terms @ v / np.maximum(terms.sum(-1, keepdims=True), 1e-300)


@pytest.mark.parametrize("window", [1, 5])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["local", "strided"])
def test_windowed_attention_equals_its_brute_force_mask(kind, causal, window):
    q, k, v = qkv()
    pairs = np.zeros((TIME, TIME), bool)
    for i in range(TIME):
        for j in range(TIME):
            near = abs(i - j) < window or (kind == "strided" and (i - j) % window == 0)
            pairs[i, j] = near and (j <= i or not causal)
    function = jax.jit(partial(WINDOWED[kind], window=window, causal=causal))
    for mask in (np.ones((2, 1, TIME), bool), key_mask()):
        expected = explicit(q, k, v, pairs & mask[..., None, :])
        np.testing.assert_allclose(function(q, k, v, mask=mask), expected, rtol=1e-4, atol=1e-5)


def cells_seen(query: int, window: int, causal: bool) -> list[range]:
    """List the cells of positions that a query of hierarchical attention sees, walking outwards level by level."""
    own = query // window
    cells = [range(j, j + 1) for block in (own - 1, own, own + 1) for j in range(block * window, (block + 1) * window)]
    low, high = (own - 1) * window, (own + 2) * window
    size = 1
    while low > 0 or high < TIME:
        size *= 2
        span = window * size
        own = query // span
        left, right = (own - 1) * span, (own + 2) * span
        cells += [range(start, start + size) for start in range(left, low, size)]
        cells += [range(start, start + size) for start in range(high, right, size)]
        low, high = left, right
    kept = [range(max(cell.start, 0), min(cell.stop, TIME)) for cell in cells]
    return [cell for cell in kept if len(cell) and (not causal or cell.stop - 1 <= query)]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [2, 4])
def test_hierarchical_attention_equals_its_cells_one_by_one(window, causal):
    q, k, v = qkv()
    function = jax.jit(partial(attention.hierarchical_attention, window=window, causal=causal))
    for mask in (np.ones((2, 1, TIME), bool), key_mask()):
        y = np.asarray(function(q, k, v, mask=mask))
        for query in range(TIME):
            cells = cells_seen(query, window, causal)
            assert sum(map(len, cells)) == (TIME if not causal else query + 1)  # every position takes part, once
            np.testing.assert_allclose(y[..., query, :], by_cells(q, k, v, mask, query, cells), rtol=1e-4, atol=1e-5)


def by_cells(q, k, v, mask, query, cells):
    """Average over cells, each as many times its mean key and mean value as it holds unmasked positions."""
    q, k, v = (np.asarray(a, np.float64) for a in (q, k, v))
    total, weighted = np.zeros((2, 3, 1)), np.zeros((2, 3, DIM))
    for cell in cells:
        here = mask[:, :, cell, None]
        count = here.sum(axis=-2)
        mean_key, mean_value = ((a[:, :, cell] * here).sum(axis=-2) / np.maximum(count, 1) for a in (k, v))
        weight = count * np.exp((q[:, :, query] * mean_key).sum(axis=-1, keepdims=True) / np.sqrt(DIM))
        total, weighted = total + weight, weighted + weight * mean_value
    return weighted / np.maximum(total, 1e-300)


def test_hierarchical_attention_is_full_attention_where_keys_are_constant_in_cells():
    q, k, v = qkv(32)
    k, v = (jnp.repeat(a[..., ::8, :], 8, axis=-2) for a in (k, v))
    y = jax.jit(partial(attention.hierarchical_attention, window=4))(q, k, v)
    np.testing.assert_allclose(y, full_attention(q, k, v), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", WINDOWED)
@pytest.mark.parametrize("causal", [False, True])
def test_a_window_of_all_time_is_full_attention(kind, causal):
    q, k, v = qkv()
    mask = jnp.asarray(key_mask())
    expected = full_attention(q, k, v, causal=causal, mask=mask)
    y = jax.jit(partial(WINDOWED[kind], window=TIME + 13 * causal, causal=causal))(q, k, v, mask=mask)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_full_attention_and_its_gradients_equal_jax_nn(causal):
    q, k, v = qkv()
    mask = key_mask()
    mask[..., 0] = True  # a query with nothing to see is theirs to define
    cotangent = draw(*q.shape)

    def theirs(q, k, v):
        q, k, v = (a.swapaxes(1, 2) for a in (q, k, v))
        return jax.nn.dot_product_attention(q, k, v, mask=mask[:, :, None], is_causal=causal).swapaxes(1, 2)

    def run(function):
        def value_and_pullback(*arguments):
            value, pull = jax.vjp(function, *arguments)
            return value, pull(cotangent)

        return jax.jit(value_and_pullback)(q, k, v)

    ours = partial(attention.full_attention, causal=causal, mask=jnp.asarray(mask))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), run(ours), run(theirs))


@pytest.mark.oracle
def test_full_attention_equals_torch():
    torch = pytest.importorskip("torch")
    q, k, v = qkv()
    theirs = torch.nn.functional.scaled_dot_product_attention(*(torch.tensor(np.asarray(a)) for a in (q, k, v)))
    np.testing.assert_allclose(full_attention(q, k, v), theirs.numpy(), rtol=1e-4, atol=1e-5)


def phi(x):
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def test_linear_attention_equals_its_explicit_form():
    q, k, v = qkv()
    mask = key_mask()
    y = jax.jit(attention.linear_attention)(q, k, v, mask=mask)
    pairs = phi(np.asarray(q, np.float64)) @ phi(np.asarray(k, np.float64)).swapaxes(-1, -2) * mask[..., None, :]
    np.testing.assert_allclose(y, pairs / pairs.sum(-1, keepdims=True) @ np.asarray(v), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 8, 64])
def test_causal_linear_attention_equals_its_recurrence(chunk):
    q, k, v = qkv()
    y = jax.jit(partial(attention.linear_attention, causal=True, chunk=chunk))(q, k, v)
    phi_q, phi_k, v = phi(np.asarray(q, np.float64)), phi(np.asarray(k, np.float64)), np.asarray(v, np.float64)
    state, norm = np.zeros((2, 3, DIM, DIM)), np.zeros((2, 3, DIM))
    for t in range(TIME):
        state = state + phi_k[:, :, t, :, None] * v[:, :, t, None, :]
        norm = norm + phi_k[:, :, t]
        numerator = np.einsum("bhd,bhde->bhe", phi_q[:, :, t], state)
        expected = numerator / (phi_q[:, :, t] * norm).sum(-1, keepdims=True)
        np.testing.assert_allclose(y[:, :, t], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_causal_functions_return_the_same_bits_whatever_the_future_holds(kind):
    """Not even rounding may leak back, over several chunks, blocks and levels."""
    settings = {"chunk": 4} if kind == "linear" else {"window": 4} if kind in WINDOWED else {}
    function = jax.jit(partial(getattr(attention, f"{kind}_attention"), causal=True, **settings))
    q, k, v = qkv(21)
    for now in (5, 6, 13):
        future = np.arange(21)[:, None] > now
        y, other = function(q, k, v), function(*(jnp.where(future, 1e4 * a**2, a) for a in (q, k, v)))
        np.testing.assert_array_equal(y[..., : now + 1, :], other[..., : now + 1, :])


def test_rotary_products_depend_on_the_difference_of_positions_alone():
    q, k = draw(DIM), draw(DIM)

    def product(i: int, j: int) -> float:
        return float(attention.rotary(q[None], jnp.asarray([i]))[0] @ attention.rotary(k[None], jnp.asarray([j]))[0])

    np.testing.assert_allclose([product(3, 1), product(45, 43), product(402, 400)], product(2, 0), rtol=1e-4)
    assert abs(product(3, 1) - product(3, 2)) > 1e-3
    np.testing.assert_allclose(product(0, 0), q @ k, rtol=1e-5)
    with pytest.raises(ValueError, match="7 is odd"):
        attention.rotary(draw(4, 7))


def randomised(module, *inputs):
    """Return a function of the inputs with every parameter drawn at random, so that nothing begins as zero."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    params = jax.tree.map(lambda leaf: draw(*leaf.shape) / np.sqrt(leaf.shape[0]), shapes)
    return jax.jit(lambda *inputs: module.apply(params, *inputs))


@pytest.mark.parametrize("kind", ["full", "linear"])
def test_attention_commutes_with_permutations_only_without_positions(kind):
    x, order = draw(1, 12, 6), RNG.permutation(12)
    for positions in (False, True):
        layer = randomised(Attention(2, 4, kind=kind, rotary=positions), x)
        commutes = np.allclose(layer(x[:, order]), layer(x)[:, order], atol=1e-5)
        assert commutes is not positions


@pytest.mark.parametrize("kind", KINDS)
def test_a_causal_layer_ignores_the_future_exactly_and_its_twin_does_not(kind):
    x = draw(1, 16, 4)
    for causal in (True, False):
        layer = randomised(Attention(2, 4, kind=kind, window=4, causal=causal, rotary=True), x)
        jacobian = jax.jit(jax.jacrev(lambda x, layer=layer: layer(x)[0].sum(-1)))(x)
        jacobian = np.abs(jacobian).sum(axis=(1, 3))  # [out, in]
        future = np.triu(jacobian, 1)
        assert (future == 0).all() if causal else (future > 0).any()
        assert np.trace(jacobian) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_masked_positions_are_not_heard_and_gradients_are_finite(kind):
    x = draw(2, 24, 4)
    mask = jnp.asarray(np.arange(24) < np.array([[15], [0]]))  # the second example has nothing to see at all
    layer = randomised(Attention(2, 4, kind=kind, window=4), x, None, mask)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(layer(x, None, mask)[:, :15] ** 2)))(x)
    gradient = np.asarray(gradient)
    assert np.isfinite(gradient).all()
    assert (gradient[0, 15:] == 0).all() and (gradient[0, :15] != 0).any()


@pytest.mark.parametrize("kind", ["full", "linear"])
def test_cross_attention_reads_a_set_of_tokens(kind):
    """The order of the tokens does not matter, a masked token neither, and every other one does."""
    x, tokens = draw(2, 9, 4), draw(2, 5, 7)
    mask = jnp.asarray([[True, True, True, True, False]] * 2)
    layer = randomised(Attention(2, 4, kind=kind, rotary=True), x, tokens, mask)
    order = np.array([3, 1, 0, 2, 4])
    np.testing.assert_allclose(layer(x, tokens[:, order], mask), layer(x, tokens, mask), rtol=1e-4, atol=1e-5)
    gradient = jax.jit(jax.grad(lambda tokens: jnp.sum(layer(x, tokens, mask) ** 2)))(tokens)
    assert (np.abs(gradient).max(axis=-1) > 0).tolist() == mask.tolist()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"kind": "linar"}, "Unknown attention kind 'linar': use one of linear, "),
        ({"kind": "local"}, "local attention needs a window of at least 1 position, and it is 0"),
        ({"kind": "hierarchical", "window": 3}, "3 is odd: use 4"),
        ({"kind": "strided", "window": 4, "cross": True}, "Cross-attention cannot be strided"),
        ({"causal": True, "cross": True}, "Cross-attention cannot be causal"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    x = draw(1, 12, 4)
    context = x if settings.pop("cross", False) else None
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(Attention(2, 4, **settings).init, jax.random.key(0), x, context)


def operations(function, *shapes: tuple[int, ...]) -> float:
    """Count the operations of a function of arrays of these shapes in its lowered program; nothing is compiled."""
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(function).lower(*arrays).cost_analysis()["flops"]


@pytest.mark.parametrize(
    "kind, causal, low, high",
    [
        ("full", False, 1.8, 2.1),
        ("local", False, 0.9, 1.15),
        ("hierarchical", False, 1.0, 1.3),
        ("linear", False, 0.9, 1.15),
        ("linear", True, 0.9, 1.15),
    ],
)
def test_operations_grow_with_length_as_promised(kind, causal, low, high):
    """The exponent of the operations counted in the lowered program, over four lengths; T log T gives about 1.25."""
    lengths = [512, 1024, 2048, 4096]
    function = partial(Attention(1, 8, kind=kind, window=32).function(None, cross=False), causal=causal)
    counts = [operations(function, *[(1, length, 8)] * 3) for length in lengths]
    assert low < np.polyfit(np.log(lengths), np.log(counts), 1)[0] < high


def test_operations_of_strided_attention_are_t_sqrt_t_at_best():
    """T (w + T / w): T^1.5 with a window of sqrt(T), and towards T^2 with one that stays."""
    windows = np.array([64, 128, 256])

    def exponent(window_of) -> float:
        counts = [
            operations(partial(attention.strided_attention, window=window_of(int(w))), *[(1, int(w) ** 2, 8)] * 3)
            for w in windows
        ]
        return np.polyfit(np.log(windows**2), np.log(counts), 1)[0]

    assert 1.4 < exponent(lambda w: w) < 1.6
    assert 1.8 < exponent(lambda w: 16) < 2.0


@pytest.mark.parametrize("way", ["film", "concatenation", "cross-attention"])
def test_operations_of_conditioning_grow_with_the_signal(way):
    """All double with the length of the signal, and cross-attention with that of the text as well."""

    def count(time: int, tokens: int = 512) -> float:
        def run(x, condition):
            layer, inputs = {
                "film": (FiLM(), (x, condition[:, 0])),
                "concatenation": (Dense(8), (jnp.concatenate([x, jnp.broadcast_to(condition[:, :1], x.shape)], -1),)),
                "cross-attention": (Attention(1, 8), (x, condition)),
            }[way]
            params = jax.eval_shape(layer.init, jax.random.key(0), *inputs)
            return layer.apply(jax.tree.map(lambda leaf: jnp.ones(leaf.shape), params), *inputs)

        return operations(run, (1, time, 8), (1, tokens, 8))

    assert count(1024) / count(512) == pytest.approx(2, rel=0.1)
    if way == "cross-attention":
        assert count(512, tokens=1024) / count(512) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_computes_in_its_dtype(kind):
    layer = Attention(2, 4, kind=kind, window=4, dtype=jnp.bfloat16)
    y, params = jax.eval_shape(layer.init_with_output, jax.random.key(0), draw(1, 20, 4))
    assert y.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


def test_the_softmax_is_taken_in_float32():
    """4,096 equal keys in bfloat16: a sum of weights in bfloat16 would stop at 256."""
    ones = jnp.ones((1, 4096, 1), jnp.bfloat16)
    y = full_attention(ones[:, :1], ones, ones)
    np.testing.assert_allclose(y.astype(jnp.float32), 1.0)
