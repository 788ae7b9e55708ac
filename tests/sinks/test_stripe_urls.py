"""The URL of a Stripe sink: what it may say, and which book it means."""

from __future__ import annotations

from datetime import timedelta

import pytest

from llm_metering.errors import ConfigurationError, SinkURLError
from llm_metering.sinks import open_sink


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        pytest.param("stripe://", "needs a meter: stripe://?meter=", id="no meter"),
        pytest.param("stripe://?meter=tokens", "such as tokens:total_tokens", id="no count"),
        pytest.param(
            "stripe://?meter=a:tokens", "'tokens' is no count; there are total", id="count"
        ),
        pytest.param("stripe://?meter=a:unit.", "'unit.' is no count", id="no unit"),
        pytest.param("stripe://?meter=a:reported_cost", "is no count", id="money"),
        pytest.param("stripe://?meter=:calls", "1 to 100 characters", id="no event name"),
        pytest.param(f"stripe://?meter={'m' * 101}:calls", "1 to 100", id="long event name"),
        pytest.param(
            "stripe://?meter=a:calls&meter=a:images", "each event name can be fed", id="twice"
        ),
        pytest.param(
            "stripe://sk_hunter2@host?meter=a:calls", "no host, user or path", id="a host"
        ),
        pytest.param("stripe://?meter=a:calls&key=hunter2", "STRIPE_API_KEY", id="a key"),
        pytest.param("stripe://?meter=a:calls&api=v3", "api must be one of v2, v1", id="api"),
        pytest.param("stripe://?meter=a:calls&dimension=value", "'value' is no key", id="own key"),
        pytest.param("stripe://?meter=a:calls&customers=c.toml", "absolute path", id="relative"),
    ],
)
def test_a_url_that_makes_no_sense_says_what_would(url, problem):
    """The error names the parameter and the choices, and repeats no secret."""
    with pytest.raises(SinkURLError) as caught:
        open_sink(url, source="tests")

    assert problem in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_key_that_no_header_can_carry_is_refused():
    """The error names the setting, not the key."""
    with pytest.raises(ConfigurationError, match=r"^stripe_api_key: ") as caught:
        open_sink("stripe://?meter=a:calls", source="tests", stripe_api_key="sk hunter2")
    assert "hunter2" not in str(caught.value)


def test_a_url_is_one_book():
    """Meters, file and way may change: what is owed is owed to the same account of Stripe's."""
    one = open_sink("stripe://?meter=a:calls", source="shop")
    other = open_sink("stripe:?meter=b:calls&meter=c:images&api=v1&name=second", source="shop")

    assert (one.url, one.account) == (other.url, other.account) == ("stripe://", "shop")
    assert (one.name, other.name) == ("stripe", "second")
    assert (one.limits.max_events, other.limits.max_events) == (100, 12)
    assert one.limits.dedupe_window == timedelta(hours=24)
