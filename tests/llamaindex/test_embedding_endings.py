"""Embeddings of LlamaIndex that fail, are cancelled or killed, beside others that are answered."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import httpx
import pytest

from llm_metering import Meter
from llm_metering.llamaindex import bind
from llm_metering.testing import OpenMeterServer
from tests.books import billed
from tests.llamaindex.embedders import (
    EMBEDDERS,
    HttpEmbedding,
    http,
    several,
)

TEXTS = several(5)
CHILD_TIMEOUT = 60


@pytest.mark.parametrize("workers", [None, 2], ids=["gathered", "workers"])
def test_batches_beside_one_that_fails_are_billed(provider, meter, events_of, workers):
    """No end is told of any batch: the others were answered, and paid for."""
    embedding = bind(http(provider, embed_batch_size=1, num_workers=workers), "acme", meter=meter)
    texts = [*TEXTS[:2], "[subject:acme]bad|slow300+refuse400"]

    async def main():
        with pytest.raises(httpx.HTTPStatusError):
            await embedding.aget_text_embedding_batch(texts)
        # The others go on behind the error, each in its task.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.gather(*others, return_exceptions=True)

    asyncio.run(main())

    answered = [entry for entry in provider.entries if entry.status == 200]
    assert len(answered) == 2
    bill = billed(events_of(meter))
    assert bill == {"acme": (2, sum(entry.input for entry in answered), 0)}


def test_earlier_batches_of_one_that_fails_are_billed(provider, meter, events_of):
    """One after the other: what was answered before the error, and nothing for what was refused."""
    embedding = bind(http(provider, embed_batch_size=1), "acme", meter=meter)

    with pytest.raises(httpx.HTTPStatusError):
        embedding.get_text_embedding_batch([*TEXTS[:2], "bad|refuse400", TEXTS[3]])

    answered = [entry for entry in provider.entries if entry.status == 200]
    assert billed(events_of(meter)) == {"acme": (2, sum(entry.input for entry in answered), 0)}
    assert meter.statistics()["refused_calls"] == 1


def test_the_first_requests_of_several_are_billed_when_one_fails(provider, meter, events_of):
    """The answers that came were paid for, whatever came of the rest."""

    class One(HttpEmbedding):
        """A class that nothing is known of yet."""

    embedding = One(model_name="embed-x", url=provider.url, each=True)
    bind(embedding, "acme", meter=meter)

    with pytest.raises(httpx.HTTPStatusError):
        embedding.get_text_embedding_batch([*TEXTS[:2], "bad|refuse500"])
    with pytest.raises(httpx.HTTPStatusError):
        embedding.get_text_embedding_batch([TEXTS[0], "bad|refuse500"])

    events = events_of(meter)
    exact = [event for event in events if event.data["status"] == "completed"]
    answered = [entry for entry in provider.entries if entry.status == 200]
    assert billed(exact) == {"acme": (3, sum(entry.input for entry in answered), 0)}
    # From the second answer on it is known to make several: those that failed are known, too.
    failed = [event.data for event in events if event.data["status"] != "completed"]
    assert [(data["status"], data["provenance"]) for data in failed] == [("failed", "missing")] * 2


def test_what_was_not_asked_for_is_not_counted(provider, meter, events_of):
    """Two of three requests were answered, and nobody reports: all texts would be too many."""
    options = {"model_name": "embed-x+nousage", "url": provider.url, "each": True}
    embedding = bind(HttpEmbedding(**options), "acme", meter=meter)

    with pytest.raises(httpx.HTTPStatusError):
        embedding.get_text_embedding_batch([*TEXTS[:2], "bad|refuse400"])

    events = events_of(meter)
    assert [event.data["provenance"] for event in events] == ["missing"] * 2
    assert meter.statistics()["open_calls"] == 0


def test_a_lost_answer_is_a_failed_event(provider, meter, events_of):
    """Whether it was worked on nobody knows: the event is there, and has no counts."""
    embedding = bind(http(provider), "acme", meter=meter)

    with pytest.raises(httpx.HTTPError):
        embedding.get_text_embedding("x|die")

    (event,) = events_of(meter)
    assert (event.data["status"], event.data["provenance"]) == ("failed", "missing")
    assert "input_tokens" not in event.data


def test_an_answer_that_breaks_off_is_a_failed_event(provider, meter, events_of):
    """It was worked on, and what it cost stood at its end."""
    with pytest.raises(httpx.HTTPError):
        bind(http(provider), "acme", meter=meter).get_text_embedding("x|cut")

    (event,) = events_of(meter)
    assert (event.data["status"], event.data["provenance"]) == ("failed", "missing")


def test_a_cancelled_call_is_an_aborted_event(provider, meter, events_of):
    """Its task is cancelled while the provider works."""
    embedding = bind(http(provider), "acme", meter=meter)

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(embedding.aget_query_embedding("x|hang"), 0.3)

    asyncio.run(main())

    (event,) = events_of(meter)
    assert (event.data["status"], event.data["provenance"]) == ("aborted", "missing")


def test_a_retry_is_the_event_of_the_answer_that_came(provider, meter, events_of):
    """What a client tries again by itself was refused before, and cost nothing."""
    embedding = EMBEDDERS["openai"](provider, "429once", max_retries=2)

    bind(embedding, "acme", meter=meter).get_text_embedding(TEXTS[0])

    assert [entry.status for entry in provider.entries] == [429, 200]
    assert billed(events_of(meter)) == {"acme": (1, provider.entries[1].input, 0)}


KILLED = """
import sys
from llm_metering import Meter
from llm_metering.llamaindex import bind
from tests.llamaindex.embedders import HttpEmbedding

with Meter(sys.argv[1], [sys.argv[2]]) as meter:
    embedding = HttpEmbedding(model_name="embed-x", url=sys.argv[3], embed_batch_size=1)
    bind(embedding, "acme", meter=meter)
    embedding.get_text_embedding_batch(["first [subject:acme]", "second|hang"])
"""


def test_a_process_that_is_killed_has_asked(provider, home):
    """Its second request was known before it was made: the event says `interrupted`."""
    with OpenMeterServer() as server:
        arguments = [str(home), server.sink_url, provider.url]
        child = subprocess.Popen([sys.executable, "-c", KILLED, *arguments])
        try:
            provider.wait_until(lambda entries: len(entries) == 2)
        finally:
            child.send_signal(signal.SIGKILL)
        child.wait(CHILD_TIMEOUT)
        with Meter(home, [server.sink_url]) as heir:
            assert heir.drain(30)
        events = server.events

    told = [(event["data"]["status"], event["data"]["provenance"]) for event in events]
    assert sorted(told) == [("completed", "reported"), ("interrupted", "missing")]
    assert {event["subject"] for event in events} == {"acme"}
