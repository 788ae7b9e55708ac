"""Amazon Bedrock through langchain-aws: three classes, four places for the usage, two ends of a call.

Read in langchain-aws 1.9.1, `chat_models/bedrock_converse.py`, `chat_models/bedrock.py`,
`llms/bedrock.py`.
"""

from __future__ import annotations

import pytest

from llm_metering.langchain import MeteringHandler
from tests.books import booked, metered
from tests.langchain.asking import WAYS
from tests.langchain.clients import CLIENTS

pytestmark = pytest.mark.needs("aws_1")

EVERY_WAY = ["invoke", "ainvoke", "stream", "astream"]


@pytest.fixture
def ask(provider, meter, events_of):
    """Ask a model once: the event, and the entry of the provider's books."""

    def ask(client, way, **options):
        llm = CLIENTS[client](provider, **options)
        WAYS[way](llm, "hello", {"callbacks": [MeteringHandler("acme", meter=meter)]})
        (event,) = events_of(meter)
        return event, provider.entry

    return ask


def provenance(event):
    return event.data["status"], event.data["provenance"], event.data.get("flags")


EXACT = ("completed", "reported", None)


@pytest.mark.parametrize("way", EVERY_WAY)
@pytest.mark.parametrize("model", ["anthropic.claude-x", "anthropic.claude-x+cache"])
def test_converse(model, way, ask):
    """Its input excludes the cache, langchain-aws's includes it; writes are told by lifetime."""
    event, entry = ask("converse", way, model=model)

    assert provenance(event) == EXACT
    assert metered(event) == booked(entry)
    assert event.data["response_id"] == f"request-{entry.number}"


@pytest.mark.parametrize("way", EVERY_WAY)
@pytest.mark.parametrize("model", ["anthropic.claude-x", "anthropic.claude-x+cache"])
def test_invoke_model(model, way, ask):
    """`usage_metadata` is made of the headers, or of what Bedrock adds to a stream's last chunk.

    The lifetimes of what was written to the cache are in the body alone, where a tap reads them.
    """
    event, entry = ask("bedrock", way, model=model)

    assert provenance(event) == EXACT
    assert metered(event) == booked(entry)


@pytest.mark.parametrize("streaming", [False, True], ids=["at once", "put together"])
@pytest.mark.parametrize("model", ["amazon.titan-x", "amazon.titan-x+cache"])
def test_a_completion_ends_twice(model, streaming, ask, meter):
    """`BedrockLLM` tells the end with its usage itself, and core tells it again without: one event.

    https://github.com/langchain-ai/langchain/issues/26049. The usage has OpenAI's names and leaves
    the cache out of `prompt_tokens`; of a stream that it puts together, it sums the wrong counts.
    """
    event, entry = ask("bedrock completions", "invoke", model=model, streaming=streaming)

    assert provenance(event) == EXACT
    assert metered(event) == booked(entry)._replace(written_5m=0, written_1h=0)
    assert meter.statistics()["ignored_signals"] == {"completed": 1}


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_streamed_completion(way, ask):
    """Its usage is in what Bedrock adds to the last chunk, which nothing else hands on."""
    event, entry = ask("bedrock completions", way, streaming=True)

    assert provenance(event) == EXACT
    assert metered(event) == booked(entry)


def test_headers_that_are_not_there(ask):
    """langchain-aws takes 0 for them, as behind a gateway that drops them: estimated, never 0."""
    event, _ = ask("bedrock", "invoke", model="anthropic.claude-x+nousage")

    assert provenance(event) == ("completed", "estimated", ["zero_usage"])
    assert event.data["output_tokens"] > 0


def test_headers_that_are_not_needed(ask):
    """What Titan counts itself is in the body of its answer, where a tap reads it."""
    event, entry = ask("bedrock completions", "invoke", model="amazon.titan-x+nousage")

    assert provenance(event) == EXACT
    assert metered(event)[:2] == booked(entry)[:2]


@pytest.mark.parametrize("way", EVERY_WAY)
@pytest.mark.parametrize("client", ["converse", "bedrock"])
def test_a_refusal_costs_nothing(client, way, provider, meter, events_of):
    """botocore keeps the status where no other SDK has it."""
    llm = CLIENTS[client](provider, model="anthropic.claude-x+refuse400")
    with pytest.raises(Exception, match=r"400|no"):
        WAYS[way](llm, "hello", {"callbacks": [MeteringHandler("acme", meter=meter)]})

    assert events_of(meter) == []
    assert meter.statistics()["refused_calls"] == 1
