"""Bodies that are no events: refused, whatever they are."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.ledger import check_event
from llm_metering.server.incoming import is_deeper, read_events
from llm_metering.server.problems import Refusal

from .conftest import EVENTS, event

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)

texts = st.text(max_size=8) | st.sampled_from(['"', "\\", '{"', "]", "\x00", "\ud800"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)


def read(body, content_type="application/json", **limits):
    """What `read_events` makes of a body."""
    return read_events(
        content_type,
        body if isinstance(body, bytes) else json.dumps(body).encode(),
        now=NOON,
        payer=lambda _source, subject: subject,
        **{"max_events": 100, "max_event": 10_000, **limits},
    )


def read_or_refuse(body):
    """The same; nothing if it is refused, as it has to be."""
    try:
        return read(body)
    except Refusal as refusal:
        return [] if refusal.status in (400, 413) else [refusal]


def depth(value):
    """How deeply it is nested."""
    if not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max((depth(each) for each in inner), default=0)


@given(document=documents, limit=st.integers(1, 6))
def test_how_deep_json_is(document, limit):
    """Whatever is in its strings."""
    assert is_deeper(json.dumps(document).encode(), limit) is (depth(document) > limit)


@given(body=st.binary(max_size=60) | documents.map(lambda each: json.dumps(each).encode()))
def test_any_body_is_events_or_refused(body):
    """Nothing else is ever raised, and what is read the ledger takes."""
    for each in read_or_refuse(body):
        check_event(each.payload)


@given(
    changes=st.dictionaries(
        st.sampled_from([*event(), "dataschema", "datacontenttype", "extension"]), documents
    ),
    data=st.dictionaries(st.sampled_from([*event()["data"], "other"]), documents),
)
def test_an_event_with_anything_in_it_is_one_or_refused(changes, data):
    """What is read says what was sent, and the ledger takes it."""
    given = event() | {"data": event()["data"] | data} | changes
    for found in read_or_refuse(given):
        check_event(found.payload)
        written = json.loads(found.payload)
        assert (found.id, found.source, found.subject) == (
            written["id"],
            written["source"],
            written["subject"],
        )
        assert written["data"] == json.loads(json.dumps(given["data"] or {}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"id": ""}, "$.id", id="empty id"),
        pytest.param({"id": 7}, "$.id", id="a number for an id"),
        pytest.param({"id": "x" * 1025}, "$.id", id="long id"),
        pytest.param({"source": "two words"}, "source", id="a source that is no URI"),
        pytest.param({"subject": None}, "$.subject", id="nobody pays"),
        pytest.param({"subject": " "}, "subject", id="blank subject"),
        pytest.param({"subject": "a\x00b"}, "subject", id="NUL"),
        pytest.param({"specversion": "0.3"}, "$.specversion", id="an old CloudEvent"),
        pytest.param({"time": "2026-11-21T12:00:00"}, "zone", id="no zone"),
        pytest.param({"time": "yesterday"}, "$.time", id="no time"),
        pytest.param({"time": "1969-12-31T00:00:00Z"}, "1970", id="before 1970"),
        pytest.param({"time": "0001-01-01T00:00:00+14:00"}, "calendar", id="before all time"),
        pytest.param({"data": "tokens"}, "$.data", id="data is a text"),
        pytest.param({"data": {"total_tokens": -1}}, "total_tokens", id="negative"),
        pytest.param({"data": {"total_tokens": 10**13}}, "total_tokens", id="too many"),
        pytest.param({"data": {"total_tokens": True}}, "total_tokens", id="true"),
        pytest.param({"data": {"total_tokens": 10**40}}, "total_tokens", id="beyond 64 bits"),
        pytest.param({"datacontenttype": "text/plain"}, "$.datacontenttype", id="no JSON"),
        pytest.param({"Extension": "x"}, "lower-case", id="extension in capitals"),
        pytest.param({"extension": {"a": 1}}, "extension", id="extension that is an object"),
        pytest.param({f"x{n}": 1 for n in range(21)}, "20 extensions", id="many extensions"),
    ],
)
def test_what_is_wrong_is_said_without_the_value(changes, said):
    """With the number of the event."""
    with pytest.raises(Refusal, match=said.replace("$", r"\$")) as caught:
        read([event("0"), event("1") | changes])

    assert (caught.value.status, caught.value.extra) == (400, {"event": 1})


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        pytest.param(event(), "text/plain", 415, id="plain text"),
        pytest.param(event(), "", 415, id="no type"),
        pytest.param([event()], "application/cloudevents+json", 400, id="a list for one"),
        pytest.param(event(), "application/cloudevents-batch+json", 400, id="one for a list"),
        pytest.param(b"", "application/json", 400, id="nothing"),
        pytest.param([], "application/json", 400, id="an empty list"),
        pytest.param(b"{", "application/json", 400, id="half of it"),
        pytest.param(b"NaN", "application/json", 400, id="NaN"),
        pytest.param(
            json.dumps(event(data={"other": 7})).replace("7}", "1e400}").encode(),
            "application/json",
            400,
            id="a number beyond all",
        ),
        pytest.param(b'{"id": "\xff"}', "application/json", 400, id="no UTF-8"),
        pytest.param([event(str(n)) for n in range(101)], "application/json", 413, id="too many"),
        pytest.param(event(data={"a": "x" * 10_000}), "application/json", 413, id="too large"),
        pytest.param(b"[" * 100_000, "application/json", 400, id="nested beyond all"),
    ],
)
def test_bodies_that_are_none(body, content_type, status):
    """Refused as a whole."""
    with pytest.raises(Refusal) as caught:
        read(body, content_type)

    assert caught.value.status == status


@pytest.mark.parametrize("deep", [31, 33, 5_000, 200_000])
def test_a_deep_body_costs_nothing(client, deep):
    """It is refused before anything reads it as JSON."""
    nested = "[" * deep + "]" * deep
    body = json.dumps(event()).replace('"gpt-5-mini"', nested)

    response = client.post(EVENTS, content=body, headers={"Content-Type": "application/json"})

    assert response.status_code == (204 if deep < 31 else 400)
