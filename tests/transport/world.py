"""One home, its processes and servers, and what must be true of them: the model.

What an event must come to is told from the files alone, read as bytes: an event whose payload was
once in a segment is owed; one that was in memory only, when its process ended, may be lost.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llm_metering.events import encode
from llm_metering.sinks.base import Envelope
from llm_metering.system import forks
from llm_metering.transport import backlog, counters, writer
from llm_metering.transport.journal import Journal
from llm_metering.transport.operations import books
from llm_metering.transport.shipper import Shipper
from llm_metering.transport.spool import Spool, debt_of
from tests.factories import make_event

from .harness import FakeClock, interrupted
from .kernel import Doom, Kernel, Killed, Turn
from .on_disk import events_in, identify, letters, payloads
from .processes import HandSyncer, Known, NoTurns, Process
from .servers import AMBIGUOUS, Server, limits

WINDOW = 3600.0


class World:
    """The home, who is in it, and what is known of every event."""

    def __init__(self) -> None:
        # Power stays on here: a folder in memory will do, and is ten times as fast.
        memory = Path("/dev/shm")
        self._folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self.home = Path(self._folder.name) / "home"
        self.home.mkdir(mode=0o700)
        self.spool = Spool(self.home)
        self.kernel = Kernel(self.home, self.spoil)
        self.clock = FakeClock()
        self.segment_bytes = 1500
        self.backlog_bytes = 1 << 30
        self.held_limit = 10_000
        one = self._server("one", "", limits(4, WINDOW), dedupes=True)
        two_a = self._server("two", "a", limits(5), dedupes=False)
        two_b = self._server("two", "b", limits(5), dedupes=False)
        three = self._server("three", "", limits(3, WINDOW), dedupes=True)
        self.servers = {"app-a": [one, two_a], "app-b": [two_b, three]}
        self.known: dict[str, Known] = {}
        self.processes: list[Process] = []
        self.counts: Counter[str] = Counter()
        self.wrongs: list[str] = []
        # Reasons for which more, or less, may be true.
        self.reasons: set[str] = set()
        self.may_drop: set[str] = set()
        # By debt: events that a server may come to have twice, as it did not say so or nobody noted
        # it; and those that it may count twice, as nobody knows that it may have them.
        self.again: defaultdict[str, set[str]] = defaultdict(set)
        self.unsure: defaultdict[str, set[str]] = defaultdict(set)
        self._just_taken: list[tuple[str, str]] = []
        self._minted = 0
        self._patched = [
            (writer, "new_event_id", self._mint),
            (counters, "LOCK_TIMEOUT", 0.0),
            (books, "LOOK_AGAIN_AFTER", 0.0),
            # The processes of this world are in one, and would wait for each other.
            (backlog, "_turns", NoTurns()),
        ]
        self._patched = [(at, name, _swap(at, name, new)) for at, name, new in self._patched]
        self._level = logging.getLogger("llm_metering").level
        logging.getLogger("llm_metering").setLevel(logging.CRITICAL + 1)

    def end(self) -> None:
        """Leave nothing behind."""
        for process in list(self.processes):
            self.kill(process)
        for at, name, old in self._patched:
            setattr(at, name, old)
        logging.getLogger("llm_metering").setLevel(self._level)
        self._folder.cleanup()

    def _server(self, name: str, account: str, limits: Any, *, dedupes: bool) -> Server:
        return Server(name, account, limits, self.clock, dedupes, self._on_taking, self._on_answer)

    def _mint(self) -> str:
        self._minted += 1
        return f"id-{self._minted:06d}"

    # Processes.

    def start(self, source: str) -> Process:
        """Start a process."""
        spool = Spool(self.home)
        servers = self.servers[source]
        debts = [debt_of(server) for server in servers]
        journal = Journal(spool, source=source, debts=debts, segment_bytes=self.segment_bytes)
        journal._begin(HandSyncer)
        journal._place.held._limit = self.held_limit
        shippers = [
            Shipper(
                server,
                spool=spool,
                journal=journal,
                backlog_bytes=self.backlog_bytes,
                clock=self.clock,
                wall=self.clock,
                chance=lambda: 1,
            )
            for server in servers
        ]
        for shipper in shippers:
            shipper._pump.dispatch.failed = self._watched(shipper._pump.dispatch.failed)
        process = Process(source, self.kernel.begin(), journal, journal._syncer, shippers)
        self.processes.append(process)
        return process

    def _watched(self, failed: Callable[[Exception], None]) -> Callable[[Exception], None]:
        def note(error: Exception) -> None:
            if not isinstance(error, OSError):
                self.wrongs.append(f"a shipper failed: {error!r}")
            self._not_noted()
            failed(error)

        return note

    def run(
        self, process: Process, action: Callable[[], object], plan: Doom | Turn | None = None
    ) -> bool:
        """Have a process do something; returns whether it lives on.

        Args:
            process: The process; one that has ended does nothing.
            action: What it does.
            plan: What will happen to it, now or later, unless something else will.
        """
        if process.has_ended:
            return False
        if process.running.plan is None:
            process.running.plan, process.running.calls = plan, 0
        before, self._just_taken = self._just_taken, []
        try:
            with self.kernel.running(process.running):
                action()
        except Killed:
            self.reasons.add("kill")
            self._not_noted()
            self.kill(process)
            return False
        finally:
            self._just_taken = before
        self._look(process)
        return True

    def _not_noted(self) -> None:
        """What was just taken may be in no acknowledgement."""
        for key, event_id in self._just_taken:
            self.again[key].add(event_id)

    def sync(
        self, process: Process, action: Callable[[], object], plan: Doom | Turn | None
    ) -> bool:
        """Have a process write down what it has in memory; returns whether it lives on."""
        lives = self.run(process, action, plan)
        if lives and self.kernel.room is None:
            for known in self.known.values():
                is_its = known.process is process and known.event is not None
                known.is_counted |= is_its and not known.was_dropped
                known.drop_noted |= is_its and known.was_dropped
        return lives

    def kill(self, process: Process) -> None:
        """End a process as the kernel does."""
        for shipper in process.shippers:
            # What a sink had from memory, and what was not passed over on disk yet, it knew alone.
            key = shipper.debt.key
            self.again[key] |= set(process.journal.had_from_memory(key))
        self.kernel.kill(process.running)
        for each in (process.journal, *process.shippers):
            forks._fork_aware.discard(each)
        process.has_ended = True
        self._look(process)
        self.processes.remove(process)

    def _look(self, process: Process) -> None:
        names = self.spool.segments_of(process.journal.writer)
        content = b"".join(self.spool.segment_path(name).read_bytes() for name in names)
        lets_go = self.spool.is_finished(process.journal.writer)
        for known in self.known.values():
            if known.process is process:
                known.look(content)
                known.was_let_go |= lets_go and self._was_had(known)

    def _was_had(self, known: Known) -> bool:
        servers = self.servers[known.process.source]
        return all(known.id in {*each.taken, *self.letters(each)} for each in servers)

    # What processes are told.

    def record(self, process: Process, plan: Doom | Turn | None) -> bool:
        """Record an event."""
        known = self._know(process)
        known.event = encode(make_event(id=known.id, source=process.source))
        return self._take_in(known, plan)

    def open_call(self, process: Process, plan: Doom | Turn | None) -> bool:
        """Note that a call has begun."""
        known = self._know(process)
        known.note = encode(interrupted(id=known.id, source=process.source))
        process.open_calls.append(known)
        note = known.note
        return self.run(process, lambda: process.journal.note_open(known.id, note), plan)

    def settle_call(self, known: Known, plan: Doom | Turn | None) -> bool:
        """Record the event of a call."""
        known.process.open_calls.remove(known)
        known.event = encode(make_event(id=known.id, source=known.process.source))
        return self._take_in(known, plan)

    def close_call(self, known: Known, plan: Doom | Turn | None) -> bool:
        """Note that a call has ended without an event."""
        known.process.open_calls.remove(known)
        known.is_closed = True
        process = known.process
        return self.run(process, lambda: process.journal.note_closed(known.id), plan)

    def _know(self, process: Process) -> Known:
        known = Known(self._mint(), process)
        self.known[known.id] = known
        return known

    def _take_in(self, known: Known, plan: Doom | Turn | None) -> bool:
        process, payload = known.process, known.event or b""
        dropped = process.journal.dropped.total()
        lives = self.run(process, lambda: process.journal.record(known.id, payload), plan)
        known.was_dropped = process.journal.dropped.total() > dropped
        return lives

    # What happens to files.

    def spoil(self, path: Path) -> None:
        """What a sink was sent is not written down: it may count twice what it forgets."""
        self.reasons.add("spoiled")
        stem, _, key = path.stem.rpartition(".")
        segment = path.with_name(f"{stem}.seg")
        content = segment.read_bytes() if segment.exists() else b""
        self.unsure[key] |= {identify(payload) for payload in payloads(content)}

    def _on_taking(self, server: Server, envelope: Envelope) -> None:
        known = self.known.get(envelope.id)
        if known is None or server not in self.servers[known.process.source]:
            self.wrongs.append(f"{server.name} {server.account} was sent {envelope.id}")
            return
        key = server.debt.key
        self._just_taken.append((key, envelope.id))
        if server.doing in AMBIGUOUS:
            self.again[key].add(envelope.id)
        # From memory, or on a full disk that took no word of the doubt: who comes after that process
        # knows nothing of it.
        on_disk = any(envelope.payload in events for events in events_in(self.spool))
        if not on_disk or self.kernel.room is not None:
            self.unsure[key].add(envelope.id)

    def _on_answer(self, server: Server, batch: Sequence[Envelope]) -> None:
        # One that was refused is settled once its letter is written, which a full disk may put off.
        settled = (server.answered & set(server.taken)) | set(self.letters(server))
        for events in events_in(self.spool):
            ids = [identify(payload) for payload in events]
            gap = next((at for at, each in enumerate(ids) if each not in settled), len(ids))
            behind = {each.id for each in batch} & set(ids[gap:])
            self.again[server.debt.key] |= behind

    def letters(self, server: Server) -> dict[str, str]:
        """The dead letters of a server, by id."""
        path = self.spool.dead_letters_path(server.debt.key)
        return letters(path, may_be_torn=bool(self.reasons & {"kill", "full"}))


def _swap(at: object, name: str, new: object) -> object:
    old = getattr(at, name)
    setattr(at, name, new)
    return old
