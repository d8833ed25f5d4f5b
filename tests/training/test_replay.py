"""A run that cannot go on leaves the step that stopped it, and the step can be taken again."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from linear_regression import LinearData, LinearRegression, assert_same, run

from audiodiff.training import NonFiniteError
from audiodiff.training.replay import load_replay, report, save_replay


class Poisoned(LinearData):
    """Data whose targets are NaN for a few steps."""

    def __init__(self, first, last):
        super().__init__()
        self.bad = range(first, last)

    def __getitem__(self, k):
        batch = super().__getitem__(k)
        return batch | {"target": batch["target"] * (np.nan if k in self.bad else 1)}


@dataclasses.dataclass(frozen=True)
class Delicate(LinearRegression):
    """An objective that breaks on example 3 of every batch from step 7 on, by what the step alone knows."""

    def __call__(self, params, context, batch):
        losses, measured = super().__call__(params, context, batch)
        broken = (context.step >= 7) & (batch["draw"] % 8 == 3)
        return losses * jnp.where(broken, jnp.nan, 1.0), measured


@pytest.mark.parametrize(
    "layout", [{"devices": 1}, {"strategy": "pmap", "devices": 4}, {"strategy": "jit", "devices": 4}]
)
def test_the_step_is_kept_as_it_was_though_good_ones_came_after(tmp_path, layout):
    """Steps 7 to 10 are bad and 11 is good, which the loop has begun when it learns of 10."""
    undisturbed = run(tmp_path / "seven", 7, **layout)
    with pytest.raises(
        NonFiniteError, match=r"up to step 10: .* is kept in .*: python experiments/replay.py --workdir="
    ):
        run(tmp_path / "run", 100, batches=Poisoned(7, 11), max_skipped_in_a_row=4, **layout)
    kept = load_replay(tmp_path / "run")
    assert kept.step == 10 and kept.seed == 7
    assert_same(kept.params, undisturbed.state.params)
    assert_same(kept.ema, undisturbed.state.ema)
    expected = Poisoned(7, 11)[10]
    assert kept.batch.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(kept.batch[name], values)
    lines = report(LinearRegression(), kept)
    assert "batch: not finite in target" in lines and "losses: 8 not finite" in lines
    assert "gradients: not finite for b, w" in lines


def test_one_example_is_named_with_what_is_known_of_it(tmp_path):
    with pytest.raises(NonFiniteError):
        run(tmp_path, 100, objective=Delicate(), max_skipped_in_a_row=2)
    lines = report(Delicate(), load_replay(tmp_path))
    assert lines[0] == "step 8 of seed 7: 8 examples, 8 that count"
    assert "parameters: all finite" in lines and "batch: all finite" in lines
    assert "losses: 1 not finite" in lines
    assert any(line.startswith("  example 3: loss nan, ") and "draw 67" in line for line in lines)
    # By itself the objective is sound: what broke is the step's number.
    assert any("losses: 0 not finite" in line for line in report(LinearRegression(), load_replay(tmp_path)))


def test_what_does_not_count_is_not_to_blame(tmp_path):
    result = run(tmp_path, 2)
    batch = {name: jnp.asarray(x) for name, x in LinearData()[0].items()}
    batch |= {"weight": batch["weight"].at[2].set(0.0), "target": batch["target"].at[2].set(jnp.nan)}
    save_replay(tmp_path, result.state, batch, step=1, seed=7)
    lines = report(LinearRegression(), load_replay(tmp_path, 1))
    assert lines[0].endswith("8 examples, 7 that count")
    assert any(line.startswith("losses: 0 not finite, mean") for line in lines)
    assert "gradients: all finite" in lines


def test_a_step_that_was_not_kept_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no step to replay: no run stopped there"):
        load_replay(tmp_path)
    result = run(tmp_path, 1)
    save_replay(tmp_path, result.state, {n: jnp.asarray(x) for n, x in LinearData()[0].items()}, step=1, seed=7)
    with pytest.raises(FileNotFoundError, match="holds no step 5 to replay: it holds steps 1"):
        load_replay(tmp_path, 5)
