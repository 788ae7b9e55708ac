"""`CountingQueue`: text is tokenized on a thread of ours, never on the application's."""

from __future__ import annotations

# Here, and not when a tokenizer is loaded: at the end of the interpreter it can no longer be imported
# (`threading._register_atexit` refuses then), and tiktoken imports it.
import concurrent.futures.thread  # noqa: F401
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from .exchange import Counted, Exchange
from .handoff import DaemonThread, Empty, SimpleQueue
from .tokenizers import Encodings, count, guess

__all__ = ["MAX_PENDING", "CountingQueue", "TokenCounters"]

_PAUSE: Final = 0.005
_LOOK_EVERY: Final = 0.005
_CHORE_AGAIN: Final = 15.0
"""Seconds after a chore that failed."""
MAX_PENDING: Final = 200
"""Exchanges that may wait, with their texts in memory. One more is estimated at once."""


class _Counters(Protocol):
    """The two ways to count; the `tokenizers` package."""

    def guess(self, exchange: Exchange, /) -> Counted: ...
    def count(self, exchange: Exchange, /) -> Counted: ...


class TokenCounters:
    """The tokenizers, with the encodings of this process.

    Args:
        download: Whether encodings that are not on this machine may be fetched.
    """

    def __init__(self, *, download: bool) -> None:
        self._encodings = Encodings(download=download)

    def guess(self, exchange: Exchange, /) -> Counted:
        """From lengths alone."""
        return guess(exchange)

    def count(self, exchange: Exchange, /) -> Counted:
        """By the model's own encoding where there is one."""
        return count(exchange, self._encodings)


@dataclass(frozen=True, slots=True)
class _Job:
    ticket: int
    exchange: Exchange
    done: Callable[[Counted], None]


class _Wake:
    """What wakes the thread, to do its chore."""


_WAKE: Final = _Wake()


class CountingQueue:
    """Counts one exchange after another.

    Args:
        counters: What counts.
        note_failure: Told of what failed, as in `Guard`.
        chore: Something else that is to be done on that thread, from time to time; it returns the
            seconds until it is to be done again, or `None` if only `do_chore` brings it back.
    """

    def __init__(
        self,
        counters: _Counters,
        *,
        note_failure: Callable[[str, Exception], None],
        chore: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._counters = counters
        self._note_failure = note_failure
        self._chore = chore
        self._begin()

    def _begin(self) -> None:
        # Nobody ever waits for a lock here. A finaliser may submit inside any allocation, also on a
        # thread that holds the journal's lock, and another that records inside one of ours: with
        # a lock of ours the two would wait for each other. `put` may be entered inside itself.
        self._jobs: SimpleQueue[_Job | _Wake | None] = SimpleQueue()
        self._has_chore = False
        self._tickets = itertools.count()
        self._unfinished: dict[int, None] = {}
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()  # only ever tried

    def __repr__(self) -> str:
        return f"<CountingQueue pending={self.pending}>"

    def start(self) -> None:
        """Start the thread now; else the first exchange does, and waits a millisecond for it."""
        self._has_thread()

    def do_chore(self) -> None:
        """See to it that the chore is done, now or when it is due; costs nothing if it is already."""
        # Not whether the thread lives: to ask that takes as long as all the rest, for each call. One
        # that ends says so here.
        if self._has_chore:
            return
        self._has_chore = True
        self._jobs.put(_WAKE)
        self._has_thread()
        if self._thread is None:
            self._has_chore = False  # there could be none: the next one tries again

    @property
    def pending(self) -> int:
        """Exchanges that are not counted yet."""
        return len(self._unfinished)

    def after_fork(self) -> None:
        """In a forked child: what waits is the parent's to count."""
        self._begin()

    def guess(self, exchange: Exchange, /) -> Counted:
        """An estimate from lengths alone."""
        return self._counters.guess(exchange)

    def submit(self, exchange: Exchange, done: Callable[[Counted], None], /) -> None:
        """Have `exchange` counted; `done` is called with the result, from another thread."""
        job = _Job(next(self._tickets), exchange, done)
        self._unfinished[job.ticket] = None
        if self.pending > MAX_PENDING:
            self._finish(job, self._counters.guess)
            return
        self._jobs.put(job)
        self._has_thread()

    def wait(self, deadline: float) -> bool:
        """Wait until all that was submitted before is counted, in this thread if need be.

        Args:
            deadline: Of `time.monotonic`.

        Returns:
            Whether it is.
        """
        for ticket in list(self._unfinished):
            while ticket in self._unfinished:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                # Without a thread of its own; unless another one has taken the last and is at it.
                if self._is_alive() or not self._work_once():
                    time.sleep(min(left, _LOOK_EVERY))
        return True

    def close(self, deadline: float) -> bool:
        """Count what waits; what cannot be counted in time gets its estimate.

        Returns:
            Whether all has its result; one that is being counted just now may not.
        """
        self.wait(deadline)
        # No more than there are now: a thread that goes on recording would keep us here for ever.
        for _ in range(self._jobs.qsize()):
            if (job := self._next()) is not None:
                self._finish(job, self._counters.guess)
        if self._is_alive():
            self._jobs.put(None)
        return not self.pending

    def _is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _has_thread(self) -> None:
        # Somebody else who is starting it starts it for all.
        if self._is_alive() or not self._starting.acquire(blocking=False):
            return
        try:
            if not self._is_alive():
                thread = DaemonThread(self._work, name="llm-metering-count")
                thread.start()
                self._thread = thread
        except RuntimeError:
            # Too many threads, or the interpreter is shutting down: `wait` and `close` count.
            self._thread = None
        finally:
            self._starting.release()

    def _work(self) -> None:
        # `Thread.start` returns when this thread has begun to run: the one who called it must not
        # find the interpreter busy with loading a tokenizer by then.
        time.sleep(_PAUSE)
        due: float | None = None
        while True:
            try:
                left = None if due is None else max(due - time.monotonic(), 0.0)
                job = self._jobs.get(timeout=left)
            except Empty:
                job = _WAKE
            if job is None:
                self._thread = None  # first, or who comes now takes it for one that works
                self._has_chore = False
                return
            if isinstance(job, _Job):
                self._finish(job, self._counters.count)
            if isinstance(job, _Wake) or (due is not None and time.monotonic() >= due):
                due = self._next_chore()

    def _next_chore(self) -> float | None:
        # First: what comes up while we are at it is seen to once more, rather than not at all.
        self._has_chore = False
        try:
            wait = self._chore()
        except Exception as error:
            self._note_failure("chore", error)
            wait = _CHORE_AGAIN
        if wait is None:
            return None
        self._has_chore = True
        return time.monotonic() + wait

    def _work_once(self) -> bool:
        job = self._next()
        if job is not None:
            self._finish(job, self._counters.count)
        return job is not None

    def _next(self) -> _Job | None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return None
            if isinstance(job, _Job):
                return job

    def _finish(self, job: _Job, count: Callable[[Exchange], Counted]) -> None:
        try:
            try:
                counted = count(job.exchange)
            except Exception as error:
                self._note_failure("counting", error)
                counted = self._counters.guess(job.exchange)
            job.done(counted)
        except Exception as error:
            self._note_failure("counting", error)
        finally:
            self._unfinished.pop(job.ticket, None)
