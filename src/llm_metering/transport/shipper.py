"""One sink's shipper: the thread that pumps, is woken, hurried and ended."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from .. import system
from ..handoff import DaemonThread, Empty, SimpleQueue, Turn
from ..sinks.base import Sink
from .alarms import Alarms
from .bounds import DEFAULT_BACKLOG_BYTES
from .folding import collect
from .journal import Journal
from .policy import Standing
from .pump import Pump
from .spool import Spool, debt_of
from .suspects import Suspects

__all__ = ["Shipper"]

logger = logging.getLogger("llm_metering")

_NEVER: Final = 1 << 62


class Shipper:
    """Ships the events of this process, and those of dead ones, to one sink.

    A daemon thread does the work, begun with the first event; `drain` does the same in the
    calling thread where none can run.

    Args:
        sink: Where to.
        spool: The folder of all journals.
        journal: This process's own.
        alarms: Who is told of trouble.
        backlog_bytes: How much the sink may be owed on disk.
        clock: A monotonic clock, in seconds.
        wall: Seconds since 1970.
        chance: Random numbers between 0 and 1.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        spool: Spool,
        journal: Journal,
        alarms: Alarms | None = None,
        backlog_bytes: int = DEFAULT_BACKLOG_BYTES,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.sink = sink
        self.debt = debt_of(sink)
        self._spool = spool
        self._journal = journal
        self._clock = clock
        self._new_pump = partial(
            Pump,
            sink,
            self.debt,
            spool=spool,
            journal=journal,
            alarms=Alarms() if alarms is None else alarms,
            backlog_bytes=backlog_bytes,
            clock=clock,
            wall=wall,
            chance=chance,
        )
        self._begin()
        system.on_fork(self)

    def _begin(self) -> None:
        # How many events must be recorded before the thread is woken; 0 while it is idle.
        self.wake_at = 0
        self._turn = Turn()
        self._starting = threading.Lock()
        # Not an Event: `set` of an Event is no place for a finaliser to come in again, and
        # callbacks run in finalisers. `SimpleQueue.put` is documented as reentrant.
        self._wakeups: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._close_by = 0.0
        self._mark: int | None = None
        self._pump = self._new_pump()
        self._urgent_until = 0

    def __repr__(self) -> str:
        return (
            f"<Shipper {self.sink.name} {self.standing.state} own_settled={self.own_settled}"
            f" segments={len(self._pump.backlog)} {self._pump.dispatch.triage!r}"
            f" {self.suspects!r}>"
        )

    @property
    def own_settled(self) -> int:
        """How many of this process's own events are settled."""
        # Those in memory last: what is just being written to disk may be missed, not counted twice.
        on_disk = self._pump.dispatch.own_settled
        return on_disk + self._journal.settled_from_memory(self.debt.key)

    @property
    def standing(self) -> Standing:
        """How the sink stands."""
        return self._pump.dispatch.standing

    @property
    def suspects(self) -> Suspects:
        """Events that the sink may have, though it did not say so."""
        return self._pump.dispatch.suspects

    @property
    def is_running(self) -> bool:
        """Whether the thread is there to do the work."""
        return self._thread is not None and self._thread.is_alive()

    def wake(self) -> None:
        """Look at the journal now; begins the thread if need be."""
        self.wake_at = _NEVER  # until the thread has looked
        # Never waited for: two that come here at once would otherwise start a thread each.
        if not self.is_running and not self._closing and self._starting.acquire(blocking=False):
            try:
                if not self.is_running:
                    self._start()
            finally:
                self._starting.release()
        self._wakeups.put(None)

    def hurry(self, recorded: int) -> None:
        """Send without lingering until that many own events are settled; skip one backoff."""
        self._urgent_until = max(self._urgent_until, recorded)
        self._pump.skip_backoff = True
        self.wake()

    def drain(self, *, deadline: float, own_only: bool = False, mark: int | None = None) -> bool:
        """Deliver what there is, in this thread, until nothing is left or time is up.

        Args:
            deadline: Of the shipper's clock.
            own_only: Leave other processes' segments alone.
            mark: That many own events settled are enough.

        Returns:
            Whether nothing is left that this process may ship, or the mark is reached.
        """
        if not own_only:
            self._pump.next_adoption = 0.0
        while True:
            if not self._turn.acquire(timeout=self._until(deadline)):
                return False
            try:
                if mark is not None and self.own_settled >= mark:
                    with contextlib.suppress(OSError):  # else the next process deletes it
                        self._pump.backlog.follow_journal()
                    return True
                wait = self._pump.once(urgent=True, adopt=not own_only)
            finally:
                self._turn.release()
            if wait is None:
                return True
            if self._clock() + wait >= deadline:
                return False
            if wait > 0:  # to sleep for no time takes longer than to parse a batch
                time.sleep(min(wait, 0.2))

    def begin_close(self, *, deadline: float) -> None:
        """Deliver what there is until the deadline of the shipper's clock, and no more then.

        What is recorded from now on is for the next process: with a thread that goes on recording
        there is no end to be waited for.
        """
        self._close_by = deadline
        self._mark = self._journal.recorded
        self._pump.skip_backoff = True
        self._closing = True
        self._wakeups.put(None)

    def finish_close(self) -> bool:
        """Wait for what `begin_close` began, and let go; what is left stays on disk.

        Returns:
            Whether nothing was left.
        """
        thread = self._thread
        if thread is not None:
            # The thread drains, not the caller: a server that hangs must not hang the exit.
            thread.join(self._until(self._close_by))
            if thread.is_alive():
                return False
        done = self.drain(deadline=self._close_by, own_only=True, mark=self._mark)
        if not self._turn.acquire(timeout=self._until(self._close_by)):
            return False  # another thread is delivering, as `usage` does
        try:
            self._pump.dispatch.release()
            for segment in self._journal.segments():
                if segment.finished:
                    collect(self._spool, segment.name)
            self.sink.close()
        except Exception as error:
            # Of the sink, mostly; whatever it is, it is not the application's.
            logger.warning("closing %s failed: %s", self.sink.name, type(error).__name__)
        finally:
            self._turn.release()
        return done

    def after_fork(self) -> None:
        """Let go of the parent's segments in a forked child."""
        self._pump.backlog.disown()
        self._begin()

    def _until(self, deadline: float) -> float:
        # A user's "for ever" is infinite, which no lock can wait.
        return min(max(deadline - self._clock(), 0.0), threading.TIMEOUT_MAX)

    def _start(self) -> None:
        thread = DaemonThread(self._run, name=f"llm-metering-{self.sink.name}")
        try:
            thread.start()
        except RuntimeError:
            # The interpreter is shutting down, and `close` or the next process ships; or there
            # are too many threads, which may pass.
            self.wake_at = self._journal.recorded + self.sink.limits.max_events
            return
        self._thread = thread

    def _run(self) -> None:
        while not self._closing:
            recorded = self._journal.recorded
            with self._turn:
                urgent = self._closing or self.own_settled < self._urgent_until
                wait = self._pump.once(urgent=urgent, adopt=True)
            self.wake_at = 0 if wait is None else recorded + self.sink.limits.max_events
            if wait is None and self._journal.recorded != recorded:
                continue  # recorded after we looked and before `wake_at` said so
            until_adoption = max(self._pump.next_adoption - self._clock(), 0.0)
            self._sleep(until_adoption if wait is None else min(wait, until_adoption))
        self.drain(deadline=self._close_by, own_only=True, mark=self._mark)
        if self._clock() >= self._close_by:
            # Nobody waits any more: another meter of this process may take over.
            with self._turn:
                self._pump.dispatch.release()

    def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            try:
                self._wakeups.get(timeout=seconds)
            except Empty:
                return
        while not self._wakeups.empty():
            self._wakeups.get()
