"""The fake server refuses what OpenMeter refuses, and takes what OpenMeter takes."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_metering.testing import OpenMeterServer
from llm_metering.testing._openmeter.schema import ATTRIBUTES, event_problems
from tests.openmeter_spec import openmeter_schema, spec_path, validator
from tests.testing.conftest import BATCH
from tests.testing.wire_events import wire_event, wire_events

V1, V3 = "/api/v1/events", "/api/v3/openmeter/events"
OURS = json.loads((Path(__file__).parents[1] / "schemas" / "openmeter-event.json").read_text())


@functools.cache
def validators(*, closed: bool) -> list[Any]:
    """What an API says of an event: in our words, and in OpenMeter's where they are at hand."""
    found: list[dict[str, Any]] = [{**OURS, "additionalProperties": False} if closed else OURS]
    path = spec_path("openapi.v3.yaml") if closed else spec_path()
    if path is not None:
        found.append(openmeter_schema(path, "MeteringEvent" if closed else "Event"))
    return [validator(schema) for schema in found]


texts = st.sampled_from(["", " ", "x", "1.0", "application/json", "urn:x", "\x00", "Zoë"])
times = st.sampled_from(
    [
        *("2026-11-21T12:00:00Z", "2026-11-21T12:00:00.123456789+01:00", "2026-02-31T23:59:60Z"),
        *("2026-11-21T12:00:00", "2026-11-21 12:00:00Z", "2026-11-21t12:00:00z", "2026-11-21"),
        *("2026-11-21T12:00:00Z\n", "2026-13-21T12:00:00Z", "2026-11-21T24:00:00Z", "٢٠٢٦"),
        *("2026-11-21T12:00:00.Z", "2026-11-21T12:00:00+0100", "02026-11-21T12:00:00Z", "now"),
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | times
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner))
attributes = st.sampled_from([*sorted(ATTRIBUTES), "extra", "data_base64", ""])
events = st.builds(
    lambda changes, missing: {
        key: value for key, value in (wire_event() | changes).items() if key not in missing
    },
    st.dictionaries(
        attributes, texts | times | values | st.dictionaries(texts, values), max_size=2
    ),
    st.lists(attributes, max_size=1),
)


@pytest.mark.parametrize("closed", [pytest.param(False, id="v1"), pytest.param(True, id="v3")])
@settings(deadline=None, max_examples=300)  # the first one waits for OpenMeter's document
@given(event=events | values)
@example(event=wire_event())
@example(event=wire_event(time=None, data=None, datacontenttype=None, dataschema=None))
@example(event=wire_event(data={"nested": {"null": None}}))
@example(event=wire_event(data={"cost": None}))
@example(event=wire_event(extra=None))
@example(event=wire_event(subject=""))
@example(event=wire_event(subject=7))
@example(event=wire_event(subject=None))
@example(event=wire_event(subject=...))
@example(event=wire_event(dataschema=""))
@example(event=wire_event(datacontenttype="text/xml"))
@example(event=wire_event(time=""))
@example(event=wire_event(data=[]))
def test_our_verdict_is_the_documents(closed, event):
    """Of any JSON whatsoever, the validator written by hand thinks as the API's document does."""
    verdict = not list(event_problems(event, closed=closed))

    for each in validators(closed=closed):
        assert each.is_valid(event) == verdict


@pytest.mark.parametrize(
    ("event", "detail"),
    [
        pytest.param(wire_event(subject=""), '/subject": minimum string length is 1', id="empty"),
        pytest.param(wire_event(subject=7), '/subject": value must be a string', id="number"),
        pytest.param(wire_event(subject=None), '/subject": Value is not nullable', id="null"),
        pytest.param(
            wire_event(subject=...), '/subject": property "subject" is missing', id="missing"
        ),
        pytest.param(
            wire_event(specversion=...), '/specversion": property "specversion"', id="version"
        ),
        pytest.param(wire_event(data="text"), '/data": value must be an object', id="text"),
        pytest.param(
            wire_event(data={"cost": None}), '/data/cost": Value is not nullable', id="null in data"
        ),
        pytest.param(wire_event(time="2026-11-21"), "/time\": string doesn't match", id="date"),
        pytest.param(
            wire_event(datacontenttype="text/xml"), '/datacontenttype": value is not', id="XML"
        ),
        pytest.param(7, '": value must be an object', id="no event"),
        pytest.param(None, '": Value is not nullable', id="no event either"),
    ],
)
def test_one_wrong_event_refuses_its_batch(server, post, event, detail):
    """With OpenMeter's status and words, naming the place; nothing of the batch is counted."""
    answer = post([*wire_events("1", "2", "3"), event])

    problem = answer.json()
    assert answer.status_code == problem["status"] == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (problem["type"], problem["title"]) == ("about:blank", "Bad Request")
    begin = "request body has an error: doesn't match schema: Error at \"/3"
    assert problem["detail"].startswith(begin + detail)
    assert server.events == server.batches == []
    assert server.violations == [problem["detail"]]
    assert server.received[0].detail == problem["detail"]


def test_v3_names_everything_that_is_wrong(server, post):
    """Where v1 stops at the first problem, v3 lists them all."""
    answer = post([wire_event(subject=""), wire_event(id=None, extra=1)], V3)

    problem = answer.json()
    assert problem["type"] == "https://kongapi.info/konnect/bad-request"
    assert [(each["field"], each["rule"]) for each in problem["invalid_parameters"]] == [
        ("0.subject", "min_length"),
        ("1", "properties"),
        ("1.id", "nullable"),
    ]
    assert 'property "extra" is unsupported' in problem["detail"]
    assert server.events == []


def test_v1_takes_and_drops_what_v3_refuses(server, post):
    """An attribute of one's own passes v1 and is not kept; the server says so."""
    status = post([wire_event(extra=1)]).status_code

    assert status == 204
    assert server.events == [wire_event()]
    assert server.violations == ["v1 drops the attribute 'extra'"]
    assert post([wire_event("2", extra=1)], V3).status_code == 400


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        pytest.param({"specversion": "1.1"}, "specversion: unknown value: 1.1", id="version"),
        pytest.param({"time": "2026-02-30T12:00:00Z"}, "not in RFC3339", id="no such day"),
        pytest.param({"time": "2026-11-21T23:59:60Z"}, "not in RFC3339", id="leap second"),
        pytest.param({"source": ":8080"}, "cannot parse uri ref", id="no scheme"),
        pytest.param({"source": "my_app:1"}, "cannot parse uri ref", id="colon in a path"),
        pytest.param({"source": "100%"}, "cannot parse uri ref", id="no escape"),
        pytest.param({"source": "a\nb"}, "cannot parse uri ref", id="control character"),
        pytest.param({"my_extra": 1}, "bad key 'my_extra'", id="name of an extension"),
        pytest.param({"ID": "1"}, "bad key 'ID'", id="attribute in capitals"),
        pytest.param({"extra": {}}, "is no CloudEvents value", id="nested extension"),
        pytest.param({"extra": 2**31}, "is out of range", id="large extension"),
    ],
)
def test_what_passes_the_document_may_fail_the_decoder(server, post, changes, detail):
    """The handler reads events with the CloudEvents SDK, which knows more rules."""
    event = wire_event(**changes)
    assert list(event_problems(event, closed=False)) == []

    problem = post([wire_event("2"), event]).json()

    assert problem["status"] == 400
    assert problem["detail"].startswith("invalid event: ")
    assert detail in problem["detail"]
    assert server.events == []


@pytest.mark.parametrize(
    "source",
    [
        "tests",
        "my app",
        "my-app/v2",
        "urn:app:1",
        "https://x.org/app?a=1#b",
        "localhost:80",
        "/a:b",
    ],
)
def test_usual_sources_are_taken(server, post, source):
    """Names, paths and URLs are what applications are called by."""
    assert post([wire_event(source=source)]).status_code == 204


@pytest.mark.parametrize(
    ("path", "content_type", "body", "status", "detail"),
    [
        pytest.param(V1, BATCH, wire_events("1"), 204, None, id="batch"),
        pytest.param(V3, BATCH, wire_events("1"), 202, None, id="batch v3"),
        pytest.param(V1, "application/cloudevents+json", wire_event(), 204, None, id="one"),
        pytest.param(V1, "application/json", wire_event(), 204, None, id="one as JSON"),
        pytest.param(V1, "application/json", wire_events("1"), 204, None, id="batch as JSON"),
        pytest.param(
            V1, f"{BATCH}; charset=utf-8", [], 400, "invalid content type", id="charset in v1"
        ),
        pytest.param(V3, f"{BATCH}; charset=utf-8", wire_events("1"), 202, None, id="charset v3"),
        pytest.param(V1, "text/plain", [], 400, "has unexpected value", id="text"),
        pytest.param(V1, None, [], 400, "has unexpected value", id="no type"),
        pytest.param(V1, BATCH, [], 204, None, id="empty batch"),
        pytest.param(V1, "application/json", [], 400, "no events found", id="empty JSON"),
        pytest.param(V1, BATCH, wire_event(), 400, "must be an array", id="one as batch"),
        pytest.param(
            V1, "application/cloudevents+json", [], 400, "must be an object", id="batch as one"
        ),
        pytest.param(V1, "application/json", 7, 400, "any schema", id="a number as JSON"),
        pytest.param(V1, BATCH, b"", 400, "value is required but missing", id="nothing"),
        pytest.param(V1, BATCH, b"[{]", 400, "failed to decode", id="no JSON"),
        pytest.param(V1, BATCH, b"[NaN]", 400, "failed to decode", id="NaN"),
        pytest.param(V1, BATCH, b'["\xff"]', 400, "failed to decode", id="no UTF-8"),
        pytest.param(V1, BATCH, b"[" * 99_999, 400, "failed to decode", id="nested"),
        pytest.param("/api/v2/events", BATCH, [], 405, None, id="v2 is for reading"),
        pytest.param("/behind/api/v1/events", BATCH, [], 404, None, id="elsewhere"),
        pytest.param("/api/v3/events", BATCH, [], 404, None, id="elsewhere in v3"),
    ],
)
def test_types_and_bodies(server, post, path, content_type, body, status, detail):
    """v1 compares the Content-Type as a string, v3 reads it; success has no body."""
    answer = post(body, path, content_type)

    assert answer.status_code == status
    if status < 300:
        assert answer.content == b""
        assert server.violations == []
        assert len(server.batches) == 1
    else:
        assert answer.json()["status"] == status
        assert (detail or "") in answer.json().get("detail", "")
        assert len(server.violations) == 1
        assert server.batches == []


def test_a_request_in_chunks_is_read(server, client):
    """As clients send what they have not counted."""
    pieces = json.dumps(wire_events("1", "2")).encode()

    answer = client.post(
        server.url + V1, content=iter([pieces[:7], pieces[7:]]), headers={"Content-Type": BATCH}
    )

    assert answer.status_code == 204
    assert server.received[0].ids == ["1", "2"]


@pytest.mark.parametrize("token", ["", "Bearer wrong", "Basic om_key", "om_key"])
def test_a_token_may_be_asked_for(client, token):
    """Who brings another one, or none, is turned away before anything is looked at."""
    with OpenMeterServer(token="om_key") as server:
        headers = {"Content-Type": BATCH, "Authorization": token}
        refused = client.post(server.url + V1, content=b"{", headers=headers)
        headers["Authorization"] = "Bearer om_key"
        taken = client.post(server.url + V1, content=b"[]", headers=headers)

    assert (refused.status_code, taken.status_code) == (401, 204)
    assert refused.json()["title"] == "Unauthorized"
    assert server.violations == []
