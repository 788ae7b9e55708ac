"""What `Meter.record()` of a ready usage costs on the calling thread, beside the least it could cost.

The least is one write of a framed, checksummed record of 400 bytes to a file that is open for
appending: whatever keeps a record through the death of its process does that much. Both take
turns, in an order that is shuffled anew each round, so that a machine that grows slow meanwhile
slows both.

It is measured with the ledger alone and with an HTTP sink beside it (a fake OpenMeter server in a
process of its own), each in a fresh home on the disk of the folder for temporary files, with all
threads of the meter at work. In three ways:

- *tight*: one record right after the other. All is in the caches.
- *paced*: a sleep of a millisecond before each, as in an application that mostly waits. What the
  sleep and other processes threw out of the caches has to be fetched again, by the bare write, too.
- *busy*: paced, beside a thread that computes in Python without a pause. CPython lets a thread keep
  the interpreter for a switch interval of 5 ms; whoever gives it up, and every write to a file does,
  may wait for so long, whatever is written. So there is a third one here, which computes for as long as
  `record()` takes and never gives the interpreter up: what it is delayed by is the operating system's.
  A journal on a local disk finds this out and keeps the interpreter from then on: the first calls
  are shown by themselves.

Each call is timed alone, with the clock read before and after it (included: under 0.1 us).

    python benchmarks/record_latency.py [RECORDS]
"""

from __future__ import annotations

import contextlib
import os
import platform
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

import machine

from llm_metering import Meter, TokenUsage

RECORDS = 5_000
"""Of each in the paced runs; the tight ones take ten times as many."""
WARM_UP = 500
FIRST = 200
"""Calls beside a thread that computes, in which the journal finds out about it."""
PACE: Final = 0.001
RECORD_BYTES: Final = 400
HEAD: Final = struct.Struct("<HBBII")

BARE = "bare write"
OURS = "record()"
NO_OP = "no-op"

Candidates = Mapping[str, Callable[[], object]]
Times = dict[str, list[int]]


@contextlib.contextmanager
def bare_write(path: Path) -> Iterator[Callable[[], object]]:
    """Append a record to a file, and do nothing else."""
    payload = os.urandom(RECORD_BYTES - HEAD.size)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write() -> object:
        head = HEAD.pack(0x4D4C, 2, 0, len(payload), zlib.crc32(payload))
        return os.write(descriptor, head + payload)

    try:
        yield write
    finally:
        os.close(descriptor)


def computing_for(nanoseconds: float) -> Callable[[], object]:
    """A function that keeps the interpreter for that long, and computes nothing of use."""

    def compute() -> None:
        end = time.perf_counter_ns() + nanoseconds
        while time.perf_counter_ns() < end:
            pass

    return compute


@contextlib.contextmanager
def busy_thread() -> Iterator[None]:
    """A thread that computes in Python all the time."""
    done = False

    def compute() -> None:
        number = 0
        while not done:
            number += 1

    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done = True
        thread.join()


@contextlib.contextmanager
def http_sink() -> Iterator[tuple[str, ...]]:
    """The URL of a sink that a process of its own serves."""
    command = [sys.executable, "-m", "llm_metering.testing.server"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield (f"openmeter+{server.stdout.readline().strip()}",)
        finally:
            server.terminate()


def measure(candidates: Candidates, rounds: int, *, pace: float = 0.0) -> Times:
    """Nanoseconds of each call, by candidate."""
    taken: Times = {name: [] for name in candidates}
    order = list(candidates.items())
    chance = random.Random(20_261_121)
    clock = time.perf_counter_ns
    for _ in range(rounds):
        chance.shuffle(order)
        for name, call in order:
            if pace:
                time.sleep(pace)
            begun = clock()
            call()
            taken[name].append(clock() - begun)
    return taken


def report(title: str, taken: Times) -> None:
    """Print the median and the slow end, and their ratios to the bare write."""
    print(f"\n{title}, {len(taken[OURS])} of each")
    print(f"{'':<14}{'p50':>9}{'p99':>9}{'p99.9':>10}   ratio to the bare write: p50, p99")
    bare = percentiles(taken[BARE])
    for name, times in taken.items():
        mine = percentiles(times)
        p50, p99, p999 = (value / 1000 for value in mine)
        ratios = "" if name == BARE else f"{mine[0] / bare[0]:>29.1f}{mine[1] / bare[1]:>7.1f}"
        print(f"{name:<14}{p50:>9.1f}{p99:>9.1f}{p999:>10.1f}{ratios}")


def percentiles(times: list[int]) -> tuple[float, float, float]:
    """The median, the 99th percentile and the 99.9th."""
    cuts = statistics.quantiles(times, n=1000)
    return cuts[499], cuts[989], cuts[998]


def compare(name: str, home: Path, sinks: tuple[str, ...], records: int) -> None:
    """Measure one meter in all three ways, and check that nothing was lost on the way."""
    usage = TokenUsage(input_tokens=100, output_tokens=20)
    with bare_write(home / "bare") as write, Meter(home, sinks, source="benchmark") as meter:
        recorded = 0

        def record() -> None:
            nonlocal recorded
            meter.record(usage, subject="customer-42", model="gpt-5-mini", provider="openai")
            recorded += 1

        both: Candidates = {BARE: write, OURS: record}
        measure(both, WARM_UP)
        report(f"{name}: tight", measure(both, 10 * records))
        paced = measure(both, records, pace=PACE)
        report(f"{name}: paced", paced)
        compute = computing_for(statistics.median(paced[OURS]))
        with busy_thread():
            three: Candidates = {**both, NO_OP: compute}
            report(f"{name}: busy, at first", measure(three, FIRST, pace=PACE))
            report(f"{name}: busy", measure(three, records, pace=PACE))
        if not meter.flush(120):
            sys.exit("not all records were delivered")
        (calls,) = meter.usage("calls_total")
        if calls.value != recorded:
            sys.exit(f"{recorded} calls were recorded, {calls.value} are in the ledger")
        for sink in meter.statistics()["sinks"]:
            if (sink["recorded"], sink["acked"]) != (recorded, recorded):
                sys.exit(f"{recorded} calls were recorded: {sink}")


def main(records: int) -> None:
    """Measure with the ledger alone, and with an HTTP sink beside it."""
    print(machine.describe())
    print(f"Python {platform.python_version()}, llm-metering {version('llm-metering')}")
    print("microseconds on the calling thread")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("ledger", "http"):
            (Path(folder) / name).mkdir()
        compare("ledger alone", Path(folder) / "ledger", (), records)
        with http_sink() as sinks:
            compare("ledger and HTTP sink", Path(folder) / "http", sinks, records)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS)
