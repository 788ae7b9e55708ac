"""The life of one LLM call, from its start to the one event that bills it; it knows no framework."""

from .outcomes import outcome_of
from .settling import counts_of, needs_counting
from .table import CallTable
from .values import (
    CallStart,
    CallState,
    Outcome,
    Recorder,
    Report,
    Tokenizer,
    date_of,
    interrupted_event,
    utc_now,
)

__all__ = [
    "CallStart",
    "CallState",
    "CallTable",
    "Outcome",
    "Recorder",
    "Report",
    "Tokenizer",
    "counts_of",
    "date_of",
    "interrupted_event",
    "needs_counting",
    "outcome_of",
    "utc_now",
]
