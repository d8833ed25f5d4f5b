from __future__ import annotations

import base64
import html.parser
import io
import json
import math
import re
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from audiodiff.evaluation import pictures, report
from audiodiff.metrics.intervals import Figure, mean_figure, proportion_figure

RATE = 8000
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-file-access-from-files",
    "--virtual-time-budget=20000",
]


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
    plots=[report.Plot("Loss", pictures.loss_curves({"train": ([0, 1], [2.0, 1.0])}).png, "Loss over steps, & more.")],
)


class Reader(html.parser.HTMLParser):
    """Collect every tag with its attributes, the text of the page, and whether the tags are closed in order."""

    VOID = {"meta", "link", "img", "line", "rect", "path", "circle"}

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if self.open[-1:] != ["style"] else ""

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return report.write_report(tmp_path_factory.mktemp("run") / "report" / "index.html", CONTENT)


@pytest.fixture(scope="module")
def read(page):
    return Reader(page.read_text(encoding="utf-8"))


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


def test_loud_audio_is_turned_down_not_clipped():
    loud = 3 * REAL
    wav, gain_db = report.wav_bytes(loud, RATE)
    heard = soundfile.read(io.BytesIO(wav))[0]
    assert gain_db == pytest.approx(-20 * math.log10(np.abs(loud).max()))
    np.testing.assert_allclose(heard, loud / np.abs(loud).max(), atol=2**-15)


@pytest.mark.parametrize("bad", [[0.0, np.nan], [np.inf], [], 0.5])
def test_wav_refuses_what_no_file_can_hold(bad):
    with pytest.raises(ValueError, match="not finite|no clip"):
        report.wav_bytes(bad, RATE)


def test_an_empty_report_is_a_page_and_a_folder_is_not(tmp_path):
    bare = report.write_report(tmp_path / "bare.html", report.Report("Bare", ""))
    assert Reader(bare.read_text(encoding="utf-8")).all("h2") == []
    with pytest.raises(ValueError, match=r"index\.html"):
        report.write_report(tmp_path, CONTENT)


HARNESS = """<iframe width="360" height="800"></iframe><iframe width="1100" height="800"></iframe><pre id="seen"></pre>
<script>
const look = frame => new Promise(found => {
  frame.onload = async () => {
    const page = frame.contentDocument, players = [...page.querySelectorAll("audio")];
    const right = element => element.getBoundingClientRect().right;
    await Promise.all(players.map(p => p.readyState > 0 || p.error || new Promise(done => {
      p.onloadedmetadata = p.onerror = done;
    })));
    found({
      images: [...page.images].map(i => i.naturalWidth), seconds: players.map(p => p.duration),
      sticks_out: Math.max(...[...page.querySelectorAll("main *")].map(right)) - right(page.querySelector("h2")),
      overflow: page.documentElement.scrollWidth - frame.contentWindow.innerWidth,
    });
  };
  frame.src = "report/index.html";
});
Promise.all([...document.querySelectorAll("iframe")].map(look)).then(seen => {
  document.getElementById("seen").textContent = JSON.stringify(seen);
});
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the path")
def test_a_browser_plays_and_shows_everything_on_a_phone_and_a_desk(page, tmp_path):
    """Open the untouched page at two widths: pictures decode, players know their length, nothing sticks out."""
    harness = page.parent.parent / "harness.html"
    harness.write_text(HARNESS, encoding="utf-8")
    done = subprocess.run(
        [str(BROWSER), *FLAGS, f"--user-data-dir={tmp_path}", "--dump-dom", harness.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'<pre id="seen">(.+?)</pre>', done.stdout)
    assert found, done.stderr[-2000:]
    for seen in json.loads(found[1]):
        assert len(seen["images"]) == 5 and min(seen["images"]) > 100
        np.testing.assert_allclose(seen["seconds"], np.array([900, 800, 700, 900]) / RATE, atol=1e-3)
        assert seen["sticks_out"] <= 1 and seen["overflow"] <= 0
