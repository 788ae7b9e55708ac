"""The thread behind a journal: it syncs what was written, for all who wait for it at once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from ..handoff import DaemonThread, Empty, SimpleQueue

__all__ = ["DISK_RETRY_EVERY", "SYNC_EVERY", "Syncer"]

SYNC_EVERY: Final = 0.5
"""Seconds from the first unsynced write to the sync, if nobody waits for it."""
DISK_RETRY_EVERY: Final = 1.0


class Syncer:
    """Does a journal's work in the background, in a daemon thread begun when it is first needed.

    Safe from finalisers and signal handlers: nothing here waits for a lock.

    Args:
        work: Writes what could not be written before, and syncs; returns what is in the way of
            that, if anything is: it is done again a second later.
        may_end: Whether there is nothing left to do, asked once `end` was called.

    Attributes:
        is_idle: Whether `soon` has to be called for what is written now.
    """

    def __init__(
        self, work: Callable[[], Exception | None], *, may_end: Callable[[], bool]
    ) -> None:
        self._work = work
        self._may_end = may_end
        # Of a reentrant queue: `True` is for one who waits.
        self._signals: SimpleQueue[bool] = SimpleQueue()
        self._waiting: deque[Future[None]] = deque()
        self._thread: threading.Thread | None = None
        self.is_idle = True
        self._ending = False

    def __repr__(self) -> str:
        return f"<Syncer idle={self.is_idle} waiting={len(self._waiting)} ending={self._ending}>"

    def start(self) -> bool:
        """Have the thread, and say whether it is there."""
        if self._thread is None:
            thread = DaemonThread(self._run, name="llm-metering-sync")
            try:
                thread.start()
            except RuntimeError:
                # There are too many threads, or the interpreter is shutting down. The page
                # cache has the records, `close` syncs, and the next append tries again.
                return False
            self._thread = thread
        return True

    @property
    def runs_here(self) -> bool:
        """Whether it is the thread itself that asks."""
        return self._thread is threading.current_thread()

    def soon(self) -> None:
        """There is something to sync."""
        if self.is_idle and self.start():
            self.is_idle = False
            self._signals.put(False)

    def at_once(self) -> bool:
        """There is something that somebody waits for; returns whether it will be seen to."""
        there = self.start()
        self._signals.put(True)
        return there

    def durable(self) -> Future[None]:
        """What was recorded before is on the medium when this is done.

        Its exception, if it has one, says why it is not. Those who wait at the same time share
        one sync.
        """
        future: Future[None] = Future()
        self._waiting.append(future)
        if not self.at_once():
            self._serve()
        return future

    def end(self) -> None:
        """End the thread once nothing is left to do."""
        self._ending = True
        self._signals.put(True)

    def _run(self) -> None:
        while True:
            hurried = self._signals.get()
            if not (hurried or self._waiting):
                with contextlib.suppress(Empty):
                    self._signals.get(timeout=SYNC_EVERY)
            trouble = self._serve()
            if trouble is not None:
                time.sleep(DISK_RETRY_EVERY - SYNC_EVERY)
                self.soon()
            elif self._ending and self._signals.empty() and self._may_end():
                self._thread = None
                if not self._signals.empty():
                    self.start()  # for who still found a thread there
                return

    def _serve(self) -> Exception | None:
        waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
        # What is written from now on signals again.
        self.is_idle = True
        trouble = self._work()
        for future in waiting:
            if not future.set_running_or_notify_cancel():
                continue
            if trouble is None:
                future.set_result(None)
            else:
                future.set_exception(trouble)
        return trouble
