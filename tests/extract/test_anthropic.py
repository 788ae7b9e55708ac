"""Anthropic's Messages API, read from dicts, from its SDK's objects and from its SDK's streams."""

from __future__ import annotations

import json

import anthropic as sdk
import httpx2
import pytest
from anthropic._models import construct_type
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent

from llm_metering.errors import InvalidUsageError, UnknownUsageError
from llm_metering.extract import anthropic
from llm_metering.extract.reading import Reading
from llm_metering.extract.views import as_mapping
from llm_metering.token_usage import TokenUsage
from tests.extract.native import (
    body_of,
    cases,
    chunks_of,
    counts_in,
    counts_of,
    expected_of,
    fed,
    numbers_of,
    reading_of,
    recorded,
)

TYPES = [pytest.param(Message, id="Message"), pytest.param(BetaMessage, id="BetaMessage")]
EVENTS = [
    pytest.param(RawMessageStreamEvent, id="RawMessageStreamEvent"),
    pytest.param(BetaRawMessageStreamEvent, id="BetaRawMessageStreamEvent"),
]
APIS = ("anthropic.messages", "bedrock.invoke")


def message(**usage):
    content = [{"type": "text", "text": "Blue."}]
    return {"type": "message", "id": "msg_1", "model": "m", "content": content, "usage": usage}


def client_answering(text, content_type):
    """A real client whose server always gives this answer."""

    def answer(_request):
        return httpx2.Response(200, text=text, headers={"content-type": content_type})

    transport = httpx2.MockTransport(answer)
    return sdk.Anthropic(api_key="none", http_client=httpx2.Client(transport=transport))


def wire(chunks):
    return "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in chunks)


def is_message(interaction):
    return '"type":"message"' in interaction.text.replace(" ", "")


# --- what was recorded


@pytest.mark.parametrize("interaction", recorded(*APIS, streamed=False, where=is_message))
def test_recorded_bodies(interaction):
    """A recorded message gives its numbers as a dict and as an object of the SDK."""
    body = json.loads(interaction.text)
    readings = [anthropic.read(body)] + [
        anthropic.read(as_mapping(construct_type(type_=kind, value=body)))
        for kind in (Message, BetaMessage)
    ]

    assert [numbers_of(each.usage) for each in readings] == [expected_of(interaction)] * 3
    assert readings[0] == readings[2]
    assert readings[0].usage.is_consistent
    assert anthropic.output(body)


@pytest.mark.parametrize("interaction", recorded("anthropic.messages", streamed=True))
def test_recorded_streams(interaction):
    """A recorded stream gives its numbers from dicts and from the SDK's events."""
    chunks = chunks_of(interaction)
    events = [construct_type(type_=BetaRawMessageStreamEvent, value=each) for each in chunks]

    reading = reading_of(anthropic, chunks)

    assert numbers_of(reading.usage) == expected_of(interaction)
    assert reading_of(anthropic, events) == reading
    assert reading.is_final
    assert fed(anthropic, chunks).has_ended
    assert fed(anthropic, events).output() == fed(anthropic, chunks).output()
    assert fed(anthropic, chunks).output()


# --- our own bodies


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("case", cases("anthropic", streamed=False))
def test_objects(case, kind):
    """An object of the SDK is read as the JSON it was made of."""
    body = case["body"]

    reading = anthropic.read(as_mapping(construct_type(type_=kind, value=body)))

    assert reading == anthropic.read(body)
    assert counts_of(reading) == counts_in(case)


@pytest.mark.parametrize("kind", EVENTS)
@pytest.mark.parametrize("case", cases("anthropic", streamed=True))
def test_events(case, kind):
    """The SDK's events are read as the JSON they were made of."""
    events = [construct_type(type_=kind, value=each) for each in case["chunks"]]

    assert reading_of(anthropic, events) == reading_of(anthropic, case["chunks"])
    assert counts_of(reading_of(anthropic, events)) == counts_in(case)
    assert fed(anthropic, events).output().texts == ["Blue."]


def test_a_real_client():
    """What the SDK's client answers is read as the JSON it got."""
    body = body_of("anthropic", "cached")
    client = client_answering(json.dumps(body), "application/json")

    answer = client.messages.create(model="m", max_tokens=9, messages=[])

    assert anthropic.read(as_mapping(answer)) == anthropic.read(body)


def test_the_helper_that_streams():
    """The SDK's helper sends what it makes of the events beside them: no text counts twice."""
    chunks = body_of("anthropic", "streamed, cached")
    client = client_answering(wire(chunks), "text/event-stream")

    with client.messages.stream(model="m", max_tokens=9, messages=[]) as stream:
        events = list(stream)

    assembled = anthropic.Stream()
    for event in events:
        assembled.feed(as_mapping(event))
    assert {"text", "message_delta"} <= {event.type for event in events}
    assert anthropic.read(assembled.body()) == reading_of(anthropic, chunks)
    assert assembled.output().texts == ["Blue."]


# --- streams that break off


def test_a_stream_cut_before_its_end():
    """Until the last counts came the output is unknown: what the beginning says is a placeholder."""
    chunks = body_of("anthropic", "streamed, cached")

    stream = fed(anthropic, chunks[:3])
    reading = anthropic.read(stream.body())

    assert reading.usage.input_tokens == 2024
    assert reading.usage.output_tokens is None
    assert reading.model == "claude-sonnet-5"
    assert reading.response_id == "msg_01madeup"
    assert not stream.is_final
    assert not stream.has_ended
    assert stream.output().texts == ["Blue."]


def test_a_stream_cut_after_its_counts():
    """The counts are final when they are there; that all has come is said by the last event."""
    stream = fed(anthropic, body_of("anthropic", "streamed")[:-1])

    assert stream.is_final
    assert not stream.has_ended


def test_a_stream_of_nothing():
    """A stream that breaks off at once is one of this API without a usage."""
    reading = reading_of(anthropic, [{"type": "message_start", "message": None}])

    assert reading.usage is None
    assert not reading.is_final
    assert not reading.flags


@pytest.mark.parametrize(
    "usage", [pytest.param(None, id="null"), pytest.param({"output_tokens": None}, id="no output")]
)
def test_a_delta_without_counts(usage):
    """A `message_delta` that counts nothing makes nothing final."""
    start = {"type": "message_start", "message": message(input_tokens=80, output_tokens=1)}

    reading = reading_of(anthropic, [start, {"type": "message_delta", "delta": {}, "usage": usage}])

    assert reading.usage == TokenUsage(input_tokens=80)
    assert not reading.is_final


def test_a_delta_that_counts_nothing_in():
    """An explicit 0 is a count where nothing is known to contradict it."""
    delta = {"type": "message_delta", "delta": {}, "usage": {"input_tokens": 0, "output_tokens": 2}}

    assert reading_of(anthropic, [delta]).usage == TokenUsage(input_tokens=0, output_tokens=2)


def test_the_model_that_answers_after_a_fallback():
    """A fallback in the middle of a stream changes the model, and its usage is that of the last."""
    start = {"type": "message_start", "message": message(input_tokens=408, output_tokens=1)}
    fallback = {
        "type": "fallback",
        "from": {"model": "m"},
        "to": {"model": "claude-opus-5"},
        "trigger": {"type": "refusal", "category": "cyber"},
    }
    iterations = [
        {"type": "message", "model": "m", "input_tokens": 408, "output_tokens": 0},
        {"type": "fallback_message", "input_tokens": 412, "output_tokens": 264},
    ]
    usage = {"input_tokens": 412, "output_tokens": 264, "iterations": iterations}

    reading = reading_of(
        anthropic,
        [
            start,
            {"type": "content_block_start", "index": 0, "content_block": fallback},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        ],
    )

    assert reading.model == "claude-opus-5"
    assert reading.usage == TokenUsage(input_tokens=412, output_tokens=264)
    assert not reading.measures  # who declined before any output, for that reason, costs nothing


# --- iterations


def fallen_back(*categories, iterations=None, **more):
    blocks = [
        {"type": "fallback", "trigger": {"type": "refusal", "category": each}}
        for each in categories
    ]
    declined = {"type": "message", "input_tokens": 408, "output_tokens": 0}
    served = {"type": "fallback_message", "input_tokens": 412, "output_tokens": 264}
    usage = {
        "input_tokens": 412,
        "output_tokens": 264,
        "iterations": iterations or [declined] * len(categories) + [served],
    }
    return {"type": "message", "content": blocks, "usage": usage, **more}


@pytest.mark.parametrize(
    ("categories", "billed"),
    [
        pytest.param(["cyber"], {}, id="free"),
        pytest.param([None], {}, id="without a category"),
        pytest.param(
            ["bio"], {"billed_input_tokens": 820, "billed_output_tokens": 264}, id="billed"
        ),
        pytest.param(
            ["bio", "frontier_llm"],
            {"billed_input_tokens": 1228, "billed_output_tokens": 264},
            id="both billed",
        ),
    ],
)
def test_what_a_declined_attempt_costs(categories, billed):
    """An attempt that was declined before any output is billed for some categories only."""
    reading = anthropic.read(fallen_back(*categories))

    assert reading.usage == TokenUsage(input_tokens=412, output_tokens=264)
    assert reading.measures == billed
    assert reading.flags == (("iterations_beyond_total",) if billed else ())


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(fallen_back("bio", "cyber"), id="one of two is billed"),
        pytest.param(
            fallen_back("cyber", iterations=[{"type": "message", "input_tokens": 9}]),
            id="an output is missing",
        ),
        pytest.param(
            fallen_back("cyber", iterations=[{"type": "message", "output_tokens": 9}]),
            id="an input is missing",
        ),
        pytest.param(fallen_back("cyber", iterations=[None]), id="no iteration"),
        pytest.param(
            fallen_back("cyber", iterations=[{"input_tokens": "9", "output_tokens": 1}]),
            id="no count",
        ),
    ],
)
def test_iterations_that_cannot_be_added_up(body):
    """Where it can't be told what is billed, no sum is made up; the flag says so."""
    reading = anthropic.read(body)

    assert reading.usage == TokenUsage(input_tokens=412, output_tokens=264)
    assert not reading.measures
    assert reading.flags == ("iterations_beyond_total",)


def test_iterations_beside_a_usage_that_cannot_be_read():
    """Where the top level is no count there is nothing to compare the iterations with."""
    iterations = [{"type": "message", "input_tokens": 9, "output_tokens": 1}]
    reading = anthropic.read(message(input_tokens="9", iterations=iterations))

    assert reading.flags == ("invalid_usage",)
    assert not reading.measures


def test_an_iteration_without_output():
    """Where nobody declined, what was read counts, though nothing was written."""
    iterations = [
        {"type": "compaction", "input_tokens": 70, "output_tokens": 0},
        {"type": "message", "input_tokens": 9, "output_tokens": 1},
    ]
    body = message(input_tokens=9, output_tokens=1, iterations=iterations)

    assert anthropic.read(body).measures["billed_input_tokens"] == 79


@pytest.mark.parametrize(
    ("category", "billed"),
    [pytest.param("reasoning_extraction", 408, id="billed"), pytest.param("cyber", 0, id="free")],
)
def test_a_refusal_at_the_end_of_a_chain(category, billed):
    """A last attempt that declined, too, is billed by the reason the answer gives."""
    iterations = [{"type": "message", "input_tokens": 408, "output_tokens": 0}]
    ending = {"stop_reason": "refusal", "stop_details": {"category": category}}
    usage = {"input_tokens": 412, "output_tokens": 264, "iterations": iterations}

    body = fallen_back(iterations=iterations, **ending)
    stream = [{"type": "message_delta", "delta": ending, "usage": usage}]

    assert anthropic.read(body).measures["billed_input_tokens"] == billed
    assert reading_of(anthropic, stream).measures["billed_input_tokens"] == billed


# --- odd numbers


def test_contradictory_numbers_are_kept():
    """More thinking than output, and a split above its sum, are kept as they came."""
    usage = anthropic.extract_usage(
        {
            "input_tokens": 5,
            "output_tokens": 2,
            "cache_creation_input_tokens": 3,
            "cache_creation": {"ephemeral_5m_input_tokens": 4},
            "output_tokens_details": {"thinking_tokens": 3},
        }
    )

    assert not usage.is_consistent
    assert usage.input_tokens == 8
    assert usage.cache_creation_5m_input_tokens == 4
    assert usage.reasoning_output_tokens == 3


@pytest.mark.parametrize(
    ("split", "written"),
    [
        pytest.param(
            {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 2}, 42, id="both"
        ),
        pytest.param({"ephemeral_5m_input_tokens": 40}, 40, id="5 minutes"),
        pytest.param({"ephemeral_1h_input_tokens": 2}, 2, id="1 hour"),
        pytest.param({}, None, id="empty"),
    ],
)
def test_a_split_without_its_sum(split, written):
    """Cache writes that are only given by their lifetime are part of the input."""
    usage = anthropic.extract_usage({"input_tokens": 5, "cache_creation": split})

    assert usage.cache_creation_input_tokens == written
    assert usage.input_tokens == 5 + (written or 0)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        pytest.param("input_tokens", "input_tokens", id="input"),
        pytest.param("output_tokens", "output_tokens", id="output"),
        pytest.param("cache_read_input_tokens", "cache_read_input_tokens", id="cache read"),
        pytest.param(
            "cache_creation_input_tokens", "cache_creation_input_tokens", id="cache write"
        ),
    ],
)
def test_one_count_alone(name, field):
    """One count is something; the input as a whole is not known by its cached part."""
    assert anthropic.extract_usage({name: 5}).counts() == {field: 5}


def test_a_total_is_kept():
    """A total that a proxy adds is kept beside the counts."""
    usage = anthropic.extract_usage({"input_tokens": 5, "output_tokens": 1, "total_tokens": 7})

    assert usage.reported_total_tokens == 7
    assert not usage.is_consistent


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param({"input_tokens": "80", "output_tokens": 20}, id="text"),
        pytest.param({"input_tokens": True, "output_tokens": 20}, id="bool"),
        pytest.param({"input_tokens": 80, "output_tokens": 2.5}, id="float"),
        pytest.param({"input_tokens": -1, "cache_read_input_tokens": 9}, id="negative"),
        pytest.param({"input_tokens": 80, "output_tokens": 10**12}, id="too large"),
    ],
)
def test_no_counts(usage):
    """What is no count is refused, and the message flagged; a sum does not hide it."""
    with pytest.raises(InvalidUsageError):
        anthropic.extract_usage(usage)

    assert anthropic.read(message(**usage)).flags == ("invalid_usage",)
    assert anthropic.read(message(**usage)).usage is None


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param({}, id="empty"),
        pytest.param({"input_tokens": None, "output_tokens": None}, id="nulls"),
        pytest.param({"tokens": 5}, id="other names"),
        pytest.param(
            {"input_tokens": 9, "output_tokens": 1, "input_tokens_details": {}}, id="OpenAI's"
        ),
        pytest.param(
            {"input_tokens": 9, "output_tokens": 1, "input_token_details": {}}, id="LangChain's"
        ),
    ],
)
def test_other_shapes(usage):
    """A usage of another shape is refused, since OpenAI's names mean something else."""
    with pytest.raises(UnknownUsageError):
        anthropic.extract_usage(usage)


@pytest.mark.parametrize(
    ("reported", "flags"),
    [
        pytest.param(None, (), id="null"),
        pytest.param({}, (), id="empty"),
        pytest.param({"input_tokens": None}, (), id="nulls"),
        pytest.param("80", ("invalid_usage",), id="text"),
        pytest.param({"tokens_in": 9}, ("unknown_usage:tokens_in",), id="other names"),
    ],
)
def test_a_message_without_counts(reported, flags):
    """A message without a usage has none; one in a form we don't know is flagged by its names."""
    reading = anthropic.read({"type": "message", "content": [], "usage": reported})

    assert reading.usage is None
    assert reading.flags == flags


def test_a_message_without_content():
    """A message is known by its usage alone."""
    assert anthropic.read({"type": "message", "usage": {"input_tokens": 5}}).usage is not None


def test_a_delta_by_itself():
    """The last event of a stream, which LlamaIndex hands out, is read by itself."""
    event = {
        "type": "message_delta",
        "delta": {},
        "usage": {"input_tokens": 80, "output_tokens": 2},
    }

    assert anthropic.read(event).usage == TokenUsage(input_tokens=80, output_tokens=2)
    assert anthropic.read({"type": "message_delta"}) is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="empty"),
        pytest.param({"input_tokens": 14}, id="a count of tokens"),
        pytest.param({"type": "error", "error": {"type": "overloaded_error"}}, id="an error"),
        pytest.param({"type": ["message"], "usage": {}}, id="no type"),
        pytest.param({"type": "message"}, id="a bare type"),
        pytest.param({"type": "completion"}, id="a bare completion"),
        pytest.param({"type": "x", "completion": "Blue."}, id="another completion"),
        pytest.param({"type": "x", "usage": {"input_tokens": 1}}, id="another type"),
    ],
)
def test_other_bodies(body):
    """What is no message is left to other modules."""
    assert anthropic.read(body) is None
    assert not anthropic.matches_chunk(body)


@pytest.mark.parametrize(
    ("response_id", "provider"),
    [
        pytest.param("msg_01abc", "anthropic", id="its own"),
        pytest.param("msg_bdrk_01abc", "aws.bedrock", id="Bedrock"),
        pytest.param("msg_vrtx_01abc", "gcp.vertex_ai", id="Vertex AI"),
        pytest.param(None, "anthropic", id="without a name"),
    ],
)
def test_who_sells_it(response_id, provider):
    """The name of an answer shows whose endpoint it came from."""
    assert anthropic.read({**message(input_tokens=1), "id": response_id}).provider == provider


def test_text_completions():
    """A legacy text completion has a text and no usage."""
    body = {"type": "completion", "id": "compl_1", "model": "claude-2.1", "completion": "Blue."}

    assert anthropic.read(body) == Reading(
        shape="anthropic.completions",
        provider="anthropic",
        operation="text_completion",
        model="claude-2.1",
        response_id="compl_1",
    )
    assert anthropic.output(body).texts == ["Blue."]


def test_output_by_kind():
    """Visible text, shown thinking and tool calls are kept apart."""
    body = body_of("anthropic", "plain, with thinking and a search of the web")

    output = anthropic.output(body)

    assert output.texts == ["Blue."]
    assert output.reasoning == ["What blue is it?"]
    assert output.tool_calls == [("web_search", '{"query":"blue"}')]


def test_other_blocks():
    """Blocks that are no text of the model's, or have no type, are passed over."""
    blocks = [{"type": "mcp_tool_result", "name": "x"}, {"type": ["text"], "text": "x"}, None]
    chunks = [
        {"type": "content_block_start", "index": [], "content_block": each} for each in blocks
    ]

    assert not anthropic.output({"content": blocks})
    assert not fed(anthropic, chunks).output()


def test_a_block_without_a_place():
    """A piece without an index belongs to the first block."""
    delta = {"type": "text_delta", "text": "Blue."}
    chunks = [{"type": "content_block_delta", "index": each, "delta": delta} for each in (0, [])]

    assert fed(anthropic, chunks).output().texts == ["Blue.Blue."]


def test_streamed_output_by_kind():
    """In a stream they are told apart, too, block by block."""
    deltas = [
        ("thinking", {"type": "thinking_delta", "thinking": "Hm."}),
        ("text", {"type": "text_delta", "text": "Blue."}),
        ("tool_use", {"type": "input_json_delta", "partial_json": '{"a":'}),
    ]
    chunks = []
    for index, (kind, delta) in enumerate(deltas):
        block = {"type": kind, "text": "", "thinking": "", "name": "paint", "input": {}}
        chunks.append({"type": "content_block_start", "index": index, "content_block": block})
        chunks.append({"type": "content_block_delta", "index": index, "delta": delta})
    more = {"type": "input_json_delta", "partial_json": "1}"}
    chunks.append({"type": "content_block_delta", "index": 2, "delta": more})

    output = fed(anthropic, chunks).output()

    assert (output.texts, output.reasoning) == (["Blue."], ["Hm."])
    assert output.tool_calls == [("paint", '{"a":1}')]
