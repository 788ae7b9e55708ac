"""Meters, the questions one can ask them, and the answers.

A meter aggregates one property of one event type, as OpenMeter defines it, and an answer is
OpenMeter's meter query result, so that a ledger and an OpenMeter server can be asked alike.
Source: `Meter`, `MeterQueryResult` and `MeterQueryRow` of OpenMeter's API,
https://github.com/openmeterio/openmeter/blob/main/api/openapi.yaml.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, assert_never, get_args

from .errors import QueryError
from .events import EVENT_TYPE

__all__ = [
    "METERS",
    "Aggregation",
    "MeterDefinition",
    "UsageQuery",
    "UsageReport",
    "UsageRow",
    "Window",
    "read_moment",
    "usage_query",
    "window_end",
]

Aggregation = Literal["SUM"]
"""How a meter makes one value of many events; OpenMeter knows more, the built-in meters only sum."""

Window = Literal["MINUTE", "HOUR", "DAY", "MONTH"]
"""The size of a tumbling window, in UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterDefinition:
    """What a meter counts.

    Attributes:
        slug: Its name, as `usage(meter=…)` and OpenMeter's API take it.
        value_property: JSONPath in the event's `data` of the number it aggregates.
        description: One line for people.
        event_type: The CloudEvents `type` it looks at; it ignores all others.
        aggregation: What it does with the numbers.
    """

    slug: str
    value_property: str
    description: str
    event_type: str = EVENT_TYPE
    aggregation: Aggregation = "SUM"


METERS: Final[Mapping[str, MeterDefinition]] = {
    slug: MeterDefinition(slug=slug, value_property=value_property, description=description)
    for slug, value_property, description in (
        ("tokens_total", "$.total_tokens", "Input and output tokens"),
        ("tokens_input", "$.input_tokens", "Prompt tokens, those read from a cache included"),
        ("tokens_output", "$.output_tokens", "Generated tokens, reasoning included"),
        (
            "tokens_cached",
            "$.cache_read_input_tokens",
            "Prompt tokens read from the provider's cache, part of tokens_input",
        ),
        (
            "tokens_reasoning",
            "$.reasoning_output_tokens",
            "Tokens spent on reasoning, part of tokens_output",
        ),
        # A sum, not a count: a retried batch or another kind of event is no call.
        ("calls_total", "$.calls", "LLM calls"),
    )
}
"""The built-in meters by slug."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """A question about usage that was found to make sense; `usage_query` makes it.

    Attributes:
        meter: What is counted.
        subjects: Only these, or everybody's.
        window: One row per window, or one for the whole period.
        start: First moment that counts, in UTC; the beginning of time if absent.
        end: First moment after `start` that no longer counts, in UTC; never if absent.
        group_by: Keys to have one row per value for, in the order asked for.
    """

    meter: MeterDefinition
    subjects: tuple[str, ...] | None = None
    window: Window | None = None
    start: datetime | None = None
    end: datetime | None = None
    group_by: tuple[str, ...] = ()

    @property
    def by_subject(self) -> bool:
        """Whether each row names its subject, as it does where subjects were chosen."""
        return self.subjects is not None or "subject" in self.group_by


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """Usage of one window and group.

    Attributes:
        value: Tokens or calls; what nobody knows adds nothing to it.
        window_start: When the window starts, in UTC.
        window_end: When it ends; the first moment that is no longer in it.
        subject: Who pays, if the question told subjects apart.
        group_by: The value of each key that was asked for; `None` where an event had none.
    """

    value: int
    window_start: datetime
    window_end: datetime
    subject: str | None = None
    group_by: Mapping[str, str | None] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The row as OpenMeter's API writes it."""
        return {
            "value": self.value,
            "windowStart": _rfc3339(self.window_start),
            "windowEnd": _rfc3339(self.window_end),
            "subject": self.subject,
            "groupBy": dict(self.group_by),
        }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class UsageReport:
    """The answer to a question about usage: rows by time, then subject, then group.

    Windows without an event have no row.

    Attributes:
        query: The question.
        rows: The answer.
    """

    query: UsageQuery
    rows: tuple[UsageRow, ...] = ()

    def __iter__(self) -> Iterator[UsageRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"<UsageReport {self.query.meter.slug} rows={len(self.rows)} total={self.total}>"

    @property
    def total(self) -> int:
        """The sum over all rows."""
        return sum(row.value for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The report as OpenMeter's API writes a meter query result; what was not asked is absent."""
        query = self.query
        head = {
            "from": query.start and _rfc3339(query.start),
            "to": query.end and _rfc3339(query.end),
            "windowSize": query.window,
        }
        known = {key: value for key, value in head.items() if value is not None}
        return {**known, "data": [row.to_dict() for row in self.rows]}

    def to_json(self, *, indent: int | None = None) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=indent)


def usage_query(
    meter: str = "tokens_total",
    *,
    subject: str | Iterable[str] | None = None,
    window: str | None = None,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    group_by: str | Iterable[str] = (),
    time_zone: str = "UTC",
) -> UsageQuery:
    """Check a question about usage.

    >>> usage_query("tokens_input", window="HOUR", start="2026-11-21T00:00:00Z").start
    datetime.datetime(2026, 11, 21, 0, 0, tzinfo=datetime.timezone.utc)

    Args:
        meter: Slug of a built-in meter.
        subject: One or several subjects; all of them if absent.
        window: `MINUTE`, `HOUR`, `DAY` or `MONTH`; one row for the whole period if absent.
        start: First moment that counts: an aware datetime, or ISO 8601 with an offset.
        end: First moment that no longer counts.
        group_by: `subject`, `model`, `provider`, `provenance`, `status`, `type`, a dimension,
            or any other key of the events' `data`.
        time_zone: Where days and months begin; only UTC for now.

    Raises:
        QueryError: Naming the parameter and what it may be.
    """
    if meter not in METERS:
        raise QueryError(f"unknown meter {meter!r}; there are {', '.join(METERS)}")
    if time_zone != "UTC":
        raise QueryError(f"time_zone {time_zone!r} is not supported; windows are in UTC")
    query = UsageQuery(
        meter=METERS[meter],
        subjects=None if subject is None else _names("subject", subject),
        window=_window(window),
        start=read_moment("start", start),
        end=read_moment("end", end),
        group_by=_names("group_by", group_by),
    )
    if query.subjects == ():
        raise QueryError("subject is an empty list; leave it out to ask for every subject")
    if query.start and query.end and query.start >= query.end:
        raise QueryError(
            f"start ({_rfc3339(query.start)}) must be before end ({_rfc3339(query.end)})"
        )
    return query


def window_end(start: datetime, window: Window) -> datetime:
    """When the window that starts at `start` ends.

    >>> window_end(datetime(2026, 12, 1, tzinfo=UTC), "MONTH")
    datetime.datetime(2027, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)
    """
    if window == "MINUTE":
        return start + timedelta(minutes=1)
    if window == "HOUR":
        return start + timedelta(hours=1)
    if window == "DAY":
        return start + timedelta(days=1)
    if window == "MONTH":
        year, month_before = divmod(start.year * 12 + start.month, 12)
        return start.replace(year=year, month=month_before + 1)
    assert_never(window)


def _window(window: str | None) -> Window | None:
    if window is None:
        return None
    for known in get_args(Window):
        if window == known:
            return known  # type: ignore[no-any-return]  # get_args forgets the literals
    raise QueryError(f"unknown window {window!r}; there are {', '.join(get_args(Window))}")


def _names(parameter: str, names: str | Iterable[str]) -> tuple[str, ...]:
    listed = (names,) if isinstance(names, str) else tuple(names)
    for name in listed:
        if not isinstance(name, str) or not name:
            raise QueryError(f"{parameter} takes non-empty strings, got {name!r}")
    return tuple(dict.fromkeys(listed))


def read_moment(parameter: str, moment: datetime | str | None) -> datetime | None:
    """A moment in UTC; one without a time zone is refused.

    >>> read_moment("start", "2026-11-21T01:00:00+01:00")
    datetime.datetime(2026, 11, 21, 0, 0, tzinfo=datetime.timezone.utc)

    Args:
        parameter: How to call it in an error.
        moment: An aware datetime, or ISO 8601 with an offset; `None` stays so.

    Raises:
        QueryError: If it is neither.
    """
    if moment is None:
        return None
    example = "write it like 2026-11-21T00:00:00Z"
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            raise QueryError(f"{parameter} {moment!r} is no ISO 8601 time; {example}") from None
    if not isinstance(moment, datetime):
        raise QueryError(f"{parameter} is a datetime or an ISO 8601 string, got {moment!r}")
    if moment.tzinfo is None:
        # Guessing the machine's zone would move a bill by hours when the machine moves.
        raise QueryError(f"{parameter} {moment.isoformat()} names no time zone; {example}")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise QueryError(f"{parameter} {moment.isoformat()} lies beyond the calendar") from None


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"
