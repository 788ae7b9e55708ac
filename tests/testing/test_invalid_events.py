"""What the lists say of events that were taken and that no meter can read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_metering.testing import OpenMeterServer
from tests.testing.wire_events import wire_event

TOKENS = {
    "slug": "tokens",
    "eventType": "llm.usage",
    "aggregation": "SUM",
    "valueProperty": "$.usage['tokens']",
}


def meters(**changed: Any) -> list[dict[str, Any]]:
    """One meter."""
    return [{**TOKENS, **changed}]


def said(client, event: dict[str, Any], **settings: Any) -> str | None:
    """What v2 says of an event; v3 must say the same in its own form."""
    with OpenMeterServer(**{"customers": ["customer-42"], **settings}) as server:
        server.preload([event])
        [item] = client.get(f"{server.url}/api/v2/events").json()["items"]
        [one] = client.get(f"{server.url}/api/v1/events").json()
        [other] = client.get(f"{server.url}/api/v3/openmeter/events").json()["data"]
    error: str | None = item.get("validationError")
    assert one.get("validationError") == error
    assert other.get("validation_errors") == (
        None
        if error is None
        else [{"code": "validation_error", "message": line} for line in error.split("\n")]
    )
    return error


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(0, id="zero"),
        pytest.param(-1.5, id="negative"),
        pytest.param("12", id="a number in a string"),
        pytest.param("+.5e-3", id="with an exponent"),
        pytest.param("0x1p-2", id="hexadecimal"),
        pytest.param("0x_1p1", id="underscore behind a prefix"),
    ],
)
def test_what_a_meter_reads(client, value):
    """Nothing is said of it."""
    event = wire_event("1", data={"usage": {"tokens": value}})

    assert said(client, event, meters=meters()) is None


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(None, "null and missing value property", id="no data"),
        pytest.param({}, "missing value property: \"$.usage['tokens']\"", id="missing"),
        pytest.param({"usage": 3}, "missing value property: \"$.usage['tokens']\"", id="no object"),
        pytest.param({"usage": {"tokens": None}}, "value cannot be null", id="null"),
        pytest.param(
            {"usage": {"tokens": "many"}}, "value cannot be parsed as float64: many", id="a word"
        ),
        pytest.param(
            {"usage": {"tokens": ""}}, "value cannot be parsed as float64: ", id="an empty string"
        ),
        pytest.param(
            {"usage": {"tokens": " 1"}}, "value cannot be parsed as float64:  1", id="a space"
        ),
        pytest.param(
            {"usage": {"tokens": "1_0"}}, "value cannot be parsed as float64: 1_0", id="underscore"
        ),
        pytest.param(
            {"usage": {"tokens": "1e999"}}, "value cannot be parsed as float64: 1e999", id="large"
        ),
        pytest.param({"usage": {"tokens": "NaN"}}, "value cannot be NaN", id="not a number"),
        pytest.param({"usage": {"tokens": "-Inf"}}, "value cannot be infinity", id="infinite"),
        pytest.param(
            {"usage": {"tokens": True}}, "unsupported value property type: bool", id="bool"
        ),
        pytest.param(
            {"usage": {"tokens": {}}},
            "unsupported value property type: map[string]interface {}",
            id="object",
        ),
        pytest.param(
            {"usage": {"tokens": [1]}}, "unsupported value property type: []interface {}", id="list"
        ),
    ],
)
def test_what_no_meter_reads(client, data, error):
    """OpenMeter's own words; a meter that counts events needs no value."""
    event = wire_event("1", data=data)

    assert said(client, event, meters=meters()) == f"invalid event: {error}"
    assert said(client, event, meters=meters(aggregation="COUNT")) is None


def test_a_meter_of_unique_values_reads_anything_but_null(client):
    """Also what is no number."""
    for value, error in ((True, None), ([1], None), (None, "invalid event: value cannot be null")):
        event = wire_event("1", data={"usage": {"tokens": value}})
        assert said(client, event, meters=meters(aggregation="UNIQUE_COUNT")) == error


def test_everything_that_is_wrong_is_said(client):
    """Of each meter for the event's type, of no meter at all, and of a subject without customer."""
    event = wire_event("1", data={"usage": {"tokens": "x"}})
    several = [
        *meters(slug="a"),
        *meters(slug="b", valueProperty="$.cost"),
        *meters(slug="c", eventType="other"),
    ]

    assert said(client, event, meters=several, customers=[]) == (
        "invalid event: value cannot be parsed as float64: x\n"
        'invalid event: missing value property: "$.cost"\n'
        "no customer found for event subject: customer-42"
    )
    assert said(client, event, meters=several[2:]) == "no meter found for event type: llm.usage"


def test_a_path_that_the_server_does_not_know(client):
    """501: it cannot tell whether the event is valid."""
    with OpenMeterServer(meters=meters(valueProperty="$.items[*].tokens")) as server:
        server.preload([wire_event("1")])
        answer = client.get(f"{server.url}/api/v2/events", params={"filter": json.dumps({})})

    assert answer.status_code == 501
