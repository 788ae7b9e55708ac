"""How fast the ledger takes events in, with all its sums up to date, beside a bare SQLite table.

1. ours: `Ledger.deliver` in batches of its own limit, events in order of time.
2. bare: the same rows, read already, inserted into a table with `UNIQUE (source, id)` and nothing else,
   in batches of the same size, each one transaction with the same sync.

Both write files of their own in this process in turn, in an order that is shuffled anew for each
20,000 events. The events are made in between, which is not counted.

    python benchmarks/ledger_ingest.py [EVENTS] [--days D] [--subjects N] [--models N] [--random-ids]

The exit code is 1 if the sums are not those of the events.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import resource
import sqlite3
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import machine

from llm_metering.events import UsageEvent, encode, new_event_id
from llm_metering.ledger import Ledger
from llm_metering.ledger._rows import COLUMNS, Row, read_row
from llm_metering.meters import usage_query
from llm_metering.sinks import Envelope
from llm_metering.token_usage import TokenUsage

EVENTS = 1_000_000
DAYS = 30.0
SUBJECTS = 1000
MODELS = 20
BATCH = Ledger.limits.max_events
TURN = 10 * BATCH
START = datetime(2026, 1, 1, tzinfo=UTC)


class Traffic:
    """Events of many subjects and models, in order of time.

    Args:
        asked: How many, and of what.
    """

    def __init__(self, asked: argparse.Namespace) -> None:
        self.tokens = 0
        self._asked = asked
        self._chance = random.Random(8)

    def __iter__(self) -> Iterator[Envelope]:
        asked, chance = self._asked, self._chance
        step = timedelta(days=asked.days) / asked.events
        for number in range(asked.events):
            model = chance.randrange(asked.models)
            usage = TokenUsage(
                input_tokens=chance.randrange(200, 5000),
                output_tokens=chance.randrange(1, 1000),
                cache_read_input_tokens=chance.randrange(200),
            )
            event = UsageEvent(
                id=str(uuid.UUID(int=chance.getrandbits(128)))
                if asked.random_ids
                else new_event_id(),
                source="benchmark",
                subject=f"customer-{chance.randrange(asked.subjects):04}",
                time=START + number * step,
                provenance=chance.choices(("reported", "estimated", "partial"), (95, 4, 1))[0],
                status="completed",
                operation="chat",
                provider=("openai", "anthropic", "google")[model % 3],
                model=f"model-{model:02}",
                framework="langchain",
                usage=usage,
            )
            self.tokens += usage.total_tokens or 0
            yield Envelope(event.id, encode(event))


class Bare:
    """A table and its one index.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        columns = ", ".join(COLUMNS)
        self._connection.execute(f"CREATE TABLE events ({columns}, UNIQUE (source, id))")
        self._insert = f"INSERT INTO events VALUES ({', '.join('?' * len(COLUMNS))})"

    def take(self, rows: Sequence[Row]) -> None:
        """Insert rows, in one transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(self._insert, rows)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class Cost:
    """What a way to take events in has taken.

    Attributes:
        seconds: Of each batch.
        busy: Seconds of a processor, in all: what there would be to wait for on a machine that has
            nothing else to do, and a disk that takes no time.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.busy = 0.0

    def add(self, work: Callable[[int], None], count: int) -> None:
        """Do it with so many events."""
        for start in range(0, count, BATCH):
            started, busy = time.perf_counter(), time.process_time()
            work(start)
            self.seconds.append(time.perf_counter() - started)
            self.busy += time.process_time() - busy

    def since(self, done: int, busy: float) -> Cost:
        """What was added since so many batches, and so many seconds of a processor."""
        rest = Cost()
        rest.seconds, rest.busy = self.seconds[done:], self.busy - busy
        return rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("events", type=int, nargs="?", default=EVENTS)
    parser.add_argument("--days", type=float, default=DAYS, help="the time that the events span")
    parser.add_argument("--subjects", type=int, default=SUBJECTS)
    parser.add_argument("--models", type=int, default=MODELS)
    parser.add_argument("--random-ids", action="store_true", help="ids that are in no order")
    asked = parser.parse_args()
    print(machine.describe())
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}")
    print(
        f"{asked.events:,} events in {asked.days:g} days, {asked.subjects:,} subjects, "
        f"{asked.models} models, ids {'at random' if asked.random_ids else 'in order of time'}"
    )
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        measure(asked, Path(folder))


def measure(asked: argparse.Namespace, folder: Path) -> None:
    traffic = Traffic(asked)
    envelopes = iter(traffic)
    costs = {"ours": Cost(), "bare": Cost()}
    shown, busy = 0, dict.fromkeys(costs, 0.0)
    with closing(Ledger(folder / "ledger.db")) as ledger, closing(Bare(folder / "bare.db")) as bare:
        while turn := list(islice(envelopes, TURN)):
            rows = [read_row(each.payload) for each in turn]

            def deliver(start: int, turn: list[Envelope] = turn) -> None:
                some = turn[start : start + BATCH]
                if not ledger.deliver(some).takes_all_of(some):
                    raise SystemExit("the ledger did not take all")

            def insert(start: int, rows: Sequence[Row] = rows) -> None:
                bare.take(rows[start : start + BATCH])

            ways: dict[str, Callable[[int], None]] = {"ours": deliver, "bare": insert}
            for name in random.sample(sorted(ways), len(ways)):
                costs[name].add(ways[name], len(turn))
            done = len(costs["ours"].seconds) * BATCH
            if done >= shown + asked.events / 10:
                since = {
                    name: each.since(shown // BATCH, busy[name]) for name, each in costs.items()
                }
                tell(f"{done:>10,}", since)
                shown, busy = done, {name: each.busy for name, each in costs.items()}
        print()
        tell("all       ", costs)
        batches = sorted(costs["ours"].seconds)
        print(
            f"a batch of ours: {statistics.median(batches) * 1000:.0f} ms, "
            f"99th percentile {batches[int(len(batches) * 0.99)] * 1000:.0f} ms, "
            f"longest {batches[-1] * 1000:.0f} ms"
        )
        sizes = [os.path.getsize(folder / f"{name}.db") for name in ("ledger", "bare")]
        print(
            f"{sizes[0] / asked.events:,.0f} bytes an event, {sizes[0] / sizes[1]:.2f} times the bare "
            f"table's; {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB of memory"
        )
        found = [
            ledger.query(usage_query(meter)).total for meter in ("calls_total", "tokens_total")
        ]
        if found != [asked.events, traffic.tokens]:
            raise SystemExit(f"the sums are {found} of {[asked.events, traffic.tokens]}")


def tell(what: str, costs: dict[str, Cost]) -> None:
    """How fast both were, and the ratio."""
    ours, bare = costs["ours"], costs["bare"]
    count = len(ours.seconds) * BATCH
    took = {name: sum(each.seconds) for name, each in costs.items()}
    print(
        f"{what}: {took['ours'] / took['bare']:.2f} times as long as bare "
        f"({ours.busy / bare.busy:.2f} of a processor); "
        f"ours {count / took['ours']:>7,.0f} events/s ({count / ours.busy:>7,.0f}), "
        f"bare {count / took['bare']:>7,.0f} ({count / bare.busy:>7,.0f})",
        flush=True,
    )


if __name__ == "__main__":
    main()
