"""A comparison's cells are trained to both budgets, once, and what cannot be compared is refused by name."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from command import plain

from audiodiff.build import comparison_cells
from audiodiff.build.choices import ConfigError
from audiodiff.build.comparison_cells import (
    Bench,
    Cell,
    Comparison,
    _speed_record,
    calibrate,
    check_parameters,
    evaluate,
    marks,
    pending,
    select,
    train,
    train_cell,
)
from audiodiff.build.run import load_run
from audiodiff.build.step_costs import StepCost
from configs import compare_digits


@pytest.fixture
def comparison(_configs, tmp_path) -> Comparison:
    """Return a comparison of two sizes of the tiny model, on sounds that need no files."""
    config = plain(compare_digits.get_config("smoke"))
    arm = copy.deepcopy(_configs["smoke"])
    arm["training"].update(ema={"long": ("power", 0.1)}, ema_choice="long", snapshot_every=0, held_out_clips=0)
    arm["training"].update(watch_clips=0)
    arm["optimiser"]["schedule"] = "constant"
    config["data"] = arm.pop("data")
    other = copy.deepcopy(arm)
    other["network"]["residual_channels"] = 9
    config.update(order=("small", "large"), arms={"small": arm, "large": other}, seeds=(0, 1), parameters_within=0.5)
    return Comparison(config, tmp_path / "runs", tmp_path / "results")


def calibrated(comparison: Comparison, flops: float = 1e6, seconds: float = 0.1) -> Comparison:
    """Write a calibration by hand: a step of each arm takes so much."""
    cost = {"parameters": 10, "flops": flops, "seconds": seconds}
    arms = {arm: {**cost, "config_hash": comparison.identity(arm)} for arm in comparison.arms}
    comparison.write("calibration", {"arms": arms})
    return comparison


def changed(comparison: Comparison, **changes) -> Comparison:
    return Comparison({**comparison.config, **changes}, comparison.workdir, comparison.results)


def test_cells_are_arms_by_seeds_in_their_order_and_some_can_be_chosen(comparison):
    shared, cells = select(comparison, [])
    assert shared == ["judge", "vocoder"]
    assert [cell.name for cell in cells] == ["small_0", "small_1", "large_0", "large_1"]
    assert select(comparison, ["vocoder", "large_1"]) == (["vocoder"], [Cell("large", 1)])
    with pytest.raises(ConfigError, match="unknown cell 'large_2'; choose one of large_"):
        select(comparison, ["large_2"])


def test_arms_of_unlike_size_are_refused_with_both_named(comparison):
    counts = check_parameters(comparison)
    assert counts["large"] > counts["small"]
    with pytest.raises(
        ConfigError, match=rf"large has {counts['large']:,} parameters and small {counts['small']:,}, mo"
    ):
        check_parameters(changed(comparison, parameters_within=0.01))


def test_a_mel_that_the_judge_does_not_hear_is_refused_before_anything_is_trained(comparison):
    arms = copy.deepcopy(dict(comparison.config["arms"]))
    arms["large"]["representation"]["mel"] = {"name": "hifigan"}
    other = changed(comparison, arms=arms)
    with pytest.raises(ConfigError, match=r"large speaks the mel {'name': 'hifigan'} and the judge hears .*librosa"):
        comparison_cells._check_mels(other)


def test_marks_are_as_many_steps_as_the_budgets_pay_for(comparison):
    budget = {"flops": 7.9e6, "seconds": 0.35}
    assert marks(calibrated(changed(comparison, budget=budget)), "small") == {"flops": 7, "clock": 3}


def test_no_budget_buys_less_than_a_step(comparison):
    budget = {"flops": 1.0, "seconds": 1e-9}
    assert marks(calibrated(changed(comparison, budget=budget)), "small") == {"flops": 1, "clock": 1}


def test_before_the_calibration_there_are_no_marks(comparison):
    with pytest.raises(ConfigError, match=r"holds no calibration.json: run --stage=calibrate on a quiet machine"):
        marks(comparison, "small")


def test_a_calibration_is_made_once_and_holds_on_any_machine(comparison, monkeypatch):
    costs = {"small": StepCost(10, 1e6, 0.1), "large": StepCost(11, 2e6, 0.2)}
    monkeypatch.setattr(comparison_cells, "step_costs", lambda *arguments, **options: costs)
    first = calibrate(comparison)
    assert first["arms"]["large"]["flops"] == 2e6
    assert set(first["arms"]) == {"small", "large"} and first["made"]["machine"]
    monkeypatch.setattr(comparison_cells, "step_costs", lambda *arguments, **options: pytest.fail("measured again"))
    assert calibrate(comparison) == first
    elsewhere = {**comparison.config, "data": {**comparison.config["data"], "root": "/elsewhere"}}
    assert calibrate(changed(comparison, **elsewhere)) == first


def test_results_of_another_config_are_refused(comparison):
    calibrated(comparison)
    arms = copy.deepcopy(dict(comparison.config["arms"]))
    arms["large"]["optimiser"]["learning_rate"] = 0.5
    with pytest.raises(
        ConfigError, match=r"measured 'large' in the config \w+ and it is now \w+: take the config back"
    ):
        marks(changed(comparison, arms=arms), "large")
    comparison.write("large_0", {"arm": "large", "config_hash": "another"})
    with pytest.raises(
        ConfigError, match=r"large_0.json is of the config another and 'large' is now \w+: take the con"
    ):
        pending(comparison, comparison.cells)


def test_results_by_another_measure_are_refused_and_the_calibration_stays(comparison):
    """A larger budget or other clips make other cells of the same steps; where the runs lie makes none."""
    for cell in calibrated(comparison).cells:
        comparison.write(cell.name, {"arm": cell.arm, "config_hash": comparison.identity(cell.arm, measured=True)})
    moved = Comparison(comparison.config, comparison.workdir / "moved", comparison.results)
    assert not pending(moved, comparison.cells)
    for change in ({"clips": 21}, {"budget": {"flops": 1e9, "seconds": 1.0}}):
        other = changed(comparison, **change)
        assert marks(other, "small")
        with pytest.raises(ConfigError, match="keep the results of this one in another --results"):
            pending(other, comparison.cells)


def test_a_cell_that_is_not_trained_yet_is_left_out(comparison, capsys):
    evaluate(calibrated(comparison), ["small_1"])
    assert "small_1 is not trained to step " in capsys.readouterr().out
    assert not comparison.path("small_1").exists() and not comparison.path("judge").exists()


def test_damaged_results_are_told(comparison):
    comparison.results.mkdir()
    comparison.path("small_0").write_text("{")
    with pytest.raises(ConfigError, match=r"small_0.json is damaged .*: restore it, or move it away to make it anew"):
        pending(comparison, comparison.cells)


@pytest.mark.parametrize("budget", [{"flops": 2.5e6, "seconds": 0.5}, {"flops": 5.5e6, "seconds": 0.25}])
def test_a_cell_is_one_run_kept_at_both_marks(comparison, budget):
    """Two steps are paid for by one budget and five by the other, whichever is which."""
    cell = Cell("small", 1)
    comparison = calibrated(changed(comparison, budget=budget))
    train_cell(comparison, cell)
    folder = comparison.workdir / cell.name
    kept = {int(path.name) for path in (folder / "checkpoints").iterdir()}
    assert set(marks(comparison, "small").values()) == {2, 5} <= kept
    early, late = load_run(folder, step=2), load_run(folder, step=5)
    assert (early.step, late.step) == (2, 5) and early.weights_hash != late.weights_hash
    assert late.config["seed"] == 1

    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    train_cell(comparison, cell)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before, "nothing is trained again"


def test_a_cell_that_was_stopped_between_its_marks_goes_on_to_the_same_weights(comparison, tmp_path):
    """Stopped after each step, by a minute that is over at once, it ends where an undisturbed run ends."""
    comparison = calibrated(changed(comparison, budget={"flops": 2.5e6, "seconds": 0.5}))
    for _ in range(5):
        train_cell(comparison, Cell("small", 0), max_minutes=1e-9)
    whole = Comparison(comparison.config, tmp_path / "whole", comparison.results)
    train_cell(whole, Cell("small", 0))
    for step in (2, 5):
        stopped, undisturbed = (load_run(one.workdir / "small_0", step=step) for one in (comparison, whole))
        assert stopped.weights_hash == undisturbed.weights_hash


def test_where_all_is_recorded_nothing_is_trained_or_measured(comparison):
    """Neither a run nor a judge is there, and neither is asked for."""
    for cell in calibrated(comparison).cells:
        comparison.write(cell.name, {"arm": cell.arm, "config_hash": comparison.identity(cell.arm, measured=True)})
    train(comparison, [])
    evaluate(comparison, [])
    assert not comparison.workdir.exists()


def test_another_judge_than_the_one_of_the_results_is_refused(comparison, judge_workdir):
    comparison.workdir.mkdir()
    (comparison.workdir / "judge").symlink_to(judge_workdir)
    bench = Bench.load(comparison)
    assert json.loads(comparison.path("judge").read_text())["weights_hash"] == bench.judge.weights_hash
    comparison.write("judge", {"weights_hash": "another"})
    with pytest.raises(ConfigError, match=r"names the judge another, and the one in .* is \w+: bring back the run"):
        Bench.load(comparison)


def test_what_is_asked_for_is_every_combination_that_there_are_clips_of(comparison, judge_workdir):
    comparison.workdir.mkdir()
    (comparison.workdir / "judge").symlink_to(judge_workdir)
    bench = Bench.load(comparison)
    real = set(zip(*(values.tolist() for values in bench.train.labels.values()), strict=True))
    asked = list(zip(*(values.tolist() for values in bench.asked(3 * len(real)).values()), strict=True))
    assert set(asked) == real and all(asked.count(one) == 3 for one in real)


def test_the_time_of_a_step_is_a_slope_and_what_remains_is_fixed():
    record = _speed_record({2: 1.4, 8: 4.4, 14: 7.5, "exact": 0.2})
    np.testing.assert_allclose([record["step_seconds"], record["fixed_seconds"]], [0.5, 0.4])
    assert record["check"] == {"steps": 14, "expected_seconds": pytest.approx(7.4), "measured_seconds": 7.5}
    assert record["decode_seconds"] == {"exact": 0.2}
