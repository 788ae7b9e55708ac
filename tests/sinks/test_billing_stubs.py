"""The stubs are as strict as what they stand for: Stripe's own client, and requests that are wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

import httpx
import pytest
import stripe

from llm_metering.events import format_time
from llm_metering.sinks import open_sink
from llm_metering.sinks.stripe import StripeSink
from llm_metering.sinks.stripe.meter_events import MeterSource
from tests.factories import envelope_of, make_event
from tests.sinks import lago_server, stripe_server
from tests.sinks.lago_server import LagoServer
from tests.sinks.stripe_server import StripeServer

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
STREAM, SINGLE = "/v2/billing/meter_event_stream", "/v1/billing/meter_events"
VERSION = {"Stripe-Version": "2026-10-28.endive"}
EVENT = {
    "event_name": "llm_tokens",
    "identifier": "one",
    "timestamp": format_time(NOW),
    "payload": {"stripe_customer_id": "cus_1", "value": "120"},
}


@pytest.fixture
def stripes() -> Iterator[StripeServer]:
    with StripeServer() as server:
        server.now = lambda: NOW
        yield server


@pytest.fixture
def lagos() -> Iterator[LagoServer]:
    with LagoServer() as server:
        yield server


def client_of(server, key=stripe_server.KEY):
    """Stripe's own client, with the stub in the place of both hosts."""
    base = server.base.removeprefix("stripe+")
    return stripe.StripeClient(
        key, base_addresses={"api": base, "meter_events": base}, max_network_retries=0
    )


def said(request):
    """What of a request Stripe goes by."""
    kind = request.headers["Content-Type"]
    body = request.body.decode()
    return (
        request.method,
        request.path,
        kind,
        request.headers["Stripe-Version"],
        request.headers["Authorization"].rstrip("0123456789"),
        json.loads(body) if kind == "application/json" else sorted(parse_qsl(body)),
    )


@pytest.mark.parametrize("api", ["v2", "v1"])
def test_the_sink_asks_what_stripes_own_client_asks(stripes, api):
    """The same hosts' paths, headers and bodies, for the same meter event."""
    event = make_event(subject="cus_1", time=NOW)
    meter = MeterSource(event_name="llm_tokens", count="total_tokens")
    sink = StripeSink(
        [meter],
        account="tests",
        key=stripe_server.KEY,
        api=api,
        base=stripes.base.removeprefix("stripe+"),
        clock=NOW.timestamp,
    )
    with closing(sink):
        assert sink.deliver([envelope_of(event)]).accepted
    ours = [said(request) for request in stripes.received]
    stripes.received.clear()
    stripes.counted.clear()

    identified = EVENT | {"identifier": f"{event.id}:llm_tokens"}
    client = client_of(stripes)
    if api == "v2":
        session = client.v2.billing.meter_event_session.create()
        streaming = client_of(stripes, session.authentication_token)
        streaming.v2.billing.meter_event_stream.create({"events": [identified]})
    else:
        client.v1.billing.meter_events.create(identified | {"timestamp": int(NOW.timestamp())})

    assert ours == [said(request) for request in stripes.received]
    assert stripes.values("llm_tokens") == [120]


def test_a_url_without_a_host_means_stripes_hosts():
    """Those that Stripe's own client has; sessions begin at the one, events go to the other."""
    url = "stripe://?meter=llm_tokens:calls"
    with (
        closing(open_sink(url, source="shop", stripe_api_key="sk")) as streaming,
        closing(open_sink(f"{url}&api=v1", source="shop", stripe_api_key="sk")) as single,
    ):
        found = vars(streaming._sender), vars(single._sender)

    assert [each for one in found for key, each in one.items() if key.endswith("url")] == [
        f"{stripe.DEFAULT_API_BASE}/v2/billing/meter_event_session",
        f"{stripe.DEFAULT_METER_EVENTS_API_BASE}{STREAM}",
        f"{stripe.DEFAULT_API_BASE}{SINGLE}",
    ]


def test_stripes_own_client_reads_the_stubs_refusals(stripes):
    """An old token and a repeated identifier are the errors that it has for them."""
    client = client_of(stripes)
    single = EVENT | {"timestamp": int(NOW.timestamp())}
    client.v1.billing.meter_events.create(single)

    with pytest.raises(stripe.InvalidRequestError) as repeated:
        client.v1.billing.meter_events.create(single)
    stripes.lifetime = timedelta()
    old = client_of(stripes, client.v2.billing.meter_event_session.create().authentication_token)
    with pytest.raises(stripe.TemporarySessionExpiredError):
        old.v2.billing.meter_event_stream.create({"events": [EVENT]})

    assert repeated.value.user_message == "An event already exists with identifier one."


def test_stripes_own_client_reads_the_stubs_lists(stripes):
    """Meters page by page, and the sum of a customer."""
    stripes.meters = ("one", "two", "llm_tokens")
    client = client_of(stripes)
    client.v1.billing.meter_events.create(EVENT | {"timestamp": int(NOW.timestamp())})
    meters = client.v1.billing.meters.list({"status": "active", "limit": 100})
    noon = int(NOW.timestamp())
    summaries = client.v1.billing.meters.event_summaries.list(
        "mtr_llm_tokens", {"customer": "cus_1", "start_time": noon, "end_time": noon + 60}
    )

    assert [meter.event_name for meter in meters.auto_paging_iter()] == [*stripes.meters]
    assert [each.aggregated_value for each in summaries.data] == [120]


def post(server, path, *, key, body, **headers):
    """A raw request; the status."""
    url = f"http://127.0.0.1:{server.port}{path}"
    sent = {"Authorization": f"Bearer {key}", **headers}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(url, content=content, headers=sent).status_code


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        pytest.param({"events": [EVENT]}, "application/json", 200, id="right"),
        pytest.param({"events": [EVENT]}, "text/plain", 400, id="content type"),
        pytest.param(b"{", "application/json", 400, id="no JSON"),
        pytest.param({"events": [EVENT], "x": 1}, "application/json", 400, id="unknown field"),
        pytest.param(
            {"events": [EVENT | {"x": "1"}]}, "application/json", 400, id="unknown field of one"
        ),
        pytest.param(
            {"events": [EVENT | {"payload": {"value": 1}}]}, "application/json", 400, id="a number"
        ),
        pytest.param(
            {"events": [EVENT | {"identifier": "x" * 101}]}, "application/json", 400, id="too long"
        ),
        pytest.param(
            {"events": [EVENT | {"timestamp": 1}]}, "application/json", 400, id="wrong time"
        ),
        pytest.param({"events": [EVENT] * 101}, "application/json", 400, id="101 events"),
        pytest.param({"events": []}, "application/json", 400, id="none"),
    ],
)
def test_the_stream_takes_what_has_its_form(stripes, body, kind, status):
    """Anything else is refused as a whole, and nothing of it counts."""
    stripes.tokens["right"] = NOW + timedelta(minutes=1)

    got = post(stripes, STREAM, key="right", body=body, **VERSION, **{"Content-Type": kind})

    assert got == status
    assert len(stripes.counted) == (status == 200)


def test_the_stream_wants_a_session_and_a_version(stripes):
    """The key is no token, and v2 has no default version."""
    kind = {"Content-Type": "application/json"}
    stripes.tokens["right"] = NOW + timedelta(minutes=1)
    body = {"events": [EVENT]}

    assert post(stripes, STREAM, key=stripe_server.KEY, body=body, **VERSION, **kind) == 401
    assert post(stripes, STREAM, key="right", body=body, **kind) == 400
    assert stripes.counted == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param({"event_name": "other"}, "no_meter", id="no meter"),
        pytest.param({"payload": {"value": "1"}}, "meter_event_no_customer_defined", id="nobody"),
        pytest.param(
            {"payload": {"stripe_customer_id": "cus_2", "value": "1"}},
            "meter_event_customer_not_found",
            id="an unknown customer",
        ),
        pytest.param(
            {"payload": {"stripe_customer_id": "cus_1", "value": "1.5"}},
            "meter_event_invalid_value",
            id="a fraction",
        ),
        pytest.param(
            {"payload": {"stripe_customer_id": "cus_1", "value": "1" * 16}},
            "meter_event_value_too_many_digits",
            id="16 digits",
        ),
        pytest.param(
            {"timestamp": format_time(NOW - timedelta(days=36))},
            "timestamp_too_far_in_past",
            id="too old",
        ),
        pytest.param(
            {"timestamp": format_time(NOW + timedelta(minutes=6))},
            "timestamp_in_future",
            id="ahead",
        ),
        pytest.param({}, "duplicate", id="had"),
    ],
)
def test_the_stream_drops_afterwards_what_stripe_would_not_count(stripes, change, code):
    """It says 200; the report of errors has the rest."""
    stripes.customers = {"cus_1"}
    stripes.tokens["right"] = NOW + timedelta(minutes=1)
    events = [EVENT, EVENT | {"identifier": "two"} | change]
    if not change:
        events[1] = EVENT

    status = post(
        stripes,
        STREAM,
        key="right",
        body={"events": events},
        **VERSION,
        **{"Content-Type": "application/json"},
    )

    assert status == 200
    assert [code for _, code in stripes.dropped] == [code]
    assert stripes.values("llm_tokens") == [120]


@pytest.mark.parametrize(
    ("body", "key", "status"),
    [
        pytest.param({"events": []}, lago_server.KEY, 422, id="none"),
        pytest.param({}, lago_server.KEY, 422, id="no events"),
        pytest.param(b"{", lago_server.KEY, 400, id="no JSON"),
        pytest.param({"events": [{}] * 101}, lago_server.KEY, 422, id="101 events"),
        pytest.param({"events": [{}]}, "wrong", 401, id="a wrong key"),
    ],
)
def test_lago_takes_batches_of_a_hundred(lagos, body, key, status):
    """Anything else is refused as a whole."""
    kind = {"Content-Type": "application/json"}

    assert post(lagos, "/api/v1/events/batch", key=key, body=body, **kind) == status
    assert lagos.events == {}


@pytest.mark.parametrize(
    "change", [{"transaction_id": ""}, {"code": ""}, {"timestamp": "noon"}, None], ids=str
)
def test_lago_names_who_is_to_blame_by_its_place(lagos, change):
    """Nothing of the batch is stored, for the sake of the second."""
    good = {
        "transaction_id": "one",
        "external_subscription_id": "sub",
        "code": "llm_tokens",
        "timestamp": "1795348740.123",
        "properties": {},
    }
    bad = good if change is None else good | {"transaction_id": "two"} | change
    answer = httpx.post(
        f"http://127.0.0.1:{lagos.port}/api/v1/events/batch",
        json={"events": [good, bad]},
        headers={"Authorization": f"Bearer {lago_server.KEY}"},
    )

    assert answer.status_code == 422
    assert answer.json()["error_details"].keys() == {"1"}
    assert lagos.events == {}
