"""How many events a server takes in, and how long a request waits: one worker, batches of 100.

1. paced: requests come at a fixed rate, whatever the server does; a request's time is counted from when
   it was due, so a server that falls behind cannot hide it. One in ten repeats an earlier one.
2. flat out: each of the connections sends its next request when it has the answer to the last.

Both are done in turn by `llm-metering serve` and by the least that could be one: the same uvicorn and
FastAPI, with a route that reads the body as JSON and answers.

    python benchmarks/server_ingest.py [--rate EVENTS] [--seconds S] [--connections N] [--rounds N]
        [--watched SECONDS]

With --watched a third one is like the first, while somebody looks: the overview is asked for so often,
with its charts.

The exit code is 1 if the ledger has not each event that was answered with 2xx once and no other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import machine

from llm_metering.access import ApiKeys
from llm_metering.event_ids import new_event_id

BATCH = 100
REPEATS = 10
"""One request in so many is one that was sent before."""

LEAST = """
import sys, msgspec, uvicorn
from fastapi import FastAPI, Request, Response
app = FastAPI()
decode = msgspec.json.Decoder().decode
@app.post("/api/v1/events", status_code=204)
async def ingest(request: Request):
    decode(await request.body())
    return Response(status_code=204)
import socket
listening = socket.socket(); listening.bind(("127.0.0.1", 0))
print("listening on http://127.0.0.1:%d" % listening.getsockname()[1], file=sys.stderr, flush=True)
uvicorn.Server(uvicorn.Config(app, http="h11", log_config=None, access_log=False)).run(sockets=[listening])
"""


@dataclass
class Server:
    """A process that takes in events."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    key: str = ""
    port: int = 0
    process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self.command, env={**os.environ, **self.environment}, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                break
        self._wait_until_it_answers()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.communicate()

    def _wait_until_it_answers(self) -> None:
        import socket

        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return


def event(number: int) -> dict[str, Any]:
    """A call, as the library's own events are."""
    return {
        "specversion": "1.0",
        "id": new_event_id(),
        "source": "benchmark",
        "type": "llm.usage",
        "subject": f"customer-{number % 500}",
        "time": "2026-11-21T12:00:00.123Z",
        "data": {
            "model": f"model-{number % 20}",
            "provider": "openai",
            "operation": "chat",
            "total_tokens": 120,
            "input_tokens": 100,
            "output_tokens": 20,
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "calls": 1,
            "duration_ms": 812,
            "provenance": "reported",
            "status": "completed",
            "framework": "langchain",
            "run_id": new_event_id(),
        },
    }


def requests(server: Server, count: int) -> list[bytes]:
    """Requests of a batch each, some of them twice."""
    made: list[bytes] = []
    for number in range(count):
        if number % REPEATS == REPEATS - 1:
            made.append(made[-REPEATS // 2])
            continue
        body = json.dumps([event(number * BATCH + each) for each in range(BATCH)]).encode()
        head = (
            f"POST /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {server.key}\r\n"
            f"Content-Type: application/cloudevents-batch+json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


async def send(
    server: Server, made: list[bytes], connections: int, rate: float | None
) -> list[float]:
    """Seconds that each request took: at a rate of requests a second, or as fast as it goes."""
    waiting = iter(enumerate(made))
    took: list[float] = []
    begun = time.perf_counter()

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for number, request in waiting:
            due = time.perf_counter()
            if rate is not None:
                due = begun + number / rate
                await asyncio.sleep(max(due - time.perf_counter(), 0))
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 204 "), head + await reader.read(1000)
            took.append(time.perf_counter() - due)
        writer.close()

    await asyncio.gather(*(connection() for _ in range(connections)))
    return took


class Watcher:
    """Somebody who looks at the overview again and again."""

    def __init__(self, server: Server, key: str, every: float) -> None:
        self.took: list[float] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(server, key, every))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self, server: Server, key: str, every: float) -> None:
        headers = {"Authorization": f"Bearer {key}", "Accept": "text/html"}
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", headers=headers) as client:
            while not self._done.wait(every):
                begun = time.perf_counter()
                page = client.get("/", timeout=60)
                assert page.status_code == 200, page.text
                self.took.append(time.perf_counter() - begun)


def percentile(took: list[float], share: float) -> float:
    """In milliseconds."""
    return sorted(took)[min(int(len(took) * share), len(took) - 1)] * 1000


def measure(server: Server, asked: argparse.Namespace) -> tuple[list[float], float, int]:
    """The times at the rate, events a second flat out, and how many different events were sent."""
    per_second = asked.rate / BATCH
    paced = requests(server, int(per_second * asked.seconds))
    took = asyncio.run(send(server, paced, asked.connections, per_second))
    flat = requests(server, int(per_second * asked.seconds))
    begun = time.perf_counter()
    asyncio.run(send(server, flat, asked.connections, None))
    rate = len(flat) * BATCH / (time.perf_counter() - begun)
    return took, rate, (len(set(paced)) + len(set(flat))) * BATCH


def count(ledger: Path) -> int:
    """Events of a ledger, once it takes no more."""
    before = -1
    while True:
        with closing(sqlite3.connect(ledger)) as connection:
            (now,) = connection.execute("SELECT count(*) FROM events").fetchone()
        if now == before:
            return int(now)
        before = now
        time.sleep(2)


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--watched", type=float, metavar="SECONDS")
    asked = parser.parse_args()
    print(machine.describe())
    is_right = True
    rates: dict[str, list[float]] = {"serve": [], "least": []}
    for number in range(asked.rounds):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            servers = {"least": Server([sys.executable, "-c", LEAST])}
            readers = {}
            for name in ("serve", *(["watched"] if asked.watched else [])):
                keys = ApiKeys(home / name)
                key = keys.create("benchmark", ["ingest"], sources=["benchmark"])[1]
                readers[name] = keys.create("reader", ["read"])[1]
                serve = [sys.executable, "-m", "llm_metering", "serve", "--port", "0"]
                serve += ["--home", str(home / name)]
                servers[name] = Server(serve, {"LLM_METERING_SINKS": ""}, key)
            for name in sorted(servers, reverse=bool(number % 2)):
                with servers[name] as server:
                    watcher = (
                        Watcher(server, readers[name], asked.watched)
                        if name == "watched"
                        else nullcontext()
                    )
                    with watcher as looking:
                        took, rate, sent = measure(server, asked)
                    rates.setdefault(name, []).append(rate)
                    print(
                        f"{name}: at {asked.rate:,} events/s p50 {percentile(took, 0.5):.1f} ms, "
                        f"p99 {percentile(took, 0.99):.1f} ms, max {max(took) * 1000:.0f} ms; "
                        f"flat out {rate:,.0f} events/s"
                    )
                    if looking is not None:
                        slowest = max(looking.took)
                        print(
                            f"looked at {len(looking.took)} times, in the median "
                            f"{statistics.median(looking.took):.2f} s, at most {slowest:.2f} s"
                        )
                    if name != "least":
                        there = count(home / name / "ledger.db")
                        is_right &= there == sent
                        print(f"ledger: {there:,} of {sent:,} different events")
    ratio = statistics.median(a / b for a, b in zip(rates["serve"], rates["least"], strict=True))
    print(f"flat out: {ratio:.2f} of what the least that could be a server takes")
    return 0 if is_right else 1


if __name__ == "__main__":
    raise SystemExit(main())
