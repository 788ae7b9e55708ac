"""Answers from columns beside the ledger, by DuckDB: for what is in the bodies of many events.

They are the answers that `_from_events` gives; its comments have the reasons.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sqlite3
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..meters import MeterDefinition, UsageQuery, parse_path
from . import _columns
from ._answers import Group, value_of
from ._from_events import stretches
from ._lookups import NAMES, Parameters, column_of, number_in
from ._windows import Windows

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["FEWEST", "MOST_RECENT", "read"]

FEWEST: Final = 100_000
"""Events of which SQLite reads the bodies as quickly as a person can ask."""

MOST_RECENT: Final = 100_000
"""Events that are in no span yet; each question hands over all of them."""

_CONFIG: Final = {
    # Nothing is fetched from a network, and nothing is written beside the working directory.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "temp_directory": "",
}
_NUMBER: Final = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"


def read(
    connection: sqlite3.Connection,
    query: UsageQuery,
    windows: Windows,
    start: int | None,
    end: int | None,
) -> list[Group] | None:
    """The groups that answer a question, in order.

    Args:
        connection: The ledger.
        query: The question, about everybody.
        windows: Its windows.
        start: Its bounds, in microseconds from 1970.
        end: The same.

    Returns:
        `None` if there is no DuckDB, or SQLite answers as quickly, or columns cannot be had.
    """
    spans = list(stretches(connection, start, end))
    last = connection.execute("SELECT ifnull(max(rowid), 0) FROM events").fetchone()[0]
    count = sum(min(through, last) - behind for behind, through in spans)
    behind, _ = spans[-1]
    if (
        count < FEWEST
        # Older libraries fold nothing: all that they left would be in memory at once.
        or last - behind > MOST_RECENT
        or importlib.util.find_spec("duckdb") is None
    ):
        return None
    import duckdb

    (path,) = (row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main")
    try:
        with contextlib.closing(duckdb.connect(config=dict(_CONFIG))) as reader:
            files = _columns.files_of(Path(path), connection, reader, spans[:-1])
            rest = _columns.load(connection, reader, behind, last)
            return _answer(reader, query, windows, start, end, files, rest)
    except (_columns.Unfit, OSError, duckdb.IOException, duckdb.OutOfMemoryException):
        # Nothing depends on it: a folder that cannot be written, a file that somebody deletes.
        return None
    except duckdb.Error as error:
        if isinstance(error, duckdb.ProgrammingError) and not isinstance(
            error, duckdb.InvalidInputException
        ):
            raise  # a mistake of this module's
        # A file that was cut off, or lost what was in it, as by a loss of power.
        with contextlib.suppress(OSError):
            _columns.forget_columns(Path(path))
        return None


def _answer(
    reader: DuckDBPyConnection,
    query: UsageQuery,
    windows: Windows,
    start: int | None,
    end: int | None,
    files: list[str],
    rest: str,
) -> list[Group]:
    meter = query.meter
    parameters = Parameters(prefix="$")
    paths = [query.path_of(key) for key in query.keys]
    told_apart = [
        windows.key("time", "duckdb"),
        "subject" if query.by_subject else "NULL",
        *(f"coalesce({_text(path)}, '')" for path in paths),
    ]
    conditions = [f"type = {parameters(meter.event_type)}"]
    conditions += [f"time >= {start}"] if start is not None else []
    conditions += [f"time < {end}"] if end is not None else []
    if query.excluded_provenances:
        among = parameters(list(query.excluded_provenances))
        conditions.append(f"NOT list_contains({among}, coalesce({_text('$.provenance')}, ''))")
    for key, asked in query.filters:
        among = parameters(list(asked))
        conditions.append(f"list_contains({among}, coalesce({_text(query.path_of(key))}, ''))")
    named = {steps[0] for path in _paths(query) if isinstance((steps := parse_path(path))[0], str)}
    needed = ", ".join(
        f"NULL::{kind} AS {_columns.column(letter, str(name))}"
        for name in sorted(named | {"provenance"}, key=str)
        for letter, kind in (("t", "VARCHAR"), ("j", "JSON"))
    )
    known = "NULL::BIGINT AS place, NULL::BIGINT AS time, NULL::VARCHAR AS type"
    # No file need have a column of every key that is asked for.
    sources = [f"SELECT {known}, NULL::VARCHAR AS subject, {needed} WHERE false", rest]
    if files:
        sources.append(f"SELECT * FROM read_parquet({parameters(files)}, union_by_name = true)")
    values, has_value = _aggregates(meter)
    positions = ", ".join(str(position + 1) for position in range(len(told_apart)))
    found = reader.execute(
        f"SELECT {', '.join(told_apart)}, min(time), max(time), {values} "
        f"FROM ({' UNION ALL BY NAME '.join(sources)}) WHERE {' AND '.join(conditions)} "
        f"GROUP BY {positions} {has_value}",
        dict(parameters),
    ).fetchall()
    behind = 4 + len(query.keys)
    found.sort(key=itemgetter(*range(behind - 2)))
    return [(*each[:behind], value_of(query, _parts(meter, each[behind:]))) for each in found]


def _paths(query: UsageQuery) -> Iterator[str]:
    yield from (query.path_of(key) for key in query.keys)
    yield from (query.path_of(key) for key, _ in query.filters)
    if query.meter.value_property is not None:
        yield query.meter.value_property


def _text(path: str) -> str:
    """The SQL of the text under a path; NULL where none is."""
    first, *steps = parse_path(path)
    if not isinstance(first, str):
        return "NULL"
    if not steps:
        return _columns.column("t", first)
    if any("*" in str(step) for step in steps):
        raise _columns.Unfit  # for DuckDB it stands for any key, in quotes too
    inner = "$" + "".join(f"[{step}]" if isinstance(step, int) else f'."{step}"' for step in steps)
    value = f"json_extract({_columns.column('j', first)}, '{inner}')"
    return f"({_columns.text(value)})"


def _aggregates(meter: MeterDefinition) -> tuple[str, str]:
    """What a group's value is made of, and what a group has to have for it."""
    if meter.value_property is None:
        return "count(*)", ""
    text = _text(meter.value_property)
    if meter.aggregation == "UNIQUE_COUNT":
        return f"count(DISTINCT nullif(coalesce({text}, ''), 'null'))", ""
    if column_of(meter.value_property) in NAMES:
        raise _columns.Unfit  # they have texts alone, and bodies may have numbers
    double = f"CASE WHEN regexp_full_match({text}, '{_NUMBER}') THEN TRY_CAST({text} AS DOUBLE) END"
    finite = f"CASE WHEN isfinite({double}) THEN {double} END"
    whole = (
        f"CASE WHEN regexp_full_match({text}, '[+-]?[0-9]+') THEN TRY_CAST({text} AS BIGINT) END"
    )
    other = f"CASE WHEN ({whole}) IS NULL THEN {finite} END"
    has_value = f"HAVING count({finite}) > 0"
    if meter.aggregation in ("MIN", "MAX"):
        return f"{meter.aggregation}({whole}), {meter.aggregation}({other})", has_value
    if meter.aggregation == "LATEST":
        moment = f"time::HUGEINT * {1 << 62} + place"
        return f"arg_max({text}, {moment}) FILTER (({finite}) IS NOT NULL)", has_value
    return f"sum({whole}), coalesce(fsum({other}), 0), count({finite})", has_value


def _parts(meter: MeterDefinition, found: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same as `_from_events` has."""
    if meter.aggregation in ("SUM", "AVG"):
        whole, others, count = found
        return 0, int(whole or 0), others, count
    if meter.aggregation in ("MIN", "MAX"):
        pick = min if meter.aggregation == "MIN" else max
        return (pick(each for each in found if each is not None),)
    if meter.aggregation == "LATEST":
        return (number_in(found[0]),)
    return found
