"""Names, numbers and times as people read them, in a terminal, a page or a chart."""

from __future__ import annotations

from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Final

from .windows import Window, time_zone_of

__all__ = ["UNKNOWN", "amount", "period_label", "plain", "window_label"]

UNKNOWN: Final = "-"
"""Stands where a number would be and nobody knows it, which is not 0."""


def plain(text: str) -> str:
    r"""`text` with everything that is no visible character escaped.

    >>> print(plain("acme\x1b[31m"))
    acme\x1b[31m
    """
    shown = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
    # In quotes where it could be mistaken for another, or for nothing.
    return shown if shown == shown.strip() and shown else f'"{shown}"'


def amount(value: object) -> str:
    """A number to be read by people; `None` is one that nobody knows.

    >>> amount(1234567), amount(None), amount(0.1 + 0.2), amount(Decimal("1E-7"))
    ('1,234,567', '-', '0.3', '0.0000001')
    """
    if value is None:
        return UNKNOWN
    if isinstance(value, Decimal):
        return format(value, ",f")
    # More digits than a float is exact to would be noise; an int has all of its own.
    return format(value, ",.15g" if isinstance(value, float) else ",")


def period_label(start: datetime | None, end: datetime | None, time_zone: str) -> str:
    """A period from its first moment to the first after it, as clocks there show them.

    >>> from datetime import UTC
    >>> period_label(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC), "UTC")
    'from 2026-11-01 00:00 to 2026-11-30 00:00 (UTC)'
    """
    zone = time_zone_of(time_zone)
    named = (("from", start), ("to", end))
    parts = [
        f"{word} {each.astimezone(zone):%Y-%m-%d %H:%M}" for word, each in named if each is not None
    ]
    return f"{' '.join(parts)} ({time_zone})"


def window_label(start: datetime, window: Window, zone: tzinfo, *, short: bool = False) -> str:
    """A window's start as clocks there show it; with the offset where they show it twice.

    Args:
        start: When it starts.
        window: How long it is.
        zone: Whose clocks these are.
        short: Without the year, where that is plain anyway.
    """
    local = start.astimezone(zone)
    if window == "MONTH":
        return local.strftime("%Y-%m")
    date = local.strftime("%m-%d" if short else "%Y-%m-%d")
    if window == "DAY":
        return date
    is_twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    return f"{date} {local:%H:%M}" + (f" {local:%z}" if is_twice else "")
