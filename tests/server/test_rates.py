"""How fast a key may go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.errors import ConfigurationError
from llm_metering.server import ServerOptions, rates
from llm_metering.server.rates import Rates


@given(
    per_minute=st.integers(1, 6000),
    pauses=st.lists(st.floats(0, 30), min_size=1, max_size=60),
)
def test_never_faster_than_the_rate_but_for_a_burst(per_minute, pauses):
    """Over any while: ten seconds' worth at once, and then the rate; who waits as told may go."""
    now = [0.0]
    bucket = Rates(clock=lambda: now[0])
    for allowed, pause in enumerate(pauses, start=1):
        now[0] += pause
        wait = bucket.wait("key", per_minute)
        if wait:
            now[0] += wait + 1e-6
            assert bucket.wait("key", per_minute) == 0
        assert allowed <= max(per_minute / 6, 1) + now[0] * per_minute / 60 + 1e-3


def test_one_key_waits_for_no_other_one():
    """However many there are; those that came longest ago are forgotten, and full again by then."""
    bucket = Rates(clock=lambda: 0.0)

    assert [bucket.wait("slow", 1) for _ in range(2)] == [0, 60]
    for number in range(rates._MOST + 5):
        assert bucket.wait(f"key-{number}", 1) == 0
    assert len(bucket._buckets) == rates._MOST


@pytest.mark.parametrize("value", [0, -1, True, "5", float("nan")])
def test_a_bound_that_is_none_is_refused(value):
    """By name."""
    with pytest.raises(ConfigurationError, match="max_body"):
        ServerOptions(max_body=value)
