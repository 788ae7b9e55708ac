"""Columns beside a ledger: what stands in the bodies of events, in files that DuckDB reads quickly.

SQLite parses the body of every event for every question. Of the events of a span, which never change
but for a prune, it is done once: each key of `data` becomes a column of a Parquet file in a folder
beside the ledger. Whoever asks first makes the files that are missing; nobody needs them, and they may
be deleted at any time. They hold what bodies hold, so nobody else may read them, and one that was made
before a prune is never read again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ._lookups import COUNTS, NAMES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = [
    "MOST_AT_ONCE",
    "Unfit",
    "column",
    "files_of",
    "folder_of",
    "forget_columns",
    "load",
    "text",
]

_MOST_KEYS: Final = 256
"""In the bodies of one span; events that name keys by number would make a column of each."""

MOST_AT_ONCE: Final = 500_000
"""Events of which one question makes columns; to make them takes several times as long as one answer of
SQLite's, which nobody should have to wait for. The next question goes on."""

_UNSIGNED: Final = (1 << 64) - 1
_ENDING: Final = ".parquet"
_ROWS: Final = """
    SELECT rowid, time, type, subject, CASE WHEN json_valid(payload) THEN payload ELSE '' END
    FROM events WHERE rowid > :behind AND rowid <= :through
    """
_LOAD: Final = """
    CREATE OR REPLACE TEMP TABLE bodies AS SELECT
        unnest($1::BIGINT[]) AS place, unnest($2::BIGINT[]) AS time, unnest($3::VARCHAR[]) AS type,
        unnest($4::VARCHAR[]) AS subject, nullif(unnest($5::VARCHAR[]), '') AS payload
    """


class Unfit(Exception):  # noqa: N818 - no failure: SQLite answers
    """What these events hold does not fit into columns."""


def folder_of(ledger: Path) -> Path:
    """Where a ledger's columns are."""
    return ledger.with_name(f"{ledger.name}-columns")


def forget_columns(ledger: Path) -> None:
    """Delete all columns beside a ledger; call it when bodies are given up."""
    folder = folder_of(ledger)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for each in list(folder.iterdir()):
            each.unlink(missing_ok=True)


def column(kind: str, key: str) -> str:
    """The column of a key in `data`: of kind `t` the text of a scalar, of kind `j` anything else, as JSON."""
    # Names of columns are the same in capitals; keys are not.
    return f"{kind}_{key.encode().hex()}"


def files_of(
    ledger: Path,
    connection: sqlite3.Connection,
    duckdb: DuckDBPyConnection,
    spans: list[tuple[int, int]],
) -> list[str]:
    """The files with the columns of spans; those that are missing are made.

    Args:
        ledger: The ledger's file.
        connection: Reads it.
        duckdb: Writes them.
        spans: Places of events: behind one, through another.

    Raises:
        Unfit: If the events of one do not fit, or more files are missing than are made at once.
        OSError: If the folder cannot be written.
    """
    folder = folder_of(ledger)
    (pruned,) = connection.execute(
        "SELECT ifnull(max(value), 0) FROM meta WHERE key = 'pruned_before'"
    ).fetchone()
    _sweep(folder, pruned)
    files = [folder / _name(connection, *span, pruned) for span in spans]
    made = 0
    for file, (behind, through) in zip(files, spans, strict=True):
        if file.exists():
            continue
        if made >= MOST_AT_ONCE:
            raise Unfit
        made += through - behind
        _make(file, load(connection, duckdb, behind, through), duckdb)
    return [str(file) for file in files]


def _make(file: Path, query: str, duckdb: DuckDBPyConnection) -> None:
    file.parent.mkdir(mode=0o700, exist_ok=True)
    written = file.with_name(f"{uuid.uuid4()}.new")
    try:
        os.close(os.open(written, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        target = str(written).replace("'", "''")
        duckdb.execute(
            f"COPY ({query}) TO '{target}' (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)"
        )
        # Else a loss of power might leave a file of this name that has nothing in it.
        with written.open("rb+") as whole:
            os.fsync(whole.fileno())
        written.replace(file)
    finally:
        written.unlink(missing_ok=True)


def load(
    connection: sqlite3.Connection, duckdb: DuckDBPyConnection, behind: int, through: int
) -> str:
    """Hand the events of some places to DuckDB; the statement that has their columns.

    Raises:
        Unfit: If they do not fit into any.
    """
    found = connection.execute(_ROWS, {"behind": behind, "through": through}).fetchall()
    duckdb.execute(_LOAD, [list(each) for each in zip(*found, strict=True)] or [[]] * 5)
    (invalid,) = _one(duckdb, "SELECT count(*) FROM bodies WHERE NOT json_valid(payload)")
    (keys,) = _one(
        duckdb,
        "SELECT list(DISTINCT key) FROM (SELECT unnest(json_keys(payload, '$.data')) AS key FROM bodies)",
    )
    # Nobody can ask for others.
    names = sorted(key for key in keys or [] if key and not set(key) & set("\"'\\"))
    if invalid or len(names) > _MOST_KEYS:
        raise Unfit
    columns = ["place", "time", "type", "subject"]
    for number, name in enumerate(names, 1):
        value = f"found[{number}]"
        columns.append(f"{_of_key(name, value)} AS {column('t', name)}")
        columns.append(
            f"CASE WHEN json_type({value}) IN ('OBJECT', 'ARRAY') THEN {value} END "
            f"AS {column('j', name)}"
        )
    # All of a body in one go, for it is parsed each time.
    # As JSON pointers, in which no sign stands for many keys.
    pointers = [name.replace("~", "~0").replace("/", "~1") for name in names]
    paths = ", ".join(f"'/data/{pointer}'" for pointer in pointers)
    values = f"json_extract(payload, [{paths}])" if names else "NULL"
    return (
        f"SELECT {', '.join(columns)} FROM (SELECT place, time, type, subject, {values} AS found "
        "FROM bodies)"
    )


def text(value: str) -> str:
    """The SQL of the text of a JSON value, as `_lookups.text` has it; NULL of what is no scalar."""
    return f"""CASE json_type({value})
        WHEN 'VARCHAR' THEN {value} ->> '$'
        WHEN 'BIGINT' THEN {value} ->> '$'
        WHEN 'BOOLEAN' THEN {value} ->> '$'
        WHEN 'NULL' THEN 'null'
        WHEN 'UBIGINT' THEN CASE WHEN TRY_CAST({value} AS BIGINT) IS NULL
            THEN {_of_double(value)} ELSE {value} ->> '$' END
        WHEN 'DOUBLE' THEN {_of_double(value)} END"""


def _of_key(name: str, value: str) -> str:
    """The same, of what has a column in the ledger as it is read into that."""
    if name in NAMES:
        return f"CASE WHEN json_type({value}) = 'VARCHAR' THEN {value} ->> '$' END"
    return f"nullif({text(value)}, 'null')" if name in COUNTS else text(value)


def _of_double(value: str) -> str:
    number = f"CAST({value} AS DOUBLE)"
    return (
        f"CASE WHEN abs({number}) < 1e21 AND {number} = trunc({number}) "
        f"THEN CAST(CAST({number} AS HUGEINT) AS VARCHAR) ELSE CAST({number} AS VARCHAR) END"
    )


def _name(connection: sqlite3.Connection, behind: int, through: int, pruned: int) -> str:
    (mark,) = connection.execute(
        "SELECT mark FROM spans WHERE through_place = ?", (through,)
    ).fetchone()
    return f"{behind}-{through}-{mark & _UNSIGNED:016x}-{pruned}{_ENDING}"


def _sweep(folder: Path, pruned: int) -> None:
    """Delete what was made before a prune, by a reader who did not know of it yet."""
    for each in folder.glob(f"*{_ENDING}"):
        made = each.name.removesuffix(_ENDING).rpartition("-")[2]
        if made.isdigit() and int(made) < pruned:
            each.unlink(missing_ok=True)


def _one(duckdb: DuckDBPyConnection, statement: str) -> tuple[Any, ...]:
    found = duckdb.execute(statement).fetchone()
    assert found is not None
    return found
