"""Usage that was reported for a call after its event had been made: noted, summed, listed.

It is no event: the call has one already, and an id is never used for a second truth. What was
reported is counted by subject, in sums that stay as long as the home does. The calls themselves can
be listed for as long as the segments are kept that hold their notes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from .counters import locked_counters
from .frames import Kind, parse_frames
from .kept import kept_segments
from .records import Record, count_note
from .segment_counts import count_segment
from .spool import Spool

__all__ = ["LATE_NOTES", "LateCall", "late_by_subject", "late_calls", "late_notes"]

_CALLS: Final = "late_usage"
LATE_NOTES: Final[Mapping[str, str]] = {
    _CALLS: "calls",
    "late_input_tokens": "input_tokens",
    "late_output_tokens": "output_tokens",
}
"""The counted notes, each by subject, and what they count."""


class LateCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call whose usage came after its event.

    Attributes:
        id: Of its event.
        subject: Who pays.
        time: When the usage came.
        run_id: The framework's name for the call.
        model: The model that answered, else the one asked for.
        input_tokens: As reported.
        output_tokens: As reported.
    """

    id: str
    subject: str
    time: str
    run_id: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Note(msgspec.Struct):
    name: str
    detail: LateCall


_notes: Final = msgspec.json.Decoder(_Note)


def late_notes(usage: Mapping[str, str | int]) -> list[Record]:
    """The records that count late usage; the first of them holds what it is."""
    subject = str(usage["subject"])
    notes = [count_note(_CALLS, subject, 1, detail=usage)]
    for name, what in LATE_NOTES.items():
        amount = usage.get(what)
        if isinstance(amount, int):
            notes.append(count_note(name, subject, amount))
    return notes


def late_by_subject(spool: Spool) -> list[dict[str, Any]]:
    """How much usage came too late to be billed, by subject; the sums of all time."""
    with locked_counters(spool, exclusive=False) as total:
        folded = set(total.folded)
        for name in spool.segments():
            counts = None if str(name) in folded else count_segment(spool, name)
            if counts is not None:
                total.add(counts)
    by_name = {what: total.counts.get(name, {}) for name, what in LATE_NOTES.items()}
    return [
        {"subject": subject, **{what: by_name[what].get(subject, 0) for what in by_name}}
        for subject in sorted(by_name["calls"])
    ]


def late_calls(spool: Spool) -> list[LateCall]:
    """The calls that late usage came for, as far as the segments are there, the earliest first."""
    # Both: a segment that is moved meanwhile is in one of them.
    paths = [spool.segment_path(name) for name in spool.segments()]
    paths += [spool.kept_path(name) for name in kept_segments(spool)]
    found = {call.id: call for path in paths for call in _calls_in(path)}
    return sorted(found.values(), key=lambda call: (call.time, call.id))


def _calls_in(path: Path) -> list[LateCall]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    calls = []
    for frame in parse_frames(content).frames:
        if frame.kind == Kind.COUNT and _CALLS.encode() in frame.payload:
            try:
                calls.append(_notes.decode(frame.payload).detail)
            except (ValueError, RecursionError):
                continue  # another note, with such a key
    return calls
