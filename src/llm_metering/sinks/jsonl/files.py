"""A file of lines that several processes append to, and that is rotated by renaming.

The lock is on the file itself (flock), not on one beside it: whoever has it looks whether the file
still bears the name, and begins again if it does not. So a rename is noticed, whoever made it, and
nothing is left lying about.

The file only grows: what a crash tore is ended with a newline by the next writer, and what did not
fit on the disk is cut back to its last whole line at once. Who follows the file (`tail -F` and the
like) never loses a line that it has read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from ... import system

__all__ = ["Appended", "BusyFileError", "Every", "LineFile", "NoFileError", "rotated_files"]

LOCK_WAIT: Final = 5.0
"""Seconds: who holds the lock may have been stopped."""

Every = Literal["hour", "day"]
"""How long one file may go on, in UTC."""

_PERIODS: Final = {"hour": "%Y%m%d%H", "day": "%Y%m%d"}
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_ROTATED: Final = r"(\d{8}T\d{6}Z)-(\d{6})"


class BusyFileError(Exception):
    """Somebody else holds the file's lock, and did not let go in time."""


class NoFileError(Exception):
    """What is there is no file that grows: a pipe, a device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """What became of some lines.

    Attributes:
        lines: So many, from the first, are on the medium.
        error: Why not all of them.
        unsure: More of them may be in the file.
    """

    lines: int
    error: OSError | None = None
    unsure: bool = False


class LineFile:
    """A file of lines.

    Args:
        path: Absolute; where it is a symbolic link, what that names is written and rotated.
        max_bytes: A file is rotated before it grows beyond this; a longer line has one of its own.
        every: It is rotated when the hour or the day is over, too.
        keep: How many rotated files stay; `None` is all of them.
        clock: Seconds since 1970.
        sync: Brings a file to its medium.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        every: Every | None = None,
        keep: int | None = None,
        clock: Callable[[], float] = time.time,
        sync: Callable[[int], None] = system.sync_data,
    ) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._every = every
        self._keep = keep
        self._clock = clock
        self._sync = sync

    def append(self, lines: Sequence[bytes]) -> Appended:
        """Add lines, each without a line break in it, and bring them to the medium.

        Raises:
            BusyFileError: If it is locked for too long; nothing was written.
            NoFileError: If it is no regular file; nothing was written.
            OSError: If it cannot be opened or rotated; nothing was written.
        """
        path = Path(os.path.realpath(self.path))
        data = b"".join([line + b"\n" for line in lines])
        descriptor = self._open(path, len(data))
        try:
            return self._write(descriptor, path, data)
        finally:
            system.unlock_file(descriptor)

    def _open(self, path: Path, more: int) -> int:
        """The file that bears the name, locked, with room for so many bytes more."""
        deadline = time.monotonic() + LOCK_WAIT
        while True:
            descriptor = _lock(path, deadline)
            try:
                status = _status_of_file(descriptor)
                if _is_named(path, status):
                    if not self._is_full(status, more):
                        return descriptor
                    self._rotate(path, descriptor, status)
            except BaseException:
                system.unlock_file(descriptor)
                raise
            system.unlock_file(descriptor)

    def _is_full(self, status: os.stat_result, more: int) -> bool:
        if not status.st_size:
            return False
        if status.st_size + more > self._max_bytes:
            return True
        if self._every is None:
            return False
        # All of the file is of the period of its last line, since every writer looks here first.
        period = _PERIODS[self._every]
        return _utc(status.st_mtime).strftime(period) < _utc(self._clock()).strftime(period)

    def _rotate(self, path: Path, descriptor: int, status: os.stat_result) -> None:
        if _is_torn(descriptor, status.st_size):
            # Or `cat` would join it with the first line of the next file.
            system.write_at(descriptor, b"\n", status.st_size)
            self._sync(descriptor)
        try:
            os.rename(path, self._next_name(path, rotated_files(path)))
        except OSError as error:
            # The file itself could be written: its folder is what is wrong.
            found = f"it cannot be renamed to rotate it: {error.strerror}"
            raise OSError(error.errno, found) from error
        # The next file has the mode of this one: who may read it may go on reading. If it cannot be
        # made now, whoever opens it finds out why.
        with contextlib.suppress(OSError):
            # Another writer may have made it this moment, for its owner alone.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, system.PRIVATE_FILE))
            os.chmod(path, stat.S_IMODE(status.st_mode))
        if self._keep is not None:
            for old in rotated_files(path)[: -self._keep]:
                old.unlink(missing_ok=True)
        system.sync_folder(path.parent)

    def _next_name(self, path: Path, earlier: Sequence[Path]) -> Path:
        stamp, number = _utc(self._clock()).strftime(_STAMP), 1
        if earlier:
            found = _pattern(path).fullmatch(earlier[-1].name)
            assert found is not None
            # Names go on in order, even if the clock was set back.
            if found[1] >= stamp:
                stamp, number = found[1], int(found[2]) + 1
        return path.with_name(f"{path.stem}.{stamp}-{number:06}{path.suffix}")

    def _write(self, descriptor: int, path: Path, data: bytes) -> Appended:
        size = os.fstat(descriptor).st_size
        try:
            if not size:
                system.sync_folder(path.parent)  # the name of a new file must last, too
            end = b"\n" if _is_torn(descriptor, size) else b""
        except OSError as error:
            return Appended(lines=0, error=error)
        failure: OSError | None = None
        written = end + data
        try:
            system.write_at(descriptor, written, size)
        except OSError as error:
            failure = error
            written = _cut_to_lines(descriptor, written, size)
        lines = written.removeprefix(end).count(b"\n")
        if not lines:
            return Appended(lines=0, error=failure)
        try:
            self._sync(descriptor)
        except OSError as error:
            return Appended(lines=0, error=error, unsure=True)
        if not os.fstat(descriptor).st_nlink:
            gone = OSError(errno.ENOENT, "it was deleted while it was written")
            return Appended(lines=0, error=gone, unsure=True)
        return Appended(lines=lines, error=failure)


def rotated_files(path: Path) -> list[Path]:
    """What a file has become by being rotated, the oldest first.

    Raises:
        OSError: If the folder cannot be read.
    """
    pattern = _pattern(path)
    with os.scandir(path.parent) as entries:
        names = sorted(entry.name for entry in entries if pattern.fullmatch(entry.name))
    return [path.with_name(name) for name in names]


def _pattern(path: Path) -> re.Pattern[str]:
    return re.compile(rf"{re.escape(path.stem)}\.{_ROTATED}{re.escape(path.suffix)}")


def _lock(path: Path, deadline: float) -> int:
    wait = max(deadline - time.monotonic(), 0.0)
    try:
        descriptor = _open_locked(path, wait)
    except FileNotFoundError:
        _make_folder(path.parent)
        descriptor = _open_locked(path, wait)
    if descriptor is None:
        raise BusyFileError
    return descriptor


def _open_locked(path: Path, wait: float) -> int | None:
    return system.lock_file(path, wait=wait, must_work=True)


def _make_folder(folder: Path) -> None:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    system.make_private_folder(folder)
    for each in missing:
        system.sync_folder(each.parent)


def _status_of_file(descriptor: int) -> os.stat_result:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise NoFileError
    return status


def _is_named(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), status)
    except FileNotFoundError:
        return False  # renamed this moment


def _is_torn(descriptor: int, size: int) -> bool:
    return size > 0 and system.read_at(descriptor, 1, size - 1) != b"\n"


def _cut_to_lines(descriptor: int, wanted: bytes, size: int) -> bytes:
    """Take back the last line of what fitted only in part; what stays of it."""
    written = wanted[: max(os.fstat(descriptor).st_size - size, 0)]
    whole = written[: written.rfind(b"\n") + 1]
    if len(whole) < len(written):
        # What cannot be cut off is ended by the next writer.
        with contextlib.suppress(OSError):
            system.truncate(descriptor, size + len(whole))
    return whole


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
