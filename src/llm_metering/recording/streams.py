"""A stream of a provider's own client, metered while the application reads it."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Self

from ..calls import CallStart, CallTable
from ..errors import InvalidArgumentError
from .tally import Tally

__all__ = ["AsyncMeteredStream", "MeteredStream", "meter_stream"]


class _StandIn:
    """What the stand-ins of sync and async streams have in common."""

    def __init__(self, stream: Any, tally: Tally) -> None:
        self._stream = stream
        self._tally = tally
        self._closed = False

    def stands_for(self, stream: object) -> bool:
        """Whether it is this very stream that is metered here."""
        return self._tally.stream is stream

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {type(self._stream).__name__}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            # Ours, and not there yet: a copy is being made, or we are being taken apart.
            raise AttributeError(name)
        return getattr(self._stream, name)

    def __del__(self) -> None:
        # A stream that nobody closes and nobody finishes was left all the same.
        tally = self.__dict__.get("_tally")
        if tally is not None:
            tally.end("aborted")


class MeteredStream(_StandIn):
    """A stream that is read as before, and metered meanwhile.

    Iterate it, use it as a context manager, close it: all goes to the stream inside, and so do
    its other attributes. What is read past this object, by a method of the stream inside, is not seen.
    """

    def __init__(self, stream: Any, tally: Tally) -> None:
        super().__init__(stream, tally)
        self._iterator: Iterator[Any] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._closed:
            # What a closed stream has in its buffers would be read and not billed.
            raise StopIteration
        if self._iterator is None:
            self._iterator = iter(self._stream)
        try:
            chunk = next(self._iterator)
        except StopIteration:
            self._tally.end("completed")
            raise
        except BaseException as error:
            self._tally.fail(error)
            raise
        self._tally.feed(chunk)
        return chunk

    def __enter__(self) -> Self:
        enter = getattr(type(self._stream), "__enter__", None)
        if enter is not None:
            # A manager, such as that of Anthropic's `messages.stream`, asks the provider here, and
            # hands out the stream.
            try:
                self._entered, self._stream = self._stream, enter(self._stream)
            except BaseException as error:
                self._tally.fail(error)
                raise
            self._tally.stream = self._stream
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._closed = True
        self._tally.end("aborted")
        entered = self.__dict__.get("_entered")
        if entered is not None:
            return bool(entered.__exit__(kind, error, traceback))
        self.close()
        return None

    def close(self) -> None:
        """Stop reading; the call is billed for what is known of it."""
        self._closed = True
        self._tally.end("aborted")
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()


class AsyncMeteredStream(_StandIn):
    """`MeteredStream`, for `async for`."""

    def __init__(self, stream: Any, tally: Tally, *, owner: object = None) -> None:
        super().__init__(stream, tally)
        # It lives as long as it is read, since the end of it would be the end of the call.
        self._owner = owner
        self._iterator: AsyncIterator[Any] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._closed:
            raise StopAsyncIteration
        if self._iterator is None:
            self._iterator = aiter(self._stream)
        try:
            chunk = await anext(self._iterator)
        except StopAsyncIteration:
            self._tally.end("completed")
            raise
        except BaseException as error:
            self._tally.fail(error)
            raise
        self._tally.feed(chunk)
        return chunk

    async def __aenter__(self) -> Self:
        enter = getattr(type(self._stream), "__aenter__", None)
        if enter is not None:
            try:
                self._entered, self._stream = self._stream, await enter(self._stream)
            except BaseException as error:
                self._tally.fail(error)
                raise
            self._tally.stream = self._stream
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._closed = True
        self._tally.end("aborted")
        entered = self.__dict__.get("_entered")
        if entered is not None:
            return bool(await entered.__aexit__(kind, error, traceback))
        await self.aclose()
        return None

    async def aclose(self) -> None:
        """Stop reading; the call is billed for what is known of it."""
        self._closed = True
        self._tally.end("aborted")
        for name in ("aclose", "close"):
            close = getattr(self._stream, name, None)
            if close is not None:
                closing = close()
                if inspect.isawaitable(closing):
                    await closing
                return

    close = aclose


class EitherMeteredStream(MeteredStream):
    """`MeteredStream` of a stream that can be read in both ways, such as LiteLLM's."""

    def __aiter__(self) -> AsyncMeteredStream:
        return AsyncMeteredStream(self._stream, self._tally, owner=self)


# The stand-ins of streams, as long as somebody has them: a stream is metered once.
_stand_ins: weakref.WeakValueDictionary[int, MeteredStream | AsyncMeteredStream] = (
    weakref.WeakValueDictionary()
)


def meter_stream(
    stream: Any,
    *,
    calls: CallTable,
    start: CallStart,
    operation: str | None,
    note_failure: Callable[[str, Exception], None],
) -> MeteredStream | AsyncMeteredStream:
    """Wrap `stream`; see `Meter.metered_stream`.

    Raises:
        InvalidArgumentError: If it cannot be iterated.
    """
    kind = type(stream)
    if isinstance(stream, MeteredStream | AsyncMeteredStream):
        return stream
    known = _stand_ins.get(id(stream))
    if known is not None and known.stands_for(stream):
        return known
    if inspect.iscoroutine(stream):
        stream.close()
        raise InvalidArgumentError("await the stream first: metered_stream(await client.…)")
    if isinstance(stream, str | bytes | dict):
        raise InvalidArgumentError(
            f"a {kind.__name__} is no stream; use record() for a response, or hand over the stream"
            ' in it, such as response["stream"]'
        )
    is_async = hasattr(kind, "__aiter__") or hasattr(kind, "__aenter__")
    is_sync = hasattr(kind, "__iter__") or hasattr(kind, "__enter__")
    if not (is_async or is_sync):
        raise InvalidArgumentError(
            f"a stream is something to iterate, with `for` or `async for`, got {kind.__name__}"
        )
    tally = Tally(stream, calls, start, operation, note_failure)
    metered: MeteredStream | AsyncMeteredStream
    if not is_async:
        metered = MeteredStream(stream, tally)
    else:
        metered = (EitherMeteredStream if is_sync else AsyncMeteredStream)(stream, tally)
    _stand_ins[id(stream)] = metered
    return metered
