"""Answers to questions about usage, worked out event by event in plain Python.

It shares no code with the ledger: values are looked up in decoded JSON, and days and months of a time
zone begin where the date on its clocks is first reached.
"""

from __future__ import annotations

import functools
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from llm_metering.meters import UsageQuery, UsageRow

MISSING = object()
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@functools.cache
def first_moment(day: date, zone: str) -> datetime:
    """The first moment at which the clocks of a zone show a date, or a later one."""
    clock = ZoneInfo(zone)
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC) - 15 * HOUR
    # By minutes, since clocks may show a date for a minute, and then the evening before again.
    for step in (MINUTE, timedelta(seconds=1)):
        while moment.astimezone(clock).date() < day:
            moment += step
        moment -= step
    return moment + timedelta(seconds=1)


def window_of(moment: datetime, window: str, zone: str) -> tuple[datetime, datetime]:
    """The window that a moment is in."""
    local = moment.astimezone(ZoneInfo(zone))
    past = timedelta(seconds=local.second, microseconds=local.microsecond)
    if window == "MINUTE":
        start = datetime(*moment.utctimetuple()[:5], tzinfo=UTC)
        return start, start + MINUTE
    if window == "HOUR":
        start = moment - past - timedelta(minutes=local.minute)
        return start, start + HOUR
    days = [local.date() + number * DAY for number in range(-2, 4)]
    if window == "MONTH":
        days = [local.date().replace(day=1) + number * DAY for number in range(-5, 70)]
        days = [day for day in days if day.day == 1]
        days.insert(0, (days[0] - DAY).replace(day=1))
    starts = [first_moment(day, zone) for day in days]
    start = max(each for each in starts if each <= moment)
    return start, min(each for each in starts if each > moment)


def look_up(data: Any, path: str) -> Any:
    """What stands under `$.a.b[0]` or `$['a']`."""
    for step in path.removeprefix("$").replace("['", ".").replace("']", "").split("."):
        name, _, index = step.partition("[")
        if name:
            data = data[name] if isinstance(data, dict) and name in data else MISSING
        if index:
            at = int(index.removesuffix("]"))
            data = data[at] if isinstance(data, list) and at < len(data) else MISSING
    return data


def text_of(value: Any) -> str:
    """A scalar as text; nothing else has any."""
    if value is MISSING or isinstance(value, list | dict):
        return ""
    if isinstance(value, str):
        return value
    if type(value) is int and not -(2**63) <= value < 2**63:
        value = float(value)  # as every JSON number is to OpenMeter
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    return json.dumps(value)


def number_of(value: Any) -> int | float | None:
    """A number, or a text that is one; nothing else is."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        plain = value.isascii() and not set(value) - set("0123456789+-.eE")
        try:
            value = int(value) if value.lstrip("+-").isdigit() and plain else float(value)
        except ValueError:
            return None
        if not plain:
            return None
    return value if math.isfinite(value) else None


def plain(value: Fraction | float) -> int | float:
    """A whole number as an `int`."""
    number = Fraction(value)
    if number.denominator == 1:
        return int(number)
    return int(float(number)) if float(number).is_integer() else float(number)


def answer_of(events: Iterable[Mapping[str, Any]], query: UsageQuery) -> list[UsageRow]:
    """The rows of a report, in order. Of events with the same id the first is there."""
    meter = query.meter
    groups: dict[tuple[Any, ...], list[tuple[datetime, int, Mapping[str, Any]]]] = defaultdict(list)
    seen = set()
    for place, event in enumerate(events):
        if event["id"] in seen:
            continue
        seen.add(event["id"])
        data, moment = event["data"], datetime.fromisoformat(event["time"])
        if (
            event["type"] != meter.event_type
            or (query.subjects is not None and event["subject"] not in query.subjects)
            or (query.start is not None and moment < query.start)
            or (query.end is not None and moment >= query.end)
            or (not meter.estimates and data.get("provenance") in ("estimated", "partial"))
            or any(
                text_of(look_up(data, query.path_of(key))) not in values
                for key, values in query.filters
            )
        ):
            continue
        window = window_of(moment, query.window, query.time_zone) if query.window else None
        keys = [text_of(look_up(data, query.path_of(key))) or None for key in query.keys]
        groups[window, event["subject"] if query.by_subject else None, *keys].append(
            (moment, place, data)
        )
    rows = []
    for (window, subject, *keys), members in groups.items():
        value = _value(query, members)
        if value is None:
            continue
        first, last = (pick(moment for moment, _, _ in members) for pick in (min, max))
        rows.append(
            UsageRow(
                value=value,
                window_start=window[0] if window else query.start or _minute(first),
                window_end=window[1] if window else query.end or _minute(last) + MINUTE,
                subject=subject,
                group_by=dict(zip(query.keys, keys, strict=True)),
            )
        )
    return sorted(rows, key=order)


def order(row: UsageRow) -> tuple[Any, ...]:
    """By time, then subject, then group; what has no value first."""
    texts = [row.subject, *row.group_by.values()]
    return row.window_start, [(text is not None, text or "") for text in texts]


def _minute(moment: datetime) -> datetime:
    return window_of(moment, "MINUTE", "UTC")[0]


def _value(
    query: UsageQuery, members: list[tuple[datetime, int, Mapping[str, Any]]]
) -> int | float | None:
    meter = query.meter
    if meter.value_property is None:
        return len(members)
    found = [look_up(data, meter.value_property) for _, _, data in members]
    if meter.aggregation == "UNIQUE_COUNT":
        count = len({text_of(each) for each in found} - {"null"})
        is_one_number = query.window is None and not query.by_subject and not query.keys
        return None if is_one_number and not count else count
    numbers = [
        (moment, place, number)
        for (moment, place, _), each in zip(members, found, strict=True)
        if (number := number_of(each)) is not None
    ]
    values = [Fraction(number) for _, _, number in numbers]
    if not values:
        return None
    match meter.aggregation:
        case "SUM":
            return plain(sum(values))
        case "AVG":
            return plain(float(sum(values) / len(values)))
        case "MIN":
            return plain(min(values))
        case "MAX":
            return plain(max(values))
    return plain(max(numbers, key=lambda each: each[:2])[2])
