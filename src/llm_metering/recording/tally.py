"""`Tally`: what a stream has said of its call, told to the call table once it is over."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec.structs import replace

from ..calls import CallStart, CallTable, Outcome, Report, outcome_of
from ..events import new_event_id
from ..extract import StreamReader, output, read
from ..extract.reading import Reading
from ..guard import Guard
from .records import report_of

__all__ = ["Tally"]

logger = logging.getLogger("llm_metering")

_hint_given = False


class Tally:
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
