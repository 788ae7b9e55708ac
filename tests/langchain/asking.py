"""A model of the fake provider, and ways to ask one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from langchain_openai import ChatOpenAI

from tests.provider.client import Provider

__all__ = ["WAYS", "Way", "gpt"]

Way = Callable[[Any, Any, Mapping[str, Any]], Any]


def gpt(provider: Provider, model: str = "gpt-x", **overrides: Any) -> ChatOpenAI:
    """A model of the provider."""
    settings: dict[str, Any] = {
        "model": model,
        "base_url": provider.openai_url,
        "api_key": "x",
        "max_retries": 0,
        "stream_usage": True,
        # langchain-openai shares one async client between event loops, in which an open
        # connection of a loop that has ended cannot be used, nor closed.
        "default_headers": {"Connection": "close"},
    }
    return ChatOpenAI(**{**settings, **overrides})


def invoke(llm: Any, asked: Any, config: Any) -> Any:
    """At once."""
    return llm.invoke(asked, config)


def ainvoke(llm: Any, asked: Any, config: Any) -> Any:
    """At once, in an event loop."""
    return asyncio.run(llm.ainvoke(asked, config))


def stream(llm: Any, asked: Any, config: Any) -> Any:
    """In pieces."""
    return list(llm.stream(asked, config))


def astream(llm: Any, asked: Any, config: Any) -> Any:
    """In pieces, in an event loop."""

    async def main() -> list[Any]:
        return [piece async for piece in llm.astream(asked, config)]

    return asyncio.run(main())


def batch(llm: Any, asked: Any, config: Any) -> Any:
    """One of a batch."""
    return llm.batch([asked], config)


WAYS: Final[Mapping[str, Way]] = {
    "invoke": invoke,
    "ainvoke": ainvoke,
    "stream": stream,
    "astream": astream,
    "batch": batch,
}
