"""Wire shapes: what a recorded event becomes on its way to OpenMeter."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llm_metering.events import DATA_KEYS, MEASURES, UsageEvent, encode
from llm_metering.sinks._payload import UnusableEventError
from llm_metering.sinks.shapes import SHAPES, wire_form
from llm_metering.token_usage import MAX_COUNT, TokenUsage
from tests.factories import make_event
from tests.openmeter_spec import event_validators

KINDS = ("input", "cache_read", "cache_write", "output", "reasoning")


def shaped(event: UsageEvent, shape: str, **options: Any) -> list[dict[str, Any]]:
    """The wire events of an event."""
    form = wire_form(shape, **options)
    payload = encode(event)
    return [json.loads(each) for each in ([payload] if form is None else form.encode(payload))]


def tokens_by_kind(event: UsageEvent) -> dict[str, int]:
    """What shape `kind` says of an event's tokens."""
    wires = shaped(event, "kind")
    return {w["data"]["type"]: w["data"]["tokens"] for w in wires if "tokens" in w["data"]}


# Each shape, whole.

CALL = make_event(
    id="0198",
    model="gpt-5-mini-2026-08-07",
    request_model="gpt-5-mini",
    usage=TokenUsage(
        input_tokens=100,
        output_tokens=20,
        cache_read_input_tokens=64,
        cache_creation_input_tokens=6,
        reasoning_output_tokens=7,
    ),
    measures={"reported_cost": 0.0125, "web_search_requests": 2},
    run_id="run-1",
    response_id="chatcmpl-1",
    duration_ms=812,
    flags=("unattributed",),
    dimensions={"feature": "search"},
)


def test_the_journals_own_shape_needs_no_form():
    """Where nothing is changed nothing is worked out: the recorded bytes are what is sent."""
    assert wire_form("call") is None
    assert SHAPES == ("call", "kind", "openai", "litellm")


def test_one_event_for_each_kind_of_token():
    """Kinds are disjoint; what belongs to the call as a whole is in its first event alone."""
    common = {
        "model": "gpt-5-mini-2026-08-07",
        "request_model": "gpt-5-mini",
        "provider": "openai",
        "operation": "chat",
        "framework": "langchain",
        "provenance": "reported",
        "status": "completed",
        "feature": "search",
    }
    whole = {"calls": 1, "reported_cost": 0.0125, "web_search_requests": 2}
    assert shaped(CALL, "kind") == [
        {
            "specversion": "1.0",
            "id": f"0198:{kind}",
            "source": "tests",
            "type": "prompt",
            "subject": "customer-42",
            "time": "2026-11-21T12:00:00.000Z",
            "data": {"tokens": tokens, "type": kind, **common, **more},
        }
        for kind, tokens, more in [
            ("input", 30, whole),
            ("cache_read", 64, {"calls": 0}),
            ("cache_write", 6, {"calls": 0}),
            ("output", 13, {"calls": 0}),
            ("reasoning", 7, {"calls": 0}),
        ]
    ]


def test_every_kind_is_of_its_tier():
    """A tier has prices of its own for each kind of token."""
    tiers = [
        wire["data"]["service_tier"] for wire in shaped(replace(CALL, service_tier="flex"), "kind")
    ]

    assert tiers == ["flex"] * 5


def test_the_openai_shape_holds_five_numbers_and_names():
    """What OpenMeter's OpenAI example sends, and `tokens`; nothing of ours beside it."""
    assert shaped(CALL, "openai") == [
        {
            "specversion": "1.0",
            "id": "0198",
            "source": "tests",
            "type": "openai",
            "subject": "customer-42",
            "time": "2026-11-21T12:00:00.000Z",
            "data": {
                "total_tokens": 120,
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "model": "gpt-5-mini-2026-08-07",
                "tokens": 120,
            },
        }
    ]


def test_the_litellm_shape_holds_its_five_fields():
    """What LiteLLM sends; the cost is what the provider said it charged."""
    assert shaped(CALL, "litellm") == [
        {
            "specversion": "1.0",
            "id": "0198",
            "source": "tests",
            "type": "litellm_tokens",
            "subject": "customer-42",
            "time": "2026-11-21T12:00:00.000Z",
            "data": {
                "model": "gpt-5-mini-2026-08-07",
                "cost": 0.0125,
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "total_tokens": 120,
            },
        }
    ]


def test_an_openai_completion_becomes_openmeters_own_example():
    """Response id, `created`, counts and model, as its OpenAI example and its article send them."""
    completion = {
        "id": "chatcmpl-Bq7invented",
        "object": "chat.completion",
        "created": 1_795_292_340,
        "model": "gpt-5-mini-2026-08-07",
        "usage": {"prompt_tokens": 13, "completion_tokens": 7, "total_tokens": 20},
    }
    usage = completion["usage"]
    event = make_event(
        source="my-app",
        subject="my-awesome-user-id",
        time=datetime.fromtimestamp(completion["created"], UTC),
        model=completion["model"],
        usage=TokenUsage(
            input_tokens=usage["prompt_tokens"],
            output_tokens=usage["completion_tokens"],
            reported_total_tokens=usage["total_tokens"],
        ),
        response_id=completion["id"],
    )

    [wire] = shaped(event, "openai", event_id="response")

    tokens_and_model = {"tokens": 20, "model": "gpt-5-mini-2026-08-07"}
    assert wire == {
        "specversion": "1.0",
        "id": "chatcmpl-Bq7invented",
        "source": "my-app",
        "type": "openai",
        "subject": "my-awesome-user-id",
        "time": "2026-11-21T20:19:00.000Z",
        "data": {
            "total_tokens": 20,
            "prompt_tokens": 13,
            "completion_tokens": 7,
            "model": "gpt-5-mini-2026-08-07",
        }
        | tokens_and_model,
    }


# Kinds of token.


@pytest.mark.parametrize(
    ("usage", "kinds"),
    [
        pytest.param({"input_tokens": 3, "output_tokens": 2}, {"input": 3, "output": 2}, id="two"),
        pytest.param(
            {"input_tokens": 0, "output_tokens": 0}, {"input": 0, "output": 0}, id="a call of 0"
        ),
        pytest.param(
            {"input_tokens": 5, "output_tokens": 0, "cache_read_input_tokens": 5},
            {"input": 0, "cache_read": 5, "output": 0},
            id="all of it cached",
        ),
        pytest.param(
            {
                "input_tokens": 3,
                "output_tokens": 2,
                "cache_read_input_tokens": 0,
                "cache_creation_input_tokens": 0,
                "reasoning_output_tokens": 0,
            },
            {"input": 3, "output": 2},
            id="parts of 0",
        ),
        pytest.param(
            {
                "input_tokens": 9,
                "output_tokens": 8,
                "input_audio_tokens": 4,
                "tool_use_input_tokens": 2,
                "output_audio_tokens": 5,
            },
            {"input": 9, "output": 8},
            id="parts without a kind",
        ),
        pytest.param({"output_tokens": 2}, {"output": 2}, id="only output"),
        pytest.param(
            {"output_tokens": 2, "reasoning_output_tokens": 2, "cache_read_input_tokens": 4},
            {"cache_read": 4, "output": 0, "reasoning": 2},
            id="a part without its whole",
        ),
        pytest.param(
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "cache_read_input_tokens": 8,
                "cache_creation_input_tokens": 8,
                "reasoning_output_tokens": 3,
            },
            {"input": 10, "output": 2, "reasoning": 3},
            id="contradictory input",
        ),
        pytest.param(
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "cache_read_input_tokens": 8,
                "reasoning_output_tokens": 6,
            },
            {"input": 2, "cache_read": 8, "output": 5},
            id="contradictory output",
        ),
        pytest.param(
            {"input_tokens": 3, "output_tokens": 2, "reported_total_tokens": 9},
            {"input": 3, "output": 2},
            id="another total",
        ),
    ],
)
def test_kinds_are_disjoint_and_whole(usage, kinds):
    """A part is taken out of its whole; where that cannot be, the whole stays in one piece."""
    event = make_event(usage=TokenUsage(**usage, as_reported=True))

    assert tokens_by_kind(event) == kinds


@pytest.mark.parametrize(
    ("usage", "provenance"),
    [
        pytest.param(None, "missing", id="nothing known"),
        pytest.param(TokenUsage(reported_total_tokens=9), "partial", id="only a total"),
    ],
)
@pytest.mark.parametrize(
    ("shape", "data"),
    [
        pytest.param(
            "kind",
            {
                "model": "gpt-5-mini",
                "provider": "openai",
                "operation": "chat",
                "framework": "langchain",
                "status": "completed",
                "calls": 1,
            },
            id="kind",
        ),
        pytest.param("openai", {"model": "gpt-5-mini"}, id="openai"),
        pytest.param("litellm", {"model": "gpt-5-mini"}, id="litellm"),
    ],
)
def test_a_call_without_counts_stays_visible(usage, provenance, shape, data):
    """One event under its own id, without a number of tokens: 0 would say that it took none."""
    event = make_event(id="0198", usage=usage, provenance=provenance)

    [wire] = shaped(event, shape)

    assert wire["id"] == "0198"
    assert wire["data"] == (data | {"provenance": provenance} if shape == "kind" else data)


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        pytest.param("openai", {"completion_tokens": 2}, id="openai"),
        pytest.param("litellm", {"completion_tokens": 2}, id="litellm"),
    ],
)
def test_what_is_unknown_is_absent(shape, data):
    """Where one side is unknown there is no total, and where nobody named a model none is named."""
    usage = TokenUsage(output_tokens=2)
    event = make_event(usage=usage, provenance="partial", model=None)

    assert [wire["data"] for wire in shaped(event, shape)] == [data]


# Other units.


@pytest.mark.parametrize("shape", SHAPES)
def test_a_quantity_is_sent_as_in_the_journal(shape):
    """Other units are no tokens: in every shape the event is the recorded one."""
    event = make_event(usage=None, provenance="reported", quantity=3, unit="images")

    assert shaped(event, shape) == [json.loads(encode(event))]


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "call"])
def test_a_quantity_beside_tokens_is_an_event_of_its_own(shape):
    """Neither is lost and neither counts twice: the tokens in their shape, the quantity as is."""
    call = {
        "id": "0198",
        "measures": {"web_search_requests": 2},
        "dimensions": {"feature": "search"},
    }
    event = make_event(**call, quantity=3, unit="images")

    *tokens, quantity = shaped(event, shape)

    assert tokens == shaped(make_event(**call), shape)
    assert quantity == {
        "specversion": "1.0",
        "id": "0198:quantity",
        "source": "tests",
        "type": "llm.usage",
        "subject": "customer-42",
        "time": "2026-11-21T12:00:00.000Z",
        "data": {
            "model": "gpt-5-mini",
            "provider": "openai",
            "operation": "chat",
            "quantity": 3,
            "unit": "images",
            "provenance": "reported",
            "status": "completed",
            "framework": "langchain",
            "feature": "search",
        },
    }


# Types and ids.


@pytest.mark.parametrize("shape", SHAPES)
def test_another_type_for_every_event(shape):
    """`event_type` names tokens and quantities alike, and changes nothing else."""
    for event in (CALL, make_event(quantity=3, unit="images"), make_event(usage=None)):
        before = shaped(event, shape)
        after = shaped(event, shape, event_type="acme.llm")

        assert after == [{**wire, "type": "acme.llm"} for wire in before]
        assert {wire["type"] for wire in before} != {"acme.llm"}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_response_id_in_place_of_ours(shape):
    """With `event_id=response` only the id changes; kinds keep their suffixes."""
    before = shaped(CALL, shape)

    after = shaped(CALL, shape, event_id="response")

    assert after == [{**wire, "id": wire["id"].replace("0198", "chatcmpl-1", 1)} for wire in before]
    assert {wire["id"].partition(":")[0] for wire in after} == {"chatcmpl-1"}


@pytest.mark.parametrize("flags", [(), ("unattributed",)], ids=["no flags", "flags"])
@pytest.mark.parametrize("shape", SHAPES)
def test_without_a_response_id_ours_stays(shape, flags):
    """The shape that has flags says so; the journal's own id is always there."""
    event = make_event(flags=flags)

    wires = shaped(event, shape, event_id="response")

    expected = shaped(event, shape)
    if shape == "call":
        expected[0]["data"]["flags"] = [*flags, "no_response_id"]
    assert wires == expected


# Whatever comes.

_NUMBERS = st.none() | st.integers(0, 50) | st.integers(0, MAX_COUNT)
_NAMES = st.none() | st.text(min_size=1, max_size=10)
_USAGE = st.builds(
    TokenUsage,
    **{field.name: _NUMBERS for field in fields(TokenUsage)},
    as_reported=st.just(value=True),
)


@st.composite
def events(draw: st.DrawFn) -> UsageEvent:
    """Any event that can be recorded."""
    usage = draw(st.none() | _USAGE)
    unit = draw(_NAMES)
    known = usage is not None or unit is not None
    return make_event(
        usage=usage,
        provenance=draw(st.sampled_from(["reported", "partial", "estimated"]))
        if known
        else "missing",
        unit=unit,
        quantity=None if unit is None else draw(st.integers(0, 9) | st.floats(0, 1e9)),
        status=draw(st.sampled_from(["completed", "failed", "aborted", "cached", "interrupted"])),
        model=draw(_NAMES),
        request_model=draw(_NAMES),
        provider=draw(_NAMES),
        response_id=draw(_NAMES),
        count_method=draw(_NAMES),
        measures=draw(
            st.dictionaries(st.sampled_from(sorted(MEASURES)), st.integers(0, 9) | st.floats(0, 9))
        ),
        flags=tuple(draw(st.lists(st.text(min_size=1, max_size=10), max_size=2))),
        dimensions=draw(
            st.dictionaries(
                st.text(min_size=1, max_size=10).filter(lambda key: key not in DATA_KEYS),
                st.text(max_size=10),
                max_size=3,
            )
        ),
    )


@given(event=events())
def test_the_sum_over_kinds_is_the_total(event):
    """Whatever was reported: no token is lost, none counts twice, and no count is negative."""
    kinds = tokens_by_kind(event)
    usage = event.usage or TokenUsage()

    assert set(kinds) <= set(KINDS)
    assert all(type(count) is int and count >= 0 for count in kinds.values())
    for total, parts in [
        (usage.input_tokens, ("input", "cache_read", "cache_write")),
        (usage.output_tokens, ("output", "reasoning")),
    ]:
        if total is not None:
            assert sum(kinds.get(kind, 0) for kind in parts) == total
    if usage.total_tokens is not None:
        assert sum(kinds.values()) == usage.total_tokens


@given(
    event=events(),
    shape=st.sampled_from(SHAPES),
    event_type=st.none() | st.just("acme.llm"),
    event_id=st.sampled_from(["call", "response"]),
)
def test_every_wire_event_is_one_that_openmeter_takes(event, shape, event_type, event_id):
    """Valid, at least one, no id twice, no more than announced, and the same bytes every time."""
    form = wire_form(shape, event_type=event_type, event_id=event_id)
    payload = encode(event)
    wires = [payload] if form is None else form.encode(payload)
    bodies = [json.loads(wire, parse_constant=pytest.fail) for wire in wires]

    for body in bodies:
        for validator in event_validators():
            validator.validate(body)
        assert all(math.isfinite(value) for value in body["data"].values() if type(value) is float)
        assert (body["source"], body["subject"]) == (event.source, event.subject)
    assert 1 <= len(wires) <= (1 if form is None else form.most_events)
    assert len({body["id"] for body in bodies}) == len(wires)
    if form is not None:
        again = wire_form(shape, event_type=event_type, event_id=event_id)
        assert again.encode(payload) == wires
    calls = [body["data"].get("calls", 0) for body in bodies]
    if shape in ("call", "kind"):
        assert sum(calls) == json.loads(payload)["data"].get("calls", 0)
    if event.quantity is not None:
        sent = [body["data"]["quantity"] for body in bodies if "quantity" in body["data"]]
        assert sent == [event.quantity]


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)


@given(
    data=st.dictionaries(st.sampled_from(sorted(DATA_KEYS)) | st.text(max_size=5), _JSON),
    shape=st.sampled_from(SHAPES),
)
def test_no_payload_makes_a_shape_raise(data, shape):
    """A CloudEvent of somebody else's, of a later version or damaged is read for what it holds."""
    event = json.loads(encode(make_event())) | {"data": data}
    payload = json.dumps(event).encode()

    try:
        wires = wire_form(shape, event_id="response").encode(payload)
    except UnusableEventError:
        return

    assert wires


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"hunter2', id="cut off"),
        pytest.param(b"\xffhunter2", id="no UTF-8"),
        pytest.param(b'["hunter2"]', id="no object"),
        pytest.param(
            encode(CALL).replace(b'"model"', b'"x":' + b"[" * 200_000 + b"]" * 200_000 + b',"m"'),
            id="nested",
        ),
        pytest.param(encode(CALL).replace(b"customer-42", b""), id="nobody pays"),
        pytest.param(encode(CALL).replace(b"12:00:00.000Z", b"12:00:00"), id="naive time"),
        pytest.param(
            encode(CALL).replace(b"2026-11-21T12:00:00.000Z", b"0001-01-01T00:00:00+10:00"),
            id="before all time",
        ),
    ],
)
def test_what_cannot_be_read_is_unusable(shape, payload):
    """The reason quotes nothing of it."""
    with pytest.raises(UnusableEventError) as caught:
        wire_form(shape, event_type="x").encode(payload)

    assert "hunter2" not in str(caught.value)
