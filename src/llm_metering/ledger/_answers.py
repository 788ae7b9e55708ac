"""Rows of a report, made of the rows of a statement."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Final, TypeAlias

from ..errors import QueryError
from ..meters import UsageQuery, UsageRow, Value
from ._windows import MINUTE, Windows, moment_of

__all__ = ["Group", "plain", "rows_of", "value_of"]

Group: TypeAlias = tuple[Any, ...]
"""A group of a question as tables have it: the number of its window, its subject, the texts of its
keys (`''` where there is none), the times of its first and its last event, its value."""

_HALF: Final = 1 << 32


def rows_of(query: UsageQuery, windows: Windows, groups: Iterable[Group]) -> tuple[UsageRow, ...]:
    """The rows of a report.

    Args:
        query: The question.
        windows: Its windows.
        groups: In order.
    """
    if query.window is None:
        return _of_the_period(query, groups)
    bounds, keys = windows.bounds, query.keys
    if not keys:
        # The most rows by far that anybody asks for are those of every subject and day.
        return tuple(
            [
                UsageRow(
                    value=value,
                    window_start=(window := bounds[slot])[0],
                    window_end=window[1],
                    subject=subject,
                )
                for slot, subject, _, _, value in groups
            ]
        )
    return tuple(
        [
            UsageRow(
                value=group[-1],
                window_start=(window := bounds[group[0]])[0],
                window_end=window[1],
                subject=group[1],
                group_by=_named(keys, group),
            )
            for group in groups
        ]
    )


def _of_the_period(query: UsageQuery, groups: Iterable[Group]) -> tuple[UsageRow, ...]:
    keys = query.keys
    rows = [
        UsageRow(
            value=group[-1],
            # As far as the period was named; else from the minute of the first event to the end of
            # that of the last, as OpenMeter has it.
            window_start=query.start or moment_of(group[-3] - group[-3] % MINUTE),
            window_end=query.end or moment_of(group[-2] - group[-2] % MINUTE + MINUTE),
            subject=group[1],
            group_by=_named(keys, group),
        )
        for group in groups
        if group[-1] is not None
    ]
    if query.start is None:
        rows.sort(key=_order)
    return tuple(rows)


def _named(keys: tuple[str, ...], group: Group) -> dict[str, str | None]:
    return {key: group[place] or None for place, key in enumerate(keys, 2)}


def _order(row: UsageRow) -> tuple[Any, ...]:
    texts = (row.subject, *row.group_by.values())
    return row.window_start, [(text is not None, text or "") for text in texts]


def value_of(query: UsageQuery, parts: tuple[Any, ...]) -> Value:
    """A group's value, of what `_from_events.select` made of it."""
    if query.meter.aggregation in ("SUM", "AVG"):
        high, low, others, count = parts
        total = Fraction((high or 0) * _HALF + (low or 0))
        if not math.isfinite(others):
            raise QueryError(f"a sum of {query.meter.slug} is beyond what a float can hold")
        total += Fraction(others)
        return plain(total if query.meter.aggregation == "SUM" else float(total / count))
    return plain(parts[0])


def plain(value: Value | Fraction) -> Value:
    """A whole number as an `int`, any other as a `float`."""
    if isinstance(value, int):
        return value
    if isinstance(value, Fraction) and value.denominator == 1:
        return value.numerator
    number = float(value)
    return int(number) if number.is_integer() else number
