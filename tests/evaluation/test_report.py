from __future__ import annotations

import base64
import io
import json
import math
import re

import browser
import numpy as np
import pytest
import soundfile

from audiodiff.evaluation import page as pages
from audiodiff.evaluation import pictures, report
from audiodiff.metrics.intervals import Figure, mean_figure, proportion_figure

RATE = 8000


def noise(seed, *shape):
    return np.random.default_rng(seed).uniform(-1, 1, shape)


REAL, GENERATED, STEREO = noise(0, 900), 0.3 * noise(1, 800), noise(2, 700, 2)
CONTENT = report.Report(
    title="Digits & <script>alert(1)</script>",
    summary="One paragraph.\n\nAnother one.",
    facts={"config hash": "9c41f2", "device": 'a "fast" <one>', "command": "python train.py --config=x.py:a&b"},
    figures=[
        report.FigureRow(
            proportion_figure("digit accuracy", 524, 600, note="judge 3f9a"),
            floor=proportion_figure("digit accuracy", 61, 600),
            ceiling=proportion_figure("digit accuracy", 293, 300),
            at_least=80,
        ),
        report.FigureRow(Figure("F0 error", 61.0, 51.0, 72.0, 40, "cents"), at_most=50),
        report.FigureRow(mean_figure("loudness", [], unit="dB"), at_least=-1, at_most=1),
        report.FigureRow(Figure("density", 0.97, 0.9, 1.04, 600)),
    ],
    pairs=[
        report.AudioPair("seven, <theo>", REAL, GENERATED, RATE),
        report.AudioPair("stereo", None, STEREO, RATE),
        report.AudioPair("broken", REAL, np.full(50, np.nan), RATE),
    ],
    plots=[pages.Plot("Loss", pictures.loss_curves({"train": ([0, 1], [2.0, 1.0])}).png, "Loss over steps, & more.")],
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return report.write_report(tmp_path_factory.mktemp("run") / "report" / "index.html", CONTENT)


@pytest.fixture(scope="module")
def read(page):
    return browser.Reader(page.read_text(encoding="utf-8"))


def content(uri, kind):
    head, _, body = uri.partition(",")
    assert head == f"data:{kind};base64"
    return io.BytesIO(base64.b64decode(body, validate=True))


def test_the_page_asks_for_nothing_and_runs_nothing(page, read):
    for _, attributes in read.tags:
        for name in ("src", "href", "srcset", "poster", "data", "action"):
            assert attributes.get(name, "data:").startswith("data:")
        assert not [name for name in attributes if name.startswith("on")]
    assert "script" not in {tag for tag, _ in read.tags}
    assert not re.search(r"https?://|@import|url\(", page.read_text(encoding="utf-8"))
    policy = next(m["content"] for m in read.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_what_was_given_is_shown_as_text(read):
    for text in (CONTENT.title, "Another one.", *CONTENT.facts.values(), "seven, <theo>", "Loss over steps, & more."):
        assert text in read.text


def test_every_picture_and_player_says_what_it_is(read):
    images, players = read.all("img"), read.all("audio")
    assert len(images) == 4 + 1 and all(len(image["alt"]) > 10 for image in images)
    assert [player["aria-label"] for player in players] == [
        "Play seven, <theo>, real",
        "Play seven, <theo>, generated",
        "Play stereo, generated",
        "Play broken, real",
    ]
    assert all("controls" in player for player in players)
    scopes = [header["scope"] for header in read.all("th")]
    assert scopes == ["col"] * 7 + ["row"] * 4


def test_every_player_holds_the_samples_given(read):
    for player, given in zip(read.all("audio"), (REAL, GENERATED, STEREO, REAL), strict=True):
        heard, rate = soundfile.read(content(player["src"], "audio/wav"))
        assert rate == RATE
        np.testing.assert_allclose(heard, given, atol=2**-16)


def test_pictures_are_png(read):
    assert all(content(i["src"], "image/png").read(8) == b"\x89PNG\r\n\x1a\n" for i in read.all("img"))


def test_figures_stand_with_interval_count_floor_ceiling_and_verdict(read):
    rows = re.split(r"digit accuracy|F0 error|loudness|density", read.text.split("Figures")[1].split("Listen")[0])[1:]
    for text in ("87.3 %", "[84.4, 89.8]", "n=600", "10.2 %", "97.7 %", "≥ 80 %", "✓", "judge 3f9a"):
        assert text in rows[0]
    assert "61 cents" in rows[1] and "≤ 50 cents" in rows[1] and "✗ missed" in rows[1]
    assert "undefined dB" in rows[2] and "n=0" in rows[2] and "-1 to 1 dB" in rows[2] and "✗ not measured" in rows[2]
    assert "0.97" in rows[3] and "✓" not in rows[3] and "✗" not in rows[3]
    assert "1 of 3 figures as expected" in read.text


def test_a_bad_clip_is_named_and_loses_nothing_else(read):
    assert "50 of 50 samples are not finite" in read.text


def test_figures_json_is_strict_and_reads_back(page):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = page.with_name("figures.json").read_text(encoding="utf-8")
    stored = json.loads(text, parse_constant=refuse)
    assert stored["facts"] == dict(CONTENT.facts)
    assert [row["passed"] for row in stored["figures"]] == [True, False, False, None]
    first, _, undefined, _ = stored["figures"]
    assert Figure.from_dict(first["figure"]) == CONTENT.figures[0].figure
    assert Figure.from_dict(first["floor"]) == CONTENT.figures[0].floor
    assert math.isnan(Figure.from_dict(undefined["figure"]).value) and undefined["ceiling"] is None


def test_a_report_reads_back_with_its_figures_and_its_clips(page):
    read = report.read_report(page.parent)
    assert (read.title, read.facts, read.floor_name) == (CONTENT.title, CONTENT.facts, CONTENT.floor_name)
    assert [row.figure.name for row in read.figures] == [row.figure.name for row in CONTENT.figures]
    assert read.figures[0] == CONTENT.figures[0] and read.figures[2].passed is False
    for pair, given in zip(read.pairs, CONTENT.pairs, strict=True):
        for got, wanted in ((pair.real, given.real), (pair.generated, given.generated)):
            if wanted is None or not np.isfinite(wanted).all():
                assert got is None
            else:
                np.testing.assert_allclose(got, wanted, atol=2**-15)


def test_what_is_no_report_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"experiments/evaluate\.py"):
        report.read_report(tmp_path)
    (tmp_path / "figures.json").write_text('{"title": "half"')
    with pytest.raises(ValueError, match="is damaged"):
        report.read_report(tmp_path)


def test_resynthesis_has_a_column_where_it_was_measured_alone():
    row = report.FigureRow(Figure("density", 0.9, 0.8, 1.0, 600), resynthesis=Figure("density", 0.95, 0.9, 1.0, 600))
    heads = [
        {attributes["data-label"] for attributes in browser.Reader(report.render_page(content)).all("td")}
        for content in (report.Report("R", "", figures=[row]), report.Report("R", "", figures=CONTENT.figures))
    ]
    assert heads[0] - heads[1] == {"Resynthesis"}


def test_loud_audio_is_turned_down_not_clipped():
    loud = 3 * REAL
    wav, gain_db = pages.wav_bytes(loud, RATE)
    heard = soundfile.read(io.BytesIO(wav))[0]
    assert gain_db == pytest.approx(-20 * math.log10(np.abs(loud).max()))
    np.testing.assert_allclose(heard, loud / np.abs(loud).max(), atol=2**-15)


@pytest.mark.parametrize("bad", [[0.0, np.nan], [np.inf], [], 0.5])
def test_wav_refuses_what_no_file_can_hold(bad):
    with pytest.raises(ValueError, match="not finite|no clip"):
        pages.wav_bytes(bad, RATE)


def test_an_empty_report_is_a_page_and_a_folder_is_not(tmp_path):
    bare = report.write_report(tmp_path / "bare.html", report.Report("Bare", ""))
    assert browser.Reader(bare.read_text(encoding="utf-8")).all("h2") == []
    with pytest.raises(ValueError, match=r"index\.html"):
        report.write_report(tmp_path, CONTENT)


@pytest.mark.skipif(browser.PATH is None, reason="no Chromium on the path")
def test_a_browser_plays_and_shows_everything_on_a_phone_and_a_desk(page, tmp_path):
    for seen in browser.look(page, tmp_path):
        assert len(seen["images"]) == 5 and min(seen["images"]) > 100
        np.testing.assert_allclose(seen["seconds"], np.array([900, 800, 700, 900]) / RATE, atol=1e-3)
        assert seen["sticks_out"] <= 1 and seen["overflow"] <= 0
