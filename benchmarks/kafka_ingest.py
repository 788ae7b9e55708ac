"""How fast `llm-metering ingest` takes a topic into a ledger, beside what bounds it.

1. ours: a topic is read to its end, into a new ledger.
2. consume: the same topic, read by a consumer of confluent-kafka that looks at nothing.
3. deliver: the same events, in hand already, delivered to a new ledger in batches of its own limit.

The broker is `noida-db`, in a process of its own, which keeps the topic in memory; it saves it before
the first round. All three run in this process in turn, in an order that is shuffled anew each round.

    python benchmarks/kafka_ingest.py [EVENTS] [--rounds N]

The exit code is 1 if an event is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import random
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import machine
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from llm_metering.events import UsageEvent, encode, new_event_id
from llm_metering.ingest import Ingester, TopicReader
from llm_metering.ledger import Ledger
from llm_metering.ledger.intake import Intake
from llm_metering.sinks import Envelope
from llm_metering.token_usage import TokenUsage

EVENTS = 100_000
ROUNDS = 7
TOPIC = "usage"
PARTITIONS = 6
HEADERS: list[tuple[str, str | bytes | None]] = [
    ("content-type", b"application/cloudevents+json; charset=UTF-8"),
    ("ce_source", b"benchmark"),
    ("ce_type", b"llm.usage"),
    ("ce_specversion", b"1.0"),
]


def make(number: int) -> UsageEvent:
    """An event as a call of LangChain makes it."""
    return UsageEvent(
        id=new_event_id(),
        source="benchmark",
        subject=f"customer-{number % 200}",
        time=datetime.now(UTC),
        provenance="reported",
        status="completed",
        operation="chat",
        provider="openai",
        model=("gpt-5-mini", "gpt-5", "claude-sonnet-5")[number % 3],
        framework="langchain",
        usage=TokenUsage(input_tokens=1000 + number % 97, output_tokens=number % 331),
    )


@contextlib.contextmanager
def broker(folder: str) -> Iterator[str]:
    """A broker with an empty topic; where it listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    binary = str(files("noida_db").joinpath("noida-db"))
    command = [binary, "start", "--only", "kafka", "--kafka-port", str(port), "--data-dir", "data"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            brokers = f"127.0.0.1:{port}"
            admin = AdminClient({"bootstrap.servers": brokers, "log_level": 0})
            admin.list_topics(timeout=30)
            admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)
            yield brokers
        finally:
            process.kill()


def fill(brokers: str, count: int) -> None:
    """Write so many events to the topic."""
    producer = Producer({"bootstrap.servers": brokers, "log_level": 0})
    for number in range(count):
        event = make(number)
        headers = [*HEADERS, ("ce_id", event.id.encode())]
        if number % 10_000 == 0:
            producer.flush()
        producer.produce(TOPIC, encode(event), key=event.subject.encode(), headers=headers)
        producer.poll(0)
    if producer.flush(60):
        raise SystemExit("the broker did not take all")


def ingest(brokers: str, count: int) -> float:
    """Seconds that ours takes."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        started = time.perf_counter()
        with (
            closing(TopicReader(f"kafka://{brokers}/{TOPIC}", {})) as reader,
            closing(Intake(home / "ledger.db")) as intake,
        ):
            ingester = Ingester(reader, intake, home=home, until_end=True, say=print)
            ingester.run(threading.Event())
            seconds = time.perf_counter() - started
            if ingester.progress.taken.new != count:
                raise SystemExit(f"{ingester.progress.taken} of {count} events")
    return seconds


def consume(brokers: str, count: int) -> tuple[float, list[bytes]]:
    """Seconds that a consumer takes alone; and what it has read."""
    payloads: list[bytes] = []
    started = time.perf_counter()
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "benchmark", "log_level": 0})
    with closing(consumer):
        numbers = consumer.list_topics(TOPIC).topics[TOPIC].partitions
        consumer.assign([TopicPartition(TOPIC, number, 0) for number in numbers])
        while len(payloads) < count:
            payloads += [message.value() or b"" for message in consumer.consume(500, timeout=5)]
        seconds = time.perf_counter() - started
    return seconds, payloads


def deliver(payloads: list[bytes]) -> float:
    """Seconds that the ledger takes alone."""
    batch = [Envelope(str(number), payload) for number, payload in enumerate(payloads)]
    size = Ledger.limits.max_events
    with tempfile.TemporaryDirectory() as folder, closing(Ledger(Path(folder) / "l.db")) as ledger:
        started = time.perf_counter()
        for start in range(0, len(batch), size):
            some = batch[start : start + size]
            if not ledger.deliver(some).takes_all_of(some):
                raise SystemExit("the ledger did not take all")
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("events", type=int, nargs="?", default=EVENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    count: int = asked.events
    print(machine.describe())
    print(f"Python {platform.python_version()}, confluent-kafka {version('confluent-kafka')}")
    print(f"{count:,} events, {asked.rounds} rounds")
    with tempfile.TemporaryDirectory() as folder, broker(folder) as brokers:
        fill(brokers, count)
        _, payloads = consume(brokers, count)
        ways: dict[str, Callable[[], float]] = {
            "ours": lambda: ingest(brokers, count),
            "consume": lambda: consume(brokers, count)[0],
            "deliver": lambda: deliver(payloads),
        }
        rounds = []
        for _ in range(asked.rounds):
            order = random.sample(sorted(ways), len(ways))
            rounds.append({name: ways[name]() for name in order})
    for name in ways:
        rate = statistics.median(count / each[name] for each in rounds)
        ratio = statistics.median(each["ours"] / each[name] for each in rounds)
        print(f"{name:8} {rate:>10,.0f} events/s; ours takes {ratio:.2f} times as long")


if __name__ == "__main__":
    main()
