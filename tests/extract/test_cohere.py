"""Cohere's API, v1 and v2, read from JSON, from its SDK's objects and from its SDK's streams."""

from __future__ import annotations

import json

import cohere as sdk
import httpx
import pytest

from llm_metering.errors import InvalidUsageError, UnknownUsageError
from llm_metering.extract import cohere
from llm_metering.extract.views import as_mapping
from llm_metering.token_usage import TokenUsage
from tests.extract.native import (
    body_of,
    cases,
    counts_in,
    counts_of,
    expected_of,
    fed,
    numbers_of,
    reading_of,
    recorded,
)

CHATS = ("cohere.v1_chat", "cohere.v2_chat")
QUESTION = [{"role": "user", "content": "?"}]


def client_answering(text, content_type, *, version):
    """A real client whose server always gives this answer."""

    def answer(_request):
        return httpx.Response(200, text=text, headers={"content-type": content_type})

    kind = sdk.ClientV2 if version == 2 else sdk.Client
    return kind(api_key="none", httpx_client=httpx.Client(transport=httpx.MockTransport(answer)))


def ask(body):
    """The SDK's object of a body, by the call that answers with it."""
    is_v2 = "usage" in body or body["meta"]["api_version"]["version"] == "2"
    client = client_answering(json.dumps(body), "application/json", version=2 if is_v2 else 1)
    if "embeddings" in body:
        return client.embed(
            model="m", input_type="search_query", texts=["?"], embedding_types=["float"]
        )
    if "results" in body:
        return client.rerank(model="m", query="?", documents=["?"])
    if "classifications" in body:
        return client.classify(inputs=["?"], examples=[])
    return client.chat(model="m", messages=QUESTION) if is_v2 else client.chat(message="?")


def ask_streamed(chunks):
    if "event_type" in chunks[0]:
        text = "".join(f"{json.dumps(each)}\n" for each in chunks)
        client = client_answering(text, "application/stream+json", version=1)
        return list(client.chat_stream(message="?"))
    text = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in chunks)
    client = client_answering(text, "text/event-stream", version=2)
    return list(client.chat_stream(model="m", messages=QUESTION))


def billed_of(reading):
    names = ("billed_input_tokens", "billed_output_tokens", "search_units")
    return {name: reading.measures[name] for name in names if name in reading.measures}


# --- what was recorded


@pytest.mark.parametrize("interaction", recorded("cohere.v1", "cohere.v2_chat", streamed=False))
def test_recorded_bodies(interaction):
    """A recorded answer gives its tokens and what is billed, as JSON and as an object."""
    body = json.loads(interaction.text)
    billed = {
        f"billed_{name}" if name.endswith("tokens") else name: count
        for name, count in interaction.expected["billed_units"].items()
    }

    for each in (body, as_mapping(ask(body))):
        reading = cohere.read(each)
        assert numbers_of(reading.usage) == expected_of(interaction)
        assert (reading.usage is None) == (reading.operation == "rerank")
        assert billed_of(reading) == billed
        assert not reading.flags


@pytest.mark.parametrize("interaction", recorded(*CHATS, streamed=True))
def test_recorded_streams(interaction):
    """A recorded stream gives its tokens and what is billed, from JSON and from objects."""
    chunks = interaction.chunks
    events = ask_streamed(chunks)

    reading = reading_of(cohere, chunks)

    assert numbers_of(reading.usage) == expected_of(interaction)
    assert (
        reading.measures["billed_output_tokens"]
        == (interaction.expected["billed_units"]["output_tokens"])
    )
    assert reading_of(cohere, events) == reading
    assert reading.is_final
    assert fed(cohere, chunks).has_ended
    assert fed(cohere, events).output() == fed(cohere, chunks).output()
    assert fed(cohere, chunks).output()


# --- our own bodies


@pytest.mark.parametrize("case", cases("cohere", streamed=False))
def test_objects(case):
    """An object of the SDK, where every count is a float, is read as the JSON it was made of."""
    reading = cohere.read(as_mapping(ask(case["body"])))

    assert reading == cohere.read(case["body"])
    assert counts_of(reading) == counts_in(case)


@pytest.mark.parametrize("case", cases("cohere", streamed=True))
def test_events(case):
    """The SDK's events are read as the JSON they were made of."""
    events = ask_streamed(case["chunks"])

    assert reading_of(cohere, events) == reading_of(cohere, case["chunks"])
    assert counts_of(reading_of(cohere, events)) == counts_in(case)
    assert fed(cohere, events).output().texts == ["Blue."]


@pytest.mark.parametrize("case_name", ["streamed", "streamed, of v1"])
def test_the_last_event_by_itself(case_name):
    """The last event of a stream, which LlamaIndex hands out, is read by itself."""
    chunks = body_of("cohere", case_name)

    reading = cohere.read(chunks[-1])

    assert reading.usage == reading_of(cohere, chunks).usage
    assert reading.measures == reading_of(cohere, chunks).measures


# --- streams that break off


@pytest.mark.parametrize("case_name", ["streamed", "streamed, of v1"])
def test_a_stream_cut_before_its_end(case_name):
    """Before its last event a stream has no usage, only text and a name."""
    stream = fed(cohere, body_of("cohere", case_name)[:-1])
    reading = cohere.read(stream.body())

    assert reading.usage is None
    assert not reading.flags
    assert reading.response_id
    assert not stream.is_final
    assert not stream.has_ended
    assert stream.output().texts == ["Blue."]


def test_an_end_without_a_response():
    """The last event of a stream of v1 that holds nothing says nothing."""
    assert cohere.read({"event_type": "stream-end"}) is None


def test_a_stream_of_nothing():
    """A stream that breaks off at once is one of Cohere's without a usage."""
    assert cohere.read(fed(cohere, [{"type": "content-end"}]).body()).usage is None


@pytest.mark.parametrize(
    "end",
    [
        pytest.param({"type": "message-end", "delta": {"finish_reason": "ERROR"}}, id="v2"),
        pytest.param({"event_type": "stream-end", "finish_reason": "ERROR"}, id="v1"),
    ],
)
def test_a_stream_that_fails(end):
    """A stream that ends with an error has failed, and its counts are not known."""
    stream = fed(cohere, [end])

    assert stream.has_ended
    assert not stream.is_final
    assert cohere.read(stream.body()).ending == "failed"
    assert cohere.read(stream.body()).reason == "ERROR"


# --- what is billed


@pytest.mark.parametrize(
    ("billed", "usage"),
    [
        pytest.param(
            {"input_tokens": 7.0},
            TokenUsage(input_tokens=7, output_tokens=0),
            id="text",
        ),
        pytest.param(
            {"input_tokens": 0, "image_tokens": 2716},
            TokenUsage(input_tokens=2716, output_tokens=0, input_image_tokens=2716),
            id="images",
        ),
        pytest.param(
            {"image_tokens": 5},
            TokenUsage(input_tokens=5, output_tokens=0, input_image_tokens=5),
            id="images alone",
        ),
        pytest.param(
            {"input_tokens": 9, "image_tokens": 5, "text_tokens": 4},
            TokenUsage(input_tokens=9, output_tokens=0, input_image_tokens=5),
            id="a sum and its parts",
        ),
    ],
)
def test_embeddings(billed, usage):
    """Embeddings report what is billed alone; it is their usage too, and they have no output."""
    body = {"id": "1", "embeddings": {"float": [[0.5]]}, "meta": {"billed_units": billed}}

    assert cohere.read(body).usage == usage
    assert cohere.read(body).measures["billed_input_tokens"] == usage.input_tokens


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        pytest.param({"tokens": {"input_tokens": 8}}, {"input_tokens": 8}, id="input"),
        pytest.param({"tokens": {"output_tokens": 8}}, {"output_tokens": 8}, id="output"),
        pytest.param({"billed_units": {"output_tokens": 8}}, {"output_tokens": 8}, id="billed"),
        pytest.param(
            {"tokens": {"input_tokens": 8}, "billed_units": {"output_tokens": 9}},
            {"input_tokens": 8},
            id="not mixed",
        ),
    ],
)
def test_one_count_alone(usage, counts):
    """What is not counted of an answer is not known; it is not what is billed, nor 0."""
    assert cohere.extract_usage(usage).counts() == counts


def test_embeddings_with_an_output():
    """An output that is reported stays, even where none is expected."""
    meta = {"tokens": {"input_tokens": 8, "output_tokens": 3}}

    assert cohere.read({"embeddings": {}, "meta": meta}).usage.output_tokens == 3


def test_images_beside_text():
    """Tokens of text that are not the rest of the sum change nothing."""
    billed = {"input_tokens": 9, "image_tokens": 5, "text_tokens": 9}

    assert cohere.extract_usage({"billed_units": billed}).input_tokens == 14


def test_tokens_and_what_is_billed():
    """The usage is the tokens; what is billed is beside them, and may be anything."""
    usage = {
        "tokens": {"input_tokens": 80, "output_tokens": 20},
        "billed_units": {"input_tokens": 99},
    }

    reading = cohere.read({"message": {}, "finish_reason": "COMPLETE", "usage": usage})

    assert reading.usage == TokenUsage(input_tokens=80, output_tokens=20)
    assert reading.measures == {"billed_input_tokens": 99}


def test_billed_units_that_are_no_counts():
    """Half a billed token spoils what is billed, not the tokens."""
    usage = {
        "tokens": {"input_tokens": 80, "output_tokens": 20},
        "billed_units": {"input_tokens": 0.5},
    }

    reading = cohere.read({"message": {}, "finish_reason": "COMPLETE", "usage": usage})

    assert reading.usage == TokenUsage(input_tokens=80, output_tokens=20)
    assert not reading.measures


# --- odd numbers


@pytest.mark.parametrize(
    "tokens",
    [
        pytest.param({"input_tokens": 7.5}, id="half a token"),
        pytest.param({"input_tokens": float("nan")}, id="not a number"),
        pytest.param({"input_tokens": float("inf")}, id="infinite"),
        pytest.param({"input_tokens": "7"}, id="text"),
        pytest.param({"input_tokens": True}, id="bool"),
        pytest.param({"input_tokens": 7, "output_tokens": -1.0}, id="negative"),
    ],
)
def test_no_counts(tokens):
    """A float that is whole is a count; what is no count is refused, and the answer flagged."""
    with pytest.raises(InvalidUsageError):
        cohere.extract_usage({"tokens": tokens})

    reading = cohere.read({"id": "1", "text": "Blue.", "meta": {"tokens": tokens}})
    assert reading.usage is None
    assert reading.flags == ("invalid_usage",)


def test_contradictory_numbers_are_kept():
    """More cached tokens than there are in the prompt are kept as they came."""
    usage = cohere.extract_usage({"tokens": {"input_tokens": 8}, "cached_tokens": 9})

    assert usage.cache_read_input_tokens == 9
    assert not usage.is_consistent


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param({}, id="empty"),
        pytest.param({"tokens": None, "billed_units": {"search_units": 1}}, id="no tokens"),
        pytest.param({"prompt_tokens": 8}, id="other names"),
    ],
)
def test_other_shapes(usage):
    """A usage without any count of tokens is refused."""
    with pytest.raises(UnknownUsageError):
        cohere.extract_usage(usage)


@pytest.mark.parametrize(
    ("reported", "flags"),
    [
        pytest.param(None, (), id="null"),
        pytest.param({"tokens": None, "billed_units": None}, (), id="nulls"),
        pytest.param({"spent": 8}, ("unknown_usage:spent",), id="other names"),
        pytest.param("8", ("invalid_usage",), id="text"),
    ],
)
def test_an_answer_without_counts(reported, flags):
    """An answer without a usage has none; one in a form we don't know is flagged by its names."""
    reading = cohere.read({"message": {}, "finish_reason": "COMPLETE", "usage": reported})

    assert reading.usage is None
    assert reading.flags == flags


def test_a_rerank_that_cannot_be_read():
    """Where tokens are no counts, the units beside them do not excuse it."""
    billed = {"search_units": 1, "output_tokens": "x"}
    reading = cohere.read({"results": [], "meta": {"billed_units": billed}})

    assert reading.flags == ("invalid_usage",)


def test_a_reason_that_is_none():
    """A reason that is no name is none."""
    assert cohere.read({"message": {}, "finish_reason": ["ERROR"]}).ending == "completed"


def test_tokenizing_is_free():
    """What is neither billed nor counted has no usage, and nothing is odd about it."""
    body = {
        "tokens": [1, 2],
        "token_strings": ["a", "b"],
        "meta": {"api_version": {"version": "1"}},
    }

    assert cohere.read(body).usage is None
    assert not cohere.read(body).flags


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="empty"),
        pytest.param({"id": "1", "message": "model not found"}, id="a refusal"),
        pytest.param({"message": {"content": "x"}, "done": True}, id="Ollama's answer"),
        pytest.param({"meta": {"page": 1}}, id="another meta"),
        pytest.param({"message": "No.", "finish_reason": "x"}, id="a message that is text"),
        pytest.param({"message": {}}, id="a bare message"),
        pytest.param({"generation_id": "1"}, id="a bare name"),
        pytest.param({"text": "Blue."}, id="a bare text"),
        pytest.param({"type": "message_start"}, id="Anthropic's event"),
        pytest.param({"type": ["content-end"], "event_type": []}, id="no types"),
    ],
)
def test_other_bodies(body):
    """What is no answer of Cohere is left to other modules."""
    assert cohere.read(body) is None
    assert not cohere.matches_chunk(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            {
                "message": {
                    "tool_plan": "Hm.",
                    "content": [{"type": "text", "text": "Blue."}],
                    "tool_calls": [{"function": {"name": "paint", "arguments": '{"a":1}'}}],
                }
            },
            id="v2",
        ),
        pytest.param(
            {
                "message": {"content": [{"thinking": "Hm."}]},
                "text": "Blue.",
                "tool_calls": [{"name": "paint", "parameters": {"a": 1}}],
            },
            id="v1, and thinking of v2",
        ),
        pytest.param(
            {
                "message": {"tool_plan": "Hm."},
                "generations": [{"text": "Blue."}],
                "tool_calls": [{"name": "paint", "parameters": {"a": 1}}],
            },
            id="generations",
        ),
    ],
)
def test_output_by_kind(body):
    """Visible text, shown reasoning and tool calls are kept apart."""
    output = cohere.output(body)

    assert (output.texts, output.reasoning) == (["Blue."], ["Hm."])
    assert output.tool_calls == [("paint", '{"a":1}')]


V2_PIECES = [
    {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "Hm."}}},
    {
        "type": "tool-call-start",
        "index": 0,
        "delta": {"message": {"tool_calls": {"function": {"name": "paint", "arguments": ""}}}},
    },
    {
        "type": "tool-call-delta",
        "index": 0,
        "delta": {"message": {"tool_calls": {"function": {"arguments": '{"a":1}'}}}},
    },
]
V2_THINKING = {"type": "content-delta", "delta": {"message": {"content": {"thinking": "Hm."}}}}
CALL = {"name": "paint", "parameters": {"a": 1}}
V1_PIECES = [
    {"event_type": "tool-calls-chunk", "text": "Hm."},
    {"event_type": "tool-calls-chunk", "tool_call_delta": {"index": 0.0, "name": "paint"}},
    {"event_type": "tool-calls-chunk", "tool_call_delta": {"index": 0, "parameters": '{"a":1}'}},
]


@pytest.mark.parametrize(
    ("chunks", "reasoning"),
    [
        pytest.param(V2_PIECES, ["Hm."], id="v2"),
        pytest.param([V2_THINKING, *V2_PIECES[1:]], ["Hm."], id="v2, thinking"),
        pytest.param(V1_PIECES, ["Hm."], id="v1, in pieces"),
        pytest.param([{"event_type": "tool-calls-generation", "tool_calls": [CALL]}], [], id="v1"),
        pytest.param(
            [*V1_PIECES, {"event_type": "tool-calls-generation", "tool_calls": [CALL]}],
            ["Hm."],
            id="v1, in pieces and as a whole",
        ),
    ],
)
def test_streamed_output_by_kind(chunks, reasoning):
    """Tool calls of a stream are joined, and one that comes twice is counted once."""
    output = fed(cohere, chunks).output()

    assert output.reasoning == reasoning
    assert output.tool_calls == [("paint", '{"a":1}')]


@pytest.mark.parametrize("index", [0, [], None])
def test_a_piece_without_a_place(index):
    """A piece without an index belongs to the first."""
    text = {"message": {"content": {"text": "Blue."}}}
    chunks = [
        {"type": "content-delta", "index": 0, "delta": text},
        {"type": "content-delta", "index": index, "delta": text},
        {"event_type": "tool-calls-chunk", "tool_call_delta": {"index": 0, "name": "paint"}},
        {"event_type": "tool-calls-chunk", "tool_call_delta": {"index": index, "parameters": "{}"}},
    ]

    output = fed(cohere, chunks).output()

    assert output.texts == ["Blue.Blue."]
    assert output.tool_calls == [("paint", "{}")]


def test_pieces_in_two_places():
    """Pieces with different indices are kept apart."""
    text = {"message": {"content": {"text": "Blue."}}}
    call = {"name": "paint", "parameters": "{}"}
    chunks = [
        chunk
        for index in (0, 1)
        for chunk in (
            {"type": "content-delta", "index": index, "delta": text},
            {"event_type": "tool-calls-chunk", "tool_call_delta": {"index": index, **call}},
        )
    ]

    assert fed(cohere, chunks).output().texts == ["Blue.", "Blue."]
    assert fed(cohere, chunks).output().tool_calls == [("paint", "{}")] * 2
