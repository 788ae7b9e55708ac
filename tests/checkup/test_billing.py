"""Billing systems as the doctor sees them, over real HTTP."""

from __future__ import annotations

from contextlib import closing

import pytest

from llm_metering.checkup.billing import check_lago, check_stripe
from llm_metering.checkup.configuration import check_settings
from llm_metering.settings import load_settings
from llm_metering.sinks import open_sink
from tests.sinks import lago_server, stripe_server
from tests.sinks.lago_server import LagoServer
from tests.sinks.stripe_server import StripeServer
from tests.sinks.webhook_receiver import Answer

METERS = ("one", "two", "three", "llm_tokens", "llm_output")


def look(url, *, key):
    """The levels and the words of what is found, by check."""
    stripe = url.startswith("stripe")
    name = "stripe_api_key" if stripe else "lago_api_key"
    with closing(open_sink(url, source="shop", **{name: key})) as sink:
        check = check_stripe if stripe else check_lago
        findings = list(check(sink, limit=20.0))
    assert "hunter2" not in repr(findings)
    return {each.check: (each.level, each.found) for each in findings}


def stripe(server, meter="llm_tokens:total_tokens", key=stripe_server.KEY):
    return look(f"{server.base}?meter={meter}", key=key)


def lago(server, parameters="", key=lago_server.KEY):
    return look(f"{server.base}{parameters}", key=key)


@pytest.fixture
def stripes():
    with StripeServer(*METERS) as server:
        yield server


@pytest.fixture
def lagos():
    with LagoServer() as server:
        server.codes = [*METERS]
        yield server


def test_what_is_well(stripes, lagos):
    """The key is known, and what is billed by is there, on whichever page of the list."""
    for found in (stripe(stripes, "llm_output:output_tokens"), lago(lagos, "?code=llm_output")):
        assert {level for level, _ in found.values()} == {"ok"}
        assert found["sink.meters"][1].endswith("llm_output")
    assert [request.method for request in (*stripes.received, *lagos.received)] == ["GET"] * 6


def test_a_name_that_nothing_is_billed_by_is_a_failure(stripes, lagos):
    """Both systems would acknowledge its events, and bill nobody."""
    assert stripe(stripes, "typo:calls")["sink.meters"] == (
        "failure",
        "there is no active meter for typo",
    )
    assert lago(lagos, "?code=typo&code=one")["sink.meters"] == (
        "failure",
        "there is no billable metric for typo",
    )


def test_a_meter_that_reads_another_key_is_a_failure(stripes):
    """Stripe would drop every event, after it said yes."""
    stripes.customer_key = "customer"

    level, found = stripe(stripes)["sink.meters"]

    assert level == "failure"
    assert "reads 'customer' where it is sent 'stripe_customer_id'" in found


@pytest.mark.parametrize("key", [None, "wrong-hunter2"])
def test_a_key_that_is_missing_or_wrong_is_a_failure(stripes, lagos, key):
    """The sink would pause."""
    for found in (stripe(stripes, key=key), lago(lagos, key=key)):
        assert found["sink.reachable"][0] == "failure"


@pytest.mark.parametrize("answer", [Answer(status=403), Answer(status=200, body=b"[]")])
def test_a_key_that_may_not_ask_is_a_warning(stripes, lagos, answer):
    """A restricted key may send events and see no meter: nobody can tell then."""
    for server, check in ((stripes, stripe), (lagos, lago)):
        server.orders = [answer]
        assert check(server)["sink.meters"][0] == "warning"


def test_a_server_that_is_away_is_a_failure(stripes, lagos):
    """As for every sink."""
    for server, check in ((stripes, stripe), (lagos, lago)):
        server.down()
        assert check(server)["sink.reachable"][0] == "failure"


def test_a_file_that_cannot_be_used_is_a_failure(stripes, tmp_path):
    """With its line; one that can be says how many it knows."""
    path = tmp_path / "who.toml"
    path.write_text("[stripe_customers]\nacme = 1\n")
    url = f"{stripes.base}?meter=llm_tokens:calls&customers={path}"
    bad = look(url, key=stripe_server.KEY)["sink.payers"]
    path.write_text("[stripe_customers]\nacme = 'cus_1'\n")
    good = look(url, key=stripe_server.KEY)["sink.payers"]

    assert bad[0] == "failure"
    assert bad[1].startswith(f"{path}:2: 'acme'")
    assert good == ("ok", f"{path} can be read; subjects with a payer: 1")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param("memory:", "no sink uses it", id="no sink"),
        pytest.param("stripe+http://x.invalid?meter=a:calls", "without encryption", id="Stripe"),
        pytest.param("stripe+http://127.0.0.1:9?meter=a:calls", None, id="loopback"),
        pytest.param("stripe://?meter=a:calls", None, id="Stripe's own hosts"),
    ],
)
def test_a_key_is_used_and_sent_in_secret(home, url, words):
    """What was meant and does not hold is said."""
    settings = load_settings(home=home, sinks=url, stripe_api_key="hunter2")
    with closing(open_sink(url, source="shop", **settings.credentials)) as sink:
        findings = [each for each in check_settings(settings, [sink]) if "stripe" in each.check]

    assert [words in each.found for each in findings] == ([True] if words else [])
    assert "hunter2" not in repr(findings)
