"""`Batch`: calls that LangChain begins together.

`generate` with several prompts is one run a prompt (langchain-core 1.7.2). What the runs have in
common is the very object of their parameters, and its starts all come before anything is sent.

Completion models may send all prompts in one request, whose usage stands in the first run's
result; the others get an empty one (`outputs/llm_result.py`, `LLMResult.flatten`), or all of
them the same error (`language_models/llms.py`, `_generate_helper`).

Chat models send one request a prompt. Where one fails, a sync `generate` tells neither of those
that were answered before nor of those that are never sent (`language_models/chat_models.py`).
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from msgspec.structs import replace

from ..calls import CallTable, Key, Outcome, Report
from .seen import Seen

__all__ = ["Batch", "End", "batch_of", "end_in_batch"]

Role = Literal["alone", "first", "member"]


class End(NamedTuple):
    """The end of a call, as the handler is told of it.

    Attributes:
        key: The call.
        outcome: How it ended.
        report: What was read from its result.
        error: What it raised; `None` for one that answered.
        output: The `llm_output` of its result.
    """

    key: Key
    outcome: Outcome
    report: Report
    error: BaseException | None
    output: object


class Batch:
    """Calls that were begun together.

    Attributes:
        size: How many they are.
        keys: Those we were told of, in the order they were begun in.
        first: The call that the one request of all of them is billed as, once that is known.
    """

    __slots__ = ("__weakref__", "_error", "_parameters", "first", "keys", "size")

    def __init__(self, parameters: object, size: int) -> None:
        # Held, so that nothing else has its identity while this batch lasts.
        self._parameters = parameters
        self._error: BaseException | None = None
        self.size = size
        self.keys: dict[Key, None] = {}
        self.first: Key | None = None

    def role_of(self, end: End) -> Role:
        """What the end of a completion is to the batch."""
        if end.error is not None:
            return self._role_of_error(end.key, end.error)
        usage = end.output.get("token_usage") if isinstance(end.output, Mapping) else None
        if not isinstance(usage, Mapping):
            return "alone"
        if usage and end.report.usage is not None and self.first in (None, end.key):
            self.first = end.key
            return "first"
        is_left_out = not usage and end.report.usage is None
        return "member" if is_left_out and self.first not in (None, end.key) else "alone"

    def _role_of_error(self, key: Key, error: BaseException) -> Role:
        if self._error is None:
            self._error, self.first = error, key
        if self._error is not error:
            return "alone"
        return "first" if self.first == key else "member"

    def others(self, key: Key) -> tuple[list[Key], list[Key]]:
        """The calls that were begun before this one, and those begun after it."""
        keys = list(self.keys)
        place = keys.index(key) if key in self.keys else len(keys)
        return keys[:place], keys[place + 1 :]


_batches: Final[weakref.WeakValueDictionary[int, Batch]] = weakref.WeakValueDictionary()
"""By the identity of their parameters; a batch lasts as long as one of its calls is in flight."""


def batch_of(key: Key, parameters: object, size: object) -> Batch | None:
    """The batch that a call is begun in; `None` if it is begun alone."""
    if type(size) is not int or size < 2 or parameters is None:
        return None
    batch = _batches.get(id(parameters))
    if batch is None:
        batch = _batches[id(parameters)] = Batch(parameters, size)
    batch.keys[key] = None
    return batch


def end_in_batch(calls: CallTable, batch: Batch, operation: str, end: End, *, teller: str) -> None:
    """Settle a call that was begun with others, and those that nobody will tell of."""
    if operation == "text_completion":
        role = batch.role_of(end)
        if role == "member":
            calls.end(end.key, "completed", Report(left_out="in_one_request"), teller=teller)
            return
        if role == "first":
            end = end._replace(report=_report_of_all(calls, batch, end.report))
    calls.end(end.key, end.outcome, end.report, teller=teller)
    if operation == "chat" and end.error is not None:
        _close_siblings(calls, batch, end.key)


def _report_of_all(calls: CallTable, batch: Batch, report: Report) -> Report:
    members = [calls.get(key) for key in batch.keys]
    payers = {call.attribution.subject for call in members if call is not None}
    # Whom a run pays for that we were not told of, nobody can say.
    is_shared = len(payers) > 1 or len(batch.keys) < batch.size
    flags = (*report.flags, "shared_request") if is_shared else report.flags
    return replace(report, batch_size=batch.size, flags=flags)


def _is_in_event_loop() -> bool:
    """Whether the ends of the other calls may follow: an async `generate` runs all of them."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _close_siblings(calls: CallTable, batch: Batch, key: Key) -> None:
    before, after = batch.others(key)
    if _is_in_event_loop():
        # They do not follow where a child was cancelled (`agenerate` stumbles over it): the table
        # waits for them no longer than for any call that was left.
        for each in (*before, *after):
            if (call := calls.get(each)) is not None:
                calls.leave(each, call)
        return
    for each in before:
        call = calls.get(each)
        if call is not None:
            # It was answered, and the answer is lost.
            seen: Seen = call.start.kept
            report = seen.report()
            report = replace(report, flags=(*report.flags, "sibling_failed"))
            calls.end(each, "failed", report, teller=call.start.teller)
    for each in after:
        if (call := calls.get(each)) is not None:
            never_sent = Report(left_out="never_sent")
            calls.end(each, "completed", never_sent, teller=call.start.teller)
