"""On which tier a response says that it was served, in the shape of each provider that says so."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy

import pytest
from langchain_core.messages import AIMessage

from llm_metering.extract import StreamReader, read
from tests.extract.recorded import ABSENT, ANSWERS, params
from tests.extract.test_bodies import BODIES

INVALID = ("invalid_service_tier",)


def case_of(provider, name):
    (found,) = (each for each in BODIES[provider]["cases"] if each["name"] == name)
    return deepcopy(found)


def body_of(provider, name="plain"):
    return case_of(provider, name)["body"]


def tier_of(response):
    """The tier of a response, and what was odd about it."""
    reading = read(response)
    assert reading.usage is not None
    return reading.service_tier, reading.flags


def with_usage(provider, **fields):
    body = body_of(provider)
    body["usage"] |= fields
    return body


def converse(**fields):
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": "Blue."}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 8, "outputTokens": 2, "totalTokens": 10},
        **fields,
    }


def invoked(**headers):
    counts = {"x-amzn-bedrock-input-token-count": "8", "x-amzn-bedrock-output-token-count": "2"}
    metadata = {"RequestId": "r-1", "HTTPHeaders": counts | headers}
    return {"ResponseMetadata": metadata, "body": object()}


def gemini(**usage):
    body = body_of("gemini")
    body["usageMetadata"] |= usage
    return body


def response(**fields):
    """OpenAI's responses API."""
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "gpt-5-mini",
        "output": [],
        "usage": {"input_tokens": 8, "output_tokens": 2, "total_tokens": 10},
        **fields,
    }


@pytest.mark.parametrize(
    ("body", "tier"),
    [
        pytest.param({**body_of("openai"), "service_tier": "flex"}, "flex", id="OpenAI, chat"),
        pytest.param(response(service_tier="priority"), "priority", id="OpenAI, responses"),
        pytest.param(
            {"type": "response.completed", "response": response(service_tier="flex")},
            "flex",
            id="OpenAI, an event of responses",
        ),
        pytest.param({**body_of("groq"), "service_tier": "performance"}, "performance", id="Groq"),
        pytest.param(
            {**body_of("openrouter"), "service_tier": "priority"}, "priority", id="OpenRouter"
        ),
        pytest.param(
            {**body_of("cerebras"), "service_tier": "auto", "service_tier_used": "flex"},
            "flex",
            id="Cerebras, which says what was asked for as well",
        ),
        pytest.param(with_usage("mistral", service_tier="priority"), "priority", id="Mistral"),
        pytest.param(
            with_usage("litellm", service_tier="batch", speed=None), "batch", id="LiteLLM"
        ),
        pytest.param(
            with_usage("litellm", service_tier="standard", speed="fast"),
            "fast",
            id="LiteLLM, Anthropic's fast mode",
        ),
        pytest.param(with_usage("anthropic", service_tier="batch"), "batch", id="Anthropic"),
        pytest.param(
            with_usage("anthropic", service_tier="standard", speed="fast"),
            "fast",
            id="Anthropic's fast mode",
        ),
        pytest.param(
            with_usage("anthropic", service_tier="priority", speed="standard"),
            "priority",
            id="Anthropic's standard speed",
        ),
        pytest.param(gemini(serviceTier="flex"), "flex", id="Gemini"),
        pytest.param(gemini(trafficType="ON_DEMAND_FLEX"), "on_demand_flex", id="Vertex AI"),
        pytest.param(gemini(trafficType=2), "provisioned_throughput", id="Vertex AI, its numbers"),
        pytest.param(
            gemini(trafficType=3), "on_demand_priority", id="Vertex AI, the number of priority"
        ),
        pytest.param(converse(serviceTier={"type": "flex"}), "flex", id="Converse"),
        pytest.param(
            converse(performanceConfig={"latency": "optimized"}), "optimized", id="its latency"
        ),
        pytest.param(
            converse(serviceTier={"type": "default"}, performanceConfig={"latency": "standard"}),
            "default",
            id="Converse's plain ones",
        ),
        pytest.param(
            {"metadata": {**converse(serviceTier={"type": "reserved"}), "metrics": {}}},
            "reserved",
            id="the last event of Converse",
        ),
        pytest.param(
            invoked(**{"x-amzn-bedrock-service-tier": "priority"}), "priority", id="InvokeModel"
        ),
        pytest.param(
            invoked(**{"x-amzn-bedrock-performanceconfig-latency": "optimized"}),
            "optimized",
            id="InvokeModel's latency",
        ),
        pytest.param(
            AIMessage(
                "Blue.",
                usage_metadata={"input_tokens": 8, "output_tokens": 2, "total_tokens": 10},
                response_metadata={"service_tier": "flex", "model_provider": "openai"},
            ),
            "flex",
            id="a message of LangChain",
        ),
    ],
)
def test_the_tier_that_a_response_names(body, tier):
    """It is where the provider documents it, and nothing is odd about it."""
    assert tier_of(body) == (tier, ())


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(body_of("openai"), id="OpenAI"),
        pytest.param({**body_of("openai"), "service_tier": None}, id="null"),
        pytest.param({**body_of("openai"), "service_tier": ""}, id="Snowflake's empty one"),
        pytest.param({**body_of("openai"), "service_tier": "auto"}, id="what was asked for"),
        pytest.param(response(), id="responses"),
        pytest.param(body_of("anthropic"), id="Anthropic"),
        pytest.param(gemini(), id="Gemini"),
        pytest.param(gemini(trafficType="TRAFFIC_TYPE_UNSPECIFIED"), id="unspecified"),
        pytest.param(gemini(trafficType=0), id="unspecified, as a number"),
        pytest.param(converse(), id="Converse"),
        pytest.param(converse(performanceConfig={"latency": "standard"}), id="a plain latency"),
        pytest.param(invoked(), id="InvokeModel"),
    ],
)
def test_nobody_names_one(body):
    """What a response does not say is not made up."""
    assert tier_of(body) == (None, ())


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({**body_of("openai"), "service_tier": "the secret answer"}, id="a text"),
        pytest.param(response(service_tier={"type": "flex"}), id="an object"),
        pytest.param(with_usage("anthropic", service_tier=3), id="a number"),
        pytest.param(gemini(trafficType=77), id="a number without a name"),
        pytest.param(converse(serviceTier={"type": ["flex"]}), id="a list"),
        pytest.param(invoked(**{"x-amzn-bedrock-service-tier": "x" * 41}), id="too long a header"),
    ],
)
def test_what_is_no_tier_is_dropped_and_flagged(body):
    """The counts are taken all the same."""
    assert tier_of(body) == (None, INVALID)


def test_two_that_contradict_each_other():
    """The tier stands, and the flag says that a mode was named which costs something else."""
    body = with_usage("anthropic", service_tier="priority", speed="fast")

    assert tier_of(body) == ("priority", ("service_tier_differs",))


def streamed(provider):
    return case_of(provider, "streamed")["chunks"]


def chat_stream():
    """As OpenAI's API sends it: in every chunk, the last one that of the usage."""
    return [{**chunk, "service_tier": "flex"} for chunk in streamed("openai")]


def responses_stream():
    """The first states repeat what was asked for."""
    begun = response(status="in_progress", usage=None, service_tier="auto")
    return [
        {"type": "response.created", "response": begun},
        {"type": "response.output_text.delta", "delta": "Blue."},
        {"type": "response.completed", "response": response(service_tier="flex")},
    ]


def anthropic_stream():
    """In `message_start` alone."""
    chunks = streamed("anthropic")
    (start,) = (each for each in chunks if each["type"] == "message_start")
    start["message"]["usage"]["service_tier"] = "priority"
    return chunks


def gemini_stream():
    chunks = streamed("gemini")
    for chunk in chunks:
        if "usageMetadata" in chunk:
            chunk["usageMetadata"]["serviceTier"] = "flex"
    return chunks


def converse_stream():
    return [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Blue."}}},
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": {"usage": converse()["usage"], "serviceTier": {"type": "flex"}}},
    ]


def groq_stream():
    """As recorded: in the last chunk."""
    *chunks, last = streamed("groq")
    return [*chunks, {**last, "service_tier": "flex"}]


@pytest.mark.parametrize(
    ("chunks", "tier"),
    [
        pytest.param(chat_stream(), "flex", id="OpenAI, chat"),
        pytest.param(responses_stream(), "flex", id="OpenAI, responses"),
        pytest.param(anthropic_stream(), "priority", id="Anthropic"),
        pytest.param(gemini_stream(), "flex", id="Gemini"),
        pytest.param(converse_stream(), "flex", id="Converse"),
        pytest.param(groq_stream(), "flex", id="Groq"),
        pytest.param(responses_stream()[:2], None, id="one that was cut off before it was known"),
    ],
)
def test_the_tier_that_a_stream_names(chunks, tier):
    """Whichever chunk it is in, it is that of the whole; what was asked for is no answer."""
    reader = StreamReader()
    for chunk in chunks:
        reader.feed(chunk)

    assert (reader.reading().service_tier, reader.reading().flags) == (tier, ())


@pytest.mark.parametrize(
    ("metadata", "tier"),
    [
        pytest.param({"service_tier": "on_demand", "model_provider": "groq"}, None, id="Groq's"),
        pytest.param({"service_tier": "flexflex"}, "flex", id="of two choices, put together"),
        pytest.param(
            {"usage": {"service_tier": "standard", "speed": "fast"}}, "fast", id="Anthropic's usage"
        ),
        pytest.param({"serviceTier": {"type": "flex"}}, "flex", id="Converse's"),
        pytest.param({}, None, id="nothing"),
    ],
)
def test_what_langchain_makes_of_it(metadata, tier):
    """Its integrations hand it on in their own ways, and one of them what was asked for."""
    usage = {"input_tokens": 8, "output_tokens": 2, "total_tokens": 10}
    message = AIMessage("Blue.", usage_metadata=usage, response_metadata=metadata)

    assert tier_of(message) == (tier, ())


def test_langchains_cache_was_served_on_no_tier():
    """The tier of an answer out of LangChain's cache is an earlier call's."""
    usage = {"input_tokens": 8, "output_tokens": 2, "total_tokens": 10, "total_cost": 0}
    message = AIMessage(
        "Blue.", usage_metadata=usage, response_metadata={"service_tier": "priority"}
    )

    assert tier_of(message) == (None, ())


@pytest.mark.parametrize("interaction", params(ANSWERS))
def test_recorded(interaction):
    """Of every recorded answer, whole and in pieces, the tier is the last one that it names."""
    reader = StreamReader()
    text = interaction.text
    for start in range(0, len(text), 700):
        reader.feed(text[start : start + 700])

    whole = read(text)
    assert whole.service_tier == reader.reading().service_tier == interaction.tier
    assert not any("tier" in flag for flag in whole.flags)


@pytest.mark.skipif(not ANSWERS, reason=ABSENT)
def test_how_many_name_one():
    """132 of the 294 recorded answers do, all but one of them the plain one."""
    assert len(ANSWERS) == 294
    assert Counter(each.tier for each in ANSWERS if each.tier) == {
        "default": 78,
        "standard": 41,
        "on_demand": 12,
        "on_demand_flex": 1,
    }
