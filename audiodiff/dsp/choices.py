"""Refuse an unknown name with an error that lists the known ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def check_choice(field: str, value: str, valid: Iterable[str]) -> None:
    """Raise ValueError unless value is one of valid; the message names the valid ones, nearest first."""
    names = list(valid)
    if value in names:
        return
    names.sort(key=lambda name: difflib.SequenceMatcher(None, name, str(value)).ratio(), reverse=True)
    raise ValueError(f"{field} is {value!r}; choose one of {', '.join(names)}")
