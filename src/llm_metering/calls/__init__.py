"""The life of one LLM call, from its start to the one event that bills it; it knows no framework."""

from .call import Call, Key
from .closing import Waits
from .outcomes import outcome_of
from .owners import current_task, owner_is_over
from .repeats import answers_of
from .reused import RUN_ID_REUSED
from .settling import counts_of, needs_counting
from .table import CallTable
from .values import (
    CallStart,
    CallState,
    Outcome,
    Recorder,
    Report,
    Reserved,
    Tokenizer,
    date_of,
    interrupted_event,
    utc_now,
)

__all__ = [
    "RUN_ID_REUSED",
    "Call",
    "CallStart",
    "CallState",
    "CallTable",
    "Key",
    "Outcome",
    "Recorder",
    "Report",
    "Reserved",
    "Tokenizer",
    "Waits",
    "answers_of",
    "counts_of",
    "current_task",
    "date_of",
    "interrupted_event",
    "needs_counting",
    "outcome_of",
    "owner_is_over",
    "utc_now",
]
