"""Rounds of killing: workers are started and killed at random moments, and what they wrote is read."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, Self

import msgspec

from .harness import PROJECT
from .kill_server import Sent
from .kill_worker import Work

FRESH_EVERY: Final = 20
"""Every so many rounds a worker is an interpreter of its own, and not a fork of the zygote."""
MOST_ALIVE: Final = 3


@dataclass(slots=True)
class Call:
    """What a worker wrote down of a call.

    Attributes:
        status: What its event says at its end; `refused` makes none.
        tokens: What its event counts, as far as the worker knows.
        steps: `A`, `AO`, `AOE`, `AOER` or `AR`.
        id: The id of its event, once the worker knew it.
        was_left: Its worker was told to leave, and settled what it had begun.
    """

    status: str
    tokens: int | None
    steps: str = ""
    id: str | None = None
    was_left: bool = False


def start_worker(
    argument: str,
    stderr: Path,
    *,
    environment: Mapping[str, str] | None = None,
    inherited: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start an interpreter that is a worker, or the zygote of workers.

    Args:
        argument: The worker's work, or `zygote`.
        stderr: Where it may complain.
        environment: Beside that of this process.
        inherited: Descriptors that it is given.
    """
    talks = subprocess.PIPE if argument == "zygote" else subprocess.DEVNULL
    with stderr.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.transport.kill_worker", argument],
            cwd=PROJECT,
            stdin=talks,
            stdout=talks,
            stderr=file,
            env={**os.environ, **(environment or {})},
            pass_fds=inherited,
        )


class Rounds:
    """Starts workers on one home and kills them.

    Args:
        home: The home.
        server: The URL of their sink.
        folder: For their diaries and what they say on stderr.
        chance: Of all that is random.

    Attributes:
        diary: Where workers write down what they did.
        stderr: What they said on stderr.
        ended: How they ended, by exit code.
    """

    def __init__(self, home: Path, server: str, folder: Path, chance: Random) -> None:
        self.diary = folder / "diary"
        self.stderr = folder / "stderr"
        self.ended: Counter[int] = Counter()
        self._home = home
        self._server = server
        self._chance = chance
        self._alive: list[tuple[Work, int, subprocess.Popen[bytes] | None]] = []

    @contextlib.contextmanager
    def begun(self) -> Iterator[None]:
        """Have workers for as long as the block lasts; behind it neither they live nor their children."""
        self.diary.mkdir()
        # Open in every worker and in every child of one: it ends when all of them are dead.
        lifeline, self._held = os.pipe()
        with self._start("zygote") as self._zygote:
            try:
                yield
            finally:
                while self._alive:
                    self._kill()
                assert self._zygote.stdin is not None
                self._zygote.stdin.close()
                self._zygote.wait()
                os.close(self._held)
                os.read(lifeline, 1)
                os.close(lifeline)

    def play(self, number: int) -> None:
        """Start a worker and kill one, mostly the same."""
        chance = self._chance
        work = Work(
            seed=number,
            home=str(self._home),
            server=self._server,
            diary=str(self.diary),
            segment_bytes=chance.choices((2000, 15_000, 8 << 20), (1, 4, 4))[0],
            adopt_every=chance.choice((0.01, 0.1, 30.0)),
            linger=chance.choice((0.01, 1.0)),
            leaves=chance.random() < 0.5,
            forks_after=chance.uniform(0.0, 0.2) if chance.random() < 0.2 else None,
            child_lives=chance.uniform(0.002, 0.2),
        )
        order = msgspec.json.encode(work)
        if number % FRESH_EVERY == FRESH_EVERY - 1:
            fresh = self._start(order.decode())
            self._alive.append((work, fresh.pid, fresh))
            time.sleep(chance.uniform(0.2, 0.4))  # it imports the library first
        else:
            self._alive.append((work, self._ask(order), None))
        # Mostly while it begins: it adopts, and settles the calls of the dead.
        time.sleep(
            chance.uniform(0.005, 0.08) if chance.random() < 0.4 else chance.uniform(0.08, 0.3)
        )
        if len(self._alive) == MOST_ALIVE or chance.random() < 0.75:
            self._kill()

    def _kill(self) -> None:
        work, pid, fresh = self._alive.pop(0)
        if self._chance.random() < 0.2:
            os.kill(pid, signal.SIGTERM)
            time.sleep(self._chance.uniform(0.0, 0.1) if work.leaves else 0.0)
        os.kill(pid, signal.SIGKILL)
        self.ended[fresh.wait() if fresh else self._ask(b"%d" % pid)] += 1

    def _start(self, argument: str) -> subprocess.Popen[bytes]:
        return start_worker(argument, self.stderr, inherited=[self._held])

    def _ask(self, line: bytes) -> int:
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(line + b"\n")
        self._zygote.stdin.flush()
        return int(self._zygote.stdout.readline())


class Server:
    """`kill_server`, as long as the `with` block lasts.

    Args:
        seed: Of its faults.

    Attributes:
        sink_url: The URL of the sink that sends there.
    """

    def __init__(self, seed: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.transport.kill_server", str(seed)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.sink_url = self._process.stdout.readline().decode().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def behave(self) -> None:
        """End all faults."""
        self._ask("behave")

    def sent(self) -> list[Sent]:
        """What came in."""
        return msgspec.json.decode(self._ask("tell"), type=list[Sent])

    def _ask(self, line: str) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()
        return self._process.stdout.readline()


def read_diaries(folder: Path) -> dict[str, Call]:
    """What workers wrote down, by ticket."""
    calls: dict[str, Call] = {}
    for path in folder.iterdir():
        # A kill may come in the middle of a line.
        lines = [line.split(" ") for line in path.read_text().split("\n")[:-1]]
        was_left = any(step == "L" for step, *_ in lines)
        for step, ticket, *rest in lines:
            if step == "L":
                continue
            if step == "A":
                status, tokens = rest
                known = int(tokens) if tokens != "counted" else None
                calls[ticket] = Call(status, known, was_left=was_left)
            call = calls[ticket]
            call.steps += step
            if step in "OR" and rest:
                assert call.id in (None, rest[0]), f"{ticket} has two ids"
                (call.id,) = rest
    return calls


def by_ticket(sent: Iterable[Sent]) -> dict[str, dict[str, Any]]:
    """Of each call the one event that was accepted, having checked that there is no other."""
    bodies: dict[str, dict[str, Any]] = {}
    accepted: set[str] = set()
    events: dict[str, dict[str, Any]] = {}
    for batch in sent:
        for event in batch.events:
            assert bodies.setdefault(event["id"], event) == event, "one id, two events"
            if 200 <= batch.status < 300:
                accepted.add(event["id"])
    for event_id, event in bodies.items():
        ticket = event["data"]["ticket"]
        assert ticket not in events, f"{ticket} was sent as {event} and as {events[ticket]}"
        assert event_id in accepted, f"{event_id} was never accepted, and is no longer pending"
        events[ticket] = event
    return events


def is_right(call: Call, event: dict[str, Any] | None) -> bool:
    """Whether what was delivered of a call is what its worker's diary allows."""
    begun, over = call.steps != "A", call.steps.endswith("R")
    if event is None:
        return not begun or (call.status == "refused" and "E" in call.steps)
    data = event["data"]
    known = "total_tokens" not in data or call.tokens in (None, data["total_tokens"])
    if call.id not in (None, event["id"]) or not known:
        return False
    if call.was_left and call.steps != "AR" and data["status"] in ("aborted", "completed"):
        return True  # the worker settled what was open, and its threads went on a while
    if data["status"] == "interrupted":
        return not over and "total_tokens" not in data
    # Its end was recorded: it had one, and all that was known of it is there.
    has_ended = call.steps in ("A", "AR") or "E" in call.steps
    is_whole = call.tokens is None or "total_tokens" in data
    return has_ended and is_whole and data["status"] == call.status


def ledger(home: Path) -> dict[str, dict[str, Any]]:
    """The events in the ledger, by id."""
    with sqlite3.connect(home / "ledger.db") as database:
        rows = database.execute("SELECT payload FROM events").fetchall()
    database.close()
    events = [msgspec.json.decode(payload) for (payload,) in rows]
    return {event["id"]: event for event in events}
