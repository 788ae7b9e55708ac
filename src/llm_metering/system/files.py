"""Files: written at a place, replaced as a whole, brought to the medium, kept private."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import Final

if sys.platform == "darwin":
    import fcntl

__all__ = [
    "PRIVATE_FILE",
    "identity_of",
    "make_private_folder",
    "read_at",
    "replace_file",
    "sync_data",
    "sync_folder",
    "truncate",
    "write_at",
]

_POSIX: Final = os.name == "posix"
PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700


def identity_of(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one that took its place; `None` if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


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
