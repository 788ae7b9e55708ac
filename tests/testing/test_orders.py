"""Which request gets which fault, and orders that make no sense."""

from __future__ import annotations

from datetime import datetime

import httpx
import pytest

from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import (
    ClaimBeforeWrite,
    Hang,
    LostAfterAccept,
    Poison,
    Refuse,
    Reset,
    Slow,
    TooLarge,
    Unreadable,
    fault_from,
)
from tests.testing.wire_events import wire_events


def test_orders_follow_each_other_and_standing_ones_go_with_all(server, post):
    """The faults of one request combine, each at its own stage."""
    server.order(Poison(id="bad"), times=None)
    server.order(Refuse(500), times=2)
    server.order(LostAfterAccept(), Unreadable(299))

    statuses = [post(wire_events("1")).status_code for _ in range(2)]
    with pytest.raises(httpx.DecodingError):
        post(wire_events("2"))
    statuses += [post(wire_events("bad")).status_code, post(wire_events("3")).status_code]

    assert statuses == [500, 500, 400, 204]
    assert [event["id"] for event in server.events] == ["3"]


def test_an_order_without_a_number_holds_until_it_is_cleared(server, post):
    """And nothing is left of orders that were cleared."""
    server.order(Refuse(503), times=None)
    server.order(Refuse(401))
    statuses = [post([]).status_code for _ in range(3)]
    server.order(Refuse(404), times=5)
    server.clear()

    assert [*statuses, post([]).status_code] == [401, 503, 503, 204]


def test_chance_falls_the_same_way_for_the_same_seed(client):
    """A server that fails now and then fails in the same places in each run."""

    def run(seed: int) -> list[int]:
        with OpenMeterServer() as server:
            server.order(Refuse(500), times=None, chance=0.5, seed=seed)
            headers = {"Content-Type": "application/cloudevents-batch+json"}
            url = f"{server.url}/api/v1/events"
            return [client.post(url, content=b"[]", headers=headers).status_code for _ in range(30)]

    first = run(7)

    assert set(first) == {204, 500}
    assert first == run(7) != run(8)


def test_faults_of_lists_leave_what_brings_events_alone(server, post, client):
    """Reading may fail where writing does not."""
    server.order(Refuse(503), to="list")

    statuses = [post([]).status_code]
    statuses += [client.get(f"{server.url}/api/v2/events").status_code for _ in range(2)]

    assert statuses == [204, 503, 200]


@pytest.mark.parametrize(
    ("order", "message"),
    [
        pytest.param(lambda server: server.order(), "at least one fault", id="nothing"),
        pytest.param(lambda server: server.order(Hang(), times=-1), "0 or more", id="times"),
        pytest.param(lambda server: server.order(Hang(), chance=0.5), "needs a seed", id="no seed"),
        pytest.param(lambda server: server.order(Hang(), seed=1), "a chance", id="no chance"),
        pytest.param(lambda server: server.order(Hang(), to="all"), "ingest or list", id="target"),
        pytest.param(lambda _: Refuse(99), "no answer has the status 99", id="status"),
        pytest.param(lambda _: Refuse(503, datetime(2026, 1, 1)), "must be aware", id="naive"),
        pytest.param(lambda _: Poison(), "say which events", id="no poison"),
        pytest.param(lambda _: TooLarge(), "say what is too large", id="no limit"),
        pytest.param(lambda _: Reset("later"), "before, during or after", id="reset"),
        pytest.param(lambda _: Hang("during"), "before or after", id="hang"),
        pytest.param(lambda _: Slow(piece=0), "one byte", id="piece"),
    ],
)
def test_orders_that_make_no_sense_are_refused(server, order, message):
    """At once, and not by a test that passes because nothing went wrong."""
    with pytest.raises(ValueError, match=message):
        order(server)


def test_claims_need_deduplication():
    """Without it no id is claimed, and the test would show nothing."""
    with pytest.raises(ValueError, match="which is off"):
        OpenMeterServer(dedupe=False).order(ClaimBeforeWrite())


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        pytest.param({"fault": "Refuse", "status": 500}, Refuse(500), id="refuse"),
        pytest.param({"fault": "Poison", "id": "1"}, Poison(id="1"), id="poison"),
        pytest.param({"fault": "Reset"}, Reset(), id="default"),
    ],
)
def test_a_fault_may_be_written_in_json(document, fault):
    """For those in other processes."""
    assert fault_from(document) == fault


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param({}, "no fault None", id="no name"),
        pytest.param({"fault": "Fire"}, "no fault 'Fire'; there are Refuse", id="unknown"),
        pytest.param({"fault": []}, "no fault", id="no text"),
        pytest.param({"fault": "Refuse"}, "Refuse: .*status", id="missing"),
        pytest.param({"fault": "Slow", "wait": "x"}, "Slow takes piece, seconds", id="function"),
        pytest.param({"fault": "Reset", "when": "x"}, "not 'x'", id="wrong"),
    ],
)
def test_json_that_is_no_fault_is_refused(document, message):
    """With what there is."""
    with pytest.raises(ValueError, match=message):
        fault_from(document)
