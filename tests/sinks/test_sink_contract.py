"""What every sink promises to the shipper."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from llm_metering.ledger import Ledger
from llm_metering.sinks import Delivery, Envelope, Sink, open_sink
from llm_metering.testing import OpenMeterServer
from tests.factories import batch_of, envelope_of, make_event
from tests.forking import in_child


@pytest.fixture(params=["memory", "ledger", "openmeter"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    """Every sink, so that a new one only has to be added here."""
    if request.param == "openmeter":
        with (
            OpenMeterServer() as server,
            closing(open_sink(server.sink_url, source="tests")) as sink,
        ):
            yield sink
    elif request.param == "ledger":
        with closing(Ledger(tmp_path / "ledger.db")) as sink:
            yield sink
    else:
        yield open_sink("memory:", source="tests")


def test_a_batch_is_accepted(sink):
    """What a sink takes is accepted under its id."""
    first, second = make_event(), make_event()

    delivery = sink.deliver(batch_of([first, second]))

    assert delivery == Delivery(accepted=frozenset({first.id, second.id}))


def test_redelivery_is_accepted(sink):
    """Offering an event again is no error: it is accepted both times."""
    batch = batch_of([make_event()])

    assert sink.deliver(batch) == sink.deliver(batch) == Delivery.all_accepted(batch)


def test_partial_overlap_is_accepted(sink):
    """A batch of old and new events is accepted as a whole."""
    old, new = envelope_of(make_event()), envelope_of(make_event())

    sink.deliver([old])

    assert sink.deliver([old, new]) == Delivery.all_accepted([old, new])


def test_an_empty_batch_is_nothing(sink):
    """No events, no outcome."""
    assert sink.deliver([]) == Delivery()


def test_a_closed_sink_opens_again(sink):
    """`close` lets go of connections only; it may be called twice, and before any use."""
    batches = [batch_of([make_event()]) for _ in range(2)]

    sink.close()
    sink.close()
    first = sink.deliver(batches[0])
    sink.close()
    second = sink.deliver(batches[1])

    assert [first, second] == [Delivery.all_accepted(batch) for batch in batches]


def test_threads_may_take_turns(sink):
    """A batch may come from another thread than the one before."""
    deliveries: list[Delivery] = []
    batches = [batch_of([make_event()]) for _ in range(3)]

    for batch in batches:
        thread = threading.Thread(target=lambda b=batch: deliveries.append(sink.deliver(b)))
        thread.start()
        thread.join()

    assert deliveries == [Delivery.all_accepted(batch) for batch in batches]


def test_a_forked_child_delivers_and_so_does_its_parent(sink):
    """A connection that was open at the fork is used by neither in the other's place."""
    before, in_the_child, after = (batch_of([make_event()]) for _ in range(3))
    sink.deliver(before)

    assert in_child(lambda: sink.deliver(in_the_child) == Delivery.all_accepted(in_the_child))
    assert sink.deliver(after) == Delivery.all_accepted(after)


def test_it_has_an_identity_that_debts_can_be_kept_under(sink):
    """Name, URL and account are there before anything is delivered, and say no secret."""
    assert sink.name == sink.url.partition(":")[0].partition("+")[0]
    assert isinstance(sink.account, str)
    assert sink.limits.max_events > 0


@pytest.mark.parametrize("sink", ["memory", "ledger"], indirect=True)
@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        pytest.param(b"{", "no CloudEvent: Input data was truncated", id="cut off"),
        pytest.param(b'{"id":"\xff"}', "no CloudEvent: 'utf-8' codec can't decode", id="no UTF-8"),
        pytest.param(
            b'{"id":"1","source":"s","type":"t","subject":"","time":"2026-11-21T00:00:00Z","data":{}}',
            "its subject is empty",
            id="nobody pays",
        ),
        pytest.param(
            b'{"id":"1","source":"s","type":"t","subject":"c","time":"2026-11-21T00:00:00","data":{}}',
            "its time names no zone",
            id="naive time",
        ),
        pytest.param(
            b'{"id":"1","source":"s","type":"t","subject":"c","time":"hunter2","data":{}}',
            "no CloudEvent: Invalid RFC3339 encoded datetime - at `$.time`",
            id="no time",
        ),
        pytest.param(
            b'{"id":"1","source":"s","type":"t","subject":"c","time":"2026-11-21T00:00:00Z",'
            b'"data":{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}}",
            "no CloudEvent: nested too deeply",
            id="nested",
        ),
    ],
)
def test_what_is_no_event_is_rejected_alone(sink, payload, reason):
    """One unusable payload is rejected with a reason that quotes nothing; the rest is taken."""
    good = envelope_of(make_event())

    delivery = sink.deliver([Envelope("bad", payload), good])

    assert delivery.accepted == {good.id}
    [(rejected, why)] = delivery.rejected
    assert rejected == "bad"
    assert why.startswith(reason)
    assert "hunter2" not in why
