"""Gemini, read from the JSON of both its APIs, from the SDK's objects and from the SDK's streams."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import httpx
import pytest
from google import genai
from google.genai import types

from llm_metering.errors import InvalidUsageError, UnknownUsageError
from llm_metering.extract import gemini
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


def client_answering(text, content_type, *, vertex=False):
    """A real client of the Gemini API whose server always gives this answer."""

    def answer(_request):
        return httpx.Response(200, text=text, headers={"content-type": content_type})

    options = types.HttpOptions(client_args={"transport": httpx.MockTransport(answer)})
    return genai.Client(api_key="none", vertexai=vertex, http_options=options)


def ask(body, *, vertex=False):
    client = client_answering(json.dumps(body), "application/json", vertex=vertex)
    return client.models.generate_content(model="m", contents="?")


def ask_streamed(chunks, *, vertex=False):
    text = "".join(f"data: {json.dumps(each)}\n\n" for each in chunks)
    client = client_answering(text, "text/event-stream", vertex=vertex)
    return list(client.models.generate_content_stream(model="m", contents="?"))


def answer(usage, **candidate):
    return {
        "candidates": [{"content": {}, "finishReason": "STOP", **candidate}],
        "usageMetadata": usage,
    }


def has_names(text):
    """Whether enums are names; the SDK does not ask for numbers."""
    return '"modality":1' not in text.replace(" ", "")


def is_object(case):
    """Whether the SDK's `generate_content` answers with it."""
    return ("candidates" in str(case) or "promptFeedback" in str(case)) and has_names(
        json.dumps(case)
    )


# --- what was recorded


@pytest.mark.parametrize(
    "interaction", recorded("gemini.generate_content", "gemini.embeddings", streamed=False)
)
def test_recorded_bodies(interaction):
    """A recorded answer gives its numbers, which add up to the total it states."""
    reading = gemini.read(json.loads(interaction.text))

    assert numbers_of(reading.usage) == expected_of(interaction)
    assert reading.usage.is_consistent
    assert reading.provider == {"google": "gcp.gemini"}.get(interaction.provider, "gcp.vertex_ai")
    assert reading.is_final


@pytest.mark.parametrize(
    "interaction",
    recorded("gemini.generate_content", streamed=False, where=lambda each: has_names(each.text)),
)
def test_recorded_bodies_as_objects(interaction):
    """What the SDK's client makes of a recorded answer gives the same numbers."""
    body = json.loads(interaction.text)

    made = ask(body, vertex=interaction.provider == "google-vertex")

    assert numbers_of(gemini.read(as_mapping(made)).usage) == expected_of(interaction)
    assert gemini.output(as_mapping(made)) == gemini.output(body)


@pytest.mark.parametrize("interaction", recorded("gemini.generate_content", streamed=True))
def test_recorded_streams(interaction):
    """A recorded stream gives its numbers from dicts and from the SDK's objects."""
    chunks = chunks_of(interaction)

    reading = reading_of(gemini, chunks)

    assert numbers_of(reading.usage) == expected_of(interaction)
    assert reading.is_final
    assert fed(gemini, chunks).has_ended
    assert fed(gemini, chunks).output()


@pytest.mark.parametrize(
    "interaction",
    recorded("gemini.generate_content", streamed=True, where=lambda each: has_names(each.text)),
)
def test_recorded_streams_as_objects(interaction):
    """What the SDK's client makes of a recorded stream gives the same numbers."""
    chunks = chunks_of(interaction)

    made = ask_streamed(chunks, vertex=interaction.provider == "google-vertex")

    assert numbers_of(reading_of(gemini, made).usage) == expected_of(interaction)
    assert fed(gemini, made).output() == fed(gemini, chunks).output()


# --- our own bodies


@pytest.mark.parametrize("case", cases("gemini", "vertex", streamed=False, where=is_object))
def test_objects(case):
    """An object of the SDK is read as the JSON it was made of."""
    body = case["body"]
    vertex = case["expected"]["provider"] == "gcp.vertex_ai"

    reading = gemini.read(as_mapping(ask(body, vertex=vertex)))

    assert reading == gemini.read(body)
    assert counts_of(reading) == counts_in(case)


@pytest.mark.parametrize("name", ["gemini", "vertex"])
def test_streamed_objects(name):
    """The SDK's chunks are read as the JSON they were made of."""
    chunks = body_of(name, "streamed")

    made = ask_streamed(chunks, vertex=name == "vertex")

    assert reading_of(gemini, made) == reading_of(gemini, chunks)
    assert fed(gemini, made).output().texts == ["Blue."]


@pytest.mark.parametrize(
    ("body", "vertex", "model"),
    [
        pytest.param(
            body_of("vertex", "plain, embeddings of predict"), True, "m", id="predict, Vertex AI"
        ),
        pytest.param(
            body_of("vertex", "plain, an embedding"), True, "gemini-embedding-2", id="Vertex AI"
        ),
    ],
)
def test_embeddings_as_objects(body, vertex, model):
    """Embeddings of the SDK's client have the counts of the JSON, and no output."""
    client = client_answering(json.dumps(body), "application/json", vertex=vertex)

    reading = gemini.read(as_mapping(client.models.embed_content(model=model, contents="?")))

    assert (reading.usage, reading.operation) == (gemini.read(body).usage, "embeddings")
    assert reading.provider == "gcp.vertex_ai"
    assert reading.usage.total_tokens == 11


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"embedding": {"values": [0.5]}}, id="one"),
        pytest.param({"embeddings": [{"values": [0.5]}]}, id="several"),
        pytest.param(
            {"embeddings": [{"values": [0], "statistics": {"token_count": 1}}, {"values": [0]}]},
            id="one is not counted",
        ),
    ],
)
def test_embeddings_that_are_not_counted(body):
    """Where a text is not counted, there is no count of them all."""
    reading = gemini.read(body)

    assert reading.operation == "embeddings"
    assert reading.usage is None
    assert not reading.flags


def test_half_a_token():
    """A part of a token is no count."""
    body = {"embeddings": [{"values": [0.5], "statistics": {"token_count": 1.5}}]}

    assert gemini.read(body).flags == ("invalid_usage",)


# --- streams that break off


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        pytest.param("gemini", TokenUsage(input_tokens=80, reported_total_tokens=80), id="Gemini"),
        pytest.param("vertex", None, id="Vertex AI"),
    ],
)
def test_a_stream_cut_before_its_end(name, usage):
    """What was counted by then is not final, and what was not counted not 0."""
    stream = fed(gemini, body_of(name, "streamed")[:1])
    reading = gemini.read(stream.body())

    assert reading.usage == usage
    assert not stream.is_final
    assert not stream.has_ended
    assert stream.output().texts == ["Bl"]
    assert reading.model == "gemini-3-flash"


def test_a_usage_after_the_end():
    """A last chunk with nothing but the usage is the usage of the whole."""
    usage = {"promptTokenCount": 8, "candidatesTokenCount": 2, "totalTokenCount": 10}
    chunks = [answer(None), {"usageMetadata": usage, "modelVersion": "m"}]

    assert not fed(gemini, chunks[:1]).is_final
    assert gemini.read(chunks[1]).is_final
    assert reading_of(gemini, chunks).usage == gemini.extract_usage(usage)
    assert reading_of(gemini, chunks).is_final


def test_a_stream_that_ends_during_its_thoughts():
    """The 0 that proto3 leaves out is one in a stream, too, once it has ended."""
    usage = {"promptTokenCount": 8, "thoughtsTokenCount": 3, "totalTokenCount": 11}

    assert reading_of(gemini, [answer(usage)]).usage.output_tokens == 3
    assert reading_of(gemini, [answer(usage, finishReason=None)]).usage.output_tokens is None


def test_an_end_without_a_usage():
    """An end without counts leaves those that came before it, and they are not final."""
    usage = {"promptTokenCount": 8, "totalTokenCount": 8}
    chunks = [answer(usage, finishReason=None), answer({"trafficType": "ON_DEMAND"})]

    reading = reading_of(gemini, chunks)

    assert reading.usage == TokenUsage(input_tokens=8, reported_total_tokens=8)
    assert not reading.is_final
    assert not fed(gemini, chunks).has_ended
    assert not gemini.Stream().has_ended


def test_a_usage_without_candidates():
    """A usage that comes before anything was said is not final."""
    stream = fed(gemini, [{"usageMetadata": {"promptTokenCount": 8}}])

    assert not stream.is_final
    assert not stream.has_ended


def test_two_candidates():
    """Counts are final when all candidates have finished, not the first of them."""
    usage = {"promptTokenCount": 8, "candidatesTokenCount": 2, "totalTokenCount": 10}
    speaking = {"candidates": [{"index": 1, "content": {"parts": [{"text": "Sky."}]}}]}
    chunks = [
        {**answer(usage, index=0), **speaking},
        answer(usage, index=0),
        answer(usage, index=1),
    ]

    assert [fed(gemini, chunks[:length]).is_final for length in (1, 2, 3)] == [False, False, True]


def test_an_answer_that_goes_on():
    """An answer whose candidate has no reason to have ended is not all of it."""
    usage = {"promptTokenCount": 8, "totalTokenCount": 10}

    for reason in (None, "", 0, "FINISH_REASON_UNSPECIFIED"):
        reading = gemini.read(answer(usage, finishReason=reason))
        assert reading.usage.output_tokens is None
        assert not reading.is_final


# --- what is absent


@pytest.mark.parametrize(
    ("usage", "output"),
    [
        pytest.param({"promptTokenCount": 8, "totalTokenCount": 8}, 0, id="a total"),
        pytest.param({"promptTokenCount": 8, "thoughtsTokenCount": 3}, None, id="no total"),
        pytest.param(
            {"promptTokenCount": 8, "thoughtsTokenCount": 3, "totalTokenCount": 11},
            3,
            id="thoughts",
        ),
    ],
)
def test_no_candidates_count(usage, output):
    """Beside a total a missing count of candidates is the 0 that proto3 leaves out."""
    assert gemini.extract_usage(usage).output_tokens == output


def test_a_total_that_does_not_add_up():
    """Where the total says that more was used, the counts stay as they are and contradict it."""
    usage = gemini.extract_usage({"promptTokenCount": 8, "totalTokenCount": 100})

    assert usage.output_tokens == 0
    assert not usage.is_consistent


@pytest.mark.parametrize(
    ("more", "usage"),
    [
        pytest.param(
            {"trafficType": "ON_DEMAND"}, TokenUsage(input_tokens=0, output_tokens=0), id="nothing"
        ),
        pytest.param(
            {"promptTokenCount": 8, "totalTokenCount": 8},
            TokenUsage(input_tokens=8, output_tokens=0, reported_total_tokens=8),
            id="the prompt",
        ),
        pytest.param({"tokens": 8}, None, id="other names"),
        pytest.param({"promptTokenCount": "8"}, None, id="no count"),
    ],
)
def test_a_prompt_that_was_blocked(more, usage):
    """A blocked prompt used what its usage says: with no count in it, nothing."""
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": more}

    assert gemini.read(blocked).usage == usage
    assert reading_of(gemini, [blocked]).usage == usage
    assert reading_of(gemini, [blocked]).is_final
    assert bool(gemini.read(blocked).flags) == (usage is None)


NOT_COUNTED = {"trafficType": "ON_DEMAND"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(answer(NOT_COUNTED), id="an answer"),
        pytest.param({"usageMetadata": NOT_COUNTED}, id="nothing but a usage"),
        pytest.param(
            {**answer(NOT_COUNTED), "promptFeedback": {"blockReason": "SAFETY"}},
            id="a blocked answer",
        ),
        pytest.param(
            {"promptFeedback": {"safetyRatings": []}, "usageMetadata": NOT_COUNTED},
            id="not blocked",
        ),
    ],
)
def test_a_prompt_that_was_not_blocked(body):
    """Only a prompt that no model saw is known to be free."""
    reading = gemini.read(body)

    assert reading.usage is None
    assert reading.flags == ("unknown_usage:trafficType",)


@pytest.mark.parametrize(
    ("reported", "flags"),
    [
        pytest.param(None, (), id="null"),
        pytest.param({}, (), id="empty"),
        pytest.param({"promptTokenCount": None}, (), id="nulls"),
        pytest.param("8", ("invalid_usage",), id="text"),
    ],
)
def test_no_usage(reported, flags):
    """An answer without a usage has none; one that is no object is flagged."""
    assert gemini.read(answer(reported)).usage is None
    assert gemini.read(answer(reported)).flags == flags


# --- odd numbers


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param({"promptTokenCount": "8"}, id="text"),
        pytest.param({"promptTokenCount": True}, id="bool"),
        pytest.param({"promptTokenCount": 8, "candidatesTokenCount": -1}, id="negative"),
        pytest.param(
            {"promptTokenCount": 8, "candidatesTokenCount": -2, "thoughtsTokenCount": 3},
            id="negative in a sum",
        ),
        pytest.param(
            {
                "promptTokenCount": 8,
                "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": "8"}],
            },
            id="text for a modality",
        ),
    ],
)
def test_no_counts(usage):
    """What is no count is refused, and the answer flagged."""
    with pytest.raises(InvalidUsageError):
        gemini.extract_usage(usage)

    assert gemini.read(answer(usage)).usage is None
    assert gemini.read(answer(usage)).flags == ("invalid_usage",)


def test_contradictory_numbers_are_kept():
    """More cached tokens than there are in the prompt are kept as they came."""
    usage = gemini.extract_usage({"promptTokenCount": 8, "cachedContentTokenCount": 9})

    assert usage.cache_read_input_tokens == 9
    assert not usage.is_consistent


def test_modalities_add_up():
    """A modality may be listed twice, without a count, or not be known."""
    split = [
        {"modality": "AUDIO", "tokenCount": 3},
        {"modality": "AUDIO", "tokenCount": 4},
        {"modality": "IMAGE"},
        {"modality": "SMELL", "tokenCount": 1},
        {"modality": ["AUDIO"], "tokenCount": 1},
        None,
    ]

    usage = gemini.extract_usage({"promptTokenCount": 8, "promptTokensDetails": split})

    assert usage.input_audio_tokens == 7
    assert usage.input_image_tokens == 0
    assert usage.input_video_tokens is None


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        pytest.param({"promptTokenCount": 5}, {"input_tokens": 5}, id="prompt"),
        pytest.param({"prompt_token_count": 5}, {"input_tokens": 5}, id="prompt, SDK"),
        pytest.param({"candidatesTokenCount": 5}, {"output_tokens": 5}, id="candidates"),
        pytest.param({"thoughtsTokenCount": 5}, {"reasoning_output_tokens": 5}, id="thoughts"),
        pytest.param({"totalTokenCount": 5}, {"output_tokens": 0}, id="total"),
        pytest.param({"total_token_count": 5}, {"output_tokens": 0}, id="total, SDK"),
    ],
)
def test_one_count_alone(usage, counts):
    """One count is something, in either spelling."""
    assert gemini.extract_usage(usage).counts() == counts


def test_an_image_that_was_made():
    """The tokens of an image are part of the output."""
    split = [{"modality": "IMAGE", "tokenCount": 1290}]

    usage = gemini.extract_usage({"candidatesTokenCount": 1300, "candidatesTokensDetails": split})

    assert usage.output_image_tokens == 1290


def test_other_shapes():
    """A usage without any of the counts is refused."""
    with pytest.raises(UnknownUsageError):
        gemini.extract_usage({"trafficType": "ON_DEMAND"})


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="empty"),
        pytest.param({"totalTokens": 31}, id="a count of tokens"),
        pytest.param({"embeddings": [[0.5]], "model": "m"}, id="Ollama's embeddings"),
        pytest.param({"embedding": [0.5], "inputTextTokenCount": 1}, id="Titan's embedding"),
        pytest.param({"usage_metadata": {"input_tokens": 8}}, id="LangChain's usage"),
        pytest.param({"predictions": [{"content": "x"}]}, id="another prediction"),
    ],
)
def test_other_bodies(body):
    """What is no answer of Gemini is left to other modules."""
    assert gemini.read(body) is None
    assert not gemini.matches_chunk(body)


def test_what_vertex_says():
    """An answer of Vertex AI says which it is and when it was asked for."""
    body = body_of("vertex", "plain")

    assert gemini.read(body) == Reading(
        shape="gemini.generate_content",
        provider="gcp.vertex_ai",
        operation="chat",
        usage=TokenUsage(input_tokens=80, output_tokens=20, reported_total_tokens=100),
        model="gemini-3-flash",
        response_id="madeUpId1",
        service_tier="on_demand",
        created=datetime(2026, 11, 21, 20, 19, 0, 123456, tzinfo=UTC),
    )
    assert reading_of(gemini, [body]) == gemini.read(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({**answer(None), "createTime": "2026-11-21T20:19:00Z"}, id="a time"),
        pytest.param({**answer(None), "create_time": datetime.now(UTC)}, id="a time, SDK"),
        pytest.param(answer({"trafficType": 1}), id="a traffic type"),
        pytest.param({"usage_metadata": {"traffic_type": "ON_DEMAND"}}, id="a traffic type, SDK"),
    ],
)
def test_what_shows_vertex(body):
    """Vertex AI is known by either of two fields that the Gemini API does not send."""
    assert gemini.read(body).provider == "gcp.vertex_ai"
    assert gemini.read(answer(None)).provider == "gcp.gemini"


def test_output_by_kind():
    """Visible text, shown thoughts and calls of functions are kept apart, and code is text."""
    parts = [
        {"text": "Hm.", "thought": True},
        {"functionCall": {"name": "paint", "args": {"colour": "blue"}}},
        {"functionCall": {"name": "paint", "args": {}}},
        {"executableCode": {"language": "PYTHON", "code": "1+1"}},
        {"text": "Blue."},
    ]

    output = gemini.output(answer(None, content={"parts": parts}))

    assert output.texts == ["1+1Blue."]
    assert output.reasoning == ["Hm."]
    assert output.tool_calls == [("paint", '{"colour":"blue"}'), ("paint", "{}")]


def test_a_candidate_that_holds_the_usage():
    """A stream as LlamaIndex hands it on, candidate by candidate, is over with its finish reason."""
    usage = {"prompt_token_count": 52, "candidates_token_count": 5, "total_token_count": 57}
    stream = gemini.Stream()
    stream.feed({"content": {"parts": [{"text": "a"}]}, "usage_metadata": usage})
    is_final_before = stream.is_final
    stream.feed({"content": {"parts": []}, "finish_reason": "STOP", "usage_metadata": usage})

    assert (is_final_before, stream.is_final, stream.has_ended) == (False, True, True)
    assert gemini.read(stream.body()).usage.output_tokens == 5
