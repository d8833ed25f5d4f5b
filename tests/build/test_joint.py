"""Train all stages of a cascade in one run: begun, broken off, gone on with, loaded as stages, and sampled."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from audiodiff.build import experiment
from audiodiff.build.cascade import Cascade, load_cascade, train_cascade
from audiodiff.build.choices import ConfigError
from audiodiff.build.data import make_data
from audiodiff.build.experiment import make_training_optimiser
from audiodiff.build.joint import joint_config, load_facts
from audiodiff.build.objective import make_objective
from audiodiff.build.stages import stage_config
from audiodiff.dsp import MelSpec, StftSpec
from audiodiff.hierarchy.levels import PooledMel
from audiodiff.hierarchy.told import Told
from audiodiff.training import latest_step, read_config, read_metrics, restore_params

STEPS = 10


def level(number, bands=()):
    return {"name": "pyramid", "factors": (4,), "level": number, "bands": bands, "frame_samples": 64}


def cascade_of(config, **joint):
    """Return a cascade of two tiny stages: the second begins at step 4, and at step 5 the first ends."""
    low, fine = ({**copy.deepcopy(config), "representation": part} for part in (level(0), level(1, (1, 2, 3))))
    low["conditions"] = ()
    low["sampler"]["guidance"] = fine["sampler"]["guidance"] = 1.0
    fine["told"] = {"low": {"representation": level(0), "noise": 0.5}}
    for stage in (low, fine):
        stage["sampler"]["steps"] = 1
        for section in ("data", "training", "optimiser", "seed"):
            del stage[section]
    training = config["training"] | {"total_steps": STEPS, "save_every": 5, "evaluate_every": STEPS, "log_every": 1}
    shared = {"data": config["data"], "seed": 0, "optimiser": config["optimiser"] | {"weight_decay": 0.1}}
    return {
        "task": "cascade",
        **shared,
        "training": training,
        "stages": {"low": low, "fine": fine},
        "order": ("low", "fine"),
        "joint": {"spans": {"low": (0, 5), "fine": (4, None)}, "own_share": 0.5, "through": True, **joint},
    }


@pytest.fixture
def cascade_config(config):
    return cascade_of(config)


@pytest.fixture(scope="module")
def joint_workdir(tmp_path_factory, _configs):
    """Return the folder of a cascade that one run has trained."""
    folder = tmp_path_factory.mktemp("runs") / "joint"
    train_cascade(cascade_of(copy.deepcopy(_configs["smoke"])), folder)
    return folder


def test_one_run_measures_each_stage_within_its_span(joint_workdir):
    lines = [line for line in read_metrics(joint_workdir) if "train/low/mse" in line]
    assert [line["train/low/mse"] is not None for line in lines] == [True] * 5 + [False] * 5
    assert [line["train/fine/mse"] is not None for line in lines] == [False] * 4 + [True] * 6
    last = set().union(*read_metrics(joint_workdir))
    assert {"held_out/low/mse", "held_out/fine/mse", "held_out/fine/noise/0.3-1"} <= last


def test_a_stage_that_ends_keeps_its_weights_under_momentum_and_decay(joint_workdir):
    before, after = (restore_params(joint_workdir, step=step) for step in (5, STEPS))
    jax.tree.map(np.testing.assert_array_equal, before["low"], after["low"])
    changed = jax.tree.map(lambda old, new: not np.array_equal(old, new), before["fine"], after["fine"])
    assert any(jax.tree.leaves(changed))


def test_the_facts_of_each_stage_are_those_that_it_has_alone(joint_workdir, cascade_config, tmp_path):
    facts = load_facts(read_config(joint_workdir), joint_workdir)
    alone = stage_config(cascade_config, "fine")
    assert facts["fine"] == experiment._facts(alone, make_data(alone["data"]), tmp_path)
    assert facts["low"].sigma_data != facts["fine"].sigma_data and set(facts["fine"].told) == {"low"}
    assert (joint_workdir / "fine" / "statistics.json").exists()


def test_broken_off_and_gone_on_with_it_ends_where_it_would_have(joint_workdir, cascade_config, tmp_path):
    """Ten steps are five and, in another process's memory, five more, to the last bit."""
    parts = shutil.copytree(joint_workdir, tmp_path / "parts")
    shutil.rmtree(parts / "checkpoints" / str(STEPS))
    (parts / "finished.json").unlink()
    assert latest_step(parts) == 5
    train_cascade(cascade_config, parts)
    for ema in (None, "short", "power"):
        whole, gone_on = (restore_params(folder, ema=ema, step=STEPS) for folder in (joint_workdir, parts))
        jax.tree.map(np.testing.assert_array_equal, whole, gone_on)


def test_the_stages_of_one_run_are_sampled_like_those_of_several(joint_workdir):
    cascade = load_cascade(joint_workdir)
    assert {stage: run.step for stage, run in cascade.runs.items()} == {"low": STEPS, "fine": STEPS}
    made = cascade.make(jax.random.key(0), {"sound": ["ah", "oo"], "pitch": "A2"})
    assert made["fine"].shape == (2, 2048) and np.isfinite(made["fine"]).all()
    low = cascade.runs["fine"].levels["low"]
    np.testing.assert_allclose(low(made["fine"]), made["low"], atol=1e-4)  # the finer stage adds what that lacks
    early = load_cascade(joint_workdir, steps={"low": 5})
    assert (early.runs["low"].step, early.runs["fine"].step) == (5, STEPS)
    assert early.runs["low"].weights_hash != cascade.runs["low"].weights_hash  # the averages go on
    assert early.runs["fine"].weights_hash == cascade.runs["fine"].weights_hash


def test_its_objective_is_built_of_what_the_workdir_holds(joint_workdir):
    config = read_config(joint_workdir)
    low, fine = make_objective(config, load_facts(config, joint_workdir)).stages
    assert (low.span, fine.span, low.sources, fine.sources) == ((0, 5), (4, None), (), (("low", ("low",)),))
    assert low.objective.strata == config["training"]["batch_size"]


@pytest.mark.parametrize(
    ("joint", "said"),
    [
        ({"span": {}}, "joint takes no 'span'; it takes spans"),
        ({"spans": {"fin": (0, None)}}, "unknown stage in joint.spans 'fin'; choose one of fine, low"),
        ({"weights": {"fin": 1.0}}, "unknown stage in joint.weights 'fin'; choose one of fine, low"),
        ({"spans": {"fine": (10, None)}}, "stage 'fine' begins at step 10 and the run has 10: it would stay untrained"),
        ({"spans": {"low": (0, 3), "fine": (4, None)}, "own_share": 0.0}, "no stage is trained at step 3: let one"),
        (
            {"spans": {"low": (2, None), "fine": (1, None)}},
            "begins at step 1 and is told what 'low' makes, which begins",
        ),
        ({"spans": {"low": (1, None), "fine": (2, None)}}, "no stage is trained at step 0: let one begin there"),
    ],
)
def test_what_cannot_be_one_run_is_told(config, joint, said):
    with pytest.raises(ConfigError, match=said):
        joint_config(cascade_of(config, **joint))


@pytest.mark.parametrize(
    ("joint", "said"),
    [
        ({"own_share": 1.5}, "joint: own_share is 1.5: it is a share of the examples"),
        ({"spans": {"fine": (4, 4)}}, r"joint: the span of stage 'fine' is \(4, 4\): give"),
    ],
)
def test_what_the_objective_refuses_leaves_nothing_behind(config, tmp_path, joint, said):
    with pytest.raises(ConfigError, match=said):
        train_cascade(cascade_of(config, **joint), tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_stages_of_one_run_are_not_trained_by_name(cascade_config, tmp_path):
    with pytest.raises(ConfigError, match="joint trains all in one run: name none, or take joint away"):
        train_cascade(cascade_config, tmp_path, ("low",))
    del cascade_config["optimiser"]
    with pytest.raises(ConfigError, match="the cascade has no 'optimiser' for it: give one"):
        train_cascade(cascade_config, tmp_path)


def test_only_a_joint_run_rests(cascade_config):
    """An optimiser of any other run may move a parameter whose gradient is 0."""
    params = {"low": {"kernel": np.ones((2, 2), np.float32)}}
    moved = []
    for task in ("joint", "diffusion"):
        cascade_config["optimiser"]["weight_decay"] = 0.1
        transform = make_training_optimiser({**cascade_config, "task": task}).transform
        updates, _ = transform.update(jax.tree.map(np.zeros_like, params), transform.init(params), params)
        moved.append(bool(np.any(updates["low"]["kernel"])))
    assert moved == [False, True]


def test_features_are_handed_on_with_their_mean_in_sampling_as_in_training():
    """Each stage's own array is without it, and what another is told of a clip is with it."""
    features = PooledMel(MelSpec(rate_hz=8000, stft=StftSpec(64, 32), bands=4, fmax_hz=4000.0, floor=1e-3), 2)
    own = SimpleNamespace(representation=dataclasses.replace(features, mean=-3.0), noise=())
    hearer = SimpleNamespace(representation=None, noise=())
    runs = {
        "features": SimpleNamespace(
            model=SimpleNamespace(objective=own),
            conditions=(),
            levels={},
            sample=lambda key, conditions, **options: np.zeros(features.shape(1, 256), np.float32),
        ),
        "fine": SimpleNamespace(
            model=SimpleNamespace(objective=hearer),
            conditions=(),
            levels={"features": Told(features)},
            sample=lambda key, conditions, **options: conditions["features"],
        ),
    }
    made = Cascade({"stages": runs, "order": tuple(runs)}, runs).make(jax.random.key(0))
    np.testing.assert_array_equal(made["fine"], np.full(features.shape(1, 256), -3.0))
