"""A clock that stands still."""

from __future__ import annotations

import pytest

from llm_metering.testing import FakeClock


def test_time_goes_by_when_it_is_told_to():
    """And not otherwise."""
    clock = FakeClock(5.0)

    before = [clock(), clock()]
    clock.advance(0.5)

    assert [*before, clock(), clock.now] == [5.0, 5.0, 5.5, 5.5]
    assert repr(clock) == "FakeClock(5.5)"


def test_a_clock_goes_back_only_on_purpose():
    """Machines' clocks do, so it can be set."""
    clock = FakeClock(5.0)

    with pytest.raises(ValueError, match="not back"):
        clock.advance(-1)
    clock.now = 3.0

    assert clock() == 3.0
