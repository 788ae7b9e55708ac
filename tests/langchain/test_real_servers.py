"""A real model behind the APIs of OpenAI and Anthropic: what we metered is what its server counted.

The server is llama.cpp's own (`llm_metering.demo.model_server`); its `/metrics` is the second source
of truth. It really keeps a cache of prompts, so cached tokens are not invented either.
"""

from __future__ import annotations

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI, OpenAI

from llm_metering.langchain import MeteringHandler
from tests.books import metered
from tests.langchain.asking import WAYS

EVERY_WAY = ["invoke", "ainvoke", "stream", "astream"]
PROMPTS = ["the first prompt", "the first prompt", "another one"]

# Anthropic's and OpenAI's async clients are kept between event loops, in which an open connection
# of a loop that has ended cannot be used, nor closed.
CLOSING = {"Connection": "close"}


def openai_chat(server):
    return ChatOpenAI(
        model="tiny",
        base_url=server.openai_url,
        api_key="x",
        max_retries=0,
        max_tokens=8,
        stream_usage=True,
        default_headers=CLOSING,
    )


def openai_responses(server):
    return ChatOpenAI(
        model="tiny",
        base_url=server.openai_url,
        api_key="x",
        max_retries=0,
        max_tokens=16,
        use_responses_api=True,
        default_headers=CLOSING,
    )


def openai_completions(server):
    return OpenAI(
        model="tiny",
        base_url=server.openai_url,
        api_key="x",
        max_retries=0,
        max_tokens=8,
        default_headers=CLOSING,
    )


def anthropic_messages(server):
    return ChatAnthropic(
        model="tiny",
        base_url=server.openai_url.removesuffix("/v1"),
        api_key="x",
        max_retries=0,
        max_tokens=8,
        default_headers=CLOSING,
    )


@pytest.fixture
def ask(meter, model_server, events_of):
    """Ask the real server several times: the events, and what the server counted."""

    def ask(make, way):
        llm = make(model_server)
        config = {"callbacks": [MeteringHandler("acme", meter=meter)]}
        before = model_server.wait_until_idle()
        for prompt in PROMPTS:
            WAYS[way](llm, prompt, config)
        return events_of(meter), model_server.wait_until_idle() - before

    return ask


def sums(events):
    """Input and output tokens of all events together."""
    counts = [metered(event) for event in events]
    return tuple(sum(getattr(each, name) for each in counts) for name in ("input", "output"))


@pytest.mark.parametrize("way", EVERY_WAY)
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(openai_chat, id="chat completions"),
        pytest.param(openai_responses, id="responses"),
    ],
)
def test_openais_apis(make, way, ask):
    """Every prompt, answer and cached token, in each way."""
    events, counted = ask(make, way)

    assert [event.data["provenance"] for event in events] == ["reported"] * len(PROMPTS)
    assert sums(events) == (counted.prompt, counted.predicted)
    assert sum(metered(event).cached for event in events) == counted.prompt_cached > 0


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_anthropics_messages(way, ask):
    """Its input leaves out the cache; ours does not, nor is it in there twice."""
    events, counted = ask(anthropic_messages, way)

    assert [event.data["provenance"] for event in events] == ["reported"] * len(PROMPTS)
    assert sums(events) == (counted.prompt, counted.predicted)
    assert sum(metered(event).cached for event in events) == counted.prompt_cached > 0


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_anthropics_messages_in_pieces(way, ask):
    """llama.cpp's `message_delta` has the output only, as older APIs and many proxies send it.

    langchain-anthropic makes an input of 0 of it. A tap has read the input in `message_start`.
    """
    events, counted = ask(anthropic_messages, way)

    assert [event.data["provenance"] for event in events] == ["reported"] * len(PROMPTS)
    assert sums(events) == (counted.prompt, counted.predicted)
    assert not any("flags" in event.data for event in events)


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_openais_older_completions(way, ask):
    """Their totals are in `llm_output` only."""
    events, counted = ask(openai_completions, way)

    assert [event.data["provenance"] for event in events] == ["reported"] * len(PROMPTS)
    assert sums(events) == (counted.prompt, counted.predicted)
