"""`GivingBack`: reservations are released by a thread of ours, whoever finds that a call costs nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from ..handoff import DaemonThread, Empty, SimpleQueue, wait_for

__all__ = ["GivingBack"]

_Gift = tuple[str | None, Callable[[], object]]


class GivingBack:
    """A queue of reservations to release, and the thread that does so.

    Args:
        release: Releases the one of an id; raises nothing.
        note: Is told that what was to follow a release has failed.
    """

    def __init__(self, release: Callable[[str], object], *, note: Callable[[str], object]) -> None:
        self._release = release
        self._note = note
        self.begin()

    def __repr__(self) -> str:
        return f"<GivingBack {self._queue.qsize()} reservations>"

    def begin(self) -> None:
        """Begin with nothing, as in a forked child: what waits is the parent's."""
        self._queue: SimpleQueue[_Gift | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ended: Future[None] = Future()
        self._starting = threading.Lock()  # only ever tried

    def add(self, id: str | None, then: Callable[[], object]) -> None:
        """Release it soon, if it is one, and call `then`."""
        # Nothing but this: it may be within garbage collection, on a thread that holds any lock.
        self._queue.put((id, then))

    def start(self) -> None:
        """See to it that the thread lives."""
        if self._lives() or not self._starting.acquire(blocking=False):
            return
        try:
            # Never a second one: `close` waits for the end of one, and leaves the other at its last gift.
            # Where there are too many threads, or the interpreter ends, `close` gives back.
            with suppress(RuntimeError):
                if not self._lives():
                    self._start()
        finally:
            self._starting.release()

    def _lives(self) -> bool:
        thread = self._thread
        return thread is not None and thread.is_alive()

    def _start(self) -> None:
        ended: Future[None] = Future()
        thread = DaemonThread(self._work, args=(self._queue, ended), name="llm-metering-give-back")
        thread.start()
        self._thread, self._ended = thread, ended

    def close(self, deadline: float) -> None:
        """Wait for what is being released; where no thread runs, release it here.

        Args:
            deadline: On the monotonic clock.
        """
        thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._queue.put(None)
            if not wait_for([self._ended], deadline):
                return  # it goes on, for as long as the process does
        for _ in range(self._queue.qsize()):
            try:
                gift = self._queue.get_nowait()
            except Empty:
                break
            if gift is not None:
                self._take_in(gift)

    def _work(self, queue: SimpleQueue[_Gift | None], ended: Future[None]) -> None:
        while (gift := queue.get()) is not None:
            self._take_in(gift)
        ended.set_result(None)

    def _take_in(self, gift: _Gift) -> None:
        id, then = gift
        # What is not given back ends by itself, and a note of the call would not end it any sooner.
        if id is not None:
            self._release(id)
        try:
            then()
        except Exception:
            self._note("release")
