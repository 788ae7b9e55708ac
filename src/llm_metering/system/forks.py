"""Forks: who must let go of its parent's files and locks, and who be at rest while a process forks."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

__all__ = [
    "FORK_PATIENCE",
    "ForkAware",
    "ForkGuarded",
    "guard_fork",
    "never_close",
    "notice_fork",
    "on_fork",
    "run_fork_hooks",
    "undisturbed",
]

logger = logging.getLogger("llm_metering")

FORK_PATIENCE: Final = 1.0
"""Seconds that a fork waits at most, in all, for what must be at rest: a child that was forked in its
midst is the worse for it as long as it lives. It is the application's thread that waits."""


class ForkAware(Protocol):
    """Something that must let go of its parent's files and locks after a fork."""

    def after_fork(self) -> None:
        """Called in the child, before any code of the user's runs."""


class ForkGuarded(ForkAware, Protocol):
    """Something that must be at rest while a process forks."""

    def before_fork(self, deadline: float) -> None:
        """Called by the thread that forks.

        Args:
            deadline: Of `time.monotonic`.
        """

    def after_fork_in_parent(self) -> None:
        """Called by the thread that forked, in the parent."""


_fork_aware: weakref.WeakSet[Any] = weakref.WeakSet()
_fork_guarded: weakref.WeakSet[Any] = weakref.WeakSet()
# Bound once: it is asked four times in each call, and each look-up takes as long as what it finds.
_getpid: Final = os.getpid
_pid = _getpid()


def on_fork(target: ForkAware) -> None:
    """Call `target.after_fork()` in every forked child, as long as `target` lives."""
    _fork_aware.add(target)


def guard_fork(target: ForkGuarded) -> None:
    """As `on_fork`, and put `target` at rest before."""
    _fork_guarded.add(target)
    on_fork(target)


def run_fork_hooks() -> None:
    """Tell everything that is fork-aware that this is a forked child."""
    global _pid
    _pid = os.getpid()
    _tell(_fork_aware, lambda target: target.after_fork())


def _tell(targets: Iterable[Any], message: Callable[[Any], None]) -> None:
    for target in list(targets):
        try:
            message(target)
        except Exception as error:
            # The next one must still let go of what is the parent's.
            logger.error("at a fork: %s in %r", type(error).__name__, target)  # noqa: TRY400


def never_close(inherited: object) -> None:
    """Keep what a forked child has of its parent from ever being closed by it.

    A connection that nobody refers to any more is closed, which reaches into what the parent goes on
    using: SQLite rolls back in memory that is shared, PostgreSQL is told that the session ends.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


class _Undisturbed:
    """A lock that forks take."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def before_fork(self, deadline: float) -> None:
        self.lock.acquire(timeout=max(deadline - time.monotonic(), 0.0))

    def after_fork_in_parent(self) -> None:
        with contextlib.suppress(RuntimeError):  # it was not to be had
            self.lock.release()

    def after_fork(self) -> None:
        self.lock = threading.RLock()


_undisturbed: Final = _Undisturbed()
guard_fork(_undisturbed)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Have forks of other threads wait until the block is left.

    For what threads of ours do under locks that a child inherits locked, and waits for then for
    ever: import modules, set up OpenSSL.
    """
    lock = _undisturbed.lock  # a fork in the block brings a new one
    with lock:
        yield


def _before_fork() -> None:
    deadline = time.monotonic() + FORK_PATIENCE
    _tell(_fork_guarded, lambda target: target.before_fork(deadline))


def _after_fork_in_parent() -> None:
    _tell(_fork_guarded, lambda target: target.after_fork_in_parent())


def notice_fork() -> None:
    """Run the hooks in a forked child that none were run in.

    A fork made in C, such as uWSGI's without its fork hooks, runs no hook of Python's.
    """
    if _getpid() != _pid:
        run_fork_hooks()


if hasattr(os, "register_at_fork"):
    # Registered once for all: there is no way to unregister.
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=run_fork_hooks,
    )
