"""What the fake server's meters say, as OpenMeter's v1 and v3 ask for it and answer it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import Refuse
from tests.openmeter_spec import openmeter_schema, spec_path, validator
from tests.testing.wire_events import wire_event

TOKENS = {
    "slug": "tokens",
    "eventType": "llm.usage",
    "aggregation": "SUM",
    "valueProperty": "$.tokens",
    "groupBy": {"model": "$.model", "kind": "$.kind"},
}


def meters() -> list[dict[str, Any]]:
    """One of each aggregation, and one that does not count what is early."""
    kinds = ["COUNT", "AVG", "MIN", "MAX", "UNIQUE_COUNT", "LATEST"]
    return [
        TOKENS,
        *({**TOKENS, "slug": kind.lower(), "aggregation": kind} for kind in kinds),
        {**TOKENS, "slug": "later", "eventFrom": "2026-11-21T10:01:00Z"},
        {**TOKENS, "slug": "nothing", "eventType": "other"},
        {**TOKENS, "slug": "no_events", "eventType": "other", "aggregation": "COUNT"},
        {**TOKENS, "slug": "strange", "valueProperty": "$.items[*]"},
    ]


def usage(id: str, time: str, value: Any, subject: str = "acme", **data: Any) -> dict[str, Any]:
    """An event."""
    return wire_event(id, time=time, subject=subject, data={"tokens": value, **data})


@pytest.fixture
def server():
    """A server with events of two hours, some of which nobody can read."""
    with OpenMeterServer(meters=meters()) as server:
        server.preload(
            [
                usage("1", "2026-11-21T10:00:00.9Z", 10, model="a", kind=1),
                usage("2", "2026-11-21T10:00:59Z", "2.5", model="b"),
                usage("3", "2026-11-21T10:01:00Z", 10, subject="beta", model="a", kind=None),
                usage("4", "2026-11-21T11:59:59Z", 4, subject="beta", model="b", kind=[1]),
                usage("5", "2026-11-21T10:00:30Z", "NaN", model="a"),
                usage("6", "2026-11-21T10:00:30Z", "many", model="a"),
                usage("7", "2026-11-21T10:00:30Z", None, model="a"),
                wire_event("8", time="2026-11-21T10:00:30Z", subject="acme", data={"model": "a"}),
                wire_event("9", time="2026-11-21T10:00:30Z", subject="acme", data=None),
            ]
        )
        yield server


@pytest.fixture
def get(server, client):
    """Asks v1's meter; its status and its document."""

    def get(slug: str = "tokens", **parameters: Any) -> tuple[int, Any]:
        # `from` is no name in Python.
        parameters = {key.rstrip("_"): value for key, value in parameters.items()}
        answer = client.get(f"{server.url}/api/v1/meters/{slug}/query", params=parameters)
        return answer.status_code, answer.json()

    return get


@pytest.fixture
def post_v3(server, client):
    """Asks v3's meter; its status and its document."""

    def post_v3(slug: str = "tokens", **body: Any) -> tuple[int, Any]:
        body = {key.rstrip("_"): value for key, value in body.items()}
        answer = client.post(f"{server.url}/api/v3/openmeter/meters/{slug}/query", json=body)
        return answer.status_code, answer.json()

    return post_v3


def short(document: Any) -> list[tuple[Any, ...]]:
    """Rows of v1: hour and minute of the window, the value, the subject, the groups."""
    return [
        (
            row["windowStart"][11:16],
            row["windowEnd"][11:16],
            row["value"],
            row["subject"],
            *row["groupBy"].values(),
        )
        for row in document["data"]
    ]


def test_a_total_is_one_row(get):
    """Over the minutes of its events; what cannot be read is passed over."""
    assert get() == (
        200,
        {
            "data": [
                {
                    "value": 26.5,
                    "windowStart": "2026-11-21T10:00:00Z",
                    "windowEnd": "2026-11-21T12:00:00Z",
                    "subject": None,
                    "groupBy": {},
                }
            ]
        },
    )


@pytest.mark.parametrize(
    ("slug", "value"),
    [
        pytest.param("count", 9, id="each event counts, valid or not"),
        pytest.param("avg", 26.5 / 4, id="average"),
        pytest.param("min", 2.5, id="least"),
        pytest.param("max", 10, id="most"),
        pytest.param("latest", 4, id="latest"),
        pytest.param("unique_count", 6, id="a missing value is one of its own, null is none"),
        pytest.param("later", 14, id="from a moment on"),
    ],
)
def test_each_aggregation(get, post_v3, slug, value):
    """A JSON number in v1, a decimal in a string in v3."""
    assert [row["value"] for row in get(slug)[1]["data"]] == [value]
    assert [row["value"] for row in post_v3(slug)[1]["data"]] == [str(value)]


def test_of_nothing_there_is_no_sum_but_a_count(get):
    """As SQL has it: an aggregation over no rows is one row, and its sum is NULL."""
    assert get("nothing")[1] == {"data": []}
    [row] = get("no_events")[1]["data"]
    assert (row["value"], row["windowStart"], row["windowEnd"]) == (
        0,
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:01:00Z",
    )
    assert get("no_events", windowSize="DAY")[1]["data"] == []
    assert get("no_events", groupBy="subject")[1]["data"] == []


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        pytest.param(
            {"windowSize": "MINUTE"},
            [
                ("10:00", "10:01", 12.5, None),
                ("10:01", "10:02", 10, None),
                ("11:59", "12:00", 4, None),
            ],
            id="minutes, of which only those are there that have events",
        ),
        pytest.param(
            {"windowSize": "HOUR", "groupBy": "model"},
            [
                ("10:00", "11:00", 20, None, "a"),
                ("10:00", "11:00", 2.5, None, "b"),
                ("11:00", "12:00", 4, None, "b"),
            ],
            id="hours and a key",
        ),
        pytest.param(
            {"groupBy": ["subject", "kind"]},
            [
                ("10:00", "10:01", 2.5, "acme", ""),
                ("11:59", "12:00", 4, "beta", ""),
                ("10:00", "10:01", 10, "acme", "1"),
                ("10:01", "10:02", 10, "beta", "null"),
            ],
            id="subjects and a key that is missing, null or no scalar",
        ),
        pytest.param(
            {"subject": ["beta", "nobody"]},
            [("10:01", "12:00", 14, "beta")],
            id="a subject is a group as well",
        ),
        pytest.param(
            {"from_": "2026-11-21T10:00:59.9Z", "to": "2026-11-21T11:59:59+00:00"},
            [("10:00", "11:59", 12.5, None)],
            id="a period, begun in whole seconds, without its end",
        ),
        pytest.param({"filterGroupBy[model]": "b"}, [("10:00", "12:00", 6.5, None)], id="filter"),
        pytest.param(
            {"advancedMeterGroupByFilters": json.dumps({"model": {"$ne": "b"}})},
            [("10:00", "10:02", 20, None)],
            id="advanced filter",
        ),
    ],
)
def test_queries_of_v1(get, asked, rows):
    """Windows, groups, periods and filters."""
    status, document = get(**asked)

    assert (status, short(document)) == (200, rows)


def test_a_period_is_answered_as_it_was_asked(get):
    """In its own zone, and as the window of each row where none was asked for."""
    _, document = get(from_="2026-11-21T11:00:00.500+01:00", to="2026-11-22T00:00:00Z")
    _, windows = get(from_="2026-11-21T10:00:00Z", windowSize="DAY")

    assert document["from"] == document["data"][0]["windowStart"] == "2026-11-21T11:00:00.5+01:00"
    assert document["to"] == document["data"][0]["windowEnd"] == "2026-11-22T00:00:00Z"
    assert "windowSize" not in document
    assert windows["windowSize"] == "DAY"
    assert "to" not in windows


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        pytest.param(
            "HOUR",
            [
                ("2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", 1),
                ("2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00", 2),
                ("2026-12-31T23:00:00+01:00", "2027-01-01T00:00:00+01:00", 4),
            ],
            id="the hour that comes twice is two",
        ),
        pytest.param(
            "DAY",
            [
                ("2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00", 3),
                ("2026-12-31T00:00:00+01:00", "2027-01-01T00:00:00+01:00", 4),
            ],
            id="a day of 25 hours",
        ),
        pytest.param(
            "MONTH",
            [
                ("2026-10-01T00:00:00+02:00", "2026-11-01T00:00:00+01:00", 3),
                ("2026-12-01T00:00:00+01:00", "2027-01-01T00:00:00+01:00", 4),
            ],
            id="months",
        ),
    ],
)
def test_windows_of_a_zone(client, size, expected):
    """Days and months begin at its midnight, whatever its clocks do."""
    with OpenMeterServer(meters=[TOKENS]) as server:
        server.preload(
            [
                usage("1", "2026-10-25T00:30:00Z", 1),
                usage("2", "2026-10-25T01:30:00Z", 2),
                usage("3", "2026-12-31T22:59:00Z", 4),
            ]
        )
        document = client.get(
            f"{server.url}/api/v1/meters/tokens/query",
            params={"windowSize": size, "windowTimeZone": "Europe/Berlin"},
        ).json()

    rows = [(row["windowStart"], row["windowEnd"], row["value"]) for row in document["data"]]
    assert rows == expected


def test_v1_takes_a_body_as_well(client, server, get):
    """The same query by POST, where a key may have several values."""
    answer = client.post(
        f"{server.url}/api/v1/meters/tokens/query",
        json={"windowSize": "HOUR", "subject": ["acme"], "filterGroupBy": {"model": ["a", "b"]}},
    )

    assert answer.json() == get(windowSize="HOUR", subject="acme")[1]


def test_queries_of_v3(post_v3):
    """In its words: dimensions, granularities, filters of them."""
    status, document = post_v3(
        from_="2026-11-21T10:00:00Z",
        granularity="PT1H",
        time_zone="Asia/Kolkata",
        group_by_dimensions=["model"],
        filters={"dimensions": {"subject": {"in": ["acme"]}, "model": {"neq": "b"}}},
    )

    assert (status, document) == (
        200,
        {
            "from": "2026-11-21T10:00:00Z",
            "data": [
                {
                    "value": "10",
                    "from": "2026-11-21T15:00:00+05:30",
                    "to": "2026-11-21T16:00:00+05:30",
                    "dimensions": {"model": "a", "subject": "acme"},
                }
            ],
        },
    )


@pytest.mark.parametrize(
    ("asked", "status", "detail"),
    [
        pytest.param({"slug": "none"}, 404, "meter not found", id="meter"),
        pytest.param({"slug": "strange"}, 501, "path", id="path"),
        pytest.param(
            {"from_": "2026-11-21T10:00:00Z", "to": "2026-11-21T11:00:00+01:00"},
            400,
            "cannot be equal",
            id="no time",
        ),
        pytest.param(
            {"from_": "2026-11-22T10:00:00Z", "to": "2026-11-21T10:00:00Z"},
            400,
            "must be before",
            id="back in time",
        ),
        pytest.param({"from_": "2026-11-22T10:00:00"}, 400, "names no zone", id="naive"),
        pytest.param({"groupBy": "colour"}, 400, "invalid group by: colour", id="key"),
        pytest.param({"groupBy": "customer_id"}, 400, "customer filter", id="customers"),
        pytest.param({"subject": ["x"] * 101}, 400, "at most 100", id="many subjects"),
        pytest.param({"windowSize": "WEEK"}, 400, "invalid window size", id="window"),
        pytest.param({"windowTimeZone": "Mars/Base"}, 400, "invalid time zone", id="zone"),
        pytest.param({"filterGroupBy[x]": "1"}, 400, "group by filter: x", id="filter"),
        pytest.param(
            {"filterGroupBy[model]": "a", "advancedMeterGroupByFilters": '{"kind": {"$eq": "1"}}'},
            400,
            "used together",
            id="two kinds of filters",
        ),
        pytest.param({"filterCustomerId": "x"}, 501, "filterCustomerId", id="customer"),
    ],
)
def test_what_a_query_of_v1_does_not_take(get, asked, status, detail):
    """400 where OpenMeter says so, 501 where only this server knows no better."""
    answered, document = get(**asked)

    assert (answered, document["status"]) == (status, status)
    assert detail in document["detail"]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        pytest.param({"slug": "none"}, 404, id="meter"),
        pytest.param({"windowSize": "DAY"}, 400, id="v1's word"),
        pytest.param({"granularity": "DAY"}, 400, id="v1's window"),
        pytest.param({"group_by_dimensions": ["colour"]}, 400, id="key"),
        pytest.param({"group_by_dimensions": "model"}, 400, id="no array"),
        pytest.param({"filters": {"subject": "x"}}, 400, id="no such filter"),
        pytest.param({"filters": {"dimensions": {"subject": {"neq": "x"}}}}, 400, id="operator"),
        pytest.param({"filters": {"dimensions": {"x": {"eq": "x"}}}}, 400, id="dimension"),
        pytest.param({"filters": {"dimensions": {"customer_id": {"eq": "x"}}}}, 501, id="customer"),
        pytest.param({"filters": {"dimensions": {"model": {"exists": True}}}}, 501, id="exists"),
    ],
)
def test_what_a_query_of_v3_does_not_take(post_v3, asked, status):
    """400 where OpenMeter says so, 501 where only this server knows no better."""
    assert post_v3(**asked)[0] == status


def test_one_meter_by_its_name_or_id(client, server):
    """As the lists show it; only what OpenMeter has is there to be asked for."""
    [listed, *_] = client.get(f"{server.url}/api/v1/meters").json()
    [listed_v3, *_] = client.get(f"{server.url}/api/v3/openmeter/meters").json()["data"]

    for name in ("tokens", listed["id"]):
        assert client.get(f"{server.url}/api/v1/meters/{name}").json() == listed
        assert client.get(f"{server.url}/api/v3/openmeter/meters/{name}").json() == listed_v3
    assert client.get(f"{server.url}/api/v1/meters/none").status_code == 404
    assert client.delete(f"{server.url}/api/v1/meters/tokens").status_code == 405
    assert client.get(f"{server.url}/api/v3/openmeter/meters/tokens/query").status_code == 405
    csv = {"Accept": "text/csv"}
    path = "/api/v1/meters/tokens/query"
    assert client.get(server.url + path, headers=csv).status_code == 501


def test_a_query_is_no_ingest(post_v3, server):
    """Faults of lists are for queries too, also for those that are POSTed."""
    server.order(Refuse(503))
    server.order(Refuse(429), to="list")

    assert post_v3()[0] == 429
    assert post_v3()[0] == 200


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        pytest.param("", {}, id="v1"),
        pytest.param("", {"windowSize": "DAY", "groupBy": ["subject", "model"]}, id="v1, windows"),
        pytest.param("openapi.v3.yaml", {}, id="v3"),
        pytest.param(
            "openapi.v3.yaml",
            {
                "granularity": "P1D",
                "group_by_dimensions": ["subject"],
                "to": "2026-12-01T00:00:00Z",
            },
            id="v3, windows",
        ),
    ],
)
def test_an_answer_is_valid(get, post_v3, name, asked):
    """Against OpenMeter's own schema, wherever it is known."""
    document = spec_path(name)
    if document is None:
        pytest.skip("OpenMeter's API document is not here (LLM_METERING_OPENMETER_SPEC)")
    _, answered = (post_v3 if name else get)(**asked)

    assert answered["data"]
    validator(openmeter_schema(document, "MeterQueryResult")).validate(answered)
