"""The end of a call: what LangChain hands over, what was seen before, and what a tap has read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from ..calls import RUN_ID_REUSED, Call, Key, Outcome, Report, answers_of
from ..meter import Meter
from .errors import report_of_error
from .results import report_of
from .seen import Seen
from .tapping import complete

if TYPE_CHECKING:
    from langchain_core.outputs import LLMResult

__all__ = ["read_end"]

_UNREAD: Final = Report(flags=("unknown_usage",))


def read_end(
    meter: Meter,
    hook: str,
    key: Key,
    call: Call | None,
    error: BaseException | None,
    response: LLMResult | None,
) -> tuple[Outcome, Report]:
    """How a call ended, and what is known of it; nothing here raises.

    The numbers are read here and now: LangChain's in-memory cache changes the very message objects
    when it answers a later call with them.

    Args:
        meter: Who counts what fails here: what we cannot read ends the call all the same.
        hook: Where, for `status`.
        key: The call.
        call: What is known of it; `None` if it is not in flight.
        error: What it raised, if it did.
        response: What it answered.
    """
    seen: Seen | None = None if call is None else call.start.kept
    # Chunks of two calls of one run id cannot be told apart, nor can their ends.
    chunks = None if call is None or RUN_ID_REUSED in call.flags else seen
    outcome: Outcome = "completed" if error is None else "failed"
    report = _UNREAD
    try:
        if error is None:
            report = report_of(response, chunks)
        else:
            outcome, report = report_of_error(error, response, chunks)
    except Exception as trouble:
        meter.note_failure(hook, trouble)
    if seen is not None and seen.tapped is not None:
        try:
            if chunks is None:
                seen.tapped.give_up()
            else:
                outcome, report = complete(seen.tapped, outcome, report)
        except Exception as trouble:
            meter.note_failure("taps", trouble)
    try:
        # Behind the tap, which knows the id of a streamed answer.
        if answers_of(meter.calls).is_repeated(key, report):
            report = replace(report, flags=(*report.flags, "repeated_answer"))
    except Exception as trouble:
        meter.note_failure(hook, trouble)
    return outcome, report
