"""Ways to ask a model, and what came of it: in our events, and in the provider's books."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from llm_metering.events import CloudEvent
from tests.provider.ledger import Entry

__all__ = ["WAYS", "Counts", "Way", "booked", "metered"]

Way = Callable[[Any, Any, Mapping[str, Any]], Any]


class Counts(NamedTuple):
    """Tokens of a call; what nobody told is 0 here, as it is in the books."""

    input: int
    output: int
    cached: int = 0
    written: int = 0
    written_5m: int = 0
    written_1h: int = 0
    reasoning: int = 0


_NAMES: Final = (
    *("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    *("cache_creation_5m_input_tokens", "cache_creation_1h_input_tokens"),
    "reasoning_output_tokens",
)


def metered(event: CloudEvent) -> Counts:
    """What an event says was used."""
    return Counts(*(event.data.get(name) or 0 for name in _NAMES))


def booked(entry: Entry) -> Counts:
    """What the provider's books say was used."""
    return Counts(*(getattr(entry, name) for name in Counts._fields))


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
