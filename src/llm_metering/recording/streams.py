"""A stream of a provider's own client, metered while the application reads it."""

from __future__ import annotations

import contextlib
import inspect
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self

from ..calls import CallStart, CallTable, Outcome, Report, outcome_of
from ..errors import InvalidArgumentError
from ..events import new_event_id
from ..extract import StreamReader, output, read
from ..extract.reading import Reading
from ..guard import Guard
from .records import report_of

__all__ = ["AsyncMeteredStream", "MeteredStream", "meter_stream"]

logger = logging.getLogger("llm_metering")

_hint_given = False


class _Tally:
    """One stream in the call table: begun once, ended once."""

    def __init__(
        self,
        stream: Any,
        calls: CallTable,
        start: CallStart,
        operation: str | None,
        note_failure: Callable[[str, Exception], None],
    ) -> None:
        self.stream = stream
        self._calls = calls
        self._key = f"stream-{new_event_id()}"
        self._operation = operation
        self._note_failure = note_failure
        self._reader = StreamReader()
        self._chunks = 0
        self._timed_out = False
        self.ended = False
        with self._guard():
            calls.start(self._key, replace(start, so_far=self._so_far))

    def _guard(self) -> Guard:
        return Guard("metered_stream", self._note_failure)

    def feed(self, chunk: object) -> None:
        with self._guard():
            self._chunks += 1
            self._timed_out = False
            self._reader.feed(chunk)
            self._calls.piece(self._key, None)

    def end(self, outcome: Outcome, reason: str = "") -> None:
        # Whoever is first says how it ended: what follows is only the way it is put away.
        if self.ended:
            return
        with self._guard():
            self._end("failed" if self._timed_out else outcome, reason)
            # Now, not before: an exception from a signal may have cut us short.
            self.ended = True

    def fail(self, error: BaseException) -> None:
        if getattr(self.stream, "gi_running", False):
            return  # another thread is reading it
        if isinstance(error, TimeoutError):
            self._timed_out = True  # the stream may go on; if it does not, that was its end
            return
        self.end(*outcome_of(error))

    def _end(self, outcome: Outcome, reason: str) -> None:
        reading = self._reading()
        report = self._report(reading)
        if outcome == "completed":
            outcome = "failed" if reading.ending == "failed" else outcome
            if reading.ending == "refused":
                outcome = "refused"
            elif not self._chunks:
                report = replace(report, is_countable=False, flags=(*report.flags, "empty_stream"))
            elif not self._reader.has_ended:
                report = replace(report, flags=(*report.flags, "unfinished_stream"))
        elif outcome == "aborted" and self._is_whole(reading):
            # All had arrived; the application only did not ask whether there was more.
            outcome = "completed"
        if outcome == "refused" and report.output():
            # What came before the error was generated, and is paid for.
            outcome = "failed"
        self._calls.end(self._key, outcome, replace(report, reason=reason or report.reason))
        if outcome == "completed" and report.is_countable and reading.usage is None:
            _give_hint(reading)

    def _so_far(self) -> Report:
        return self._report(self._reading())

    def _reading(self) -> Reading:
        if self._chunks:
            return self._reader.reading()
        snapshot = self._snapshot()
        return self._reader.reading() if snapshot is None else read(snapshot)

    def _report(self, reading: Reading) -> Report:
        snapshot = None if self._chunks else self._snapshot()
        report = report_of(
            reading,
            output=self._reader.output if snapshot is None else partial(output, snapshot),
        )
        return replace(report, operation=report.operation or self._operation)

    def _snapshot(self) -> object:
        """What the SDK's own helper has put together, where it was read past us."""
        # Anthropic's has it only once something was read, and raises before.
        with contextlib.suppress(Exception):
            return getattr(self.stream, "current_message_snapshot", None)
        return None

    def _is_whole(self, reading: Reading) -> bool:
        reported = reading.usage is not None and reading.is_final
        has_ended = self._reader.has_ended or not self._chunks
        return reported and has_ended and reading.ending == "completed"


class MeteredStream:
    """A stream that is read as before, and metered meanwhile.

    Iterate it, use it as a context manager, close it: all goes to the stream inside, and so do
    its other attributes. What is read past this object, by a method of the stream inside, is not seen.
    """

    def __init__(self, stream: Any, tally: _Tally) -> None:
        self._stream = stream
        self._tally = tally
        self._closed = False
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
        self._closed = False
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

    def __del__(self) -> None:
        tally = self.__dict__.get("_tally")
        if tally is not None:
            tally.end("aborted")


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
    if known is not None and known._tally.stream is stream:  # noqa: SLF001
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
    tally = _Tally(stream, calls, start, operation, note_failure)
    metered: MeteredStream | AsyncMeteredStream
    if not is_async:
        metered = MeteredStream(stream, tally)
    else:
        metered = (EitherMeteredStream if is_sync else AsyncMeteredStream)(stream, tally)
    _stand_ins[id(stream)] = metered
    return metered


def _give_hint(reading: Reading) -> None:
    global _hint_given
    if _hint_given or not reading.shape.startswith("openai"):
        return
    _hint_given = True
    logger.warning(
        "a stream of %s reported no usage, so its tokens are estimated; "
        'OpenAI and compatible servers report it with stream_options={"include_usage": True}',
        reading.provider or "an unknown provider",
    )
