"""The objects of the providers' own SDKs are read as the JSON they were made of."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from huggingface_hub import ChatCompletionOutput, ChatCompletionStreamOutput
from mistralai.client.models import ChatCompletionResponse, CompletionEvent, UsageInfo
from mistralai.client.types import UNSET
from openai._models import construct_type
from openai.lib.streaming.chat import ChunkEvent
from openai.types import Completion, CreateEmbeddingResponse, ImagesResponse
from openai.types.audio import Transcription
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent

from llm_metering.extract import StreamReader, output, read, read_usage
from tests.extract.recorded import ANSWERS, params
from tests.extract.test_bodies import CASES
from tests.extract.test_recorded_traffic import expected_of, fed, numbers_of

OPENAI_TYPES = {
    "chat": ChatCompletion,
    "text_completion": Completion,
    "embeddings": CreateEmbeddingResponse,
    "image_generation": ImagesResponse,
    "transcription": Transcription,
}
OPENAI_APIS = {
    "openai.chat": ChatCompletion,
    "openai.completions": Completion,
    "openai.embeddings": CreateEmbeddingResponse,
    "openai.responses": Response,
}
OPENAI_CASES = [
    case for case in CASES if read(case.values[0].get("body")).shape.startswith("openai.")
]
OPENAI_STREAMS = [
    case for case in CASES if any("choices" in each for each in case.values[0].get("chunks", ()))
]


def object_of(body):
    """What openai's client makes of a body."""
    kind = Response if body.get("object") == "response" else OPENAI_TYPES[read(body).operation]
    return construct_type(type_=kind, value=body)


@pytest.mark.parametrize("case", OPENAI_CASES)
def test_bodies_as_objects_of_openai(case):
    """An object of openai's SDK is read as its body is, with what its types do not declare."""
    made = object_of(case["body"])

    assert read(made) == read(case["body"])
    assert output(made) == output(case["body"])


@pytest.mark.parametrize("case", OPENAI_STREAMS)
def test_streams_as_objects_of_openai(case):
    """A stream of openai's chunks is read as its JSON is."""
    chunks = [construct_type(type_=ChatCompletionChunk, value=each) for each in case["chunks"]]

    assert fed(*chunks).reading() == fed(*case["chunks"]).reading()
    assert fed(*chunks).output() == fed(*case["chunks"]).output()


@pytest.mark.parametrize(
    "interaction",
    params(e for e in ANSWERS if e.expected and e.api in OPENAI_APIS and not e.is_stream),
)
def test_recorded_bodies_as_objects_of_openai(interaction):
    """Every recorded body gives its numbers as an object of openai's SDK, too."""
    body = json.loads(interaction.text)
    if read(body).shape.startswith("anthropic."):
        return  # in two of the runs another provider takes over

    made = construct_type(type_=OPENAI_APIS[interaction.api], value=body)

    assert numbers_of(read(made).usage) == expected_of(interaction)
    assert read(made) == read(interaction.text)


@pytest.mark.parametrize(
    "interaction",
    params(e for e in ANSWERS if e.expected and e.api in OPENAI_APIS and e.is_stream),
)
def test_recorded_streams_as_objects_of_openai(interaction):
    """Every recorded stream gives its numbers as objects of openai's SDK, too."""
    kind = ResponseStreamEvent if interaction.api == "openai.responses" else ChatCompletionChunk

    reader = fed(*(construct_type(type_=kind, value=each) for each in interaction.chunks))

    assert numbers_of(reader.reading().usage) == expected_of(interaction)
    assert reader.reading() == fed(*interaction.chunks).reading()
    assert reader.output() == fed(*interaction.chunks).output()


@pytest.mark.parametrize(
    "interaction",
    params(e for e in ANSWERS if e.expected and e.provider == "mistral" and e.api == "openai.chat"),
)
def test_recorded_answers_as_objects_of_mistralai(interaction):
    """Every recorded answer of Mistral gives its numbers as objects of its SDK."""
    if interaction.is_stream:
        events = [CompletionEvent.model_validate({"data": e}) for e in interaction.chunks]
        reading, text = fed(*events).reading(), fed(*events).output()
    else:
        made = ChatCompletionResponse.model_validate(json.loads(interaction.text))
        reading, text = read(made), output(made)

    assert numbers_of(reading.usage) == expected_of(interaction)
    assert reading.provider == "mistral_ai"
    assert text


def test_what_a_server_left_out():
    """The SDKs of Mistral and OpenRouter put an object for what was not sent; it is no count."""
    sent = {"prompt_tokens": 18, "completion_tokens": 6, "total_tokens": 24}
    usage = UsageInfo(
        **sent,
        num_cached_tokens=UNSET,
        prompt_tokens_details={"cached_tokens": 4, "audio_tokens": UNSET},
        completion_tokens_details={"reasoning_tokens": UNSET},
    )

    reading = read({"choices": [], "usage": usage})

    expected = {**sent, "prompt_tokens_details": {"cached_tokens": 4}}
    assert (reading.usage, reading.flags) == (read_usage(expected), ())
    assert (reading.provider, dict(reading.measures)) == ("mistral_ai", {})


def test_objects_of_hugging_face():
    """The objects of huggingface_hub are dicts, and read as such."""
    usage = {"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9}
    beside = {"id": "1", "created": 0, "model": "m", "system_fingerprint": "", "usage": usage}
    message = {"role": "assistant", "content": "Blue."}
    body = {"choices": [{"index": 0, "finish_reason": "stop", "message": message}], **beside}
    chunk = {"choices": [{"index": 0, "finish_reason": "stop", "delta": message}], **beside}

    assert read(ChatCompletionOutput.parse_obj_as_instance(body)) == read(body)
    chunks = [ChatCompletionStreamOutput.parse_obj_as_instance(chunk)]
    assert fed(*chunks).reading() == fed(chunk).reading()


def test_events_of_openais_helper():
    """The helper that openai's client streams with wraps each chunk, beside events of its own."""
    usage = {"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9}
    chunk = construct_type(
        type_=ChatCompletionChunk,
        value={"id": "1", "choices": [{"index": 0, "delta": {"content": "Blue."}}]},
    )
    last = construct_type(type_=ChatCompletionChunk, value={"choices": [], "usage": usage})
    events = [
        ChunkEvent.model_construct(type="chunk", chunk=chunk, snapshot=None),
        SimpleNamespace(type="content.delta", delta="Blue.", snapshot="Blue.", parsed=None),
        SimpleNamespace(type="content.done", content="Blue.", parsed=None),
        ChunkEvent.model_construct(type="chunk", chunk=last, snapshot=None),
    ]

    reader = fed(*events)

    assert reader.reading().usage == read_usage(usage)
    assert reader.output().texts == ["Blue."]


def test_usage_objects():
    """The usage object of an SDK is read by itself."""
    body = next(case.values[0]["body"] for case in OPENAI_CASES if case.id == "openai-cached")
    made = construct_type(type_=ChatCompletion, value=body)

    assert read_usage(made.usage) == read(body).usage
    assert read(made.usage).usage == read(body).usage


def test_a_stream_reader_of_its_own():
    """Two streams read at once know nothing of each other."""
    one, other = StreamReader(), StreamReader()
    one.feed({"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 1}})

    assert other.reading().usage is None
