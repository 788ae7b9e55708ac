"""`UsageReport`: the answer to a question about usage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import msgspec

from ..errors import QueryError
from . import charts, frames, html
from .definitions import CURRENCY
from .moments import rfc3339
from .queries import UsageQuery

if TYPE_CHECKING:
    import altair
    import pandas
    import polars
    import pyarrow

__all__ = ["UsageReport", "UsageRow", "Value"]

Value: TypeAlias = int | float | Decimal
"""What a meter says of one window and group; a whole number is an `int`, and money a `Decimal`."""


_EXACT: Final = Context(prec=100)


def _digits(value: Value) -> str:
    return format(value, "f") if isinstance(value, Decimal) else str(value)


# No dataclass: a report of a month has tens of thousands of these, and they are made in a sixth of
# the time. None of them can be part of a cycle, so the garbage collector need not look at them.
class UsageRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Usage of one window and group.

    Attributes:
        value: In the meter's unit, such as tokens; what nobody knows adds nothing to it.
        window_start: When the window starts, in UTC.
        window_end: When it ends; the first moment that is no longer in it.
        subject: Who pays, if the question told subjects apart.
        group_by: The value of each key that was asked for; `None` where an event had none.
    """

    value: Value
    window_start: datetime
    window_end: datetime
    subject: str | None = None
    group_by: Mapping[str, str | None] = msgspec.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The row as OpenMeter's API writes it; a `Decimal` is a string of its digits."""
        return {
            "value": format(self.value, "f") if isinstance(self.value, Decimal) else self.value,
            "windowStart": rfc3339(self.window_start),
            "windowEnd": rfc3339(self.window_end),
            "subject": self.subject,
            "groupBy": dict(self.group_by),
        }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class UsageReport:
    """The answer to a question about usage: rows by time, then subject, then group.

    A window or group without any event that has the meter's value has no row.

    As a table, for `to_pandas`, `to_polars`, `to_arrow` and `to_csv`, it has these columns from left
    to right, also when it has no row:

    - `window_start` and `window_end`, in microseconds and in the time zone that was asked in: the
      instants are those of the rows.
    - `subject`, if the question told subjects apart.
    - each key that was asked for under its name, as text, missing where the events had none. A key
      called like a column before it or like `value` has `data.` before its name.
    - `value`, a whole number of 64 bits where all values are whole and the meter is no mean
      (`AVG`), else a float. Whole numbers that 64 bits do not hold stay exact. Of a meter with a
      `book` it is a decimal with 12 digits behind the point, in the currency of the report.

    Attributes:
        query: The question.
        rows: The answer.
        unpriced: How many events are in no value since they have no price, of a meter with a `book`.
        currency: What all its values are of, by ISO 4217, or `credits`; `None` where nothing was
            priced, or where the question told currencies apart.
    """

    query: UsageQuery
    rows: tuple[UsageRow, ...] = ()
    unpriced: int = 0
    currency: str | None = None

    def __iter__(self) -> Iterator[UsageRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        parts = [self.query.meter.slug, f"rows={len(self.rows)}"]
        if self.adds_up:
            parts.append(f"total={_digits(self.total)}")
            parts += [self.currency] if self.currency else []
        if self.unpriced:
            parts.append(f"unpriced={self.unpriced}")
        return f"<UsageReport {' '.join(parts)}>"

    def _repr_html_(self) -> str:
        """The report as Jupyter shows it."""
        return html.report_html(self)

    @property
    def total(self) -> Value:
        """The sum over all rows.

        Raises:
            QueryError: If the meter's values do not add up, as averages do not, and as amounts of
                several currencies do not.
        """
        meter = self.query.meter
        if not meter.adds_up:
            raise QueryError(
                f"the values of {meter.slug} ({meter.aggregation}) do not add up; ask without "
                "window and group_by for the value of them all"
            )
        if self._has_several_currencies:
            raise QueryError("amounts of several currencies do not add up; filter by currency")
        if meter.book is None:
            values: list[Any] = [row.value for row in self.rows]
            return cast(Value, sum(values))
        total = Decimal(0)
        for row in self.rows:
            # Not in the caller's context, which may round.
            total = _EXACT.add(total, Decimal(row.value))
        return total

    @property
    def adds_up(self) -> bool:
        """Whether `total` is there: averages do not add up, nor do amounts of several currencies."""
        return self.query.meter.adds_up and not self._has_several_currencies

    @property
    def _has_several_currencies(self) -> bool:
        if CURRENCY not in self.query.keys or self.query.meter.book is None:
            return False
        return len({row.group_by[CURRENCY] for row in self.rows}) > 1

    def to_dict(self) -> dict[str, Any]:
        """The report as OpenMeter's API writes a meter query result; what was not asked is absent.

        Of a meter with a `book`, `unpriced` and, as far as there is one, `currency` are there as well.
        """
        query = self.query
        head: dict[str, object] = {
            "from": query.start and rfc3339(query.start),
            "to": query.end and rfc3339(query.end),
            "windowSize": query.window,
        }
        known = {key: value for key, value in head.items() if value is not None}
        if query.meter.book is not None:
            known |= {"unpriced": self.unpriced}
            known |= {"currency": self.currency} if self.currency is not None else {}
        return {**known, "data": [row.to_dict() for row in self.rows]}

    def to_json(self, *, indent: int | None = None) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=indent)

    def to_csv(self) -> str:
        """The report as CSV text with a line of titles, as OpenMeter's API v1 writes one.

        Times are written with their offset, a missing value of a key as nothing, and numbers with
        all their digits.

        >>> from llm_metering.meters import usage_query
        >>> print(UsageReport(query=usage_query(group_by="model")).to_csv(), end="")
        window_start,window_end,model,value
        """
        return frames.to_csv(self)

    def to_pandas(self) -> pandas.DataFrame:
        """The report as a data frame of pandas.

        The columns are `datetime64[us, <zone>]`, `string` and `int64` or `float64`; `object` of
        Python's own integers where 64 bits do not hold them. A missing value of a key is `pandas.NA`.

        Raises:
            MissingExtraError: If pandas is not installed.
        """
        return frames.to_pandas(self)

    def to_polars(self) -> polars.DataFrame:
        """The report as a data frame of Polars.

        The columns are `Datetime("us", <zone>)`, `String` and `Int64` or `Float64`; `Decimal(38, 0)`
        where 64 bits do not hold the numbers. A missing value of a key is null.

        Raises:
            MissingExtraError: If Polars is not installed.
        """
        return frames.to_polars(self)

    def to_arrow(self) -> pyarrow.Table:
        """The report as a table of Apache Arrow, for DuckDB, Parquet files and much else.

        The columns are `timestamp[us, tz=<zone>]`, `string` and `int64` or `double`;
        `decimal128(38, 0)` where 64 bits do not hold the numbers. A missing value of a key is null.

        Raises:
            MissingExtraError: If pyarrow is not installed.
        """
        return frames.to_arrow(self)

    def plot(self, *, top: int | None = None) -> altair.Chart | altair.LayerChart:
        """The report as a chart of Altair.

        With a window it is a bar for each window, from its start to its end in the time zone that was
        asked in, stacked by group; a window without usage is a gap. Values that do not add up, such
        as means, are lines beside each other instead. Without a window it is a bar for each group.

        `report.plot().save("usage.svg")`, or `.png`, needs no browser and no network. Nor does a
        notebook, which shows it as SVG; `altair.renderers.enable("html")` gives it tooltips, and
        loads Vega from the web.

        Args:
            top: How many groups are shown by name, the largest ones: at most 9, which is the default,
                where there is a window, else 20 by default. The others are one together, `other`.

        Raises:
            MissingExtraError: If Altair is not installed.
            QueryError: If `top` is no such number, or there are too many windows to be seen.
        """
        return charts.plot(self, top=top)
