"""How fast events reach a Kafka topic through a meter, beside the bare producer of confluent-kafka.

Both write the same bytes, with the same headers, keys and properties, to librdkafka's mock cluster of
three brokers in a process of its own, and wait for the report about each record. Ours records the
events first, journals them, and reads them back. Rounds alternate in one process, in an order that is
shuffled anew each round.

    python benchmarks/kafka_sink.py [EVENTS] [--rounds N]

The exit code is 1 if an event was lost.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import confluent_kafka
import machine

from llm_metering import Meter, TokenUsage
from llm_metering.sinks import Envelope, open_sink
from llm_metering.sinks.kafka.sink import KafkaSink, records_of
from llm_metering.sinks.memory import MemorySink

EVENTS = 20_000
ROUNDS = 7
PATIENCE = 60.0
TOPIC = "usage"
BROKERS = """
import sys, time
from confluent_kafka import Producer
cluster = Producer({"test.mock.num.brokers": 3, "log_level": 0})
found = cluster.list_topics(timeout=10).brokers.values()
print(",".join(f"{each.host}:{each.port}" for each in found), flush=True)
sys.stdin.read()
"""


@contextmanager
def brokers() -> Iterator[str]:
    """Three brokers in a process of their own."""
    process = subprocess.Popen(
        [sys.executable, "-c", BROKERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("")


def record(meter: Meter, count: int) -> None:
    """Calls of a hundred customers."""
    for number in range(count):
        meter.record(
            TokenUsage(input_tokens=100, output_tokens=20, cache_read_input_tokens=64),
            f"customer-{number % 100}",
            dimensions={"feature": "search"},
            provider="openai",
            model="gpt-5-mini",
        )


def as_sent(count: int) -> list[tuple[str, bytes, list[tuple[str, str]]]]:
    """What the sink would write for that many events."""
    kept: list[Envelope] = []

    class Keeping(MemorySink):
        def deliver(self, batch: Any, /) -> Any:
            kept.extend(Envelope(each.id, bytes(each.payload)) for each in batch)
            return super().deliver(batch)

    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as home,
        Meter(home=home, sinks=[Keeping()], source="benchmark", ledger=False) as meter,
    ):
        record(meter, count)
        meter.flush(PATIENCE)
    return [(each.key, each.value, each.headers) for each in records_of(kept)[0].values()]


class Bare:
    """The producer, with nothing around it."""

    def __init__(self, url: str, count: int) -> None:
        sink = open_sink(url, source="benchmark")
        assert isinstance(sink, KafkaSink)
        self._records = as_sent(count)
        self._producer = confluent_kafka.Producer({**sink.properties, "log_level": 0})
        self.written = 0

    def _report(self, error: object, _message: object) -> None:
        self.written += error is None

    def write(self) -> None:
        """All of them, until each is reported."""
        for key, value, headers in self._records:
            self._producer.produce(
                TOPIC, key=key, value=value, headers=list(headers), on_delivery=self._report
            )
        self._producer.flush(PATIENCE)


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("events", nargs="?", type=int, default=EVENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    print(machine.describe())
    print(f"confluent-kafka {version('confluent-kafka')}, {confluent_kafka.libversion()[0]}")
    rates: dict[str, list[float]] = {"meter": [], "delivery": [], "bare": []}
    with brokers() as bootstrap, tempfile.TemporaryDirectory(dir="/var/tmp") as home:
        url = f"kafka://{bootstrap}/{TOPIC}"
        bare = Bare(url, options.events)
        bare.write()
        with Meter(home=home, sinks=[url], source="benchmark", ledger=False) as meter:
            record(meter, 100)
            meter.flush(PATIENCE)
            for _ in range(options.rounds):
                for kind in random.sample(["meter", "bare"], 2):
                    begun = time.perf_counter()
                    if kind == "bare":
                        bare.write()
                    else:
                        record(meter, options.events)
                        recorded = time.perf_counter()
                        if not meter.flush(PATIENCE):
                            raise TimeoutError("not all was delivered")
                        ended = time.perf_counter()
                        rates["delivery"].append(options.events / (ended - recorded))
                    rates[kind].append(options.events / (time.perf_counter() - begun))
            [sink] = meter.statistics()["sinks"]
    limit = statistics.median(rates["bare"])
    for kind, told in (
        ("bare", "the bare producer"),
        ("meter", "record, journal and sink, from the first record to the last report"),
        ("delivery", "what was left when the last was recorded"),
    ):
        rate = statistics.median(rates[kind])
        print(f"{rate / limit:6.2f}  {rate:10,.0f} events/s  {told}")
    lost = options.events * options.rounds + 100 - sink["acked"]
    missing = options.events * (options.rounds + 1) - bare.written
    print(f"lost: {lost} of ours, {missing} of the bare producer's")
    return 1 if lost or missing else 0


if __name__ == "__main__":
    sys.exit(main())
