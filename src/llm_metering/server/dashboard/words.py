"""Numbers, money and times as the people read them who look at a page."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation, localcontext
from functools import lru_cache, partial
from typing import Any, Final

from babel import Locale, UnknownLocaleError, dates, numbers

from ...meters.labels import UNKNOWN, plain
from ...meters.time_axis import TickLabels
from ...meters.windows import Window, time_zone_of

__all__ = ["Words"]

_MOST_TAGS: Final = 10
_LONGEST_HEADER: Final = 200
_LONGEST_TAG: Final = 20
_COMPACT_FROM: Final = 100_000
_ENGLISH: Final = "en_US"
_CREDITS: Final = "credits"
_DIGITS: Final = Context(prec=100)


class Words:
    """How a reader's locale writes things; the words of a page are English for everybody.

    Args:
        locale: Whose.
    """

    def __init__(self, locale: Locale) -> None:
        self._locale = locale

    def __repr__(self) -> str:
        return f"<Words {self.tag}>"

    @classmethod
    def for_header(cls, accepted: str) -> Words:
        """For who sends this as `Accept-Language` (RFC 9110, section 12.5.4)."""
        return _for_header(accepted[:_LONGEST_HEADER])

    @property
    def tag(self) -> str:
        """The locale as BCP 47 writes it, such as `de-DE`."""
        return str(self._locale).replace("_", "-")

    def number(self, value: float | Decimal | None) -> str:
        """A number with all its digits; `None` is one that nobody knows.

        >>> Words(Locale("de")).number(1234567), Words(Locale("en")).number(Decimal("0.0000001"))
        ('1.234.567', '0.0000001')
        """
        if value is None:
            return UNKNOWN
        if isinstance(value, float):
            # More digits than a float is exact to would be noise.
            value = Decimal(format(value, ".15g")) if math.isfinite(value) else value
        return _written(numbers.format_decimal, value, self._locale, decimal_quantization=False)

    def short(self, value: float | Decimal | None) -> str:
        """A number in about three digits, where it is large.

        >>> Words(Locale("en")).short(1_234_567), Words(Locale("en")).short(9876)
        ('1.23M', '9,876')
        """
        if value is None:
            return UNKNOWN
        if -_COMPACT_FROM < value < _COMPACT_FROM:
            return self.number(value)
        return _written(numbers.format_compact_decimal, value, self._locale, fraction_digits=2)

    def money(self, amount: float | Decimal | None, currency: str | None) -> str:
        """An amount of a currency, in its smallest coin; finer where it is less than some of those.

        >>> Words(Locale("en")).money(Decimal("1234.5678"), "USD")
        '$1,234.57'
        >>> Words(Locale("en")).money(Decimal("0.00012345"), "USD")
        '$0.00012'
        """
        if amount is None:
            return UNKNOWN
        value = Decimal(str(amount))
        coins = 2
        if currency is not None and currency != _CREDITS:
            coins = numbers.get_currency_precision(currency)
        digits = coins
        if value and value.adjusted() < 1 - coins:
            digits = min(1 - value.adjusted(), 12)
        rounded = value.quantize(Decimal(1).scaleb(-digits)) if value.adjusted() < 20 else value
        if currency is None or currency == _CREDITS:
            return f"{self.number(rounded)} {currency or ''}".strip()
        return _written(
            partial(numbers.format_currency, currency=currency, decimal_quantization=False),
            rounded,
            self._locale,
        )

    def percent(self, part: float | Decimal | None) -> str:
        """A share: 1 is all of it. What is something is never nothing, and what is not all never all.

        >>> words = Words(Locale("en"))
        >>> words.percent(0.25), words.percent(0.00001), words.percent(0.99999), words.percent(None)
        ('25%', '<0.1%', '>99.9%', '-')
        """
        if part is None:
            return UNKNOWN
        share = float(part)
        edge = 0.001
        if 0 < share < edge:
            return f"<{self._percent(edge)}"
        if 1 - edge < share < 1:
            return f">{self._percent(1 - edge)}"
        return self._percent(share)

    def _percent(self, share: float) -> str:
        shown = round(share, 3)
        pattern = "#,##0.#%" if "%" in self._locale.percent_formats[None].pattern else None
        written: str = numbers.format_percent(shown, format=pattern, locale=self._locale)
        return written

    def day(self, day: date) -> str:
        """A day.

        >>> Words(Locale("de")).day(date(2026, 11, 21))
        '21.11.2026'
        """
        return dates.format_date(day, "medium", locale=self._locale)

    def moment(self, moment: datetime | None, zone: str = "UTC", *, seconds: bool = False) -> str:
        """A time as clocks of a zone show it, without the zone's name."""
        if moment is None:
            return UNKNOWN
        local = moment.astimezone(time_zone_of(zone))
        clock = dates.format_time(
            local, "medium" if seconds else "short", tzinfo=local.tzinfo, locale=self._locale
        )
        return f"{self.day(local.date())}, {clock}"

    def window(self, start: datetime, window: Window, zone: str) -> str:
        """A window's start as clocks there show it; with the offset where they show it twice."""
        local = start.astimezone(time_zone_of(zone))
        if window == "MONTH":
            return self.month(local.date())
        if window == "DAY":
            return self.day(local.date())
        is_twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
        return self.moment(start, zone) + (f" {local:%z}" if is_twice else "")

    def month(self, day: date, *, long: bool = False) -> str:
        """The month that a day is in.

        >>> Words(Locale("en")).month(date(2026, 11, 21))
        'Nov 2026'
        """
        skeleton = "yMMMM" if long else "yMMM"
        return dates.format_skeleton(skeleton, _noon(day), locale=self._locale)

    def span(self, length: timedelta | float | None) -> str:
        """A span of time in its largest unit or two.

        >>> words = Words(Locale("en"))
        >>> words.span(7.6), words.span(timedelta(hours=50)), words.span(0.2)
        ('7 s', '2 d 2 h', 'less than 1 s')
        """
        if length is None:
            return UNKNOWN
        rest = int(length.total_seconds() if isinstance(length, timedelta) else length)
        parts: list[tuple[int, str]] = []
        for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
            count, rest = divmod(rest, size)
            if count or parts:
                parts.append((count, unit))
        shown = [f"{self.number(count)} {unit}" for count, unit in parts[:2] if count]
        return " ".join(shown) or "less than 1 s"

    def text(self, text: str | None) -> str:
        """A name from outside, with everything that is no visible character escaped."""
        return UNKNOWN if text is None else plain(text)

    @property
    def axis_numbers(self) -> dict[str, Any]:
        """How an axis has numbers, as a locale of d3-format (https://d3js.org/d3-format#formatLocale)."""
        first, then = self._locale.decimal_formats[None].grouping
        return {
            "decimal": numbers.get_decimal_symbol(self._locale),
            "thousands": numbers.get_group_symbol(self._locale),
            "grouping": [first, *[then] * 6],
            "currency": ["", ""],
        }

    @property
    def tick_labels(self) -> TickLabels:
        """How an axis of time is labelled."""
        return TickLabels(
            day=lambda day: dates.format_skeleton("MMMd", _noon(day), locale=self._locale),
            month=lambda day: dates.format_skeleton("MMM", _noon(day), locale=self._locale),
            clock=lambda moment: dates.format_time(
                moment, "short", tzinfo=moment.tzinfo, locale=self._locale
            ),
        )


def _written(
    write: Callable[..., str], value: float | Decimal, locale: Locale, **options: Any
) -> str:
    """A number as Babel writes it, which rounds in the context that there is, also where it need not."""
    try:
        with localcontext(_DIGITS):
            return write(value, locale=locale, **options)
    except InvalidOperation:
        return format(value, "g")


def _noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12)


@lru_cache(maxsize=256)
def _for_header(accepted: str) -> Words:
    wanted = []
    for place, item in enumerate(accepted.split(",")[:_MOST_TAGS]):
        tag, _, quality = item.strip().partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            continue
        if 0 < weight <= 1 and tag and len(tag) <= _LONGEST_TAG:
            wanted.append((-weight, place, tag))
    for _, _, tag in sorted(wanted):
        try:
            return Words(Locale.parse(tag, sep="-"))
        except (ValueError, UnknownLocaleError):
            continue
    return Words(Locale.parse(_ENGLISH))
