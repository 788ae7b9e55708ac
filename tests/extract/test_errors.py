"""A refusal is told from an answer, and named by what is no message."""

from __future__ import annotations

import pytest

from llm_metering.extract import StreamReader, read
from llm_metering.token_usage import TokenUsage

SECRET = "the prompt was: my secret"

# Where the shapes are documented, see `llm_metering/extract/errors.py`.
REFUSALS = [
    pytest.param(
        {"error": {"message": SECRET, "type": "invalid_request_error", "code": "model_not_found"}},
        "model_not_found",
        id="OpenAI",
    ),
    pytest.param(
        {"error": {"message": SECRET, "type": "invalid_request_error", "code": None}},
        "invalid_request_error",
        id="OpenAI without a code",
    ),
    pytest.param({"error": {"code": "401", "message": SECRET}}, "401", id="Azure"),
    pytest.param(
        {"type": "error", "error": {"type": "overloaded_error", "message": SECRET}},
        "overloaded_error",
        id="Anthropic",
    ),
    pytest.param(
        {"error": {"code": 429, "message": SECRET, "status": "RESOURCE_EXHAUSTED"}},
        "429",
        id="Google",
    ),
    pytest.param([{"error": {"code": 400, "message": SECRET}}], "400", id="Vertex, in an array"),
    pytest.param({"message": SECRET}, "error", id="Bedrock"),
    pytest.param(
        {"__type": "com.amazon#ThrottlingException", "message": SECRET},
        "error",
        id="AWS, with a type",
    ),
    pytest.param(
        {
            "Error": {"Code": "ValidationException", "Message": SECRET},
            "ResponseMetadata": {"HTTPStatusCode": 400},
        },
        "400",
        id="botocore",
    ),
    pytest.param({"id": "1", "message": SECRET}, "error", id="Cohere"),
    pytest.param(
        {
            "error": {
                "message": "Provider returned error",
                "code": 502,
                "metadata": {"raw": SECRET},
            },
            "user_id": "user_1",
        },
        "502",
        id="OpenRouter",
    ),
    pytest.param(
        {
            "error": {
                "message": SECRET,
                "type": "invalid_request_error",
                "code": "tool_use_failed",
                "failed_generation": SECRET,
                "status_code": 400,
            }
        },
        "400",
        id="Groq",
    ),
    pytest.param(
        {
            "object": "error",
            "message": SECRET,
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        "400",
        id="vLLM",
    ),
    pytest.param({"detail": "Unauthorized"}, "error", id="FastAPI"),
    pytest.param(
        {"detail": [{"loc": ["body"], "msg": SECRET, "type": "missing"}]}, "error", id="validation"
    ),
    pytest.param({"error": SECRET}, "error", id="Ollama"),
    pytest.param({"error": {"code": SECRET, "type": SECRET}}, "error", id="a message for a code"),
]


@pytest.mark.parametrize(("body", "reason"), REFUSALS)
def test_refused(body, reason):
    """A body with an error and nothing else is a refusal, with a reason that repeats no message."""
    reading = read(body)

    assert (reading.ending, reading.reason, reading.usage) == ("refused", reason, None)
    assert "secret" not in repr(reading)


@pytest.mark.parametrize(("body", "reason"), REFUSALS)
def test_refused_in_a_stream(body, reason):
    """A stream that begins with an error is a refusal, and has ended."""
    reader = StreamReader()
    for chunk in body if isinstance(body, list) else [body]:
        reader.feed(chunk)

    assert (reader.reading().ending, reader.reading().reason) == ("refused", reason)
    assert reader.has_ended


USAGE = {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}
COUNTS = TokenUsage(input_tokens=8, output_tokens=2, reported_total_tokens=10)
CHOICE = {"index": 0, "message": {"content": "Bl"}, "finish_reason": "stop"}

FAILURES = [
    pytest.param(
        {"choices": [CHOICE], "error": {"code": 502, "message": SECRET}, "usage": USAGE},
        ("502", COUNTS),
        id="OpenRouter, an error beside a usage",
    ),
    pytest.param(
        {"choices": [CHOICE], "error": {"code": 502, "message": SECRET}},
        ("502", None),
        id="an error beside an answer",
    ),
    pytest.param(
        {"choices": [{**CHOICE, "finish_reason": "error"}], "usage": USAGE},
        ("error", COUNTS),
        id="a choice that ended with an error",
    ),
    pytest.param(
        {
            "choices": [{**CHOICE, "finish_reason": "error", "error": {"code": 500}}],
            "usage": USAGE,
        },
        ("500", COUNTS),
        id="a choice that names its error",
    ),
    pytest.param(
        {"choices": [CHOICE], "usage": USAGE, "x_groq": {"error": SECRET}},
        ("error", COUNTS),
        id="Groq, a stream stopped early",
    ),
    pytest.param(
        {
            "object": "response",
            "status": "failed",
            "error": {"code": "server_error", "message": SECRET},
            "usage": {"input_tokens": 8, "output_tokens": 2, "total_tokens": 10},
        },
        ("server_error", COUNTS),
        id="OpenAI, a response that failed",
    ),
    pytest.param(
        {
            "object": "response",
            "status": "failed",
            "error": {"code": "server_error"},
            "usage": None,
        },
        ("server_error", None),
        id="OpenAI, a response that failed without a usage",
    ),
    pytest.param(
        {"object": "response", "status": "cancelled", "error": None, "usage": None},
        ("cancelled", None),
        id="OpenAI, a response that was cancelled",
    ),
]


@pytest.mark.parametrize(("body", "expected"), FAILURES)
def test_failed(body, expected):
    """An error after an answer had begun is a failure, with what it used."""
    reading = read(body)

    assert reading.ending == "failed"
    assert (reading.reason, reading.usage) == expected
    assert "secret" not in repr(reading)


@pytest.mark.parametrize(
    ("body", "expected"), [each for each in FAILURES if "choices" in each.values[0]]
)
def test_failed_in_a_stream(body, expected):
    """So it is where it comes as the last chunk of a stream."""
    reader = StreamReader()
    reader.feed({"choices": [{"index": 0, "delta": {"content": "Bl"}}]})
    reader.feed(body)

    reading = reader.reading()
    assert reading.ending == "failed"
    assert (reading.reason, reading.usage) == expected


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            {"object": "response", "status": "incomplete", "usage": None, "error": None},
            id="a response that was cut",
        ),
        pytest.param({"choices": [CHOICE], "usage": USAGE, "error": None}, id="no error"),
        pytest.param(
            {"choices": [{**CHOICE, "finish_reason": "length"}], "usage": USAGE}, id="a length"
        ),
        pytest.param(
            {"choices": [{**CHOICE, "finish_reason": "content_filter"}], "usage": USAGE},
            id="a filter",
        ),
    ],
)
def test_completed(body):
    """An answer that was cut or filtered was given all the same."""
    assert read(body).ending == "completed"


def test_a_stream_that_fails():
    """An error in the middle of a stream ends it; what had been reported stays."""
    reader = StreamReader()
    reader.feed({"choices": [{"index": 0, "delta": {"content": "Bl"}}], "usage": USAGE})
    reader.feed({"error": {"code": "server_error", "message": SECRET}})

    reading = reader.reading()
    assert (reading.ending, reading.reason) == ("failed", "server_error")
    assert (reading.usage, reading.is_final) == (COUNTS, False)
    assert reader.has_ended
    assert reader.output().texts == ["Bl"]


def test_an_error_event_of_the_responses_api():
    """The responses API says by an event of its own that a stream broke off."""
    reader = StreamReader()
    reader.feed({"type": "response.created", "response": {"object": "response", "id": "1"}})
    reader.feed({"type": "error", "code": "rate_limit_exceeded", "message": SECRET})

    assert (reader.reading().ending, reader.reading().reason) == ("failed", "rate_limit_exceeded")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"message": {"role": "user"}}, id="a message that is an object"),
        pytest.param({"message": SECRET, "answer": 42}, id="a message beside something else"),
        pytest.param({"error": None}, id="no error"),
        pytest.param({"error": False, "result": 1}, id="an error that is false"),
        pytest.param({}, id="nothing"),
    ],
)
def test_no_refusal(body):
    """What is no error is no refusal: it is unknown, and flagged."""
    reading = read(body)

    assert (reading.shape, reading.ending) == ("unknown", "completed")
    assert reading.flags
