"""Whether the home can keep what is recorded: folder, owner, file system, locks, space, speed."""

from __future__ import annotations

import errno
import os
import pwd
import stat
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Final

from .. import system
from ..mounts import MOUNTS, mount_of, parse_mounts
from .finding import Finding, failure, ok, warning
from .mounts import judge_mount

__all__ = ["LOW_SPACE", "NO_SPACE", "SLOW_SYNC", "check_home", "nearest"]

LOW_SPACE: Final = 1 << 30
"""Bytes; below them there is a warning."""
NO_SPACE: Final = 64 << 20
"""Bytes: a few segments."""
LOW_INODES: Final = 10_000
SLOW_SYNC: Final = 0.1
"""Seconds."""
_SYNCS: Final = 5
_PROBE: Final = bytes(4096)


def check_home(
    home: Path,
    *,
    sync: Callable[[int], None] = system.sync_data,
    clock: Callable[[], float] = time.perf_counter,
    space: Callable[[Path], os.statvfs_result] = os.statvfs,
    mounts: Path = MOUNTS,
) -> Iterator[Finding]:
    """Look at a home; one that does not exist is judged by the folder it would be made in.

    Args:
        home: Absolute. Nothing is left in it but what was there.
        sync: Brings a file to its medium.
        clock: Seconds, to time that.
        space: Says how much is free.
        mounts: Where it is written what is mounted.
    """
    try:
        folder = nearest(home)
        is_there = folder == home
        if not folder.is_dir():
            yield _unusable(home, f"{folder} is no folder")
            return
    except OSError as error:
        yield _unusable(home, f"{error.filename} cannot be looked into: {error.strerror}")
        return
    if is_there:
        yield ok("home.folder", f"{home} is there")
        yield from _check_owner(home)
    else:
        yield ok("home.folder", f"{home} is not there yet; {folder} is looked at in its place")
    with suppress(OSError):  # not on this system
        real = Path(os.path.realpath(folder))
        known = parse_mounts(mounts.read_text("utf-8", "surrogateescape"))
        yield judge_mount(mount_of(real, known))
    yield from _check_space(space(folder))
    yield from _check_probe(home, folder, sync, clock)


def nearest(home: Path) -> Path:
    """The folder itself, or the one of its parents that is there."""
    for folder in (home, *home.parents):
        try:
            folder.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return folder
    return home


def _unusable(home: Path, found: str) -> Finding:
    return failure(
        "home.folder",
        found,
        means=f"{home} cannot be used: applications refuse to start metering",
        advice="set LLM_METERING_HOME to a folder that the application's user may write to",
    )


def _check_owner(home: Path) -> Iterator[Finding]:
    check = "home.owner"
    me = os.geteuid()
    status = home.stat()
    if status.st_uid != me:
        yield failure(
            check,
            f"{home} belongs to {_user(status.st_uid)}, and this is {_user(me)}",
            means="what one of the two writes, the other cannot read or go on with; a home has "
            "one user",
            advice="run the applications and these commands as one user, or give each its own "
            "LLM_METERING_HOME",
        )
        return
    strange, open_to_all = _survey(home)
    if strange:
        yield failure(
            check,
            f"{len(strange)} files in {home} belong to {_user(strange[0][1])} or others, such as "
            f"{strange[0][0]}",
            means="their events are not delivered, and status does not count them",
            advice=f"chown -R {_user(me)} {home}, and run every command as that user",
        )
    else:
        yield ok(check, f"{home} and what is in it belong to {_user(me)}")
    if open_to_all:
        yield warning(
            "home.permissions",
            f"{len(open_to_all)} files or folders are open to other users, such as "
            f"{open_to_all[0]}",
            means="they can read who your customers are and what these used",
            advice=f"chmod -R go= {home}",
        )
    else:
        yield ok("home.permissions", "nobody else may look into it")


def _survey(home: Path) -> tuple[list[tuple[Path, int]], list[Path]]:
    """What belongs to others (and to whom), and what others may read."""
    me = os.geteuid()
    strange: list[tuple[Path, int]] = []
    open_to_all: list[Path] = []
    behind_a_door = not home.stat().st_mode & 0o077
    inside = (Path(at, name) for at, *names in os.walk(home) for name in chain(*names))
    for path in chain([home], inside):
        with suppress(FileNotFoundError):  # a segment that was just delivered
            status = path.lstat()
            if status.st_uid != me:
                strange.append((path, status.st_uid))
            if status.st_mode & 0o077 and not behind_a_door and not stat.S_ISLNK(status.st_mode):
                open_to_all.append(path)
    return strange, open_to_all


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _check_space(free: os.statvfs_result) -> Iterator[Finding]:
    space = free.f_bavail * free.f_frsize
    shown = f"{space / (1 << 30):.1f} GiB are free"
    advice = "make room, or set LLM_METERING_HOME to a larger disk"
    if space < NO_SPACE:
        yield failure(
            "home.space",
            f"{space >> 20} MiB are free",
            means="events are about to be kept in memory alone, and dropped once that is full",
            advice=advice,
        )
    elif space < LOW_SPACE:
        yield warning(
            "home.space",
            shown,
            means="an outage of a sink may fill the disk; then events are kept in memory, and "
            "dropped once that is full",
            advice=advice,
        )
    else:
        yield ok("home.space", shown)
    # File systems that make inodes as they need them say 0 of 0.
    if free.f_files and free.f_favail < LOW_INODES:
        yield warning(
            "home.inodes",
            f"{free.f_favail} more files can be made",
            means="without a new segment, events are kept in memory, and dropped once that is full",
            advice=advice,
        )


def _check_probe(
    home: Path, folder: Path, sync: Callable[[int], None], clock: Callable[[], float]
) -> Iterator[Finding]:
    path = folder / f".llm-metering-doctor.{os.getpid()}.{threading.get_ident()}.tmp"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, system.PRIVATE_FILE)
    except OSError as error:
        yield _unwritable(home, folder, error)
        return
    try:
        try:
            durations = [_time_sync(descriptor, sync, clock) for _ in range(_SYNCS)]
        except OSError as error:
            yield _unwritable(home, folder, error)
            return
        yield ok("home.writable", f"{folder} can be written to")
        yield _judge_locks(path)
        yield _judge_sync(statistics.median(durations))
    finally:
        os.close(descriptor)
        with suppress(OSError):
            path.unlink()


def _unwritable(home: Path, folder: Path, error: OSError) -> Finding:
    advice = "set LLM_METERING_HOME to a folder that the application's user may write to"
    if os.environ.get("AWS_LAMBDA_FUNCTION_NAME"):
        advice = "set LLM_METERING_HOME=/tmp/llm-metering: in AWS Lambda only /tmp can be written"
    elif error.errno == errno.EROFS:
        advice = "mount a volume (or an emptyDir) and set LLM_METERING_HOME to it"
    return failure(
        "home.writable",
        f"{folder} cannot be written to: {error.strerror}",
        means=f"no event can be kept in {home}: applications refuse to start metering, or keep "
        "events in memory, and drop them once that is full",
        advice=advice,
    )


def _time_sync(descriptor: int, sync: Callable[[int], None], clock: Callable[[], float]) -> float:
    # Each time something new: a file without changes is synced at once.
    written = os.write(descriptor, _PROBE)
    if written < len(_PROBE):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    begin = clock()
    sync(descriptor)
    return clock() - begin


def _judge_locks(path: Path) -> Finding:
    first = system.lock_file(path)
    second = system.lock_file(path) if first is not None else None
    for lock in (first, second):
        if lock is not None:
            system.unlock_file(lock)
    if first is not None and second is None:
        return ok("home.locks", "file locks (flock) work there")
    return failure(
        "home.locks",
        "there are no file locks (flock)" if first is None else "file locks do not exclude",
        means="applications refuse to start metering, or two processes send the same events",
        advice="set LLM_METERING_HOME to a folder on a local disk",
    )


def _judge_sync(seconds: float) -> Finding:
    found = f"a sync (fdatasync) takes {seconds * 1000:.1f} ms"
    if seconds < SLOW_SYNC:
        return ok("home.sync", found)
    return warning(
        "home.sync",
        found,
        means="a loss of power takes more than usual, and the ledger takes few batches a second",
        advice="set LLM_METERING_HOME to a faster disk, and look at what else keeps it busy",
    )
