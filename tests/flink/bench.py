"""Sends the same events to the topic and to a ledger, and reads what either makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from itertools import count
from time import sleep
from zlib import crc32

import psycopg
from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from llm_metering.events import UsageEvent
from llm_metering.ledger import Ledger
from tests.factories import NOON, envelope_of, make_event
from tests.usage_by_hour import (
    COLUMNS,
    Hours,
    added_up,
    key_of,
    ledger_hours,
    of_meters,
)

from .servers import PARTITIONS, Job, Servers

_NAP = 0.1


class Bench:
    """One topic, one ledger, and what was sent to both.

    Args:
        servers: The broker and the database.
        ledger: A ledger of its own.
    """

    def __init__(self, servers: Servers, ledger: Ledger) -> None:
        self._servers = servers
        self._ledger = ledger
        self._producer = Producer({"bootstrap.servers": servers.kafka, "log_level": 0})
        self._numbers = count()
        self._sent: list[UsageEvent] = []

    def send(self, events: Iterable[UsageEvent]) -> None:
        """Send events as a sink for Kafka does: by subject, as CloudEvents in structured JSON."""
        for event in events:
            self._deliver(event, partition=crc32(event.subject.encode()) % PARTITIONS)
        self._producer.flush()

    def send_last_of_all(self, time: datetime = NOON) -> set[str]:
        """End each partition with an event of a subject of its own; these subjects."""
        number = next(self._numbers)
        last = {f"last {number} of partition {each}": each for each in range(PARTITIONS)}
        for subject, partition in last.items():
            self._deliver(make_event(subject=subject, time=time), partition=partition)
        self._producer.flush()
        return set(last)

    def send_raw(self, value: bytes) -> None:
        """Send what is no event."""
        self._producer.produce("llm-usage", value=value, partition=0)
        self._producer.flush()

    def empty_topic(self) -> None:
        """Remove what was sent from the topic, as its retention does some day."""
        ends = [TopicPartition("llm-usage", each, OFFSET_END) for each in range(PARTITIONS)]
        admin = AdminClient({"bootstrap.servers": self._servers.kafka, "log_level": 0})
        for removed in admin.delete_records(ends).values():
            removed.result()

    def read_topic(self, job: Job, last: set[str]) -> Hours:
        """What the topic of hours says once that everything before the last events is in it."""
        consumer = Consumer(
            {
                "bootstrap.servers": self._servers.kafka,
                "log_level": 0,
                "group.id": f"reader-{next(self._numbers)}",
                "auto.offset.reset": "earliest",
            }
        )
        consumer.subscribe(["llm-usage-by-hour"])
        hours: Hours = {}
        try:
            while not last <= {subject for _, subject, _ in hours}:
                job.expect_alive()
                message = consumer.poll(_NAP)
                if message is None:
                    continue
                assert not message.error()
                value = json.loads(message.value())
                key = json.loads(message.key())
                assert value.items() >= key.items()
                hour = datetime.fromisoformat(value["hour"])
                row = {column: value[column] for column in COLUMNS}
                hours[key_of(hour, value["subject"], value["model"])] = row
        finally:
            consumer.close()
        return hours

    def read_postgres(self, job: Job, last: set[str]) -> Hours:
        """The same of the table of hours in PostgreSQL."""
        while True:
            hours = self._table()
            if last <= {subject for _, subject, _ in hours}:
                return hours
            job.expect_alive()
            sleep(_NAP)

    def expect_what_the_ledger_has(self, hours: Hours) -> None:
        """Compare with the ledger, and with the events added up one by one."""
        assert of_meters(hours) == ledger_hours(self._ledger)
        assert hours == added_up(self._sent)

    def close(self) -> None:
        self._ledger.close()

    def _deliver(self, event: UsageEvent, *, partition: int) -> None:
        envelope = envelope_of(event)
        self._producer.produce(
            "llm-usage",
            key=event.subject.encode(),
            value=envelope.payload,
            headers={
                "content-type": "application/cloudevents+json",
                "ce_specversion": "1.0",
                "ce_id": event.id,
                "ce_source": event.source,
                "ce_type": event.type,
            },
            partition=partition,
        )
        assert self._ledger.deliver([envelope]).accepted == {event.id}
        self._sent.append(event)

    def _table(self) -> Hours:
        host, port = self._servers.postgres.split(":")
        columns = ", ".join(("hour", "subject", "model", *COLUMNS))
        with psycopg.connect(
            host=host, port=int(port), user="postgres", dbname="postgres"
        ) as connection:
            found = connection.execute(f"SELECT {columns} FROM llm_usage_by_hour").fetchall()
        return {
            key_of(hour, subject, model): dict(zip(COLUMNS, values, strict=True))
            for hour, subject, model, *values in found
        }
