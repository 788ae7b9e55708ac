"""Topics with usage in them, as the kafka sink writes it, and as others may."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from confluent_kafka import Producer

from llm_metering.events import UsageEvent, encode
from llm_metering.ledger import Ledger
from llm_metering.meters import usage_query

STRUCTURED = ("content-type", b"application/cloudevents+json; charset=UTF-8")


def producer(bootstrap: str, **properties) -> Producer:
    """One that says nothing."""
    return Producer({"bootstrap.servers": bootstrap, "log_level": 0, **properties})


def send(brokers, topic: str, events: Iterable[UsageEvent], partition: int | None = None) -> None:
    """Write events to a topic, and wait until they are there."""
    to = producer(brokers.bootstrap)
    where = {} if partition is None else {"partition": partition}
    for event in events:
        headers = [STRUCTURED, ("ce_id", event.id.encode()), ("ce_specversion", b"1.0")]
        to.produce(topic, encode(event), key=event.subject.encode(), headers=headers, **where)
    assert to.flush(20) == 0


def send_raw(brokers, topic: str, value, headers=(), partition: int = 0) -> None:
    """Write one record of any kind."""
    to = producer(brokers.bootstrap)
    to.produce(topic, value, headers=list(headers), partition=partition)
    assert to.flush(20) == 0


def ids(home: Path) -> list[str]:
    """Those of the events in the ledger of a home, sorted."""
    if not (home / "ledger.db").exists():
        return []
    with closing(sqlite3.connect(home / "ledger.db")) as connection:
        found = connection.execute("SELECT id FROM events ORDER BY id").fetchall()
    with closing(Ledger(home / "ledger.db")) as ledger:
        assert ledger.query(usage_query("calls_total")).total == len(found)
    return [each for (each,) in found]
