from __future__ import annotations

import io
import os
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest

from audiodiff.evaluation import pictures

RATE = 8000


def sine(frequency_hz, seconds=0.5, amplitude=1.0):
    return amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(int(seconds * RATE)) / RATE)


def decoded(picture):
    return matplotlib.image.imread(io.BytesIO(picture.png), format="png")


@pytest.mark.parametrize("frequency_hz, amplitude", [(1000, 1.0), (2500, 0.5), (437.5, 1e-4)])
def test_a_sine_has_its_level_at_its_frequency(frequency_hz, amplitude):
    level, hop_s = pictures.level_db(sine(frequency_hz, amplitude=amplitude), RATE)
    inside = level[len(level) // 4 : -len(level) // 4]
    np.testing.assert_allclose(inside.max(axis=1), 20 * np.log10(amplitude), atol=0.01)
    assert np.all(inside.argmax(axis=1) * RATE / 512 == frequency_hz)
    assert len(level) * hop_s == pytest.approx(0.5, abs=hop_s)


def test_a_click_is_drawn_at_its_time():
    click = np.zeros(RATE)
    click[6000] = 1
    level, hop_s = pictures.level_db(click, RATE)
    assert level.max(axis=1).argmax() * hop_s == pytest.approx(0.75, abs=hop_s)


def test_silence_and_two_channels_have_a_level():
    assert np.all(pictures.level_db(np.zeros(100), RATE)[0] == pictures.SMALLEST_DB)
    left = sine(1000)
    both = pictures.level_db(np.stack([left, -left], axis=-1), RATE)[0]
    np.testing.assert_allclose(both, pictures.level_db(left, RATE)[0])


def test_png_and_pixels_are_one_picture_clear_behind_and_on_white():
    picture = pictures.spectrogram(sine(1000), RATE, title="tone")
    png = decoded(picture)
    assert picture.pixels.dtype == np.uint8 and picture.pixels.shape == (*png.shape[:2], 3)
    opaque = png[..., 3] == 1
    np.testing.assert_array_equal(picture.pixels[opaque], np.rint(png[..., :3][opaque] * 255))
    assert png[0, 0, 3] == 0 and np.all(picture.pixels[0, 0] == 255)


def brightest_row(picture):
    """The height at which the picture is brightest, 0 at the bottom: where the sine was drawn."""
    height, width = picture.pixels.shape[:2]
    middle = picture.pixels[:, width // 3 : width // 2].astype(float)
    coloured = np.where(np.ptp(middle, axis=-1) > 8, middle.sum(axis=-1), 0)  # not the white around, nor the grey ink
    return 1 - coloured.mean(axis=1).argmax() / height


def test_frequency_goes_up_and_the_mel_axis_spreads_the_low_end():
    low, high = (pictures.spectrogram(sine(f), RATE) for f in (500, 3000))
    assert brightest_row(low) < 0.45 < 0.6 < brightest_row(high)
    assert brightest_row(pictures.spectrogram(sine(500), RATE, scale="mel")) > brightest_row(low) + 0.1


def test_clips_under_one_top_can_be_compared_by_eye():
    loud, quiet = sine(1000), sine(1000, amplitude=0.01)
    top = pictures.shared_top_db([loud, quiet], RATE)
    assert top == pytest.approx(0, abs=0.01)
    drawn = [pictures.spectrogram(clip, RATE, top_db=top).pixels.astype(int) for clip in (loud, quiet)]
    clip_area = (slice(20, 150), slice(100, 250))
    assert drawn[0][clip_area].sum() > 1.2 * drawn[1][clip_area].sum()


def test_a_grid_has_a_row_per_class_and_bears_missing_clips():
    one = pictures.spectrogram_grid([("a", sine(500), sine(600))], RATE)
    two = pictures.spectrogram_grid([("a", sine(500), None), ("b", None, None)], RATE)
    assert two.pixels.shape[0] > 1.6 * one.pixels.shape[0] and two.pixels.shape[1] == one.pixels.shape[1]


@pytest.mark.parametrize("width", [1, 4, 5, 40])
def test_running_mean_equals_nanmean(width):
    values = np.random.default_rng(0).normal(size=12)
    values[[0, 5, 6, 7]] = np.nan
    width_used = min(width, 12)
    half = width_used // 2
    expected = [
        np.mean(finite)
        if (finite := [v for v in values[max(0, i - half) : i - half + width_used] if v == v])
        else np.nan
        for i in range(12)
    ]
    np.testing.assert_allclose(pictures.running_mean(values, width), expected)


def test_curves_bear_gaps_single_points_and_nothing_at_all():
    steps = np.arange(0, 100, 10)
    losses = np.stack([np.exp(-steps / 50), np.full(10, np.nan), np.where(steps % 20, np.nan, 0.3)], axis=1)
    for picture in (
        pictures.loss_by_level(steps, losses, ["sigma 0.1", "sigma 1", "sigma 10"]),
        pictures.loss_curves({"train": (steps, losses[:, 0]), "held-out": ([50], [0.4])}),
        pictures.loss_curves({"train": ([], [])}),
        pictures.curves({"signed": (steps, steps - 50.0)}, x_label="x", y_label="y (dB)"),
    ):
        assert decoded(picture).shape[:2] == picture.pixels.shape[:2]


def test_pictures_need_no_display_and_leave_pyplot_alone():
    code = (
        "import sys, numpy; from audiodiff.evaluation import pictures;"
        "pictures.spectrogram(numpy.ones(800), 8000); print('matplotlib.pyplot' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment | {"MPLBACKEND": "TkAgg"}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


@pytest.mark.parametrize(
    "attempt, named",
    [
        (lambda: pictures.spectrogram([], RATE), r"shape \(0, 1\)"),
        (lambda: pictures.spectrogram([1.0, np.nan], RATE), "finite samples"),
        (lambda: pictures.spectrogram(np.ones(900), RATE, scale="bark"), "'bark' is unknown: choose"),
        (lambda: pictures.spectrogram_grid([], RATE), "no clips"),
        (lambda: pictures.loss_curves({"train": ([1, 2], [1])}), "'train' has x"),
        (lambda: pictures.loss_by_level([1, 2], [[1.0], [2.0]], ["a", "b"]), "2 steps and 2 levels"),
    ],
)
def test_refusals_name_value_and_mend(attempt, named):
    with pytest.raises(ValueError, match=named):
        attempt()
