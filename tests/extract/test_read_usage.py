"""A usage by itself is told by the names of its counts, and taken as it came."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from llm_metering.errors import InvalidUsageError, UnknownUsageError
from llm_metering.extract import read, read_usage
from llm_metering.extract.usages import reader_of
from llm_metering.token_usage import TokenUsage

USAGE = {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}
COUNTS = TokenUsage(input_tokens=8, output_tokens=2, reported_total_tokens=10)

USAGES = [
    pytest.param(USAGE, "openai.chat", COUNTS, id="OpenAI"),
    pytest.param(
        {
            "input_tokens": 8,
            "output_tokens": 2,
            "total_tokens": 10,
            "input_tokens_details": {"cached_tokens": 4},
        },
        "openai.responses",
        TokenUsage(
            input_tokens=8, output_tokens=2, cache_read_input_tokens=4, reported_total_tokens=10
        ),
        id="OpenAI, responses",
    ),
    pytest.param(
        {
            "type": "tokens",
            "input_tokens": 8,
            "output_tokens": 2,
            "total_tokens": 10,
            "input_token_details": {"audio_tokens": 8},
        },
        "openai.responses",
        TokenUsage(input_tokens=8, output_tokens=2, input_audio_tokens=8, reported_total_tokens=10),
        id="OpenAI, a transcription",
    ),
    pytest.param(
        {
            "input_tokens": 8,
            "output_tokens": 2,
            "total_tokens": 10,
            "input_token_details": {"cache_read": 4},
        },
        "langchain",
        TokenUsage(
            input_tokens=8, output_tokens=2, cache_read_input_tokens=4, reported_total_tokens=10
        ),
        id="LangChain",
    ),
    pytest.param(
        {"input_tokens": 4, "output_tokens": 2, "cache_read_input_tokens": 4},
        "anthropic.messages",
        TokenUsage(input_tokens=8, output_tokens=2, cache_read_input_tokens=4),
        id="Anthropic",
    ),
    pytest.param(
        {"input_tokens": 8, "output_tokens": 2},
        "anthropic.messages",
        TokenUsage(input_tokens=8, output_tokens=2),
        id="Anthropic, or anyone",
    ),
    pytest.param(
        {"promptTokenCount": 8, "candidatesTokenCount": 2, "totalTokenCount": 10},
        "gemini.generate_content",
        COUNTS,
        id="Gemini",
    ),
    pytest.param(
        {"prompt_token_count": 8, "candidates_token_count": 2, "total_token_count": 10},
        "gemini.generate_content",
        COUNTS,
        id="Gemini's SDK",
    ),
    pytest.param(
        {"prompt_token_count": 8, "generation_token_count": 2},
        "bedrock.invoke",
        TokenUsage(input_tokens=8, output_tokens=2),
        id="Llama on Bedrock",
    ),
    pytest.param(
        {"inputTokens": 8, "outputTokens": 2, "totalTokens": 10},
        "bedrock.converse",
        COUNTS,
        id="Bedrock",
    ),
    pytest.param(
        {"tokens": {"input_tokens": 8, "output_tokens": 2}},
        "cohere.chat",
        TokenUsage(input_tokens=8, output_tokens=2),
        id="Cohere",
    ),
    pytest.param(
        {"prompt_eval_count": 8, "eval_count": 2},
        "ollama.chat",
        TokenUsage(input_tokens=8, output_tokens=2),
        id="Ollama",
    ),
]


@pytest.mark.parametrize(("usage", "shape", "counts"), USAGES)
def test_a_usage_by_itself(usage, shape, counts):
    """A usage without its response is told by the names of its counts."""
    found = reader_of(usage)

    assert found is not None
    assert found[0] == shape
    assert read_usage(usage) == counts
    assert read_usage(SimpleNamespace(**usage)) == counts
    assert read(usage).usage == counts


def test_a_usage_of_ours():
    """A `TokenUsage` is what it is."""
    assert read_usage(COUNTS) is COUNTS


@pytest.mark.parametrize(
    ("usage", "error"),
    [
        pytest.param({}, UnknownUsageError, id="nothing"),
        pytest.param({"tokens_used": 5}, UnknownUsageError, id="other names"),
        pytest.param(None, UnknownUsageError, id="null"),
        pytest.param(7, UnknownUsageError, id="a number"),
        pytest.param("prompt_tokens", UnknownUsageError, id="text"),
        pytest.param({"prompt_tokens": None}, UnknownUsageError, id="a null"),
        pytest.param({"prompt_tokens": "8"}, InvalidUsageError, id="a text for a count"),
        pytest.param({"prompt_tokens": -8}, InvalidUsageError, id="a negative count"),
        pytest.param({"prompt_tokens": True}, InvalidUsageError, id="true"),
        pytest.param({"prompt_tokens": 10**30}, InvalidUsageError, id="a huge count"),
        pytest.param({"prompt_tokens": 8.5}, InvalidUsageError, id="half a token"),
        pytest.param(
            {"prompt_tokens": 8, "completion_tokens": -1, "total_tokens": 12}
            | {"completion_tokens_details": {"reasoning_tokens": 5}},
            InvalidUsageError,
            id="a negative count that a sum would hide",
        ),
    ],
)
def test_what_is_no_usage(usage, error):
    """What is no usage is refused by one of our two errors, which repeat no value."""
    with pytest.raises(error) as caught:
        read_usage(usage)

    assert "8" not in str(caught.value).replace("100000000000", "")


def test_zero_is_a_count():
    """A reported zero stays one; what is absent stays unknown."""
    usage = {
        "prompt_tokens": 8,
        "completion_tokens": 0,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 0},
    }

    assert read_usage(usage) == TokenUsage(
        input_tokens=8, output_tokens=0, cache_read_input_tokens=0, reported_total_tokens=8
    )


def test_half_of_a_usage():
    """A count that is absent is unknown, unless the total proves that it is none."""
    assert read_usage({"prompt_tokens": 8}) == TokenUsage(input_tokens=8)
    assert read_usage({"prompt_tokens": 8, "total_tokens": 10}).output_tokens is None
    assert read_usage({"prompt_tokens": 8, "total_tokens": 8}).output_tokens == 0


def test_contradictions_are_kept():
    """A total larger than its parts, or a part larger than its total, is kept as it came."""
    total = {**USAGE, "total_tokens": 100}
    part = {**USAGE, "prompt_tokens_details": {"cached_tokens": 9}}

    assert (read_usage(total).reported_total_tokens, read_usage(total).is_consistent) == (
        100,
        False,
    )
    assert (read_usage(part).cache_read_input_tokens, read_usage(part).is_consistent) == (9, False)
