"""Give the tests of the mathematics float64, in which an order of convergence can be seen."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture
def x64() -> Iterator[None]:
    """Run one test with 64-bit numbers."""
    with jax.enable_x64(True):
        yield
