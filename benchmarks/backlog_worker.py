"""The processes that `backlog.py` measures.

    python backlog_worker.py outage EVENTS LEDGER     an outage, and the drain after it
    python backlog_worker.py together PORT            records and ships, ledger on
    python backlog_worker.py raw PORT                 posts ready batches with httpx

The first prints its result as JSON. The others read numbers of events from standard input, one a
line, and answer each with the seconds it took.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
from counting_server import CountingServer

from llm_metering import Meter, TokenUsage
from llm_metering.transport.frames import Kind, parse_frames

BATCH = 100
BLOCK = 0.2
"""Seconds of one block; blocks of ours and of raw posts alternate."""
WARM_UP = 500
BODIES = 200
PATIENCE = 600.0
CONTENT_TYPE = "application/cloudevents-batch+json"


def record(meter: Meter, number: int) -> None:
    """One call of one of a hundred customers."""
    meter.record(
        TokenUsage(
            input_tokens=100,
            output_tokens=20,
            cache_read_input_tokens=64,
            reasoning_output_tokens=7,
        ),
        f"customer-{number % 100}",
        dimensions={"feature": "search"},
        provider="openai",
        model="gpt-5-mini",
        operation="chat",
    )


def bodies_in(home: Path) -> list[bytes]:
    """Batches of the oldest events in a home, encoded as they are sent."""
    events: list[bytes] = []
    for segment in sorted((home / "journal").rglob("*.seg")):
        frames = parse_frames(segment.read_bytes()).frames
        events += [frame.payload for frame in frames if frame.kind == Kind.EVENT]
        if len(events) >= BODIES * BATCH:
            break
    starts = range(0, min(len(events), BODIES * BATCH) - BATCH + 1, BATCH)
    return [b"[" + b",".join(events[start : start + BATCH]) + b"]" for start in starts]


class RawPosts:
    """What httpx reaches with one client, one connection and nothing else to do."""

    def __init__(self, port: int, bodies: list[bytes]) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/events"
        self._client = httpx.Client()
        self._bodies: Iterator[bytes] = cycle(bodies)

    def post(self) -> None:
        """One batch."""
        headers = {"Content-Type": CONTENT_TYPE}
        answer = self._client.post(self._url, content=next(self._bodies), headers=headers)
        assert answer.status_code == 204, answer

    def rate(self, seconds: float) -> float:
        """Events a second."""
        posted, begun = 0, time.perf_counter()
        while (taken := time.perf_counter() - begun) < seconds:
            self.post()
            posted += BATCH
        return posted / taken


def memory(key: str) -> float:
    """Megabytes of this process: `VmRSS` is what it has now, `VmHWM` the most it had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise LookupError(key)


def outage(count: int, *, ledger: bool) -> dict[str, Any]:
    """Record while the sink is down, bring it up, and drain beside raw posts."""
    result: dict[str, Any] = {"ledger": ledger}
    # Not where /tmp may be: that is memory on some machines.
    with (
        CountingServer() as server,
        CountingServer() as raw_server,
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
    ):
        raw_server.tell("listen")
        home = Path(folder)
        url = f"openmeter+http://127.0.0.1:{server.port}"
        meter = Meter(home=home, sinks=[url], source="benchmark", ledger=ledger)
        for number in range(WARM_UP):
            record(meter, number)
        meter.flush(0.5)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
        before = memory("VmRSS")
        begun = time.perf_counter()
        for number in range(count):
            record(meter, number)
        result["record_rate"] = count / (time.perf_counter() - begun)
        if ledger:
            meter.take_in(PATIENCE)
            result["ledger_rate"] = count / (time.perf_counter() - begun)
        result["grown_recording"] = memory("VmRSS") - before
        result["peak_recording"] = memory("VmHWM") - before
        begun = time.perf_counter()
        pending = sum(sink["pending"] for sink in meter.statistics()["sinks"])
        result["status_seconds"] = time.perf_counter() - begun
        result["peak_status"] = memory("VmHWM") - before
        result["pending"] = pending - WARM_UP
        result["segments"] = len(list((home / "journal").rglob("*.seg")))

        bodies = bodies_in(home)
        raw = RawPosts(raw_server.port, bodies)
        raw.rate(BLOCK)  # a warm connection, as ours will have
        ready = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        result |= drain(meter, server, raw, count + WARM_UP)
        meter.close(PATIENCE)
        result["peak_draining"] = memory("VmHWM") - ready
        result["arrived"] = server.tell("count") - WARM_UP
        result["body_bytes"] = statistics.mean(map(len, bodies))
        shutil.rmtree(home / "journal")
    return result


def drain(meter: Meter, server: CountingServer, raw: RawPosts, total: int) -> dict[str, Any]:
    """Alternate blocks: ours while the server answers, raw posts while it holds ours back."""
    ours: list[float] = []
    limit: list[float] = []
    costs, limit_costs, posted = 0.0, 0.0, 0.0
    server.tell("hold")
    server.tell("listen")
    meter.flush(0.01)  # skips the backoff
    time.sleep(0.2)
    taken, gone = 0, time.perf_counter()
    while taken < total:
        if time.perf_counter() - gone > PATIENCE:
            raise TimeoutError(f"{taken} of {total} events arrived")
        before = taken
        begun, processor = time.perf_counter(), time.process_time()
        taken = server.tell("go")
        while taken < total and time.perf_counter() - begun < BLOCK:
            time.sleep(0.02)
            taken = server.tell("count")
        taken = server.tell("hold")
        ours.append((taken - before) / (time.perf_counter() - begun))
        costs += time.process_time() - processor
        processor = time.process_time()
        limit.append(raw.rate(BLOCK))
        limit_costs += time.process_time() - processor
        posted += limit[-1] * BLOCK
    server.tell("go")
    whole = max(len(ours) - 1, 1)  # the last one may have run dry
    return {
        "ours": ours[:whole],
        "raw": limit[:whole],
        "cpu": costs / total * BATCH,
        "raw_cpu": limit_costs / posted * BATCH,
    }


def obey(work: Any) -> None:
    """Time what the parent asks for."""
    print("ready", flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        work(int(line))
        print(time.perf_counter() - begun, 0, flush=True)


def together(port: str) -> None:
    """From the first record until the sink and the ledger have the last."""
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as home,
        Meter(home=home, sinks=[f"openmeter+http://127.0.0.1:{port}"], source="benchmark") as meter,
    ):

        def work(count: int) -> None:
            for number in range(count):
                record(meter, number)
            if not meter.flush(PATIENCE):
                raise TimeoutError("not all was delivered")

        obey(work)
        usage = meter.usage("calls_total")
        print(sum(int(row.value) for row in usage), flush=True)


def raw_posts(port: str) -> None:
    """The same events, ready to be posted."""
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as home,
        Meter(home=home, sinks=(), source="benchmark") as meter,
    ):
        for number in range(BODIES * BATCH):
            record(meter, number)
        raw = RawPosts(int(port), bodies_in(Path(home)))

    def work(count: int) -> None:
        for _ in range(count // BATCH):
            raw.post()

    obey(work)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["outage", count, ledger]:
            print(json.dumps(outage(int(count), ledger=ledger == "on")))
        case ["together", port]:
            together(port)
        case ["raw", port]:
            raw_posts(port)
