"""`UsageQuery`: a question about usage, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast, get_args

from ..errors import QueryError
from .definitions import ESTIMATES, METERS, PRICED_METERS, MeterDefinition
from .moments import read_moment, rfc3339
from .windows import Window, time_zone_of

__all__ = ["UsageQuery", "usage_query"]

_BUILT_IN: Final = {**METERS, **PRICED_METERS}


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
        filters: Keys, each with the values of which an event must have one; `""` stands for a key
            that an event lacks.
        time_zone: Whose hours, days and months the windows are: a name of the IANA database.
    """

    meter: MeterDefinition
    subjects: tuple[str, ...] | None = None
    window: Window | None = None
    start: datetime | None = None
    end: datetime | None = None
    group_by: tuple[str, ...] = ()
    filters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    time_zone: str = "UTC"

    @property
    def by_subject(self) -> bool:
        """Whether each row names its subject, as it does where subjects were chosen."""
        return self.subjects is not None or "subject" in self.group_by

    @property
    def keys(self) -> tuple[str, ...]:
        """What rows are grouped by, besides the subject."""
        return tuple(key for key in self.group_by if key != "subject")

    @property
    def excluded_provenances(self) -> tuple[str, ...]:
        """Events of these do not count, since the meter leaves out estimates."""
        return () if self.meter.estimates else ESTIMATES

    def path_of(self, key: str) -> str:
        """The JSONPath of a key in the events' `data`; one that the meter does not define is a key of it."""
        return self.meter.group_by.get(key, f"$['{key}']")


def usage_query(
    meter: str | MeterDefinition = "tokens_total",
    *,
    subject: str | Iterable[str] | None = None,
    window: str | None = None,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    group_by: str | Iterable[str] = (),
    filters: Mapping[str, str | Iterable[str]] | None = None,
    time_zone: str = "UTC",
    meters: Mapping[str, MeterDefinition] = _BUILT_IN,
) -> UsageQuery:
    """Check a question about usage.

    >>> usage_query("tokens_input", window="HOUR", start="2026-11-21T00:00:00Z").start
    datetime.datetime(2026, 11, 21, 0, 0, tzinfo=datetime.timezone.utc)

    Args:
        meter: Slug of a meter, or one that is not in a configuration.
        subject: One or several subjects; all of them if absent.
        window: `MINUTE`, `HOUR`, `DAY` or `MONTH`; one row for the whole period if absent.
        start: First moment that counts: an aware datetime, or ISO 8601 with an offset.
        end: First moment that no longer counts.
        group_by: `subject`, a key that the meter defines (of the built-in ones `model`,
            `provider`, `operation`, `framework`, `provenance`, `status`), a dimension, or any
            other key of the events' `data`.
        filters: By such a key, the value or values of which an event must have one; `""` for a key
            that it lacks.
        time_zone: Where hours, days and months begin: a name of the IANA database.
        meters: The meters there are, by slug.

    Raises:
        QueryError: Naming the parameter and what it may be.
    """
    if isinstance(meter, str):
        if meter not in meters:
            raise QueryError(f"unknown meter {meter!r}; there are {', '.join(meters)}")
        meter = meters[meter]
    time_zone_of(time_zone)
    query = UsageQuery(
        meter=meter,
        subjects=None if subject is None else _names("subject", subject),
        window=_window(window),
        start=read_moment("start", start),
        end=read_moment("end", end),
        group_by=_names("group_by", group_by),
        filters=_filters(filters or {}),
        time_zone=time_zone,
    )
    for key in (*query.keys, *(key for key, _ in query.filters)):
        _check_key(key)
    if query.subjects == ():
        raise QueryError("subject is an empty list; leave it out to ask for every subject")
    if query.start and query.end and query.start >= query.end:
        raise QueryError(
            f"start ({rfc3339(query.start)}) must be before end ({rfc3339(query.end)})"
        )
    return query


def _filters(
    filters: Mapping[str, str | Iterable[str]],
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    checked = []
    if not isinstance(filters, Mapping):
        raise QueryError(f"filters has a value or values for each key, got {filters!r}")
    for key, values in filters.items():
        listed = _listed(values)
        if key == "subject":
            raise QueryError("filters: name subjects with the parameter subject")
        if not listed or not all(isinstance(value, str) for value in listed):
            raise QueryError(f"filters: {key} takes one or several strings, got {values!r}")
        checked.append((key, tuple(dict.fromkeys(listed))))
    return tuple(checked)


def _check_key(key: str) -> None:
    # What no JSONPath can name on every back end; SQLite before 3.45 cannot quote it.
    if any(sign in key for sign in "\"'\\") or not key.isprintable():
        raise QueryError(f"group_by: {key!r} has a quote, a backslash or a control character")


def _window(window: str | None) -> Window | None:
    if window is None:
        return None
    if window in get_args(Window):
        return cast(Window, window)
    raise QueryError(f"unknown window {window!r}; there are {', '.join(get_args(Window))}")


def _listed(values: str | Iterable[str]) -> tuple[str, ...]:
    # What is neither is one value, which is then refused by name.
    one = isinstance(values, str) or not isinstance(values, Iterable)
    return cast(tuple[str, ...], (values,) if one else tuple(values))


def _names(parameter: str, names: str | Iterable[str]) -> tuple[str, ...]:
    listed = _listed(names)
    for name in listed:
        if not isinstance(name, str) or not name:
            raise QueryError(f"{parameter} takes non-empty strings, got {name!r}")
    return tuple(dict.fromkeys(listed))
