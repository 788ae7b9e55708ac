"""Ways to ask a model directly: at once or in pieces, with or without an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from llama_index.core.llms import ChatMessage

from llm_metering.events import CloudEvent

__all__ = ["WAYS", "Way", "generated", "messages"]

Way = Callable[[Any, str], Any]


def messages(prompt: str) -> list[ChatMessage]:
    """A conversation of one question."""
    return [ChatMessage(role="user", content=prompt)]


def chat(llm: Any, prompt: str) -> Any:
    """At once."""
    return llm.chat(messages(prompt))


def achat(llm: Any, prompt: str) -> Any:
    """At once, in an event loop."""
    return asyncio.run(llm.achat(messages(prompt)))


def stream_chat(llm: Any, prompt: str) -> Any:
    """In pieces."""
    return list(llm.stream_chat(messages(prompt)))


def astream_chat(llm: Any, prompt: str) -> Any:
    """In pieces, in an event loop."""

    async def main() -> list[Any]:
        return [piece async for piece in await llm.astream_chat(messages(prompt))]

    return asyncio.run(main())


def complete(llm: Any, prompt: str) -> Any:
    """A completion at once."""
    return llm.complete(prompt)


def acomplete(llm: Any, prompt: str) -> Any:
    """A completion at once, in an event loop."""
    return asyncio.run(llm.acomplete(prompt))


def stream_complete(llm: Any, prompt: str) -> Any:
    """A completion in pieces."""
    return list(llm.stream_complete(prompt))


def astream_complete(llm: Any, prompt: str) -> Any:
    """A completion in pieces, in an event loop."""

    async def main() -> list[Any]:
        return [piece async for piece in await llm.astream_complete(prompt)]

    return asyncio.run(main())


def generated(events: Iterable[CloudEvent]) -> list[CloudEvent]:
    """The events of models, without those of `MockEmbedding`, which asks no provider."""
    return [event for event in events if event.data["operation"] != "embeddings"]


WAYS: Final[Mapping[str, Way]] = {
    "chat": chat,
    "achat": achat,
    "stream_chat": stream_chat,
    "astream_chat": astream_chat,
    "complete": complete,
    "acomplete": acomplete,
    "stream_complete": stream_complete,
    "astream_complete": astream_complete,
}
