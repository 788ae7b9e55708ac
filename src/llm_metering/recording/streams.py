"""A stream of a provider's own client, metered while the application reads it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Self

from ..calls import CallStart, CallTable, Outcome, outcome_of
from ..errors import InvalidArgumentError
from ..events import new_event_id
from ..extract import StreamReader
from ..extract.reading import Reading
from ..guard import Guard
from .records import report_of

__all__ = ["AsyncMeteredStream", "MeteredStream", "meter_stream"]

logger = logging.getLogger("llm_metering")

_hint_given = False


class _Tally:
    """One stream in the call table: begun once, ended once."""

    def __init__(
        self, calls: CallTable, start: CallStart, note_failure: Callable[[str, Exception], None]
    ) -> None:
        self._calls = calls
        self._key = f"stream-{new_event_id()}"
        self._note_failure = note_failure
        self._reader = StreamReader()
        self.ended = False
        with self._guard():
            calls.start(self._key, start)

    def _guard(self) -> Guard:
        return Guard("metered_stream", self._note_failure)

    def feed(self, chunk: object) -> None:
        with self._guard():
            self._reader.feed(chunk)
            self._calls.piece(self._key, None)

    def end(self, outcome: Outcome, reason: str = "") -> None:
        # Whoever is first says how it ended: what follows is only the way it is put away.
        if self.ended:
            return
        self.ended = True
        with self._guard():
            reading = self._reader.reading()
            if outcome == "completed":
                outcome = reading.ending
            elif outcome == "aborted" and self._is_whole(reading):
                # All had arrived; the application only did not ask whether there was more.
                outcome = "completed"
            if outcome == "refused" and self._reader.output():
                # What came before the error was generated, and is paid for.
                outcome = "failed"
            report = report_of(reading, output=self._reader.output, reason=reason)
            self._calls.end(self._key, outcome, report)
            if outcome == "completed" and reading.usage is None:
                _give_hint(reading.provider)

    def _is_whole(self, reading: Reading) -> bool:
        reported = reading.usage is not None and reading.is_final
        return reported and self._reader.has_ended and reading.ending == "completed"

    def fail(self, error: BaseException) -> None:
        self.end(*outcome_of(error))


class MeteredStream:
    """A stream that is read as before, and metered meanwhile.

    Iterate it, use it as a context manager, close it: all goes to the stream inside, and so do
    its other attributes. What is read past this object, by a method of the stream inside, is not seen.
    """

    def __init__(self, stream: Any, tally: _Tally) -> None:
        self._stream = stream
        self._tally = tally
        self._iterator: Iterator[Any] | None = None

    def __repr__(self) -> str:
        return f"<MeteredStream of {type(self._stream).__name__}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            # Ours, and not there yet: a copy is being made, or we are being taken apart.
            raise AttributeError(name)
        return getattr(self._stream, name)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._tally.ended:
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
            # A manager, such as that of Anthropic's `messages.stream`, hands out the stream here.
            self._entered, self._stream = self._stream, enter(self._stream)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._tally.end("aborted")
        entered = self.__dict__.get("_entered")
        if entered is not None:
            return bool(entered.__exit__(kind, error, traceback))
        self.close()
        return None

    def close(self) -> None:
        """Stop reading; the call is billed for what is known of it."""
        self._tally.end("aborted")
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()

    def __del__(self) -> None:
        # A stream that nobody closes and nobody finishes was left all the same.
        tally = self.__dict__.get("_tally")
        if tally is not None:
            tally.end("aborted")


class AsyncMeteredStream:
    """`MeteredStream`, for `async for`."""

    def __init__(self, stream: Any, tally: _Tally, *, owner: object = None) -> None:
        self._stream = stream
        self._tally = tally
        # It lives as long as it is read, since the end of it would be the end of the call.
        self._owner = owner
        self._iterator: AsyncIterator[Any] | None = None

    def __repr__(self) -> str:
        return f"<AsyncMeteredStream of {type(self._stream).__name__}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            # Ours, and not there yet: a copy is being made, or we are being taken apart.
            raise AttributeError(name)
        return getattr(self._stream, name)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._tally.ended:
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
            self._entered, self._stream = self._stream, await enter(self._stream)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._tally.end("aborted")
        entered = self.__dict__.get("_entered")
        if entered is not None:
            return bool(await entered.__aexit__(kind, error, traceback))
        await self.aclose()
        return None

    async def aclose(self) -> None:
        """Stop reading; the call is billed for what is known of it."""
        self._tally.end("aborted")
        for name in ("aclose", "close"):
            close = getattr(self._stream, name, None)
            if close is not None:
                closing = close()
                if inspect.isawaitable(closing):
                    await closing
                return

    close = aclose

    def __del__(self) -> None:
        tally = self.__dict__.get("_tally")
        if tally is not None:
            tally.end("aborted")


class EitherMeteredStream(MeteredStream):
    """`MeteredStream` of a stream that can be read in both ways, such as LiteLLM's."""

    def __aiter__(self) -> AsyncMeteredStream:
        return AsyncMeteredStream(self._stream, self._tally, owner=self)


def meter_stream(
    stream: Any,
    *,
    calls: CallTable,
    start: CallStart,
    note_failure: Callable[[str, Exception], None],
) -> MeteredStream | AsyncMeteredStream:
    """Wrap `stream`; see `Meter.metered_stream`.

    Raises:
        InvalidArgumentError: If it cannot be iterated.
    """
    kind = type(stream)
    if inspect.iscoroutine(stream):
        stream.close()
        raise InvalidArgumentError("await the stream first: metered_stream(await client.…)")
    if isinstance(stream, str | bytes | dict):
        raise InvalidArgumentError(f"a {kind.__name__} is no stream; use record() for it")
    is_async = hasattr(kind, "__aiter__") or hasattr(kind, "__aenter__")
    is_sync = hasattr(kind, "__iter__") or hasattr(kind, "__enter__")
    if not (is_async or is_sync):
        raise InvalidArgumentError(
            f"a stream is something to iterate, with `for` or `async for`, got {kind.__name__}"
        )
    tally = _Tally(calls, start, note_failure)
    if not is_async:
        return MeteredStream(stream, tally)
    return EitherMeteredStream(stream, tally) if is_sync else AsyncMeteredStream(stream, tally)


def _give_hint(provider: str | None) -> None:
    global _hint_given
    if _hint_given:
        return
    _hint_given = True
    logger.warning(
        "a stream of %s reported no usage, so its tokens are estimated; "
        'OpenAI and compatible servers report it with stream_options={"include_usage": True}',
        provider or "an unknown provider",
    )
