"""Locks on files, which end with the process that holds them."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from pathlib import Path
from typing import Final

from .files import PRIVATE_FILE

__all__ = ["lock_file", "unlock_file"]

_HELD: Final = frozenset([errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK])
"""What the system says while somebody else holds a lock; Windows has two answers of its own."""

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, *, exclusive: bool) -> None:
        # Windows has no shared lock here: a shared one is taken as exclusive, which can only
        # make somebody else look alive for a moment.
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        try:
            # The byte locked lies far behind any content: Windows locks are mandatory.
            os.lseek(descriptor, 1 << 40, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, position, os.SEEK_SET)

    def _unlock(descriptor: int) -> None:
        pass  # closing does; a descriptor is never inherited here
else:
    import fcntl

    def _lock(descriptor: int, *, exclusive: bool) -> None:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def lock_file(
    path: Path,
    *,
    exclusive: bool = True,
    wait: float = 0.0,
    create: bool = True,
    must_work: bool = False,
) -> int | None:
    """Open `path` and lock it; `unlock_file` lets go.

    The lock belongs to the open file, not to the process: it is released when the process
    dies, however it dies, and two openings in one process exclude each other. A forked child
    shares the opening: there, closing the descriptor leaves the lock to the parent.

    Args:
        path: The file.
        exclusive: Nobody else may hold it, not even shared.
        wait: Seconds to wait for others. Never for as long as it takes: who holds it may have
            been stopped (SIGSTOP, a debugger).
        create: Make the file, if there is none.
        must_work: A file system without locks is an error, and not taken for somebody's lock.

    Returns:
        The descriptor, or `None` if somebody else holds the lock or there is no such file.

    Raises:
        OSError: If the file cannot be opened for another reason, or locks must work and do not.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    try:
        descriptor = os.open(path, flags, PRIVATE_FILE)
    except FileNotFoundError:
        if create:
            raise
        return None
    deadline = time.monotonic() + wait
    while True:
        try:
            _lock(descriptor, exclusive=exclusive)
        except OSError as error:
            if must_work and error.errno not in _HELD:
                os.close(descriptor)
                raise
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.002)
        else:
            return descriptor


def unlock_file(descriptor: int) -> None:
    """Let go of what `lock_file` locked."""
    # Closing is not enough: a child that another thread forked meanwhile has a copy of the
    # descriptor, and the lock would last as long as that child.
    with contextlib.suppress(OSError):
        _unlock(descriptor)
    os.close(descriptor)
