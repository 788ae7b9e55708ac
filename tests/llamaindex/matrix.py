"""One cell of the matrix of entry points, ways in and clients: what is metered is what is booked.

What comes in pieces is read for another customer than the one it was asked for: that is not who pays.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, Final

import pytest

from llm_metering import Meter, subject
from llm_metering.events import CloudEvent
from tests.books import booked, metered
from tests.llamaindex.asking import generated
from tests.llamaindex.clients import CLIENTS
from tests.llamaindex.entry_points import ENTRY_POINTS, Answer, Enter
from tests.provider.client import Provider

__all__ = ["SUBJECT", "cells", "check_cell", "enter_cell"]

SUBJECT: Final = "customer-42"
READER: Final = "customer-13"
ASKED: Final = f"Work for [subject:{SUBJECT}]."
_STRUCTURED = ("structured_predict", "as_structured_llm")
_NEEDS_TOOLS = ("chat_with_tools", "FunctionAgent", "AgentWorkflow")


_NEEDS: Final = {
    ("custom", "structured_predict", "stream"): "streamed_text_programs",
    ("custom", "structured_predict", "async stream"): "streamed_text_programs",
    ("custom", "as_structured_llm", "stream"): "streamed_text_programs",
    ("custom", "as_structured_llm", "async stream"): "streamed_text_programs",
    # Older versions fail over the answer.
    ("ollama", "chat_with_tools", "stream"): "ollama_0_11",
    ("responses", "ReActAgent", "async"): "openai_0_8",
    ("responses", "ReActAgent", "async stream"): "openai_0_8",
}


def cells(*clients: str, entries: Iterable[str] = ENTRY_POINTS) -> list[Any]:
    """The parameters `client`, `entry` and `way` of all that there is, or of these entry points."""
    return [
        pytest.param(
            *(client, entry, way),
            id=f"{client}-{entry}-{way}",
            marks=[pytest.mark.needs(_NEEDS[cell])]
            if (cell := (client, entry, way)) in _NEEDS
            else [],
        )
        for client in clients
        for entry in entries
        # A model that is no `FunctionCallingLLM` takes no tools.
        if not (client == "custom" and entry in _NEEDS_TOOLS)
        for way in ENTRY_POINTS[entry]
    ]


async def _await(enter: Enter, llm: Any, *, streams: bool) -> None:
    with subject(SUBJECT):
        answer = await enter(llm, ASKED)
        if streams and hasattr(answer, "async_response_gen"):
            answer = answer.async_response_gen()
    with subject(READER):
        # An agent reads the pieces of its model itself.
        if streams and isinstance(answer, AsyncIterable):
            async for _ in answer:
                pass


def enter_cell(client: str, entry: str, way: str, provider: Provider) -> None:
    """Enter, for one customer, and read what comes in pieces, for another."""
    options = {"schema_of": Answer} if client == "custom" and entry in _STRUCTURED else {}
    llm = CLIENTS[client](provider, "tools", **options)
    enter = ENTRY_POINTS[entry][way]
    if "async" in way:
        asyncio.run(_await(enter, llm, streams="stream" in way))
    else:
        with subject(SUBJECT):
            answer = enter(llm, ASKED)
        with subject(READER):
            list(answer if way == "stream" else ())


def check_cell(
    client: str,
    entry: str,
    way: str,
    provider: Provider,
    meter: Meter,
    events_of: Callable[[Meter], list[CloudEvent]],
) -> None:
    """Enter, and compare the two books, call by call."""
    enter_cell(client, entry, way, provider)
    entries, events = provider.entries, generated(events_of(meter))
    assert entries
    assert sorted(map(metered, events)) == sorted(map(booked, entries))
    assert {event.subject for event in events} == {SUBJECT}
    assert {entry.subject for entry in entries} == {SUBJECT}
    assert {(event.data["status"], event.data["provenance"]) for event in events} == {
        ("completed", "reported")
    }
