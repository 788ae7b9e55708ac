"""What of a record in Kafka is a CloudEvent."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm_metering.events import encode
from llm_metering.ingest.records import cloud_event
from llm_metering.ledger._rows import ALL_COLUMNS, read_row
from llm_metering.sinks._payload import UnusableEventError
from tests.factories import make_event

EVENT = encode(make_event(id="event-1"))
DATA = b'{"model":"m","total_tokens":7,"calls":1}'
ATTRIBUTES = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce_source", b"/there"),
    ("ce_type", b"llm.usage"),
    ("ce_subject", "café".encode()),
    ("ce_time", b"2026-11-21T12:00:00Z"),
]


def row(value, headers):
    """The columns of the event in a record, by name."""
    return dict(zip(ALL_COLUMNS, read_row(cloud_event(value, headers)), strict=True))


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([("content-type", b"application/cloudevents+json")], id="structured"),
        pytest.param(
            [("content-type", b"Application/CloudEvents+JSON; charset=UTF-8"), ("ce_id", b"other")],
            id="structured, with headers of ours",
        ),
        pytest.param([("Content-Type", b"application/cloudevents+json")], id="in another case"),
        pytest.param([], id="no headers"),
        pytest.param([("traceparent", b"00-1-2-03")], id="headers of others"),
        pytest.param([("content-type", b"application/json")], id="JSON"),
    ],
)
def test_a_whole_event_is_taken_as_it_is(headers):
    """The ledger keeps the very bytes."""
    assert cloud_event(EVENT, headers) is EVENT


@pytest.mark.parametrize(
    "content_type",
    [
        pytest.param([], id="no content type"),
        pytest.param([("content-type", b"application/json")], id="JSON"),
        pytest.param([("content-type", b"application/vnd.usage+json; charset=utf-8")], id="+json"),
    ],
)
def test_binary_mode(content_type):
    """Attributes from headers, extensions too, and data from the value, as it is."""
    headers = [*ATTRIBUTES, ("ce_region", b"eu"), *content_type]

    found = row(DATA, headers)

    assert (found["id"], found["source"], found["subject"]) == ("1", "/there", "café")
    assert (found["model"], found["total_tokens"]) == ("m", 7)
    kept = msgspec.json.decode(found["payload"])
    assert kept["region"] == "eu"
    assert kept["data"] == msgspec.json.decode(DATA)


def without(name):
    return [each for each in ATTRIBUTES if each[0] != f"ce_{name}"]


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        pytest.param(None, [], "tombstone", id="tombstone"),
        pytest.param(None, ATTRIBUTES, "tombstone", id="tombstone with headers"),
        pytest.param(b"", [], "no CloudEvent", id="empty"),
        pytest.param(b"hush", [], "no CloudEvent", id="text"),
        pytest.param(b"\xff\xfe", [], "no CloudEvent", id="bytes"),
        pytest.param(b"[" + EVENT + b"]", [], "no CloudEvent", id="a list"),
        pytest.param(b'{"hush":1}', [], "no CloudEvent", id="other JSON"),
        pytest.param(
            EVENT, [("content-type", b"application/cloudevents+avro")], "not application", id="Avro"
        ),
        pytest.param(
            b"[" + EVENT + b"]",
            [("content-type", b"application/cloudevents-batch+json")],
            "not application",
            id="batch",
        ),
        pytest.param(EVENT, [("content-type", b"text/plain")], "neither JSON", id="plain text"),
        pytest.param(
            EVENT.replace(b'"1.0"', b'"0.3"'), [], "specversion is not 1.0", id="old version"
        ),
        pytest.param(DATA, without("specversion"), "no ce_specversion", id="no specversion"),
        pytest.param(DATA, without("id"), "missing required field `id`", id="no id"),
        pytest.param(DATA, without("subject"), "missing required field `subject`", id="no subject"),
        pytest.param(DATA, without("time"), "missing required field `time`", id="no time"),
        pytest.param(DATA, [*ATTRIBUTES, ("ce_id", b"2")], "there twice", id="two ids"),
        pytest.param(DATA, [*ATTRIBUTES, ("CE_ID", b"2")], "there twice", id="two ids by case"),
        pytest.param(DATA, [*ATTRIBUTES, ("ce_x", b"\xff")], "not UTF-8", id="no text"),
        pytest.param(
            DATA, [*ATTRIBUTES, ("ce_data", b"{}")], "no attribute", id="data in a header"
        ),
        pytest.param(DATA, [*ATTRIBUTES, ("ce_a b", b"hush")], "no attribute", id="odd name"),
        pytest.param(
            DATA, [*ATTRIBUTES, ("content-type", b"avro/binary")], "not JSON", id="Avro data"
        ),
        pytest.param(b"hush", ATTRIBUTES, "no JSON object", id="data that is no JSON"),
        pytest.param(b"", ATTRIBUTES, "no JSON object", id="no data"),
        pytest.param(b"[1]", ATTRIBUTES, "no JSON object", id="data that is a list"),
        pytest.param(
            DATA + b',"subject":"hush"', ATTRIBUTES, "no JSON object", id="data that breaks out"
        ),
        pytest.param(b'{"a":' * 3000 + b"1" + b"}" * 3000, ATTRIBUTES, "nested", id="nested"),
    ],
)
def test_anything_else_is_refused(value, headers, reason):
    """With a reason that quotes nothing of it."""
    with pytest.raises(UnusableEventError, match=reason) as caught:
        row(value, headers)

    assert "hush" not in str(caught.value)


PIECES = st.sampled_from([EVENT, DATA, b"{", b'"\\ud800"', b"\x00", b"\xff", b"1e999", b":", b"}"])
NAMES = st.sampled_from(
    [name for name, _ in ATTRIBUTES] + ["content-type", "ce_", "ce_\ud7ff", "x"]
)


@given(
    value=st.none() | st.binary() | st.lists(PIECES).map(b"".join),
    headers=st.lists(
        st.tuples(
            NAMES,
            st.none()
            | st.binary()
            | st.sampled_from([b"1.0", b"1", b"2026-11-21T12:00:00Z", b"application/json"]),
        )
    )
    | st.just(ATTRIBUTES),
)
@example(value=EVENT.replace(b"customer-42", b"\\ud800"), headers=[])
@example(value=DATA.replace(b'"m"', b'"\\udfff"'), headers=ATTRIBUTES)
@example(value=DATA.replace(b'"m"', b'"\\u0000"'), headers=ATTRIBUTES)
def test_no_record_stops_the_others(value, headers):
    """Whatever a record holds, it is an event whose columns SQLite takes, or refused."""
    try:
        found = read_row(cloud_event(value, headers))
    except UnusableEventError:
        return
    for each in found:
        if isinstance(each, str):
            each.encode()
