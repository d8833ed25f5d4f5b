from __future__ import annotations

import numpy as np
import pytest

from audiodiff.training import summary


def test_parameters_are_told_as_deep_as_there_is_room():
    params = {
        "stem": {"kernel": np.zeros((3, 4)), "bias": np.zeros(4)},
        "blocks": [{"w": np.zeros(10)}, {"w": np.zeros(10)}],
    }
    lines = summary.parameter_table(params).splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["blocks/0/w", "10"],
        ["blocks/1/w", "10"],
        ["stem/bias", "4"],
        ["stem/kernel", "12"],
        ["all", "36"],
    ]
    assert [line.split()[:2] for line in summary.parameter_table(params, rows=2).splitlines()] == [
        ["blocks", "20"],
        ["stem", "16"],
        ["all", "36"],
    ]


def test_known_accelerators_are_held_against_their_data_sheet(monkeypatch):
    class Device:
        device_kind = "NVIDIA H100 80GB HBM3"

    monkeypatch.setattr(summary.jax, "devices", lambda: [Device()])
    rate, source = summary.matmul_rate.__wrapped__(8)
    assert rate == 8 * 989e12 and source == "data sheet of NVIDIA H100, bfloat16"
    Device.device_kind = "TPU v5 lite"
    assert summary.matmul_rate.__wrapped__(1)[0] == 197e12


def test_the_rate_of_another_machine_is_measured_once():
    assert summary.matmul_rate(1) == summary.matmul_rate(1)
    rate, source = summary.matmul_rate(1)
    assert 1e8 < rate < 1e15 and source.startswith("measured")


@pytest.mark.parametrize(("value", "text"), [(1.315e11, "132 GFLOP"), (999.9e9, "1 TFLOP"), (12.0, "12 FLOP")])
def test_quantities(value, text):
    assert summary.quantity(value, "FLOP") == text
