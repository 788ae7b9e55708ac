"""What tests of the transport are made of: sinks that do as told, a clock, child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from llm_metering.events import UsageEvent, encode
from llm_metering.sinks.base import Delivery, Envelope, Sink, SinkLimits
from llm_metering.transport.frames import Frame, Kind, parse_frames
from llm_metering.transport.journal import Journal
from llm_metering.transport.shipper import Shipper
from llm_metering.transport.spool import Ack, Debt, SegmentName, Spool, debt_of
from llm_metering.transport.status import home_status
from llm_metering.transport.writer import SegmentWriter
from tests.factories import make_event

if TYPE_CHECKING:
    import pytest

PROJECT = Path(__file__).parents[2]
CHILD_TIMEOUT = 60.0

Answer = Callable[[Sequence[Envelope]], Delivery]


class ScriptedSink:
    """Answers as it was told, in that order; takes everything once nothing is left to say.

    Attributes:
        offered: The ids of each batch it was given.
        taken: What it accepted, as often as it did.
    """

    def __init__(
        self,
        *answers: Answer,
        name: str = "scripted",
        url: str = "",
        account: str = "",
        limits: SinkLimits | None = None,
    ) -> None:
        self.name = name
        self.url = url or f"{name}:"
        self.account = account
        self.limits = limits or SinkLimits()
        self.answers: deque[Answer] = deque(answers)
        self.offered: list[list[str]] = []
        self.taken: list[str] = []
        self.closings = 0

    def deliver(self, batch: Sequence[Envelope], /) -> Delivery:
        self.offered.append([envelope.id for envelope in batch])
        answer = self.answers.popleft() if self.answers else Delivery.all_accepted
        delivery = answer(batch)
        self.taken += [each.id for each in batch if each.id in delivery.accepted]
        return delivery

    def close(self) -> None:
        self.closings += 1


def down(batch: Sequence[Envelope]) -> Delivery:
    """The server cannot be reached."""
    return Delivery.try_later(batch, "unreachable")


def reject(batch: Sequence[Envelope]) -> Delivery:
    """The server will never take any of it."""
    return Delivery(rejected=frozenset((each.id, "unknown meter") for each in batch))


_UUID = 36


class FileServer(ScriptedSink):
    """A server that outlives its clients: a file with the ids it was sent.

    Args:
        path: The file; `ids_in` reads it.
        chance: If given, the server is as bad as servers get.
    """

    def __init__(self, path: Path, chance: Random | None = None) -> None:
        super().__init__(name="server", limits=SinkLimits(max_events=20))
        self._path = path
        self._chance = chance

    def deliver(self, batch: Sequence[Envelope], /) -> Delivery:
        mood = self._chance.random() if self._chance else 1.0
        if mood < 0.2:
            return down(batch)
        stored = batch[: self._chance.randrange(len(batch))] if mood < 0.5 else batch
        with self._path.open("ab", buffering=0) as file:
            # A kill cuts what is written at the end of a page: behind it begins a line of its own.
            file.write(b"\n" + b"".join(f"{each.id}\n".encode() for each in stored))
        if mood < 0.35:
            raise ConnectionResetError("after the batch was stored")
        return Delivery.all_accepted(stored)  # of the others it says nothing


def ids_in(path: Path) -> list[str]:
    """The ids of a server's file, without what a kill has cut off."""
    return [line for line in path.read_text().splitlines() if len(line) == _UUID]


class FakeClock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FullDisk:
    """A disk that takes nothing until it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._append = SegmentWriter.append
        self.full()

    def full(self) -> None:
        """Take nothing again."""

        def refuse(*_: object) -> None:
            raise OSError(28, "No space left on device")

        self._monkeypatch.setattr(SegmentWriter, "append", refuse)

    def room(self, journal: Journal) -> None:
        """Take everything again, and wait until it was written."""
        self._monkeypatch.setattr(SegmentWriter, "append", self._append)
        while journal.held or any(journal.held_view().counts.values()):
            time.sleep(0.01)


def journal_for(home: Path, *sinks: Sink, segment_bytes: int = 8 << 20, **options: Any) -> Journal:
    """A journal that owes each event to `sinks`."""
    debts = [debt_of(sink) for sink in sinks or (ScriptedSink(),)]
    return Journal(Spool(home), source="tests", debts=debts, segment_bytes=segment_bytes, **options)


def shipper_for(
    journal: Journal, sink: Sink, *, clock: Callable[[], float] | None = None, **options: Any
) -> Shipper:
    """A shipper whose backoff is its longest and whose thread nobody has begun."""
    return Shipper(
        sink,
        spool=Spool(journal._spool.home),
        journal=journal,
        clock=clock or FakeClock(),
        wall=clock or FakeClock(),
        chance=lambda: 1,
        **options,
    )


def pump(shipper: Shipper, *, adopt: bool = False) -> bool:
    """One turn of a shipper, in this thread; whether nothing is left."""
    if adopt:
        shipper._pump.next_adoption = 0.0
    with shipper._turn:  # `drain` would give up if the shipper's thread has its turn
        return shipper._pump.once(urgent=True, adopt=adopt) is None


def empty(shipper: Shipper, *, adopt: bool = False) -> None:
    """Turn after turn until nothing is left; a sink that takes nothing fails this."""
    for _ in range(1000):
        if pump(shipper, adopt=adopt):
            return
    raise AssertionError(f"{shipper!r} is not done")


def record(journal: Journal, count: int = 1) -> list[str]:
    """Record that many calls; their ids."""
    events = [make_event() for _ in range(count)]
    for event in events:
        journal.record(event.id, encode(event))
    return [event.id for event in events]


def interrupted(**overrides: str) -> UsageEvent:
    """What is recorded of a call whose process dies."""
    return make_event(status="interrupted", usage=None, **overrides)


def note_open(journal: Journal) -> str:
    """Note the start of a call; its id."""
    event = interrupted()
    journal.note_open(event.id, encode(event))
    return event.id


def let_go(journal: Journal, *shippers: Shipper) -> None:
    """What the kernel does when a process is killed: nothing but closing its files."""
    for shipper in shippers:
        shipper.after_fork()
    with (
        journal._appender.lock
    ):  # its syncing thread lives on here, and must not close what we close
        journal._upkeep.sync(journal._place.writer)
        syncer = journal._syncer
        journal.after_fork()
    syncer.end()


def frames_of(home: Path) -> list[Frame]:
    """Every frame in a home, oldest segment first."""
    spool = Spool(home)
    contents = [spool.segment_path(name).read_bytes() for name in spool.segments()]
    return [frame for content in contents for frame in parse_frames(content).frames]


def ids_on_disk(home: Path) -> list[str]:
    """The ids of the events in a home's segments, as often as they are there."""
    return [event["id"] for event in events_on_disk(home)]


def events_on_disk(home: Path) -> list[dict[str, object]]:
    """The events in a home's segments."""
    return [
        msgspec.json.decode(frame.payload) for frame in frames_of(home) if frame.kind == Kind.EVENT
    ]


def sink_row(home: Path) -> dict[str, int]:
    """The one sink's row in `status`, as far as it counts."""
    (row,) = home_status(home)["sinks"]
    return {key: row[key] for key in ("recorded", "acked", "pending", "dead", "dropped")}


def write_ack(home: Path, name: SegmentName, debt: Debt, ack: Ack) -> None:
    """Put an acknowledgement beside a segment."""
    path = Spool(home).ack_path(name, debt.key)
    path.write_bytes(ack.encode(path.name))


def run_child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start Python code in a process of its own, from the project's root.

    Args:
        code: What it does; `sys.argv[1:]` are the arguments.
        *arguments: Passed on as strings.
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    """Kill a process and wait for its end."""
    os.kill(process.pid, number)
    process.communicate(timeout=CHILD_TIMEOUT)


def unique(ids: Iterable[str]) -> set[str]:
    """The ids, having checked that none is there twice."""
    listed = list(ids)
    assert len(listed) == len(set(listed))
    return set(listed)
