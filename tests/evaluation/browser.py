"""Look at pages as a reader and as a browser do."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import subprocess

PATH = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Options for a browser that shows nothing and asks nothing of anybody."""
FLAGS = [*QUIET, "--allow-file-access-from-files", "--virtual-time-budget=20000"]

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
  frame.src = "PAGE";
});
Promise.all([...document.querySelectorAll("iframe")].map(look)).then(seen => {
  document.getElementById("seen").textContent = JSON.stringify(seen);
});
</script>"""


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


def look(page, profile):
    """Open the untouched page at two widths, of a phone and a desk, and return what the browser has to say of each.

    Widths of the pictures once decoded, lengths of the sounds in seconds, and by how many pixels anything sticks out
    of the column or the window.
    """
    harness = page.parent / "harness.html"
    harness.write_text(HARNESS.replace("PAGE", page.name), encoding="utf-8")
    command = [str(PATH), *FLAGS, f"--user-data-dir={profile}", "--dump-dom", harness.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="seen">(.+?)</pre>', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(found[1])
