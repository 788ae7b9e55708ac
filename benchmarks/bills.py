"""A month billed for everybody at once, beside one SQL statement that only adds the month up.

1. cold: nothing has a price yet. Costs are worked out event by event and kept, then all bills are made.
2. warm: the same bills again.
3. limit: what a bill needs at least, tokens by subject, model and provenance, as one statement over the
   ledger's table of events.

Half of the customers pay for tokens by graduated tiers, half the cost with a markup. Each round takes a copy of the
ledger; the copies and the events are made in between, which is not counted.

Seconds are of a processor; beside them stands how long there was to wait.

    python benchmarks/bills.py [EVENTS] [--subjects N] [--models N] [--rounds N]

The exit code is 1 if the bills do not say what the statement does.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import machine

from llm_metering.bills import Bills, parse_plans
from llm_metering.bills.asking import days_of, make_bills
from llm_metering.events import UsageEvent, encode
from llm_metering.ledger import Ledger
from llm_metering.prices.opening import open_prices
from llm_metering.sinks import Envelope
from llm_metering.token_usage import TokenUsage

T = TypeVar("T")

EVENTS = 1_000_000
SUBJECTS = 1000
MODELS = 20
ROUNDS = 3
START = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = Ledger.limits.max_events

PLANS = """
default_plan = "tokens"
[[plans]]
name = "tokens"
effective_from = 2026-01-01
currency = "USD"
[[plans.charges]]
name = "Tokens"
meter = "tokens_total"
group_by = ["model"]
per = 1000
included = 10000
tiers = [ { up_to = 1000000, price = "0.002" }, { price = "0.001" } ]
[[plans]]
name = "cost"
effective_from = 2026-01-01
currency = "USD"
minimum = 5
[[plans.charges]]
name = "Models"
meter = "cost_total"
group_by = ["model"]
markup = "0.20"
"""

LIMIT = """
SELECT subject, model, provenance, sum(input_tokens), sum(cache_read_input_tokens),
    sum(output_tokens), sum(total_tokens), sum(calls)
FROM events WHERE time >= ? AND time < ? GROUP BY subject, model, provenance
"""


def events(asked: argparse.Namespace) -> Iterator[Envelope]:
    """A month of calls, in order of time."""
    chance = random.Random(9)
    step = timedelta(days=31) / asked.events
    for number in range(asked.events):
        model = chance.randrange(asked.models)
        event = UsageEvent(
            id=str(uuid.UUID(int=chance.getrandbits(128))),
            source="benchmark",
            subject=f"customer-{chance.randrange(asked.subjects):04}",
            time=START + number * step,
            provenance=chance.choices(("reported", "estimated", "partial"), (95, 4, 1))[0],
            status="completed",
            operation="chat",
            provider=("openai", "anthropic", "google")[model % 3],
            model=f"model-{model:02}",
            framework="langchain",
            usage=TokenUsage(
                input_tokens=chance.randrange(200, 5000),
                output_tokens=chance.randrange(1, 1000),
                cache_read_input_tokens=chance.randrange(200),
            ),
        )
        yield Envelope(event.id, encode(event))


def fill(path: Path, asked: argparse.Namespace) -> None:
    made = events(asked)
    with closing(Ledger(path)) as ledger:
        while batch := list(islice(made, BATCH)):
            if not ledger.deliver(batch).takes_all_of(batch):
                raise SystemExit("the ledger did not take all")


def price_file(path: Path, models: int) -> None:
    tables = [
        f'[[prices]]\nprovider = "{("openai", "anthropic", "google")[model % 3]}"\n'
        f'model = "model-{model:02}"\n'
        f'per_million = {{ input = "{model + 1}", cache_read = "0.{model + 1:02}", output = "9" }}\n'
        for model in range(models)
    ]
    path.write_text('currency = "USD"\n' + "".join(tables))


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """How long something takes: seconds of a processor, since others may be busy on the machine."""
    started, waited = time.process_time(), time.perf_counter()
    result = work()
    spent = time.process_time() - started
    print(f"  {spent:.2f} s of a processor, {time.perf_counter() - waited:.2f} s to wait for")
    return spent, result


def limit(path: Path) -> list[tuple[str, str, str, int, int, int, int, int]]:
    first, last = (
        int(datetime(2026, month, 1, tzinfo=UTC).timestamp()) * 1_000_000 for month in (1, 2)
    )
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(LIMIT, (first, last)).fetchall()


def is_right(bills: Bills, sums: list[tuple[str, str, str, int, int, int, int, int]]) -> bool:
    """Whether the bills have the tokens and the costs of the sums."""
    tokens: dict[str, int] = {}
    costs: dict[str, Decimal] = {}
    for subject, model, _, input_tokens, cached, output, total, _ in sums:
        number = int(model.rpartition("-")[2])
        millionths = (
            (input_tokens - cached) * (number + 1)
            + cached * Decimal(f"0.{number + 1:02}")
            + output * 9
        )
        tokens[subject] = tokens.get(subject, 0) + total
        costs[subject] = costs.get(subject, Decimal(0)) + millionths / 1_000_000
    for bill in bills:
        counted = sum((line.quantity or 0 for line in bill.lines), Decimal(0))
        charged = tokens[bill.subject] if bill.lines[0].plan == "tokens" else costs[bill.subject]
        if bill.cost != {"USD": costs[bill.subject]} or counted != charged:
            return False
    return len(bills) == len(tokens) and all(bill.is_complete for bill in bills)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("events", type=int, nargs="?", default=EVENTS)
    parser.add_argument("--subjects", type=int, default=SUBJECTS)
    parser.add_argument("--models", type=int, default=MODELS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    print(machine.describe())
    print(f"{asked.events:,} events, {asked.subjects:,} subjects, {asked.models} models")
    rows = "".join(
        f'[[subjects]]\nsubject = "customer-{number:04}"\nplan = "cost"\nfrom = 2026-01-01\n'
        for number in range(0, asked.subjects, 2)
    )
    book, days = parse_plans(PLANS + rows), days_of("2026-01")
    seconds: dict[str, list[float]] = {"pricing": [], "cold": [], "warm": [], "limit": []}
    right = True
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = Path(folder) / "ledger.db"
        fill(path, asked)
        price_file(Path(folder) / "prices.toml", asked.models)
        for number in range(asked.rounds):
            copy = Path(folder) / f"copy-{number}.db"
            shutil.copyfile(path, copy)
            prices = open_prices([Path(folder) / "prices.toml"], "off")
            with closing(Ledger(copy)) as ledger:
                spent, _ = timed(partial(ledger.price, {"cost": prices}))
                billed, bills = timed(partial(make_bills, ledger, book, days))
                again, same = timed(partial(make_bills, ledger, book, days))
            least, sums = timed(partial(limit, copy))
            copy.unlink()
            for name, value in (
                ("pricing", spent),
                ("cold", spent + billed),
                ("warm", again),
                ("limit", least),
            ):
                seconds[name].append(value)
            right &= is_right(bills, sums)
            right &= [bill.digest for bill in bills] == [bill.digest for bill in same]
            print(
                f"cold {spent + billed:.2f} s, of that pricing {spent:.2f} s; warm {again:.2f} s; limit {least:.2f} s"
            )
    best = statistics.median(seconds["limit"])
    for name, values in seconds.items():
        middle = statistics.median(values)
        print(f"{name:>8}: {middle:.2f} s, {middle / best:.2f} times the limit")
    print("the bills are right" if right else "THE BILLS ARE WRONG")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
