"""Write the page of a listening test: one HTML file that asks for nothing and does not know which system is which.

Opinion scores (ITU-T P.800), A/B preferences, ABX, and MUSHRA (ITU-R BS.1534-3) with the reference in the open and
hidden. The page carries its sounds and its script, which its content security policy names by hash, and sends nothing:
the listener saves a file. Stimuli have opaque ids; what they stand for is for whoever makes the test to keep.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from audiodiff.evaluation import page
from audiodiff.evaluation.listening_script import SCRIPT, STYLE

FORMAT = 1
"""Version of the results that a page hands over."""

MOST_STIMULI = 12
"""How many a trial may hold: BS.1534-3 advises no more, and each has a letter of its own on the keyboard."""


@dataclass(frozen=True)
class Kind:
    """Hold what a kind of test asks.

    ``choices`` are (key, words, rating of each stimulus in the order shown); without any, each stimulus has a slider.
    ``open`` names the stimulus that is heard and not rated; ``seamless`` ones are switched in mid-sound, and repeat.
    """

    question: str
    ask: str
    scale: tuple[float, float]
    choices: tuple[tuple[str, str, tuple[float, ...]], ...] = ()
    open: str = ""
    seamless: bool = False


LABELS = ("Bad", "Poor", "Fair", "Good", "Excellent")

KINDS = {
    "mos": Kind(
        "How natural does the sound seem to you?",
        "Now rate the sound.",
        (1, 5),
        tuple((str(score), LABELS[score - 1], (score,)) for score in (5, 4, 3, 2, 1)),
    ),
    "ab": Kind(
        "Which of the two sounds better to you?",
        "Now choose one of them.",
        (0, 1),
        (("1", "A is better", (1, 0)), ("2", "B is better", (0, 1)), ("0", "No preference", (0.5, 0.5))),
    ),
    "abx": Kind(
        "X is the same sound as either A or B. Which one is it?",
        "Now choose one of them, by guess if you must.",
        (0, 1),
        (("1", "X is A", (1, 0)), ("2", "X is B", (0, 1))),
        open="X",
    ),
    "mushra": Kind(
        "How good is each sound, compared with the reference?",
        "Now rate every sound. One of them is the reference itself: give it 100.",
        (0, 100),
        open="Reference",
        seamless=True,
    ),
}
"""Kind of test -> what it asks."""


@dataclass(frozen=True)
class Trial:
    """Hold the ids of the stimuli to be rated, in an order that tells nothing, and of the one in the open, if any."""

    id: str
    stimuli: tuple[str, ...]
    reference: str = ""


@dataclass(frozen=True)
class ListeningTest:
    """Hold all that a page shows and plays. ``sounds`` are WAV files by stimulus id; ``plan`` is its plan's hash."""

    kind: str
    plan: str
    trials: Sequence[Trial]
    sounds: Mapping[str, bytes] = field(repr=False)
    title: str = "A listening test"
    notice: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of listening test {self.kind!r}; choose one of {', '.join(KINDS)}")
        if not self.trials:
            raise ValueError("a listening test of 0 trials asks nothing: give at least one")
        choices, named = KINDS[self.kind].choices, bool(KINDS[self.kind].open)
        least, most = (len(choices[0][2]),) * 2 if choices else (2, MOST_STIMULI)
        for trial in self.trials:
            if not least <= len(trial.stimuli) <= most or bool(trial.reference) != named:
                count = str(least) if least == most else f"{least} to {most}"
                raise ValueError(
                    f"trial {trial.id!r} has {len(trial.stimuli)} stimuli and the open one {trial.reference!r}: "
                    f"{self.kind} takes {count} and {'one' if named else 'none'} in the open"
                )
        asked = {id for trial in self.trials for id in (*trial.stimuli, trial.reference) if id}
        if lost := asked ^ self.sounds.keys():
            raise ValueError(f"sounds and trials differ in {', '.join(sorted(lost))}: give one sound for each stimulus")


def render_page(test: ListeningTest) -> str:
    """Return the page as HTML text."""
    kind = KINDS[test.kind]
    known = {
        "format": FORMAT,
        "plan": test.plan,
        "kind": test.kind,
        "ask": kind.ask,
        "open": kind.open,
        "seamless": kind.seamless,
        "labels": LABELS,
        "choices": [{"key": key, "label": label, "ratings": ratings} for key, label, ratings in kind.choices],
        "trials": [{"id": one.id, "stimuli": one.stimuli, "reference": one.reference} for one in test.trials],
        "sounds": {id: base64.b64encode(test.sounds[id]).decode("ascii") for id in sorted(test.sounds)},
    }
    style = page.STYLE + STYLE
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
 style-src {_source(style)}; script-src {_source(SCRIPT)}; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{html.escape(test.title)}</title>
<style>{style}</style>
</head>
<body>
<main>
<header><h1>{html.escape(test.title)}</h1></header>
<noscript><p class="miss">This test runs in your browser and needs JavaScript, which is switched off: switch it on and
load the page again.</p></noscript>
{_start(test, kind)}
<section id="trial" aria-labelledby="heading" hidden>
<progress id="progress" aria-label="Trials done"></progress>
<h2 id="heading" tabindex="-1"></h2>
<p>{html.escape(kind.question)}</p>
<div id="stimuli"></div>
<progress id="position" max="1" aria-hidden="true"></progress>
<fieldset id="answers" aria-label="{html.escape(kind.question)}"></fieldset>
<p id="status" role="status"></p>
<button id="next" class="main" type="button">Next</button>
<p id="unsaved" class="aside" hidden>This browser keeps no progress: please do not reload or leave the page.</p>
</section>
<section id="end" aria-labelledby="thanks" hidden>
<h2 id="thanks" tabindex="-1">Thank you, that was all</h2>
<p>Save your answers and send the file to whoever asked you to listen. If saving does not work, copy the text.</p>
<p><a id="save" class="button main">Save the answers</a></p>
<label>Your answers<textarea id="results" readonly></textarea></label>
<button class="anew" type="button">Another listener</button>
</section>
</main>
<script type="application/json" id="test">{_inside_script(known)}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _start(test: ListeningTest, kind: Kind) -> str:
    """Return what comes before the first trial: what is asked and kept, the keys, the volume, who listens."""
    letters = "letters play the sound of that name, " if len(test.trials[0].stimuli) > 1 else ""
    keys = "0 to 9 set the slider in tens, the arrow keys in ones" if not kind.choices else "digits choose an answer"
    switch = "Switch between them as often as you like: playback goes on at the same place." if kind.seamless else ""
    return f"""<section id="start" aria-label="Before you start" hidden>
{page.paragraphs(test.notice)}
<p>You will hear short sounds in {len(test.trials)} trials, and answer one question in each:
<b>{html.escape(kind.question)}</b> There is no right opinion, only yours.</p>
<ul>
<li>Use headphones in a quiet room.</li>
<li>Hear every sound of a trial in full; then you can answer. {switch}</li>
<li>By mouse, by touch or by keys: space plays and pauses, {letters}{keys}, Enter goes on.</li>
</ul>
<h2>Volume</h2>
<p>Play the sample and set a volume that is comfortable. Then leave it: all sounds are equally loud. If you hear
nothing on a phone, look at its mute switch.</p>
<button id="volume" type="button">▶ Play the sample</button>
<div id="again" hidden>
<h2>Welcome back</h2>
<p id="welcome"></p>
<button id="resume" class="main" type="button">Go on</button>
<button class="anew" type="button">Another listener</button>
</div>
<form id="form"><div id="first">
<h2>Before you start</h2>
<p>Taking part is voluntary, and you may stop at any time by closing the page. The page sends nothing. Your answers stay
in this browser until you save them as a file and pass it on. The file holds the name that you type, your answers, when
you gave them, and how often and how long you played each sound.</p>
<label class="field">A name or number for you, of your choice
<input id="listener" type="text" required maxlength="40" autocomplete="off" spellcheck="false"></label>
<label class="field"><input id="consent" type="checkbox" required> I have read this and want to take part.</label>
<button class="main" type="submit">Start</button>
</div></form>
</section>"""


def _source(text: str) -> str:
    """Return what a content security policy calls an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _inside_script(values: object) -> str:
    """Return values as JSON that cannot end the element that holds it."""
    return json.dumps(values, allow_nan=False).replace("<", "\\u003c")
