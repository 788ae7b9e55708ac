"""The rows of a server's answers as those of a report.

Sources: `MeterQueryRow` of `api/openapi.yaml` (v1) and `api/v3/openapi.yaml`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c. v1's values
are JSON numbers and v3's decimals in a text; both are made of a float64, so a whole number is exact
up to 2^53.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from ..meters import UsageQuery, UsageRow, Value, time_zone_of, window_bounds
from .questions import JOINED

__all__ = ["in_order", "read_rows"]

_Place = tuple[datetime | None, str | None, tuple[str | None, ...]]


def read_rows(
    listed: Iterable[Any], query: UsageQuery, choose: Mapping[str, frozenset[str]]
) -> list[UsageRow]:
    """Rows of v1 or v3; of those that differ in keys that nobody asked to see, one is made.

    Args:
        listed: What the server sent.
        query: The question.
        choose: By key, what an event may have of it.

    Raises:
        ValueError: If they are in no known form; also `KeyError`, `TypeError`, `ArithmeticError`.
    """
    found: dict[_Place, UsageRow] = {}
    for each in listed:
        row, groups = _read(each, query)
        if _is_of_nothing(row, query) or any(
            (groups[key] or "") not in wanted for key, wanted in choose.items()
        ):
            continue
        place = _place(row, query)
        if place in found:
            row = _joined(found[place], row, query)
        found[place] = row
    return list(found.values())


def in_order(rows: Iterable[UsageRow]) -> tuple[UsageRow, ...]:
    """Rows as the ledger has them: by time, subject and keys, what is missing first."""

    def order(row: UsageRow) -> tuple[datetime, list[tuple[bool, str]]]:
        texts = (row.subject, *row.group_by.values())
        return row.window_start, [(text is not None, text or "") for text in texts]

    return tuple(sorted(rows, key=order))


def _read(
    listed: Mapping[str, Any], query: UsageQuery
) -> tuple[UsageRow, Mapping[str, str | None]]:
    if "dimensions" in listed:
        groups = listed["dimensions"]
        names, subject = ("from", "to"), groups.get("subject")
    else:
        groups = listed["groupBy"]
        names, subject = ("windowStart", "windowEnd"), listed["subject"]
    start, end = (datetime.fromisoformat(listed[name]).astimezone(UTC) for name in names)
    if query.window:
        start, end = _window(query, start, end)
    if query.by_subject and not isinstance(subject, str):
        raise ValueError("a row without its subject")
    texts = {key: text or None for key, text in groups.items()}
    row = UsageRow(
        value=_value(listed["value"]),
        window_start=start,
        window_end=end,
        subject=subject if query.by_subject else None,
        group_by={key: texts[key] for key in query.keys},
    )
    return row, texts


def _window(query: UsageQuery, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    # ClickHouse says of the day before one without a midnight, and of that one, that they end an
    # hour off, although it counts in them what is in them.
    if query.window is None or query.window != "DAY":
        return start, end
    ours = window_bounds(start, query.window, time_zone_of(query.time_zone))
    return ours if ours[0] == start else (start, end)


def _value(written: float | str) -> Value:
    number = Decimal(written) if isinstance(written, str) else written
    if isinstance(number, bool) or not isinstance(number, int | float | Decimal):
        raise TypeError("a value that is no number")
    return int(number) if number == int(number) else float(number)


def _is_of_nothing(row: UsageRow, query: UsageQuery) -> bool:
    """Whether it is the row with which SQL answers a count of no events."""
    whole = not (query.window or query.by_subject or query.keys)
    return not row.value and whole and query.meter.aggregation in ("COUNT", "UNIQUE_COUNT")


def _place(row: UsageRow, query: UsageQuery) -> _Place:
    # Without windows, those of the rows are how far their events reach.
    window = row.window_start if query.window else None
    return window, row.subject, tuple(row.group_by[key] for key in query.keys)


def _joined(one: UsageRow, other: UsageRow, query: UsageQuery) -> UsageRow:
    value = JOINED[query.meter.aggregation](one.value, other.value)
    return msgspec.structs.replace(one, value=value)
