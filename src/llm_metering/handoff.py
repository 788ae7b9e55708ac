"""Waiting for another thread, in processes where threads are greenlets as well.

After gevent's `monkey.patch_all()` a thread is a greenlet, and who waits inside C holds up all of
them, for ever where it is one of them that he waits for (gevent 26.9, `gevent/monkey/api.py`). An
application is patched before it imports this package, after that, or when a meter is there already
(gunicorn's gevent workers with `preload_app`), so it is looked at anew before each wait.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time

# Not from `queue`, where gevent puts its own in place, which only greenlets of one thread may use.
from _queue import Empty
from _queue import SimpleQueue as _SimpleQueue
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, TypeVar

__all__ = [
    "NAP",
    "DaemonThread",
    "Empty",
    "SimpleQueue",
    "Turn",
    "result_of",
    "threads_are_greenlets",
    "wait_for",
]

_T = TypeVar("_T")

NAP: Final = 0.02
"""Seconds between two looks of a greenlet that waits; a look takes some twenty microseconds."""


def threads_are_greenlets() -> bool:
    """Whether who waits inside C holds up the other threads."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


class SimpleQueue(_SimpleQueue[_T]):
    """`queue.SimpleQueue`, whose `get` holds up no other greenlet.

    As there, `put` may be entered inside itself: by a signal handler or a finaliser.
    """

    def get(self, block: bool = True, timeout: float | None = None) -> _T:
        """As in `queue.SimpleQueue`."""
        if not block or not threads_are_greenlets():
            return super().get(block, timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return super().get(block=False)
            except Empty:
                left = NAP if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    raise
            time.sleep(min(left, NAP))


def result_of(future: Future[_T], timeout: float) -> _T:
    """`Future.result`, which holds up no other greenlet.

    Raises:
        TimeoutError: If it is not there in time.
        Exception: Whatever the future's is.
    """
    if threads_are_greenlets():
        deadline = time.monotonic() + timeout
        while not future.done():
            if time.monotonic() >= deadline:
                raise TimeoutError
            time.sleep(min(timeout, NAP))
    return future.result(min(timeout, threading.TIMEOUT_MAX))


def wait_for(futures: Iterable[Future[Any]], deadline: float) -> bool:
    """Wait until all of them have ended, however they do; no other greenlet is held up.

    Args:
        futures: Which.
        deadline: On the monotonic clock.

    Returns:
        Whether all of them have.
    """
    for future in futures:
        with contextlib.suppress(Exception):  # whoever has asked for it gets that
            result_of(future, max(0.0, deadline - time.monotonic()))
        if not future.done():
            return False
    return True


class DaemonThread(threading.Thread):
    """A thread that keeps no process alive, and that nobody who begins it late waits for.

    `Thread.start` waits until the thread has begun to run. As the interpreter is taken apart, none
    but the main thread runs any more, and before CPython 3.12 a finaliser that begins one (a stream
    left open to the very end, say) waits for ever, and the process with it
    (`Lib/threading.py`, `Python/pylifecycle.c` of 3.11).

    Args:
        target: What it does.
        name: Its name.
        args: What `target` is given.
    """

    def __init__(
        self, target: Callable[..., object], *, name: str, args: tuple[object, ...] = ()
    ) -> None:
        super().__init__(target=target, name=name, args=args, daemon=True)

    def start(self) -> None:
        """Begin it.

        Raises:
            RuntimeError: There are too many threads, or the interpreter is ending.
        """
        if sys.is_finalizing():
            raise RuntimeError("can't start a thread while the interpreter is taken apart")
        super().start()


class Turn:
    """A lock that is held across deliveries, and holds up no other greenlet meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def acquire(self, timeout: float = -1) -> bool:
        """Wait for it.

        Args:
            timeout: Seconds; for as long as it takes if negative.

        Returns:
            Whether it is ours now.
        """
        if not threads_are_greenlets():
            return self._lock.acquire(timeout=timeout)
        deadline = time.monotonic() + timeout
        while not self._lock.acquire(blocking=False):
            if timeout >= 0 and deadline <= time.monotonic():
                return False
            time.sleep(NAP)
        return True

    def release(self) -> None:
        """Let the next one have it."""
        self._lock.release()

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self._lock.locked()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
