"""The demo's own figure, the F0 error of tonal sounds, on exactly known pitches; and the script from end to end."""

from __future__ import annotations

import re
import runpy
from types import SimpleNamespace

import numpy as np
import pytest
from absl import flags

from audiodiff.data.embedded import PITCHES, SOUNDS, TONAL, EmbeddedSounds
from audiodiff.evaluation.score import Clips
from tests.experiments.test_scripts import ROOT, process

RUN = SimpleNamespace(vocabularies={"sound": SOUNDS, "pitch": PITCHES})


@pytest.fixture(scope="module")
def script() -> dict:
    """Return what the script defines, but for its flags: other scripts define some of the same names."""
    names = runpy.run_path(str(ROOT / "experiments" / "demo.py"))
    for holder in names.values():
        if isinstance(holder, flags.FlagHolder):
            delattr(flags.FLAGS, holder.name)
    return names


@pytest.fixture(scope="module")
def clips() -> Clips:
    """Make every sound at every pitch once, as long as the demo's clips are."""
    source = EmbeddedSounds(len(SOUNDS) * len(PITCHES), seed=5, length_samples=2048)
    items = [source[index] for index in range(len(source))]
    labels = {name: np.array([item[name] for item in items]) for name in ("sound", "pitch")}
    return Clips(np.stack([item["audio"][:, 0] for item in items]), labels, source.rate_hz)


def test_real_clips_are_in_tune_and_only_the_tonal_ones_count(script, clips):
    errors = script["f0_errors_cents"](RUN, clips)
    assert errors.shape == (len(TONAL) * len(PITCHES),)
    assert errors.max() < 10


def test_a_tonal_clip_without_an_f0_counts_an_octave_and_is_not_left_out(script, clips):
    tonal = np.flatnonzero(np.isin(np.array(SOUNDS)[clips.labels["sound"]], sorted(TONAL)))
    audio = clips.audio.copy()
    audio[tonal[0]] = 0
    audio[tonal[1]] = 0.1 * np.random.default_rng(0).standard_normal(audio.shape[1])
    errors = script["f0_errors_cents"](RUN, Clips(audio, clips.labels, clips.rate_hz))
    assert script["NO_F0_CENTS"] == 1200
    np.testing.assert_array_equal(errors[:2], 1200)
    assert errors.shape == tonal.shape and errors[2:].max() < 10


def test_the_neighbouring_pitch_is_a_whole_tone_off(script, clips):
    asked = np.where(clips.labels["pitch"] > 0, clips.labels["pitch"] - 1, 1)
    errors = script["f0_errors_cents"](RUN, Clips(clips.audio, {**clips.labels, "pitch": asked}, clips.rate_hz))
    np.testing.assert_allclose(errors, 200, atol=10)


def test_a_model_that_is_hardly_ever_voiced_does_not_pass(script, clips):
    silent = Clips(np.where(np.arange(len(clips.audio))[:, None] < 12, clips.audio, 0), clips.labels, clips.rate_hz)
    (row,) = script["f0_rows"](RUN, silent, clips)
    assert row.passed is False and row.figure.count == row.ceiling.count == len(TONAL) * len(PITCHES)
    assert script["f0_rows"](RUN, clips, clips)[0].passed is True


@pytest.mark.slow
def test_the_demo_runs_from_end_to_end(tmp_path):
    ended = process("demo", "--smoke", f"--workdir={tmp_path}")
    assert ended.code == 0, ended.err
    page = tmp_path / "report" / "index.html"
    assert ended.out.rstrip().endswith(f"report: {page.resolve()}")
    assert re.search(r"accuracy sound  .* \(n=12\)   expected ≥ 90 %\n", ended.out)
    assert re.search(r"median F0 error of tonal sounds  .* \(n=12\)   expected ≤ 50 cents\n", ended.out)
    html = page.read_text(encoding="utf-8")
    assert "≥ 90 %" in html and "≤ 50 cents" in html
