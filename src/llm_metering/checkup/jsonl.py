"""Whether a file of JSON lines can be appended to and rotated, who may read it, and how long it lasts."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from .. import system
from ..mounts import MOUNTS, Mount, mount_of, parse_mounts
from ..sinks.jsonl import JSONLinesSink
from .finding import Finding, failure, ok, warning
from .home import LOW_SPACE, NO_SPACE, nearest
from .mounts import kind_of

__all__ = ["check_jsonl"]

_PAUSED = "the sink pauses; events wait on disk, in the home"


def check_jsonl(
    sink: JSONLinesSink,
    *,
    space: Callable[[Path], os.statvfs_result] = os.statvfs,
    mounts: Path = MOUNTS,
) -> Iterator[Finding]:
    """Look at a file; one that is not there is judged by the folder it would be made in.

    Args:
        sink: The sink. Nothing is left beside its file but what was there.
        space: Says how much is free.
        mounts: Where it is written what is mounted.
    """
    path = Path(os.path.realpath(sink.path))
    try:
        folder = nearest(path.parent)
        _try_to_write(path, folder)
        status = path.stat() if path.exists() else None
    except OSError as error:
        yield _unwritable(sink, f"{error.filename or path}: {error.strerror}")
        return
    if status is not None and not stat.S_ISREG(status.st_mode):
        yield _unwritable(sink, f"{path} is no file to append to")
        return
    where = f"{path} can be" if status else f"{path} is not there yet; {folder} can be"
    yield ok("sink.writable", f"{where} written to", sink=sink.name)
    if status is not None:
        yield _judge_mode(sink, path, status)
    with suppress(OSError):  # not on this system
        known = parse_mounts(mounts.read_text("utf-8", "surrogateescape"))
        yield _judge_place(sink, folder, known)
    yield _judge_space(sink, space(folder))
    yield ok(
        "sink.deduplication",
        "an event that comes twice is there twice; its readers count it once, by source and id",
        sink=sink.name,
    )


def _try_to_write(path: Path, folder: Path) -> None:
    if path.exists() and not path.is_fifo():
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    # To be rotated, and made, the file needs a folder that takes new names.
    probe = folder / f".llm-metering-doctor.{os.getpid()}.{threading.get_ident()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    os.close(os.open(probe, flags, system.PRIVATE_FILE))
    probe.unlink()


def _unwritable(sink: JSONLinesSink, found: str) -> Finding:
    return failure(
        "sink.writable",
        found,
        means=_PAUSED,
        advice="name a file in LLM_METERING_SINKS whose folder the application's user may write to",
        sink=sink.name,
    )


def _judge_mode(sink: JSONLinesSink, path: Path, status: os.stat_result) -> Finding:
    check, mode = "sink.permissions", status.st_mode
    behind_a_door = not path.parent.stat().st_mode & stat.S_IXOTH
    if mode & 0o007 and not behind_a_door:
        return warning(
            check,
            f"{path} is open to every user of this machine",
            means="they can read who your customers are and what these used",
            advice=f"chmod o= {path}, and give a reader the group",
            sink=sink.name,
        )
    readers = "its owner and group" if mode & 0o070 else "its owner alone"
    return ok(check, f"{path} is for {readers}", sink=sink.name)


def _judge_place(sink: JSONLinesSink, folder: Path, known: list[Mount]) -> Finding:
    check = "sink.file_system"
    mount = mount_of(folder, known)
    if mount is None:
        return ok(check, "this system does not say which file system it is on", sink=sink.name)
    where = f"it is on {mount.kind} (mounted at {mount.point})"
    match kind_of(mount):
        case "disk":
            return ok(check, where, sink=sink.name)
        case "memory" | "container":
            return warning(
                check,
                where,
                means="it is gone when the container or the machine ends, and events that it took "
                "are not sent again",
                advice="name a file on a volume that stays",
                sink=sink.name,
            )
        case "network":
            return warning(
                check,
                f"{where}, which another machine or program serves",
                means="locks may not hold between machines, and lines of two writers may mix",
                advice="give each machine a file of its own",
                sink=sink.name,
            )


def _judge_space(sink: JSONLinesSink, free: os.statvfs_result) -> Finding:
    check, room = "sink.space", free.f_bavail * free.f_frsize
    advice = "make room, move what was rotated elsewhere, or say `keep=` in the sink's URL"
    if room < NO_SPACE:
        return failure(
            check, f"{room >> 20} MiB are free", means=_PAUSED, advice=advice, sink=sink.name
        )
    shown = f"{room / (1 << 30):.1f} GiB are free"
    if room < LOW_SPACE:
        return warning(
            check,
            shown,
            means="when it is full, events wait on disk, in the home",
            advice=advice,
            sink=sink.name,
        )
    return ok(check, shown, sink=sink.name)
