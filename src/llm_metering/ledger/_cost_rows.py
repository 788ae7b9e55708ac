"""Which rows of `costs` are those of a period, of a version of prices, or in no sum yet."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from ._cost_sums import places_of
from ._from_events import stretches
from ._lookups import Parameters
from ._rows import microseconds
from ._windows import moment_of

__all__ = ["Range", "cover", "holding", "period_of", "rows_behind", "rows_from"]

Range = tuple[int, int | None, int | None]
"""1 or -1, for what is added or taken away; the first microsecond, and the first that is no longer in it."""

_ALWAYS: Final = 1 << 62


def holding(version: int | None, prefix: str = "") -> str:
    """The SQL of which rows hold, now or in a version."""
    if version is None:
        return f"{prefix}superseded IS NULL"
    return (
        f"{prefix}version <= {version} AND "
        f"({prefix}superseded IS NULL OR {prefix}superseded > {version})"
    )


def cover(
    start: int | None, end: int | None
) -> tuple[tuple[int | None, int | None] | None, list[Range]]:
    """A period as whole months of UTC and what has to be added or taken away at its ends."""
    first, last = start, end
    edges: list[Range] = []
    if start is not None:
        before, after = _months_around(start)
        if start - before <= after - start:
            first = before
            edges += [(-1, before, start)] if before < start else []
        else:
            first = after
            edges.append((1, start, after))
    if end is not None:
        before, after = _months_around(end)
        if end - before <= after - end:
            last = before
            edges += [(1, before, end)] if before < end else []
        else:
            last = after
            edges.append((-1, end, after))
    if first is not None and last is not None and first >= last:
        return None, [(1, start, end)]
    return (first, last), edges


def _months_around(moment: int) -> tuple[int, int]:
    """When the month of a moment begins, and the next one."""
    day = moment_of(moment)
    following = (day.year + 1, 1) if day.month == 12 else (day.year, day.month + 1)
    starts = (day.year, day.month), following
    first, second = (microseconds(datetime(*each, 1, tzinfo=UTC)) for each in starts)
    return first, second


def rows_from(
    connection: sqlite3.Connection,
    book: int,
    ranges: Sequence[Range],
    subjects: Sequence[str] | None,
    parameters: Parameters,
) -> str:
    """The tables in which rows of some periods and subjects are, none of them twice."""
    if subjects is not None:
        among = f"subject IN (SELECT value FROM json_each({parameters(json.dumps(subjects))}))"
        periods = [" AND ".join(period_of("time", *each[1:])) or "true" for each in ranges]
        among = f"{among} AND ({' OR '.join(periods)})"
        return (
            f"(SELECT place AS there FROM places WHERE {among} "
            f"UNION ALL SELECT place FROM recent WHERE {among}) AS those "
            f"CROSS JOIN costs ON costs.book = {book} AND costs.place = those.there"
        )
    found: dict[tuple[int, int], None] = {}
    for _, since, until in ranges:
        found |= dict.fromkeys(stretches(connection, since, until))
    listed = ", ".join(map(str, found))
    return (
        f"(WITH stretches(behind, through) AS (VALUES {listed}) SELECT * FROM stretches) AS those "
        f"CROSS JOIN costs ON costs.book = {book} "
        "AND costs.place > those.behind AND costs.place <= those.through"
    )


def rows_behind(connection: sqlite3.Connection, book: int, table: str) -> str:
    """The tables in which the rows are that a table of sums does not have yet."""
    place = places_of(connection, book)[table]
    # With a limit it stays what it is, and is read by place whatever is asked of it.
    return f"(SELECT * FROM costs WHERE book = {book} AND place > {place} LIMIT -1)"


def period_of(column: str, start: int | None, end: int | None) -> Iterator[str]:
    """The conditions that a time lies between two."""
    if start is not None:
        yield f"{column} >= {start}"
    if end is not None and end < _ALWAYS:
        yield f"{column} < {end}"
