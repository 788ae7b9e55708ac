"""How fast a reconciliation is, beside the bare requests that it makes, and whether it is right.

A meter records events and delivers them to a fake OpenMeter in a process of its own, which has been
told to go wrong: it loses some after it accepted them, claims the ids of some before it writes them,
counts some twice, and has a meter that cannot read a value of some. Then they are reconciled. What
is found has to be what was planted, event by event.

The limit is one `httpx.Client` that asks for the same pages, four at a time, and throws away what it
gets. Rounds of ours and of the limit alternate.

    python benchmarks/reconcile.py [EVENTS] [--rounds N] [--api v1|v3]

The exit code is 1 if anything else was found than was planted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import httpx
import machine

from llm_metering import Meter, TokenUsage
from llm_metering.ledger import Ledger
from llm_metering.reconcile import Reconciler
from llm_metering.reconcile.listing import IN_FLIGHT
from llm_metering.reconcile.pages import PATHS, chunks, page_query
from llm_metering.sinks import open_sink
from llm_metering.sinks.openmeter import OpenMeterSink
from llm_metering.transport.retention import Retention

EVENTS = 100_000
ROUNDS = 3
SOURCE = "benchmark"
START = datetime(2026, 11, 21, 0, 0, tzinfo=UTC)
END = START + timedelta(days=1)
METERS = [
    {
        "slug": "tokens",
        "eventType": "llm.usage",
        "aggregation": "SUM",
        "valueProperty": "$.total_tokens",
    },
    {
        "slug": "credits",
        "eventType": "llm.usage",
        "aggregation": "SUM",
        "valueProperty": "$.credits",
    },
]
PLANTED = {"missing": 40, "claimed": 5, "doubled": 60, "invalid": 30}
"""How many of each at most; a fiftieth of all events where these are too many."""


@contextlib.contextmanager
def server_process(folder: Path) -> Iterator[str]:
    """A fake OpenMeter in a process of its own."""
    meters = folder / "meters.json"
    meters.write_text(json.dumps(METERS))
    command = [sys.executable, "-m", "llm_metering.testing.server", "--meters", str(meters)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def plant(admin: httpx.Client, sink: str, home: Path, events: int) -> dict[str, set[str]]:
    """Record and deliver events to a server that goes wrong; the ids of what it did wrong."""
    random = Random(7)
    numbers = random.sample(range(events), min(sum(PLANTED.values()), events // 50))
    kinds = [kind for kind, count in PLANTED.items() for _ in range(count)]
    plants = dict(zip(numbers, random.sample(kinds, len(numbers)), strict=True))
    for fault, kind in (("LostAfterAccept", "missing"), ("ClaimBeforeWrite", "claimed")):
        order = {"faults": [{"fault": fault, "data": {"plant": kind}}], "times": None}
        admin.post("orders", json=order).raise_for_status()
    found: dict[str, set[str]] = {kind: set() for kind in PLANTED}
    doubled = []
    with Meter(home=home, sinks=[sink], source=SOURCE) as meter:
        for number in range(events):
            planted = plants.get(number)
            event = meter.record(
                TokenUsage(input_tokens=random.randrange(50, 4000), output_tokens=number % 500),
                f"customer-{number % 200}",
                model="tiny",
                time=START + timedelta(seconds=number * 86_000 / events),
                dimensions={
                    "plant": planted or "none",
                    "credits": "very many" if planted == "invalid" else "3",
                },
            )
            if event is None or planted is None:
                continue
            found[planted].add(event.id)
            if planted == "doubled":
                doubled.append(event.id)
        assert meter.flush(600), meter.statistics()
    rows = [event for event in admin.get("state").json()["events"] if event["id"] in set(doubled)]
    admin.post("events", json=rows).raise_for_status()
    # Nobody can tell them apart before they are sent again.
    found["missing"] |= found.pop("claimed")
    return {kind: ids for kind, ids in found.items() if ids}


def reconcile(home: Path, sink: OpenMeterSink) -> tuple[Reconciler, float, dict[str, set[str]]]:
    """A reconciliation: itself, its seconds, and the ids that it found by kind."""
    ledger = Ledger(home / "ledger.db")
    begun = time.perf_counter()
    with Reconciler(
        home,
        sink=sink,
        ledger=ledger,
        source=SOURCE,
        start=START,
        end=END,
        retention=Retention(),
        settle=0.0,
        lag=0.0,
    ) as reconciler:
        reconciler.compare()
        reconciler.add_totals()
        seconds = time.perf_counter() - begun
        found: dict[str, set[str]] = {}
        for wire_id, finding in reconciler.findings.items():
            found.setdefault(finding.kind, set()).add(wire_id)
    ledger.close()
    return reconciler, seconds, found


def pages(home: Path, sink: OpenMeterSink) -> list[str]:
    """The addresses of the pages that a first look asks for."""
    ledger = Ledger(home / "ledger.db")
    with Reconciler(
        home,
        sink=sink,
        ledger=ledger,
        source=SOURCE,
        start=START,
        end=END,
        retention=Retention(),
    ) as reconciler:
        addresses = [
            f"{sink.base}{PATHS[sink.api]}?{page_query(sink.api, chunk, broad=False)}"
            for portion in reconciler.span.portions()
            for chunk in chunks(sink.api, portion)
        ]
    ledger.close()
    return addresses


def bare(addresses: list[str]) -> float:
    """The seconds that the requests take by themselves."""
    begun = time.perf_counter()
    with httpx.Client(timeout=30) as client, ThreadPoolExecutor(IN_FLIGHT) as pool:
        statuses = set(pool.map(lambda address: client.get(address).status_code, addresses))
    assert statuses == {200}, statuses
    return time.perf_counter() - begun


def main() -> int:
    """Plant, reconcile, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("events", type=int, nargs="?", default=EVENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--api", choices=("v1", "v3"), default="v1")
    given = parser.parse_args()
    print(machine.describe())
    with (
        tempfile.TemporaryDirectory() as folder,
        server_process(Path(folder)) as url,
        httpx.Client(base_url=f"{url}/testing/", timeout=120) as admin,
    ):
        sink_url = f"openmeter+{url}?api={given.api}"
        home = Path(folder) / "home"
        begun = time.perf_counter()
        planted = plant(admin, sink_url, home, given.events)
        print(f"{given.events} events recorded and delivered: {time.perf_counter() - begun:.1f} s")
        sink = open_sink(sink_url, source=SOURCE)
        assert isinstance(sink, OpenMeterSink)
        addresses = pages(home, sink)
        ratios, is_right = [], True
        for _ in range(given.rounds):
            limit = bare(addresses)
            reconciler, seconds, found = reconcile(home, sink)
            ratios.append(seconds / limit)
            is_right &= found == planted and all(each.is_explained for each in reconciler.meters)
            counts = {kind: len(ids) for kind, ids in sorted(found.items())}
            print(
                f"reconciled in {seconds:.1f} s ({reconciler.requests} requests, "
                f"{reconciler.requests / seconds:.0f}/s); {len(addresses)} bare requests in "
                f"{limit:.1f} s; found {counts}"
            )
        sink.close()
    print(f"{statistics.median(ratios):.2f} times the bare requests")
    print("found is what was planted" if is_right else f"NOT what was planted: {planted}")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
