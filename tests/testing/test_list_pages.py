"""Where the fake server's lists go on, and what v3's list of events takes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from llm_metering.testing import FakeClock, OpenMeterServer
from llm_metering.testing._openmeter import listing
from llm_metering.testing._openmeter.rows import Row
from llm_metering.testing.faults import Lag
from tests.openmeter_spec import openmeter_schema, spec_path, validator
from tests.testing.conftest import BATCH
from tests.testing.wire_events import wire_event, wire_events

NOW = 1_795_262_400.0
"""2026-11-21T12:00:00Z."""

METER = {"slug": "calls", "eventType": "llm.usage", "aggregation": "COUNT"}


@pytest.fixture
def server():
    """A server with five events of two seconds, and no objection to any of them."""
    with OpenMeterServer(
        clock=FakeClock(NOW), meters=[METER], customers=["customer-42", "acme"]
    ) as server:
        server.preload(
            [
                wire_event("a1", time="2026-11-21T10:00:01Z", subject="acme"),
                wire_event("a2", time="2026-11-21T10:00:02Z"),
                wire_event("b1", time="2026-11-21T10:00:01Z", source="other"),
                wire_event("b2", time="2026-11-21T10:00:02Z"),
                wire_event("c1", time="2026-11-21T10:00:01Z"),
            ]
        )
        yield server


@pytest.fixture
def ask(server, client):
    """Asks for v3's list; its status and its document."""

    def ask(**parameters: Any) -> tuple[int, Any]:
        answer = client.get(f"{server.url}/api/v3/openmeter/events", params=parameters)
        return answer.status_code, answer.json()

    return ask


def ids(document: Any) -> list[str]:
    """The ids in a list of v2 or v3."""
    return [item["event"]["id"] for item in document.get("items", document.get("data"))]


def walk_v2(client, server, **wanted: Any) -> list[list[str]]:
    """All pages of v2's list, as a client goes through them."""
    parameters = {"filter": json.dumps(wanted), "limit": 2}
    pages = []
    while True:
        document = client.get(f"{server.url}/api/v2/events", params=parameters).json()
        pages.append(ids(document))
        if "nextCursor" not in document:
            return pages
        parameters["cursor"] = document["nextCursor"]


def test_v3_shows_an_event_in_its_words(ask):
    """The customer and the times are beside it; nothing is said against it."""
    status, document = ask(**{"filter[id][eq]": "a1"})

    assert status == 200
    [item] = document["data"]
    assert item["event"]["id"] == "a1"
    assert item["ingested_at"] == item["stored_at"] == "2026-11-21T12:00:00Z"
    assert item["customer"].keys() == {"id"}
    assert "validation_errors" not in item


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param({}, "b2 a2 c1 b1 a1", id="everything"),
        pytest.param({"filter[id]": "a1"}, "a1", id="no operator"),
        pytest.param({"filter[id][eq]": "a1"}, "a1", id="eq"),
        pytest.param({"filter[id][oeq]": "a1, c1,zz,"}, "c1 a1", id="oeq"),
        pytest.param({"filter[id][oeq]": ","}, "b2 a2 c1 b1 a1", id="oeq of nothing"),
        pytest.param({"filter[id][neq]": "a1"}, "b2 a2 c1 b1", id="neq"),
        pytest.param({"filter[id][contains]": "A"}, "a2 a1", id="contains"),
        pytest.param({"filter[id][ocontains]": "A,C"}, "a2 c1 a1", id="ocontains"),
        pytest.param({"filter[id][gte]": "b", "filter[id][lt]": "b2"}, "b1", id="two operators"),
        pytest.param({"filter[source][eq]": "other"}, "b1", id="source"),
        pytest.param({"filter[subject][eq]": "acme", "filter[type][eq]": "x"}, "", id="both hold"),
        pytest.param({"filter[time][gt]": "2026-11-21T10:00:01Z"}, "b2 a2", id="time"),
        pytest.param({"filter[time][eq]": "2026-11-21T10:00:01Z"}, "c1 b1 a1", id="one second"),
        pytest.param({"filter[ingested_at][lt]": "2026-11-21T12:00:00Z"}, "", id="taken"),
        pytest.param({"filter[stored_at][gte]": "2026-11-21T12:00:01Z"}, "", id="stored"),
        pytest.param({"sort": "time asc"}, "a1 b1 c1 a2 b2", id="ascending"),
        pytest.param({"sort": "stored_at"}, "c1 b2 b1 a2 a1", id="descending, if nothing is said"),
    ],
)
def test_filters_and_orders_of_v3(ask, wanted, expected):
    """What v3 calls a filter, and which event comes first."""
    status, document = ask(**wanted)

    assert (status, " ".join(ids(document))) == (200, expected)


@pytest.mark.parametrize(
    ("wanted", "status", "detail"),
    [
        pytest.param({"page[size]": 101}, 400, "1 to 100", id="a large page"),
        pytest.param({"page[before]": "x"}, 400, "page[before]", id="backwards"),
        pytest.param({"page[after]": "?"}, 400, "decode cursor", id="cursor"),
        pytest.param({"sort": "id"}, 400, "unsupported sort field", id="sort"),
        pytest.param({"sort": "time up"}, 400, "asc or desc", id="direction"),
        pytest.param({"filter[name][eq]": "x"}, 400, "unknown filter", id="field"),
        pytest.param({"filter[id][like]": "x"}, 400, "unsupported operator", id="operator"),
        pytest.param({"filter[time][oeq]": "x"}, 400, "unsupported operator", id="times"),
        pytest.param({"filter[id]eq": "x"}, 400, "malformed operator", id="malformed"),
        pytest.param({"filter[id][eq]": ["x", "y"]}, 400, "repeated", id="repeated"),
        pytest.param({"filter[id][oeq]": ",".join("x" * 51)}, 400, "max 50", id="many ids"),
        pytest.param({"filter[id][oeq]": "x" * 1025}, 400, "max 1024", id="long"),
        pytest.param(
            {"filter[id][ocontains]": "a,b", "filter[id][gt]": "a"}, 400, "depth", id="nested"
        ),
        pytest.param({"filter[customer_id][eq]": "x"}, 501, "customer_id", id="customer"),
        pytest.param({"filter[id][exists]": "true"}, 501, "exists", id="exists"),
        pytest.param({"limit": 1}, 501, "parameter limit", id="v2's word"),
    ],
)
def test_what_v3_does_not_take(ask, wanted, status, detail):
    """400 where OpenMeter says so, 501 where only this server knows no better."""
    answered, document = ask(**wanted)

    assert (answered, document["status"]) == (status, status)
    assert detail in document["detail"]


@pytest.mark.parametrize("sort", ["time", "time asc", "stored_at asc"])
def test_pages_of_v3_hold_each_event_once(ask, sort):
    """In either direction; 20 to a page unless asked, and a full page names the next."""
    _, whole = ask(sort=sort)
    assert whole["meta"]["page"]["size"] == 20
    assert whole["meta"]["page"]["next"] is None
    found, parameters = [], {"page[size]": 2, "sort": sort}
    while True:
        _, document = ask(**parameters)
        found += ids(document)
        page = document["meta"]["page"]
        if page["next"] is None:
            break
        assert page["next"] == page["last"]
        parameters["page[after]"] = page["next"]

    assert found == ids(whole)
    assert len(found) == 5


def test_an_event_that_is_stored_twice_is_on_two_pages(client):
    """Rows have ids of their own, so a page may end between two rows of one event."""
    with OpenMeterServer(dedupe=False) as server:
        server.preload(wire_events("1", "2", "2"))

        assert walk_v2(client, server) == [["2", "2"], ["1"]]
        assert walk_v2(client, server, id={"$in": ["1", "2"]}) == [["2", "2"], ["1"]]

        server.preload(wire_events("3"))
        assert walk_v2(client, server) == [["3", "2"], ["2", "1"], []]


def test_cursors_with_an_events_id_pass_over_its_second_row(client):
    """As in OpenMeter before v1.0.0-beta.228: rows of one second go by the event's id."""
    with OpenMeterServer(dedupe=False, cursors="id") as server:
        server.preload(wire_events("1", "3", "2", "2"))

        assert walk_v2(client, server) == [["3", "2"], ["1"], []]
        assert walk_v2(client, server, id={"$in": ["2"]}) == [["2", "2"], []]
        assert walk_v2(client, server, id={"$in": ["3", "2"]}) == [["3", "2"], []]
        ask_both = {"time": {"$gt": "2026-01-01T00:00:00Z"}, "ingestedAt": {}}
        answer = client.get(
            f"{server.url}/api/v2/events",
            params={"filter": json.dumps({**ask_both, "ingestedAt": ask_both["time"]})},
        )
        assert (answer.status_code, "both be set" in answer.text) == (400, True)
        assert client.get(f"{server.url}/api/v3/openmeter/events").status_code == 501


def test_a_cursor_is_a_time_and_an_id(client, server):
    """Base64 of RFC 3339 in whole seconds, a comma, and the id of the page's last row."""
    document = client.get(f"{server.url}/api/v2/events", params={"limit": 1}).json()

    time, _, name = base64.b64decode(document["nextCursor"]).decode().partition(",")
    assert time == "2026-11-21T10:00:02Z"
    assert len(name) == 26


def test_what_is_late_is_stored_later(client):
    """It is taken at once, in no list before it is stored, and the list says when that was."""
    clock = FakeClock(NOW)
    with OpenMeterServer(clock=clock) as server:
        server.order(Lag(id="1"))
        client.post(
            f"{server.url}/api/v1/events",
            content=json.dumps(wire_events("1", "2")),
            headers={"Content-Type": BATCH},
        )
        before = [event["id"] for event in server.events]
        clock.advance(30)
        stored = server.catch_up()
        document = client.get(
            f"{server.url}/api/v2/events", params={"filter": '{"id":{"$eq":"1"}}'}
        ).json()

        assert (before, stored, server.catch_up()) == (["2"], 1, 0)
        [item] = document["items"]
        assert item["ingestedAt"] == "2026-11-21T12:00:00Z"
        assert item["storedAt"] == "2026-11-21T12:00:30Z"


@pytest.mark.parametrize(
    ("name", "path", "schema"),
    [
        pytest.param("", "/api/v2/events", "IngestedEventCursorPaginatedResponse", id="v2"),
        pytest.param(
            "openapi.v3.yaml",
            "/api/v3/openmeter/events?page[size]=3",
            "IngestedEventPaginatedResponse",
            id="v3",
        ),
    ],
)
def test_a_list_is_valid(client, server, name, path, schema):
    """Against OpenMeter's own document, with events that are invalid and a next page."""
    document = spec_path(name)
    if document is None:
        pytest.skip("OpenMeter's API document is not here (LLM_METERING_OPENMETER_SPEC)")
    server.preload([wire_event("d", type="unknown", data=None, subject="nobody")])
    answer = client.get(server.url + path)

    assert "no meter found" in answer.text
    validator(openmeter_schema(document, schema)).validate(answer.json())


@pytest.mark.parametrize(
    ("wanted", "found", "walked"),
    [
        pytest.param({"id": {"$in": ["3", "700", "none"]}}, "700 3", 0, id="ids"),
        pytest.param({"subject": {"$eq": "customer-42"}}, "999 998 997 996", 4, id="a page"),
        pytest.param({"time": {"$lte": "2026-11-21T10:00:02Z"}}, "2 1 0", 3, id="the first ones"),
        pytest.param({"time": {"$lt": "2026-11-21T10:00:00Z"}}, "", 0, id="none of that time"),
    ],
)
def test_a_list_walks_through_few_rows(client, monkeypatch, wanted, found, walked):
    """However many there are, so that a client may ask about all of them."""
    passed: list[str] = []
    walk = listing._walk

    def counted(*arguments: Any, **named: Any) -> Iterator[Row]:
        for row in walk(*arguments, **named):
            passed.append(row.event["id"])
            yield row

    monkeypatch.setattr(listing, "_walk", counted)
    with OpenMeterServer() as server:
        server.preload(
            wire_event(str(n), time=f"2026-11-21T10:{n // 60:02}:{n % 60:02}Z") for n in range(1000)
        )
        answer = client.get(
            f"{server.url}/api/v2/events", params={"filter": json.dumps(wanted), "limit": 4}
        )

    assert (" ".join(ids(answer.json())), len(passed)) == (found, walked)
