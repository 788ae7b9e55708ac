"""Sessions of Stripe's stream: their tokens come, end, and are shown nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from llm_metering.sinks import Delivery
from llm_metering.sinks.stripe import StripeSink
from llm_metering.sinks.stripe.meter_events import MeterSource
from tests.factories import batch_of, make_event
from tests.sinks.stripe_server import KEY, StripeServer
from tests.sinks.webhook_receiver import Answer

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SESSION, STREAM = "/v2/billing/meter_event_session", "/v2/billing/meter_event_stream"


class Clock:
    """A clock that both sides read; `drift` is how far ours is off."""

    def __init__(self) -> None:
        self.now = NOW
        self.drift = timedelta()

    def ours(self) -> float:
        return (self.now + self.drift).timestamp()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock) -> Iterator[StripeServer]:
    with StripeServer() as server:
        server.now = lambda: clock.now
        yield server


@pytest.fixture
def sink(server, clock) -> Iterator[StripeSink]:
    meter = MeterSource(event_name="llm_tokens", count="total_tokens")
    base = server.base.removeprefix("stripe+")
    with closing(
        StripeSink([meter], account="tests", key=KEY, base=base, clock=clock.ours)
    ) as sink:
        yield sink


def batch_at(moment):
    """One event of that time."""
    return batch_of([make_event(subject="cus_acme", time=moment)])


def paths(server):
    """Where the requests went, in order."""
    return [request.path for request in server.received]


def test_a_session_is_renewed_before_it_ends(server, sink, clock):
    """15 minutes are used but for the last one; no request is refused for it."""
    for minutes in (0, 13, 14, 20):
        clock.now = NOW + timedelta(minutes=minutes, seconds=1)
        assert sink.deliver(batch_at(clock.now)).accepted

    assert paths(server) == [SESSION, STREAM, STREAM, SESSION, STREAM, STREAM]


def test_a_session_that_ended_all_the_same_is_renewed_at_once(server, sink, clock):
    """A clock of ours that stood still costs a request, no event and no wait."""
    sink.deliver(batch_at(clock.now))
    clock.now += timedelta(minutes=20)
    clock.drift = -timedelta(minutes=20)
    batch = batch_at(NOW)

    assert sink.deliver(batch) == Delivery.all_accepted(batch)
    assert paths(server)[2:] == [STREAM, SESSION, STREAM]


def test_a_new_token_that_is_refused_pauses_the_sink(server, sink, clock):
    """One refusal is an old token; a second renewal in a row would go on for ever."""
    server.lifetime = timedelta()
    batch = batch_at(clock.now)

    delivery = sink.deliver(batch)

    assert (delivery.retryable, delivery.hold) == ({batch[0].id}, True)
    assert paths(server) == [SESSION, STREAM, SESSION, STREAM]
    assert "hunter2" not in repr((sink, delivery))


@pytest.mark.parametrize(
    ("answer", "hold", "reason"),
    [
        pytest.param(Answer(status=503), False, "no session: 503", id="not now"),
        pytest.param(Answer(status=200, cuts=True), False, "no session: Remote", id="no answer"),
        pytest.param(Answer(status=400), True, "no session: 400", id="refused"),
        pytest.param(Answer(status=403), True, "no session: 403", id="not allowed"),
        pytest.param(Answer(status=200, body=b"<html>"), False, "cannot be read", id="no JSON"),
        pytest.param(
            Answer(
                status=200,
                body=b'{"authentication_token":"a\\nb","created":"2026-11-22T12:00:00Z",'
                b'"expires_at":"2026-11-22T12:15:00Z"}',
            ),
            False,
            "cannot be read",
            id="a token that no header can carry",
        ),
    ],
)
def test_without_a_session_no_event_is_sent_or_blamed(server, sink, clock, answer, hold, reason):
    """The batch waits as it is, neither refused nor in doubt."""
    server.orders = [answer]
    batch = batch_at(clock.now)

    delivery = sink.deliver(batch)

    assert delivery.retryable == {batch[0].id}
    assert (delivery.hold, delivery.refusal, delivery.ambiguous) == (hold, None, False)
    assert reason in delivery.reason
    assert paths(server) == [SESSION]


@pytest.mark.parametrize("stores", [True, False])
def test_an_answer_that_is_lost_leaves_it_open(server, sink, clock, stores):
    """The stream may have the batch: it is suspect, and counts once when it comes again."""
    sink.deliver(batch_at(clock.now))
    server.orders = [Answer(status=200, stores=stores, cuts=True)]
    batch = batch_at(clock.now)

    lost = sink.deliver(batch)
    again = sink.deliver(batch)

    assert lost.ambiguous
    assert again == Delivery.all_accepted(batch)
    assert server.values("llm_tokens") == [120, 120]
