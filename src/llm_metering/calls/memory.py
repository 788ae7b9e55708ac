"""`SettledCalls`: what is remembered of calls that were settled, for what is still said of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from ..cloud_events import format_time
from .call import Call, Key
from .values import Outcome, Recorder, Report

__all__ = ["REMEMBERED", "SettledCalls"]

REMEMBERED: Final = 20_000
"""How many settled calls are remembered, to tell a late signal from an unknown call."""


# Without garbage collection: thousands are kept, and none can refer back to itself.
class _Past(msgspec.Struct, gc=False):
    """A settled call.

    Attributes:
        thread: The thread it was begun in.
        expected: How many ends each handler is still to be told of.
        unbilled: What the call was, if its event was made without the usage that the provider
            reports; `None` once there is nothing that could come late.
        is_closed: Whether nobody had told of its end.
    """

    thread: int
    expected: dict[str, int]
    unbilled: dict[str, str | int] | None
    is_closed: bool


class SettledCalls:
    """The latest calls that were settled, by key.

    Args:
        recorder: Where signals are counted, and usage that came too late is noted.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._past: dict[Key, _Past] = {}
        self._ended: deque[Key] = deque()
        # Apart: they are few, their ends may come hours later, and would be taken for new calls.
        self._closed: deque[Key] = deque()

    def __contains__(self, key: Key) -> bool:
        return key in self._past

    def forget(self, key: Key) -> None:
        """The key is that of another call now."""
        self._past.pop(key, None)

    def add(
        self,
        key: Key,
        call: Call,
        teller: str | None,
        *,
        is_billed: bool = True,
        is_closed: bool = False,
    ) -> None:
        """Remember a call.

        Args:
            key: Its key.
            call: It.
            teller: Who has told of its end, or was not to be waited for; `None` if nobody.
            is_billed: Whether its event has all that the provider reports.
            is_closed: Whether it was settled though nobody told of its end.
        """
        self.settled(key, self.leaving(key, call, teller, is_billed, is_closed=is_closed)[0])

    def leaving(
        self, key: Key, call: Call, teller: str | None, is_billed: bool, *, is_closed: bool
    ) -> tuple[_Past, _Past | None]:
        """Remember a call that this thread is about to settle, unless another one is faster.

        Returns:
            What is remembered, for `settled`, and what was before, for `put_back`.
        """
        expected = dict(call.told)
        if teller in expected:
            expected[teller] -= 1
        unbilled = None if is_billed else _described(call)
        before = self._past.get(key)
        past = self._past[key] = _Past(call.thread, expected, unbilled, is_closed)
        return past, before

    def settled(self, key: Key, past: _Past) -> None:
        """It is this thread that settled the call."""
        self._past[key] = past
        order = self._closed if past.is_closed else self._ended
        order.append(key)
        if len(order) > REMEMBERED:
            self._past.pop(order.popleft(), None)

    def put_back(self, key: Key, before: _Past | None) -> None:
        """Another thread settled it, or none does: what that remembers holds."""
        if before is not None:
            self._past[key] = before

    def thread_of(self, key: Key) -> int | None:
        """The thread that a settled call was begun in."""
        past = self._past.get(key)
        return None if past is None else past.thread

    def awaits(self, key: Key, teller: str) -> bool:
        """Whether a handler has yet to tell of the end of a call that another one told of."""
        past = self._past.get(key)
        if past is None or past.is_closed:
            return False
        return past.expected.get(teller, 0) > 0

    def tell(self, key: Key, outcome: Outcome, report: Report, teller: str, now: datetime) -> None:
        """An end was told of a call that is not in flight."""
        past = self._past.get(key)
        if past is None:
            self._recorder.count("ignored_signals", outcome)
            return
        self._note_late(past, report, now)
        awaited = past.expected.get(teller)
        if awaited:
            # Another handler that was told of the start is told of the end as well.
            past.expected[teller] = awaited - 1
        elif awaited == 0:
            self._recorder.count("ignored_signals", outcome)

    def _note_late(self, past: _Past, report: Report, now: datetime) -> None:
        usage = report.usage
        if past.unbilled is None or usage is None or report.cached:
            return
        unbilled, past.unbilled = past.unbilled, None
        counts: Mapping[str, int | None] = {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
        }
        reported = {name: count for name, count in counts.items() if count is not None}
        if report.model:
            unbilled["model"] = report.model
        self._recorder.note_late({**unbilled, "time": format_time(now), **reported})


def _described(call: Call) -> dict[str, str | int]:
    start = call.start
    described = {
        "id": call.event_id,
        "subject": call.attribution.subject,
        "run_id": start.run_id,
        "model": start.request_model,
    }
    return {name: value for name, value in described.items() if value is not None}
