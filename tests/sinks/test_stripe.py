"""The Stripe sink against a stub that refuses what Stripe's published API refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

import pytest

from llm_metering.events import format_time, new_event_id
from llm_metering.sinks import Delivery
from llm_metering.sinks.stripe import StripeSink
from llm_metering.sinks.stripe.meter_events import MeterSource, identifier_of
from llm_metering.token_usage import TokenUsage
from tests.factories import batch_of, envelope_of, make_event
from tests.sinks.stripe_server import KEY, StripeServer
from tests.sinks.webhook_receiver import Answer

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TOTAL = MeterSource(event_name="llm_tokens", count="total_tokens")
OUTPUT = MeterSource(event_name="llm_output", count="output_tokens")
APIS = pytest.mark.parametrize("api", ["v2", "v1"])


@pytest.fixture
def server() -> Iterator[StripeServer]:
    with StripeServer("llm_tokens", "llm_output", "pages") as server:
        server.now = lambda: NOW
        yield server


def sink_of(server, *meters, now=NOW, key=KEY, **options):
    """A sink whose clock stands still."""
    return closing(
        StripeSink(
            meters or (TOTAL,),
            account="tests",
            key=key,
            base=server.base.removeprefix("stripe+"),
            clock=now.timestamp,
            **options,
        )
    )


def usage_of(**overrides):
    """A call of Stripe's customer, at noon of the day."""
    return make_event(**({"subject": "cus_acme", "time": NOW} | overrides))


@APIS
def test_a_meter_event_says_what_stripe_wants_to_know(server, api):
    """Meter, customer, value as text, time, and an identifier made of event and meter."""
    event = usage_of(time=NOW - timedelta(days=3, milliseconds=250))

    with sink_of(server, TOTAL, OUTPUT, api=api) as sink:
        assert sink.deliver([envelope_of(event)]).accepted == {event.id}

    sent = [(each["event_name"], each["identifier"], each["payload"]) for each in server.counted]
    assert sent == [
        (
            name,
            f"{event.id}:{name}",
            {"stripe_customer_id": "cus_acme", "value": value},
        )
        for name, value in (("llm_tokens", "120"), ("llm_output", "20"))
    ]
    expected = event.time if api == "v2" else event.time.replace(microsecond=0)
    assert {each["time"] for each in server.counted} == {expected}


def test_the_requests_are_those_of_stripes_own_client(server):
    """One session for all batches, then JSON to the stream with its token; never with the key."""
    batch = batch_of([usage_of(), usage_of()])

    with sink_of(server) as sink:
        for _ in range(3):
            sink.deliver(batch)

    session, *streams = server.received
    assert (session.path, session.body) == ("/v2/billing/meter_event_session", b"{}")
    assert {each.path for each in streams} == {"/v2/billing/meter_event_stream"}
    assert [len(json.loads(each.body)["events"]) for each in streams] == [2, 2, 2]
    assert all(KEY not in str(each.headers) for each in streams)
    assert json.loads(streams[0].body)["events"][0]["timestamp"] == format_time(NOW)


def test_the_single_endpoint_gets_a_form(server):
    """One request for each meter event."""
    with sink_of(server, TOTAL, OUTPUT, api="v1", dimensions=["model"]) as sink:
        sink.deliver([envelope_of(usage_of(model="a&b=c"))])

    first, second = (dict(parse_qsl(each.body.decode())) for each in server.received)
    assert first["payload[model]"] == "a&b=c"
    assert first["timestamp"] == str(int(NOW.timestamp()))
    assert second["event_name"] == "llm_output"


@APIS
def test_what_stripe_has_is_delivered_and_counts_once(server, api):
    """A repeated identifier is no error, whether Stripe says so or not."""
    batch = batch_of([usage_of(), usage_of()])

    with sink_of(server, TOTAL, OUTPUT, api=api) as sink:
        assert sink.deliver(batch) == sink.deliver(batch) == Delivery.all_accepted(batch)

    assert server.values("llm_tokens") == [120, 120]
    assert server.values("llm_output") == [20, 20]


@APIS
def test_an_unknown_count_is_no_zero(server, api):
    """A meter gets nothing of an event without its count; a reported 0 is one."""
    events = [
        usage_of(usage=TokenUsage(output_tokens=7), provenance="partial"),
        usage_of(usage=TokenUsage(input_tokens=0, output_tokens=0)),
        usage_of(usage=None),
    ]

    with sink_of(server, TOTAL, OUTPUT, api=api) as sink:
        delivery = sink.deliver(batch_of(events))

        # Not `unasked`: of the others Stripe was asked.
        assert delivery == Delivery.all_accepted(batch_of(events))
        assert sink.unbilled == 1
        assert "unbilled=1" in repr(sink)
    assert server.values("llm_tokens") == [0]
    assert server.values("llm_output") == [7, 0]


def test_nothing_to_bill_is_no_request(server):
    """A batch without any count is delivered, and Stripe hears nothing of it."""
    batch = batch_of([usage_of(usage=None, subject="nobody-knows")])

    with sink_of(server) as sink:
        delivery = sink.deliver(batch)

    assert (delivery.takes_all_of(batch), delivery.unasked) == (True, True)
    assert server.received == []


def test_a_unit_feeds_its_own_meter(server):
    """The quantity of a unit is a count; that of another unit is not."""
    meter = MeterSource(event_name="pages", count="unit.page")
    events = [
        usage_of(usage=None, provenance="reported", quantity=amount, unit=unit)
        for amount, unit in ((3, "page"), (5.0, "page"), (9, "image"))
    ]

    with sink_of(server, meter) as sink:
        assert sink.deliver(batch_of(events)).accepted == {each.id for each in events}
    assert server.values("pages") == [3, 5]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"time": NOW - timedelta(days=36)}, "more than 35 days ago", id="too old"),
        pytest.param({"time": NOW + timedelta(hours=2)}, "more than an hour ahead", id="far ahead"),
        pytest.param({"subject": "acme"}, "no customer of Stripe's", id="no customer"),
    ],
)
@APIS
def test_what_stripe_never_takes_is_rejected_alone(server, change, reason, api):
    """The rest of the batch is counted; the reason says what to do and names nobody."""
    bad, good = usage_of(**change), usage_of()

    with sink_of(server, api=api) as sink:
        delivery = sink.deliver(batch_of([bad, good]))

    [(rejected, why)] = delivery.rejected
    assert (rejected, delivery.accepted) == (bad.id, {good.id})
    assert reason in why
    assert bad.subject not in why
    assert server.values("llm_tokens") == [120]
    assert server.dropped == []


@pytest.mark.parametrize("quantity", [2.5, 10**15], ids=["a fraction", "16 digits"])
def test_what_is_no_number_of_stripes_is_not_rounded(server, quantity):
    """Stripe counts whole numbers of 15 digits; what else it should count is for a person to say."""
    event = usage_of(usage=None, provenance="reported", quantity=quantity, unit="page")

    with sink_of(server, MeterSource(event_name="pages", count="unit.page")) as sink:
        [(rejected, why)] = sink.deliver([envelope_of(event)]).rejected

    assert rejected == event.id
    assert why.startswith("its unit.page is no whole number")


@pytest.mark.parametrize(
    ("ahead", "counted"),
    [pytest.param(4, True, id="4 minutes"), pytest.param(6, False, id="6 minutes")],
)
def test_an_event_that_is_ahead_waits(server, ahead, counted):
    """Stripe takes five minutes; what is further ahead is offered again, and others go on."""
    early, good = usage_of(time=NOW + timedelta(minutes=ahead)), usage_of()

    with sink_of(server) as sink:
        delivery = sink.deliver(batch_of([early, good]))

    assert good.id in delivery.accepted
    assert (early.id in delivery.accepted, early.id in delivery.retryable) == (counted, not counted)
    assert server.dropped == []


@pytest.mark.parametrize("days", [pytest.param(34, id="34 days"), pytest.param(35, id="35 days")])
def test_the_old_end_of_the_window_is_ours(server, days):
    """What Stripe might drop after it said yes is never sent: the window ends minutes before its."""
    event = usage_of(time=NOW - timedelta(days=days))

    with sink_of(server) as sink:
        delivery = sink.deliver([envelope_of(event)])

    assert bool(delivery.accepted) == (days == 34)
    assert server.dropped == []


def test_dimensions_are_in_the_payload(server):
    """As text; what an event lacks is `unknown`, since a meter with dimensions refuses gaps."""
    event = usage_of(dimensions={"feature": "search"})

    with sink_of(server, dimensions=["feature", "model", "team"]) as sink:
        sink.deliver([envelope_of(event)])

    assert server.counted[0]["payload"] == {
        "stripe_customer_id": "cus_acme",
        "value": "120",
        "feature": "search",
        "model": "gpt-5-mini",
        "team": "unknown",
    }


def test_identifiers_are_of_source_and_event_and_meter(server):
    """Ids that are not ours are joined with their source; the longest meter still fits."""
    events = [
        usage_of(id="same", source="shop"),
        usage_of(id="same", source="search"),
        usage_of(id="x" * 500),
    ]

    with sink_of(server) as sink:
        for event in events:
            assert sink.deliver([envelope_of(event)]).accepted

    identifiers = {each["identifier"] for each in server.counted}
    assert len(identifiers) == 3
    assert all(len(each) <= 100 for each in identifiers)
    longest = [identifier_of(new_event_id(), "m" * 99 + end) for end in "ab"]
    assert [len(each) for each in longest] == [69, 69]
    assert longest[0][37:] != longest[1][37:]


@pytest.mark.parametrize(
    ("status", "held", "refusal"),
    [
        pytest.param(400, False, "content", id="400"),
        pytest.param(402, True, None, id="402"),
        pytest.param(403, True, None, id="403"),
        pytest.param(404, True, None, id="404"),
        pytest.param(409, False, None, id="409"),
        pytest.param(413, False, "size", id="413"),
        pytest.param(429, False, None, id="429"),
        pytest.param(503, False, None, id="503"),
    ],
)
@APIS
def test_answers_mean_what_stripe_means_by_them(server, api, status, held, refusal):
    """Nothing of the batch is lost, and the reason has Stripe's code and no word of its message."""
    body = {
        "error": {"type": "invalid_request_error", "code": "lock_timeout", "message": "hunter2"}
    }
    answer = Answer(status=status, headers=(("Retry-After", "7"),), body=json.dumps(body).encode())
    batch = batch_of([usage_of()])

    with sink_of(server, api=api) as sink:
        sink.deliver(batch_of([usage_of()]))
        server.orders = [answer]
        delivery = sink.deliver(batch)

    assert delivery.retryable == {batch[0].id}
    assert (delivery.hold, delivery.refusal) == (held, refusal)
    assert delivery.retry_after == (7.0 if status in (409, 429, 503) else None)
    assert delivery.reason.endswith(": lock_timeout")
    assert "hunter2" not in repr(delivery)


def test_a_batch_of_single_requests_ends_where_it_fails(server):
    """What came before is taken, what comes after is not tried, and the one is named."""
    batch = batch_of([usage_of() for _ in range(3)])
    server.orders = [Answer(status=204, stores=True), Answer(status=400), Answer(status=204)]

    with sink_of(server, api="v1") as sink:
        delivery = sink.deliver(batch)

    assert delivery.accepted == {batch[0].id}
    assert delivery.retryable == {batch[1].id, batch[2].id}
    assert (delivery.refusal, delivery.blamed) == ("content", batch[1].id)
    assert len(server.received) == 2


def test_an_event_is_delivered_when_all_its_meters_have_it(server):
    """With one of two taken it is open, and ambiguous: sent again a day later it would bill twice."""
    batch = batch_of([usage_of()])
    server.orders = [Answer(status=204, stores=True), Answer(status=429)]

    with sink_of(server, TOTAL, OUTPUT, api="v1") as sink:
        half = sink.deliver(batch)
        whole = sink.deliver(batch)

    assert (half.accepted, half.retryable, half.ambiguous) == (frozenset(), {batch[0].id}, True)
    assert "another meter has taken its part" in half.reason
    assert whole == Delivery.all_accepted(batch)
    assert (server.values("llm_tokens"), server.values("llm_output")) == ([120], [20])


def test_a_meter_that_is_not_there_is_a_persons_matter(server):
    """Where Stripe says so at once, no event is blamed for a name in our URL."""
    with sink_of(server, MeterSource(event_name="typo", count="calls"), api="v1") as sink:
        delivery = sink.deliver(batch_of([usage_of()]))

    assert delivery.hold
    assert delivery.reason.endswith("no active meter has this event name")


@pytest.mark.parametrize("key", [None, "", "sk_wrong_hunter2"])
@APIS
def test_without_the_right_key_everything_is_kept(server, key, api):
    """A key that is missing or wrong pauses the sink; no event is refused for it."""
    batch = batch_of([usage_of()])

    with sink_of(server, key=key, api=api) as sink:
        delivery = sink.deliver(batch)

    assert (delivery.retryable, delivery.hold) == ({batch[0].id}, True)
    assert ("STRIPE_API_KEY" in delivery.reason) == (not key)
    assert "hunter2" not in repr((sink, delivery))
