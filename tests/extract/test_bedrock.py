"""Amazon Bedrock's Converse and InvokeModel, read from JSON and from what botocore makes of it."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from datetime import UTC, datetime

import botocore.session
import pytest
from botocore.awsrequest import AWSResponse

from llm_metering.errors import InvalidUsageError, UnknownUsageError
from llm_metering.extract import bedrock_converse, bedrock_invoke
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

DATE = "Sat, 21 Nov 2026 20:19:00 GMT"
EVENT_STREAM = "application/vnd.amazon.eventstream"
METRICS = "amazon-bedrock-invocationMetrics"
MESSAGES = [{"role": "user", "content": [{"text": "?"}]}]


class RawBody(io.BytesIO):
    """The part of a urllib3 response that botocore uses."""

    def stream(self, amt=1024, decode_content=None):
        del decode_content
        while chunk := self.read(amt):
            yield chunk


def client_answering(content, content_type="application/json", **headers):
    """A real client of botocore whose server always gives this answer."""
    client = botocore.session.Session().create_client(
        "bedrock-runtime",
        region_name="us-east-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
    )
    sent = {"content-type": content_type, "date": DATE, "x-amzn-requestid": "request-1"}
    sent |= {f"X-Amzn-Bedrock-{name.replace('_', '-')}": each for name, each in headers.items()}

    def answer(request, **_):
        return AWSResponse(request.url, 200, sent, RawBody(content))

    client.meta.events.register("before-send.bedrock-runtime.*", answer)
    return client


def event_stream(chunks):
    """The chunks in AWS's binary framing."""
    return b"".join(_frame(kind, event) for chunk in chunks for kind, event in chunk.items())


def _frame(kind, event):
    fields = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        bytes([len(name)])
        + name.encode()
        + b"\x07"
        + struct.pack("!H", len(value))
        + value.encode()
        for name, value in fields.items()
    )
    payload = json.dumps(event).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))


def converse(body):
    return client_answering(json.dumps(body).encode()).converse(modelId="m", messages=MESSAGES)


def converse_streamed(content):
    client = client_answering(content, EVENT_STREAM)
    return list(client.converse_stream(modelId="m", messages=MESSAGES)["stream"])


def invoke_streamed(content):
    client = client_answering(content, EVENT_STREAM)
    return list(client.invoke_model_with_response_stream(modelId="m", body=b"{}")["body"])


def native(**fields):
    """A chunk as botocore hands it out."""
    return {"chunk": {"bytes": json.dumps(fields).encode()}}


# --- what was recorded


@pytest.mark.parametrize("interaction", recorded("bedrock.converse", streamed=False))
def test_recorded_converse(interaction):
    """A recorded answer gives its numbers, as JSON and as botocore hands it out."""
    body = json.loads(interaction.text)

    for each in (body, converse(body)):
        assert numbers_of(bedrock_converse.read(each).usage) == expected_of(interaction)
        assert bedrock_converse.read(each).usage.is_consistent
        assert bedrock_converse.output(each)


@pytest.mark.parametrize("interaction", recorded("bedrock.converse_stream", streamed=True))
def test_recorded_converse_streams(interaction):
    """A recorded stream gives its numbers, from JSON and from botocore's events."""
    content = base64.b64decode(interaction.body["base64"])

    reading = reading_of(bedrock_converse, interaction.chunks)

    assert numbers_of(reading.usage) == expected_of(interaction)
    assert reading_of(bedrock_converse, converse_streamed(content)) == reading
    assert reading.is_final
    assert fed(bedrock_converse, interaction.chunks).has_ended
    assert fed(bedrock_converse, interaction.chunks).output()


@pytest.mark.parametrize(
    "interaction", recorded("bedrock.invoke_llama", "bedrock.invoke_titan", streamed=False)
)
def test_recorded_invoke(interaction):
    """A recorded body of a model gives its numbers."""
    body = json.loads(interaction.text)

    assert numbers_of(bedrock_invoke.read(body).usage) == expected_of(interaction)
    assert bedrock_invoke.output(body)


@pytest.mark.parametrize("interaction", recorded("bedrock.invoke_stream", streamed=True))
def test_recorded_invoke_streams(interaction):
    """A recorded stream of a model gives its numbers, from botocore's events."""
    events = invoke_streamed(base64.b64decode(interaction.body["base64"]))

    assert numbers_of(reading_of(bedrock_invoke, events).usage) == expected_of(interaction)
    assert reading_of(bedrock_invoke, events).is_final
    assert fed(bedrock_invoke, events).output()


# --- our own bodies


def read(body):
    return bedrock_converse.read(body) or bedrock_invoke.read(body)


@pytest.mark.parametrize(
    "case", cases("bedrock", streamed=False, where=lambda case: "Claude" not in case["name"])
)
def test_bodies(case):
    """One of the two modules reads a body."""
    assert counts_of(read(case["body"])) == counts_in(case)


def test_a_body_of_claude():
    """Claude's body is read where Anthropic's are."""
    assert read(body_of("bedrock", "plain, Claude")) is None


@pytest.mark.parametrize("case", cases("bedrock", streamed=True))
def test_streams(case):
    """A stream gives the same from JSON and from what botocore makes of AWS's framing."""
    chunks = case["chunks"]
    is_invoke = "chunk" in chunks[0]
    module = bedrock_invoke if is_invoke else bedrock_converse
    content = event_stream(chunks)
    events = invoke_streamed(content) if is_invoke else converse_streamed(content)

    assert counts_of(reading_of(module, events)) == counts_in(case)
    assert reading_of(module, events) == reading_of(module, chunks)
    assert reading_of(module, events).is_final
    assert fed(module, events).has_ended
    assert fed(module, events).output().texts == ["Blue."]


def test_a_result_that_is_not_counted():
    """Where one of Titan's results is not counted, the output is not known."""
    results = [{"tokenCount": 12}, {"outputText": "Blue."}]

    usage = bedrock_invoke.extract_usage({"inputTextTokenCount": 7, "results": results})

    assert usage == TokenUsage(input_tokens=7)


@pytest.mark.parametrize("name", ["embedding", "embeddingsByType"])
def test_embeddings_of_titan(name):
    """An embedding, of whatever type, has no output."""
    reading = bedrock_invoke.read({name: [0.5], "inputTextTokenCount": 7})

    assert reading.usage == TokenUsage(input_tokens=7, output_tokens=0)
    assert reading.operation == "embeddings"


def test_a_real_answer():
    """botocore's answer shows its request and when it was sent; it drops what it does not know."""
    body = body_of("bedrock", "cached")

    reading = bedrock_converse.read(converse({**body, "ResponseMetadata": None}))

    assert reading.usage == bedrock_converse.read(body).usage
    assert reading.response_id == "request-1"
    assert reading.created == datetime(2026, 11, 21, 20, 19, tzinfo=UTC)


def test_a_body_that_was_not_read():
    """Of an answer of InvokeModel only the headers are read: its body is the application's."""
    counts = {"Input_Token_Count": "4", "Output_Token_Count": "20"}
    cache = {"Cache_Read_Input_Token_Count": "1600", "Cache_Write_Input_Token_Count": "420"}
    client = client_answering(b'{"generation": "Blue."}', **counts, **cache)

    response = client.invoke_model(modelId="m", body=b"{}")
    reading = bedrock_invoke.read(response)

    assert counts_of(reading) == {
        "input_tokens": 2024,
        "output_tokens": 20,
        "cache_read_input_tokens": 1600,
        "cache_creation_input_tokens": 420,
    }
    assert reading.response_id == "request-1"
    assert reading.created == datetime(2026, 11, 21, 20, 19, tzinfo=UTC)
    assert json.loads(response["body"].read()) == {"generation": "Blue."}


@pytest.mark.parametrize("name", ["body", "stream"])
def test_a_stream_that_was_not_read(name):
    """The answer around a stream has no counts, and is left as it is."""
    events = iter([{"metadata": {}}])
    response = {"ResponseMetadata": {"RequestId": "request-1"}, name: events}

    reading = bedrock_invoke.read(response)

    assert reading.usage is None
    assert not reading.flags
    assert reading.response_id == "request-1"
    assert list(events) == [{"metadata": {}}]


@pytest.mark.parametrize(
    "count",
    [
        pytest.param("", id="empty"),
        pytest.param("-1", id="negative"),
        pytest.param("1_000", id="an underscore"),
        pytest.param("١٢", id="other digits"),
        pytest.param("9" * 5000, id="endless"),
        pytest.param(True, id="bool"),
    ],
)
def test_headers_that_are_no_counts(count):
    """A header that is no plain number is refused, and the answer flagged."""
    headers = {"x-amzn-bedrock-input-token-count": count}

    with pytest.raises(InvalidUsageError):
        bedrock_invoke.extract_usage(headers)
    body = {"ResponseMetadata": {"HTTPHeaders": headers}, "body": None}
    assert bedrock_invoke.read(body).flags == ("invalid_usage",)


def test_an_event_by_itself():
    """The last event of a stream, which LlamaIndex hands out, is read by itself."""
    event = body_of("bedrock", "streamed")[-1]
    first, last = body_of("bedrock", "streamed, Llama")

    assert bedrock_converse.read(event).usage.total_tokens == 100
    assert bedrock_invoke.read(last).usage.total_tokens == 100
    assert bedrock_invoke.read(last).is_final
    assert not bedrock_invoke.read(first).is_final


@pytest.mark.parametrize(
    "date",
    [
        pytest.param(None, id="absent"),
        pytest.param("Saturday, 21-Nov-26 20:19:00 GMT", id="obsolete form"),
        pytest.param("Sat, 21 Foo 2026 20:19:00 GMT", id="no month"),
        pytest.param("Sat, 41 Nov 2026 20:19:00 GMT", id="no day"),
        pytest.param("Sat, 21 Nov 2026 20:19:00 CET", id="another zone"),
        pytest.param(1_790_000_000, id="a number"),
    ],
)
def test_a_date_that_is_none(date):
    """A date that HTTP does not know is no time."""
    assert bedrock_converse.sent_at({"HTTPHeaders": {"date": date}}) is None


# --- streams that break off


def test_a_converse_stream_that_is_cut():
    """Before its metadata a stream has no usage, only text."""
    stream = fed(bedrock_converse, body_of("bedrock", "streamed")[:3])

    assert bedrock_converse.read(stream.body()).usage is None
    assert not bedrock_converse.read(stream.body()).flags
    assert not stream.is_final
    assert not stream.has_ended
    assert stream.output().texts == ["Blue."]


def test_a_stream_by_a_prompt_router():
    """A stream says at its end which model a prompt router chose."""
    trace = {"promptRouter": {"invokedModelId": "amazon.nova-lite-v1:0"}}
    metadata = {"usage": {"inputTokens": 80, "outputTokens": 20}, "trace": trace}

    assert reading_of(bedrock_converse, [{"metadata": metadata}]).model == "amazon.nova-lite-v1:0"
    assert bedrock_converse.read({"metadata": metadata}).model == "amazon.nova-lite-v1:0"


def test_a_block_without_a_place():
    """A piece without an index belongs to the first block."""
    chunks = [
        {"contentBlockDelta": {"delta": {"text": "Blue."}, "contentBlockIndex": index}}
        for index in (0, [])
    ]

    assert fed(bedrock_converse, chunks).output().texts == ["Blue.Blue."]


def test_metadata_without_a_usage():
    """A stream that ends without a usage has ended, and has no counts."""
    stream = fed(bedrock_converse, [{"messageStop": {}}, {"metadata": {"usage": None}}])

    assert not stream.is_final


@pytest.mark.parametrize(
    ("case_name", "usage"),
    [
        pytest.param("streamed, Llama", TokenUsage(input_tokens=80, output_tokens=1), id="Llama"),
        pytest.param("streamed, Titan", TokenUsage(input_tokens=80), id="Titan"),
        pytest.param(
            "streamed, Claude, cached",
            TokenUsage(
                input_tokens=2024,
                cache_read_input_tokens=1600,
                cache_creation_input_tokens=420,
                cache_creation_5m_input_tokens=400,
                cache_creation_1h_input_tokens=20,
            ),
            id="Claude",
        ),
    ],
)
def test_an_invoke_stream_that_is_cut(case_name, usage):
    """Before Bedrock's metrics the model's own counts are what is known, and not final."""
    stream = fed(bedrock_invoke, body_of("bedrock", case_name)[:1])

    assert bedrock_invoke.read(stream.body()).usage == usage
    assert bedrock_invoke.read(stream.body()).provider == "aws.bedrock"
    assert not stream.is_final
    assert not stream.has_ended


@pytest.mark.parametrize("module", [bedrock_converse, bedrock_invoke])
def test_a_stream_of_nothing(module):
    """A stream of which nothing came is not final."""
    stream = module.Stream()

    assert not stream.is_final
    assert not stream.has_ended
    assert module.read(stream.body()).usage is None


def test_metrics_are_the_last_word():
    """Where Bedrock counts other than the model, its numbers are the bill's."""
    metrics = {"inputTokenCount": 81, "outputTokenCount": 22, "cacheReadInputTokenCount": 9}
    chunks = [native(generation="Blue.", prompt_token_count=80, generation_token_count=20)]
    chunks.append(native(generation="", **{METRICS: metrics}))

    usage = reading_of(bedrock_invoke, chunks).usage

    assert usage == TokenUsage(input_tokens=90, output_tokens=22, cache_read_input_tokens=9)


def test_metrics_of_the_output_alone():
    """One count of Bedrock's is something."""
    chunks = [native(**{METRICS: {"outputTokenCount": 22}})]

    assert reading_of(bedrock_invoke, chunks).usage == TokenUsage(output_tokens=22)


def test_a_stream_of_claude_without_metrics():
    """Claude's own last word is final where Bedrock's metrics are missing."""
    *chunks, last = body_of("bedrock", "streamed, Claude, cached")
    end = [*chunks, native(type="message_stop")]

    assert reading_of(bedrock_invoke, chunks).is_final
    assert not fed(bedrock_invoke, chunks).has_ended
    assert fed(bedrock_invoke, end).has_ended
    assert (
        reading_of(bedrock_invoke, end).usage == reading_of(bedrock_invoke, [*chunks, last]).usage
    )


def test_metrics_that_cannot_be_read():
    """Metrics that are no counts are flagged; the model's own are left."""
    chunks = [native(generation="", prompt_token_count=80, **{METRICS: {"inputTokenCount": "8"}})]

    reading = reading_of(bedrock_invoke, chunks)

    assert reading.usage == TokenUsage(input_tokens=80)
    assert reading.flags == ("invalid_usage",)


def test_nova_through_invoke():
    """Nova streams Converse's events through InvokeModel, with the metrics in the last."""
    usage = {"inputTokens": 80, "outputTokens": 20}
    metrics = {"inputTokenCount": 80, "outputTokenCount": 20}
    chunks = [
        native(messageStart={"role": "assistant"}),
        native(contentBlockDelta={"delta": {"text": "Blue."}, "contentBlockIndex": 0}),
        native(messageStop={"stopReason": "end_turn"}),
        native(metadata={"usage": usage, "metrics": {}}, **{METRICS: metrics}),
    ]

    reading = reading_of(bedrock_invoke, chunks)

    assert reading.usage == TokenUsage(input_tokens=80, output_tokens=20)
    assert reading.operation == "chat"
    assert fed(bedrock_invoke, chunks).output().texts == ["Blue."]


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="half an object"),
        pytest.param(b"[1]", id="a list"),
        pytest.param(b"[" * 100_000, id="too deep"),
        pytest.param("!", id="no base64"),
        pytest.param(7, id="a number"),
    ],
)
def test_a_chunk_that_cannot_be_read(payload):
    """A chunk that holds no object is passed over."""
    chunks = [{"chunk": {"bytes": payload}}, native(outputs=[{"text": "Blue."}])]

    assert reading_of(bedrock_invoke, chunks).usage is None
    assert fed(bedrock_invoke, chunks).output().texts == ["Blue."]


# --- odd numbers


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param({"inputTokens": "80"}, id="text"),
        pytest.param({"inputTokens": 80, "cacheReadInputTokens": -1}, id="negative"),
        pytest.param({"inputTokens": 80, "outputTokens": 2.5}, id="float"),
        pytest.param(
            {"inputTokens": 80, "cacheDetails": [{"ttl": "5m", "inputTokens": "9"}]},
            id="in details",
        ),
    ],
)
def test_no_counts(usage):
    """What is no count is refused, and the answer flagged."""
    with pytest.raises(InvalidUsageError):
        bedrock_converse.extract_usage(usage)

    body = {"output": {}, "stopReason": "end_turn", "usage": usage}
    assert bedrock_converse.read(body).usage is None
    assert bedrock_converse.read(body).flags == ("invalid_usage",)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        pytest.param("inputTokens", {"input_tokens": 5}, id="input"),
        pytest.param("outputTokens", {"output_tokens": 5}, id="output"),
        pytest.param("totalTokens", {}, id="total"),
    ],
)
def test_one_count_alone(name, counts):
    """One count is something."""
    assert bedrock_converse.extract_usage({name: 5}).counts() == counts


def test_a_contradictory_total_is_kept():
    """A total that is not the sum of its parts is kept beside them."""
    usage = bedrock_converse.extract_usage(
        {"inputTokens": 80, "outputTokens": 20, "cacheReadInputTokens": 5, "totalTokens": 100}
    )

    assert (usage.total_tokens, usage.reported_total_tokens) == (105, 100)
    assert not usage.is_consistent


def test_contradictory_numbers_are_kept():
    """More written for a while than written at all is kept as it came."""
    details = [{"ttl": "5m", "inputTokens": 9}]
    usage = bedrock_converse.extract_usage(
        {"inputTokens": 1, "cacheWriteInputTokens": 3, "cacheDetails": details}
    )

    assert usage.cache_creation_5m_input_tokens == 9
    assert not usage.is_consistent


def test_cache_writes_of_one_lifetime_add_up():
    """A lifetime may be listed twice; one we don't know is in the sum alone."""
    entries = [("5m", 3), ("5m", 4), ("1d", 9), (None, 1)]
    usage = bedrock_converse.extract_usage(
        {
            "inputTokens": 1,
            "cacheWriteInputTokens": 17,
            "cacheDetails": [{"ttl": ttl, "inputTokens": count} for ttl, count in entries],
        }
    )

    assert usage.cache_creation_5m_input_tokens == 7
    assert usage.cache_creation_1h_input_tokens is None
    assert usage.cache_creation_input_tokens == 17


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param({}, id="empty"),
        pytest.param({"inputTokens": None}, id="nulls"),
        pytest.param({"latencyMs": 3}, id="other names"),
    ],
)
def test_other_shapes(usage):
    """A usage without any of the counts is refused."""
    for module in (bedrock_converse, bedrock_invoke):
        with pytest.raises(UnknownUsageError):
            module.extract_usage(usage)


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param({"prompt_token_count": 80, "generation_token_count": -1}, id="Llama"),
        pytest.param({"inputTextTokenCount": "80"}, id="Titan"),
        pytest.param({"inputTokenCount": 80, "cacheReadInputTokenCount": -1}, id="metrics"),
        pytest.param({"inputTextTokenCount": 8, "results": [{"tokenCount": -1}]}, id="a result"),
    ],
)
def test_no_counts_of_a_model(usage):
    """What is no count is refused whatever the model."""
    with pytest.raises(InvalidUsageError):
        bedrock_invoke.extract_usage(usage)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="empty"),
        pytest.param({"inputTokens": 14}, id="a count of tokens"),
        pytest.param({"message": "No."}, id="a refusal"),
        pytest.param({"output": {}}, id="half of it"),
        pytest.param({"stopReason": "end_turn"}, id="the other half"),
        pytest.param({"messageStart": "x"}, id="another start"),
        pytest.param({"metadata": {"usage": {"input_tokens": 8}}}, id="other metadata"),
        pytest.param({"outputs": ["x"]}, id="other outputs"),
        pytest.param({"chunk": "x"}, id="another chunk"),
        pytest.param({"body": "x"}, id="another body"),
    ],
)
def test_other_bodies(body):
    """What is no answer of Bedrock is left to other modules."""
    assert read(body) is None
    assert not bedrock_invoke.matches_chunk(body)
    assert not bedrock_converse.matches_chunk(body)


def test_output_by_kind():
    """Visible text, cited text, shown reasoning and tool calls are kept apart."""
    content = [
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
        {"toolUse": {"toolUseId": "1", "name": "paint", "input": {"colour": "blue"}}},
        {"citationsContent": {"content": [{"text": "Blue."}], "citations": []}},
        {"text": "Sky."},
    ]

    output = bedrock_converse.output({"output": {"message": {"content": content}}})

    assert output.texts == ["Blue.", "Sky."]
    assert output.reasoning == ["Hm."]
    assert output.tool_calls == [("paint", '{"colour":"blue"}')]


def test_streamed_output_by_kind():
    """In a stream they are told apart, too."""
    deltas = [
        {"reasoningContent": {"text": "Hm."}},
        {"toolUse": {"input": '{"colour":'}},
        {"toolUse": {"input": '"blue"}'}},
        {"text": "Blue."},
    ]
    start = {"start": {"toolUse": {"toolUseId": "1", "name": "paint"}}, "contentBlockIndex": 1}
    chunks = [{"contentBlockStart": start}] + [
        {"contentBlockDelta": {"delta": delta, "contentBlockIndex": index}}
        for index, delta in zip((0, 1, 1, 2), deltas, strict=True)
    ]

    output = fed(bedrock_converse, chunks).output()

    assert (output.texts, output.reasoning) == (["Blue."], ["Hm."])
    assert output.tool_calls == [("paint", '{"colour":"blue"}')]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"generation": "Blue."}, id="Llama"),
        pytest.param({"results": [{"outputText": "Blue."}]}, id="Titan"),
        pytest.param({"outputs": [{"text": "Blue."}]}, id="Mistral"),
        pytest.param({"completion": "Blue."}, id="Claude 2"),
        pytest.param({"choices": [{"message": {"content": "Blue."}}]}, id="OpenAI"),
    ],
)
def test_output_of_a_model(body):
    """The text stands where the model's own body has it."""
    assert bedrock_invoke.output(body).texts == ["Blue."]
