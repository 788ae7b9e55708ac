"""What the fake server lists, as OpenMeter's v1 and v2 do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from llm_metering.testing import FakeClock, OpenMeterServer
from tests.testing.conftest import BATCH
from tests.testing.wire_events import wire_event, wire_events

NOW = 1_795_262_400.0
"""2026-11-21T12:00:00Z."""


@pytest.fixture
def clock() -> FakeClock:
    """The server's."""
    return FakeClock(NOW)


@pytest.fixture
def server(clock) -> Iterator[OpenMeterServer]:
    """A server whose time stands still."""
    with OpenMeterServer(clock=clock) as server:
        yield server


@pytest.fixture
def ask(server, client):
    """Asks for a list; its status and its document."""

    def ask(version: str = "v2", **parameters: Any) -> tuple[int, Any]:
        if isinstance(parameters.get("filter"), dict):
            parameters["filter"] = json.dumps(parameters["filter"])
        # `from` is no name in Python.
        parameters = {key.rstrip("_"): value for key, value in parameters.items()}
        answer = client.get(f"{server.url}/api/{version}/events", params=parameters)
        return answer.status_code, answer.json()

    return ask


def ids(document: Any) -> list[str]:
    """The ids in a list."""
    items = document["items"] if isinstance(document, dict) else document
    return [item["event"]["id"] for item in items]


def test_an_event_is_listed_as_it_is_kept(ask, post):
    """In whole seconds of UTC, with when it came."""
    post([wire_event("1", time="2026-11-21T13:00:00.999+02:00"), wire_event("2", data=None)])

    status, document = ask(filter={"id": {"$eq": "1"}})

    assert status == 200
    assert document == {
        "items": [
            {
                "event": {
                    "specversion": "1.0",
                    "id": "1",
                    "source": "tests",
                    "type": "llm.usage",
                    "subject": "customer-42",
                    "time": "2026-11-21T11:00:00Z",
                    "datacontenttype": "application/json",
                    "data": {"total_tokens": 120, "model": "gpt-5-mini"},
                },
                "ingestedAt": "2026-11-21T12:00:00Z",
                "storedAt": "2026-11-21T12:00:00Z",
                "validationError": "no meter found for event type: llm.usage\n"
                "no customer found for event subject: customer-42",
            }
        ]
    }
    assert "data" not in ask(filter={"id": {"$eq": "2"}})[1]["items"][0]["event"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param({}, "4321", id="everything"),
        pytest.param({"id": {}}, "4321", id="no operator"),
        pytest.param({"id": {"$in": ["1", "3", "9"]}}, "31", id="in"),
        pytest.param({"id": {"$in": []}}, "", id="in nothing"),
        pytest.param({"id": {"$nin": ["1", "3"]}}, "42", id="not in"),
        pytest.param({"id": {"$ne": "1"}}, "432", id="not equal"),
        pytest.param({"id": {"$gt": "1"}, "subject": {"$eq": "acme"}}, "4", id="two filters"),
        pytest.param({"id": {"$or": [{"$eq": "1"}, {"$gte": "4"}]}}, "41", id="or"),
        pytest.param({"id": {"$and": [{"$gt": "1"}, {"$lt": "3"}]}}, "2", id="and"),
        pytest.param({"source": {"$eq": "tests"}, "type": {"$lte": "m"}}, "4321", id="others"),
        pytest.param({"time": {"$gte": "2026-11-21T10:00:02Z"}}, "432", id="time"),
        pytest.param({"time": {"$lt": "2026-11-21T12:00:02+02:00"}}, "1", id="another zone"),
        pytest.param({"time": {"$gt": "2026-11-21T10:00:02.9Z"}}, "43", id="whole seconds"),
        pytest.param(
            {"time": {"$and": [{"$gt": "2026-11-21T10:00:01Z"}, {"$lte": "2026-11-21T10:00:03Z"}]}},
            "32",
            id="a span",
        ),
        pytest.param(
            {"id": {"$in": ["1", "4"]}, "time": {"$lt": "2026-11-21T10:00:04Z"}}, "1", id="both"
        ),
        pytest.param({"id": {"$eq": "2", "$in": None}}, "2", id="null is no operator"),
        pytest.param({"subject": {"$like": "customer-%"}}, "32", id="a pattern"),
        pytest.param({"ingestedAt": {"$gt": "2026-11-21T12:00:00Z"}}, "", id="when it came"),
    ],
)
def test_filters_of_v2(ask, post, wanted, expected):
    """The newest first; a filter for each attribute, and all of them hold."""
    post(
        [
            wire_event(
                str(number),
                time=f"2026-11-21T10:00:0{number}Z",
                subject="acme" if number in (1, 4) else "customer-42",
            )
            for number in (3, 1, 4, 2)
        ]
    )

    status, document = ask(filter=wanted)

    assert (status, "".join(ids(document))) == (200, expected)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_pages_of_v2_hold_each_event_once(ask, post, limit):
    """Events of one second too; a full last page has a cursor to an empty one."""
    names = [str(number) for number in range(7)]
    for name in names:
        post(wire_events(name))
    found: list[str] = []
    pages = 0
    parameters: dict[str, Any] = {"limit": limit, "filter": {"subject": {"$eq": "customer-42"}}}
    while True:
        _, document = ask(**parameters)
        found += ids(document)
        pages += 1
        assert len(document["items"]) <= limit
        if "nextCursor" not in document:
            break
        parameters["cursor"] = document["nextCursor"]

    assert found == names[::-1]
    assert pages == 7 // limit + 1


@pytest.mark.parametrize(
    ("parameters", "status", "detail"),
    [
        pytest.param({"limit": 0}, 400, "limit must be", id="no limit"),
        pytest.param({"limit": 101}, 400, "limit must be", id="large limit"),
        pytest.param({"limit": "x"}, 400, "validation error", id="limit of letters"),
        pytest.param({"cursor": "?"}, 400, "decode cursor", id="cursor"),
        pytest.param({"cursor": "bm90aGluZw=="}, 400, "no delimiter", id="half a cursor"),
        pytest.param({"filter": "{"}, 400, "validation error", id="no JSON"),
        pytest.param({"filter": "[]"}, 400, "must be an object", id="no object"),
        pytest.param({"filter": {"id": "1"}}, 400, "format mismatch", id="no operator"),
        pytest.param({"filter": {"id": {"$eq": 1}}}, 400, "format mismatch", id="a number"),
        pytest.param({"filter": {"id": {"$eq": ""}}}, 400, "format mismatch", id="empty"),
        pytest.param({"filter": {"id": {"$in": "1"}}}, 400, "format mismatch", id="no list"),
        pytest.param({"filter": {"id": {"$in": [1]}}}, 400, "format mismatch", id="numbers"),
        pytest.param(
            {"filter": {"id": {"$eq": "1", "$ne": "2"}}}, 400, "multiple operators", id="two"
        ),
        pytest.param(
            {"filter": {"id": {"$or": [{"$and": [{"$eq": "1"}]}]}}}, 400, "depth", id="nested"
        ),
        pytest.param(
            {"filter": {"time": {"$gt": "2026-11-21T12:00:00"}}}, 400, "names no zone", id="naive"
        ),
        pytest.param({"filter": {"customerId": {}}}, 501, "filter customerId", id="customer"),
        pytest.param({"filter": {"storedAt": {}}}, 501, "passes over", id="v3's column"),
        pytest.param({"filter": {"id": {"$contains": "1"}}}, 400, "$contains", id="v3's operator"),
        pytest.param(
            {"filter": {"time": {"$and": [{"$and": []}]}}}, 400, "depth", id="nested times"
        ),
        pytest.param({"sort": "time"}, 501, "parameter sort", id="parameter"),
    ],
)
def test_what_v2_does_not_take(ask, parameters, status, detail):
    """400 where OpenMeter says so, 501 where only this server knows no better; even without rows."""
    answered, document = ask(**parameters)

    assert (answered, document["status"]) == (status, status)
    assert detail in document["detail"]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        pytest.param({}, ["3", "2", "12"], id="the last 32 days"),
        pytest.param({"limit": 1}, ["3"], id="limit"),
        pytest.param({"id": "2"}, ["2", "12"], id="a part of the id"),
        pytest.param({"subject": "acme"}, ["3"], id="subject"),
        pytest.param({"subject": "ac"}, [], id="a part of the subject"),
        pytest.param({"from_": "2026-11-21T10:00:02Z"}, ["3", "2"], id="from, included"),
        pytest.param({"to": "2026-11-21T10:00:02Z", "clientId": "x"}, ["12"], id="to, excluded"),
        pytest.param({"ingestedAtFrom": "2026-11-21T12:00:01Z"}, [], id="nothing came later"),
        pytest.param({"ingestedAtTo": "2026-11-21T12:00:00Z"}, [], id="nothing came before"),
    ],
)
def test_the_list_of_v1(ask, post, parameters, expected):
    """Plain parameters, the newest first, and nothing from before its time."""
    post(
        [
            wire_event("12", time="2026-11-21T10:00:01Z"),
            wire_event("2", time="2026-11-21T10:00:02Z"),
            wire_event("3", time="2026-11-21T10:00:03Z", subject="acme"),
            wire_event("4", time="2026-10-20T10:00:03Z"),
        ]
    )

    status, document = ask("v1", **parameters)

    assert (status, ids(document)) == (200, expected)


def test_v1_reaches_32_days_back(ask, clock):
    """And refuses to be asked for more."""
    assert ask("v1", from_="2026-10-20T12:00:00Z")[0] == 200
    clock.advance(1)
    assert ask("v1", from_="2026-10-20T12:00:00Z")[0] == 400


def test_lists_are_behind_the_token_too(client):
    """Who may not send may not read."""
    with OpenMeterServer(token="om_key") as server:
        client.post(
            f"{server.url}/api/v1/events",
            json=wire_events("1"),
            headers={"Content-Type": BATCH, "Authorization": "Bearer om_key"},
        )
        statuses = [
            client.get(f"{server.url}/api/v2/events", headers=headers).status_code
            for headers in ({}, {"Authorization": "Bearer om_key"})
        ]

    assert statuses == [401, 200]
