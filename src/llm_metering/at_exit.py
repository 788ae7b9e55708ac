"""The end of a process: what is open is closed, in a time that is bounded for all of it.

At the end of an interpreter `atexit` is told. A child made by `multiprocessing` ends without it
where it was forked (fork, forkserver), but runs the finalizers of `multiprocessing.util` (CPython
3.11 to 3.13, `multiprocessing/process.py`, `_bootstrap`). One that is terminated, as the workers of
a `Pool` are at the end of its `with` block, runs nothing: what it recorded is on disk, and shipped by
the process that adopts it.
"""

from __future__ import annotations

import atexit
import contextlib
import sys
import time
from typing import Any, Final, Protocol

from . import system

__all__ = ["EXIT_TIMEOUT", "close_at_exit", "is_closed"]

EXIT_TIMEOUT: Final = 5.0
"""Seconds that the end of a process takes at most for everything that is closed then."""
_AFTER_ALL_OTHERS: Final = -1000
"""Of the finalizers of `multiprocessing`, whose own have priorities down to -100."""


class Closable(Protocol):
    """What can be closed within a time."""

    def close(self, timeout: float) -> Any:
        """Close it; the seconds are what is left for all."""

    def guard(self, where: str, /) -> contextlib.AbstractContextManager[Any]:
        """Keep what fails from the others."""


_open: Final[set[Any]] = set()


def close_at_exit(target: Closable) -> None:
    """Have `target` closed when this process ends."""
    _open.add(target)
    _child_exit.watch()


def is_closed(target: Closable) -> None:
    """Say that `target` needs no closing any more."""
    _open.discard(target)


@atexit.register
def _close_all() -> None:
    # One deadline for all of them: a process may have made several.
    deadline = time.monotonic() + EXIT_TIMEOUT
    for target in list(_open):
        with target.guard("exit"):
            target.close(max(deadline - time.monotonic(), 0.0))


class _ChildExit:
    """Sees to it that a child of `multiprocessing` closes what is open when it ends."""

    def __init__(self) -> None:
        self._is_known = False
        self._finalizer: Any = None

    def watch(self) -> None:
        """Become known to `multiprocessing`, if it is in use."""
        util = sys.modules.get("multiprocessing.util")
        if util is None:
            return
        if not self._is_known:
            self._is_known = True
            # A finalizer alone is not enough: a child that begins its work forgets those it has,
            # also those of its main module's import, and calls this then.
            util.register_after_fork(self, _ChildExit.prepare)
        self.prepare()

    def after_fork(self) -> None:
        self.watch()

    def prepare(self) -> None:
        """Register the finalizer, in a child of `multiprocessing` only."""
        from multiprocessing.process import parent_process
        from multiprocessing.util import Finalize

        if parent_process() is None:
            return
        if self._finalizer is None or not self._finalizer.still_active():
            self._finalizer = Finalize(None, _close_all, exitpriority=_AFTER_ALL_OTHERS)


_child_exit: Final = _ChildExit()
system.on_fork(_child_exit)
