"""Moments as people and JSON write them."""

from __future__ import annotations

from datetime import UTC, datetime

from ..errors import QueryError

__all__ = ["read_moment", "rfc3339"]


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
    given = moment if isinstance(moment, str) else None
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            raise QueryError(f"{parameter} {moment!r} is no ISO 8601 time; {example}") from None
    if not isinstance(moment, datetime):
        raise QueryError(f"{parameter} is a datetime or an ISO 8601 string, got {moment!r}")
    if moment.tzinfo is None:
        # Guessing the machine's zone would move a bill by hours when the machine moves.
        raise QueryError(f"{parameter} {given or moment.isoformat()} names no time zone; {example}")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise QueryError(f"{parameter} {moment.isoformat()} lies beyond the calendar") from None


def rfc3339(moment: datetime) -> str:
    """A moment as it is written in JSON, in UTC.

    >>> rfc3339(datetime(2026, 11, 21, tzinfo=UTC))
    '2026-11-21T00:00:00Z'
    """
    return moment.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"
