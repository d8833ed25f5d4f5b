"""The page of a listening test, as text and in a browser that is driven by its keyboard from the first key to the last.

Chromium takes commands over a pipe, so that the page under test is the page as it was written, policy and all.
"""

from __future__ import annotations

import base64
import contextlib
import html.parser
import io
import itertools
import json
import os
import pathlib
import re
import subprocess
import time

import browser
import numpy as np
import pytest
import soundfile

from audiodiff.build import listening, listening_results
from audiodiff.data import write_audio
from audiodiff.evaluation import listening_page, page
from audiodiff.evaluation.listening_page import KINDS, ListeningTest, Trial

FLAGS = [*browser.QUIET, "--mute-audio", "--remote-debugging-pipe"]
RATE, PHONE = 8000, 360
MEANT = {"reference": 100, "our-net": 71, "their-net": 50, "anchor at 2000 Hz": 30, "anchor at 1000 Hz": 10}
"""What the one listener of these tests thinks of each system, from 0 to 100."""
GIVEN = {
    "mos": {"reference": 5, "our-net": 4, "their-net": 2},
    "ab": {"our-net": 1, "their-net": 0},
    "abx": {"our-net": 1, "their-net": 0},
    "mushra": MEANT,
}


class Tab:
    """Drive one tab of Chromium by its debugging pipe: JSON messages with a zero byte at their end."""

    def __init__(self, profile):
        child_in, self._out = os.pipe()
        self._in, child_out = os.pipe()
        # Chromium reads its commands from descriptor 3 and answers on 4.
        shell = f'exec "$0" "$@" 3<&{child_in} 4>&{child_out}'
        argv = ["bash", "-c", shell, str(browser.PATH), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(argv, pass_fds=(child_in, child_out), stderr=subprocess.DEVNULL)
        os.close(child_in), os.close(child_out)
        self._numbers, self._read, self._session = itertools.count(1), b"", {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        self.call("Page.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=PHONE, height=740, deviceScaleFactor=1, mobile=True)

    def call(self, method, **parameters):
        message = {"id": next(self._numbers), "method": method, "params": parameters, **self._session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._read:
                more = os.read(self._in, 2**16)
                assert more, "Chromium has ended"
                self._read += more
            one, _, self._read = self._read.partition(b"\0")
            answer = json.loads(one)
            if answer.get("id") == message["id"]:
                assert "error" not in answer, answer
                return answer["result"]

    def js(self, expression):
        """Return the value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression, seconds=10):
        end = time.monotonic() + seconds
        while not self.js(expression):
            assert time.monotonic() < end, (
                f"{expression} never came, the page says {self.js('document.body.innerText')}"
            )
            time.sleep(0.02)

    def open(self, path):
        self.call("Page.navigate", url=path.as_uri())
        self.wait(f"location.href == {json.dumps(path.as_uri())} && document.readyState == 'complete'")

    def press(self, *keys):
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            code = {"Enter": 13, "Tab": 9, "End": 35, "ArrowRight": 39}.get(key, ord(key[0].upper()))
            for kind in ("keyDown", "keyUp"):
                event = {"key": key, "windowsVirtualKeyCode": code, **({"text": text} if kind == "keyDown" else {})}
                self.call("Input.dispatchKeyEvent", type=kind, **event)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._in), os.close(self._out)


# --- the page as text


def wav(seed, samples=400):
    return page.wav_bytes(np.random.default_rng(seed).uniform(-0.5, 0.5, samples), RATE)[0]


SOUNDS = {id: wav(number) for number, id in enumerate(("c0", "17", "9e", "5b"))}
TRIALS = [Trial("t0", ("17", "9e", "c0"), "5b")]
INJECTED = '</script><script>alert("1")</script>'


class Tags(html.parser.HTMLParser):
    """Collect the tags of a page with their attributes, and what its scripts hold; tags must close in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.open = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)


def test_the_page_asks_for_nothing_and_runs_its_own_script_alone():
    text = listening_page.render_page(ListeningTest("mushra", "f00d", TRIALS, SOUNDS, INJECTED, INJECTED))
    read = Tags(text)
    for _, attributes in read.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert all(attributes.get(name, "data:").startswith("data:") for name in ("src", "href", "action"))
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttp|WebSocket|sendBeacon|import\(", text)
    (policy,) = (a["content"] for _, a in read.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "connect-src" not in policy
    assert len(read.scripts) == 2 and "alert" not in "".join(read.scripts)
    assert "needs JavaScript" in text.partition("<noscript>")[2].partition("</noscript>")[0]


def test_the_page_holds_the_sounds_as_they_were_given():
    known = json.loads(Tags(listening_page.render_page(ListeningTest("mushra", "", TRIALS, SOUNDS))).scripts[0])
    assert {id: base64.b64decode(sound) for id, sound in known["sounds"].items()} == SOUNDS
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(known["sounds"]["9e"])))
    assert (len(heard), rate) == (400, RATE)


@pytest.mark.parametrize(
    ("kind", "trials", "sounds", "said"),
    [
        ("abc", TRIALS, SOUNDS, "unknown kind of listening test 'abc'; choose one of mos, ab, abx, mushra"),
        ("mushra", [], SOUNDS, "0 trials asks nothing"),
        ("ab", TRIALS, SOUNDS, "3 stimuli and the open one '5b': ab takes 2 and none in the open"),
        ("abx", [Trial("t", ("17", "9e"))], SOUNDS, "2 stimuli and the open one '': abx takes 2 and one in the open"),
        ("mushra", [Trial("t", ("c0",) * 13, "5b")], SOUNDS, "13 stimuli .* mushra takes 2 to 12 and one in the open"),
        ("mushra", TRIALS, {"5b": b"", "ff": b""}, "differ in 17, 9e, c0, ff: give one sound for each stimulus"),
    ],
)
def test_what_is_no_test_is_refused(kind, trials, sounds, said):
    with pytest.raises(ValueError, match=said):
        ListeningTest(kind, "", trials, sounds)


# --- the page in a browser

in_browser = pytest.mark.skipif(browser.PATH is None, reason="no Chromium on the path")


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    driven = Tab(tmp_path_factory.mktemp("profile"))
    with contextlib.closing(driven):
        yield driven


@pytest.fixture(scope="module")
def tests(tmp_path_factory) -> dict[str, tuple[pathlib.Path, dict]]:
    """Make a test of each kind over the same three folders of two clips; return pages and plans."""
    root, rng = tmp_path_factory.mktemp("listen"), np.random.default_rng(0)
    for name in ("real", "our-net", "their-net"):
        for clip in ("0_ann_0.wav", "1_ann_0.wav"):
            write_audio(root / name / clip, rng.uniform(-0.3, 0.3, 960), RATE)
    made = {}
    for kind, trials in (("mos", 6), ("ab", 2), ("abx", 2), ("mushra", 2)):
        reference = root / "real" if kind in ("mos", "mushra") else None
        systems = {name: root / name for name in ("our-net", "their-net")}
        settings = listening.Settings(kind, systems, reference, trials, anchors_hz=(1000, 2000))
        path, plan = listening.write_test(root / f"{kind}.html", settings)
        made[kind] = path, listening_results.read_plan(plan)
    return made


def begin(tab, path, listener):
    """Open a page as a new listener and start, by keys alone."""
    tab.open(path)
    tab.js("localStorage.clear()")
    tab.open(path)
    tab.js("document.getElementById('listener').focus()")
    tab.type(listener)
    tab.press("Tab", " ", "Enter")
    tab.wait("answer !== null")


def stimuli(tab):
    """Return the letters of a trial's stimuli with their ids."""
    return [tuple(one) for one in tab.js("buttons.map(one => [one.letter, one.id])")]


def hear_all(tab):
    for letter, _ in stimuli(tab):
        tab.press(letter.lower())
        tab.wait(f"buttons.find(one => one.letter === '{letter}').button.ariaLabel.endsWith('heard')")
        tab.wait("test.seamless || playing === null")


def answer(tab, kind, plan):
    """Answer a trial by keys, as MEANT and GIVEN say."""
    of = {one["id"]: one["system"] for one in plan["stimuli"]}
    rated = {letter: of[id] for letter, id in stimuli(tab) if letter not in "XR"}
    if kind == "mushra":
        for letter, system in rated.items():
            tab.press(letter.lower(), str(min(MEANT[system] // 10, 9)))
            tab.press(*["ArrowRight"] * (MEANT[system] % 10), *["End"] * (MEANT[system] == 100))
    elif kind == "mos":
        tab.press(str(GIVEN[kind][rated["A"]]))
    else:
        liked = of[dict(stimuli(tab))["X"]] if kind == "abx" else "our-net"
        tab.press("1" if rated["A"] == liked else "2")


@in_browser
@pytest.mark.parametrize("kind", KINDS)
def test_a_listener_goes_through_by_keyboard_and_the_file_is_analysed(kind, tab, tests, tmp_path):
    path, plan = tests[kind]
    text = path.read_text(encoding="utf-8")
    assert not [word for word in ("our-net", "their-net", "0_ann_0", "anchor", str(path.parent)) if word in text]
    begin(tab, path, " ann ")
    for number in range(1, len(plan["trials"]) + 1):
        tab.wait(f"document.activeElement.textContent === 'Trial {number} of {len(plan['trials'])}'")
        tab.press("1", "Enter")
        assert tab.js("Object.keys(answer.ratings).length === 0 && inputs.every(one => one.disabled)")
        hear_all(tab)
        assert tab.js("document.getElementById('next').disabled")
        answer(tab, kind, plan)
        assert tab.js("document.documentElement.scrollWidth") <= PHONE
        tab.press("Enter")
    tab.wait("!document.getElementById('end').hidden")
    results = json.loads(tab.js("document.getElementById('results').value"))
    folder = tmp_path / "results"
    tab.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    tab.js("document.getElementById('save').click()")
    end = time.monotonic() + 10
    while not (saved := list(folder.glob("ann_*.json"))):
        assert time.monotonic() < end, "nothing was saved"
        time.sleep(0.02)
    assert json.loads(saved[0].read_text(encoding="utf-8")) == results
    assert results["order"] == [one["trial"] for one in results["answers"]]
    for one in results["answers"]:
        assert one["began"] < min(one["times"].values()) <= one["answered"] and set(one["order"]) == set(one["ratings"])
        assert min(one["plays"].values()) >= 1 and min(one["seconds"].values()) >= 0.95 * 960 / RATE
    ratings = listening_results.read_results(plan, folder)
    if kind == "abx":
        assert [row.figure.value for row in listening_results.analyse(plan, ratings).rows] == [100]
    else:
        assert {(one.system, one.value) for one in ratings} == set(GIVEN[kind].items())
    assert {one.listener for one in ratings} == {"ann"}


@in_browser
def test_the_volume_can_be_set_before_anything_counts(tab, tests):
    tab.open(tests["mushra"][0])
    tab.js("localStorage.clear()")
    tab.open(tests["mushra"][0])
    tab.js("document.getElementById('volume').focus()")
    tab.press("Enter")
    tab.wait("playing !== null && elapsed() > 0.12")
    assert tab.js("playing.id") == tests["mushra"][1]["trials"][0]["reference"], "in the open, and again and again"
    tab.press(" ")
    tab.wait("playing === null")
    assert tab.js("state === null && localStorage.length === 0")


@in_browser
def test_orders_follow_from_the_name_and_favour_no_place(tab, tests):
    tab.open(tests["mushra"][0])
    ann, again, bob = (tab.js(f"begin('{name}').answers.map(one => one.order)") for name in ("ann", "ann", "bob"))
    assert ann == again != bob
    count = 2000
    drawn = tab.js(f"[...Array({count}).keys()].map(i => begin('listener ' + i).answers[0])")
    firsts = sum(one["trial"] == tests["mushra"][1]["trials"][0]["id"] for one in drawn)
    assert abs(firsts - count / 2) < 4 * (count / 4) ** 0.5
    places = np.zeros((5, 5))
    names = sorted({id for one in drawn for id in one["order"]})
    for one in drawn:
        for place, id in enumerate(one["order"]):
            places[names.index(id) % 5, place] += 1
    assert np.abs(places - count / 5).max() < 4.5 * (count * 0.2 * 0.8) ** 0.5


@in_browser
def test_sounds_are_switched_at_the_same_place(tab, tests):
    begin(tab, tests["mushra"][0], "cleo")
    tab.press("a")
    before, place, other, plays = tab.js("""new Promise(done => {
      const look = () => {
        const before = elapsed() % 0.12, other = buttons[2].id;
        if (before < 0.02 || before > 0.1) return setTimeout(look);
        toggle(other);
        done([before, playing.from, playing.id === other, answer.plays[other]]);
      };
      look();
    })""")
    assert place == pytest.approx(before, abs=5e-3) and other and plays == 1
    tab.press(" ")
    assert tab.js("playing === null && current === buttons[2].id"), "space pauses"


@in_browser
def test_a_reload_loses_nothing(tab, tests):
    path, plan = tests["mushra"]
    begin(tab, path, "dora")
    hear_all(tab)
    answer(tab, "mushra", plan)
    tab.press("Enter")
    tab.wait("state.answers[0].answered && answer && !answer.answered")
    hear_all(tab)
    tab.press("b", "7", "b")
    before = tab.js("state")
    tab.open(path)
    assert "dora has answered 1 of 2." in tab.js("document.body.innerText")
    tab.js("document.getElementById('resume').focus()")
    tab.press("Enter")
    tab.wait("answer !== null")
    after = tab.js("state")
    assert after == before and list(after["answers"][1]["ratings"].values()) == [70]
    assert tab.js("!locked() && inputs[1].value === '70'")


@in_browser
def test_without_a_store_or_without_script_the_page_says_so(tab, tests):
    path = tests["ab"][0]
    begin(tab, path, "eve")
    assert tab.js("document.getElementById('unsaved').hidden")
    source = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('refused'); } })"
    added = tab.call("Page.addScriptToEvaluateOnNewDocument", source=source)
    try:
        tab.open(path)
        tab.js("document.getElementById('listener').focus()")
        tab.type("eve")
        tab.press("Tab", " ", "Enter")
        tab.wait("answer !== null")
        assert "keeps no progress" in tab.js("document.body.innerText")
    finally:
        tab.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(path)
        said = tab.js("document.body.innerText")
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)
    assert "needs JavaScript" in said and "Start" not in said
