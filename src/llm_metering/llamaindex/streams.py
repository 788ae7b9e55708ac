"""`metered_stream`: a generator whose calls are billed to one customer, whoever reads it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Generator
from typing import Any, TypeVar, overload

from ..errors import InvalidArgumentError
from ..subjects import current_scope
from ..subjects import subject as scope
from .frames import hold

__all__ = ["metered_stream"]

T = TypeVar("T")


@overload
def metered_stream(
    stream: Generator[T, Any, Any], subject: str, *, pinned: bool = ..., **dimensions: str
) -> Generator[T, Any, Any]: ...
@overload
def metered_stream(
    stream: AsyncGenerator[T, Any], subject: str, *, pinned: bool = ..., **dimensions: str
) -> AsyncGenerator[T, Any]: ...
def metered_stream(stream: Any, subject: str, *, pinned: bool = False, **dimensions: str) -> Any:
    """Bill what is called inside of a generator to `subject`, and nothing outside of it.

    `with subject(…)` in a generator of your own would hold for whoever reads it, between two steps.
    Here the scope holds while the generator's own code runs. A call that has begun before, such as
    that of `llm.stream_chat()`, stays with who began it.

    Args:
        stream: A generator, or an async one.
        subject: Who pays.
        pinned: Nothing a request carries, such as `instrument_tags`, overrides it.
        **dimensions: Strings to group usage by.

    Returns:
        A generator of the same values.

    Raises:
        InvalidArgumentError: If it is no generator.
        SubjectError: If the subject or a dimension is not usable.
    """
    holds = scope(subject, pinned=pinned, **dimensions)
    with holds:
        hold(stream, current_scope())
    if inspect.isasyncgen(stream):

        async def read_on() -> AsyncGenerator[Any, Any]:
            async for value in stream:
                yield value

        return holds(read_on)()
    if inspect.isgenerator(stream):

        def read() -> Generator[Any, Any, Any]:
            return (yield from stream)

        return holds(read)()
    raise InvalidArgumentError(
        f"metered_stream() takes a generator, got {type(stream).__name__}; a stream of a provider's"
        " own client is metered by llm_metering.metered_stream()"
    )
