from __future__ import annotations

import accelerator
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from accelerator import Training, digits, measure, peer, training, tried


@pytest.mark.slow
def test_the_work_of_the_digits_step_is_about_what_xla_counts_in_it():
    case = digits("smoke")
    counted = case.step.lower(case.state, *case.rest).cost_analysis()["flops"]
    # XLA leaves out the gradient by the audio: 15 % in a network as narrow as this, half a percent in that of ":gpu".
    assert 1.0 < case.flops / counted < 1.2
    assert case.audio_s == case.rest[0]["audio"].size / 8000


@pytest.mark.slow
@pytest.mark.parametrize("name, macs", [("diffwave", 8.222e10), ("unet", 7.374e9)])
def test_the_work_of_the_peers_networks_is_that_of_the_table_for_each_clip(name, macs):
    case = peer(name)
    assert case.flops / 16 == pytest.approx(6 * macs / 4, rel=1e-3)
    assert case.rest[0].shape[0] == 16 and "bfloat16" in case.note


def test_a_step_is_told_by_its_time_share_audio_and_memory(monkeypatch):
    monkeypatch.setattr(accelerator, "ROUND_S", 0.0)
    step = jax.jit(lambda state, x: (state + x, jnp.sum(x)), donate_argnums=0)
    case = Training("case", step, jnp.zeros(1000), (jnp.ones(1000),), 6e9, 2.0, 8000, "a note")
    found = {reading.name.removeprefix("case, step"): reading.figure for reading in training(lambda: case, 3, 1e12)}
    median_s = found[""].value / 1e3
    np.testing.assert_allclose(found[": MFU"].value, 100 * 6e9 / median_s / 1e12)
    np.testing.assert_allclose(found[": audio"].value, 2.0 / median_s)
    assert found[": compilation"].value > 0
    assert found[": memory of the program"].value >= 2 * 4000 / 1e9  # the state, which its successor takes, and x
    assert found[": memory of the program"].value < 3 * 4000 / 1e9


def test_what_the_device_refuses_is_left_out_with_a_note(capsys):
    def part():
        yield 1
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    assert list(tried("a part", part)) == [1]
    assert "a part was left out: RESOURCE_EXHAUSTED" in capsys.readouterr().err


def test_a_cpu_measures_nothing(capsys):
    assert list(measure(1)) == []
    assert "nothing was measured" in capsys.readouterr().err
