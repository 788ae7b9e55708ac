"""`Transport`: the journal of a process and one shipper for each sink, as one thing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from ..errors import TransportProblem
from ..settings.checks import Durability
from ..sinks.base import Sink
from .alarms import Alarms
from .bounds import DEFAULT_BACKLOG_BYTES, segment_bytes_below
from .journal import Journal
from .retention import Retention
from .shipper import Shipper
from .spool import Spool, debt_of
from .status import add_live_state, home_status

__all__ = ["Transport"]

logger = logging.getLogger("llm_metering")

_DEFAULT_RETENTION: Final = Retention()


class Transport:
    """Takes events in and ships them to every sink.

    Args:
        home: The folder.
        source: The CloudEvents source of all events.
        sinks: Where they go.
        durability: What a recorded event survives; see `Journal`.
        backlog_bytes: How much each sink may be owed on disk.
        on_error: Called with what a person should look at; see `TransportProblem`.
        retention: What becomes of segments that every sink has had.

    Attributes:
        journal: Where events are recorded.
        shippers: One for each sink.
        is_started: Whether `start` was called.

    Raises:
        HomeError: If the home cannot be written to.
    """

    def __init__(
        self,
        home: Path,
        *,
        source: str,
        sinks: Sequence[Sink],
        durability: Durability = "process",
        backlog_bytes: int = DEFAULT_BACKLOG_BYTES,
        on_error: Callable[[TransportProblem], object] | None = None,
        retention: Retention = _DEFAULT_RETENTION,
    ) -> None:
        self._home = home
        self._spool = Spool(home, retention=retention)
        if durability != "memory":
            self._spool.make()
        alarms = Alarms(on_error)
        self.journal = Journal(
            self._spool,
            source=source,
            debts=[debt_of(sink) for sink in sinks],
            on_append=self._on_append,
            durability=durability,
            segment_bytes=segment_bytes_below(backlog_bytes),
            alarms=alarms,
        )
        self.shippers = [
            Shipper(
                sink,
                spool=self._spool,
                journal=self.journal,
                alarms=alarms,
                backlog_bytes=backlog_bytes,
            )
            for sink in sinks
        ]
        self.is_started = False

    def __repr__(self) -> str:
        shippers = ", ".join(repr(shipper) for shipper in self.shippers)
        return f"<Transport {self.journal!r} [{shippers}]>"

    def start(self) -> None:
        """Start what the first event would wait for, and ship what earlier processes left."""
        self.is_started = True
        self.journal.start()
        self.take_over()

    def take_over(self) -> None:
        """Ship what earlier processes left."""
        if self._spool.segments():
            for shipper in self.shippers:
                shipper.wake()

    def flush(self, deadline: float) -> bool:
        """Wait until every sink has what this process recorded before.

        Args:
            deadline: Of `time.monotonic`.

        Returns:
            Whether each event is acknowledged (or dead) everywhere.
        """
        target = self.journal.expected(deadline)
        if target is None:
            return False
        for shipper in self.shippers:
            if shipper.own_settled < target:
                shipper.hurry(target)
        for shipper in self.shippers:
            while shipper.own_settled < target:
                if time.monotonic() >= deadline:
                    return False
                if shipper.is_running:
                    time.sleep(0.005)
                elif not shipper.drain(deadline=deadline, own_only=True):
                    return False
                elif shipper.own_settled < target:
                    time.sleep(0.005)  # the disk has not taken what is held in memory
        return True

    def drain(self, sink: Sink | None, *, deadline: float) -> bool | None:
        """Ship what the home owes one sink, finished processes' events too.

        Returns:
            Whether nothing is left; `None` if there is no such sink.
        """
        for shipper in self.shippers:
            if shipper.sink is sink:
                return shipper.drain(deadline=deadline)
        return None

    def drain_named(self, name: str | None, *, deadline: float) -> bool | None:
        """`drain` of the sink of this name, or of each.

        Returns:
            Whether nothing is left; `None` if there is no such sink.
        """
        chosen = [shipper for shipper in self.shippers if name in (None, shipper.sink.name)]
        if not chosen:
            return None
        target = self.journal.expected(deadline)
        for shipper in chosen:
            shipper.hurry(self.journal.recorded if target is None else target)
        return all([shipper.drain(deadline=deadline) for shipper in chosen])  # noqa: C419  # each

    def close(self, deadline: float) -> bool:
        """Ship what can be shipped in time, and let go; what is left waits on disk.

        Returns:
            Whether nothing was left.
        """
        self.journal.close(deadline)
        for shipper in self.shippers:
            shipper.begin_close(deadline=deadline)
        # All of them, whatever the first one says: they drain side by side.
        done = [shipper.finish_close() for shipper in self.shippers]
        left = self.journal.held_view().events
        if left:
            logger.error(
                "%d events are lost if this process ends now: they are in memory, not in %s",
                left,
                self._spool.folder,
            )
        return all(done) and not left

    def statistics(self) -> dict[str, Any]:
        """What became of every event of the home; see `Meter.statistics`."""
        status = home_status(self._home)
        for reason, amount in dict(self.journal.dropped).items():
            status["dropped"][reason] = status["dropped"].get(reason, 0) + amount
        status["held_in_memory"] = self.journal.held
        add_live_state(status, self.shippers, self.journal)
        return status

    def _on_append(self, recorded: int) -> None:
        for shipper in self.shippers:
            if recorded >= shipper.wake_at:
                shipper.wake()
