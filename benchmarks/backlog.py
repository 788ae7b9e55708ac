"""What an outage costs, how fast its backlog drains, and how recording and shipping go together.

A sink is a small HTTP server on this machine, in a process of its own, so that what is measured
is the client. The limit is one `httpx.Client` that posts the same batches, encoded beforehand, to
the same server. Blocks of ours and of the limit alternate, so that a machine that grows slow
meanwhile slows both.

1. Events are recorded while the sink refuses connections: how much the process grows, with the
   ledger off and on.
2. The sink comes up: how fast the backlog drains, beside raw posts. The ledger, where it is on,
   has had its share before.
3. Recording and shipping at once, from one thread, with the ledger on, until the sink and the
   ledger have all of it; beside raw posts, and beside Amberflo's client, which keeps its events in
   memory, if `--amberflo` names the Python of an environment that has it. One record of Amberflo's
   is one number, so that a call whose input and output have different prices is two of them; both
   are measured. It is compressed, and its figure is given in raw posts of our events all the same.

    python benchmarks/backlog.py [EVENTS] [--rounds N] [--amberflo PYTHON]

The exit code is 1 if an event was lost.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import machine
from counting_server import CountingServer

EVENTS = 1_000_000
ROUNDS = 7
WORKER = str(Path(__file__).with_name("backlog_worker.py"))
AMBERFLO = str(Path(__file__).with_name("amberflo_worker.py"))
AMBERFLO_CALLS = "Amberflo, input and output"
AT_ONCE = 20_000
"""Events of one round of recording and shipping together."""


class Worker:
    """A process that is told how many events to deliver, and says how long it took."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if self._line() != "ready":
            raise RuntimeError(f"{command} did not start")

    def rate(self, count: int) -> float:
        """Events a second."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        seconds, refused = self._line().split()
        return (count - int(refused)) / float(seconds)

    def end(self) -> str:
        """Let it end; returns its last words."""
        return self._process.communicate()[0].strip()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def outage(count: int, ledger: str) -> dict[str, Any]:
    """Phases 1 and 2, in a fresh process."""
    command = [sys.executable, WORKER, "outage", str(count), ledger]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def report_outage(count: int, found: dict[str, Any]) -> int:
    """Print phases 1 and 2; returns how many events were lost."""
    ledger = "on" if found["ledger"] else "off"
    print(f"\n{count} events recorded while the sink is down, ledger {ledger}")
    print(f"  recorded               {found['record_rate']:>11,.0f} events/s")
    if found["ledger"]:
        print(f"  recorded and in it     {found['ledger_rate']:>11,.0f} events/s")
    grown, peak = found["grown_recording"], found["peak_recording"]
    print(f"  memory grew by         {grown:>11.1f} MB, {peak:.1f} at its peak")
    print(
        f"  `status` meanwhile     {found['status_seconds']:>11.1f} s for {found['segments']} segments,"
        f" {found['peak_status']:.1f} MB above the start at its peak"
    )
    ours, raw = found["ours"], found["raw"]
    ratios = [mine / limit for mine, limit in zip(ours, raw, strict=True)]
    print(f"the sink comes up: batches of 100 events, {found['body_bytes'] / 1000:.0f} kB each")
    print(f"  drained                {statistics.median(ours):>11,.0f} events/s")
    print(f"  raw httpx              {statistics.median(raw):>11,.0f} events/s")
    print(
        f"  ratio                  {statistics.median(ratios):>11.2f} median of {len(ratios)} pairs"
        f" ({min(ratios):.2f} to {max(ratios):.2f}); of the sums {sum(ours) / sum(raw):.2f}"
    )
    print(
        f"  processor time         {found['cpu'] * 1e6:>11,.0f} µs a batch, raw"
        f" {found['raw_cpu'] * 1e6:,.0f}: ratio {found['raw_cpu'] / found['cpu']:.2f}"
    )
    print(f"  memory grew by         {found['peak_draining']:>11.1f} MB at its peak")
    lost = count - int(found["arrived"])
    print(f"  {found['arrived']} of {count} arrived, {lost} lost")
    return lost


@contextlib.contextmanager
def workers(port: int, amberflo: str | None) -> Iterator[dict[str, Worker]]:
    """The processes of phase 3."""
    found = {
        "raw httpx": Worker(sys.executable, WORKER, "raw", str(port)),
        "recorded and shipped": Worker(sys.executable, WORKER, "together", str(port)),
    }
    if amberflo is not None:
        for name, meters in ((AMBERFLO_CALLS, "kinds"), ("Amberflo, totals only", "total")):
            found[name] = Worker(amberflo, AMBERFLO, str(port), meters)
    yield found


def together(count: int, rounds: int, amberflo: str | None) -> int:
    """Phase 3; returns how many events were lost."""
    rates: dict[str, list[float]] = {}
    chance = random.Random(20_261_122)
    with CountingServer() as server, workers(server.port, amberflo) as found:
        server.tell("listen")
        for number in range(rounds + 1):
            for name in chance.sample(list(found), len(found)):
                rate = found[name].rate(count)
                if number:  # the first round warms up
                    rates.setdefault(name, []).append(rate)
        last_words = {name: worker.end() for name, worker in found.items()}
        arrived = server.tell("count")
    raw = rates["raw httpx"]
    print(f"\n{count} calls at once, {rounds} rounds, ledger on: until all of it is delivered")
    for name, each in sorted(rates.items(), key=lambda item: -statistics.median(item[1])):
        ratios = [mine / limit for mine, limit in zip(each, raw, strict=True)]
        print(
            f"  {name:<27} {statistics.median(each):>9,.0f} calls/s, {statistics.median(ratios):.2f}"
            f" of raw httpx ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    if amberflo is None:
        print("  Amberflo's client was not measured: name its environment with --amberflo")
    expected = count * (rounds + 1)
    numbers = expected * (len(found) + (AMBERFLO_CALLS in found))
    lost = numbers - arrived
    in_ledger = int(last_words["recorded and shipped"])
    print(f"  {lost} lost; {in_ledger} of {expected} are in the ledger")
    return lost + expected - in_ledger


def main() -> None:
    """Run all phases."""
    parser = argparse.ArgumentParser(description="an outage, its backlog, and what httpx reaches")
    parser.add_argument("events", nargs="?", type=int, default=EVENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--amberflo", metavar="PYTHON")
    given = parser.parse_args()
    print(machine.describe())
    packages = ", ".join(f"{name} {version(name)}" for name in ("llm-metering", "httpx"))
    print(f"Python {platform.python_version()}, {packages}", flush=True)
    lost = 0
    for ledger in ("off", "on"):
        lost += report_outage(given.events, outage(given.events, ledger))
        sys.stdout.flush()
    lost += together(min(given.events, AT_ONCE), given.rounds, given.amberflo)
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
