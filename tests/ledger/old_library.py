"""What a library of schema 1 or 2 does with a ledger, as it did it then: with nothing of today's code.

    python old_library.py write LEDGER SCHEMA FIRST COUNT
    python old_library.py read LEDGER UNTIL

Source: `store.py`, `_files.py`, `_rows.py` and `_queries.py` as they were at schema 2; those of
schema 1 sent the same statements.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

COLUMNS = (
    "source, id, type, subject, time, provider, model, operation, framework, provenance, status,"
    " total_tokens, input_tokens, output_tokens, cache_read_input_tokens,"
    " cache_creation_input_tokens, reasoning_output_tokens, calls, payload"
)
INSERT = (
    f"INSERT INTO events ({COLUMNS}) VALUES ({', '.join('?' * 19)})"
    " ON CONFLICT (source, id) DO NOTHING"
)
SUMS = """
    SELECT sum(total_tokens), sum(cache_read_input_tokens), sum(calls), {events}, min({first}),
        max({last})
    FROM {table} WHERE {where} AND type = :type
    """
QUESTIONS = [
    SUMS.format(
        table="rollups", where=where, events="sum(events)", first="first_time", last="last_time"
    )
    for where in ("grain = 86400", "grain = 900")
] + [SUMS.format(table="events", where="true", events="count(*)", first="time", last="time")]
BY_SUBJECT = """
    SELECT subject, nullif(model, ''), sum(total_tokens) FROM {table}
    WHERE {where} AND type = :type AND subject IN (SELECT value FROM json_each(:subjects))
    GROUP BY 1, 2 ORDER BY 1, 2
    """
BATCH = 5
START = 1_795_262_400_000_000
PAYLOAD = (
    '{{"specversion":"1.0","id":"{id}","source":"old","type":"llm.usage","subject":"{subject}",'
    '"time":"2026-11-21T12:00:00Z","data":{{"total_tokens":120}}}}'
)


@contextlib.contextmanager
def opened(path: Path, schema: int) -> Iterator[sqlite3.Connection]:
    """The ledger, made if need be."""
    with contextlib.closing(sqlite3.connect(path, timeout=2.0, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            script = Path(__file__).with_name(f"schema_{schema}.sql").read_text("utf-8")
            connection.executescript(script)
        yield connection


def check_version(connection: sqlite3.Connection, schema: int) -> None:
    """As every transaction of theirs began."""
    (oldest,) = connection.execute(
        "SELECT ifnull(max(value), 0) FROM meta WHERE key = 'oldest_writer'"
    ).fetchone()
    if oldest > schema:
        sys.exit("the ledger was written by a newer llm-metering")


def row(number: int) -> tuple[object, ...]:
    """The columns of an event. Of every third one no tokens are known."""
    subject, event = f"customer-{number % 7}", f"old-{number}"
    counts = (None,) * 6 if number % 3 == 0 else (120, 100, 20, 64, None, 7)
    return (
        *("old", event, "llm.usage", subject, START + number * 60_000_000),
        *("openai", None if number % 5 == 0 else "gpt-5-mini", "chat", "langchain"),
        *("reported", "completed"),
        *(*counts, 1, PAYLOAD.format(id=event, subject=subject)),
    )


def write(path: Path, schema: int, first: int, count: int) -> None:
    """Deliver events in batches, each of which comes twice, and wait where somebody else writes."""
    with opened(path, schema) as connection:
        for start in range(first, first + count, BATCH):
            rows = [row(number) for number in range(start, min(start + BATCH, first + count))]
            for _ in range(2):
                while not deliver(connection, schema, rows):
                    time.sleep(0.01)


def deliver(connection: sqlite3.Connection, schema: int, rows: list[tuple[object, ...]]) -> bool:
    """Deliver a batch; whether it was taken."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        check_version(connection, schema)
        for each in rows:
            connection.execute(INSERT, each)
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return False
    return True


def read(path: Path, until: Path) -> None:
    """Ask as long as there is no such file: what rollups say has to be what events say, each time."""
    last, asked, is_last = 0, 0, False
    while not is_last:
        is_last = until.exists()  # then all is written
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=2.0)) as connection:
            connection.isolation_level = None
            connection.execute("BEGIN")
            found = [
                connection.execute(each, {"type": "llm.usage"}).fetchone() for each in QUESTIONS
            ]
            asking = {"type": "llm.usage", "subjects": '["customer-1", "customer-5"]'}
            subjects = [
                connection.execute(BY_SUBJECT.format(table=table, where=where), asking).fetchall()
                for table, where in (
                    ("rollups", "grain = 86400"),
                    ("rollups", "grain = 900"),
                    ("events", "true"),
                )
            ]
        # A rollup has 0 where nobody knows, an event NULL.
        plain = [[(*each[:2], each[2] or 0) for each in some] for some in subjects]
        if len(set(found)) > 1 or plain[0] != plain[2] or plain[1] != plain[2]:
            sys.exit(f"they differ: {found} {subjects}")
        if found[0][3] < last:
            sys.exit(f"{last} events, and then {found[0][3]}")
        last, asked = found[0][3], asked + 1
    sys.stdout.write(f"{asked} {' '.join(map(str, found[0]))}\n")


if __name__ == "__main__":
    what, ledger, *rest = sys.argv[1:]
    if what == "write":
        write(Path(ledger), *(int(each) for each in rest))
    else:
        read(Path(ledger), Path(rest[0]))
