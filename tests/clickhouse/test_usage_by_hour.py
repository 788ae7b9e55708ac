"""The statements of the page on stream processing for ClickHouse, run by its engine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from chdb.session import Session

from llm_metering.events import encode
from llm_metering.ledger import Ledger
from tests.factories import envelope_of
from tests.usage_by_hour import (
    COLUMNS,
    Hours,
    added_up,
    key_of,
    ledger_hours,
    of_meters,
    some_events,
)

PAGES = Path(__file__).parents[2] / "docs" / "how-to" / "stream-processing"


@pytest.fixture
def clickhouse(tmp_path: Path) -> Iterator[Session]:
    """ClickHouse with the documentation's tables, of which the queue is fed by hand."""
    session = Session(str(tmp_path / "clickhouse"))
    session.query("CREATE DATABASE metering")
    session.query("USE metering")
    text = (PAGES / "clickhouse_tables.sql").read_text("utf-8")
    # The engine in a process has no Kafka. What is inserted here goes the same way.
    text, replaced = re.subn(r"ENGINE = Kafka\n.*?;", "ENGINE = Null;", text, flags=re.DOTALL)
    assert replaced == 1
    for statement in filter(str.strip, text.split(";\n")):
        session.query(statement)
    yield session
    session.close()


def usage_by_hour(session: Session) -> Hours:
    """The answer to the documentation's question."""
    statement = (PAGES / "clickhouse_usage_by_hour.sql").read_text("utf-8")
    answer = str(
        session.query(
            statement.replace(";", " SETTINGS output_format_json_quote_64bit_integers = 0"),
            "JSONEachRow",
        )
    )
    rows = [json.loads(line) for line in answer.splitlines()]
    return {
        key_of(datetime.fromisoformat(row["hour"]), row["subject"], row["model"]): {
            column: row[column] for column in COLUMNS
        }
        for row in rows
    }


def insert(session: Session, lines: list[bytes], file: Path) -> None:
    """Insert a block, as a table of the engine Kafka does for each that it has read."""
    file.write_bytes(b"\n".join(lines))
    session.query(f"INSERT INTO llm_events_queue SELECT json FROM file('{file}', JSONAsString)")


def test_hours_are_those_of_the_ledger(clickhouse, tmp_path):
    """Repeated and late events, models and counts that nobody knows: every sum is the ledger's."""
    events = some_events(500, seed=1)
    ledger = Ledger(tmp_path / "ledger.db")
    for event in events:
        assert ledger.deliver([envelope_of(event)]).accepted == {event.id}
    middle = len(events) // 2

    for block in (events[:middle], events[middle:], events[:100]):
        insert(clickhouse, [encode(event) for event in block], tmp_path / "events.jsonl")
    hours = usage_by_hour(clickhouse)

    assert of_meters(hours) == ledger_hours(ledger)
    assert hours == added_up(events)
    assert any(row["input_tokens"] is None for row in hours.values())
    assert any(not model for _, _, model in hours)
    ledger.close()
