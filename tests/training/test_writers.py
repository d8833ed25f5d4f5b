from __future__ import annotations

import io
import json
import resource
import sys
import time
import types
import wave

import numpy as np
import pytest

from audiodiff.training.writers import METRICS_FILE, Writer, read_metrics


def test_lines_survive_and_a_restart_drops_what_comes_again(tmp_path):
    with Writer(tmp_path) as writer:
        for step in range(5):
            writer.scalars(step, {"train/loss": np.float32(1 / (step + 1))})
    with open(tmp_path / METRICS_FILE, "a") as file:
        file.write('{"step": 1, "tr')  # killed in the middle of a line
    assert [line["step"] for line in read_metrics(tmp_path)] == [0, 1, 2, 3, 4]
    with Writer(tmp_path, start=3) as writer:
        writer.scalars(3, {"train/loss": 9.0})
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    assert lines[1]["train/loss"] == 0.5 and lines[3]["train/loss"] == 9.0


def test_a_full_disk_is_an_error_and_not_an_endless_wait(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = Writer(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # files that cannot grow, as on a full disk
    try:
        with pytest.raises(OSError, match="File too large"):
            for step in range(1000):
                writer.scalars(step, {f"train/{name}": 1.0 for name in "abcdefgh"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.close()


def test_a_figure_that_is_not_finite_is_null_and_the_line_stays_valid_json(tmp_path):
    with Writer(tmp_path) as writer:
        writer.scalars(0, {"a": float("nan"), "b": float("inf"), "c": 1.0})
    assert (tmp_path / METRICS_FILE).read_text() == '{"step": 0, "a": null, "b": null, "c": 1.0}\n'
    assert "NaN" not in json.dumps(read_metrics(tmp_path))


def test_flushed_lines_are_on_disk_while_the_run_goes_on(tmp_path):
    with Writer(tmp_path) as writer:
        writer.scalars(0, {"a": 1.0})
        writer.flush()
        assert read_metrics(tmp_path) == [{"step": 0, "a": 1.0}]


def test_tensorboard_reads_back_scalars_audio_and_images(tmp_path, monkeypatch):
    second = time.time()
    monkeypatch.setattr("tensorboardX.event_file_writer.time.time", lambda: second)  # two starts within a second
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    rate_hz, pixels = 8000, np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    tone = 0.5 * np.sin(2 * np.pi * 440 / rate_hz * np.arange(400))
    stereo = np.stack([tone, -tone], axis=1)
    with Writer(tmp_path) as writer:
        for step in range(4):
            writer.scalars(step, {"train/loss": float(step)})
        writer.audio(1, "sample", stereo, rate_hz)
        writer.image(1, "spectrogram", pixels)
        writer.text(1, "note", "*words*")
    with Writer(tmp_path, start=2) as writer:
        writer.scalars(2, {"train/loss": 20.0})
    events = accumulator.EventAccumulator(str(tmp_path), {"audio": 0, "images": 0, "scalars": 0})
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(0, 0.0), (1, 1.0), (2, 20.0)]
    (sound,) = events.Audio("sample")
    with wave.open(io.BytesIO(sound.encoded_audio_string)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (rate_hz, 2, 400)
        samples = np.frombuffer(file.readframes(400), np.int16).reshape(400, 2) / 32768
    np.testing.assert_allclose(samples, stereo, atol=1e-4)
    (picture,) = events.Images("spectrogram")
    assert (picture.height, picture.width) == (4, 6)
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(picture.encoded_image_string))
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pixels)


class FakeRun:
    """Stand in for a W&B run: remember what it is told."""

    def __init__(self, **options):
        self.options, self.logged, self.metrics, self.ended = options, [], [], False

    def define_metric(self, *names, **options):
        self.metrics.append((names, options))

    def log(self, values):
        self.logged.append(values)

    def finish(self):
        self.ended = True


@pytest.fixture
def wandb(monkeypatch):
    fake = types.ModuleType("wandb")
    fake.runs = []
    fake.init = lambda **options: fake.runs.append(FakeRun(**options)) or fake.runs[-1]
    fake.Audio = lambda samples, sample_rate: ("audio", samples.shape, sample_rate)
    fake.Image = lambda pixels: ("image", pixels.shape)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_weights_and_biases_gets_all_of_it_under_steps_that_may_go_back(tmp_path, wandb):
    for start in (0, 4):
        with Writer(tmp_path, start=start, wandb="offline", config={"seed": 1}) as writer:
            writer.scalars(5, {"held_out/loss": 2.0})
            writer.scalars(4, {"train/loss": 1.0, "train/none": float("nan")})
            writer.audio(5, "sample", np.zeros(400), 8000)
            writer.image(5, "picture", np.zeros((4, 6, 3), np.uint8))
    first, second = wandb.runs
    assert first.options["mode"] == "offline" and first.options["config"] == {"seed": 1}
    assert first.options["id"] == second.options["id"]  # a run that goes on is the same run
    assert first.metrics == [(("*",), {"step_metric": "step"})] and first.ended
    assert first.logged == [
        {"held_out/loss": 2.0, "step": 5},
        {"train/loss": 1.0, "step": 4},
        {"sample": ("audio", (400, 1), 8000), "step": 5},
        {"picture": ("image", (4, 6, 3)), "step": 5},
    ]


def test_weights_and_biases_are_asked_for_rightly(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="wandb='cloud' must be offline, online or empty"):
        Writer(tmp_path, wandb="cloud")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RuntimeError, match="wandb is not installed: pip install"):
        Writer(tmp_path, wandb="offline")


def test_an_inactive_writer_writes_nothing(tmp_path):
    with Writer(tmp_path, active=False) as writer:
        writer.scalars(0, {"a": 1.0})
        writer.audio(0, "a", np.zeros(10), 8000)
        writer.image(0, "a", np.zeros((2, 2, 3), np.uint8))
        writer.flush()
    assert list(tmp_path.iterdir()) == []


def test_bad_media_are_refused(tmp_path):
    with Writer(tmp_path, active=False) as writer:
        with pytest.raises(ValueError, match=r"'a' has peak 1\.5"):
            writer.audio(0, "a", np.array([0.0, 1.5]), 8000)
        with pytest.raises(ValueError, match="peak nan"):
            writer.audio(0, "a", np.array([0.0, np.nan]), 8000)
        with pytest.raises(ValueError, match=r"\(samples, channels\)"):
            writer.audio(0, "a", np.zeros((1, 2, 3)), 8000)
        with pytest.raises(ValueError, match=r"'a' is float64\[2, 2, 3\]"):
            writer.image(0, "a", np.zeros((2, 2, 3)))
