from __future__ import annotations

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import scipy.integrate
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from linear_regression import assert_same
from linear_regression import run as train_double

from audiodiff.training.checkpoint import CheckpointError
from audiodiff.training.posthoc import (
    profile_products,
    profile_residual,
    profile_weights,
    reconstruct,
    save_snapshot,
    snapshot_steps,
)
from audiodiff.training.state import PowerDecay, power_exponent, update_ema

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

STORED = (0.05, 0.10)
WISHED = (0.06, 0.075, 0.15)
UPDATES, EVERY, SKIPPED = 4000, 250, 10
LENGTHS = {f"power_{length}": length for length in STORED}


def profile(t, length, time):
    gamma = power_exponent(length)
    return np.where(t <= time, (gamma + 1) * np.minimum(t, time) ** gamma / time ** (gamma + 1), 0.0)


def averages_of(walk):
    """Return every average after each update of the parameters ``walk`` [update, ...], by the project's own update."""
    decays = {str(length): PowerDecay(length) for length in (*STORED, *WISHED)}

    def push(ema, item):
        n, params = item
        ema = update_ema(ema, params, n, decays)
        return ema, ema

    start = {name: jax.tree.map(lambda x: jnp.zeros(x.shape[1:]), walk) for name in decays}
    return jax.lax.scan(push, start, (jnp.arange(len(jax.tree.leaves(walk)[0])), walk))[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Store two averages of a random walk every 250 updates; return the folder, the walk and all its averages.

    Ten steps of it were skipped at the start: profiles count updates, folders steps.
    """
    rng = np.random.default_rng(0)
    shapes = {"layer": {"kernel": (4, 3), "bias": ()}}
    walk = jax.tree.map(
        lambda shape: jnp.asarray(3 + rng.normal(size=(UPDATES, *shape)).cumsum(0) / UPDATES**0.5, jnp.float32),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )
    averages = averages_of(walk)
    workdir = tmp_path_factory.mktemp("run")
    for n in range(EVERY, UPDATES + 1, EVERY):
        stored = {name: at(averages[str(length)], n) for name, length in LENGTHS.items()}
        save_snapshot(workdir, n + SKIPPED, stored, updates=n, lengths=LENGTHS)
    return workdir, walk, averages


def store(workdir, step, value, updates=None, name="a"):
    updates = step if updates is None else updates
    save_snapshot(workdir, step, {"a": {"w": jnp.full((8, 2), value)}}, updates=updates, lengths={name: 0.1})


def at(tree, n):
    return jax.tree.map(lambda x: x[n - 1], tree)


def norm(tree):
    return float(np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in jax.tree.leaves(tree))))


def minus(a, b):
    return jax.tree.map(lambda x, y: np.asarray(x, np.float64) - np.asarray(y, np.float64), a, b)


@pytest.mark.parametrize(("n", "limit"), [(UPDATES, 6e-4), (UPDATES // 2, 6e-3)])
@pytest.mark.parametrize("length", WISHED)
def test_reconstruction_equals_the_average_taken_in_training(run, length, n, limit):
    # The error is measured against what averaging does, the distance from the last parameters to their average.
    # Measured with 16 snapshots, for 0.06, 0.075 and 0.15: 4.1e-4, 3.1e-4, 2.6e-4; with 8: 4.2e-3, 3.7e-3, 4.4e-3.
    # Against the norm of the parameters it is 7 to 24 times less: below 4e-5 and 3e-4.
    workdir, walk, averages = run
    direct = at(averages[str(length)], n)
    found = reconstruct(workdir, length, step=n + SKIPPED)
    assert found.step == n + SKIPPED
    assert jax.tree.structure(found.params) == jax.tree.structure(direct)
    assert norm(minus(found.params, direct)) < limit * norm(minus(direct, at(walk, n)))
    assert 1e-3 < found.residual < 4e-2


@pytest.mark.parametrize("length", STORED)
@pytest.mark.parametrize("n", [UPDATES, UPDATES // 2])
def test_a_stored_length_is_the_stored_average(run, length, n):
    workdir, _, averages = run
    found = reconstruct(workdir, length, step=n + SKIPPED)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found.params, at(averages[str(length)], n))
    assert found.residual < 1e-6


def test_the_newest_snapshot_is_the_default(run):
    workdir, *_ = run
    assert snapshot_steps(workdir) == [n + SKIPPED for n in range(EVERY, UPDATES + 1, EVERY)]
    assert_same(reconstruct(workdir, 0.07), reconstruct(workdir, 0.07, step=UPDATES + SKIPPED))


def test_weights_of_updates_are_integrals_of_the_profile():
    # What makes the continuous fit exact: the weight of update k is the profile's integral from k to k + 1.
    updates = 300
    averages = averages_of({"w": jnp.eye(updates)})
    for length in (*STORED, *WISHED):
        power = power_exponent(length) + 1
        exact = np.diff((np.arange(updates + 1) / updates) ** power)
        np.testing.assert_allclose(averages[str(length)]["w"][-1], exact, atol=1e-5 * exact.max())


@pytest.mark.parametrize("a", [(0.05, 400.0), (0.28, 90.0)])
@pytest.mark.parametrize("b", [(0.05, 400.0), (0.10, 1000.0), (0.15, 30.0)])
def test_products_equal_quadrature(a, b):
    both = min(a[1], b[1])
    expected = scipy.integrate.quad(lambda t: profile(t, *a) * profile(t, *b), 0, both, epsabs=0, epsrel=1e-11)[0]
    found = profile_products(power_exponent(a[0]), a[1], power_exponent(b[0]), b[1])
    assert found == pytest.approx(expected, rel=1e-9)


def test_weights_are_the_best_of_those_that_sum_to_one():
    # By quadrature over profiles, not by their products: no change of the weights that keeps their sum comes nearer.
    times = np.repeat([500.0, 1000.0, 1500.0, 2000.0], 2)
    lengths = np.tile(STORED, 4)
    target = (0.075, 2000.0)
    t = np.arange(0.05, 2000, 0.1)
    stored = np.stack([profile(t, *p) for p in zip(lengths, times, strict=True)])

    def distance(weights):
        return np.linalg.norm(weights @ stored - profile(t, *target)) / np.linalg.norm(profile(t, *target))

    weights = profile_weights(lengths, times, *target)
    assert weights.dtype == np.float64
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    best = distance(weights)
    assert profile_residual(weights, lengths, times, *target) == pytest.approx(best, rel=1e-3)
    for change in np.random.default_rng(1).normal(size=(50, len(weights))):
        assert distance(weights + 1e-3 * (change - change.mean())) > best


def test_two_snapshots_of_the_same_update_share_one_weight():
    # All steps between them were skipped, so their products form a singular matrix.
    once = profile_weights([0.05, 0.1], [800, 800], 0.08, 800)
    twice = profile_weights([0.05, 0.1, 0.05, 0.1], [800] * 4, 0.08, 800)
    np.testing.assert_allclose(twice[:2] + twice[2:], once, atol=1e-10)


def test_a_crash_leaves_no_snapshot_and_the_next_run_replaces_what_is_left(tmp_path, monkeypatch):
    def crash(*_, **__):
        raise KeyboardInterrupt

    store(tmp_path, 1, 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(ocp.JsonCheckpointHandler, "finalize", crash)
        with pytest.raises(KeyboardInterrupt):
            store(tmp_path, 2, 2.0)
    left = {path.name for path in (tmp_path / "averages").iterdir()}
    assert len(left) == 2  # whole in a name of its own, and half in another
    assert snapshot_steps(tmp_path) == [1]
    assert reconstruct(tmp_path, 0.1).step == 1
    store(tmp_path, 2, 3.0)
    assert {path.name for path in (tmp_path / "averages").iterdir()} == {"1", "2"}
    np.testing.assert_allclose(reconstruct(tmp_path, 0.1).params["w"], 3.0, rtol=1e-6)


def test_a_step_is_stored_twice_and_the_last_one_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a relative workdir must do
    store("run", 4, 1.0)
    store("run", 4, 2.0)
    assert snapshot_steps("run") == [4]
    np.testing.assert_array_equal(reconstruct("run", 0.1).params["w"], np.full((8, 2), 2.0))


def test_split_averages_of_half_precision_come_back_as_one_of_float32(tmp_path):
    mesh = Mesh(np.array(jax.devices()[:4]), ("fsdp",))
    split = NamedSharding(mesh, PartitionSpec("fsdp"))
    average = jax.device_put(jnp.arange(16, dtype=jnp.bfloat16).reshape(8, 2), split)
    save_snapshot(tmp_path, 1, {"a": {"w": average}}, updates=1, lengths={"a": 0.1})
    found = reconstruct(tmp_path, 0.1).params["w"]
    assert found.dtype == jnp.float32
    assert len(found.devices()) == 1
    np.testing.assert_array_equal(found, np.arange(16.0).reshape(8, 2))


def test_averages_of_no_update_do_not_count(tmp_path):
    store(tmp_path, 1, 7.0, updates=0)
    with pytest.raises(ValueError, match="0 stored averages: at least 1 power-function average"):
        reconstruct(tmp_path, 0.1)
    store(tmp_path, 3, 9.0)
    np.testing.assert_array_equal(reconstruct(tmp_path, 0.1).params["w"], np.full((8, 2), 9.0))


def test_what_cannot_be_fitted_is_named():
    with pytest.raises(ValueError, match="0 stored averages: at least 1"):
        profile_weights([], [], 0.1, 10)
    for time in (9, 21):
        with pytest.raises(ValueError, match=f"target time={time} must lie within the stored times, 10 to 20"):
            profile_weights([0.1, 0.1], [10, 20], 0.1, time)
    with pytest.raises(ValueError, match="target time=0 must lie"):
        profile_weights([0.1], [0], 0.1, 0)
    for length in (0.0, 0.3):
        with pytest.raises(ValueError, match=rf"length={length} must lie in \(0, 0.2887\]"):
            profile_weights([0.1], [10], length, 10)


def test_what_is_not_stored_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="averages holds no snapshot: train with"):
        reconstruct(tmp_path, 0.1)
    store(tmp_path, 5, 1.0)
    with pytest.raises(FileNotFoundError, match="no snapshot of step 6: the nearest is of step 5"):
        reconstruct(tmp_path, 0.1, step=6)
    with pytest.raises(ValueError, match=r"lengths of \['b'\] must name the averages \['a'\]"):
        store(tmp_path, 6, 1.0, name="b")


def test_damaged_and_newer_snapshots_are_named(tmp_path):
    for step in (1, 2):
        store(tmp_path, step, float(step))
    shutil.rmtree(tmp_path / "averages" / "1" / "averages")
    with pytest.raises(CheckpointError, match="averages/1 is damaged .*: delete it"):
        reconstruct(tmp_path, 0.1)
    shutil.rmtree(tmp_path / "averages" / "1")
    assert reconstruct(tmp_path, 0.1).step == 2
    path = next((tmp_path / "averages" / "2" / "meta").iterdir())
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(CheckpointError, match="snapshot format 99, newer than 1: update audiodiff"):
        reconstruct(tmp_path, 0.1)


def test_a_run_stores_its_power_averages_and_a_killed_one_the_same(tmp_path):
    """Snapshots of steps 4, 8 and the last; the second run dies at step 6 and comes by step 4's no more."""

    class Crash(Exception):
        pass

    def die(state, step, writer):
        if step == 6:
            raise Crash

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    result = train_double(whole, 10, snapshot_every=4)
    with pytest.raises(Crash):
        train_double(parts, 10, snapshot_every=4, evaluate=die, evaluate_every=6)
    train_double(parts, 10, snapshot_every=4)
    for folder in (whole, parts):
        assert snapshot_steps(folder) == [4, 8, 10]
        assert_same(reconstruct(folder, 0.1).params, result.state.ema["power"])
        assert_same(reconstruct(folder, 0.2).params, reconstruct(whole, 0.2).params)
