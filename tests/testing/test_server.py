"""What the fake server shows of itself, and how it comes and goes."""

from __future__ import annotations

import json
import os
import signal
import socket

import httpx
import pytest

from llm_metering.testing import FakeClock, OpenMeterServer
from llm_metering.testing.faults import Poison
from tests.testing.conftest import BATCH
from tests.testing.wire_events import wire_event, wire_events


def test_every_request_is_noted(server, post, client):
    """In the order in which they came, with what was sent and what was answered."""
    post(wire_events("1", "2"), Authorization="Bearer key")
    client.get(f"{server.url}/api/v2/events?limit=1")

    first, second = server.received
    assert (first.method, first.path, first.status) == ("POST", "/api/v1/events", 204)
    assert first.headers["authorization"] == "Bearer key"
    assert json.loads(first.body) == first.events == wire_events("1", "2")
    assert first.ids == ["1", "2"]
    assert (first.detail, first.faults) == (None, ())
    assert (second.method, second.query, second.status, second.ids) == ("GET", "limit=1", 200, [])


def test_connections_can_be_told_apart(server, post):
    """Requests over one connection come from one port, those over another from another."""
    post([])
    post([])
    httpx.post(f"{server.url}/api/v1/events", content=b"[]", trust_env=False)

    first, second, third = (request.client for request in server.received)
    assert first == second != third


@pytest.mark.parametrize(("dedupe", "count"), [(True, 3), (False, 5)], ids=["on", "off"])
def test_an_event_is_known_by_source_and_id(client, dedupe, count):
    """The first one wins, in its batch and in later ones; without deduplication all of them do."""
    with OpenMeterServer(dedupe=dedupe) as server:
        batches = [
            [wire_event("1"), wire_event("1", subject="acme"), wire_event("1", source="other")],
            [wire_event("1", type="other"), wire_event("2")],
        ]
        for batch in batches:
            client.post(f"{server.url}/api/v1/events", json=batch, headers={"Content-Type": BATCH})

    assert len(server.events) == count
    assert server.batches == batches
    assert server.events[0] == wire_event("1")


def test_deduplication_begins_and_ends_when_it_is_switched(server, post):
    """Off, nothing is looked up; and what came while it was off is not known afterwards."""
    post(wire_events("1"))
    server.dedupe = False
    post(wire_events("1", "2"))
    server.dedupe = True
    post(wire_events("1", "2"))
    post(wire_events("2"))

    assert [event["id"] for event in server.events] == ["1", "1", "2", "2"]


def test_source_and_id_are_joined_by_a_dash(server, post):
    """OpenMeter's key is ambiguous, so two events can be taken for one."""
    post([wire_event("b-1", source="a"), wire_event("1", source="a-b")])

    assert [event["source"] for event in server.events] == ["a"]


def test_an_event_without_a_time_gets_the_servers(client):
    """And one from before 1970 is dropped without a word."""
    with OpenMeterServer(clock=FakeClock(1_795_262_400.5)) as server:
        batch = [wire_event("1", time=None), wire_event("2", time=...)]
        old = wire_event("3", time="1970-01-01T00:00:00.999Z")
        answer = client.post(
            f"{server.url}/api/v1/events", json=[*batch, old], headers={"Content-Type": BATCH}
        )

    assert answer.status_code == 204
    assert [event["time"] for event in server.events] == ["2026-11-21T12:00:00.500000Z"] * 2


def test_totals_are_what_a_meter_says(server, post):
    """Numbers and strings of numbers are added; everything else is passed over."""
    post(
        [
            wire_event("1", data={"tokens": 100, "model": "a"}),
            wire_event("2", data={"tokens": "20", "model": "a", "nested": {"count": 0.5}}),
            wire_event("3", data={"tokens": 3, "model": 7}, subject="acme"),
            wire_event("4", data={"tokens": 4}, type="other"),
            *(wire_event(f"5{each}", data={"tokens": each}) for each in ("x", True, [1], "nan")),
            wire_event("6", data=None),
        ]
    )

    assert server.total("$.tokens") == 127
    assert server.total("$.tokens", event_type="llm.usage") == 123
    assert server.total("$.tokens", ["$.model"]) == {("a",): 120, ("7",): 3, ("",): 4}
    assert server.total("$.tokens", ["subject", "$.model"], event_type="other") == {
        ("customer-42", ""): 4
    }
    assert server.total("$.nested.count") == 0.5
    assert server.total("$.nothing") == 0
    assert server.total("$.nothing", ["subject"]) == {}


@pytest.mark.parametrize(
    "path", ["tokens", "$", "$.", "$..tokens", "$.items[*]", "$.items[-1]", "$.*", "subject"]
)
def test_a_path_that_is_not_simple_is_refused(server, path):
    """Rather than to be misunderstood."""
    with pytest.raises(ValueError, match="a path is"):
        server.total(path)


def test_a_server_that_is_down_refuses_and_keeps_its_port(server, post):
    """It cuts what is open, and comes back on the same port with all it had counted."""
    post(wire_events("1"))
    url = server.url

    server.down()
    with pytest.raises(httpx.ConnectError, match="refused"):
        post(wire_events("2"))
    assert "down" in repr(server)
    server.up()
    post(wire_events("1", "2"))

    assert server.url == url
    assert [event["id"] for event in server.events] == ["1", "2"]


def test_nobody_else_is_given_the_port_meanwhile(server):
    """Or the server could not come back, and a client would speak to somebody else."""
    server.down()

    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", server.port))


def test_connections_are_cut_when_it_goes_down(server):
    """Idle ones too, which a client would otherwise be answered over."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /api/v2/events HTTP/1.1\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        assert server.wait_until(lambda: server.received[0].status == 200)

        server.down()

        while connection.recv(1000):
            pass  # the rest of the answer


def test_down_and_up_may_be_called_twice(server, post):
    """As often as a test likes."""
    for _ in range(3):
        server.down()
        server.down()
        server.up()
        server.up()

    assert post([]).status_code == 204


def test_what_was_ordered_outlasts_an_outage(server, post):
    """Orders are for requests, and none came."""
    server.order(Poison(id="1"))
    server.down()
    server.up()

    assert post(wire_events("1")).status_code == 400


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork beside threads
def test_a_forked_child_does_not_keep_the_server_up(server):
    """The socket that it inherits does not answer for a server that has gone away."""
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        server.down()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_waiting_ends_with_what_was_waited_for(server, post):
    """Or says that it did not come."""
    assert not server.wait_for(1, timeout=0.0)
    post(wire_events("1"))

    assert server.wait_for(1, timeout=0.0)
    assert server.wait_until(lambda: server.received[0].status == 204)


def test_a_file_outlives_the_server(tmp_path, client):
    """The next one counts on where the last one stopped, and knows its ids."""
    file = tmp_path / "counted.jsonl"
    for batch in (wire_events("1", "2"), wire_events("2", "3")):
        with OpenMeterServer(file=file) as server:
            client.post(f"{server.url}/api/v1/events", json=batch, headers={"Content-Type": BATCH})

    assert server.events == wire_events("1", "2", "3")
    assert len(file.read_text().splitlines()) == 3


def test_a_function_that_fails_is_seen(server, post, capfd):
    """A mistake in a test's own function is not taken for a fault of the network."""
    server.order(Poison(matches=lambda event: event["nothing"]))

    with pytest.raises(httpx.RemoteProtocolError):
        post(wire_events("1"))

    assert "KeyError: 'nothing'" in capfd.readouterr().err


def test_repr_shows_what_there_is(server, post):
    """Where it is, and how much it counts."""
    post(wire_events("1"))

    assert repr(server) == f"<OpenMeterServer {server.url} up events=1>"
    assert server.sink_url == f"openmeter+{server.url}"
