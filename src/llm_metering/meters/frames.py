"""Reports as columns: for data frames, Arrow and CSV.

The names of the columns are those of OpenMeter's CSV of a query (`openmeter/meter/httphandler/query_csv.go`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c), in its order.
Columns are built one by one, not row by row: a month of a thousand subjects has tens of thousands of rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

from ..errors import MissingExtraError
from .windows import time_zone_of

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from .reports import UsageReport, Value

__all__ = ["csv_cell", "to_arrow", "to_csv", "to_pandas", "to_polars"]

_Kind = Literal["time", "text", "int64", "big", "decimal", "float64"]

_TIMES: Final = ("window_start", "window_end")
_VALUE: Final = "value"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS: Final = 86_400
_MICROSECONDS: Final = 1_000_000
_INT64: Final = range(-(1 << 63), 1 << 63)
_BIG_DIGITS: Final = 38
"""What a decimal of 128 bits holds, in Arrow and in Polars."""
_DECIMALS: Final = 12
"""Of an amount: costs are whole numbers of 1E-12 of a currency's unit."""
_BIG: Final = range(-(10**_BIG_DIGITS) + 1, 10**_BIG_DIGITS)
# A space in front as well, which some readers would drop.
_NEEDS_QUOTES: Final = re.compile(r'[",\r\n]|^\s')


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a report.

    Attributes:
        name: Its title; no two are the same.
        kind: What it holds: times in microseconds since 1970, texts or `None`, numbers.
        cells: One for each row.
    """

    name: str
    kind: _Kind
    cells: list[Any]


def to_arrow(report: UsageReport) -> pyarrow.Table:
    """The work of `UsageReport.to_arrow`."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError("pyarrow", "arrow") from error
    types = {
        "time": pa.timestamp("us", tz=report.query.time_zone),
        "text": pa.string(),
        "int64": pa.int64(),
        "big": pa.decimal128(_BIG_DIGITS, 0),
        "decimal": pa.decimal128(_BIG_DIGITS, _DECIMALS),
        "float64": pa.float64(),
    }
    made = {}
    for column in _columns(report):
        kind = types[column.kind]
        if column.kind == "time":
            made[column.name] = pa.array(column.cells, pa.int64()).cast(kind)
        else:
            made[column.name] = pa.array(column.cells, kind)
    return pa.table(made)


def to_pandas(report: UsageReport) -> pandas.DataFrame:
    """The work of `UsageReport.to_pandas`."""
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError("pandas", "pandas") from error
    # No `str`: it is not what pandas 2 makes of texts, and a column without any would be `object`.
    types = {
        "text": "string",
        "int64": "int64",
        "big": "object",
        "decimal": "object",
        "float64": "float64",
    }
    # No name: of one, pandas 2 makes a zone of pytz, which knows no summers after 2037.
    zone = time_zone_of(report.query.time_zone)
    made = {}
    for column in _columns(report):
        if column.kind == "time":
            moments = pd.Series(column.cells, dtype="int64").astype("datetime64[us]")
            made[column.name] = moments.dt.tz_localize("UTC").dt.tz_convert(zone)
        else:
            made[column.name] = pd.Series(column.cells, dtype=types[column.kind])
    return pd.DataFrame(made)


def to_polars(report: UsageReport) -> polars.DataFrame:
    """The work of `UsageReport.to_polars`."""
    try:
        import polars as pl
    except ImportError as error:
        raise MissingExtraError("polars", "polars") from error
    made = []
    for column in _columns(report):
        match column.kind:
            case "time":
                moments = pl.Series(column.name, column.cells, dtype=pl.Int64)
                in_utc = moments.cast(pl.Datetime("us", "UTC"))
                made.append(in_utc.dt.convert_time_zone(report.query.time_zone))
            case "text":
                made.append(pl.Series(column.name, column.cells, dtype=pl.String))
            case "int64":
                made.append(pl.Series(column.name, column.cells, dtype=pl.Int64))
            case "big":
                exact = [Decimal(value) for value in column.cells]
                made.append(pl.Series(column.name, exact, dtype=pl.Decimal(_BIG_DIGITS, 0)))
            case "decimal":
                kept = pl.Decimal(_BIG_DIGITS, _DECIMALS)
                made.append(pl.Series(column.name, column.cells, dtype=kept))
            case "float64":
                made.append(pl.Series(column.name, column.cells, dtype=pl.Float64))
    return pl.DataFrame(made)


def to_csv(report: UsageReport) -> str:
    """The work of `UsageReport.to_csv`."""
    zone = time_zone_of(report.query.time_zone)
    columns = list(_columns(report, written_in=zone))
    lines = zip(*(map(csv_cell, (column.name, *column.cells)) for column in columns), strict=True)
    return "".join(f"{','.join(line)}\n" for line in lines)


def csv_cell(value: str | Value | None) -> str:
    """A value as it stands in CSV, in quotes if it needs them."""
    # Not by `csv`: before Python 3.13 it leaves a carriage return without quotes where lines end
    # with a line feed alone, as OpenMeter ends them, and readers begin a new line there.
    if value is None:
        return ""
    text = format(value, "f") if isinstance(value, Decimal) else str(value)
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


def _columns(report: UsageReport, *, written_in: tzinfo | None = None) -> Iterator[_Column]:
    """The columns from left to right; with a zone, times are texts in it, and numbers as they are."""
    query, rows = report.query, report.rows
    windows = [[row.window_start for row in rows], [row.window_end for row in rows]]
    for name, moments in zip(_TIMES, windows, strict=True):
        if written_in is None:
            yield _Column(name, "time", list(_since_1970(moments)))
        else:
            yield _Column(name, "text", list(_written(moments, written_in)))
    taken = {*_TIMES, _VALUE}
    if query.by_subject:
        taken.add("subject")
        yield _Column("subject", "text", [row.subject for row in rows])
    for key in query.keys:
        name = key
        while name in taken:
            # The key of a user's own data may be called like a column of ours, or like this.
            name = f"data.{name}"
        taken.add(name)
        yield _Column(name, "text", [row.group_by.get(key) for row in rows])
    values: list[Value] = [row.value for row in rows]
    if written_in is not None:
        yield _Column(_VALUE, "int64", values)
    elif query.meter.book is not None:
        yield _Column(_VALUE, "decimal", values)
    else:
        yield _numbers(values, is_mean=query.meter.aggregation == "AVG")


def _numbers(values: list[Value], *, is_mean: bool) -> _Column:
    # A mean is whole by chance; what is asked again and again should keep its type.
    if not is_mean and all(isinstance(value, int) for value in values):
        least, most = min(values, default=0), max(values, default=0)
        if least in _INT64 and most in _INT64:
            return _Column(_VALUE, "int64", values)
        if least in _BIG and most in _BIG:
            return _Column(_VALUE, "big", values)
    return _Column(_VALUE, "float64", [float(value) for value in values])


def _since_1970(moments: Iterable[datetime]) -> Iterator[int]:
    before: datetime | None = None
    number = 0
    for moment in moments:
        # Rows of one window mostly share its bounds, and lie one behind the other.
        if moment is not before:
            since = moment - _EPOCH
            number = (since.days * _SECONDS + since.seconds) * _MICROSECONDS + since.microseconds
            before = moment
        yield number


def _written(moments: Iterable[datetime], zone: tzinfo) -> Iterator[str]:
    before: datetime | None = None
    text = ""
    for moment in moments:
        if moment is not before:
            local = moment.astimezone(zone).isoformat()
            text = local.removesuffix("+00:00") + "Z" if zone is UTC else local
            before = moment
        yield text
