"""Who reads a stream does not pay for it, also where the reader's scope is inside of the maker's.

A query engine's stream and a streamed structured answer ask their model when they are read
(llama-index-core 0.14.25, `response_synthesizers/refine.py`, `_get_response_couple`), in the reader's
context: a generator of Python has none of its own.
"""

from __future__ import annotations

import asyncio

import pytest
from llama_index.core.llms.callbacks import llm_completion_callback

import llm_metering
from llm_metering import subject
from tests.books import billed, owed, prompt
from tests.llamaindex.asking import generated
from tests.llamaindex.clients import CLIENTS
from tests.llamaindex.custom import HttpLLM
from tests.llamaindex.entry_points import ENTRY_POINTS

LAZY = ("query engine", "refining query engine", "structured_predict", "as_structured_llm")


class Passing(HttpLLM):
    """Opens a scope of its own in the midst of its stream, and asks another model there."""

    inner: HttpLLM

    @llm_completion_callback()
    def stream_complete(self, prompt, formatted=False, **kwargs):
        def pieces():
            with subject("inner"):
                yield from self.inner.stream_complete(prompt)

        return pieces()


@pytest.mark.parametrize("entry", LAZY)
def test_the_reader_is_inside_of_the_makers_scope(entry, provider, streams_ask, events_of):
    """A stream that is read in a scope opened since is paid by who made it."""
    llm_metering.install()
    llm = CLIENTS["openai"](provider, "tools")
    with subject("maker"):
        pieces = ENTRY_POINTS[entry]["stream"](llm, prompt("maker"))
        with subject("reader"):
            assert list(pieces)

    assert billed(generated(events_of(streams_ask))) == owed(provider)


@pytest.mark.parametrize("entry", LAZY)
def test_an_async_reader_is_inside_of_the_makers_scope(entry, provider, streams_ask, events_of):
    """Awaited, too."""
    llm_metering.install()
    llm = CLIENTS["openai"](provider, "tools")

    async def main():
        with subject("maker"):
            pieces = await ENTRY_POINTS[entry]["async stream"](llm, prompt("maker"))
            if hasattr(pieces, "async_response_gen"):
                pieces = pieces.async_response_gen()
            with subject("reader"):
                return [piece async for piece in pieces]

    assert asyncio.run(main())
    assert billed(generated(events_of(streams_ask))) == owed(provider)


def test_a_scope_that_the_stream_opens_itself(provider, streams_ask, events_of):
    """What the code of a stream says of itself holds, whoever reads it."""
    llm_metering.install()
    inner = CLIENTS["custom"](provider)
    llm = Passing(url=inner.url, model=inner.model, inner=inner)
    with subject("maker"):
        pieces = ENTRY_POINTS["query engine"]["stream"](llm, prompt("inner"))
    with subject("reader"):
        assert list(pieces)

    assert billed(generated(events_of(streams_ask))) == owed(provider)
