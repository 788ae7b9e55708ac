"""How long questions to a ledger take, beside DuckDB over the same raw rows, and whether both agree.

A ledger is filled with events of 1,000 subjects and 20 models; the questions are about the last month
of them. DuckDB has the raw rows (time, subject, model, counts) in a table of its own, in a file. The
same questions are put to both, in turn, in an order that is shuffled anew each round; both answers
are fetched into Python and have to be equal. Of the ledger it is the whole of `Ledger.query`: the
file is opened for it, and at its end there is a report.

    python benchmarks/ledger.py [EVENTSxMONTHS ...] [--rounds N] [--folder FOLDER]

Without arguments that is `1e6x1 1e7x10 1e7x1`: a month, ten months of as many events each, and one
month of ten times as many; it takes half an hour and 25 GB. In a folder that is named the ledgers stay,
and the next run finds them.

The exit code is 1 if an answer was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import statistics
import sys
import tempfile
import time
import unittest.mock
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import machine
import msgspec
import pyarrow as pa

from llm_metering.ledger import Ledger, _columns, _from_columns
from llm_metering.ledger._columns import folder_of, forget_columns
from llm_metering.ledger._files import open_for_reading
from llm_metering.meters import MeterDefinition, UsageQuery, UsageReport, usage_query
from llm_metering.sinks import Envelope

SIZES = ["1e6x1", "1e7x10", "1e7x1"]
ROUNDS = 15
SUBJECTS = 1000
MODELS = [
    (f"model-{number:02d}-2026-08-07", ("openai", "anthropic", "google")[number % 3])
    for number in range(20)
]
PROVENANCES = ["reported"] * 95 + ["estimated"] * 4 + ["partial"]
FEATURES = ["search", "chat", "summary", "agent"]
END = datetime(2026, 11, 1, tzinfo=UTC)
START = datetime(2026, 10, 1, tzinfo=UTC)
"""The month that is asked for, the last one."""

RAW = ("time", "subject", "model", "provenance", "total_tokens", "input_tokens", "output_tokens")
BATCH = 2000
_SECONDS_A_MONTH = 31 * 86_400


def payloads(events: int, months: int) -> Iterator[tuple[str, bytes]]:
    """Events in the order of time, evenly over the months before `END`, with their ids."""
    random = Random(7)
    encode = msgspec.json.encode
    first = END.timestamp() - months * _SECONDS_A_MONTH
    step = months * _SECONDS_A_MONTH / events
    for number in range(events):
        moment = first + number * step
        drawn = random.getrandbits(74)
        milliseconds = int(moment * 1000)
        name = str(
            uuid.UUID(
                int=milliseconds << 80 | 7 << 76 | (drawn >> 62) << 64 | 2 << 62 | drawn % 2**62
            )
        )
        model, provider = MODELS[random.randrange(len(MODELS))]
        given, made = random.randrange(1, 5000), random.randrange(1, 1000)
        written = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(
            timespec="milliseconds"
        )
        yield (
            name,
            encode(
                {
                    "specversion": "1.0",
                    "id": name,
                    "source": "benchmark",
                    "type": "llm.usage",
                    "subject": f"customer-{random.randrange(SUBJECTS):04d}",
                    "time": written.replace("+00:00", "Z"),
                    "data": {
                        "model": model,
                        "request_model": model,
                        "provider": provider,
                        "operation": "chat",
                        "total_tokens": given + made,
                        "input_tokens": given,
                        "output_tokens": made,
                        "prompt_tokens": given,
                        "completion_tokens": made,
                        "cache_read_input_tokens": given // 3,
                        "reasoning_output_tokens": made // 4,
                        "calls": 1,
                        "duration_ms": 400 + made,
                        "provenance": PROVENANCES[random.randrange(100)],
                        "status": "completed",
                        "framework": "langchain",
                        "run_id": name,
                        "feature": FEATURES[random.randrange(len(FEATURES))],
                    },
                }
            ),
        )


def fill(path: Path, events: int, months: int) -> None:
    """Deliver the events to a new ledger."""
    begun = time.perf_counter()
    with contextlib.closing(Ledger(path)) as ledger:
        batch: list[Envelope] = []
        for number, (name, payload) in enumerate(payloads(events, months), 1):
            batch.append(Envelope(name, payload))
            if len(batch) == BATCH or number == events:
                delivery = ledger.deliver(batch)
                assert len(delivery.accepted) == len(batch), delivery.reason
                batch = []
            if number % (max(events, 10) // 10) == 0:
                print(f"{number} events after {time.perf_counter() - begun:.0f} s", file=sys.stderr)


def raw_rows(path: Path) -> Iterator[pa.RecordBatch]:
    """What DuckDB is filled with, read from the ledger's events."""
    with contextlib.closing(open_for_reading(path)) as connection:
        cursor = connection.execute(f"SELECT {', '.join(RAW)} FROM events")
        while rows := cursor.fetchmany(100_000):
            columns = [pa.array(values) for values in zip(*rows, strict=True)]
            columns[0] = columns[0].cast(pa.timestamp("us"))
            yield pa.record_batch(columns, names=list(RAW))


def fill_duckdb(path: Path, ledger: Path) -> None:
    """Give DuckDB the ledger's raw rows, as they came."""
    with contextlib.closing(duckdb.connect(str(path))) as connection:
        kinds = {"time": "TIMESTAMP", **dict.fromkeys(RAW[1:4], "VARCHAR")}
        columns = ", ".join(f"{name} {kinds.get(name, 'BIGINT')}" for name in RAW)
        connection.execute(f"CREATE TABLE events ({columns})")
        for batch in raw_rows(ledger):
            connection.register("batch", pa.Table.from_batches([batch]))
            connection.execute("INSERT INTO events SELECT * FROM batch")


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question, for both.

    Attributes:
        name: What is asked.
        query: As the ledger takes it.
        sql: As DuckDB takes it.
    """

    name: str
    query: UsageQuery
    sql: str


_MONTH: dict[str, Any] = {"start": START, "end": END}
_SUBJECT = "customer-0042"
_IN_MONTH = f"time >= '{START:%Y-%m-%d}' AND time < '{END:%Y-%m-%d}'"
QUESTIONS = [
    Question(
        name="one subject hourly by model",
        query=usage_query(subject=_SUBJECT, window="HOUR", group_by="model", **_MONTH),
        sql=f"""
            SELECT date_trunc('hour', time), subject, model, sum(total_tokens) FROM events
            WHERE subject = '{_SUBJECT}' AND {_IN_MONTH} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
            """,
    ),
    Question(
        name="all subjects daily",
        query=usage_query(window="DAY", group_by="subject", **_MONTH),
        sql=f"""
            SELECT date_trunc('day', time), subject, sum(total_tokens) FROM events
            WHERE {_IN_MONTH} GROUP BY 1, 2 ORDER BY 1, 2
            """,
    ),
    Question(
        name="top models",
        query=usage_query(group_by="model", **_MONTH),
        sql=f"""
            SELECT TIMESTAMP '{START:%Y-%m-%d}', model, sum(total_tokens) FROM events
            WHERE {_IN_MONTH} GROUP BY 1, 2 ORDER BY 1, 2
            """,
    ),
]


def plain(report: UsageReport) -> list[tuple[Any, ...]]:
    """A report as DuckDB's rows are."""
    return [
        (
            row.window_start.replace(tzinfo=None),
            *([row.subject] if row.subject else []),
            *row.group_by.values(),
            row.value,
        )
        for row in report
    ]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A ledger, and DuckDB with the same rows."""

    size: str
    ledger: Ledger
    duckdb: duckdb.DuckDBPyConnection

    def ways(self, question: Question) -> dict[tuple[str, str], Callable[[], Any]]:
        """What answers a question."""
        return {
            (self.size, "ledger"): lambda: self.ledger.query(question.query),
            (self.size, "DuckDB"): lambda: self.duckdb.execute(question.sql).fetchall(),
        }


def measure(pairs: list[Pair], question: Question, rounds: int) -> bool:
    """Put a question to all in turn, and say how long they took; whether their answers were equal."""
    random = Random(7)
    ways = {name: way for pair in pairs for name, way in pair.ways(question).items()}
    answers = {name: way() for name, way in ways.items()}
    times: dict[tuple[str, str], list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name in random.sample(sorted(ways), len(ways)):
            begun = time.perf_counter()
            kept = ways[name]()
            times[name].append((time.perf_counter() - begun) * 1000)
            del kept
    medians = {name: statistics.median(each) for name, each in times.items()}
    print(f"{question.name}:")
    is_right = True
    for pair in pairs:
        mine, its = (medians[pair.size, side] for side in ("ledger", "DuckDB"))
        expected = answers[pair.size, "DuckDB"]
        is_right &= plain(answers[pair.size, "ledger"]) == expected
        slow = statistics.quantiles(times[pair.size, "ledger"], n=100, method="inclusive")[98]
        print(
            f"  {pair.size}: {mine / its:.2f} of DuckDB, "
            f"{mine / medians[pairs[0].size, 'ledger']:.2f} of {pairs[0].size}; "
            f"{mine:.1f} ms (99th percentile {slow:.1f}), DuckDB {its:.1f} ms, {len(expected)} rows"
        )
    return is_right


def compare_columns(path: Path) -> None:
    """What a question about bodies takes, by SQLite and from columns beside the ledger."""
    query = usage_query(
        MeterDefinition(slug="time", aggregation="AVG", value_property="$.duration_ms"),
        window="DAY",
        group_by="feature",
        **_MONTH,
    )
    forget_columns(path)
    seconds = {}
    with contextlib.closing(Ledger(path)) as ledger:
        for name, fewest in (("SQLite", 1 << 62), ("making columns", 0), ("DuckDB", 0)):
            with (
                unittest.mock.patch.object(_from_columns, "FEWEST", fewest),
                unittest.mock.patch.object(_columns, "MOST_AT_ONCE", 1 << 62),
            ):
                begun = time.perf_counter()
                ledger.query(query)
                seconds[name] = time.perf_counter() - begun
    size = sum(each.stat().st_size for each in folder_of(path).iterdir())
    print(
        f"  average of a number in the body by another, daily: SQLite {seconds['SQLite']:.2f} s, "
        f"DuckDB {seconds['DuckDB']:.2f} s once there are columns; with making them "
        f"{seconds['making columns']:.2f} s, {size / path.stat().st_size:.1%} of the ledger's size"
    )


def main() -> int:
    """Fill, ask, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sizes", nargs="*", default=SIZES, metavar="EVENTSxMONTHS")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    print(machine.describe())
    print(
        f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, DuckDB {duckdb.__version__}"
    )
    is_right = True
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = given.folder or Path(temporary)
        pairs = []
        for size in given.sizes:
            events, months = (int(float(part)) for part in size.split("x"))
            path, raw = folder / f"{size}.db", folder / f"{size}.duckdb"
            if not raw.exists():
                fill(path, events, months)
                fill_duckdb(raw, path)
            with contextlib.closing(open_for_reading(path)) as connection:
                (recent,) = connection.execute("SELECT count(*) FROM recent").fetchone()
            print(f"{size}: {events} events in {months} months, {recent} of them recent")
            ledger = stack.enter_context(contextlib.closing(Ledger(path)))
            its = stack.enter_context(contextlib.closing(duckdb.connect(str(raw), read_only=True)))
            pairs.append(Pair(size=size, ledger=ledger, duckdb=its))
        for question in QUESTIONS:
            is_right &= measure(pairs, question, given.rounds)
        compare_columns(pairs[0].ledger.path)
    print("all answers were equal" if is_right else "NOT all answers were equal")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
