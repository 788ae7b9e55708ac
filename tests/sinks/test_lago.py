"""The Lago sink against a stub that answers as lago-api does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from llm_metering.errors import ConfigurationError, SinkURLError
from llm_metering.sinks import Delivery, open_sink
from tests.factories import batch_of, envelope_of, make_event
from tests.sinks.lago_server import KEY, LagoServer
from tests.sinks.webhook_receiver import Answer

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[LagoServer]:
    with LagoServer() as server:
        yield server
        assert server.violations == []


def sink_of(server, parameters="", *, key=KEY):
    """The sink of a stub's URL."""
    return closing(open_sink(f"{server.base}{parameters}", source="tests", lago_api_key=key))


def test_an_event_says_what_lago_wants_to_know(server):
    """Subscription, metric, time to the millisecond, and all that can be summed or grouped by."""
    event = make_event(
        subject="sub_acme",
        time=NOON + timedelta(milliseconds=7, microseconds=900),
        dimensions={"feature": "search"},
        flags=("subject_conflict",),
        measures={"reported_cost": 0.25},
    )

    with sink_of(server) as sink:
        assert sink.deliver([envelope_of(event)]).accepted == {event.id}

    [sent] = server.events.values()
    assert {key: sent[key] for key in sent if key != "properties"} == {
        "transaction_id": event.id,
        "external_subscription_id": "sub_acme",
        "code": "llm_tokens",
        "timestamp": f"{int(NOON.timestamp())}.007",
    }
    expected = {key: value for key, value in event.data().items() if key != "flags"}
    assert sent["properties"] == expected
    assert sent["properties"]["total_tokens"] == 120
    assert sent["properties"]["feature"] == "search"


def test_what_is_unknown_is_absent(server):
    """A call without counts arrives as a call, with no zero for Lago to sum."""
    with sink_of(server) as sink:
        sink.deliver([envelope_of(make_event(usage=None))])

    [sent] = server.events.values()
    assert sent["properties"]["calls"] == 1
    assert "total_tokens" not in sent["properties"]


@pytest.mark.parametrize("had", [(0,), (1,), (3,), (0, 2), (0, 1, 2, 3)], ids=str)
def test_what_lago_has_is_delivered_with_the_rest(server, had):
    """It refuses the whole batch and names them: the others are sent once more, at once."""
    batch = batch_of([make_event() for _ in range(4)])

    with sink_of(server) as sink:
        sink.deliver([batch[index] for index in had])
        assert sink.deliver(batch) == Delivery.all_accepted(batch)

    assert sorted(each["transaction_id"] for each in server.events.values()) == sorted(
        each.id for each in batch
    )
    assert len(server.received) == (2 if len(had) == 4 else 3)


def test_an_event_for_two_metrics_is_delivered_when_both_have_it(server):
    """Where Lago has a part already, the other part is sent and the event is whole."""
    event = make_event()
    batch = [envelope_of(event)]

    with sink_of(server, "?code=tokens") as sink:
        sink.deliver(batch)
    server.events = {
        (key[0], f"{event.id}:tokens"): each | {"transaction_id": f"{event.id}:tokens"}
        for key, each in server.events.items()
    }
    with sink_of(server, "?code=tokens&code=calls") as sink:
        assert sink.limits.max_events == 50
        server.orders = [Answer(status=503)]
        assert sink.deliver(batch).retryable == {event.id}
        assert sink.deliver(batch) == Delivery.all_accepted(batch)

    assert sorted(each["transaction_id"] for each in server.events.values()) == [
        f"{event.id}:calls",
        f"{event.id}:tokens",
    ]


def test_a_part_that_is_had_does_not_deliver_the_event(server):
    """While the other part waits, so does the event."""
    batch = [envelope_of(make_event())]
    fault = {"error_details": {"0": {"transaction_id": ["value_already_exist"]}}}
    server.orders = [
        Answer(status=422, body=json.dumps(fault).encode()),
        Answer(status=429, headers=(("Retry-After", "7"),)),
    ]

    with sink_of(server, "?code=tokens&code=calls") as sink:
        delivery = sink.deliver(batch)

    assert delivery == Delivery.try_later(batch, "429 Too Many Requests", retry_after=7.0)


def test_an_event_that_lago_refuses_is_named(server):
    """The one it names is offered alone first; the reason has the field and no value of it."""
    fault = {"error_details": {"2": {"timestamp": ["hunter2 is invalid"]}}}
    server.orders = [Answer(status=422, body=json.dumps(fault).encode())]
    batch = batch_of([make_event() for _ in range(4)])

    with sink_of(server) as sink:
        delivery = sink.deliver(batch)

    assert (delivery.refusal, delivery.blamed) == ("content", batch[2].id)
    assert delivery.retryable == {each.id for each in batch}
    assert delivery.reason.endswith(" at timestamp")


def test_a_server_that_takes_fewer_gets_fewer():
    """`too_many_events` is about the batch: it is halved, and nobody is blamed."""
    batch = batch_of([make_event() for _ in range(3)])

    with LagoServer(most=2) as server, sink_of(server) as sink:
        delivery = sink.deliver(batch)
        rest = sink.deliver(batch[:2])

    assert (delivery.refusal, delivery.blamed) == ("size", None)
    assert delivery.retryable == {each.id for each in batch}
    assert rest == Delivery.all_accepted(batch[:2])


@pytest.mark.parametrize(
    ("status", "held", "refusal"),
    [
        pytest.param(400, False, "content", id="400"),
        pytest.param(401, True, None, id="401"),
        pytest.param(402, True, None, id="402"),
        pytest.param(403, True, None, id="403"),
        pytest.param(404, True, None, id="404"),
        pytest.param(409, False, "content", id="409"),
        pytest.param(413, False, "size", id="413"),
        pytest.param(422, False, "content", id="422"),
        pytest.param(429, False, None, id="429"),
        pytest.param(500, False, None, id="500"),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"status":1,"error":"hunter2","error_details":"hunter2"}', id="a text"),
        pytest.param(b'{"error_details":{"7":{"code":["hunter2"]},"x":1}}', id="nobody of ours"),
        pytest.param(b'{"error_details":{"events":null,"7":"hunter2"}}', id="no list"),
        pytest.param(b'{"error_details":{"events":5}}', id="a number"),
    ],
)
def test_answers_mean_what_lago_means_by_them(server, status, held, refusal, body):
    """Nothing is lost, whatever the body says, and nothing of it is repeated."""
    server.orders = [Answer(status=status, body=body)]
    batch = batch_of([make_event()])

    with sink_of(server) as sink:
        delivery = sink.deliver(batch)

    assert delivery.retryable == {batch[0].id}
    assert (delivery.hold, delivery.refusal, delivery.blamed) == (held, refusal, None)
    assert delivery.ambiguous == (status == 500)
    assert "hunter2" not in repr(delivery)


@pytest.mark.parametrize("key", [None, "", "wrong-hunter2"])
def test_without_the_right_key_everything_is_kept(server, key):
    """A key that is missing or wrong pauses the sink, and is shown nowhere."""
    batch = batch_of([make_event()])

    with sink_of(server, key=key) as sink:
        delivery = sink.deliver(batch)

    assert (delivery.retryable, delivery.hold) == ({batch[0].id}, True)
    assert ("LAGO_API_KEY" in delivery.reason) == (not key)
    assert "hunter2" not in repr((sink, delivery))


def test_subscriptions_are_looked_up(server, tmp_path):
    """With a file only its subjects are billed: others are dead letters until they are in it."""
    path = tmp_path / "who.toml"
    path.write_text('[lago_subscriptions]\nacme = "sub_1"\n')
    known, unknown = make_event(subject="acme"), make_event(subject="globex")

    with sink_of(server, f"?subscriptions={path}") as sink:
        delivery = sink.deliver(batch_of([known, unknown]))
        path.write_text('[lago_subscriptions]\nacme = "sub_1"\nglobex = "sub_22"\n')
        mended = sink.deliver([envelope_of(unknown)])

    [(rejected, why)] = delivery.rejected
    assert (rejected, delivery.accepted, mended.accepted) == (unknown.id, {known.id}, {unknown.id})
    assert "dead retry" in why
    assert "globex" not in why
    subscriptions = [each["external_subscription_id"] for each in server.events.values()]
    assert subscriptions == ["sub_1", "sub_22"]


def test_a_call_that_nobody_pays_for_is_no_subscription(server):
    """Lago would take it and bill nobody."""
    event = make_event(subject="unattributed")

    with sink_of(server) as sink:
        assert {each for each, _ in sink.deliver([envelope_of(event)]).rejected} == {event.id}
    assert server.received == []


def test_ids_of_two_applications_are_two_transactions(server):
    """Lago has no source: an id that is not ours is joined with it."""
    with sink_of(server) as sink:
        for source in ("shop", "search"):
            sink.deliver([envelope_of(make_event(id="same", source=source))])

    assert len(server.events) == 2


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        pytest.param("lago+https://", "needs a host: lago+https://api.getlago.com", id="no host"),
        pytest.param("lago+https://hunter2@x", "LAGO_API_KEY", id="a user"),
        pytest.param("lago+https://x?api_key=hunter2", "LAGO_API_KEY", id="a key"),
        pytest.param("lago+https://x?code=", "code must not be empty", id="no code"),
        pytest.param("lago+https://x?code=a&code=a", "each billable metric once", id="twice"),
        pytest.param("lago+https://x?subscriptions=a.toml", "absolute path", id="relative"),
    ],
)
def test_a_url_that_makes_no_sense_says_what_would(url, problem):
    """The error names the parameter, and repeats no secret."""
    with pytest.raises(SinkURLError) as caught:
        open_sink(url, source="tests")

    assert problem in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_key_that_no_header_can_carry_is_refused():
    """The error names the setting, not the key."""
    with pytest.raises(ConfigurationError, match=r"^lago_api_key: ") as caught:
        open_sink("lago+https://x", source="tests", lago_api_key="hunter2\nX: y")
    assert "hunter2" not in str(caught.value)
