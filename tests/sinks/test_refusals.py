"""What HTTP answers say about batches that were refused, and about those nobody answered for."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime

import pytest

from llm_metering.sinks import Delivery, open_sink, wire
from llm_metering.sinks.http import Answer, judge
from llm_metering.sinks.openmeter import OpenMeterSink
from llm_metering.sinks.problems import Place, named_place, problem_texts
from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import Refuse, Reset, TooLarge
from tests.factories import batch_of, make_event

PROBLEM = {"content-type": "application/problem+json"}
NOW = datetime(2026, 11, 21, tzinfo=UTC)
VALIDATOR = "request body has an error: doesn't match schema #/components/schemas/Event: "


@pytest.fixture
def server() -> Iterator[OpenMeterServer]:
    with OpenMeterServer() as server:
        yield server


@pytest.fixture
def sink(server) -> Iterator[OpenMeterSink]:
    with closing(open_sink(server.sink_url, source="tests")) as sink:
        yield sink


def judged(batch, status, detail, **options):
    answer = Answer(status, PROBLEM, json.dumps({"title": "hunter2", "detail": detail}).encode())
    return judge(batch, answer, secret=None, now=NOW, **options)


@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_keeps_the_place_and_nothing_else(status):
    """Neither title nor detail is repeated: a server may quote the event in both."""
    batch = batch_of([make_event() for _ in range(4)])

    delivery = judged(batch, status, VALIDATOR + 'Error at "/3/subject": hunter2 is too short')

    assert delivery.blamed == batch[3].id
    assert delivery.refusal == "content"
    assert delivery.reason.endswith(" at /subject")
    assert "hunter2" not in repr(delivery)


@pytest.mark.parametrize(
    ("detail", "place"),
    [
        pytest.param('Error at "/3/subject": too short', Place(3, "subject"), id="v1"),
        pytest.param('Error at "/12": value must be an object', Place(12, None), id="the event"),
        pytest.param('Error at "/0/data/calls": null', Place(0, "data"), id="in the data"),
        pytest.param('Error at "/0/hunter2": null', Place(0, None), id="an unknown attribute"),
        pytest.param("Bad Request: 3.subject [min_length]: x", Place(3, "subject"), id="v3"),
        pytest.param("Bad Request: 0.data.calls [nullable]: x", Place(0, "data"), id="v3 data"),
        pytest.param('Error at "/subject": a single event', None, id="no index"),
        pytest.param('Error at "/99999999999/id": x', None, id="no batch is that long"),
        pytest.param("invalid event: no such thing", None, id="no place"),
    ],
)
def test_places_are_read_from_both_validators(detail, place):
    """The first event that the text names, with its attribute if it is one of CloudEvents."""
    assert named_place([detail]) == place


def test_a_place_outside_the_batch_blames_nobody():
    """The server counts something else than we do."""
    batch = batch_of([make_event()])

    assert judged(batch, 400, 'Error at "/1/subject": x').blamed is None


def test_the_place_is_one_of_the_body():
    """Where several elements of the body are made of one event, that event is to blame."""
    batch = batch_of([make_event(), make_event()])
    owners = [batch[0], batch[0], batch[1]]

    delivery = judged(batch, 400, 'Error at "/1/subject": x', owners=owners)

    assert delivery.blamed == batch[0].id


def test_a_batch_that_is_too_large_is_refused_for_its_size(server, sink):
    """413 blames no event; nothing of the batch is stored."""
    batch = batch_of([make_event(), make_event()])
    server.order(TooLarge(max_events=1), times=None)

    both, one = sink.deliver(batch), sink.deliver(batch[:1])

    assert (both.refusal, both.retryable) == ("size", {each.id for each in batch})
    assert one == Delivery.all_accepted(batch[:1])


@pytest.mark.parametrize(
    ("fault", "ambiguous"),
    [
        pytest.param(Reset("before"), True, id="reset before the answer"),
        pytest.param(Reset("after"), True, id="reset after it was stored"),
        pytest.param(Refuse(500), True, id="stored in part, maybe"),
        pytest.param(Refuse(502), True, id="a proxy without an answer"),
        pytest.param(Refuse(504), True, id="a proxy that waited"),
        pytest.param(Refuse(503), False, id="not now"),
        pytest.param(Refuse(429), False, id="too many"),
        pytest.param(Refuse(401), False, id="a wrong key"),
        pytest.param(Refuse(400), False, id="refused"),
    ],
)
def test_an_answer_that_leaves_it_open_is_ambiguous(server, sink, fault, ambiguous):
    """The server may have the batch if the request went out and no clear word came back."""
    server.order(fault)

    assert sink.deliver(batch_of([make_event()])).ambiguous == ambiguous


def test_a_connection_that_was_never_made_is_not_ambiguous(server, sink):
    """Nothing was sent, so nothing was stored."""
    server.down()

    assert not sink.deliver(batch_of([make_event()])).ambiguous


@pytest.mark.parametrize(
    ("detail", "kept"),
    [
        pytest.param('no such meter: [{"subject":"hunter2"}]', ": no such meter", id="JSON"),
        pytest.param("KeyError in {'subject': 'hunter2'}", ": KeyError in", id="as Python has it"),
        pytest.param('"{\\"subject\\":\\"hunter2\\"}"', "", id="nothing else"),
        pytest.param("try later\nhunter2", ": try later", id="in the next line"),
    ],
)
def test_a_reason_holds_no_event_that_the_server_quotes(detail, kept):
    """`status` and the log say why, and not who used what."""
    answer = Answer(503, PROBLEM, json.dumps({"detail": detail}).encode())

    reason = judge(batch_of([make_event()]), answer, secret=None, now=NOW).reason

    assert reason == f"503 Service Unavailable{kept}"


def test_an_answer_without_an_end_is_its_status(monkeypatch):
    """Bytes that keep coming hold up the sink for no longer than an answer is worth."""
    monkeypatch.setattr(wire, "BODY_PATIENCE", 0.0)
    sent = []

    def drip(connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 202 OK\r\nContent-Length: 1000\r\n\r\n")
        with connection, suppress(OSError):
            while True:
                connection.sendall(b"x")
                sent.append(1)
                pause.wait(0.01)

    pause, batch = threading.Event(), batch_of([make_event()])
    with socket.create_server(("127.0.0.1", 0)) as server:
        serving = threading.Thread(target=lambda: drip(server.accept()[0]))
        serving.start()
        url = f"cloudevents+http://127.0.0.1:{server.getsockname()[1]}/usage"
        with closing(open_sink(url, source="tests")) as sink:
            delivery = sink.deliver(batch)
        serving.join()

    assert delivery == Delivery.all_accepted(batch)
    assert len(sent) < 500


def test_what_is_no_problem_document_says_nothing():
    """Only JSON is read, and only texts in it."""
    assert problem_texts("text/html", b'{"detail": "x"}') == []
    assert problem_texts("application/json", b'{"title": 1, "detail": "x"}') == ["x"]
