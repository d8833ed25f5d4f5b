"""What the documentation names is there: each test that a page cites for a claim, and each file that it links to.

docs/extending.md is not read for tests: those that it names belong to its planted example (see test_extending.py).
The same checkers are run on planted pages, to see that they see.
"""

from __future__ import annotations

import ast
import functools
import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
CITING = {"docs/ledger.md": "tests", "docs/corrections.md": ".", "docs/training.md": "tests/training"}
"""Page -> the folder that its paths are below, as the page itself says."""
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]


def citations(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, file, test) as a page cites them; without a file the last one of the line is meant, if any."""
    for number, line in enumerate(text.splitlines(), 1):
        file = ""
        for named, test in re.findall(r"((?:[\w.-]+/)*test_\w+\.py)?(?:::(\w+))?", line):
            file = named or file
            if named or test:
                yield number, file, test


@functools.cache
def defined_tests(path: pathlib.Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def missing_tests(text: str, folder: pathlib.Path) -> list[str]:
    """List the citations of a page that lead nowhere, as "line: what"."""
    found = []
    for line, file, test in citations(text):
        if not file:
            found.append(f"{line}: ::{test} follows no file")
        elif not (folder / file).is_file():
            found.append(f"{line}: there is no {file}")
        elif test and test not in defined_tests(folder / file):
            found.append(f"{line}: {file} has no {test}")
    return found


def broken_links(text: str, folder: pathlib.Path) -> list[str]:
    """List the relative links of a page that lead to no file; what stands in code is no link."""
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.M | re.S)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", prose)]
    # Another scheme is another place, and nothing before the # is the page itself.
    return [target for target in targets if target and ":" not in target and not (folder / target).exists()]


@pytest.mark.parametrize("page", CITING)
def test_every_cited_test_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert sum(bool(test) for _, _, test in citations(text)) >= 8, "as many at least were read"
    found = missing_tests(text, ROOT / CITING[page])
    assert not found, "\n".join(f"{page}:{line}" for line in found)


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_to_a_file(page):
    assert broken_links((ROOT / page).read_text(encoding="utf-8"), (ROOT / page).parent) == []


def test_the_checkers_see(tmp_path):
    (tmp_path / "dsp").mkdir()
    (tmp_path / "dsp" / "test_a.py").write_text("def test_one():\n    def test_inner(): pass\n\ndef test_two(): pass\n")
    page = "| `dsp/test_a.py::test_one`, ::test_two; dsp/test_a.py |\n| ::test_one |\n"
    page += "| dsp/test_a.py::test_three, ::test_inner | dsp/test_b.py::test_one |\n| dsp/test_c.py |\n"
    assert missing_tests(page, tmp_path) == [
        "2: ::test_one follows no file",
        "3: dsp/test_a.py has no test_three",
        "3: dsp/test_a.py has no test_inner",
        "3: there is no dsp/test_b.py",
        "4: there is no dsp/test_c.py",
    ]
    links = "[a](dsp/test_a.py#L1), [b](#here), [c](https://example.org/x), [d](gone.md#part), `x[0](y)`\n"
    assert broken_links(links + "```python\nx[0](y)\n```\n[e](dsp/gone.py)\n", tmp_path) == ["gone.md", "dsp/gone.py"]
