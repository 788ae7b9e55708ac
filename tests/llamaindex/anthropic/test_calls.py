"""What is peculiar to Anthropic's integration: methods inside of methods, and calls that tell nothing."""

from __future__ import annotations

import asyncio
import gc

import pytest
from llama_index.core.callbacks import CallbackManager
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel

from llm_metering import Meter
from llm_metering.llamaindex import MeteringHandler
from tests.books import billed, booked, metered, owed, prompt
from tests.llamaindex.asking import WAYS, messages
from tests.llamaindex.clients import CLIENTS

ASK = PromptTemplate("{who}")


class City(BaseModel):
    """What is asked for."""

    name: str = ""


@pytest.fixture
def acme(meter):
    """A callback manager with a handler for acme."""
    return CallbackManager([MeteringHandler("acme", meter=meter)])


@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_one_event(provider, meter, acme, events_of, way):
    """`complete` calls `chat`: LlamaIndex tells of two starts and two ends."""
    WAYS[way](CLIENTS["anthropic"](provider, callback_manager=acme), prompt("acme"))

    assert billed(events_of(meter)) == owed(provider)
    assert len(events_of(meter)) == 1
    assert meter.statistics()["open_calls"] == 0


@pytest.mark.parametrize("way", ["chat", "stream_chat", "astream_chat"])
def test_what_was_written_to_the_cache_is_in_the_event(provider, meter, acme, events_of, way):
    """Of a stream the integration hands on no start, where these counts are: the tap has read it."""
    WAYS[way](CLIENTS["anthropic"](provider, "cache", callback_manager=acme), prompt("acme"))

    (event,) = events_of(meter)
    assert metered(event) == booked(provider.entry)
    assert booked(provider.entry).written > 0


@pytest.mark.parametrize("way", ["structured_predict", "astructured_predict"])
def test_a_structured_answer_that_llamaindex_tells_nothing_of(
    provider, meter, acme, events_of, way
):
    """The integration asks its SDK directly: a span, and neither a start nor an end."""
    llm = CLIENTS["anthropic"](provider, callback_manager=acme)

    try:
        if way == "structured_predict":
            llm.structured_predict(City, ASK, who=prompt("acme"))
        else:
            asyncio.run(llm.astructured_predict(City, ASK, who=prompt("acme")))
    except ValueError:
        # The provider's text is no JSON of a city; it was paid for all the same.
        assert provider.entries

    assert billed(events_of(meter)) == owed(provider)
    assert len(events_of(meter)) == 1


def test_a_stream_that_was_never_read_was_asked_for(provider, meter, acme, events_of):
    """The request is sent when the stream is made, so something was paid that nobody has seen."""
    llm = CLIENTS["anthropic"](provider, callback_manager=acme)

    stream = llm.stream_chat(messages(prompt("acme")))
    del stream
    gc.collect()

    assert len(provider.so_far) == 1
    (event,) = events_of(meter)
    assert (event.data["status"], event.data["provenance"]) == ("aborted", "missing")
    assert event.subject == "acme"


@pytest.mark.parametrize(
    "taps",
    [
        pytest.param(True, id="taps"),
        # Older versions keep nothing of it.
        pytest.param(False, id="no taps", marks=pytest.mark.needs("anthropic_0_12")),
    ],
)
def test_the_prompt_of_a_stream_that_was_left_is_known(provider, home, sink, taps):
    """The start of the stream said what went in; the integration keeps that beside each piece."""
    with Meter(home=home, sinks=[sink], taps=taps) as meter:
        manager = CallbackManager([MeteringHandler("acme", meter=meter)])
        llm = CLIENTS["anthropic"](provider, "slow", callback_manager=manager)
        stream = llm.stream_chat(messages(prompt("acme")))
        next(stream)
        next(stream)
        stream.close()
        assert meter.flush()

    (event,) = sink.events
    assert event.data["provenance"] == "partial"
    # The integration keeps two counts, without those of the cache.
    entry = provider.entries[0]
    assert event.data["input_tokens"] == (entry.input if taps else entry.input - entry.cached)
