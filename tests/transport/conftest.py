"""What every test of the transport may ask for."""

from __future__ import annotations

import pytest

from .harness import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    """A clock that the test moves."""
    return FakeClock()
