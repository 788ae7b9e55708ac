"""`UsageEvent`: what it refuses, its ids, and its one form on the wire."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llm_metering import event_ids
from llm_metering.errors import InvalidUsageError, SubjectError
from llm_metering.events import (
    DATA_KEYS,
    CloudEvent,
    UsageEvent,
    check_dimensions,
    encode,
    format_time,
    keyed_event_id,
    new_event_id,
    parse,
)
from llm_metering.token_usage import TokenUsage
from tests.factories import make_event
from tests.forking import in_child

MOMENT_NS = 1_795_290_540_123_000_000
SCHEMA = json.loads((Path(__file__).parent / "schemas" / "cloudevent.json").read_text("utf-8"))

FULL = UsageEvent(
    id="0198c0de-0000-7000-8000-000000000001",
    source="shop",
    subject="customer-42",
    time=datetime(2026, 11, 21, 20, 19, 0, 123_456, UTC),
    provenance="estimated",
    status="aborted",
    usage=TokenUsage(
        input_tokens=100,
        output_tokens=20,
        cache_read_input_tokens=64,
        cache_creation_input_tokens=30,
        cache_creation_5m_input_tokens=10,
        cache_creation_1h_input_tokens=20,
        reasoning_output_tokens=7,
        input_audio_tokens=0,
        input_image_tokens=2,
        input_video_tokens=3,
        tool_use_input_tokens=4,
        output_audio_tokens=1,
        output_image_tokens=5,
        reported_total_tokens=121,
    ),
    quantity=2.5,
    unit="gpu_seconds",
    measures={
        "billed_input_tokens": 90,
        "billed_output_tokens": 19,
        "web_search_requests": 1,
        "web_fetch_requests": 2,
        "code_execution_requests": 3,
        "search_units": 4,
        "classifications": 5,
        "images": 6,
        "audio_seconds": 7.5,
        "reported_cost": 0.00314,
    },
    operation="chat",
    provider="openai",
    model="gpt-5-mini-2026-08-07",
    request_model="gpt-5-mini",
    framework="langchain",
    run_id="run-1",
    response_id="chatcmpl-1",
    service_tier="flex",
    duration_ms=812,
    time_to_first_token_ms=140,
    count_method="tiktoken:o200k_base",
    flags=("usage_inconsistent",),
    dimensions={"feature": "search"},
)
FULL_ON_THE_WIRE = {
    "specversion": "1.0",
    "id": "0198c0de-0000-7000-8000-000000000001",
    "source": "shop",
    "type": "llm.usage",
    "subject": "customer-42",
    "time": "2026-11-21T20:19:00.123Z",
    "data": {
        "model": "gpt-5-mini-2026-08-07",
        "request_model": "gpt-5-mini",
        "provider": "openai",
        "operation": "chat",
        "service_tier": "flex",
        "total_tokens": 120,
        "input_tokens": 100,
        "output_tokens": 20,
        "cache_read_input_tokens": 64,
        "cache_creation_input_tokens": 30,
        "cache_creation_5m_input_tokens": 10,
        "cache_creation_1h_input_tokens": 20,
        "reasoning_output_tokens": 7,
        "input_audio_tokens": 0,
        "input_image_tokens": 2,
        "input_video_tokens": 3,
        "tool_use_input_tokens": 4,
        "output_audio_tokens": 1,
        "output_image_tokens": 5,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "reported_total_tokens": 121,
        "billed_input_tokens": 90,
        "billed_output_tokens": 19,
        "web_search_requests": 1,
        "web_fetch_requests": 2,
        "code_execution_requests": 3,
        "search_units": 4,
        "classifications": 5,
        "images": 6,
        "audio_seconds": 7.5,
        "reported_cost": 0.00314,
        "calls": 1,
        "quantity": 2.5,
        "unit": "gpu_seconds",
        "duration_ms": 812,
        "time_to_first_token_ms": 140,
        "provenance": "estimated",
        "status": "aborted",
        "framework": "langchain",
        "run_id": "run-1",
        "response_id": "chatcmpl-1",
        "count_method": "tiktoken:o200k_base",
        "flags": ["usage_inconsistent"],
        "feature": "search",
    },
}
FULL_DIGEST = "db3f8c3da5bf2698831f7b68be02d74a6bdb5f3c43f07688ca4c207fc8d08fd0"
DIGEST_WITHOUT_A_TIER = "e4df0bec5e91d9233643369a5b1682d62fa33d4debda54b0ec77daa76199b5fb"

text = st.text(min_size=1)
counts = st.one_of(st.none(), st.integers(0, 1000))


@st.composite
def usage_events(draw):
    """Any event that can be made."""
    input_tokens, output_tokens = draw(counts), draw(counts)
    known = input_tokens is not None or output_tokens is not None
    usage = TokenUsage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_input_tokens=draw(st.sampled_from([None, 0, input_tokens])),
        reported_total_tokens=draw(counts),
    )
    optional = st.one_of(st.none(), text)
    names = text.filter(lambda name: name not in DATA_KEYS)
    return UsageEvent(
        id=draw(text),
        source=draw(text),
        subject=draw(text),
        type=draw(text),
        time=draw(st.datetimes(datetime(1000, 1, 2), timezones=st.just(UTC))),
        usage=usage if known else None,
        provenance=draw(st.sampled_from(["reported", "partial"])) if known else "missing",
        status=draw(st.sampled_from(["completed", "failed", "aborted", "cached", "interrupted"])),
        operation=draw(optional),
        model=draw(optional),
        request_model=draw(optional),
        response_id=draw(optional),
        service_tier=draw(optional),
        duration_ms=draw(counts),
        flags=tuple(draw(st.lists(text, max_size=2))),
        dimensions=draw(st.dictionaries(names, st.text(), max_size=3)),
    )


@pytest.fixture
def clock(monkeypatch):
    """The clock that ids are dated by, at a moment until it is moved."""
    clock = SimpleNamespace(now=MOMENT_NS, time_ns=lambda: clock.now)
    monkeypatch.setattr(event_ids, "time", clock)
    return clock


def test_the_event_on_the_wire():
    """Every field at its place: the CloudEvent around, all of ours inside `data`."""
    assert json.loads(encode(FULL)) == FULL_ON_THE_WIRE


def test_what_is_unknown_is_absent_on_the_wire():
    """A call of which nothing is known has no token field at all, and no null."""
    event = make_event(usage=None, operation=None, provider=None, model=None, framework=None)

    assert json.loads(encode(event)) == {
        "specversion": "1.0",
        "id": event.id,
        "source": "tests",
        "type": "llm.usage",
        "subject": "customer-42",
        "time": "2026-11-21T12:00:00.000Z",
        "data": {"calls": 1, "provenance": "missing", "status": "completed"},
    }


def test_half_a_count_has_no_total_on_the_wire():
    """Output without input is sent as that; a reported 0 is sent as 0."""
    event = make_event(usage=TokenUsage(output_tokens=0), provenance="partial")

    data = json.loads(encode(event))["data"]

    assert {key: data[key] for key in data if "tokens" in key} == {
        "output_tokens": 0,
        "completion_tokens": 0,
    }


def test_the_requested_model_stands_in_for_the_served_one():
    """A call that never came back is grouped under the model it asked for."""
    data = make_event(model=None, request_model="gpt-5-mini").data()

    assert (data["model"], data["request_model"]) == ("gpt-5-mini", "gpt-5-mini")


def test_the_call_shape_is_frozen():
    """The very bytes of the `call` shape: a change of a name or an order is a new shape."""
    assert list(json.loads(encode(FULL))["data"]) == list(FULL_ON_THE_WIRE["data"])
    assert hashlib.sha256(encode(FULL)).hexdigest() == FULL_DIGEST
    # What came later changes nothing for an event without it.
    before = replace(FULL, service_tier=None)
    assert hashlib.sha256(encode(before)).hexdigest() == DIGEST_WITHOUT_A_TIER


def test_a_request_with_several_prompts_says_how_many():
    """It is one call, and its size is in `data`; a request with one prompt says nothing."""
    data = make_event(batch_size=3).data()

    assert (data["calls"], data["batch_size"]) == (1, 3)
    assert "batch_size" not in make_event().data()


@given(event=usage_events())
def test_every_event_is_a_valid_cloud_event(event):
    """Whatever is in it: the JSON is valid, holds no null, and reads back as it was."""
    payload = encode(event)

    document = json.loads(payload)
    jsonschema.validate(document, SCHEMA)
    assert b":null" not in payload.replace(b" ", b"")
    assert parse(payload) == CloudEvent(
        id=event.id,
        source=event.source,
        type=event.type,
        subject=event.subject,
        time=event.time.replace(microsecond=event.time.microsecond // 1000 * 1000),
        data=json.loads(msgspec.json.encode(event.data())),
    )


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        pytest.param(datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00.000Z", id="midnight"),
        pytest.param(
            datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            "2025-12-31T19:30:00.000Z",
            id="another zone",
        ),
        pytest.param(
            datetime(2026, 12, 31, 23, 59, 59, 999_999, UTC),
            "2026-12-31T23:59:59.999Z",
            id="never rounded into another year",
        ),
    ],
)
def test_times_are_utc_with_milliseconds(moment, expected):
    """RFC 3339 with a `Z`, cut and not rounded."""
    assert format_time(moment) == expected


@given(
    moment=st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.timezones()),
    whole_second=st.booleans(),
)
def test_every_time_is_written_as_the_standard_library_would(moment, whole_second):
    """In any zone, at any moment, on the second or beside it; subclasses of `datetime`, too."""

    class Moment(datetime):
        pass

    if whole_second:
        moment = moment.replace(microsecond=0)
    expected = moment.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
    in_utc = moment.astimezone(UTC)
    subclass = Moment(*in_utc.timetuple()[:6], in_utc.microsecond, UTC)

    assert format_time(moment) == format_time(in_utc) == format_time(subclass) == expected


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b'{"id":"1"}', id="attributes missing"),
        pytest.param(encode(FULL)[:-1], id="cut off"),
        pytest.param(encode(FULL).replace(b'"shop"', b"7"), id="source is no string"),
    ],
)
def test_what_is_no_event_does_not_parse(payload):
    """Reading back refuses what `encode` cannot have written."""
    with pytest.raises(msgspec.DecodeError):
        parse(payload)


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        pytest.param({"id": ""}, ValueError, id="no id"),
        pytest.param({"source": ""}, ValueError, id="no source"),
        pytest.param({"type": ""}, ValueError, id="no type"),
        pytest.param({"subject": ""}, SubjectError, id="no subject"),
        pytest.param({"subject": 42}, SubjectError, id="subject is a number"),
        pytest.param({"time": datetime(2026, 11, 21)}, ValueError, id="naive time"),
        pytest.param({"provenance": "missing"}, InvalidUsageError, id="missing with counts"),
        pytest.param(
            {"usage": None, "provenance": "reported"}, InvalidUsageError, id="reported without"
        ),
        pytest.param({"dimensions": {"model": "x"}}, SubjectError, id="a name of ours"),
        pytest.param({"dimensions": {"": "x"}}, SubjectError, id="dimension without a name"),
        pytest.param({"dimensions": {"a": 1}}, SubjectError, id="dimension is a number"),
        pytest.param({"dimensions": {"a": None}}, SubjectError, id="dimension is None"),
        pytest.param({"dimensions": {1: "a"}}, SubjectError, id="name is a number"),
        pytest.param({"dimensions": {"a": "\ud800"}}, SubjectError, id="half a character"),
        pytest.param(
            {"dimensions": {"\ud800": "a"}}, SubjectError, id="half a character in a name"
        ),
    ],
)
def test_an_event_is_true_by_construction(overrides, error):
    """What could not be billed, grouped or written down is refused when it is made."""
    with pytest.raises(error):
        make_event(**overrides)


def test_an_event_is_frozen():
    """Nobody changes an event after it was checked, nor makes one by position."""
    with pytest.raises(AttributeError):
        FULL.subject = "somebody else"  # type: ignore[misc]
    with pytest.raises(TypeError):
        UsageEvent("id", "shop", "customer-42", FULL.time, "missing", "completed")  # type: ignore[misc]


@pytest.mark.parametrize("name", sorted(DATA_KEYS))
def test_no_dimension_takes_a_name_of_ours(name):
    """A dimension called `total_tokens` would overwrite the bill."""
    with pytest.raises(SubjectError, match=name):
        check_dimensions({name: "1"})


def test_every_key_of_data_is_reserved():
    """What an event may carry now or later is a name of ours; nothing else is."""
    sent = FULL.data().keys() - {"feature"}

    assert sent <= DATA_KEYS
    assert DATA_KEYS - sent == {
        "batch_size",
        "reservation_id",
        "tokens",
        "type",
        "subject",
    }


def test_subclasses_of_str_are_written_as_their_text():
    """An ORM's or an enum's string pays as well as any other."""

    class Name(str):
        __slots__ = ()

        def __str__(self):
            return "not this"

    kind = Enum("Kind", {"SEARCH": "search"}, type=str)

    event = make_event(subject=Name("acme"), dimensions={"a": kind.SEARCH, "b": Name("x")})

    document = json.loads(encode(event))
    assert document["subject"] == "acme"
    assert (document["data"]["a"], document["data"]["b"]) == ("search", "x")


def test_nothing_else_is_written():
    """An object that is no text fails loudly instead of being written as its `repr`."""
    with pytest.raises(TypeError, match="object"):
        encode(make_event(operation=object()))


def test_an_id_is_a_version_7_uuid(clock):
    """RFC 9562, sections 5.7 and 6.2: milliseconds, version, their fraction, variant, random bits."""
    clock.now += 250_000
    minted = uuid.UUID(new_event_id())

    assert minted.version == 7
    assert minted.variant == uuid.RFC_4122
    assert minted.int >> 80 == MOMENT_NS // 1_000_000
    assert minted.int >> 64 & 0xFFF == 0x400  # a quarter


def test_every_random_bit_is_used(clock):
    """Besides the time, version and variant no bit of an id is always the same."""
    minted = [uuid.UUID(new_event_id()).int for _ in range(200)]

    always, ever = minted[0], 0
    for value in minted:
        always &= value
        ever |= value
    random_bits = (1 << 62) - 1
    assert always & random_bits == 0
    assert ever & random_bits == random_bits


def test_later_ids_sort_later(clock):
    """As text, too: that is what an index sorts by."""
    minted = []
    for _ in range(50):
        minted.append(new_event_id())
        clock.now += 250

    assert all(earlier < later for earlier, later in pairwise(minted))


def test_ids_of_one_moment_differ(clock):
    """A clock that stands still makes no id twice."""
    minted = [new_event_id() for _ in range(10_000)]

    assert len(set(minted)) == len(minted)


def test_ids_differ_across_a_fork(clock, tmp_path):
    """A parent and its forked children mint different ids in the same millisecond."""
    new_event_id()  # whatever has a state has it now

    def mint(name):
        (tmp_path / name).write_text("\n".join(new_event_id() for _ in range(2000)))
        return True

    assert all(in_child(lambda name=name: mint(name)) for name in ("one", "two"))
    mint("parent")

    minted = [line for path in tmp_path.iterdir() for line in path.read_text().split()]
    assert len(minted) == 6000
    assert len(set(minted)) == 6000


def test_a_keyed_id_is_the_same_for_ever():
    """Pinned: another value would bill again what was billed under this one."""
    assert keyed_event_id("shop", "order-1") == "7133e2b9-b2e0-8a57-bcc1-fc44554c0275"


@given(one=st.tuples(st.text(), st.text()), other=st.tuples(st.text(), st.text()))
def test_keyed_ids_are_version_8_uuids_and_keep_keys_apart(one, other):
    """RFC 9562, section 5.8; equal exactly where source and key are."""
    first, second = uuid.UUID(keyed_event_id(*one)), uuid.UUID(keyed_event_id(*other))

    assert (first.version, first.variant) == (8, uuid.RFC_4122)
    assert (first == second) == (one == other)


def test_source_and_key_do_not_run_together():
    """Moving a letter from the source to the key names another record."""
    assert keyed_event_id("ab", "c") != keyed_event_id("a", "bc")
    assert keyed_event_id("1:a", "") != keyed_event_id("", "1:a")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        pytest.param({"measures": {"price": 1}}, "measure", id="unknown measure"),
        pytest.param({"measures": {"images": "2"}}, "measure", id="no number"),
        pytest.param({"measures": {"images": True}}, "measure", id="bool"),
        pytest.param({"measures": {"images": -1}}, "measure", id="negative"),
        pytest.param({"measures": {"reported_cost": float("nan")}}, "measure", id="NaN"),
        pytest.param({"measures": {"reported_cost": float("inf")}}, "measure", id="infinite"),
        pytest.param({"unit": None}, "needs a unit", id="a quantity of nothing"),
        pytest.param({"quantity": None}, "needs a unit", id="a unit without a quantity"),
    ],
)
def test_what_is_billed_beside_tokens_is_checked(changes, complaint):
    """OpenMeter takes no number that is none, and a sum over it would be none either."""
    with pytest.raises(InvalidUsageError, match=complaint):
        replace(FULL, **changes)


def test_a_quantity_alone_is_no_call():
    """So the sum of `calls` stays the number of calls to models."""
    event = replace(FULL, usage=None, provenance="reported")

    assert "calls" not in event.data()
    with pytest.raises(InvalidUsageError, match="missing"):
        replace(FULL, usage=None, provenance="reported", quantity=None, unit=None)


def test_threads_mint_different_ids_beyond_the_stock():
    """More ids than are in stock, from threads, are all different."""
    ids: list[str] = []

    def mint():
        ids.extend(new_event_id() for _ in range(5000))

    threads = [threading.Thread(target=mint) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(ids)) == 20_000
