"""What files of usage hold, once they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

__all__ = ["EventsFile", "Line", "Shape", "UsageFile", "UsageRow"]

Shape = Literal["cloudevents", "openai", "anthropic"]
"""What is in a file: CloudEvents, or usage as a provider exports it."""


class Line(NamedTuple):
    """One CloudEvent of a file, not looked into yet.

    Attributes:
        place: The number of its line, or of the event in the file's list.
        payload: The event.
    """

    place: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsFile:
    """A file of CloudEvents.

    Attributes:
        lines: They, as they are read.
        place: What their places count.
    """

    lines: Iterator[Line]
    place: Literal["line", "event"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """What a provider says was used in one bucket of time, under one value of each key.

    Attributes:
        where: Where it stands in the file, as a person finds it.
        bucket: The number of the bucket in the file; of a table, where each row names its own, 0.
        start: The first moment of the bucket.
        end: The first moment after it.
        keys: What tells it from other rows of its bucket.
        counts: The numbers, by their key in an event's `data`.
        is_consistent: Whether the numbers agree with each other.
    """

    where: str
    bucket: int
    start: datetime
    end: datetime
    keys: Mapping[str, str]
    counts: Mapping[str, int]
    is_consistent: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageFile:
    """A file of a provider's usage.

    Attributes:
        provider: Its name, as events have it.
        kind: What was exported, such as `openai.completions`; part of the events' ids.
        operation: The events' operation, where the file says it.
        subject_keys: The keys that may say who pays.
        rows: The rows that count something.
        empty: How many rows count nothing.
        ignored: Names of what was passed over: it counts nothing.
        has_more: Whether the file says that there are pages behind it.
    """

    provider: Literal["openai", "anthropic"]
    kind: str
    operation: str | None
    subject_keys: tuple[str, ...]
    rows: Iterable[UsageRow]
    empty: int = 0
    ignored: tuple[str, ...] = field(default=())
    has_more: bool = False
