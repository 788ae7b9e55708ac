"""How long it takes to price events, to ask what they cost, and to read what their bills are made of.

A ledger is filled with a month of events of 1,000 subjects and 20 models, as `ledger.py` does it. All of
them are priced, in the transactions of the library; then the questions are put for costs and for tokens,
in turn, in an order that is shuffled anew each round, and so is the reading of a month for bills.

    python benchmarks/prices.py [EVENTS] [--rounds N] [--folder FOLDER]

In a folder that is named the ledger stays, and the next run finds it, priced; remove `ledger.db` to price
it again. The exit code is 1 if a sum was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import ledger as filling
import machine

from llm_metering.ledger import Ledger
from llm_metering.meters import usage_query
from llm_metering.prices import ModelPrices, PriceCard
from llm_metering.sinks import Envelope

EVENTS = "1e6"
ROUNDS = 9
BATCH = 2000
START, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
QUESTIONS: dict[str, dict[str, Any]] = {
    "everybody, by model": {"group_by": "model"},
    "everybody, by day": {"window": "DAY"},
    "everybody, by day in Berlin and model": {
        "window": "DAY",
        "group_by": "model",
        "time_zone": "Europe/Berlin",
    },
    "all subjects": {"group_by": "subject"},
    "all subjects, by model": {"group_by": ["subject", "model"]},
    "all subjects, by day": {"group_by": "subject", "window": "DAY"},
    "one subject, by hour and model": {
        "subject": "customer-0007",
        "group_by": "model",
        "window": "HOUR",
    },
    "everybody, by a dimension": {"group_by": "feature"},
}


class Prices:
    """A list of a card for each model."""

    name = "benchmark"
    version = "1"

    def __init__(self) -> None:
        prices = {"input": "3", "cache_read": "0.3", "output": "15"}
        self._models = {
            model: ModelPrices(cards=(PriceCard.per_million(provider, model, prices),))
            for model, provider in filling.MODELS
        }

    def find(
        self, provider: str | None, model: str | None, *, time: datetime, service_tier: str | None
    ) -> ModelPrices:
        """As a `PriceList` does; there are no other models."""
        assert model is not None
        return self._models[model]


def fill(ledger: Ledger, events: int) -> None:
    """A month of events."""
    batch: list[Envelope] = []
    for name, payload in filling.payloads(events, 1):
        batch.append(Envelope(id=name, payload=payload))
        if len(batch) == BATCH:
            assert len(ledger.deliver(batch).accepted) == len(batch)
            batch = []
    if batch:
        ledger.deliver(batch)


def timed(work: Callable[[], Any]) -> float:
    """Milliseconds that it takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def run(folder: Path, events: int, rounds: int) -> int:
    """Measure, and print."""
    random = Random(5)
    path = folder / "ledger.db"
    with contextlib.closing(Ledger(path)) as ledger:
        if not path.exists():
            fill(ledger, events)
        began, used = time.perf_counter(), time.process_time()
        done = ledger.price({"cost": Prices()})
        if done.events["cost"]:
            seconds = time.perf_counter() - began
            processor = time.process_time() - used
            rate = done.events["cost"] / seconds
            print(f"priced {done.events['cost']:,} events in {seconds:.1f} s ", end="")
            print(f"({processor:.1f} s of a processor), {rate:,.0f} a second")
        period: dict[str, Any] = {"start": START, "end": END}
        works: dict[tuple[str, str], Callable[[], Any]] = {}
        for title, asked in QUESTIONS.items():
            for slug in ("cost_total", "tokens_total"):
                query = usage_query(slug, **asked, **period)
                works[title, slug] = partial(ledger.query, query)
        works["what the bills of a month are made of", "billing"] = partial(
            ledger.billing, START, END
        )
        times: dict[tuple[str, str], list[float]] = {key: [] for key in works}
        for _ in range(rounds):
            for key in random.sample(sorted(works), len(works)):
                times[key].append(timed(works[key]))
        for title, slug in works:
            print(f"{title:<42}{slug:<14}{statistics.median(times[title, slug]):>9.1f} ms")
        picos = sum(each.picos or 0 for each in ledger.billing(START, END).charges)
        total = ledger.query(usage_query("cost_total", **period)).total
        is_right = Decimal(picos).scaleb(-12) == total and ledger.recount() == []
    print("bills and sums agree" if is_right else "WRONG: bills, sums and events differ")
    return 0 if is_right else 1


def main() -> int:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("events", nargs="?", default=EVENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    print(machine.describe())
    with tempfile.TemporaryDirectory() as scratch:
        return run(asked.folder or Path(scratch), int(float(asked.events)), asked.rounds)


if __name__ == "__main__":
    sys.exit(main())
