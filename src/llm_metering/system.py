"""The operating system, behind one module: locks, syncing, positioned I/O, fork hooks.

The POSIX path is the one that is tested (Linux). The Windows path (`msvcrt.locking`) and the
macOS one (`F_FULLFSYNC`) are written from their documentation and were never run.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

__all__ = [
    "ForkAware",
    "ForkGuarded",
    "HoldingWrite",
    "guard_fork",
    "lock_file",
    "make_private_folder",
    "notice_fork",
    "on_fork",
    "read_at",
    "replace_file",
    "run_fork_hooks",
    "sync_data",
    "sync_folder",
    "truncate",
    "undisturbed",
    "unlock_file",
    "write_at",
]

logger = logging.getLogger("llm_metering")

_POSIX: Final = os.name == "posix"
FORK_PATIENCE: Final = 1.0
"""Seconds that a fork waits at most, in all, for what must be at rest: a child that was forked in its
midst is the worse for it as long as it lives. It is the application's thread that waits."""
PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700

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
    path: Path, *, exclusive: bool = True, wait: float = 0.0, create: bool = True
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

    Returns:
        The descriptor, or `None` if somebody else holds the lock or there is no such file.

    Raises:
        OSError: If the file cannot be opened for another reason.
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
        except OSError:
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


def sync_data(descriptor: int) -> None:
    """Bring what was written to `descriptor` to the medium.

    Raises:
        OSError: If the medium fails.
    """
    if sys.platform == "darwin":
        # fsync on macOS leaves the data in the drive's cache (man 2 fsync).
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    elif sys.platform == "win32":
        os.fsync(descriptor)
    else:
        os.fdatasync(descriptor)


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the medium."""
    if not _POSIX:
        return  # Windows has no such call.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Read up to `size` bytes at `offset`, without moving the file's position."""
    if _POSIX:
        return os.pread(descriptor, size, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, size)


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write `data` at `offset`, without moving the file's position.

    Raises:
        OSError: If there was not room for all of it.
    """
    if _POSIX:
        written = os.pwrite(descriptor, data, offset)
    else:
        os.lseek(descriptor, offset, os.SEEK_SET)
        written = os.write(descriptor, data)
    if written < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class HoldingWrite:
    """`os.write` that keeps the interpreter's lock.

    `os.write` gives it up, and beside a thread that computes comes back a switch interval (5 ms)
    later. This one takes microseconds; but while it is held up by the disk, so is every thread.

    Raises:
        OSError: If the C library cannot be reached.
    """

    def __init__(self) -> None:
        import ctypes  # takes milliseconds, and is seldom wanted

        self._ctypes = ctypes
        try:
            self._write = ctypes.PyDLL(None, use_errno=True).write
        except (AttributeError, TypeError) as error:  # Windows
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
        self._write.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
        self._write.restype = ctypes.c_ssize_t

    def __call__(self, descriptor: int, data: bytes) -> int:
        """As `os.write`.

        Raises:
            OSError: As `os.write` does.
        """
        while (written := int(self._write(descriptor, data, len(data)))) < 0:
            code = self._ctypes.get_errno()
            if code != errno.EINTR:
                raise OSError(code, os.strerror(code))
        return written


def truncate(descriptor: int, size: int) -> None:
    """Cut a file back after a write that fitted only in part."""
    os.ftruncate(descriptor, size)


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` at `path`, whole or not at all.

    Raises:
        OSError: If it cannot be written; the old content stays.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", opener=_open_private) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def make_private_folder(path: Path) -> None:
    """Make `path` and its parents; what is new only its owner may enter."""
    # One by one: `mkdir(parents=True)` gives the mode to the last of them alone.
    for folder in (*reversed(path.parents), path):
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, PRIVATE_FILE)


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
_pid = os.getpid()


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
    if os.getpid() != _pid:
        run_fork_hooks()


if hasattr(os, "register_at_fork"):
    # Registered once for all: there is no way to unregister.
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=run_fork_hooks,
    )
