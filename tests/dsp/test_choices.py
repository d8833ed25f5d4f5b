"""An unknown name is refused with the nearest known one first."""

import pytest

from audiodiff.dsp.choices import check_choice


def test_check_choice_lists_the_nearest_first():
    check_choice("colour", "red", ["green", "red"])
    with pytest.raises(ValueError, match="^colour is 'gren'; choose one of green, red$"):
        check_choice("colour", "gren", ["red", "green"])
