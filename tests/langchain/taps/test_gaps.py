"""What LangChain loses of what a provider reported, and a tap in the HTTP client recovers.

A server in another process sends answers of our own to LangChain's real clients.
"""

from __future__ import annotations

import pytest

from tests.langchain.taps.answers import ANTHROPIC, BROKEN, COHERE, MISTRAL


@pytest.mark.parametrize(
    ("name", "way", "expected", "flags"),
    [
        pytest.param("anthropic", "stream", ANTHROPIC, [], id="input only in message_start"),
        pytest.param("cohere-stream", "stream", COHERE, [], id="Cohere's usage is in message-end"),
        pytest.param("cohere", "invoke", COHERE, [], id="Cohere's cached tokens, billed units"),
        pytest.param("mistral", "invoke", MISTRAL, [], id="Mistral's cached tokens"),
        pytest.param("mistral-stream", "stream", MISTRAL, [], id="Mistral's cached tokens, stream"),
        pytest.param("groq", "stream", {"input_tokens": 40, "output_tokens": 7}, [], id="x_groq"),
        pytest.param(
            "openai-running-totals",
            "stream",
            {"input_tokens": 100, "output_tokens": 20, "provenance": "reported"},
            ["cumulative_usage"],
            id="totals so far, which LangChain adds up",
        ),
        pytest.param("openai", "stream", {"response_id": "chatcmpl-1"}, [], id="id of a stream"),
        pytest.param(
            "completions",
            "stream",
            {"input_tokens": 8, "output_tokens": 3, "provenance": "reported"},
            [],
            id="streams of completion models",
        ),
        pytest.param(
            "gemini",
            "stream",
            {"response_id": "resp-1"},
            [],
            id="Gemini's id",
            marks=pytest.mark.needs("google_genai_4"),
        ),
    ],
)
def test_recovered(model, metered, name, way, expected, flags):
    """What the integration leaves out or adds up wrongly is as the provider said it."""
    if way == "stream":
        list(model(name).stream("Hello", metered.config))
    else:
        model(name).invoke("Hello", metered.config)

    data = metered.one
    assert {key: data.get(key) for key in expected} == expected
    assert data.get("flags", []) == flags


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(
            "anthropic-iterations",
            {
                "input_tokens": 30,
                "output_tokens": 6,
                "billed_input_tokens": 930,
                "billed_output_tokens": 56,
                "provenance": "reported",
                "status": "failed",
                "flags": ["iterations_beyond_total"],
            },
            id="langchain-anthropic fails over compaction",
        ),
        pytest.param(
            "openrouter-error",
            {**BROKEN, "reported_cost": 0.0042},
            id="OpenRouter",
            marks=pytest.mark.needs("openrouter"),
        ),
        pytest.param("groq-error", BROKEN, id="Groq"),
    ],
)
def test_failed_but_paid_for(model, metered, name, expected):
    """A call that LangChain fails, in the middle of its stream or over its usage, is billed."""
    with pytest.raises(Exception):  # noqa: B017, PT011 - each integration raises another one
        list(model(name).stream("Hello", metered.config))

    data = metered.one
    assert {key: data.get(key) for key in expected} == expected


@pytest.mark.needs("openrouter")
def test_an_error_passed_over(model, metered):
    """An error in the middle of a stream that the integration passes over is one all the same."""
    list(model("openrouter-error-beside-a-choice").stream("Hello", metered.config))

    assert metered.one["status"] == "failed"
    assert (metered.one["input_tokens"], metered.one["output_tokens"]) == (40, 7)
    assert metered.one["provenance"] == "reported"


def test_left_in_the_middle(model, metered):
    """A stream of Anthropic's that is left: the input is the provider's, the output is counted."""
    stream = model("anthropic-long").stream("Hello", metered.config)
    for _ in range(5):
        next(stream)
    stream.close()

    data = metered.one
    assert data["status"] == "aborted"
    assert data["provenance"] == "partial"
    assert data["input_tokens"] == 1167
    assert 0 < data["output_tokens"] < 256
    assert data["response_id"] == "msg_1"
