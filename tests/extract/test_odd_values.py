"""What servers and applications put into responses, and do to them, that no documentation tells of."""

from __future__ import annotations

import pytest
from openai.types.chat import ChatCompletionChunk

from llm_metering.errors import InvalidUsageError
from llm_metering.extract import StreamReader, read, read_usage
from llm_metering.extract.reading import Reading
from llm_metering.token_usage import TokenUsage


def usage(prompt, completion):
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": None if prompt is None else prompt + completion,
    }


def chunk(text=None, *, finish=None, name="chatcmpl-1", **beside):
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return {"id": name, "model": "gpt-5-mini", "choices": [choice], **beside}


def completion(name, prompt=10, answer=2, text="Blue."):
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    return {"id": name, "choices": [choice], "usage": usage(prompt, answer)}


def fed(*chunks):
    reader = StreamReader()
    for each in chunks:
        reader.feed(each)
    return reader


def test_a_total_alone():
    """Embeddings that report a total alone have it for their input; a chat keeps it as reported."""
    embeddings = {"object": "list", "data": [{"embedding": [1]}], "usage": {"total_tokens": 7}}
    chat = {**completion("1"), "usage": {"total_tokens": 7}}

    assert read(embeddings).usage.counts() == {"input_tokens": 7, "output_tokens": 0}
    assert read(embeddings).operation == "embeddings"
    assert read(chat).usage == TokenUsage(reported_total_tokens=7)


@pytest.mark.parametrize(
    "reported",
    [
        pytest.param({"prompt_tokens": 10.0, "completion_tokens": 2.0}, id="chat"),
        pytest.param(
            {"input_tokens": 10.0, "output_tokens": 2, "total_tokens": 12.0}, id="responses"
        ),
        pytest.param({"input_tokens": 10, "output_tokens": 2.0}, id="Anthropic"),
        pytest.param({"inputTokens": 10.0, "outputTokens": 2.0}, id="Converse"),
        pytest.param({"promptTokenCount": 10.0, "candidatesTokenCount": 2.0}, id="Gemini"),
        pytest.param({"prompt_eval_count": 10.0, "eval_count": 2}, id="Ollama"),
        pytest.param(
            {"prompt_tokens": 10.0, "completion_tokens": 2, "num_search_queries": 1}, id="p"
        ),
    ],
)
def test_whole_floats(reported):
    """A count that came as a float is the whole number it is; a text, or a broken one, is no count."""
    counts = read_usage(reported)
    name = next(name for name in reported if isinstance(reported[name], float))

    assert (counts.input_tokens, counts.output_tokens) == (10, 2)
    assert {type(count) for count in counts.counts().values()} == {int}
    for odd in ("10", 10.5, float("nan"), True):
        with pytest.raises(InvalidUsageError):
            read_usage({**reported, name: odd})


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param("rate_limit_exceeded", "rate_limit_exceeded", id="a name"),
        pytest.param(529, "529", id="a status"),
        pytest.param("Tell_me_about_Jane", "error", id="capitals"),
        pytest.param("jane@example.org", "error", id="an address"),
        pytest.param("a" * 41, "error", id="too long"),
        pytest.param(10**6, "error", id="no status"),
        pytest.param(-1, "error", id="a negative number"),
        pytest.param(True, "error", id="a truth"),
    ],
)
def test_reasons_are_bounded(code, reason):
    """The code of an error is kept only in the form that providers' codes have."""
    assert read({"error": {"code": code}}).reason == reason
    assert read({"error": {"type": code}}).reason == reason


def test_the_application_changes_what_it_got():
    """What an application does to a chunk after it was read changes no count."""
    first = ChatCompletionChunk.model_validate(
        {
            **chunk("Blue.", finish="stop", usage=usage(10, 2)),
            "created": 1,
            "object": "chat.completion.chunk",
        }
    )
    message = {"input_tokens": 10, "cache_creation": {"ephemeral_5m_input_tokens": 4}}
    response = {"id": "1", "usage": {"input_tokens": 10, "output_tokens": 2}}
    embeddings = {"data": [{"embedding": [1]}], "usage": usage(10, 0)}
    readers = [
        fed(first),
        fed({"type": "message_start", "message": {"id": "1", "usage": message}}),
        fed({"type": "response.completed", "response": response}),
        fed(embeddings),
    ]
    before = [reader.reading() for reader in readers]
    first.usage.prompt_tokens = 0
    message["cache_creation"].clear()
    message.clear()
    response["usage"]["input_tokens"] = 0
    response.clear()
    embeddings["usage"].clear()
    embeddings.clear()

    assert [reader.reading() for reader in readers] == before
    assert all(reading.usage is not None for reading in before)


def test_an_answer_out_of_langchains_cache():
    """LangChain's cache puts a cost of 0 into the usage of what it answers."""
    counts = {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}
    message = {"response_metadata": {}, "usage_metadata": counts}

    assert not read(message).cached
    assert read({**message, "usage_metadata": {**counts, "total_cost": 0}}).cached
    assert not read({**message, "usage_metadata": {**counts, "total_cost": 0.5}}).cached


def test_billed_by_something_else_than_tokens():
    """Seconds, images and searches are billed for themselves, where no tokens are reported: we count none."""
    by_second = {"text": "Blue.", "usage": {"type": "duration", "seconds": 9}}

    assert not read(by_second).is_countable
    assert read(completion("1")).is_countable
    assert Reading(shape="x").is_countable
    assert Reading(shape="x", usage=TokenUsage(input_tokens=1), measures={"images": 1}).is_countable
