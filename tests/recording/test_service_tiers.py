"""The tier of what is recorded: what the response says, and what the caller says beside it."""

from __future__ import annotations

import json

import pytest

import llm_metering
from llm_metering import TokenUsage
from llm_metering.errors import InvalidArgumentError
from llm_metering.recording.keywords import RecordArguments
from tests.recording.test_record import COMPLETION, MESSAGES, without_usage

CHUNKS = [
    {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "m-1",
        "choices": [{"index": 0, "delta": {"content": "Blue."}, "finish_reason": "stop"}],
        "service_tier": "flex",
    },
    {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "m-1",
        "choices": [],
        "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10},
        "service_tier": "flex",
    },
]


def served(tier):
    return COMPLETION if tier is None else {**COMPLETION, "service_tier": tier}


def told(event):
    """What an event says of its tier."""
    return event.data.get("service_tier"), event.data.get("flags")


@pytest.mark.parametrize(
    ("served_on", "said", "expected"),
    [
        pytest.param("flex", None, ("flex", None), id="the response"),
        pytest.param(None, None, (None, None), id="nobody"),
        pytest.param(None, "batch", ("batch", None), id="the argument"),
        pytest.param("default", "batch", ("batch", None), id="the argument, beside the plain one"),
        pytest.param("flex", "Flex", ("flex", None), id="both"),
        pytest.param(
            "priority", "batch", ("priority", ["service_tier_differs"]), id="a contradiction"
        ),
        pytest.param("what?", None, (None, ["invalid_service_tier"]), id="no tier at all"),
    ],
)
def test_a_response(meter, events, served_on, said, expected):
    """The argument stands where the response names the plain tier or none; a contradiction shows."""
    returned = meter.record(served(served_on), "acme", service_tier=said)

    (event,) = events()
    assert told(event) == expected
    assert returned.service_tier == expected[0]


def test_what_has_to_be_counted(meter, events):
    """An estimate and the count that follows it say what the caller said."""
    request = {"model": "gpt-4o-mini", "messages": MESSAGES}
    returned = meter.record(without_usage(), "acme", request=request, service_tier="batch")

    (event,) = events()
    assert event.data["provenance"] == "estimated"
    assert returned.service_tier == event.data["service_tier"] == "batch"


@pytest.mark.parametrize(
    ("response", "more"),
    [
        pytest.param(TokenUsage(input_tokens=8, output_tokens=2), {}, id="counts"),
        pytest.param(None, {"quantity": 3, "unit": "images"}, id="a quantity"),
        pytest.param("no response at all", {}, id="what cannot be read"),
    ],
)
def test_what_names_no_tier_itself(meter, events, response, more):
    """Whatever is recorded can be said to have been served on one."""
    meter.record(response, "acme", service_tier="batch", **more)
    # Not in what is shared between responses that cannot be read.
    meter.record("no response at all", "acme")

    first, second = events()
    assert told(first)[0] == "batch"
    assert told(second)[0] is None


def test_the_results_of_a_batch(meter, events):
    """As OpenAI's batch API writes them: a line each, whose body says `default`."""
    lines = [
        json.dumps(
            {
                "custom_id": f"request-{number}",
                "response": {"status_code": 200, "body": served("default") | {"id": f"c-{number}"}},
            }
        )
        for number in range(3)
    ]

    for line in lines:
        result = json.loads(line)
        meter.record(
            result["response"]["body"],
            "acme",
            idempotency_key=result["custom_id"],
            service_tier="batch",
        )

    assert [told(event) for event in events()] == [("batch", None)] * 3


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(None, ("flex", None), id="the stream"),
        pytest.param("flex", ("flex", None), id="both"),
        pytest.param("batch", ("flex", ["service_tier_differs"]), id="a contradiction"),
    ],
)
def test_a_stream(meter, events, said, expected):
    """A stream says it in its chunks, and is read as a response is."""
    list(meter.metered_stream(iter(CHUNKS), "acme", service_tier=said))

    (event,) = events()
    assert told(event) == expected


def test_a_stream_that_says_nothing(meter, events):
    """The argument is all there is."""
    chunks = [{**chunk, "service_tier": None} for chunk in CHUNKS]

    list(meter.metered_stream(iter(chunks), "acme", service_tier="priority"))

    (event,) = events()
    assert told(event) == ("priority", None)


@pytest.mark.parametrize("said", ["auto", "", "a long story", 3])
def test_an_argument_that_is_no_tier(meter, events, said):
    """It is refused where the mistake is made, and nothing is recorded."""
    with pytest.raises(InvalidArgumentError, match="service_tier is the tier"):
        meter.record(COMPLETION, "acme", service_tier=said)
    with pytest.raises(InvalidArgumentError, match="service_tier is the tier"):
        meter.metered_stream(iter(CHUNKS), "acme", service_tier=said)

    assert events() == []


@pytest.mark.anyio
async def test_every_function_takes_it(meter, events):
    """The functions of the package, and the awaited ones, pass it on."""
    before = llm_metering.default_meter.put_in_place(meter)
    try:
        llm_metering.record(COMPLETION, "acme", service_tier="batch")
        await llm_metering.arecord(COMPLETION, "acme", service_tier="batch")
        await meter.arecord(COMPLETION, "acme", service_tier="batch")
        chunks = [{**chunk, "service_tier": None} for chunk in CHUNKS]
        list(llm_metering.metered_stream(iter(chunks), "acme", service_tier="batch"))
    finally:
        llm_metering.default_meter.put_in_place(before)

    assert [told(event) for event in events()] == [("batch", None)] * 4
    assert "service_tier" in RecordArguments.__annotations__
