"""A step's cost is what its arithmetic says, and parameters are those that are trained."""

from __future__ import annotations

import copy

import jax
import pytest

from audiodiff.build.choices import ConfigError
from audiodiff.build.data import make_data
from audiodiff.build.step_costs import count_parameters, step_costs, untrained


@pytest.fixture(scope="module")
def costed(_configs):
    """Return the data, and what steps of a dilated stack cost at two batch sizes."""
    config = copy.deepcopy(_configs["smoke"])
    config["network"].update({"residual_channels": 32, "residual_layers": 3, "remat": False})
    double = copy.deepcopy(config)
    double["training"]["batch_size"] *= 2
    sets = make_data(config["data"])
    return config, sets, step_costs({"one": config, "two": double}, sets, rounds=2, steps_a_turn=2)


def test_flops_are_those_of_the_convolutions_by_hand(costed):
    """Three layers of 32 channels: 3 x 32 x 64 weights of a convolution and 32 x 64 of a product at every sample.

    Each is two operations forward and four backward; what is pointwise adds less than a quarter at so few channels.
    """
    config, _, costs = costed
    weights = 3 * (3 * 32 * 64 + 32 * 64) + 32 * 32
    by_hand = 6 * weights * config["data"]["length_samples"] * config["training"]["batch_size"]
    assert by_hand < costs["one"].flops < 1.25 * by_hand


def test_twice_the_batch_is_twice_the_work_of_as_many_parameters(costed):
    _, _, costs = costed
    assert costs["two"].flops == pytest.approx(2 * costs["one"].flops, rel=0.05)
    assert costs["two"].parameters == costs["one"].parameters and costs["one"].seconds > 0


def test_parameters_are_counted_without_being_made(costed):
    config, sets, costs = costed
    assert count_parameters(config, sets) == costs["one"].parameters
    assert sum(leaf.size for leaf in jax.tree.leaves(untrained(config, sets)[1])) == costs["one"].parameters


def test_batches_of_several_lengths_have_no_one_cost(costed):
    config, _, _ = costed
    bucketed = {**config, "data": {**config["data"], "bucket_samples": (1024,)}}
    with pytest.raises(ConfigError, match="bucket_samples makes batches of several lengths"):
        step_costs({"one": bucketed}, make_data(bucketed["data"]), rounds=1, steps_a_turn=1)
